package cipio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
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

// expired reports whether the consumer's watchdog has run off. Before the first frame it waits ten
// seconds at least.
func (c *consumer) expired(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	timeout := c.timeout
	if !c.started {
		timeout = max(timeout, 10*time.Second)
	}
	return now.Sub(c.seen) > timeout
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
	to       netip.AddrPort
	size     uint16
	header   bool
	interval time.Duration
	sent     atomic.Int64
	stopped  atomic.Bool

	sequence uint32
	due      time.Time
}

func (p *producer) stop() { p.stopped.Store(true) }

// node is one end's socket for cyclic frames, with everything that it consumes and produces.
type node struct {
	conn    *net.UDPConn
	packets *ipv4.PacketConn
	header  bool // consumed frames have a run/idle header
	group   sync.WaitGroup

	mu        sync.Mutex
	consumers map[uint32]*consumer
	producers []*producer
	closed    bool
}

// newNode opens the socket. It runs in the namespace of the node.
func newNode(address netip.Addr, header bool) (*node, error) {
	var lc net.ListenConfig
	lc.Control = func(_, _ string, c syscall.RawConn) error {
		var err error
		if controlled := c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
		}); controlled != nil {
			return controlled
		}
		return err
	}
	// Not bound to the address: what is sent to a group is for this socket, too.
	conn, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", IOPort))
	if err != nil {
		return nil, fmt.Errorf("listen for I/O on %v: %w", address, err)
	}
	n := &node{conn: conn.(*net.UDPConn), header: header, consumers: map[uint32]*consumer{}}
	n.packets = ipv4.NewPacketConn(conn)
	raw, err := n.conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen for I/O on %v: %w", address, err)
	}
	n.group.Add(2)
	go n.receive()
	go n.run(raw)
	return n, nil
}

func (n *node) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.conn.Close()
	n.group.Wait()
}

func (n *node) receive() {
	defer n.group.Done()
	buf, oob := make([]byte, 2048), make([]byte, 128)
	for {
		size, more, _, from, err := n.conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return
		}
		now := received(oob[:more])
		items, err := readItems(buf[:size])
		if err != nil || len(items) != 2 || items[0].kind != itemSequencedAddress || len(items[0].data) != 8 || items[1].kind != itemConnected {
			continue
		}
		n.mu.Lock()
		c := n.consumers[little.Uint32(items[0].data)]
		n.mu.Unlock()
		if c != nil {
			c.take(now, from.Addr().Unmap(), little.Uint32(items[0].data[4:]), items[1].data, n.header)
		}
	}
}

// received is when the kernel took a frame in: how late this program reads it is not the line's
// doing.
func received(oob []byte) time.Time {
	const header = unix.SizeofCmsghdr
	if len(oob) < header+16 || little.Uint32(oob[8:]) != unix.SOL_SOCKET || little.Uint32(oob[12:]) != unix.SCM_TIMESTAMPNS {
		return time.Now()
	}
	return time.Unix(int64(little.Uint64(oob[header:])), int64(little.Uint64(oob[header+8:])))
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
func (n *node) run(raw syscall.RawConn) {
	defer n.group.Done()
	runtime.LockOSThread() // for good: the thread ends with its priority
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	_ = raw.Control(func(fd uintptr) {
		for {
			wait, ok := n.sendDue(int(fd))
			if !ok {
				return
			}
			pause := unix.NsecToTimespec(int64(max(wait, 10*time.Microsecond)))
			_ = unix.Nanosleep(&pause, nil)
		}
	})
}

// sendDue sends one frame of each producer whose time has come, and returns how long there is nothing
// to send.
func (n *node) sendDue(fd int) (wait time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, next := time.Now(), time.Now().Add(idle)
	n.producers = slices.DeleteFunc(n.producers, func(p *producer) bool { return p.stopped.Load() })
	for _, p := range n.producers {
		if !p.due.After(now) {
			p.send(fd)
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
func (p *producer) send(fd int) {
	p.sequence++
	to := &unix.SockaddrInet4{Port: int(p.to.Port()), Addr: p.to.Addr().As4()}
	_ = unix.Sendto(fd, frameOf(p.id, p.sequence, p.size, p.header, time.Now()), unix.MSG_DONTWAIT, to)
	p.sent.Add(1)
}

// frameOf is a cyclic frame whose data has size bytes, sequence count and run/idle header included.
func frameOf(id, sequence uint32, size uint16, header bool, now time.Time) []byte {
	address := little.AppendUint32(nil, id)
	address = little.AppendUint32(address, sequence)
	data := make([]byte, size)
	at := 0
	if len(data) >= 2 {
		little.PutUint16(data, uint16(sequence))
		at = 2
	}
	if header && len(data) >= at+runHeader {
		data[at] = 1
		at += runHeader
	}
	if len(data) >= at+stampSize {
		little.PutUint64(data[at:], uint64(now.UnixNano()))
	}
	return appendItems(nil, item{itemSequencedAddress, address}, item{itemConnected, data})
}

// Frame is a cyclic frame as an originator sends it, with a run/idle header, for those who forge one.
func Frame(id, sequence uint32, size uint16) []byte {
	return frameOf(id, sequence, size, true, time.Time{})
}
