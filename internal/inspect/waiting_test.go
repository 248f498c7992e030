package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// A segment that waits as table_full costs no rate, however often it is repeated.
func TestWaitingSegmentCostsNoRate(t *testing.T) {
	write := mbap(2, 1, 6, 0, 10, 0, 1)
	for name, onDeny := range map[string]policy.OnDeny{"reset": policy.DenyReset, "exception": policy.DenyException} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, rulesPlan(t, onDeny, `{functions: [6], rate: 1/s}`, `{functions: [read]}`))
			w.pipeline = New(Config{Flows: w.flows, Limits: Limits{Requests: 2}})
			w.handshake()
			w.client(readRequest(1))
			two := join(write, readRequest(3))
			for range 3 {
				w.send(stream.FromInitiator, segment{payload: two, keep: true})
				w.mustDeny("no room", verdict.ReasonTableFull)
			}
			w.device(readReply(1))
			w.client(two)
			w.mustAllow("repeated, with room")
			if m := w.last.Messages; len(m) != 2 || !m[0].Verdict.Allows() {
				t.Errorf("%+v", m)
			}
		})
	}
}

// What is denied does not wait for room first, or its sender would not hear of it.
func TestDeniedRequestDoesNotWaitForRoom(t *testing.T) {
	for name, payload := range map[string][]byte{
		"first":              join(writeRequest(2), readRequest(3), readRequest(4)),
		"behind one of room": join(readRequest(2), writeRequest(3), readRequest(4)),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, readPlan(t, policy.DenyReset))
			w.pipeline = New(Config{Flows: w.flows, Limits: Limits{Requests: 2}})
			w.handshake()
			w.client(readRequest(1))
			w.client(payload)
			w.mustDeny("a write", verdict.ReasonFunctionNotPermitted)
		})
	}
}
