package queue

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// accept keeps every packet and marks it.
func accept(*Packet) Answer { return Answer{Accept: true, Mark: 0x60000001} }

const accepted = "accept mark 0x60000001"

func TestInvariant4OneVerdictForEachQueuedPacket(t *testing.T) {
	broken := packetMessage(header(2), attr{attributeMark, []byte{1}}, payload(60))
	anonymous := packetMessage(payload(60))
	cut := plain(2)[:60]
	tests := []struct {
		name    string
		last    uint32
		waiting []uint32
		turns   [][][]byte
		errors  map[int]error
		refuse  map[uint32]syscall.Errno
		failing int
		handle  Handler
		want    map[uint32]string
		stats   Stats
	}{
		{
			name:    "accepted with the mark",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{plain(1), plain(2)}, {plain(3)}},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 2: accepted, 3: accepted},
			stats:   Stats{Packets: 3, Accepted: 3},
		},
		{
			name:    "the zero answer drops",
			waiting: []uint32{1},
			turns:   [][][]byte{{plain(1)}},
			handle:  func(*Packet) Answer { return Answer{Mark: 1, Payload: make([]byte, 60)} },
			want:    map[uint32]string{1: "drop"},
			stats:   Stats{Packets: 1, Dropped: 1},
		},
		{
			name:    "several messages in a datagram",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{slices.Concat(plain(1), broken, plain(3))}},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 2: "drop", 3: accepted},
			stats:   Stats{Packets: 3, Accepted: 2, Dropped: 1, Unparseable: 1},
		},
		{
			name:    "edited in place",
			waiting: []uint32{1},
			turns:   [][][]byte{{plain(1)}},
			handle:  func(p *Packet) Answer { return Answer{Accept: true, Payload: p.Payload} },
			want:    map[uint32]string{1: "accept mark 0x0 edit 60"},
			stats:   Stats{Packets: 1, Accepted: 1, Edited: 1},
		},
		{
			name:    "edits of the largest kind",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{plain(1), plain(2), plain(3)}},
			handle:  func(*Packet) Answer { return Answer{Accept: true, Payload: make([]byte, maxPayload)} },
			want: map[uint32]string{1: "accept mark 0x0 edit 65531", 2: "accept mark 0x0 edit 65531",
				3: "accept mark 0x0 edit 65531"},
			stats: Stats{Packets: 3, Accepted: 3, Edited: 3},
		},
		{
			name:    "edit too long",
			waiting: []uint32{1},
			turns:   [][][]byte{{plain(1)}},
			handle:  func(*Packet) Answer { return Answer{Accept: true, Payload: make([]byte, maxPayload+1)} },
			want:    map[uint32]string{1: "drop"},
			stats:   Stats{Packets: 1, Dropped: 1, BadEdits: 1},
		},
		{
			name:    "edit too short to be a packet",
			waiting: []uint32{1},
			turns:   [][][]byte{{plain(1)}},
			handle:  func(*Packet) Answer { return Answer{Accept: true, Payload: []byte{}} },
			want:    map[uint32]string{1: "drop"},
			stats:   Stats{Packets: 1, Dropped: 1, BadEdits: 1},
		},
		{
			name:    "edit of a truncated packet",
			waiting: []uint32{1},
			turns:   [][][]byte{{packetMessage(header(1), number(attributeLength, 61), payload(60))}},
			handle: func(p *Packet) Answer {
				p.Truncated = false
				return Answer{Accept: true, Payload: p.Payload}
			},
			want:  map[uint32]string{1: "drop"},
			stats: Stats{Packets: 1, Dropped: 1, BadEdits: 1},
		},
		{
			name:    "handler panics",
			waiting: []uint32{1, 2},
			turns:   [][][]byte{{plain(1), plain(2)}},
			handle: func(p *Packet) Answer {
				if p.ID == 1 {
					panic("a bug in a dissector")
				}
				return accept(p)
			},
			want:  map[uint32]string{1: "drop", 2: accepted},
			stats: Stats{Packets: 2, Accepted: 1, Dropped: 1, Panics: 1},
		},
		{
			name:    "handler panics with nil and on an index",
			waiting: []uint32{1, 2},
			turns:   [][][]byte{{plain(1), plain(2)}},
			handle: func(p *Packet) Answer {
				if p.ID == 1 {
					panic(nil)
				}
				_ = p.Payload[int(p.Length)]
				return accept(p)
			},
			want:  map[uint32]string{1: "drop", 2: "drop"},
			stats: Stats{Packets: 2, Dropped: 2, Panics: 2},
		},
		{
			name:    "handler writes to the packet",
			waiting: []uint32{1},
			turns:   [][][]byte{{plain(1)}},
			handle: func(p *Packet) Answer {
				p.ID = 9
				return accept(p)
			},
			want:  map[uint32]string{1: accepted},
			stats: Stats{Packets: 1, Accepted: 1},
		},
		{
			name:    "unreadable attribute",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{plain(1), broken, plain(3)}},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 2: "drop", 3: accepted},
			stats:   Stats{Packets: 3, Accepted: 2, Dropped: 1, Unparseable: 1},
		},
		{
			name:    "message cut short after its id",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{plain(1), cut, plain(3)}},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 2: "drop", 3: accepted},
			stats:   Stats{Packets: 3, Accepted: 2, Dropped: 1, Unparseable: 1},
		},
		{
			name:    "message without an id, another follows",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{plain(1), anonymous, plain(3)}},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 2: "batch drop", 3: accepted},
			stats:   Stats{Packets: 2, Accepted: 2, Unparseable: 1, Lost: 1},
		},
		{
			name:    "messages without an id, nothing follows",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{plain(1), anonymous, anonymous}},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 2: "batch drop", 3: "batch drop"},
			stats:   Stats{Packets: 1, Accepted: 1, Unparseable: 2, Lost: 2},
		},
		{
			name:    "bytes that are no message, first of all",
			waiting: []uint32{1, 2},
			turns:   [][][]byte{{{1, 2, 3}}, {plain(2)}},
			handle:  accept,
			want:    map[uint32]string{1: "batch drop", 2: accepted},
			stats:   Stats{Packets: 1, Accepted: 1, Unparseable: 1, Lost: 1},
		},
		{
			name:    "leftovers of somebody else before the first id",
			waiting: []uint32{5, 6, 7},
			turns:   [][][]byte{{plain(7)}},
			handle:  accept,
			want:    map[uint32]string{5: "batch drop", 6: "batch drop", 7: accepted},
			stats:   Stats{Packets: 1, Accepted: 1, Lost: 6},
		},
		{
			name:    "the kernel lost messages",
			waiting: []uint32{1, 4},
			turns:   [][][]byte{{plain(1)}, {}, {plain(4)}},
			errors:  map[int]error{1: syscall.ENOBUFS},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 4: accepted},
			stats:   Stats{Packets: 2, Accepted: 2, Lost: 2, Overruns: 1},
		},
		{
			name:    "a process that is not the kernel",
			waiting: []uint32{1},
			turns:   [][][]byte{{nil}, {plain(1)}},
			handle:  accept,
			want:    map[uint32]string{1: accepted},
			stats:   Stats{Packets: 1, Accepted: 1},
		},
		{
			name:    "the packet is gone when its verdict comes",
			waiting: nil,
			turns:   [][][]byte{{plain(1)}},
			handle:  accept,
			want:    map[uint32]string{},
			stats:   Stats{Packets: 1, Accepted: 1, Refused: 1},
		},
		{
			name:    "the kernel rejects a verdict",
			waiting: []uint32{1, 2, 3},
			turns:   [][][]byte{{plain(1), plain(2), plain(3)}},
			refuse:  map[uint32]syscall.Errno{2: syscall.EINVAL},
			handle:  accept,
			want:    map[uint32]string{1: accepted, 2: "batch drop", 3: accepted},
			stats:   Stats{Packets: 3, Accepted: 3, Refused: 1},
		},
		{
			name:    "the kernel has no memory for a moment",
			waiting: []uint32{1},
			turns:   [][][]byte{{plain(1)}},
			failing: sendAttempts - 1,
			handle:  accept,
			want:    map[uint32]string{1: accepted},
			stats:   Stats{Packets: 1, Accepted: 1},
		},
		{
			name:    "the kernel takes no verdicts for a while",
			waiting: []uint32{1, 2, 3, 4, 5},
			turns:   [][][]byte{{plain(1), plain(2)}, {plain(3)}, {}, {}, {plain(4), plain(5)}},
			failing: 3 * sendAttempts,
			handle:  accept,
			want: map[uint32]string{1: "batch drop", 2: "batch drop", 3: "batch drop",
				4: accepted, 5: accepted},
			stats: Stats{Packets: 5, Accepted: 5, SendErrors: 3},
		},
		{
			name:    "numbers wrap around",
			last:    0xfffffffd,
			waiting: []uint32{0xfffffffe, 0xffffffff, 0, 1, 2},
			turns:   [][][]byte{{plain(0xfffffffe)}, {plain(0)}, {plain(2)}},
			handle:  accept,
			want: map[uint32]string{0xfffffffe: accepted, 0xffffffff: "batch drop", 0: accepted,
				1: "batch drop", 2: accepted},
			stats: Stats{Packets: 3, Accepted: 3, Lost: 2},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := newFakeKernel(t)
			k.waiting, k.turns, k.refuse, k.failing = test.waiting, test.turns, test.refuse, test.failing
			if test.errors != nil {
				k.errors = test.errors
			}
			l := newTestLoop(k, test.handle)
			l.last = test.last
			if err := l.run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if len(k.waiting) != 0 {
				t.Errorf("packets %v wait without a verdict", k.waiting)
			}
			got := map[uint32]string{}
			for id, v := range k.verdicts {
				got[id] = strings.Join(v, ", then ")
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("verdicts (-want +got):\n%s", d)
			}
			if d := cmp.Diff(test.stats, l.counts.stats()); d != "" {
				t.Errorf("stats (-want +got):\n%s", d)
			}
			if want := int(test.stats.Packets + test.stats.Lost); k.told != want {
				t.Errorf("the loop says that it has answered %d packets, want %d", k.told, want)
			}
		})
	}
}

