package stream

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/verdict"
)

var update = flag.Bool("update", false, "write the table of docs/stream.md")

// The sequence numbers of both directions wrap, one through 2^32 and one through 2^31, within
// the first bytes.
const (
	isnInitiator = 0xfffffffa
	isnResponder = 0x7ffffffa
)

// i and r are the sequence numbers of the n-th byte of the initiator's and responder's stream.
func i(n int) uint32 { return isnInitiator + 1 + uint32(n) }
func r(n int) uint32 { return isnResponder + 1 + uint32(n) }

var (
	optionsMultipath = []byte{30, 4, 0x20, 0, 1, 1, 1, 1}
	optionsMalformed = []byte{1, 1, 8, 40}
	optionsUsual     = []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
	optionsTimestamp = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1}
)

// fixture brings a connection into a state. From Established on, the initiator has sent
// "abcdefgh", which was forwarded; the responder has acknowledged the first four bytes with a
// window of 1000 and sent nothing.
func fixture(t *testing.T, state State) *Conn {
	t.Helper()
	c := New(Limits{})
	script := []struct {
		until State
		d     Direction
		s     Segment
	}{
		{Opening, FromInitiator, Segment{Seq: i(-1), Flags: SYN, Window: 1000}},
		{Answered, FromResponder, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK, Window: 1000}},
		{Established, FromInitiator, Segment{Seq: i(0), Ack: r(0), Flags: ACK, Window: 1000}},
		{Established, FromInitiator, Segment{Seq: i(0), Ack: r(0), Flags: ACK, Window: 1000, Payload: []byte("abcdefgh")}},
		{Established, FromResponder, Segment{Seq: r(0), Ack: i(4), Flags: ACK, Window: 1000}},
		{Closing, FromInitiator, Segment{Seq: i(8), Ack: r(0), Flags: FIN | ACK, Window: 1000}},
		{Closed, FromResponder, Segment{Seq: r(0), Ack: i(9), Flags: FIN | ACK, Window: 1000}},
		{Closed, FromInitiator, Segment{Seq: i(9), Ack: r(1), Flags: ACK, Window: 1000}},
	}
	through := state
	if state == Reset || state == Ended {
		through = Established
	}
	for _, step := range script {
		if step.until > through {
			break
		}
		offerAll(t, c, step.d, step.s)
	}
	switch state {
	case Reset:
		offerAll(t, c, FromInitiator, Segment{Seq: i(8), Flags: RST})
	case Ended:
		c.End()
	}
	if c.State() != state {
		t.Fatalf("the fixture is %v, want %v", c.State(), state)
	}
	return c
}

// offerAll offers a segment that has to pass, and accepts it as one whole message.
func offerAll(t *testing.T, c *Conn, d Direction, s Segment) {
	t.Helper()
	switch out := c.Offer(d, &s); out.Disposition {
	case Judge:
		c.Accept(d, len(c.Pending(d)))
	case Forward:
	default:
		t.Fatalf("%v %+v: %v %v", d, s, out.Disposition, out.Reason)
	}
}

// row is a line of the table in docs/stream.md.
type row struct {
	state   State
	kind    string
	d       Direction
	s       Segment
	want    Disposition
	reason  verdict.Reason
	then    State
	prepare func(t *testing.T, c *Conn)
}

func (r row) name() string { return r.state.String() + ": " + r.kind }

const (
	fromI   = FromInitiator
	fromR   = FromResponder
	overlap = verdict.ReasonStreamOverlap
	gap     = verdict.ReasonStreamGap
	state   = verdict.ReasonTCPState
	option  = verdict.ReasonTCPOption
	ended   = verdict.ReasonConnectionEnded
	none    = verdict.ReasonNone
)

func stale(t *testing.T, c *Conn) {
	offerAll(t, c, fromR, Segment{Seq: 77, Ack: 4711, Flags: ACK, Window: 1000})
}

