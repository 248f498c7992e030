package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// lawful is a pair of ends that exchange random bytes in both directions over a network that
// loses, repeats, reorders and cuts anew, before and behind the connection under test.
type lawful struct {
	t      *rapid.T
	random *rand.Rand
	conn   *Conn
	end    [2]*endpoint // by the direction in which it sends
	flying []flight
}

// endpoint sends text and receives its peer's. Offsets count from the first byte.
type endpoint struct {
	isn   uint32
	text  []byte
	sent  int // the highest offset sent
	acked int // as it has been told
	recv  *receiver

	consumed int    // of what its peer judged as whole messages
	judged   []byte // what a dissector of this direction saw
}

type flight struct {
	d      Direction
	s      Segment
	passed bool // the connection has forwarded it
}

func newLawful(t *rapid.T) *lawful {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	x := &lawful{t: t, random: random, conn: New(Limits{})}
	for d := range x.end {
		text := make([]byte, 20+random.IntN(200))
		for n := range text {
			text[n] = byte(random.IntN(256))
		}
		x.end[d] = &endpoint{isn: random.Uint32() | 0xffffff00, text: text}
	}
	for d := range x.end {
		x.end[d].recv = &receiver{
			phase: 2, isn: x.end[d].isn, peerISN: x.end[1-d].isn, next: x.end[1-d].isn + 1,
			told: x.end[1-d].isn + 1, later: map[uint32]byte{}, window: 500, lastWins: random.IntN(2) == 0,
		}
	}
	return x
}

func (x *lawful) handshake() {
	i, r := x.end[0].isn, x.end[1].isn
	for _, s := range []flight{
		{FromInitiator, Segment{Seq: i, Flags: SYN, Window: 500, Options: optionsUsual}, false},
		{FromResponder, Segment{Seq: r, Ack: i + 1, Flags: SYN | ACK, Window: 500}, false},
		{FromInitiator, Segment{Seq: i + 1, Ack: r + 1, Flags: ACK, Window: 500}, false},
	} {
		if out := x.conn.Offer(s.d, &s.s); out.Disposition != Forward {
			x.t.Fatalf("handshake: %v %v", out.Disposition, out.Reason)
		}
	}
}

// send puts a segment on the wire: a range of the text between what was acknowledged and a
// little past what was sent before.
func (x *lawful) send(d Direction) {
	e := x.end[d]
	from := e.acked + x.random.IntN(e.sent-e.acked+1)
	if x.random.IntN(10) == 0 && from > 0 {
		from-- // a keep-alive, if it is short
	}
	to := min(len(e.text), from+x.random.IntN(40), e.acked+450)
	x.put(d, from, max(from, to))
}

func (x *lawful) put(d Direction, from, to int) {
	e := x.end[d]
	e.sent = max(e.sent, to)
	e.recv.told = e.recv.next
	x.flying = append(x.flying, flight{d: d, s: Segment{
		Seq: e.isn + 1 + uint32(from), Ack: e.recv.next, Flags: ACK, Window: 500, Payload: e.text[from:to],
	}})
}

// move takes one of the segments under way one hop farther, or loses or repeats it.
func (x *lawful) move() {
	if len(x.flying) == 0 {
		return
	}
	n := x.random.IntN(len(x.flying))
	f := x.flying[n]
	switch x.random.IntN(8) {
	case 0: // repeated: it stays
	case 1:
		x.flying = append(x.flying[:n], x.flying[n+1:]...)
		return
	default:
		x.flying = append(x.flying[:n], x.flying[n+1:]...)
	}
	if f.passed {
		x.receive(f)
	} else if x.pass(f) {
		f.passed = true
		x.flying = append(x.flying, f)
	}
}

func (x *lawful) pass(f flight) bool {
	e := x.end[f.d]
	out := x.conn.Offer(f.d, &f.s)
	switch out.Disposition {
	case End:
		x.t.Fatalf("a lawful segment ended the connection: %v %+v", out.Reason, f.s)
	case Discard:
		return false
	case Judge:
		return x.judge(f, e, out.Fresh)
	}
	return true
}

