package cipio

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// stampSize is what a frame's data begins with behind the sequence count: when it was sent.
const stampSize = 8

// runHeader is the length of the run/idle header; bit 0 says run (CIP volume 1, 3-6.1.4).
const runHeader = 4

// Count is what a consumer has received.
type Count struct {
	Frames  int
	Lost    int // sequence numbers that never came
	Old     int // frames whose number had been received already, or was older
	Unequal int // frames of another size
	// Delays are how long frames were under way, in the order of their coming.
	Delays []time.Duration
}

// consumer is the receiving end of one direction.
type consumer struct {
	source  netip.Addr
	size    uint16
	timeout time.Duration

	mu       sync.Mutex
	count    Count
	started  bool
	over     bool // the watchdog ran off before the last frame, which came too late
	sequence uint32
	seen     time.Time
}

// maxDelays bounds what is kept of one direction.
const maxDelays = 1 << 20

func (c *consumer) take(now time.Time, from netip.Addr, sequence uint32, data []byte, header bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead := int32(sequence - c.sequence)
	switch {
	case from != c.source:
		return
	case len(data) != int(c.size):
		c.count.Unequal++
		return
	case c.started && ahead <= 0:
		c.count.Old++
		return
	case c.started:
		c.count.Lost += int(ahead) - 1
	}
	c.over = c.over || c.started && now.Sub(c.seen) > c.timeout
	c.started, c.sequence, c.seen = true, sequence, now
	c.count.Frames++
	at := 2
	if header {
		at += runHeader
	}
	if len(data) >= at+stampSize && len(c.count.Delays) < maxDelays {
		if sent := int64(little.Uint64(data[at:])); sent != 0 {
			c.count.Delays = append(c.count.Delays, time.Duration(now.UnixNano()-sent))
		}
	}
}

// expired reports whether the consumer's watchdog has run off, which frames that come later do not undo. Before
// the first frame it waits ten seconds at least.
func (c *consumer) expired(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	timeout := c.timeout
	if !c.started {
		timeout = max(timeout, 10*time.Second)
	}
	return c.over || now.Sub(c.seen) > timeout
}

func (c *consumer) read() Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.count
	count.Delays = append([]time.Duration(nil), c.count.Delays...)
	return count
}

// producer is the sending end of one direction.
type producer struct {
	id       uint32
	to       *unix.RawSockaddrInet4
	size     uint16
	header   bool
	interval time.Duration
	sent     atomic.Int64
	stopped  atomic.Bool

	sequence uint32
	frame    []byte
	due      time.Time
}

// consumerAt is where the consumer of an address receives.
func consumerAt(a netip.Addr) *unix.RawSockaddrInet4 {
	networkOrder := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, IOPort))
	return &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder, Addr: a.As4()}
}

func (p *producer) stop() { p.stopped.Store(true) }

// node is one end's socket for cyclic frames, with everything that it consumes and produces.
type node struct {
	socket socket
	header bool // consumed frames have a run/idle header
	thread int  // that sends
	group  sync.WaitGroup

	mu        sync.Mutex
	consumers map[uint32]*consumer
	producers []*producer
	closed    bool
}

// newNode opens the socket. It runs in the namespace of the node.
func newNode(address netip.Addr, header bool) (*node, error) {
	s, err := openSocket()
	if err != nil {
		return nil, fmt.Errorf("listen for I/O on %v: %w", address, err)
	}
	n := &node{socket: s, header: header, consumers: map[uint32]*consumer{}}
	n.group.Add(2)
	go n.receive()
	thread := make(chan int)
	go n.run(thread)
	n.thread = <-thread
	return n, nil
}

// keepTo has the node send on one core from now on.
func (n *node) keepTo(core int) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(n.thread, &set); err != nil {
		return fmt.Errorf("keep a producer to core %d: %w", core, err)
	}
	return nil
}

func (n *node) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.socket.wake()
	n.group.Wait()
	n.socket.close()
}

