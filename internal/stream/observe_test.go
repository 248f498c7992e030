package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// observer is an observed connection and what was judged on it.
type observer struct {
	c      *Conn
	judged [2][]byte
}

func observe(t *testing.T) *observer {
	o := &observer{c: New(Limits{Observed: true})}
	o.offer(t, fromI, Segment{Seq: i(-1), Flags: SYN, Window: 1000}, Forward)
	o.offer(t, fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK, Window: 1000}, Forward)
	return o
}

func (o *observer) offer(t testing.TB, d Direction, s Segment, want Disposition) Outcome {
	t.Helper()
	out := o.c.Offer(d, &s)
	if out.Disposition != want {
		t.Fatalf("%v %+v: %v %v, want %v", d, s, out.Disposition, out.Reason, want)
	}
	o.take(d, out)
	return out
}

func (o *observer) take(d Direction, out Outcome) {
	if out.Disposition == Judge {
		p := o.c.Pending(d)
		o.judged[d] = append(o.judged[d], p[len(p)-out.Fresh:]...)
		o.c.Accept(d, len(p))
	}
}

func (o *observer) want(t *testing.T, d Direction, text string) {
	t.Helper()
	if string(o.judged[d]) != text {
		t.Fatalf("judged %q, want %q", o.judged[d], text)
	}
}

func TestObserved(t *testing.T) {
	t.Run("early segments wait for the missing one", func(t *testing.T) {
		o := observe(t)
		o.offer(t, fromI, data(i(6), r(0), "gh"), Discard)
		o.offer(t, fromI, data(i(2), r(0), "cd"), Discard)
		o.offer(t, fromI, data(i(4), r(0), "efg"), Discard)
		out := o.offer(t, fromI, data(i(0), r(0), "abc"), Judge)
		if out.Fresh != 8 || o.c.Adopted(fromI) {
			t.Fatalf("fresh %d", out.Fresh)
		}
		o.want(t, fromI, "abcdefgh")
	})
	t.Run("missed bytes that the receiver acknowledged", func(t *testing.T) {
		o := observe(t)
		o.offer(t, fromI, data(i(0), r(0), "ab"), Judge)
		o.offer(t, fromI, data(i(6), r(0), "gh"), Discard)
		o.offer(t, fromR, data(r(0), i(8), ""), Forward)
		o.offer(t, fromI, data(i(8), r(0), "ij"), Judge)
		o.want(t, fromI, "abghij")
		if !o.c.Adopted(fromI) {
			t.Fatal("the boundary is lost and not reported")
		}
	})
	t.Run("frames are missing in both directions", func(t *testing.T) {
		o := observe(t)
		o.offer(t, fromI, data(i(0), r(0), "ab"), Judge)
		o.offer(t, fromR, data(r(0), i(2), "AB"), Judge)
		o.offer(t, fromI, data(i(9), r(7), "jk"), Judge)
		o.offer(t, fromR, data(r(7), i(11), "HI"), Judge)
		o.offer(t, fromI, data(i(11), r(9), "lm"), Judge)
		o.offer(t, fromR, data(r(9), i(13), "JK"), Judge)
		o.want(t, fromI, "abjklm")
		o.want(t, fromR, "ABHIJK")
	})
	t.Run("the acknowledgment was captured before the data", func(t *testing.T) {
		o := observe(t)
		o.offer(t, fromR, data(r(0), i(2), ""), Forward)
		o.offer(t, fromI, data(i(0), r(0), "ab"), Judge)
		o.want(t, fromI, "ab")
	})
	t.Run("a missing segment that nobody acknowledges", func(t *testing.T) {
		o := observe(t)
		for n := range maxEarlySegments - 1 {
			o.offer(t, fromI, data(i(10+n), r(0), "x"), Discard)
		}
		out := o.offer(t, fromI, data(i(10+maxEarlySegments-1), r(0), "x"), Judge)
		if out.Fresh != maxEarlySegments || !o.c.Adopted(fromI) {
			t.Fatalf("fresh %d", out.Fresh)
		}
	})
	t.Run("one direction only, from the middle", func(t *testing.T) {
		o := &observer{c: New(Limits{Observed: true})}
		o.offer(t, fromR, data(r(5), i(3), "abc"), Judge)
		o.offer(t, fromR, data(r(8), i(9), "def"), Judge)
		o.offer(t, fromR, data(r(5), i(9), "abcdef"), Forward)
		o.want(t, fromR, "abcdef")
	})
	t.Run("an end is reported and the connection followed", func(t *testing.T) {
		o := observe(t)
		o.offer(t, fromI, data(i(0), r(0), "ab"), Judge)
		o.offer(t, fromI, data(i(0), r(0), "aX"), End)
		o.offer(t, fromI, with(data(i(2), r(0), "cd"), options(optionsMultipath)), End)
		o.c.End()
		o.offer(t, fromI, data(i(2), r(0), "cd"), Judge)
		o.want(t, fromI, "abcd")
	})
	t.Run("the same port again without FIN", func(t *testing.T) {
		o := observe(t)
		o.offer(t, fromI, data(i(0), r(0), "ab"), Judge)
		if out := o.offer(t, fromI, Segment{Seq: 4711, Flags: SYN}, Forward); !out.Restarted {
			t.Fatal("not restarted")
		}
		o.offer(t, fromI, data(4712, 1, "cd"), Judge)
		o.want(t, fromI, "abcd")
	})
	t.Run("a message that never ends", func(t *testing.T) {
		c := New(Limits{Observed: true, Pending: 4})
		expect(t, c, fromI, data(i(0), r(0), "abcd"), Judge, none)
		c.Accept(fromI, 0)
		expect(t, c, fromI, data(i(4), r(0), "e"), End, tableFull)
		expect(t, c, fromI, data(i(5), r(0), "f"), Discard, gap)
		expect(t, c, fromR, data(r(0), i(6), ""), Forward, none)
	})
	t.Run("more than is kept without an acknowledgment", func(t *testing.T) {
		o := observe(t)
		block := string(make([]byte, 10000))
		for n := range 100 {
			o.offer(t, fromI, data(i(n*10000), r(0), block), Judge)
		}
	})
}

// TestObservedExchangeIsSeenWhole: whatever the order in which the segments of a stream are seen,
// if all are seen within reach of each other, the whole stream is judged.
func TestObservedExchangeIsSeenWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		text := make([]byte, 300)
		for n := range text {
			text[n] = byte(random.IntN(256))
		}
		var segments []Segment
		for at := 0; at < len(text); {
			to := min(len(text), at+1+random.IntN(30))
			segments = append(segments, data(i(max(0, at-random.IntN(10))), r(0), ""))
			last := &segments[len(segments)-1]
			last.Payload = text[last.Seq-i(0) : to]
			at = to
		}
		for n := range segments {
			k := min(len(segments)-1, n+random.IntN(5))
			segments[n], segments[k] = segments[k], segments[n]
		}
		o := &observer{c: New(Limits{Observed: true})}
		s := Segment{Seq: i(-1), Flags: SYN}
		o.c.Offer(fromI, &s)
		for _, s := range segments {
			out := o.c.Offer(fromI, &s)
			if out.Disposition == End {
				t.Fatalf("ended: %v", out.Reason)
			}
			o.take(fromI, out)
		}
		if !bytes.Equal(o.judged[fromI], text) {
			t.Fatalf("judged %x, sent %x", o.judged[fromI], text)
		}
	})
}
