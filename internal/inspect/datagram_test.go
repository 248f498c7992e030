package inspect

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// words is a protocol for tests: a message is a byte with its length and that many letters. One that
// begins with D is denied, with W denied for now, with X refused in the protocol's terms by zeros.
type words struct {
	opened    []opening
	committed []string // what the session has kept
	kept      []string
	joins     int
}

func (w *words) open(o opening) session { w.opened = append(w.opened, o); return w }
func (w *words) begin()                 {}

func (w *words) read(r *reading, d stream.Direction, b []byte) step {
	n := 1 + int(b[0])
	if n > len(b) {
		return step{verdict: verdict.Permitted}
	}
	word, v := string(b[1:n]), verdict.Permitted
	s := step{size: n, verdict: v}
	switch word[0] {
	case 'D':
		s.verdict = verdict.Denied(verdict.ReasonObjectNotPermitted)
	case 'W':
		s.verdict = verdict.Denied(verdict.ReasonTableFull)
	case 'X':
		s.edited = make([]byte, n)
	}
	r.record(Message{Direction: d, Verdict: s.verdict})
	w.kept = append(w.kept, word)
	return s
}

func (w *words) misaligned(stream.Direction, []byte) string { return "" }
func (w *words) joined(time.Time)                           { w.joins++ }
func (w *words) commit()                                    { w.committed = append(w.committed, w.kept...); w.kept = nil }
func (w *words) rollback()                                  { w.kept = nil }
func (w *words) flushing() bool                             { return false }
func (w *words) fenced() bool                               { return false }
func (w *words) sweep(time.Time) verdict.Reason             { return verdict.ReasonObjectNotPermitted }
func (w *words) close()                                     {}

// datagrams is a pipeline that speaks words over UDP.
func datagrams(t *testing.T) (*wire, *words) {
	t.Helper()
	w := newWire(t, permitAll(t))
	spoken := &words{}
	w.pipeline.dissectors[policy.ProtocolModbus] = spoken
	return w, spoken
}

// datagram judges one.
func (w *wire) datagram(d stream.Direction, payload string) Judgement {
	w.t.Helper()
	from, to, side := clientEnd, deviceEnd, policy.SideB
	if d == stream.FromResponder {
		from, to, side = to, from, policy.SideA
	}
	ip, err := frame.AppendUDP(nil, from, to, []byte(payload))
	if err != nil {
		w.t.Fatal(err)
	}
	w.last = w.pipeline.Judge(&Packet{Time: w.now, Key: w.key, From: side, IP: ip, Observed: w.observed})
	return w.last
}

func TestDatagramIsWholeMessagesOrStays(t *testing.T) {
	for _, row := range []struct {
		name, payload string
		want          verdict.Reason
		kept          int
	}{
		{"one message", "\x02ab", verdict.ReasonPermitted, 1},
		{"three messages", "\x01a\x01b\x01c", verdict.ReasonPermitted, 3},
		{"denied", "\x01D", verdict.ReasonObjectNotPermitted, 0},
		{"denied last", "\x01a\x01b\x01D", verdict.ReasonObjectNotPermitted, 0},
		{"denied in the middle", "\x01a\x01D\x01b", verdict.ReasonObjectNotPermitted, 0},
		{"no room", "\x01a\x01W", verdict.ReasonTableFull, 0},
		{"cut short", "\x01a\x05ab", verdict.ReasonMalformed, 0},
		{"empty", "", verdict.ReasonMalformed, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, spoken := datagrams(t)
			j := w.datagram(stream.FromInitiator, row.payload)
			if j.Verdict.Reason != row.want || j.Verdict.Allows() != (row.want == verdict.ReasonPermitted) {
				t.Fatalf("%v, want %v", j.Verdict, row.want)
			}
			if len(spoken.committed) != row.kept || len(spoken.kept) != 0 {
				t.Errorf("kept %q, want %d messages", spoken.committed, row.kept)
			}
			if len(j.Resets) != 0 || j.Ended || j.Payload != nil {
				t.Errorf("a datagram was answered: %+v", j)
			}
			for _, m := range j.Messages {
				if m.Verdict.Allows() != j.Verdict.Allows() {
					t.Errorf("a message is told as %v of a datagram that is %v", m.Verdict, j.Verdict)
				}
			}
			if j := w.datagram(stream.FromInitiator, "\x01z"); !j.Verdict.Allows() {
				t.Errorf("the next datagram: %v", j.Verdict)
			}
		})
	}
}