func (x *lawful) judge(f flight, e *endpoint, fresh int) bool {
	pending := x.conn.Pending(f.d)
	want := append(bytes.Clone(e.judged[e.consumed:]), f.s.Payload[len(f.s.Payload)-fresh:]...)
	if !bytes.Equal(pending, want) {
		x.t.Fatalf("pending %x, want %x", pending, want)
	}
	if x.random.IntN(6) == 0 {
		x.conn.Refuse(f.d)
		return false
	}
	e.judged = append(e.judged, f.s.Payload[len(f.s.Payload)-fresh:]...)
	if !bytes.HasPrefix(e.text, e.judged) {
		x.t.Fatalf("judged %x, sent %x", e.judged, e.text)
	}
	consumed := x.random.IntN(len(pending) + 1)
	e.consumed += consumed
	x.conn.Accept(f.d, consumed)
	return true
}

func (x *lawful) receive(f flight) {
	e, to := x.end[f.d], x.end[f.d.Other()]
	to.recv.take(f.s)
	if !bytes.HasPrefix(e.judged, to.recv.app) {
		x.t.Fatalf("the receiver has %x, the dissector saw %x", to.recv.app, e.judged)
	}
	to.acked = max(to.acked, int(f.s.Ack-to.isn-1))
}

// finish repeats what is missing, over a network that loses nothing any more.
func (x *lawful) finish() {
	x.flying = nil
	for range 2000 {
		done := true
		for d := range x.end {
			e, peer := x.end[d], x.end[1-d]
			if len(peer.recv.app) < len(e.text) {
				done = false
			}
			x.put(Direction(d), e.acked, min(len(e.text), e.acked+1+x.random.IntN(60)))
			f := x.flying[0]
			x.flying = nil
			if x.pass(f) {
				x.receive(f)
			}
		}
		if done {
			return
		}
	}
	x.t.Fatalf("the exchange does not come to its end")
}

// TestLawfulExchangeIsSeenWhole holds that what the dissector sees is what was sent, that the
// receiver has a prefix of it at each step, and that everything arrives in the end.
func TestLawfulExchangeIsSeenWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newLawful(t)
		x.handshake()
		for range 300 {
			if x.random.IntN(3) == 0 {
				x.send(Direction(x.random.IntN(2)))
			} else {
				x.move()
			}
		}
		x.finish()
		for d, e := range x.end {
			if !bytes.Equal(e.judged, e.text) || !bytes.Equal(x.end[1-d].recv.app, e.text) {
				t.Fatalf("sent %x, judged %x, received %x", e.text, e.judged, x.end[1-d].recv.app)
			}
		}
	})
}

// cuts calls f with every way to cut n bytes into segments.
func cuts(n int, f func(ends []int)) {
	for set := range 1 << (n - 1) {
		var ends []int
		for at := 1; at < n; at++ {
			if set>>(at-1)&1 == 1 {
				ends = append(ends, at)
			}
		}
		f(append(ends, n))
	}
}

// orders calls f with every order of n things.
func orders(n int, f func(order []int)) {
	var walk func(order []int, used int)
	walk = func(order []int, used int) {
		if len(order) == n {
			f(order)
			return
		}
		for k := range n {
			if used>>k&1 == 0 {
				walk(append(order, k), used|1<<k)
			}
		}
	}
	walk(nil, 0)
}

// TestEverySplitAndOrder sends one message in every split and every order, repeating what was
// discarded until it is through.
func TestEverySplitAndOrder(t *testing.T) {
	const text = "message"
	cuts(len(text), func(ends []int) {
		orders(len(ends), func(order []int) {
			c := fixture(t, Answered)
			offerAll(t, c, fromI, data(i(0), r(0), ""))
			var got []byte
			for len(got) < len(text) {
				before := len(got)
				for _, k := range order {
					from := 0
					if k > 0 {
						from = ends[k-1]
					}
					s := data(i(from), r(0), text[from:ends[k]])
					switch out := c.Offer(fromI, &s); out.Disposition {
					case Judge:
						got = append(got, c.Pending(fromI)[len(got):]...)
						c.Accept(fromI, 0)
					case End:
						t.Fatalf("cuts %v, order %v: %v", ends, order, out.Reason)
					}
				}
				if len(got) == before {
					t.Fatalf("cuts %v, order %v: stuck at %q", ends, order, got)
				}
			}
			if string(got) != text {
				t.Fatalf("cuts %v, order %v: %q", ends, order, got)
			}
		})
	})
}
