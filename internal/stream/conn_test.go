package stream

import (
	"bytes"
	"testing"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// expect offers a segment and wants the disposition and reason given.
func expect(t *testing.T, c *Conn, d Direction, s Segment, want Disposition, why verdict.Reason) Outcome {
	t.Helper()
	out := c.Offer(d, &s)
	if out.Disposition != want || out.Reason != why {
		t.Fatalf("%v %+v: %v %v, want %v %v", d, s, out.Disposition, out.Reason, want, why)
	}
	return out
}

func TestRefuseLeavesTheStateAsItWas(t *testing.T) {
	c := fixture(t, Established)
	for _, text := range []string{"ijkl", "IJ", "ijkl"} { // not the same bytes: none was forwarded
		expect(t, c, fromI, data(i(8), r(0), text), Judge, none)
		if got := string(c.Pending(fromI)); got != text {
			t.Fatalf("pending %q, want %q", got, text)
		}
		c.Refuse(fromI)
	}
	expect(t, c, fromI, data(i(8), r(0), "mn"), Judge, none)
	expect(t, c, fromI, data(i(8), r(0), "op"), Judge, none) // the one before counts as refused
	c.Accept(fromI, 2)
	expect(t, c, fromI, data(i(8), r(0), "mn"), End, overlap)
}

func TestAcceptOfNothingIsHarmless(t *testing.T) {
	c := fixture(t, Established)
	c.Accept(fromI, 9)
	c.Refuse(fromR)
	if c.AcceptEdited(fromI, 1, []byte("x")) {
		t.Fatal("edited a segment that was not offered")
	}
	expect(t, c, fromI, data(i(8), r(0), "ij"), Judge, none)
	c.Accept(fromR, 2) // the other direction's
	c.Accept(fromI, 99)
	if len(c.Pending(fromI)) != 0 {
		t.Fatalf("pending %q", c.Pending(fromI))
	}
	expect(t, c, fromI, data(i(10), r(0), "kl"), Judge, none)
	c.Accept(fromI, -5)
	if string(c.Pending(fromI)) != "kl" {
		t.Fatalf("pending %q", c.Pending(fromI))
	}
}

func TestPendingGrowsUntilConsumed(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromI, data(i(8), r(0), "ijk"), Judge, none)
	c.Accept(fromI, 0)
	expect(t, c, fromR, data(r(0), i(11), ""), Forward, none) // all acknowledged, still pending
	out := expect(t, c, fromI, data(i(11), r(0), "lmn"), Judge, none)
	if got := string(c.Pending(fromI)); got != "ijklmn" || out.Fresh != 3 {
		t.Fatalf("pending %q, fresh %d", got, out.Fresh)
	}
	c.Accept(fromI, 5)
	if got := string(c.Pending(fromI)); got != "n" {
		t.Fatalf("pending %q", got)
	}
}

// TestEditedRequestIsNeverSentUnchanged is line 41 of what an enforcing parser must survive: a
// retransmission of a neutralised request, however it is cut.
func TestEditedRequestIsNeverSentUnchanged(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromI, data(i(8), r(0), "ijkl"), Judge, none)
	if !c.AcceptEdited(fromI, 4, []byte("IJKL")) {
		t.Fatal("not accepted")
	}
	if got := string(c.Rewritten(fromI)); got != "IJKL" {
		t.Fatalf("sent as %q", got)
	}
	for _, tt := range []struct {
		at         int
		text, want string
	}{
		{8, "ijkl", "IJKL"}, {8, "i", "I"}, {9, "jk", "JK"}, {11, "l", "L"},
		{6, "ghij", "ghIJ"}, {4, "efghijkl", "efghIJKL"}, {2, "XXefghi", "\x00\x00efghI"}, {0, "XXXX", "\x00\x00\x00\x00"},
	} {
		expect(t, c, fromI, data(i(tt.at), r(0), tt.text), Forward, none)
		if got := string(c.Rewritten(fromI)); got != tt.want {
			t.Fatalf("%q at %d sent as %q, want %q", tt.text, tt.at, got, tt.want)
		}
	}
	expect(t, c, fromI, data(i(10), r(0), "klmn"), Judge, none)
	c.Accept(fromI, 2)
	if got := string(c.Rewritten(fromI)); got != "KLmn" {
		t.Fatalf("sent as %q", got)
	}
	expect(t, c, fromI, data(i(13), r(0), "nop"), Judge, none)
	c.AcceptEdited(fromI, 2, []byte("?OP"))
	if got := string(c.Rewritten(fromI)); got != "nOP" {
		t.Fatalf("sent as %q", got)
	}
	expect(t, c, fromR, data(r(0), i(16), ""), Forward, none)
	expect(t, c, fromI, data(i(8), r(0), "ijkl"), Forward, none)
	if got := c.Rewritten(fromI); !bytes.Equal(got, make([]byte, 4)) {
		t.Fatalf("acknowledged and sent as %q", got)
	}
	expect(t, c, fromI, data(i(16), r(0), "q"), Judge, none)
	c.Accept(fromI, 1)
	if got := string(c.Rewritten(fromI)); got != "q" {
		t.Fatalf("sent as %q", got)
	}
}

