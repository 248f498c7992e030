package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// A write that is stopped with its segment is not told as permitted, and not counted as such.
func TestStoppedMessagesAreNotToldAsPermitted(t *testing.T) {
	good, bad := mbap(1, 1, 6, 0, 10, 0, 1), mbap(2, 1, 6, 0, 11, 0, 1)
	for name, row := range map[string]struct {
		payload []byte
		reason  verdict.Reason
		denied  uint64
	}{
		"denied last":  {join(good, bad), verdict.ReasonAddressNotPermitted, 2},
		"two before":   {join(good, good, bad), verdict.ReasonAddressNotPermitted, 3},
		"denied first": {join(bad, good), verdict.ReasonAddressNotPermitted, 1},
		"malformed":    {join(good, []byte{0, 1, 2, 3}), verdict.ReasonMalformed, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := connected(t, rulesPlan(t, policy.DenyReset, `{functions: [6], addresses: [10]}`))
			j := w.client(row.payload)
			w.mustDeny(name, row.reason)
			if n := len(w.got(stream.FromResponder)); n != 0 {
				t.Fatalf("the device has %d bytes", n)
			}
			for _, m := range j.Messages {
				if m.Verdict != verdict.Denied(row.reason) {
					t.Errorf("%s is told as %v", m.Detail(), m.Verdict)
				}
			}
			counters := w.pipeline.counters.Conduit("test")
			if a, d := counters.Allowed.Load(), counters.Denied.Load(); a != 0 || d != row.denied {
				t.Errorf("%d counted as allowed, %d as denied", a, d)
			}
			if n := w.pipeline.counters.Reasons[row.reason].Load(); n != row.denied {
				t.Errorf("%d counted as %v", n, row.reason)
			}
		})
	}
	t.Run("observed, all left", func(t *testing.T) {
		w := newWire(t, rulesPlan(t, policy.DenyReset, `{functions: [6], addresses: [10]}`))
		w.observed = true
		w.handshake()
		if j := w.client(join(good, bad)); !j.Messages[0].Verdict.Allows() || j.Messages[1].Verdict.Allows() {
			t.Errorf("%+v", j.Messages)
		}
	})
	t.Run("waiting, and repeated", func(t *testing.T) {
		w := newWire(t, readPlan(t, policy.DenyReset))
		w.pipeline = New(Config{Flows: w.flows, Limits: Limits{Requests: 2}})
		w.handshake()
		w.client(readRequest(1))
		two := join(readRequest(2), readRequest(3))
		counters := w.pipeline.counters.Conduit("test")
		for range 3 {
			j := w.send(stream.FromInitiator, segment{payload: two, keep: true})
			w.mustDeny("no room", verdict.ReasonTableFull)
			if len(j.Messages) != 1 || j.Unrecorded != 0 || j.Messages[0].Verdict.Allows() {
				t.Errorf("told: %+v", j.Messages)
			}
		}
		if n := counters.Allowed.Load(); n != 1 {
			t.Errorf("%d counted as allowed", n)
		}
		w.device(readReply(1))
		w.client(two)
		w.mustAllow("repeated, with room")
		if n := counters.Allowed.Load(); n != 4 || len(w.last.Messages) != 2 {
			t.Errorf("%d counted as allowed", n)
		}
	})
}
