package inspect

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// Common is what pipelines have in common that judge side by side, one for each queue: the limits
// hold for all of them together, and so do the rates of rules. It is safe for concurrent use. A
// pipeline takes its lock when a connection begins or ends; for a packet it costs a few atomic
// additions. Pipelines that count at the same moment may exceed a limit by what each adds then.
type Common struct {
	limits   Limits
	memory   *stream.Budget
	requests atomic.Int64 // unanswered; of DNP3, pairs of stations
	// assemblies are DNP3 messages of which a part has come.
	assemblies atomic.Int64

	io    *ioTable // of EtherNet/IP
	named *identifiers

	mu          sync.Mutex
	connections int
	shares      map[string]*share // of the connections, by identity
	rates       [2]planRates      // of the plan in force and the one before, latest first
}

type planRates struct {
	plan  *policy.Plan
	rates *policy.Rates
}

// NewCommon returns what pipelines share under the limits. Zero limits mean their defaults.
func NewCommon(l Limits) *Common {
	l.setDefaults()
	return &Common{limits: l, memory: stream.NewBudget(l.StreamBytes, nil), shares: map[string]*share{}, io: newIOTable(), named: newIdentifiers()}
}

// ForObserver returns what a pipeline has that only observes, beside those that c is for: limits and rates of
// its own, for what is observed must take nothing from what is enforced, and the I/O connections in common. A
// conduit that was observed may be enforced, or the reverse, while they are open: who closes one then is
// not who has seen it open, and numbers of two tables would name one and the other.
func (c *Common) ForObserver() *Common {
	o := NewCommon(c.limits)
	o.io, o.named = c.io, c.named
	return o
}

// share is what one identity's connections take of the limits that all have in common. It may take
// a quarter, or one client that opens connections and never ends them, or has them hold bytes that
// nobody acknowledges, would shut out the others.
type share struct {
	owner       string
	connections int // under the lock of Common
	requests    atomic.Int64
	assemblies  atomic.Int64
	memory      *stream.Budget
}

// shareOf returns how much of a common limit one identity may have.
func shareOf(limit int) int { return max(1, limit/4) }

// ownerOf names the identity that begins a flow's connections: by its name, which stays the same
// when another plan numbers identities differently.
func ownerOf(f Flow) string {
	if int(f.Source) < len(f.Plan.Identities) {
		return f.Plan.Identities[f.Source].Name
	}
	return strconv.FormatUint(uint64(f.Source), 10)
}

// join counts a connection to the flow's initiator, leave takes it back. A connection stays with
// the share that it joined. It is nil where no other connection of the initiator may be followed.
func (c *Common) join(f Flow) *share {
	owner := ownerOf(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shares[owner]
	if c.connections >= c.limits.Connections || s != nil && s.connections >= shareOf(c.limits.Connections) {
		return nil
	}
	if s == nil {
		s = &share{owner: owner, memory: stream.NewBudget(shareOf(c.limits.StreamBytes), c.memory)}
		c.shares[owner] = s
	}
	s.connections++
	c.connections++
	return s
}

func (c *Common) leave(s *share) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connections--
	if s.connections--; s.connections == 0 {
		delete(c.shares, s.owner)
	}
}

// ratesOf returns what the plan's rules have left. A new plan begins with full measures; the one
// before goes on with its own, for pipelines that have not come to the new one yet.
func (c *Common) ratesOf(plan *policy.Plan) *policy.Rates {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rates {
		if r.plan == plan {
			return r.rates
		}
	}
	c.rates = [2]planRates{{plan, plan.NewRates()}, c.rates[0]}
	return c.rates[0].rates
}