// Whatever messages arrive and whatever fails meanwhile, no packet is left waiting, and none is
// accepted that the handler did not accept.
func TestInvariant4Property(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k := newFakeKernel(t)
		k.failing = rapid.IntRange(0, 2*sendAttempts).Draw(rt, "failing")
		id := uint32(0)
		good := map[uint32]bool{}
		for range rapid.IntRange(1, 6).Draw(rt, "turns") {
			var turn [][]byte
			for range rapid.IntRange(0, 5).Draw(rt, "packets") {
				id++
				m := plain(id)
				switch rapid.IntRange(0, 5).Draw(rt, "kind") {
				case 0: // the kernel could not deliver it and has dropped it
					continue
				case 1:
					m = m[:rapid.IntRange(1, len(m)-1).Draw(rt, "cut")]
				case 2:
					m = packetMessage(payload(60))
				default:
					good[id] = true
				}
				k.waiting = append(k.waiting, id)
				turn = append(turn, m)
			}
			k.turns = append(k.turns, turn)
		}
		// The last packet is a good one: only the next id says which an unreadable one was
		// when the kernel has dropped others beside it.
		k.turns = append(k.turns, nil, nil, [][]byte{plain(id + 1)})
		k.waiting = append(k.waiting, id+1)
		good[id+1] = true
		l := newTestLoop(k, accept)
		if err := l.run(context.Background()); err != nil {
			rt.Fatal(err)
		}
		if len(k.waiting) != 0 {
			rt.Fatalf("packets %v wait without a verdict", k.waiting)
		}
		if s := l.counts.stats(); k.told != int(s.Packets+s.Lost) {
			rt.Fatalf("the loop says that it has answered %d packets, and counts %+v", k.told, s)
		}
		for id, v := range k.verdicts {
			if strings.HasPrefix(v[0], "accept") && !good[id] {
				rt.Fatalf("packet %d was accepted though its message was bad", id)
			}
		}
	})
}

