package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// TestStages: a connection comes to its end by FIN and RST that their receivers believe, and by nothing else.
func TestStages(t *testing.T) {
	const from, to = stream.FromInitiator, stream.FromResponder
	fin, reset, ack := segment{flags: frame.FlagFIN | frame.FlagACK}, segment{flags: frame.FlagRST}, segment{flags: frame.FlagACK}
	elsewhere := func(s segment, at int32) segment {
		s.seqAt, s.keep = at, true
		return s
	}
	type step struct {
		d    stream.Direction
		s    segment
		want Stage
	}
	const underWay, closed, over = StageUnderWay, StageClosed, StageReset
	for name, steps := range map[string][]step{
		"FIN of the initiator first": {{from, fin, underWay}, {to, ack, underWay}, {to, fin, closed}, {from, ack, closed}},
		"FIN of the responder first": {{to, fin, underWay}, {from, ack, underWay}, {from, fin, closed}, {to, ack, closed}},
		"an RST of the initiator":    {{from, reset, over}},
		"an RST of the responder":    {{to, reset, over}},
		"an RST behind what is due":  {{from, elsewhere(reset, -70_000), underWay}, {to, ack, underWay}, {from, ack, underWay}},
		"an RST in the window":       {{to, elsewhere(reset, 10), underWay}, {from, ack, underWay}, {to, ack, underWay}},
		"FIN behind what is due":     {{from, elsewhere(fin, -70_000), underWay}, {to, elsewhere(fin, -70_000), underWay}, {to, ack, underWay}},
		"FIN in the window":          {{to, elsewhere(fin, 10), underWay}, {from, elsewhere(fin, 10), underWay}, {from, ack, underWay}},
	} {
		t.Run(name, func(t *testing.T) {
			w := connected(t, readPlan(t, policy.DenyReset))
			w.client(readRequest(1))
			w.device(readReply(1))
			for i, s := range steps {
				if j := w.send(s.d, s.s); j.Stage != s.want || j.Stage != StageUnderWay && !j.Verdict.Allows() {
					t.Errorf("step %d: stage %d, want %d (%v)", i+1, j.Stage, s.want, j.Verdict)
				}
			}
		})
	}
}

// TestASYNBeginsAnew: the SYN says that what was noted of the connection before is over, and nothing after it does.
func TestASYNBeginsAnew(t *testing.T) {
	w := newWire(t, readPlan(t, policy.DenyReset))
	for _, s := range []struct {
		d     stream.Direction
		flags uint8
		want  Stage
	}{
		{stream.FromInitiator, frame.FlagSYN, StageOpening},
		{stream.FromResponder, frame.FlagSYN | frame.FlagACK, StageUnderWay},
		{stream.FromInitiator, frame.FlagACK, StageUnderWay},
	} {
		if j := w.send(s.d, segment{flags: s.flags}); !j.Verdict.Allows() || j.Stage != s.want {
			t.Errorf("flags %#x: %v, stage %d, want %d", s.flags, j.Verdict, j.Stage, s.want)
		}
	}
}

// TestAResetOfWhatWasEndedIsNoted: a connection that a denial has ended is over for whoever keeps flows when an end
// resets it, and a FIN, which goes no further, says nothing.
func TestAResetOfWhatWasEndedIsNoted(t *testing.T) {
	w := connected(t, readPlan(t, policy.DenyDrop))
	w.client(writeRequest(1))
	w.mustDeny("write", w.last.Verdict.Reason)
	if j := w.send(stream.FromInitiator, segment{flags: frame.FlagFIN | frame.FlagACK}); j.Stage != StageUnderWay {
		t.Errorf("a FIN: %v, stage %d", j.Verdict, j.Stage)
	}
	if j := w.send(stream.FromResponder, segment{flags: frame.FlagRST}); !j.Verdict.Allows() || j.Stage != StageReset {
		t.Errorf("an RST: %v, stage %d, want %d", j.Verdict, j.Stage, StageReset)
	}
}

// TestAResetOfWhatIsNotKnownIsBelieved: whether a connection that is older than inspection has a number is not known, and
// what depends on it must not go on without it.
func TestAResetOfWhatIsNotKnownIsBelieved(t *testing.T) {
	for _, d := range []stream.Direction{stream.FromInitiator, stream.FromResponder} {
		w := joining(t, readPlan(t, policy.DenyReset))
		if j := w.send(d, segment{flags: frame.FlagRST}); !j.Verdict.Allows() || j.Stage != StageReset {
			t.Errorf("from %v: %v, stage %d, want %d", d, j.Verdict, j.Stage, StageReset)
		}
	}
}
