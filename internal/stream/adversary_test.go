package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// chooser draws a number from [0, n).
type chooser func(n int) int

// contest sets a hostile initiator, who sees and chooses everything, against a receiver behind
// the connection. judged holds what a dissector let pass, since the last SYN that went through.
type contest struct {
	fatalf  func(format string, args ...any)
	choose  chooser
	conn    *Conn
	target  *receiver
	isn     uint32
	judged  []byte // as forwarded
	sent    []byte // the same, as the sender sent it
	pending []byte // as the sender sent it
	answers []Segment
	behind  []Segment // forwarded, not yet delivered
	judges  int
	got     int
}

func newContest(choose chooser, fatalf func(string, ...any)) *contest {
	return &contest{
		fatalf: fatalf, choose: choose,
		conn: New(Limits{}),
		target: &receiver{
			lastWins: choose(2) == 1, naive: choose(2) == 1, window: uint16(1 + choose(40)),
			isn: 0xfffff000,
		},
	}
}

// run plays a number of moves. The property is that the receiver's application never has a byte
// that the dissector did not see at that place, whatever is sent.
func (x *contest) run(moves int) {
	x.handshake()
	for range moves {
		switch x.choose(12) {
		case 0:
			x.offer(FromInitiator, x.syn())
		case 1:
			x.offer(FromInitiator, Segment{Seq: x.near(), Flags: RST | uint8(x.choose(2))*ACK})
		case 2:
			x.answer()
		case 3:
			if x.target.phase != 0 {
				x.answers = append(x.answers, *x.target.ack())
			}
		case 4:
			x.deliver()
		case 5:
			x.handshake()
		default:
			x.offer(FromInitiator, x.data())
		}
	}
}

// handshake opens a connection as a lawful end does, so that the moves meet an open one.
func (x *contest) handshake() {
	x.offer(FromInitiator, x.syn())
	x.deliver()
	x.answer()
	x.offer(FromInitiator, Segment{Seq: x.isn + 1, Ack: x.target.isn + 1, Flags: ACK, Window: 5000})
	x.deliver()
}

// near returns a sequence number around what matters: the next one, or the start.
func (x *contest) near() uint32 {
	switch x.choose(3) {
	case 0:
		return x.target.next - 3 + uint32(x.choose(7))
	case 1:
		return x.isn + uint32(x.choose(20))
	}
	return x.isn + 1 + uint32(len(x.judged)) - 6 + uint32(x.choose(10))
}

func (x *contest) syn() Segment {
	seq := x.near()
	if x.choose(2) == 0 {
		seq = 0xfffffff0 + uint32(x.choose(12))
	}
	return Segment{Seq: seq, Flags: SYN, Window: 5000, Payload: make([]byte, x.choose(8)/7)}
}

func (x *contest) data() Segment {
	s := Segment{Seq: x.near(), Ack: x.target.isn + 1, Flags: ACK, Window: 5000}
	s.Payload = make([]byte, x.choose(7))
	for n := range s.Payload {
		s.Payload[n] = byte('a' + x.choose(2))
	}
	if at := s.Seq - x.isn - 1; x.choose(4) != 0 && at < uint32(len(x.sent)) {
		copy(s.Payload, x.sent[at:]) // a lawful retransmission, in part
	}
	switch x.choose(40) {
	case 0:
		s.Flags |= FIN
	case 1:
		s.Flags |= URG
	case 2:
		s.Flags &^= ACK
	case 3:
		s.Ack += uint32(x.choose(5)) - 2
	case 4:
		s.Options = optionsMultipath
	case 5:
		s.Flags = uint8(x.choose(64))
	}
	return s
}

// answer hands one of the target's answers to the connection, or loses it.
func (x *contest) answer() {
	if len(x.answers) == 0 {
		return
	}
	n := x.choose(len(x.answers))
	s := x.answers[n]
	x.answers = append(x.answers[:n], x.answers[n+1:]...)
	if x.choose(8) != 0 {
		x.offer(FromResponder, s)
	}
}

