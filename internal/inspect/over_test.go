package inspect

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

const finAck = uint8(frame.FlagFIN | frame.FlagACK)

// A connection that was over before the policy changed is not one that the policy ended.
func TestPlanChangeDoesNotTellOfWhatIsOver(t *testing.T) {
	for name, end := range map[string]func(w *wire){
		"closed": func(w *wire) {
			w.send(stream.FromInitiator, segment{flags: finAck})
			w.send(stream.FromResponder, segment{flags: finAck})
			w.send(stream.FromInitiator, segment{flags: frame.FlagACK})
		},
		"reset":  func(w *wire) { w.send(stream.FromInitiator, segment{flags: frame.FlagRST | frame.FlagACK}) },
		"denied": func(w *wire) { w.client(mbap(1, 1, 3, 0, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := connected(t, permitAll(t))
			end(w)
			delete(w.flows.table, testKey) // the fast path forgets it after 10 s
			w.flows.generation++
			w.pipeline.Sweep(w.now.Add(12*time.Second), func(e *Ended) {
				t.Errorf("told as ended by the policy, with %d resets", len(e.Resets))
			})
			if n := w.pipeline.counters.Connections.Load(); n != 0 {
				t.Errorf("%d connections are held", n)
			}
		})
	}
}

// The fast path gave the flow another key, because frames passed in an outage. The old key names
// nothing, and its connection lives on under the new one.
func TestPlanChangeDoesNotResetWhatGoesOnUnderAnotherKey(t *testing.T) {
	w := connected(t, readPlan(t, policy.DenyReset))
	w.client(readRequest(1))
	w.device(readReply(1))
	flow := w.flows.table[testKey]
	flow.Adopted = true
	delete(w.flows.table, testKey)
	w.key++
	w.flows.table[w.key] = flow
	w.client(readRequest(2))
	w.mustAllow("after the outage")
	w.device(readReply(2))
	w.flows.generation++
	w.pipeline.Sweep(w.now.Add(time.Second), func(e *Ended) {
		t.Errorf("a permitted connection is reset with %d resets", len(e.Resets))
	})
	w.client(readRequest(3))
	w.mustAllow("after the change")
	delete(w.flows.table, w.key)
	w.flows.generation++
	told := 0
	w.pipeline.Sweep(w.now.Add(2*time.Second), func(*Ended) { told++ })
	if told != 1 || len(w.pipeline.latest) != 0 {
		t.Errorf("told %d times of the one that is forbidden", told)
	}
}
