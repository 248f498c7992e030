package stream

import (
	"bytes"
	"runtime"
	"testing"
	"unsafe"

	"github.com/penstock-ot/penstock/internal/verdict"
)

const tableFull = verdict.ReasonTableFull

// open returns an established connection with wide windows.
func open(t testing.TB, limits Limits) *Conn {
	t.Helper()
	c := New(limits)
	for _, f := range []flight{
		{fromI, Segment{Seq: i(-1), Flags: SYN, Window: 65535, Options: []byte{3, 3, 14, 1}}, false},
		{fromR, Segment{Seq: r(-1), Ack: i(0), Flags: SYN | ACK, Window: 65535, Options: []byte{3, 3, 14, 1}}, false},
		{fromI, Segment{Seq: i(0), Ack: r(0), Flags: ACK, Window: 65535}, false},
		{fromR, Segment{Seq: r(0), Ack: i(0), Flags: ACK, Window: 65535}, false},
	} {
		if out := c.Offer(f.d, &f.s); out.Disposition != Forward {
			t.Fatalf("handshake: %v %v", out.Disposition, out.Reason)
		}
	}
	return c
}

func TestRetainedIsBounded(t *testing.T) {
	memory := NewMemory(0)
	c := open(t, Limits{PerDirection: 1, Pending: 1000, Memory: memory}) // raised to 1000 + 64 KiB
	const full = 1000 + maxSegment
	block := string(bytes.Repeat([]byte("x"), 1000))
	at := 0
	for ; at+1000 <= full; at += 1000 {
		expect(t, c, fromI, data(i(at), r(0), block), Judge, none)
		c.Accept(fromI, 1000)
	}
	expect(t, c, fromI, data(i(at), r(0), block), Discard, tableFull)
	if memory.Stats().Refused != 1 {
		t.Fatalf("%+v", memory.Stats())
	}
	expect(t, c, fromI, data(i(0), r(0), block), Forward, none) // what is there can be repeated
	expect(t, c, fromR, data(r(0), i(1000), ""), Forward, none)
	expect(t, c, fromI, data(i(at), r(0), block), Judge, none) // the receiver made room
}

func TestPendingIsBounded(t *testing.T) {
	memory := NewMemory(0)
	c := open(t, Limits{Pending: 10, Memory: memory})
	expect(t, c, fromI, data(i(0), r(0), "0123456789"), Judge, none)
	c.Accept(fromI, 1)
	expect(t, c, fromI, data(i(10), r(0), "a"), Judge, none)
	c.Accept(fromI, 0)
	expect(t, c, fromI, data(i(11), r(0), "b"), End, tableFull)
	if memory.Stats().Refused != 1 || memory.Stats().Used != 0 {
		t.Fatalf("%+v", memory.Stats())
	}
}

func TestSharedMemoryIsBounded(t *testing.T) {
	memory := NewMemory(2 * smallestBuffer)
	conns := []*Conn{open(t, Limits{Memory: memory}), open(t, Limits{Memory: memory}), open(t, Limits{Memory: memory})}
	for _, c := range conns[:2] {
		expect(t, c, fromI, data(i(0), r(0), "abcd"), Judge, none)
		c.Accept(fromI, 4)
	}
	expect(t, conns[2], fromI, data(i(0), r(0), "abcd"), Discard, tableFull)
	expect(t, conns[0], fromR, data(r(0), i(4), ""), Forward, none)
	expect(t, conns[2], fromI, data(i(0), r(0), "abcd"), Judge, none)
	conns[2].Refuse(fromI)
	conns[1].Close()
	if s := memory.Stats(); s.Used != 0 || s.Refused != 1 || s.Spare != 2*smallestBuffer {
		t.Fatalf("%+v", s)
	}
}

// TestEditedBytesAreKeptInFullMemory: an edit that cannot be remembered would go out unedited.
func TestEditedBytesAreKeptInFullMemory(t *testing.T) {
	c := open(t, Limits{Memory: NewMemory(smallestBuffer)})
	expect(t, c, fromI, data(i(0), r(0), "abcd"), Judge, none)
	if !c.AcceptEdited(fromI, 4, []byte("ABCD")) {
		t.Fatal("not accepted")
	}
	expect(t, c, fromI, data(i(0), r(0), "abcd"), Forward, none)
	if got := string(c.Rewritten(fromI)); got != "ABCD" {
		t.Fatalf("sent as %q", got)
	}
}

