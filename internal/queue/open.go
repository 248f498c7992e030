package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"
)

const (
	// defaultMaxLength is the kernel's own.
	defaultMaxLength = 1024

	// closeWait is how long Close waits for a handler to return.
	closeWait = 2 * time.Second

	commandUnbind       = 2
	attributeCommand    = 1
	attributeParameters = 2
	copyPacket          = 2
)

// ErrClosed is returned by the methods of a queue that was closed.
var ErrClosed = errors.New("queue is closed")

// Config says which queue to open and how.
type Config struct {
	Number uint16
	// MaxLength is how many packets may wait for a verdict; more are dropped by the kernel and
	// counted in Stats.QueueFull. 0 means 1024.
	MaxLength uint32
	// FailOpen lets the kernel accept, uninspected and with the mark they came with, packets
	// that find the queue full or that cannot be handed over. Leave it false: with it a flood
	// opens the gate. It does nothing for a reader that hangs or has died.
	FailOpen bool
	// Beat is called by the verdict loop itself, after each turn of receiving and answering and
	// at least every 20 ms when there is nothing to do, so long as the kernel takes the
	// verdicts. It is told when the turn began, which the loop has read the clock for already. A
	// handler that does not return stops it. It must not block. May be nil.
	Beat func(now time.Time)
	// Answered is called by the loop before each Beat: how many packets it has answered since the
	// last call, those that were lost on their way to it included, whether it then found no more
	// waiting, and when the turn began. It must not block. May be nil.
	Answered func(packets int, drained bool, at time.Time)
	// Shared says that another process has a descriptor of the queue, from File, and lets go of what
	// waits in it: the queue is not unbound when Run returns, and what waits then does not go with it.
	Shared bool
	// Log takes what an operator has to know. May be nil.
	Log *slog.Logger
}

// Queue is an open netfilter queue. Its methods are safe for concurrent use.
type Queue struct {
	config Config
	socket *socket
	table  kernelTable
	counts counters
	stop   chan struct{} // closed by Close

	mu     sync.Mutex
	ran    bool
	closed bool
	done   chan struct{} // closed when Run has returned; nil until it is called
}

var _ Source = (*Queue)(nil)

// Open binds the queue in the network namespace of the calling thread (lock the goroutine to
// its thread if that is not the process's). Until Run is called packets for the queue are
// dropped, as they are while no process has it open. It fails if another socket has the queue.
func Open(config Config) (*Queue, error) {
	if config.MaxLength == 0 {
		config.MaxLength = defaultMaxLength
	}
	if config.Beat == nil {
		config.Beat = func(time.Time) {}
	}
	if config.Answered == nil {
		config.Answered = func(int, bool, time.Time) {}
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	table, err := openKernelTable()
	if err != nil {
		return nil, fmt.Errorf("open queue %d: %w", config.Number, err)
	}
	fd, err := bind(config)
	if err != nil {
		table.file.Close()
		return nil, fmt.Errorf("open queue %d: %w", config.Number, err)
	}
	s, err := newSocket(fd, config.MaxLength)
	if err != nil {
		unix.Close(fd)
		table.file.Close()
		return nil, fmt.Errorf("open queue %d: %w", config.Number, err)
	}
	return &Queue{config: config, socket: s, table: table, stop: make(chan struct{})}, nil
}

// bind has go-nfqueue bind and configure the queue and returns a socket that owns it.
//
// go-nfqueue starts a loop of its own with the binding, and its configuration requests fail
// when a packet arrives between a request and its reply. So it binds with copy mode "none", in
// which the kernel delivers no packets, and the switch to copying is left to Run. Then the
// socket is duplicated and go-nfqueue closed: its loop ends, without unbinding since it finds
// its own descriptor closed, and the queue lives on with the duplicate.
func bind(config Config) (fd int, err error) {
	namespace, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return -1, fmt.Errorf("open this thread's network namespace: %w", err)
	}
	defer namespace.Close()
	flags := uint32(nfqueue.NfQaCfgFlagGSO) // large packets whole, not cut up before the verdict
	if config.FailOpen {
		flags |= nfqueue.NfQaCfgFlagFailOpen
	}
	nf, err := nfqueue.Open(&nfqueue.Config{
		NetNS:       int(namespace.Fd()), // 0 would be whichever thread the library runs on
		NfQueue:     config.Number,
		MaxQueueLen: config.MaxLength,
		Copymode:    nfqueue.NfQnlCopyNone,
		Flags:       flags,
		AfFamily:    unix.AF_INET, // since Linux 3.8 a queue takes every family
	})
	if err != nil {
		return -1, fmt.Errorf("open a netfilter socket: %w", err)
	}
	defer nf.Close()
	ignore := func(nfqueue.Attribute) int { return 0 }
	endLoop := func(error) int { return 1 }
	if err := nf.RegisterWithErrorFunc(context.Background(), ignore, endLoop); err != nil {
		return -1, fmt.Errorf("bind (is another process reading it?): %w", err)
	}
	raw, err := nf.Con.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("reach the netfilter socket: %w", err)
	}
	var dupErr error
	err = raw.Control(func(original uintptr) {
		fd, dupErr = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return -1, fmt.Errorf("duplicate the netfilter socket: %w", err)
	}
	return fd, nil
}