func TestEditedRequestRepeatedAsEditedIsAnOverlap(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromI, data(i(8), r(0), "ijkl"), Judge, none)
	c.AcceptEdited(fromI, 4, []byte("IJKL"))
	expect(t, c, fromI, data(i(8), r(0), "IJKL"), End, overlap)
}

func TestEditOfAnotherLengthIsRefused(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromI, data(i(8), r(0), "ijkl"), Judge, none)
	if c.AcceptEdited(fromI, 4, []byte("IJKLM")) {
		t.Fatal("accepted")
	}
	expect(t, c, fromI, data(i(8), r(0), "else"), Judge, none)
}

func TestUneditedConnectionIsNotRewritten(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromI, data(i(2), r(0), "cdef"), Forward, none)
	if c.Rewritten(fromI) != nil {
		t.Fatal("rewritten")
	}
}

func TestResetForIsWhatEachEndExpects(t *testing.T) {
	for _, tt := range []struct {
		name     string
		conn     func(t *testing.T) *Conn
		to       Direction
		seq, ack uint32
		ok       bool
	}{
		{"unseen", func(t *testing.T) *Conn { return New(Limits{}) }, fromI, 0, 0, false},
		{"opening, the initiator", func(t *testing.T) *Conn { return fixture(t, Opening) }, fromI, 0, i(0), true},
		{"opening, the responder", func(t *testing.T) *Conn { return fixture(t, Opening) }, fromR, 0, 0, false},
		{"answered, the initiator", func(t *testing.T) *Conn { return fixture(t, Answered) }, fromI, r(0), i(0), true},
		{"answered, the responder", func(t *testing.T) *Conn { return fixture(t, Answered) }, fromR, i(0), r(0), true},
		{"established, the initiator", func(t *testing.T) *Conn { return fixture(t, Established) }, fromI, r(0), i(8), true},
		{"established, the responder", func(t *testing.T) *Conn { return fixture(t, Established) }, fromR, i(8), r(0), true},
		{"ended, the responder", func(t *testing.T) *Conn { return fixture(t, Ended) }, fromR, i(8), r(0), true},
		{"closing, the responder", func(t *testing.T) *Conn { return fixture(t, Closing) }, fromR, i(9), r(0), true},
		{"ended over a segment under judgement", func(t *testing.T) *Conn {
			c := fixture(t, Established)
			expect(t, c, fromI, data(i(8), r(0), "ijkl"), Judge, none)
			c.End()
			return c
		}, fromR, i(8), r(0), true},
		{"ended and told by a challenge ACK", func(t *testing.T) *Conn {
			c := fixture(t, Ended)
			expect(t, c, fromR, data(r(0), i(6), ""), Discard, ended)
			return c
		}, fromR, i(6), r(0), true},
		{"ended over the segment that adopted it", func(t *testing.T) *Conn {
			c := New(Limits{})
			expect(t, c, fromI, data(i(8), r(3), "ijkl"), Judge, none)
			c.End()
			return c
		}, fromR, i(8), r(3), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if seq, ack, ok := tt.conn(t).ResetFor(tt.to); seq != tt.seq || ack != tt.ack || ok != tt.ok {
				t.Fatalf("%#x %#x %v, want %#x %#x %v", seq, ack, ok, tt.seq, tt.ack, tt.ok)
			}
		})
	}
}