func TestConfigurationRefused(t *testing.T) {
	k := newFakeKernel(t)
	m := netlinkMessage{kind: messageConfig}
	k.turns = [][][]byte{{errorMessage(0, m)}, {errorMessage(syscall.EPERM, m)}}
	err := newTestLoop(k, accept).run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("run = %v, want that it is not permitted", err)
	}
}

func TestReceiveFails(t *testing.T) {
	k := newFakeKernel(t)
	k.errors = map[int]error{0: syscall.ENOMEM, 1: syscall.EBADF}
	k.turns = make([][][]byte, 5)
	err := newTestLoop(k, accept).run(context.Background())
	if err == nil || k.turn != 2 {
		t.Errorf("run = %v after %d turns, want an error after 2", err, k.turn)
	}
}

func TestContextEndsRun(t *testing.T) {
	k := newFakeKernel(t)
	k.turns = make([][][]byte, 1e6)
	ctx, cancel := context.WithCancel(context.Background())
	l := newTestLoop(k, accept)
	l.beat = func(time.Time) {
		if k.turn == 3 {
			cancel()
		}
	}
	if err := l.run(ctx); err != nil || k.turn != 3 {
		t.Errorf("run = %v after %d turns, want nil after 3", err, k.turn)
	}
}

func TestBeat(t *testing.T) {
	tests := []struct {
		name    string
		turns   [][][]byte
		errors  map[int]error // of receive, by turn
		failing int
		handle  Handler
		want    []string // what happened, in order; k.done idles once more at the end
	}{
		{
			name:   "idle",
			turns:  [][][]byte{{}, {}},
			handle: accept,
			want:   []string{"beat", "beat", "beat", "beat", "beat"},
		},
		{
			name:   "after the verdicts of a batch",
			turns:  [][][]byte{{plain(1), plain(2)}},
			handle: accept,
			want:   []string{"beat", "handle 1", "handle 2", "beat sent 1", "beat sent 1", "beat sent 1"},
		},
		{
			name:  "between slow packets",
			turns: [][][]byte{{plain(1), plain(2)}},
			handle: func(p *Packet) Answer {
				time.Sleep(slice + time.Millisecond)
				return accept(p)
			},
			want: []string{"beat", "handle 1", "beat sent 1", "handle 2", "beat sent 2", "beat sent 2", "beat sent 2"},
		},
		{
			name:    "not while no verdict goes out",
			turns:   [][][]byte{{plain(1)}, {}},
			failing: 2 * sendAttempts,
			handle:  accept,
			want:    []string{"beat", "handle 1", "beat sent 7", "beat sent 7"},
		},
		{
			name:   "not for a message that was lost",
			turns:  [][][]byte{{plain(1)}, {}, {}, {plain(2)}},
			errors: map[int]error{1: syscall.ENOBUFS, 2: syscall.ENOBUFS},
			handle: accept,
			want:   []string{"beat", "handle 1", "beat sent 1", "handle 2", "beat sent 2", "beat sent 2", "beat sent 2"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := newFakeKernel(t)
			k.turns, k.failing, k.waiting = test.turns, test.failing, []uint32{1, 2}
			if test.errors != nil {
				k.errors = test.errors
			}
			var got []string
			l := newTestLoop(k, func(p *Packet) Answer {
				got = append(got, fmt.Sprintf("handle %d", p.ID))
				return test.handle(p)
			})
			l.beat = func(time.Time) {
				if k.sends == 0 {
					got = append(got, "beat")
				} else {
					got = append(got, fmt.Sprintf("beat sent %d", k.sends))
				}
			}
			if err := l.run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// repeater delivers the same datagrams again and again.
type repeater struct{ datagrams [][]byte }

func (r *repeater) receive() (int, error) { return len(r.datagrams), nil }
func (r *repeater) drained() bool         { return false }
func (r *repeater) datagram(i int) []byte { return r.datagrams[i] }
func (r *repeater) send([]byte) error     { return nil }

func TestNoAllocationPerPacket(t *testing.T) {
	r := &repeater{}
	for i := range uint32(batch) {
		r.datagrams = append(r.datagrams, plain(i))
	}
	l := newTestLoop(newFakeKernel(t), nil)
	l.socket = r
	l.judge.handle = func(p *Packet) Answer {
		switch p.ID % 3 {
		case 0:
			return Answer{Accept: true, Payload: p.Payload}
		case 1:
			return accept(p)
		}
		return Answer{}
	}
	turn := func() {
		n, _ := r.receive()
		for i := range n {
			if err := l.datagram(r.datagram(i)); err != nil {
				t.Fatal(err)
			}
		}
		l.finish(false)
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for %d packets, want none", n, batch)
	}
}

func TestPanicIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	k := newFakeKernel(t)
	k.waiting = []uint32{1, 2}
	k.turns = [][][]byte{{plain(1), plain(2)}}
	l := newTestLoop(k, func(*Packet) Answer { panic("told you") })
	l.judge.log = textLogger(&log)
	if err := l.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "told you"); n != 1 {
		t.Errorf("the panic was logged %d times, want once:\n%s", n, &log)
	}
}

func BenchmarkLoop(b *testing.B) {
	r := &repeater{datagrams: [][]byte{plain(1)}}
	l := newTestLoop(newFakeKernel(b), accept)
	l.socket = r
	b.ReportAllocs()
	for b.Loop() {
		if err := l.datagram(r.datagram(0)); err != nil {
			b.Fatal(err)
		}
		l.finish(false)
	}
}
