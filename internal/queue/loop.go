package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
)

const (
	// slice is how long the loop works before it sends what it has and beats, even inside a
	// batch: a slow handler may delay the packets behind its own, not those before it.
	slice = 5 * time.Millisecond

	// yieldAfter is how long the loop keeps its processor. The Go runtime takes note of a
	// goroutine that has kept one for 10 ms, however little of that it ran, and its monitor
	// thread then interrupts it by signals. Yielding before that costs less, but it wakes a
	// thread that looks for other work, so it is not done more often than need be.
	yieldAfter = 8 * time.Millisecond

	sendAttempts = 3
)

// transport is the loop's side of a socket. Its buffers belong to the loop's goroutine.
type transport interface {
	// receive waits for datagrams, at most a few milliseconds, and returns how many it has.
	// None is no error.
	receive() (int, error)
	// drained reports whether the last receive found fewer datagrams than it asked for.
	drained() bool
	// datagram returns one of those, valid until the next receive.
	datagram(i int) []byte
	// send hands messages to the kernel, which acts on them before send returns.
	send(messages []byte) error
}

// loop receives packets and answers them. Ids are handed out by the kernel in sequence, so
// the loop knows of every packet, also of those whose message it never saw or could not read;
// such a hole is closed by a batch drop, which covers only ids that nothing else has answered,
// because all earlier answers stand before it in the same stream of messages.
type loop struct {
	socket  transport
	judge   judge
	answers answers
	counts  *counters
	beat    func(now time.Time)
	told    func(packets int, drained bool, at time.Time)
	stop    <-chan struct{}

	last    uint32 // the newest id seen, 0 before the first as in the kernel
	orphans uint32 // messages after it that had no readable id

	packet  Packet
	given   int       // answers since told was called, batch drops included
	now     time.Time // when the turn, or the current slice of it, began
	yielded time.Time
}

// run works until ctx ends, stop is closed, or the socket fails.
func (l *loop) run(ctx context.Context) error {
	l.beat(time.Now())
	for done := ctx.Done(); ; {
		// One after the other: a choice between several channels takes locks, a look at one none.
		select {
		case <-done:
			return nil
		default:
		}
		select {
		case <-l.stop:
			return nil
		default:
		}
		n, err := l.socket.receive()
		if err != nil {
			if !l.survives(err) {
				return fmt.Errorf("receive from the queue: %w", err)
			}
			// No heartbeat: a reader that gets nothing but errors is an outage.
			l.coverOrphans()
			l.flush()
			continue
		}
		l.now = time.Now()
		for i := range n {
			if i > 0 && time.Since(l.now) > slice {
				l.flushAndBeat(false)
				l.now = time.Now()
			}
			if err := l.datagram(l.socket.datagram(i)); err != nil {
				return err
			}
		}
		l.finish(l.socket.drained())
		if l.now.Sub(l.yielded) > yieldAfter {
			l.yielded = l.now
			runtime.Gosched()
		}
	}
}

// survives reports whether the loop goes on after a receive error.
func (l *loop) survives(err error) bool {
	switch {
	case errors.Is(err, syscall.ENOBUFS):
		// Packets whose message did not fit: the kernel has dropped them, their ids are a hole.
		l.counts.overruns.Add(1)
		return true
	case errors.Is(err, syscall.ENOMEM):
		return true
	}
	return false
}

// finish ends a turn: whatever was received has its answer in the kernel when it returns.
func (l *loop) finish(drained bool) {
	l.coverOrphans()
	l.flushAndBeat(drained)
}

// datagram answers everything in one datagram.
func (l *loop) datagram(b []byte) error {
	for len(b) > 0 {
		m, rest, whole := nextMessage(b)
		b = rest
		switch {
		case m.kind == messagePacket:
			l.handle(m.body, whole)
		case !whole:
			l.orphan()
		case m.kind == netlinkError:
			if err := l.rejected(m.body); err != nil {
				return err
			}
		}
	}
	return nil
}