func TestRetainedThroughGrowthAndCompaction(t *testing.T) {
	memory := NewMemory(0)
	c := open(t, Limits{Memory: memory})
	sent := 0
	for n := range 4000 {
		block := bytes.Repeat([]byte{byte(n)}, 1+n*7%90)
		expect(t, c, fromI, data(i(sent), r(0), string(block)), Judge, none)
		if n%5 == 0 {
			c.AcceptEdited(fromI, len(block), bytes.Repeat([]byte{^byte(n)}, len(block)))
		} else {
			c.Accept(fromI, len(block))
		}
		if n >= 40 { // all of it is still there
			expect(t, c, fromI, data(i(sent), r(0), string(block)), Forward, none)
			want := block[0]
			if n%5 == 0 {
				want = ^want
			}
			if got := c.Rewritten(fromI); got[0] != want {
				t.Fatalf("block %d sent as %x, want %x", n, got[0], want)
			}
		}
		sent += len(block)
		if n%10 == 9 {
			expect(t, c, fromR, data(r(0), i(sent-300), ""), Forward, none)
		}
	}
	expect(t, c, fromR, data(r(0), i(sent), ""), Forward, none)
	if s := memory.Stats(); s.Used != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestIdleConnectionIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 768 {
		t.Fatalf("a connection takes %d bytes before its buffers", size)
	}
	memory := NewMemory(0)
	const n = 10000
	conns := make([]*Conn, 0, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		c := open(t, Limits{Memory: memory})
		expect(t, c, fromI, data(i(0), r(0), "a request"), Judge, none)
		c.Accept(fromI, 9)
		expect(t, c, fromR, data(r(0), i(9), "its response"), Judge, none)
		c.Accept(fromR, 12)
		expect(t, c, fromI, data(i(9), r(12), ""), Forward, none)
		conns = append(conns, c)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	if each > 1024 {
		t.Fatalf("%d bytes for each idle connection", each)
	}
	t.Logf("%d bytes for each idle connection", each)
	runtime.KeepAlive(conns)
}

// roundTrip is a request and its response, each acknowledged by the next segment.
func roundTrip(c *Conn, at uint32, request, response []byte) bool {
	s := Segment{Seq: i(0) + at*uint32(len(request)), Ack: r(0) + at*uint32(len(response)), Flags: ACK | PSH, Window: 65535, Options: optionsTimestamp, Payload: request}
	if c.Offer(fromI, &s).Disposition != Judge {
		return false
	}
	c.Accept(fromI, len(c.Pending(fromI)))
	s = Segment{Seq: s.Ack, Ack: s.Seq + uint32(len(request)), Flags: ACK | PSH, Window: 65535, Options: optionsTimestamp, Payload: response}
	if c.Offer(fromR, &s).Disposition != Judge {
		return false
	}
	c.Accept(fromR, len(c.Pending(fromR)))
	return true
}

func TestInOrderAllocatesNothing(t *testing.T) {
	for _, size := range []int{12, 260, 1448} {
		c := open(t, Limits{})
		request, response := make([]byte, 12), make([]byte, size)
		at := uint32(0)
		if n := testing.AllocsPerRun(1000, func() {
			if !roundTrip(c, at, request, response) {
				t.Fatal("not judged")
			}
			at++
		}); n != 0 {
			t.Errorf("%d bytes: %v allocations for each round trip", size, n)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, tt := range []struct {
		name string
		size int
	}{{"12", 12}, {"260", 260}, {"1448", 1448}} {
		b.Run(tt.name, func(b *testing.B) {
			c := open(b, Limits{})
			request, response := make([]byte, 12), make([]byte, tt.size)
			b.ReportAllocs()
			for n := range b.N {
				if !roundTrip(c, uint32(n), request, response) {
					b.Fatal("not judged")
				}
			}
		})
	}
}

func BenchmarkAcknowledgment(b *testing.B) {
	c := open(b, Limits{})
	s := data(i(0), r(0), "")
	b.ReportAllocs()
	for b.Loop() {
		if c.Offer(fromI, &s).Disposition != Forward {
			b.Fatal("not forwarded")
		}
	}
}