// TestChallengeResolvesAHalfOpenConnection: the initiator crashed, and comes back from the same
// port.
func TestChallengeResolvesAHalfOpenConnection(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromR, data(r(0), i(8), ""), Forward, none)
	out := expect(t, c, fromI, Segment{Seq: 99, Flags: SYN}, Discard, state)
	seq, ack, window, ok := c.ChallengeFor(fromI)
	if !out.Challenge || !ok || seq != r(0) || ack != i(8) || window != 1000 {
		t.Fatalf("challenge %v: %#x %#x %d %v", out.Challenge, seq, ack, window, ok)
	}
	expect(t, c, fromI, Segment{Seq: ack, Flags: RST}, Forward, none)
	if out := expect(t, c, fromI, Segment{Seq: 99, Flags: SYN}, Forward, none); !out.Restarted {
		t.Fatal("not restarted")
	}
}

func TestChallengeOfAnRSTBehindRefusedBytes(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromR, data(r(0), i(8), ""), Forward, none)
	expect(t, c, fromI, data(i(8), r(0), "ijkl"), Judge, none)
	c.Refuse(fromI)
	if out := expect(t, c, fromI, Segment{Seq: i(12), Flags: RST}, Discard, state); !out.Challenge {
		t.Fatal("no challenge")
	}
	_, ack, _, _ := c.ChallengeFor(fromI)
	expect(t, c, fromI, Segment{Seq: ack, Flags: RST}, Forward, none)
	if c.State() != Reset {
		t.Fatal(c.State())
	}
}

// TestLateAnswerDoesNotOpenAnother: a delayed copy of the SYN-ACK arrives after the connection
// was ended and a SYN with the same number was sent.
func TestLateAnswerDoesNotOpenAnother(t *testing.T) {
	c := fixture(t, Ended)
	expect(t, c, fromI, Segment{Seq: i(-1), Flags: SYN}, Forward, none)
	expect(t, c, fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK}, Discard, state)
	expect(t, c, fromR, Segment{Seq: r(500), Ack: i(0), Flags: SYN | ACK}, Forward, none)
}

// TestLateAcknowledgmentFreesNothing: the acknowledgment of a segment that its receiver has left
// behind is not believed.
func TestLateAcknowledgmentFreesNothing(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, fromI, data(i(8), r(0), "ijkl"), Judge, none)
	c.Accept(fromI, 4)
	expect(t, c, fromR, data(r(-500), i(12), ""), Forward, none)
	expect(t, c, fromI, data(i(8), r(0), "ijXl"), End, overlap)
}

func TestSYNACKRepeatedBeforeDataOfTheResponder(t *testing.T) {
	c := fixture(t, Answered)
	expect(t, c, fromI, data(i(0), r(0), ""), Forward, none)
	expect(t, c, fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK}, Forward, none)
	expect(t, c, fromR, Segment{Seq: r(0), Ack: i(0), Flags: SYN | ACK}, Discard, state)
}

func TestWindowScale(t *testing.T) {
	scale := []byte{3, 3, 7, 1}
	for _, tt := range []struct {
		name     string
		syn, ack []byte
		want     Disposition
	}{
		{"both ends", scale, scale, Judge},
		{"the initiator alone", scale, nil, Discard},
		{"the responder alone", nil, scale, Discard},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New(Limits{})
			expect(t, c, fromI, Segment{Seq: i(-1), Flags: SYN, Window: 10, Options: tt.syn}, Forward, none)
			expect(t, c, fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK, Window: 10, Options: tt.ack}, Forward, none)
			expect(t, c, fromI, data(i(0), r(0), ""), Forward, none)
			expect(t, c, fromI, data(i(0), r(0), "0123456789"), Judge, none) // a SYN's window is not scaled
			c.Accept(fromI, 10)
			expect(t, c, fromI, data(i(10), r(0), "ab"), Discard, state)
			expect(t, c, fromR, Segment{Seq: r(0), Ack: i(0), Flags: ACK, Window: 10}, Forward, none)
			s := data(i(10), r(0), "ab")
			if out := c.Offer(fromI, &s); out.Disposition != tt.want {
				t.Fatalf("%v %v", out.Disposition, out.Reason)
			}
		})
	}
}