// handle answers one packet message.
func (l *loop) handle(body []byte, whole bool) {
	p := &l.packet
	identified, err := parsePacket(body, p)
	if !identified {
		l.orphan()
		return
	}
	id := p.ID // the handler may write to the packet
	l.arrived(id)
	l.counts.packets.Add(1)
	if err != nil || !whole {
		l.counts.unparseable.Add(1)
		l.counts.dropped.Add(1)
		l.answer(id, Answer{})
		return
	}
	p.Received = l.now
	l.answer(id, l.judge.decide(p))
}

// answer writes down what was decided.
func (l *loop) answer(id uint32, a Answer) {
	l.given++
	l.makeRoom(len(a.Payload))
	if a.Accept {
		l.answers.accept(id, a.Mark, a.Payload)
	} else {
		l.answers.drop(id)
	}
}

// arrived notes an id and closes the hole before it, if there is one. The comparison is the
// kernel's, so that the wrap to 0 is no hole.
func (l *loop) arrived(id uint32) {
	ahead := int32(id - l.last)
	if ahead > 1 {
		l.makeRoom(0)
		l.answers.dropThrough(id - 1)
		l.counts.lost.Add(uint64(ahead - 1))
		l.given += int(ahead - 1)
	}
	if ahead > 0 {
		l.last = id
	}
	l.orphans = 0
}

// orphan notes a message that names no packet. The next id that arrives shows which it was.
func (l *loop) orphan() {
	l.counts.unparseable.Add(1)
	l.orphans++
}

// coverOrphans drops packets whose message could not be read when nothing came after them
// that would say which they were: they are the ids that follow the last.
func (l *loop) coverOrphans() {
	if l.orphans == 0 {
		return
	}
	l.last += l.orphans
	l.counts.lost.Add(uint64(l.orphans))
	l.given += int(l.orphans)
	l.orphans = 0
	l.makeRoom(0)
	l.answers.dropThrough(l.last)
}

// rejected acts on an error that the kernel sent back.
func (l *loop) rejected(body []byte) error {
	r, ok := parseRejection(body)
	switch {
	case !ok:
		l.counts.unparseable.Add(1)
	case r.errno == 0:
	case r.kind == messageConfig:
		return fmt.Errorf("switch the queue to copying packets: %w", syscall.Errno(r.errno))
	case r.kind == messageVerdict:
		l.counts.refuse.Add(1)
		if syscall.Errno(r.errno) != syscall.ENOENT {
			// The packet may still wait. Everything before it was answered long ago, so the
			// batch drop touches no other; and a batch drop that is refused is not repeated.
			l.makeRoom(0)
			l.answers.dropThrough(r.sequence)
		}
	}
	return nil
}

// makeRoom sends what is collected if an answer with such a payload would not fit beside it.
func (l *loop) makeRoom(payload int) {
	if !l.answers.room(payload) {
		l.flush()
	}
}

// flush sends the collected answers and reports whether the kernel has taken them. If not,
// their packets are dropped by one short message that goes out with the next flush, at the
// latest when receive has waited.
func (l *loop) flush() bool {
	if len(l.answers.buf) == 0 {
		return true
	}
	err := l.send()
	l.answers.buf = l.answers.buf[:0]
	if err == nil {
		return true
	}
	l.counts.sendErrors.Add(1)
	l.answers.dropThrough(l.last)
	return false
}

// flushAndBeat says that the loop is alive, unless it could not say its verdicts: a reader
// that no packet gets through is an outage, however busy it is.
func (l *loop) flushAndBeat(drained bool) {
	if l.flush() {
		l.told(l.given, drained, l.now)
		l.given = 0
		l.beat(l.now)
	}
}

// send writes the collected answers, trying again where the kernel had no memory.
func (l *loop) send() (err error) {
	for range sendAttempts {
		if err = l.socket.send(l.answers.buf); err == nil {
			return nil
		}
	}
	return err
}