// Run implements [Source]. Its system calls block the thread that it runs on, and the runtime
// does not know: GOMAXPROCS has to exceed the number of queues that run at once, or everything else
// in the process waits for some milliseconds at a time. The goroutine is
// not locked to its thread, because a locked one that has to yield waits for other threads to give it
// its thread back. When it returns, for whatever cause, a queue that is not shared is unbound: the kernel has
// dropped the packets that were waiting and drops those that come. An error means that the socket failed.
func (q *Queue) Run(ctx context.Context, handle Handler) error {
	done, err := q.begin()
	if err != nil {
		return fmt.Errorf("run queue %d: %w", q.config.Number, err)
	}
	defer q.end(done)
	l := newLoop(q.config, q.socket, &q.counts, handle, q.stop)
	if err := l.socket.send(copyPackets(q.config.Number)); err != nil {
		return fmt.Errorf("run queue %d: switch to copying packets: %w", q.config.Number, err)
	}
	if err := l.run(ctx); err != nil {
		return fmt.Errorf("run queue %d: %w", q.config.Number, err)
	}
	return nil
}

func newLoop(config Config, t transport, counts *counters, handle Handler, stop <-chan struct{}) *loop {
	return &loop{
		socket:  t,
		judge:   judge{handle: handle, counts: counts, log: config.Log},
		answers: newAnswers(config.Number),
		counts:  counts,
		beat:    config.Beat,
		told:    config.Answered,
		stop:    stop,
	}
}

// begin admits the only Run.
func (q *Queue) begin() (done chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	if q.ran {
		return nil, errors.New("it has been run before")
	}
	q.ran = true
	q.done = make(chan struct{})
	return q.done, nil
}

// end unbinds the queue after Run, and closes the socket if Close has given up waiting.
func (q *Queue) end(done chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// If this fails the queue is unbound already, or will be when the socket is closed.
	q.unbind()
	close(done)
	if q.closed {
		q.socket.close()
	}
}

// Stats implements [Source]. If the kernel's counters cannot be read, as after Close, the
// loop's own come with an error.
func (q *Queue) Stats() (Stats, error) {
	s := q.counts.stats()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return s, fmt.Errorf("read the state of queue %d: %w", q.config.Number, ErrClosed)
	}
	if err := q.table.fill(q.config.Number, &s); err != nil {
		return s, fmt.Errorf("read the state of queue %d: %w", q.config.Number, err)
	}
	return s, nil
}

// Close implements [Source]. A queue that is not shared is unbound at once, so that the kernel drops what waits
// in it even if a handler hangs. Close then waits up to 2 s for Run; if Run stays, Close
// returns an error and the socket is closed when Run returns.
func (q *Queue) Close() error {
	running, err := q.shut()
	if running == nil {
		return err
	}
	select {
	case <-running:
		return err
	case <-time.After(closeWait):
		return errors.Join(err, fmt.Errorf("close queue %d: a packet handler has not returned for %v",
			q.config.Number, closeWait))
	}
}

// shut marks the queue closed, and closes the socket itself if there is no Run to do it. It
// returns what closes when a Run that is under way has ended.
func (q *Queue) shut() (running chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, nil
	}
	q.closed = true
	close(q.stop)
	err = q.table.file.Close()
	if q.done == nil || isClosed(q.done) {
		return nil, errors.Join(err, q.socket.close())
	}
	q.unbind() // Run's end tries again
	return q.done, err
}

// unbind has the kernel drop what waits, unless another process lets it go.
func (q *Queue) unbind() {
	if !q.config.Shared {
		_ = q.socket.send(unbind(q.config.Number))
	}
}

// File returns a descriptor of the queue for another process, which keeps the queue bound for as long as
// it has it, and may give verdicts by ReleaseAll. The caller closes it.
func (q *Queue) File() (*os.File, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, fmt.Errorf("hand on queue %d: %w", q.config.Number, ErrClosed)
	}
	fd, err := unix.FcntlInt(uintptr(q.socket.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("hand on queue %d: %w", q.config.Number, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("queue %d", q.config.Number)), nil
}

// ReleaseAll accepts every packet that waits in a queue, as it is and with the mark that it has, through
// a descriptor from File. That none waits is no error.
func ReleaseAll(fd int, number uint16) error {
	a := answers{queue: number, buf: make([]byte, 0, 2*verdictLength)}
	// The kernel compares ids as sequence numbers are compared: each of these is behind half of them.
	for _, id := range []uint32{1<<31 - 1, 1<<32 - 1} {
		a.acceptThrough(id)
	}
	if err := unix.Sendto(fd, a.buf, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("let go of queue %d: %w", number, err)
	}
	return nil
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// copyPackets is the request to deliver packets with as much of them as an attribute can carry.
// Its acknowledgement arrives among the packets.
func copyPackets(number uint16) []byte {
	a := newAnswers(number)
	start := a.begin(messageConfig, flagRequest|flagAcknowledge, 0)
	a.attribute(attributeParameters, 5)
	a.buf = binary.BigEndian.AppendUint32(a.buf, 0xffff)
	a.buf = append(a.buf, copyPacket)
	a.end(start)
	return a.buf
}

// unbind is the request to give the queue up. The kernel drops every packet waiting in it.
func unbind(number uint16) []byte {
	a := newAnswers(number)
	start := a.begin(messageConfig, flagRequest, 0)
	a.attribute(attributeCommand, 4)
	a.buf = append(a.buf, commandUnbind, 0, 0, 0)
	a.end(start)
	return a.buf
}