func closedWindow(t *testing.T, c *Conn) {
	c.half[FromInitiator].edge = i(8)
}

func data(seq, ack uint32, text string) Segment {
	return Segment{Seq: seq, Ack: ack, Flags: ACK | PSH, Window: 1000, Payload: []byte(text)}
}

func with(s Segment, change func(*Segment)) Segment {
	change(&s)
	return s
}

func flags(f uint8) func(*Segment) { return func(s *Segment) { s.Flags = f } }

func options(o []byte) func(*Segment) { return func(s *Segment) { s.Options = o } }

var rows = []row{
	{Unseen, "SYN", fromI, Segment{Seq: i(-1), Flags: SYN, Options: optionsUsual}, Forward, none, Opening, nil},
	{Unseen, "SYN with an option outside the permit list", fromI, Segment{Seq: i(-1), Flags: SYN, Options: optionsMultipath}, Forward, none, Opening, nil},
	{Unseen, "SYN with malformed options", fromI, Segment{Seq: i(-1), Flags: SYN, Options: optionsMalformed}, End, option, Ended, nil},
	{Unseen, "SYN with data (fast open)", fromI, Segment{Seq: i(-1), Flags: SYN, Payload: []byte("x")}, End, state, Ended, nil},
	{Unseen, "SYN of the responder", fromR, Segment{Seq: r(-1), Flags: SYN}, Discard, state, Unseen, nil},
	{Unseen, "SYN-ACK", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK}, Discard, state, Unseen, nil},
	{Unseen, "SYN with FIN, RST or URG", fromI, Segment{Seq: i(-1), Flags: SYN | FIN}, Discard, state, Unseen, nil},
	{Unseen, "data of the initiator (adopted)", fromI, data(i(0), r(0), "abcd"), Judge, none, Established, nil},
	{Unseen, "data of the responder (adopted)", fromR, data(r(0), i(0), "abcd"), Judge, none, Established, nil},
	{Unseen, "ACK (adopted)", fromI, data(i(0), r(0), ""), Forward, none, Established, nil},
	{Unseen, "data without ACK", fromI, with(data(i(0), 0, "abcd"), flags(PSH)), Discard, state, Unseen, nil},
	{Unseen, "data with urgent pointer", fromI, with(data(i(0), r(0), "abcd"), flags(ACK|URG)), End, state, Ended, nil},
	{Unseen, "data with an option outside the permit list (adopted)", fromI, with(data(i(0), r(0), "abcd"), options(optionsMultipath)), End, option, Ended, nil},
	{Unseen, "RST", fromR, Segment{Seq: r(0), Flags: RST}, Forward, none, Unseen, nil},

	{Opening, "the same SYN", fromI, Segment{Seq: i(-1), Flags: SYN}, Forward, none, Opening, nil},
	{Opening, "the same SYN with data", fromI, Segment{Seq: i(-1), Flags: SYN, Payload: []byte("x")}, End, state, Ended, nil},
	{Opening, "another SYN", fromI, Segment{Seq: 99, Flags: SYN}, Forward, none, Opening, nil},
	{Opening, "SYN of the responder (simultaneous open)", fromR, Segment{Seq: r(-1), Flags: SYN}, Discard, state, Opening, nil},
	{Opening, "SYN-ACK that acknowledges the SYN", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK}, Forward, none, Answered, nil},
	{Opening, "SYN-ACK with data", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK, Payload: []byte("x")}, End, state, Ended, nil},
	{Opening, "SYN-ACK with malformed options", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK, Options: optionsMalformed}, End, option, Ended, nil},
	{Opening, "SYN-ACK that acknowledges something else", fromR, Segment{Seq: r(-1), Ack: i(9), Flags: SYN | ACK}, Forward, none, Opening, nil},
	{Opening, "ACK of an earlier connection", fromR, data(77, 4711, ""), Forward, none, Opening, nil},
	{Opening, "RST that refutes an earlier connection's ACK", fromI, Segment{Seq: 4711, Flags: RST}, Forward, none, Opening, stale},
	{Opening, "ACK of the responder without SYN", fromR, data(r(-1), i(0), ""), Discard, state, Opening, nil},
	{Opening, "data of the responder", fromR, data(r(0), 4711, "abcd"), Discard, state, Opening, nil},
	{Opening, "data of the initiator", fromI, data(i(0), r(0), "abcd"), Discard, state, Opening, nil},
	{Opening, "RST that acknowledges the SYN", fromR, Segment{Seq: 0, Ack: i(0), Flags: RST | ACK}, Forward, none, Reset, nil},
	{Opening, "RST that acknowledges something else", fromR, Segment{Seq: 0, Ack: i(9), Flags: RST | ACK}, Discard, state, Opening, nil},
	{Opening, "RST of the initiator, exact", fromI, Segment{Seq: i(0), Flags: RST}, Forward, none, Reset, nil},
	{Opening, "RST of the initiator, elsewhere", fromI, Segment{Seq: i(9), Flags: RST}, Discard, state, Opening, nil},

	{Answered, "the same SYN", fromI, Segment{Seq: i(-1), Flags: SYN}, Forward, none, Answered, nil},
	{Answered, "another SYN", fromI, Segment{Seq: 99, Flags: SYN}, Forward, none, Opening, nil},
	{Answered, "the same SYN-ACK", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK}, Forward, none, Answered, nil},
	{Answered, "the same SYN-ACK with data", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK, Payload: []byte("x")}, Discard, state, Answered, nil},
	{Answered, "SYN-ACK with another sequence number", fromR, Segment{Seq: r(5), Ack: i(0), Flags: SYN | ACK}, Discard, state, Answered, nil},
	{Answered, "ACK of the SYN-ACK", fromI, data(i(0), r(0), ""), Forward, none, Established, nil},
	{Answered, "ACK of the SYN-ACK with data", fromI, data(i(0), r(0), "abcd"), Judge, none, Established, nil},
	{Answered, "ACK of something else", fromI, data(i(0), r(7), "abcd"), Discard, state, Answered, nil},
	{Answered, "data of the responder", fromR, data(r(0), i(0), "abcd"), Discard, state, Answered, nil},
	{Answered, "RST, exact", fromI, Segment{Seq: i(0), Flags: RST}, Forward, none, Reset, nil},

	{Established, "data, the next", fromI, data(i(8), r(0), "ijkl"), Judge, none, Established, nil},
	{Established, "data, the next, of the other direction", fromR, data(r(0), i(8), "ABCD"), Judge, none, Established, nil},
	{Established, "data behind a gap", fromI, data(i(9), r(0), "jkl"), Discard, gap, Established, nil},
	{Established, "data outside the window", fromI, data(i(1005), r(0), "x"), Discard, state, Established, nil},
	{Established, "data far behind", fromI, data(i(-1<<30-99), r(0), "x"), Discard, state, Established, nil},
	{Established, "data without ACK", fromI, with(data(i(8), r(0), "ijkl"), flags(PSH)), Discard, state, Established, nil},
	{Established, "data with urgent pointer", fromI, with(data(i(8), r(0), "ijkl"), flags(ACK|URG)), End, state, Ended, nil},
	{Established, "data with an option outside the permit list", fromI, with(data(i(8), r(0), "ijkl"), options(optionsMultipath)), End, option, Ended, nil},
	{Established, "data with malformed options", fromI, with(data(i(8), r(0), "ijkl"), options(optionsMalformed)), End, option, Ended, nil},
	{Established, "data with timestamps", fromI, with(data(i(8), r(0), "ijkl"), options(optionsTimestamp)), Judge, none, Established, nil},
	{Established, "data outside the window with an option outside the permit list", fromI, with(data(i(1005), r(0), "x"), options(optionsMultipath)), Discard, state, Established, nil},
	{Established, "data that acknowledges what was never sent", fromI, data(i(8), r(1), "ijkl"), Discard, state, Established, nil},
	{Established, "ACK", fromR, data(r(0), i(8), ""), Forward, none, Established, nil},
	{Established, "ACK with an option outside the permit list", fromR, with(data(r(0), i(8), ""), options(optionsMultipath)), End, option, Ended, nil},
	{Established, "ACK of what was never sent", fromR, data(r(0), i(9), ""), Discard, state, Established, nil},
	{Established, "ACK that is old", fromR, data(r(0), i(2), ""), Forward, none, Established, nil},
	{Established, "ACK farther back than any window", fromR, data(r(0), i(-1<<30-99), ""), Discard, state, Established, nil},
	{Established, "ACK sent behind a gap", fromI, data(i(20), r(0), ""), Forward, none, Established, nil},
	{Established, "ACK outside the window", fromI, data(i(1005), r(0), ""), Discard, state, Established, nil},
	{Established, "retransmission, same bytes", fromI, data(i(4), r(0), "efgh"), Forward, none, Established, nil},
	{Established, "retransmission, other bytes", fromI, data(i(4), r(0), "eXgh"), End, overlap, Ended, nil},
	{Established, "retransmission in part, same bytes", fromI, data(i(6), r(0), "ghij"), Judge, none, Established, nil},
	{Established, "retransmission in part, other bytes", fromI, data(i(6), r(0), "gXij"), End, overlap, Ended, nil},
	{Established, "retransmission of acknowledged bytes, whatever they are", fromI, data(i(0), r(0), "XXXX"), Forward, none, Established, nil},
	{Established, "retransmission of acknowledged bytes and of others, same bytes", fromI, data(i(2), r(0), "XXef"), Forward, none, Established, nil},
	{Established, "retransmission of acknowledged bytes and of others, other bytes", fromI, data(i(2), r(0), "cdeX"), End, overlap, Ended, nil},
	{Established, "keep-alive without data", fromI, data(i(7), r(0), ""), Forward, none, Established, nil},
	{Established, "keep-alive with the last byte", fromI, data(i(7), r(0), "h"), Forward, none, Established, nil},
	{Established, "keep-alive with another byte, not acknowledged", fromI, data(i(7), r(0), "X"), End, overlap, Ended, nil},
	{Established, "keep-alive with another byte, acknowledged", fromI, data(i(3), r(0), "X"), Forward, none, Established, nil},
	{Established, "probe of a closed window", fromI, data(i(8), r(0), "i"), Judge, none, Established, closedWindow},
	{Established, "more than a probe of a closed window", fromI, data(i(8), r(0), "ij"), Discard, state, Established, closedWindow},
	{Established, "FIN", fromI, with(data(i(8), r(0), ""), flags(FIN|ACK)), Forward, none, Closing, nil},
	{Established, "FIN with data", fromI, with(data(i(8), r(0), "ijkl"), flags(FIN|ACK)), Judge, none, Closing, nil},
	{Established, "FIN behind a gap", fromI, with(data(i(9), r(0), ""), flags(FIN|ACK)), Discard, gap, Established, nil},
	{Established, "FIN outside the window", fromI, with(data(i(1005), r(0), ""), flags(FIN|ACK)), Discard, state, Established, nil},
	{Established, "FIN in the place of data", fromI, with(data(i(6), r(0), ""), flags(FIN|ACK)), End, overlap, Ended, nil},
	{Established, "FIN in the place of acknowledged data", fromI, with(data(i(2), r(0), ""), flags(FIN|ACK)), Forward, none, Established, nil},
	{Established, "FIN without ACK", fromI, with(data(i(8), r(0), ""), flags(FIN)), Discard, state, Established, nil},
	{Established, "RST, exact", fromI, Segment{Seq: i(8), Flags: RST}, Forward, none, Reset, nil},
	{Established, "RST, at bytes not acknowledged", fromI, Segment{Seq: i(6), Flags: RST}, Forward, none, Reset, nil},
	{Established, "RST, at acknowledged bytes", fromI, Segment{Seq: i(3), Flags: RST}, Discard, state, Established, nil},
	{Established, "RST, in the window but not exact", fromI, Segment{Seq: i(9), Flags: RST}, Discard, state, Established, nil},
	{Established, "RST, outside the window", fromI, Segment{Seq: i(1005), Flags: RST}, Discard, state, Established, nil},
	{Established, "RST with data", fromI, Segment{Seq: i(8), Flags: RST, Payload: []byte("x")}, Discard, state, Established, nil},
	{Established, "RST with an option outside the permit list", fromI, Segment{Seq: i(8), Flags: RST, Options: optionsMultipath}, Discard, option, Established, nil},
	{Established, "SYN", fromI, Segment{Seq: 99, Flags: SYN}, Discard, state, Established, nil},
	{Established, "the same SYN", fromI, Segment{Seq: i(-1), Flags: SYN}, Discard, state, Established, nil},
	{Established, "SYN with data", fromI, Segment{Seq: i(7), Flags: SYN, Payload: []byte("x")}, Discard, state, Established, nil},
	{Established, "SYN of the responder", fromR, Segment{Seq: r(-1), Flags: SYN}, Discard, state, Established, nil},
	{Established, "SYN-ACK after data", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK}, Discard, state, Established, nil},
	{Established, "no flag at all", fromI, Segment{Seq: i(8)}, Discard, state, Established, nil},

	{Closing, "data after FIN", fromI, data(i(9), r(0), "x"), End, state, Ended, nil},
	{Closing, "data in the place of FIN", fromI, data(i(8), r(0), "x"), End, state, Ended, nil},
	{Closing, "data of the other direction", fromR, data(r(0), i(9), "ABCD"), Judge, none, Closing, nil},
	{Closing, "the same FIN", fromI, with(data(i(8), r(0), ""), flags(FIN|ACK)), Forward, none, Closing, nil},
	{Closing, "the same FIN with the data before it", fromI, with(data(i(4), r(0), "efgh"), flags(FIN|ACK)), Forward, none, Closing, nil},
	{Closing, "the data before FIN without it", fromI, data(i(4), r(0), "efgh"), Forward, none, Closing, nil},
	{Closing, "FIN in another place", fromI, with(data(i(7), r(0), ""), flags(FIN|ACK)), End, overlap, Ended, nil},
	{Closing, "FIN of the other direction that acknowledges", fromR, with(data(r(0), i(9), ""), flags(FIN|ACK)), Forward, none, Closing, nil},
	{Closing, "ACK of the FIN", fromR, data(r(0), i(9), ""), Forward, none, Closing, nil},
	{Closing, "ACK behind the FIN", fromI, data(i(9), r(0), ""), Forward, none, Closing, nil},
	{Closing, "keep-alive with the last byte", fromI, data(i(7), r(0), "h"), Forward, none, Closing, nil},
	{Closing, "SYN", fromI, Segment{Seq: 99, Flags: SYN}, Discard, state, Closing, nil},
	{Closing, "RST, exact", fromR, Segment{Seq: r(0), Flags: RST}, Forward, none, Reset, nil},

	{Closed, "SYN", fromI, Segment{Seq: 99, Flags: SYN}, Forward, none, Opening, nil},
	{Closed, "SYN with data", fromI, Segment{Seq: 99, Flags: SYN, Payload: []byte("x")}, End, state, Ended, nil},
	{Closed, "the same FIN", fromR, with(data(r(0), i(9), ""), flags(FIN|ACK)), Forward, none, Closed, nil},
	{Closed, "ACK", fromI, data(i(9), r(1), ""), Forward, none, Closed, nil},
	{Closed, "data after FIN", fromI, data(i(9), r(1), "x"), End, state, Ended, nil},

	{Reset, "SYN", fromI, Segment{Seq: 99, Flags: SYN}, Forward, none, Opening, nil},
	{Reset, "SYN-ACK", fromR, Segment{Seq: 99, Ack: i(0), Flags: SYN | ACK}, Discard, state, Reset, nil},
	{Reset, "data, the next", fromI, data(i(8), r(0), "ijkl"), Judge, none, Reset, nil},
	{Reset, "retransmission, same bytes", fromI, data(i(4), r(0), "efgh"), Forward, none, Reset, nil},
	{Reset, "retransmission, other bytes", fromI, data(i(4), r(0), "eXgh"), End, overlap, Ended, nil},
	{Reset, "RST, exact", fromR, Segment{Seq: r(0), Flags: RST}, Forward, none, Reset, nil},

	{Ended, "data", fromI, data(i(8), r(0), "ijkl"), Discard, ended, Ended, nil},
	{Ended, "retransmission, same bytes", fromI, data(i(4), r(0), "efgh"), Discard, ended, Ended, nil},
	{Ended, "ACK", fromR, data(r(0), i(8), ""), Discard, ended, Ended, nil},
	{Ended, "FIN", fromI, with(data(i(8), r(0), ""), flags(FIN|ACK)), Discard, ended, Ended, nil},
	{Ended, "SYN-ACK", fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK}, Discard, ended, Ended, nil},
	{Ended, "RST, exact", fromI, Segment{Seq: i(8), Flags: RST}, Forward, none, Ended, nil},
	{Ended, "RST, not exact", fromI, Segment{Seq: i(9), Flags: RST}, Discard, state, Ended, nil},
	{Ended, "SYN", fromI, Segment{Seq: 99, Flags: SYN}, Forward, none, Opening, nil},
	{Ended, "SYN with data", fromI, Segment{Seq: 99, Flags: SYN, Payload: []byte("x")}, End, state, Ended, nil},
}