// deliver hands one of the forwarded segments to the target, or loses it.
func (x *contest) deliver() {
	if len(x.behind) == 0 {
		return
	}
	n := x.choose(len(x.behind))
	s := x.behind[n]
	if x.choose(6) != 0 { // otherwise it stays to be delivered again
		x.behind = append(x.behind[:n], x.behind[n+1:]...)
	}
	before := bytes.Clone(x.target.app)
	if x.choose(8) != 0 {
		if answer := x.target.deliver(s); answer != nil {
			x.answers = append(x.answers, *answer)
		}
	}
	if len(x.target.app) == 0 || bytes.Equal(before, x.target.app) {
		return
	}
	x.got++
	if x.target.peerISN != x.isn {
		x.fatalf("the receiver took %q in another connection than the one followed", s.Payload)
	}
	if !bytes.HasPrefix(x.judged, x.target.app) {
		x.fatalf("the receiver has %q, the dissector saw %q", x.target.app, x.judged)
	}
}

// offer lets the connection decide and checks what the dissector is given.
func (x *contest) offer(d Direction, s Segment) {
	out := x.conn.Offer(d, &s)
	if out.Restarted || out.Disposition == Forward && s.Flags&SYN != 0 && d == FromInitiator {
		if s.Seq != x.isn || out.Restarted {
			x.judged, x.sent, x.pending, x.behind = nil, nil, nil, nil
		}
		x.isn = s.Seq
	}
	switch out.Disposition {
	case Forward:
	case Judge:
		if !x.judge(d, s, out.Fresh) {
			return
		}
	default:
		if out.Reason == 0 {
			x.fatalf("%v without a reason", out.Disposition)
		}
		return
	}
	if d == FromResponder {
		return
	}
	if b := x.conn.Rewritten(d); b != nil {
		if len(b) != len(s.Payload) {
			x.fatalf("%d bytes rewritten to %d", len(s.Payload), len(b))
		}
		s.Payload = b
	}
	x.behind = append(x.behind, s)
	if x.choose(4) != 0 {
		x.deliver()
	}
}

func (x *contest) judge(d Direction, s Segment, fresh int) bool {
	if d == FromResponder {
		x.fatalf("the receiver sends no data, got %q to judge", s.Payload)
	}
	x.judges++
	bytesNew := s.Payload[len(s.Payload)-fresh:]
	want := append(bytes.Clone(x.pending), bytesNew...)
	got := x.conn.Pending(d)
	if !bytes.Equal(got, want) {
		x.fatalf("pending %q, want %q", got, want)
	}
	consumed := x.choose(len(want) + 1)
	switch x.choose(6) {
	case 0:
		x.conn.Refuse(d)
		return false
	case 1:
		edited := bytes.ToUpper(s.Payload)
		if !x.conn.AcceptEdited(d, consumed, edited) {
			x.fatalf("an edit of equal length was refused")
		}
		bytesNew = bytes.ToUpper(bytesNew)
	default:
		x.conn.Accept(d, consumed)
	}
	x.sent = append(x.sent, s.Payload[len(s.Payload)-fresh:]...)
	x.judged = append(x.judged, bytesNew...)
	x.pending = want[consumed:]
	return true
}

func TestAdversaryNeverReachesTheReceiver(t *testing.T) {
	judges, got := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		// The library prefers small numbers, which here are the dull moves.
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range 50 {
			x := newContest(random.IntN, t.Fatalf)
			x.run(100)
			judges += x.judges
			got += x.got
		}
	})
	if judges < 1000 || got < 1000 {
		t.Fatalf("hardly anything was tried: %d segments judged, %d received", judges, got)
	}
}

// FuzzConn lets the fuzzer be the adversary: each byte is a choice.
func FuzzConn(f *testing.F) {
	f.Add([]byte("\x00\x01\x20 a lawful exchange, more or less"))
	f.Fuzz(func(t *testing.T, script []byte) {
		choose := func(n int) int {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return int(b) % n
		}
		x := newContest(choose, t.Fatalf)
		for len(script) > 0 {
			x.run(1)
		}
	})
}