func TestAdopted(t *testing.T) {
	adopt := func(t *testing.T) *Conn {
		c := New(Limits{})
		expect(t, c, fromI, data(i(8), r(4), "ijkl"), Judge, none)
		if !c.Adopted(fromI) || !c.Adopted(fromR) {
			t.Fatal("not adopted")
		}
		c.Accept(fromI, 4)
		return c
	}
	t.Run("a refused first segment adopts nothing", func(t *testing.T) {
		c := New(Limits{})
		expect(t, c, fromI, data(i(8), r(4), "ijkl"), Judge, none)
		c.Refuse(fromI)
		if c.State() != Unseen || c.Adopted(fromI) {
			t.Fatal(c.State())
		}
		expect(t, c, fromR, data(r(4), i(0), "ABCD"), Judge, none)
	})
	t.Run("ended before a byte was accepted", func(t *testing.T) {
		c := New(Limits{})
		expect(t, c, fromI, data(i(8), r(4), "ijkl"), Judge, none)
		c.End()
		expect(t, c, fromI, data(i(8), r(4), "ijkl"), Discard, ended)
	})
	t.Run("the other direction starts where its receiver says", func(t *testing.T) {
		c := adopt(t)
		expect(t, c, fromR, data(r(9), i(12), "JK"), Discard, gap)
		out := expect(t, c, fromR, data(r(2), i(12), "CDEF"), Judge, none)
		if got := string(c.Pending(fromR)); got != "EF" || out.Fresh != 2 {
			t.Fatalf("pending %q, fresh %d", got, out.Fresh)
		}
	})
	t.Run("bytes from before that nobody has acknowledged", func(t *testing.T) {
		c := adopt(t)
		expect(t, c, fromI, data(i(4), r(4), "efgh"), Discard, gap)
		expect(t, c, fromR, data(r(4), i(4), ""), Forward, none) // still without them
		expect(t, c, fromI, data(i(4), r(4), "efghijkl"), Discard, gap)
		expect(t, c, fromR, data(r(4), i(8), ""), Forward, none)
		expect(t, c, fromI, data(i(4), r(4), "efgh"), Forward, none)
		expect(t, c, fromI, data(i(4), r(4), "????ijXl"), End, overlap)
	})
	t.Run("an old retransmission came first", func(t *testing.T) {
		c := adopt(t)
		c.Resync(fromI)
		expect(t, c, fromI, data(i(20), r(4), "uvwx"), Discard, gap)
		expect(t, c, fromR, data(r(4), i(20), ""), Forward, none) // it had more than we saw
		if !c.Adopted(fromI) {
			t.Fatal("the boundary is lost and not reported")
		}
		expect(t, c, fromI, data(i(20), r(4), "uvwx"), Judge, none)
		if got := string(c.Pending(fromI)); got != "uvwx" {
			t.Fatalf("pending %q", got)
		}
	})
	t.Run("no more jumps once a boundary was found", func(t *testing.T) {
		c := adopt(t)
		expect(t, c, fromR, data(r(4), i(12), ""), Forward, none)
		c.Resync(fromI)
		expect(t, c, fromR, data(r(4), i(20), ""), Discard, state)
	})
	t.Run("a keep-alive came first", func(t *testing.T) {
		c := New(Limits{})
		expect(t, c, fromI, data(i(7), r(4), ""), Forward, none)
		expect(t, c, fromR, data(r(4), i(8), ""), Forward, none)
		expect(t, c, fromI, data(i(8), r(4), "ijkl"), Judge, none)
	})
}

func TestEndedStaysEnded(t *testing.T) {
	c := fixture(t, Established)
	c.End()
	c.End()
	for _, s := range []Segment{data(i(8), r(0), "ijkl"), data(i(0), r(0), "abcdefgh"), data(i(7), r(0), "h"), data(i(8), r(0), "")} {
		expect(t, c, fromI, s, Discard, ended)
	}
	if len(c.Pending(fromI)) != 0 {
		t.Fatal("something is pending")
	}
}

func TestDirectionOutOfRange(t *testing.T) {
	c := fixture(t, Established)
	expect(t, c, 7, data(i(8), r(0), "x"), Discard, state)
	c.Accept(7, 1)
	c.Refuse(7)
	c.Resync(7)
	if c.Pending(7) != nil || c.Rewritten(7) != nil || c.Adopted(7) {
		t.Fatal("an answer for no direction")
	}
	if _, _, ok := c.ResetFor(7); ok {
		t.Fatal("a reset for no direction")
	}
	if _, _, _, ok := c.ChallengeFor(7); ok {
		t.Fatal("a challenge for no direction")
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{FromInitiator.String(), "from_initiator"}, {FromResponder.String(), "from_responder"},
		{Direction(9).String(), "direction(9)"},
		{Discard.String(), "discard"}, {Forward.String(), "forward"}, {Judge.String(), "judge"}, {End.String(), "end"},
		{Disposition(9).String(), "disposition(9)"},
		{Unseen.String(), "unseen"}, {Ended.String(), "ended"}, {State(99).String(), "state(99)"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}
