package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// racing is a flow source whose policy changes right after it has answered.
type racing struct {
	*flows
	race func()
}

func (r *racing) Flow(key uint64) (Flow, bool) {
	flow, ok := r.flows.Flow(key)
	if r.race != nil {
		r.race()
		r.race = nil
	}
	return flow, ok
}

func TestPolicyChangeBetweenLookupAndFiling(t *testing.T) {
	for name, sweeps := range map[string]bool{"then a sweep": true, "then a packet": false} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, permitAll(t))
			source := &racing{flows: w.flows}
			w.pipeline = New(Config{Flows: source})
			source.race = func() {
				flow := w.flows.table[testKey]
				flow.Plan = readPlan(t, policy.DenyReset)
				w.flows.table[testKey] = flow
				w.flows.generation++
			}
			w.handshake()
			if sweeps {
				w.pipeline.Sweep(w.now, nil)
			}
			w.client(writeRequest(1))
			w.mustDeny("a write that the policy in force denies", verdict.ReasonFunctionNotPermitted)
		})
	}
}
