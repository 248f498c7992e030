package policy

import (
	"sync"
	"time"
)

// Rates holds what rules with a rate have left: one bucket of tokens for each conduit and rule. It
// is the state of running pipelines, not of the policy: those that judge side by side share one
// for each plan, and give the time. It is safe for concurrent use; only evaluations on one conduit
// whose rules have rates wait for each other.
type Rates struct {
	conduits []*conduitRates // nil where no rule has a rate
}

// conduitRates are one conduit's, by rule. An evaluation holds the lock from when it looks at the
// buckets until it has paid.
type conduitRates struct {
	mu      sync.Mutex
	buckets []bucket
}

// NewRates returns full buckets for the plan's rules.
func (p *Plan) NewRates() *Rates {
	r := &Rates{conduits: make([]*conduitRates, len(p.Conduits))}
	for id := range p.Conduits {
		rules := p.Conduits[id].Modbus
		for i := range rules {
			if !rules[i].Rate.Limited() {
				continue
			}
			if r.conduits[id] == nil {
				r.conduits[id] = &conduitRates{buckets: make([]bucket, len(rules))}
			}
			r.conduits[id].buckets[i] = newBucket(rules[i].Rate)
		}
	}
	return r
}

func (r *Rates) of(conduit uint32) *conduitRates {
	if r == nil || int(conduit) >= len(r.conduits) {
		return nil
	}
	return r.conduits[conduit]
}

// lock returns the buckets, until unlock. Both do nothing where there are none.
func (c *conduitRates) lock() []bucket {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	return c.buckets
}

func (c *conduitRates) unlock() {
	if c != nil {
		c.mu.Unlock()
	}
}

// bucket fills at perSecond and holds one second's worth, at least one token.
type bucket struct {
	tokens, size, perSecond float64
	filled                  time.Time // zero before its first use
}

func newBucket(rate Rate) bucket {
	perSecond := float64(rate.Count) / rate.Per.Seconds()
	size := max(perSecond, 1)
	return bucket{tokens: size, size: size, perSecond: perSecond}
}

// fill adds what has come in since the last time. A clock that runs backwards adds nothing, and
// does not give the time between twice.
func (b *bucket) fill(now time.Time) {
	if b.filled.IsZero() {
		b.filled = now
		return
	}
	if passed := now.Sub(b.filled); passed > 0 {
		b.tokens = min(b.size, b.tokens+passed.Seconds()*b.perSecond)
		b.filled = now
	}
}

// tolerance makes up for what adding fractions loses.
const tolerance = 1e-9

// markEmpty fills the buckets and notes the rules that have no token.
func (e *evaluation) markEmpty() {
	for i := range e.rules {
		if !e.rules[i].Rate.Limited() {
			continue
		}
		if i >= len(e.buckets) { // of another plan, or none: a limit is never lost
			e.empty.Add(uint8(i))
			continue
		}
		b := &e.buckets[i]
		b.fill(e.now)
		if b.tokens < 1-tolerance {
			e.empty.Add(uint8(i))
		}
	}
}

// pay takes a token from each rule that the verdict stands on.
func (e *evaluation) pay() {
	for i := range e.buckets {
		if e.rules[i].Rate.Limited() && e.used.Has(uint8(i)) {
			e.buckets[i].tokens--
		}
	}
}