func TestDatagramRefusedInPlace(t *testing.T) {
	w, _ := datagrams(t)
	j := w.datagram(stream.FromInitiator, "\x02ab\x02XY\x01c")
	w.mustAllow("datagram with a refused message")
	var f frame.Frame
	var decoder frame.Decoder
	if err := decoder.IP(j.Payload, &f); err != nil || !f.ChecksumOK {
		t.Fatalf("checksum right: %v, %v", f.ChecksumOK, err)
	}
	if want := []byte("\x02ab\x00\x00\x00\x01c"); !bytes.Equal(f.Payload, want) {
		t.Errorf("left as %q, want %q", f.Payload, want)
	}
}

func TestDatagramsAreObserved(t *testing.T) {
	w, spoken := datagrams(t)
	w.observed = true
	j := w.datagram(stream.FromInitiator, "\x01a\x01D\x01b")
	w.mustDeny("observed", verdict.ReasonObjectNotPermitted)
	if len(j.Messages) != 3 || len(spoken.committed) != 3 {
		t.Errorf("%d messages, %d kept: an observed datagram came by whole", len(j.Messages), len(spoken.committed))
	}
}

func TestDatagramsAreForgottenAndFollowedAnew(t *testing.T) {
	w, spoken := datagrams(t)
	w.datagram(stream.FromInitiator, "\x01a")
	w.datagram(stream.FromResponder, "\x01b")
	if len(spoken.opened) != 1 || spoken.opened[0].ends != [2]netip.AddrPort{clientEnd, deviceEnd} {
		t.Fatalf("opened %+v", spoken.opened)
	}
	w.pipeline.Sweep(w.now, func(e *Ended) { t.Errorf("ended: %+v", e) })
	w.now = w.now.Add(4 * time.Minute)
	w.pipeline.Sweep(w.now, nil)
	if n := w.pipeline.Counters().Connections.Load(); n != 0 {
		t.Errorf("%d followed after four silent minutes", n)
	}
	w.datagram(stream.FromResponder, "\x01c")
	w.mustAllow("after it was forgotten")
	if len(spoken.opened) != 2 || spoken.opened[1].ends != [2]netip.AddrPort{clientEnd, deviceEnd} || spoken.joins != 0 {
		t.Errorf("opened %+v, joined %d times", spoken.opened, spoken.joins)
	}
	w.pipeline.AdoptUntil(w.now.Add(time.Minute))
	w.now, w.key = w.now.Add(time.Second), 8
	w.flows.table[8] = w.flows.table[testKey]
	w.datagram(stream.FromResponder, "\x01d")
	if spoken.joins != 1 {
		t.Error("datagrams from before a start were not said to be missing")
	}
}

func TestDatagramsOfAForbiddenFlow(t *testing.T) {
	w, _ := datagrams(t)
	w.datagram(stream.FromInitiator, "\x01a")
	delete(w.flows.table, testKey)
	w.flows.generation++
	w.datagram(stream.FromInitiator, "\x01a")
	w.mustDeny("no conduit any more", verdict.ReasonNoConduit)
	if len(w.last.Resets) != 0 {
		t.Error("a datagram was reset")
	}
}

func TestDatagramHasNoPartInAConnection(t *testing.T) {
	w, spoken := datagrams(t)
	w.handshake()
	w.client([]byte("\x01a"))
	w.datagram(stream.FromInitiator, "\x01b")
	w.mustDeny("datagram under the key of a connection", verdict.ReasonNotTCP)
	w.client([]byte("\x01c"))
	w.mustAllow("the connection's next segment")
	if len(spoken.opened) != 1 || spoken.opened[0].datagrams {
		t.Errorf("opened %+v", spoken.opened)
	}
}

func TestDatagramCostsNoAllocation(t *testing.T) {
	w, spoken := datagrams(t)
	ip, err := frame.AppendUDP(nil, clientEnd, deviceEnd, []byte("\x01a\x01b"))
	if err != nil {
		t.Fatal(err)
	}
	pkt := Packet{Time: w.now, Key: w.key, From: policy.SideB, IP: ip}
	spoken.committed, spoken.kept = make([]string, 0, 4096), make([]string, 0, 4096)
	w.pipeline.dissectors[policy.ProtocolModbus] = quiet{spoken}
	w.pipeline.Judge(&pkt)
	if n := testing.AllocsPerRun(500, func() { w.pipeline.Judge(&pkt) }); n != 0 {
		t.Errorf("%v allocations a datagram", n)
	}
}

// quiet is words that keep nothing.
type quiet struct{ *words }

func (q quiet) open(o opening) session { return q }
func (q quiet) read(r *reading, d stream.Direction, b []byte) step {
	r.record(Message{Direction: d, Verdict: verdict.Permitted})
	return step{size: 1 + int(b[0]), verdict: verdict.Permitted}
}
func (q quiet) commit() {}