func (n *node) receive() {
	defer n.group.Done()
	buf, oob := make([]byte, 2048), make([]byte, 128)
	for {
		b, from, at := n.socket.receive(buf, oob)
		if n.isClosed() {
			return
		}
		items, err := readItems(b)
		if err != nil || len(items) != 2 || items[0].kind != itemSequencedAddress || len(items[0].data) != 8 || items[1].kind != itemConnected {
			continue
		}
		n.mu.Lock()
		c := n.consumers[little.Uint32(items[0].data)]
		n.mu.Unlock()
		if c != nil {
			c.take(at, from, little.Uint32(items[0].data[4:]), items[1].data, n.header)
		}
	}
}

func (n *node) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

func (n *node) consume(id uint32, source netip.Addr, d direction, timeout time.Duration) *consumer {
	c := &consumer{source: source, size: d.size, timeout: timeout, seen: time.Now()}
	n.mu.Lock()
	n.consumers[id] = c
	n.mu.Unlock()
	return c
}

func (n *node) forget(id uint32) {
	n.mu.Lock()
	delete(n.consumers, id)
	n.mu.Unlock()
}

// produce sends until the producer is stopped or the node closed.
func (n *node) produce(p *producer) {
	p.due = time.Now()
	n.mu.Lock()
	n.producers = append(n.producers, p)
	n.mu.Unlock()
}

// idle is how long a node without anything to send waits before it looks again.
const idle = time.Millisecond

// run sends what is due, on a thread of its own that goes before others where it may: how even a
// producer is must not be what a measurement shows of the line.
func (n *node) run(thread chan<- int) {
	defer n.group.Done()
	beginRealTime()
	defer endRealTime()
	thread <- unix.Gettid()
	for {
		wait, ok := n.sendDue()
		if !ok {
			return
		}
		sleep(max(wait, 10*time.Microsecond))
	}
}

// sendDue sends one frame of each producer whose time has come, and returns how long there is nothing
// to send.
func (n *node) sendDue() (wait time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, next := time.Now(), time.Now().Add(idle)
	n.producers = slices.DeleteFunc(n.producers, func(p *producer) bool { return p.stopped.Load() })
	for _, p := range n.producers {
		if !p.due.After(now) {
			p.send(n.socket)
			// Each at its own time: a late one is no reason for all after it to be late.
			if p.due = p.due.Add(p.interval); now.Sub(p.due) > 10*p.interval {
				p.due = now // the machine was away for long
			}
		}
		if p.due.Before(next) {
			next = p.due
		}
	}
	return time.Until(next), !n.closed
}

// send sends one frame. A host that is not known yet, or a port that is closed, is for the consumer to
// notice.
func (p *producer) send(s socket) {
	p.sequence++
	if p.frame == nil {
		p.frame = frameOf(p.id, p.size, p.header)
	}
	number(p.frame, p.sequence)
	stamp(p.frame, p.header, time.Now())
	_ = s.send(p.frame, p.to)
	p.sent.Add(1)
}

// Where a cyclic frame's parts begin, in bytes.
const (
	sequenceAt = 10 // behind the number of items, the first one's header and the identifier
	dataAt     = 18
)

// frameOf is a cyclic frame whose data has size bytes, sequence count and run/idle header included.
func frameOf(id uint32, size uint16, header bool) []byte {
	address := little.AppendUint64(nil, uint64(id))
	data := make([]byte, size)
	if header && len(data) >= 2+runHeader {
		data[2] = 1
	}
	return appendItems(nil, item{itemSequencedAddress, address}, item{itemConnected, data})
}

// number gives a frame its sequence number, and the data its count.
func number(frame []byte, sequence uint32) {
	little.PutUint32(frame[sequenceAt:], sequence)
	if data := frame[dataAt:]; len(data) >= 2 {
		little.PutUint16(data, uint16(sequence))
	}
}

// stamp writes into a frame when it is sent, if there is room.
func stamp(frame []byte, header bool, now time.Time) {
	at := dataAt + 2
	if header {
		at += runHeader
	}
	if len(frame) >= at+stampSize {
		little.PutUint64(frame[at:], uint64(now.UnixNano()))
	}
}

// Frame is a cyclic frame as an originator sends it, with a run/idle header, for those who forge one.
func Frame(id, sequence uint32, size uint16) []byte {
	b := frameOf(id, size, true)
	number(b, sequence)
	return b
}
