package queue

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many packets one system call may fetch.
	batch = 32
	// mostSingles is how many packets are taken one at a time before more are looked for.
	mostSingles = 16
	// datagramSize holds the largest payload and every attribute beside it.
	datagramSize = 68 << 10
	// idleWait is how long a receive waits for the first packet, at most. Kernels with 100 timer ticks a
	// second stretch it to 20 ms, the longest that the heartbeat may pause. A shorter one has the
	// loops of idle queues wake more often beside those that work.
	idleWait = 10_000 // µs

	// Room in the socket for one waiting packet of common size. The kernel doubles the size
	// asked for, and accounts a little more than 2 KiB for a full Ethernet frame.
	bytesPerPacket   = 4 << 10
	minReceiveBuffer = 4 << 20
	maxReceiveBuffer = 128 << 20
)

// socket is the netlink socket, read by system calls that block the calling thread. The Go
// network poller is left out on purpose: waiting in it costs several times a verdict. Nor is the
// runtime told of the calls: of a loop that it knows to wait it takes the processor away after
// 10 ms, and whenever it has done that its monitor thread wakes every 20 µs for some milliseconds.
// A few idle loops keep it at that for ever, on the cores of those that work. So a loop holds one
// of the runtime's processors (GOMAXPROCS) as long as it waits, at most idleWait and what the
// kernel's clock adds. To stop it, as a garbage collection does, the runtime sends its thread
// a signal, which ends the wait, and another after 100 µs should the first have come too early.
//
// It is connected to the kernel. Another process that may administer the network could send to it, and
// a forged message would earn a real verdict: the kernel refuses such a message when it is sent, and no
// address has to be read with each packet or named with each answer.
type socket struct {
	fd       int
	headers  []messageHeader
	vectors  []unix.Iovec
	buffer   []byte
	asked    int // how many datagrams the last receive asked for
	received int // and how many it got
	singles  int // datagrams taken one at a time since more were looked for
}

// messageHeader is struct mmsghdr.
type messageHeader struct {
	header unix.Msghdr
	length uint32
}

// newSocket takes over fd, a bound netlink socket, and sets it up for maxLength waiting packets.
func newSocket(fd int, maxLength uint32) (*socket, error) {
	if err := configure(fd, maxLength); err != nil {
		return nil, err
	}
	s := &socket{
		fd:      fd,
		headers: make([]messageHeader, batch),
		vectors: make([]unix.Iovec, batch),
		buffer:  make([]byte, batch*datagramSize),
		asked:   1,
	}
	for i := range s.headers {
		s.vectors[i].Base = &s.buffer[i*datagramSize]
		s.vectors[i].SetLen(datagramSize)
		h := &s.headers[i].header
		h.Iov = &s.vectors[i]
		h.SetIovlen(1)
	}
	return s, nil
}

// configure connects the socket, makes it blocking with a time-out, and its buffers large.
func configure(fd int, maxLength uint32) error {
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("connect the queue's socket to the kernel: %w", err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		return fmt.Errorf("make the queue's socket blocking: %w", err)
	}
	wait := unix.Timeval{Usec: idleWait}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return fmt.Errorf("set the queue's receive time-out: %w", err)
	}
	size := min(max(uint64(maxLength)*bytesPerPacket, minReceiveBuffer), maxReceiveBuffer)
	for _, option := range []struct {
		level, name, value int
		text               string
	}{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, int(size), "receive buffer"},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2 * answersSize, "send buffer"},
		// Without it one message that does not fit makes the kernel refuse all others until the
		// buffer is empty. What does not fit is dropped and counted by the kernel either way.
		{unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1, "loss reporting"},
		// An error message then carries the header of what it answers, not all of it.
		{unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1, "error reporting"},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return fmt.Errorf("set the queue's %s (needs CAP_NET_ADMIN): %w", option.text, err)
		}
	}
	return nil
}

// receive implements transport. Looking for a second packet that is not there takes time that the
// first one's sender waits, and the call that takes one packet is cheaper than the one that takes
// many: so it takes one at a time, looks for more now and then, and goes on with as many while it
// gets them. MSG_WAITFORONE: wait for the first packet, take those that are there as well, never wait
// for a second.
func (s *socket) receive() (int, error) {
	s.choose()
	var n uintptr
	var errno syscall.Errno
	if s.asked == 1 {
		n, _, errno = unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&s.buffer[0])), datagramSize, 0, 0, 0)
		s.headers[0].length, n = uint32(n), 1
	} else {
		n, _, errno = unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(&s.headers[0])), uintptr(s.asked), unix.MSG_WAITFORONE, 0, 0)
	}
	switch errno {
	case 0:
		s.received = int(n)
		return s.received, nil
	case unix.EAGAIN:
		s.keepTime()
		return 0, nil
	case unix.EINTR: // the Go runtime preempts threads by signals
		return 0, nil
	}
	return 0, os.NewSyscallError("receive", errno)
}

// keepTime has the next wait end, should nothing come, when those of other idle queues end: at a multiple
// of idleWait. Each by itself, a few of them would wake at every tick of the kernel's clock, and be in the
// way of a loop that works on the same core as often; together they wake at a few.
func (s *socket) keepTime() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return
	}
	_ = s.waitFor(untilTogether(now.Nano())) // failing that, the wait before is as good
}

// untilTogether is how long a wait that begins at a CLOCK_MONOTONIC, in ns, may last: in µs, at least 1.
func untilTogether(now int64) int64 { return idleWait - now/1e3%idleWait }

// waitFor sets how long receive waits for the first packet, in µs; 0 is for ever.
func (s *socket) waitFor(wait int64) error {
	limit := unix.NsecToTimeval(wait * 1e3)
	return unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
}

// choose says how many datagrams the next receive asks for, by what the last one got.
func (s *socket) choose() {
	switch {
	case s.received < s.asked:
		s.asked = max(s.received, 1)
	case s.asked > 1:
		s.asked = min(2*s.asked, batch)
	default:
		if s.singles++; s.singles == mostSingles {
			s.asked = 2
		}
	}
	if s.asked > 1 {
		s.singles = 0
	}
	s.received = 0
}

// drained implements transport.
func (s *socket) drained() bool { return s.received < s.asked }

// datagram implements transport.
func (s *socket) datagram(i int) []byte {
	start := i * datagramSize
	return s.buffer[start : start+int(min(s.headers[i].length, datagramSize))]
}

// send implements transport.
func (s *socket) send(messages []byte) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(messages))), uintptr(len(messages)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("sendto", errno)
	}
	return nil
}

func (s *socket) close() error { return unix.Close(s.fd) }
