package inspect

import (
	"sync"
	"sync/atomic"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Counters counts what pipelines decided. One value may be shared by several pipelines and
// read by anybody at any time; numbers only grow, across changes of policy too.
type Counters struct {
	// Reasons counts verdicts by reason: of messages, and of packets that were denied without
	// being one.
	Reasons [verdict.ReasonCount]atomic.Uint64
	// Packets counts judged packets, Unrecorded the messages that found no room in a Judgement.
	Packets, Unrecorded atomic.Uint64
	// Connections is how many connections are followed now, Ended how many a denial ended.
	Connections atomic.Int64
	Ended       atomic.Uint64
	// IORefused counts I/O connections that were permitted and opened, and for which there was no room:
	// their originators had as many open as one identity may, or all together as many as there may be.
	IORefused atomic.Uint64

	mu       sync.RWMutex
	conduits map[string]*ConduitCounters
}

// ConduitCounters counts one conduit's messages.
type ConduitCounters struct {
	Allowed, Denied atomic.Uint64 // messages; Denied also counts packets denied by themselves
	reasons         *[verdict.ReasonCount]atomic.Uint64
}

// NewCounters returns counters at zero.
func NewCounters() *Counters { return &Counters{conduits: map[string]*ConduitCounters{}} }

// Conduit returns the counters of the conduit of that name, which begin at zero.
func (c *Counters) Conduit(name string) *ConduitCounters {
	c.mu.RLock()
	found := c.conduits[name]
	c.mu.RUnlock()
	if found != nil {
		return found
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conduits[name] == nil {
		c.conduits[name] = &ConduitCounters{reasons: &c.Reasons}
	}
	return c.conduits[name]
}

// messages counts n messages with a verdict.
func (c *ConduitCounters) messages(v verdict.Verdict, n int) {
	if v.Allows() {
		c.Allowed.Add(uint64(n))
	} else {
		c.Denied.Add(uint64(n))
	}
	if int(v.Reason) < len(c.reasons) {
		c.reasons[v.Reason].Add(uint64(n))
	}
}

// conduitName returns the name under which a flow's conduit is counted, "" if it has none.
func conduitName(plan *policy.Plan, conduit uint32) string {
	if plan == nil || int(conduit) >= len(plan.Conduits) {
		return ""
	}
	return plan.Conduits[conduit].Name
}
