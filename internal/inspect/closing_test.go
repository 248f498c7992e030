package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// TestWhatAPacketCloses: a FIN and an RST close what their receiver believes that they do, and nothing else does.
func TestWhatAPacketCloses(t *testing.T) {
	const from, to = stream.FromInitiator, stream.FromResponder
	fin, reset, ack := segment{flags: frame.FlagFIN | frame.FlagACK}, segment{flags: frame.FlagRST}, segment{flags: frame.FlagACK}
	elsewhere := func(s segment, at int32) segment {
		s.seqAt, s.keep = at, true
		return s
	}
	for _, tt := range []struct {
		name string
		d    stream.Direction
		s    segment
		then []Closing // of it, an acknowledgment of the other end, and one of its own
	}{
		{"a FIN", from, fin, []Closing{ClosesSending, ClosesNothing, ClosesSending}},
		{"the device's", to, fin, []Closing{ClosesSending, ClosesNothing, ClosesSending}},
		{"an RST", from, reset, []Closing{ClosesAll}},
		{"the device's", to, reset, []Closing{ClosesAll}},
		{"an RST behind what is due", from, elsewhere(reset, -70_000), []Closing{ClosesNothing, ClosesNothing, ClosesNothing}},
		{"an RST in the window", to, elsewhere(reset, 10), []Closing{ClosesNothing, ClosesNothing, ClosesNothing}},
		{"a FIN behind what is due", from, elsewhere(fin, -70_000), []Closing{ClosesNothing, ClosesNothing, ClosesNothing}},
		{"a FIN in the window", to, elsewhere(fin, 10), []Closing{ClosesNothing, ClosesNothing, ClosesNothing}},
		{"an acknowledgment", from, ack, []Closing{ClosesNothing, ClosesNothing, ClosesNothing}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := connected(t, readPlan(t, policy.DenyReset))
			w.client(readRequest(1))
			w.device(readReply(1))
			if j := w.send(tt.d, tt.s); j.Closes != tt.then[0] || j.Closes != ClosesNothing && !j.Verdict.Allows() {
				t.Errorf("it closes %d, want %d (%v)", j.Closes, tt.then[0], j.Verdict)
			}
			for i, d := range []stream.Direction{tt.d.Other(), tt.d}[:len(tt.then)-1] {
				if j := w.send(d, ack); !j.Verdict.Allows() || j.Closes != tt.then[i+1] {
					t.Errorf("acknowledgment %d: %v, closes %d, want %d", i, j.Verdict, j.Closes, tt.then[i+1])
				}
			}
		})
	}
}

// TestAResetOfWhatIsNotKnownCloses: whether a connection that is older than inspection has a number is not known, and
// what depends on it must not go on without it.
func TestAResetOfWhatIsNotKnownCloses(t *testing.T) {
	for _, d := range []stream.Direction{stream.FromInitiator, stream.FromResponder} {
		w := joining(t, readPlan(t, policy.DenyReset))
		if j := w.send(d, segment{flags: frame.FlagRST}); !j.Verdict.Allows() || j.Closes != ClosesAll {
			t.Errorf("from %v: %v, closes %d, want all", d, j.Verdict, j.Closes)
		}
	}
	w := joining(t, readPlan(t, policy.DenyReset))
	if j := w.send(stream.FromResponder, segment{flags: frame.FlagFIN | frame.FlagACK}); !j.Verdict.Allows() || j.Closes != ClosesSending {
		t.Errorf("a FIN: %v, closes %d, want the sending", j.Verdict, j.Closes)
	}
}
