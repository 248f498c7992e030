package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// A key names a slot of the fast path, whose generation comes round: the same key may name another
// conversation than the one that is known by it.
func TestKeyOfAnotherConversation(t *testing.T) {
	fromOtherPort := func(ip []byte) {
		ip[20+1] ^= 0x55
		if err := frame.FixTCPChecksum(ip); err != nil {
			t.Fatal(err)
		}
	}
	toOtherPort := func(ip []byte) {
		ip[20+3] ^= 0x55
		if err := frame.FixTCPChecksum(ip); err != nil {
			t.Fatal(err)
		}
	}
	for name, edit := range map[string]func([]byte){"source": fromOtherPort, "destination": toOtherPort} {
		t.Run(name, func(t *testing.T) {
			w := connected(t, readPlan(t, policy.DenyReset))
			w.client(readRequest(1))
			w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, keep: true, edit: edit})
			w.mustAllow("the first SYN of another conversation")
			if n := len(w.pipeline.connections); n != 1 || w.last.Ended {
				t.Errorf("%d connections", n)
			}
			if n := len(w.pipeline.latest); n != 1 {
				t.Errorf("%d pairs of ends", n)
			}
		})
	}
	t.Run("in mid-stream", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(headOfWrite)
		w.send(stream.FromInitiator, segment{payload: tailOfWrite, edit: fromOtherPort})
		w.mustDeny("no beginning", verdict.ReasonTCPState)
	})
	t.Run("a packet that its receiver would throw away", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.send(stream.FromInitiator, segment{payload: readRequest(1), keep: true, edit: func(ip []byte) { ip[20+1] ^= 0x55 }})
		w.mustDeny("damaged", verdict.ReasonBadChecksum)
		w.client(readRequest(1))
		w.mustAllow("the connection lives on")
	})
}
