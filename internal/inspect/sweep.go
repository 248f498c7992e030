package inspect

import (
	"time"

	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Ended is a connection that Sweep ended: the policy forbids it by now, or a device has not
// answered a refused request.
type Ended struct {
	Key    uint64
	Flow   Flow // in the first case as the older policy had it
	Reason verdict.Reason
	Detail string  // why, for people
	Resets []Reset // valid until the function that got it returns
}

// sweepSlice is how many connections one call of Sweep looks at. Each may cost two look-ups in the
// kernel, and the verdict loop's heartbeat waits for them.
const sweepSlice = 512

// Sweep forgets connections that have been silent for too long or that the fast path has let go of,
// and ends those that a new plan forbids or whose device owes a refusal; ended is told of these and
// may be nil. It looks at a slice of them, and reports whether it has come round to all. Call it
// every second or so, at once after a plan was applied, and again soon while it is not done.
func (p *Pipeline) Sweep(now time.Time, ended func(*Ended)) (done bool) {
	generation := p.flows.Generation()
	if p.cursor == 0 || p.cursor > len(p.list) || p.sweeping != generation {
		p.cursor, p.sweeping = len(p.list), generation
		p.past.sweep(now, p.flows)
	}
	for range min(sweepSlice, p.cursor) {
		p.cursor-- // the last takes the place of one that goes, and it has been looked at
		p.sweep(p.list[p.cursor], now, generation, ended)
	}
	return p.cursor == 0
}

// sweep looks at one connection.
func (p *Pipeline) sweep(c *connection, now time.Time, generation uint64, ended func(*Ended)) {
	p.resets = p.resets[:0]
	switch {
	case c.generation != generation && !p.renew(c, generation):
		tell := ended != nil && !p.over(c)
		j := p.drop(c, Judgement{})
		if tell {
			ended(&Ended{
				Key: c.key, Flow: c.flow, Reason: verdict.ReasonNoConduit, Resets: j.Resets,
				Detail: "the policy in force no longer permits this connection",
			})
		}
		return
	case now.Sub(c.seen) > p.idleLimit(c):
		p.forget(c)
		return
	case p.gone(c, now, generation):
		p.remove(c)
		return
	}
	if why := c.session.sweep(now); why != verdict.ReasonNone && !c.datagrams() {
		j := p.refuse(Judgement{Flow: c.flow}, c, verdict.Denied(why))
		if ended != nil {
			ended(&Ended{
				Key: c.key, Flow: c.flow, Reason: why, Resets: j.Resets,
				Detail: "the device has not answered a refused request",
			})
		}
	}
}

// gone reports whether the flow source has let go of the key of a connection that is silent: the
// fast path, which sees every segment that we see and some more, says that it is over.
func (p *Pipeline) gone(c *connection, now time.Time, generation uint64) bool {
	if now.Sub(c.seen) <= p.limits.Gone || now.Sub(c.asked) <= p.limits.Gone {
		return false
	}
	c.asked = now
	_, known := p.flows.Flow(c.key)
	// Where the policy has changed meanwhile, the next round says why it is not known.
	return !known && p.flows.Generation() == generation
}

// forget forgets a connection that has been silent for too long. While the flow source knows it,
// its key is remembered, or where there is no room for that, it stays.
func (p *Pipeline) forget(c *connection) {
	if !c.passedNothing() {
		_, known := p.flows.Flow(c.key)
		if known && !p.past.add(c.key, c.seen.Add(p.limits.Idle)) {
			return
		}
	}
	if !c.datagrams() && c.stream.State() == stream.Closing {
		p.loseSession(c, true) // the other end lets it linger
	}
	p.remove(c)
}

// idleLimit returns how long a connection may be silent before it is forgotten.
func (p *Pipeline) idleLimit(c *connection) time.Duration {
	if c.datagrams() {
		return p.limits.Datagrams
	}
	switch c.stream.State() {
	case stream.Unseen, stream.Opening, stream.Answered:
		return p.limits.Opening
	case stream.Closing, stream.Closed, stream.Reset:
		return p.limits.Closed
	case stream.Ended:
		return p.limits.Ended
	}
	return p.limits.Idle
}