func TestTable(t *testing.T) {
	for _, row := range rows {
		t.Run(row.name(), func(t *testing.T) {
			c := fixture(t, row.state)
			if row.prepare != nil {
				row.prepare(t, c)
			}
			s := row.s
			out := c.Offer(row.d, &s)
			if out.Disposition != row.want || out.Reason != row.reason {
				t.Fatalf("%v %v, want %v %v", out.Disposition, out.Reason, row.want, row.reason)
			}
			if out.Disposition == Judge {
				if !bytes.HasSuffix(s.Payload, c.Pending(row.d)) || len(c.Pending(row.d)) != out.Fresh {
					t.Fatalf("pending %q of %q, fresh %d", c.Pending(row.d), s.Payload, out.Fresh)
				}
				c.Accept(row.d, out.Fresh)
			}
			if c.State() != row.then {
				t.Fatalf("the state is %v, want %v", c.State(), row.then)
			}
		})
	}
}

// TestTableDocumented holds the table in docs/stream.md to the rows above.
func TestTableDocumented(t *testing.T) {
	const path = "../../docs/stream.md"
	const begin, finish = "<!-- table: internal/stream, go test -update -->\n", "<!-- end of table -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), begin)
	table, tail, ok2 := strings.Cut(rest, finish)
	if !ok1 || !ok2 {
		t.Fatalf("%s has lost the marks around its table", path)
	}
	var want strings.Builder
	want.WriteString("| state | segment | disposition | reason | state afterwards |\n|---|---|---|---|---|\n")
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.name()] {
			t.Errorf("two rows are named %q", r.name())
		}
		seen[r.name()] = true
		reason := ""
		if r.reason != verdict.ReasonNone {
			reason = "`" + r.reason.String() + "`"
		}
		fmt.Fprintf(&want, "| %v | %s | %v | %s | %v |\n", r.state, r.kind, r.want, reason, r.then)
	}
	if table == want.String() {
		return
	}
	if !*update {
		t.Fatalf("%s does not say what the rows say; go test -run TestTableDocumented -update writes it", path)
	}
	if err := os.WriteFile(path, []byte(head+begin+want.String()+finish+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
