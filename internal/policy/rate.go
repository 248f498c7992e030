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
		c := &p.Conduits[id]
		for i := range c.Modbus {
			r.add(id, i, len(c.Modbus), c.Modbus[i].Rate)
		}
		for i := range c.DNP3 {
			r.add(id, i, len(c.DNP3), c.DNP3[i].Rate)
		}
		for i := range c.ENIP {
			r.add(id, i, len(c.ENIP), c.ENIP[i].Rate)
		}
	}
	return r
}

// add makes the bucket of one of a conduit's rules.
func (r *Rates) add(conduit, rule, rules int, rate Rate) {
	if !rate.Limited() {
		return
	}
	if r.conduits[conduit] == nil {
		r.conduits[conduit] = &conduitRates{buckets: make([]bucket, rules)}
	}
	r.conduits[conduit].buckets[rule] = newBucket(rate)
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

// tokens is what one evaluation knows of its rules' rates.
type tokens struct {
	empty, used Set256 // rules without a token, and rules that the verdict stands on
	buckets     []bucket
	now         time.Time
}

// mark fills a rule's bucket and notes if it has no token.
func (t *tokens) mark(i int, rate Rate) {
	if !rate.Limited() {
		return
	}
	if i >= len(t.buckets) { // of another plan, or none: a limit is never lost
		t.empty.Add(uint8(i))
		return
	}
	b := &t.buckets[i]
	b.fill(t.now)
	if b.tokens < 1-tolerance {
		t.empty.Add(uint8(i))
	}
}

// pay takes a token from the rule if the verdict stands on it.
func (t *tokens) pay(i int, rate Rate) {
	if rate.Limited() && i < len(t.buckets) && t.used.Has(uint8(i)) {
		t.buckets[i].tokens--
	}
}

// costs tells whether using the rule takes a token that is not spent yet.
func (t *tokens) costs(i int, rate Rate) bool { return rate.Limited() && !t.used.Has(uint8(i)) }
