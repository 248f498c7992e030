package datapath

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
)

// Queue numbers a queue of inspection and its verdict loop, see mark.Queue.
type Queue = mark.Queue

// The queues of the first lane: for conduits that close and for those that open in an outage.
const (
	QueueCloses Queue = 0
	QueueOpens  Queue = 1
)

// maxQueues is MAX_QUEUES of bpf/types.h.
const maxQueues = 2 * mark.MaxLanes

// queues is the state of all queues, mapped into this process as the control block is. Words are
// in host byte order.
type queues struct {
	memory []byte
	states []bpf.BridgeQueueState
}

// mapQueues maps the state of the queues, given by a descriptor of their map.
func mapQueues(fd int) (*queues, error) {
	size := wholePages(maxQueues * int(unsafe.Sizeof(bpf.BridgeQueueState{})))
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the state of the queues: %w", err)
	}
	first := (*bpf.BridgeQueueState)(unsafe.Pointer(&memory[0]))
	return &queues{memory: memory, states: unsafe.Slice(first, maxQueues)}, nil
}

func (q *queues) close() error { return unix.Munmap(q.memory) }

// setLanes spreads inspected flows over so many lanes. Queues beyond have no verdict loop any more,
// and when there is one again it has not been silent since.
func (d *Datapath) setLanes(lanes int) {
	d.control.setLanes(lanes)
	for q := 2 * lanes; q < maxQueues; q++ {
		atomic.StoreUint64(&d.queues.states[q].Beat, 0)
	}
}

// BeatAt is the heartbeat of a queue's verdict loop, as of a time that it has just read. It is called by that loop
// itself, and costs a store.
func (d *Datapath) BeatAt(q Queue, now time.Time) {
	atomic.StoreUint64(&d.queues.states[q].Beat, d.epoch.of(now))
}

// wasOut reports whether conduits that open are open just now, because a verdict loop of theirs does not
// show itself.
func (d *Datapath) wasOut() bool {
	for lane := range max(d.config.Lanes, 1) {
		if d.BeatAge(Queue(2*lane+1)) > d.config.HeartbeatTimeout {
			return true
		}
	}
	return false
}

// Rest withdraws a queue's heartbeat: inspection ends now, on purpose, and its conduits do at
// once what they do in an outage. How long it lasts can still be told from the heartbeat.
func (d *Datapath) Rest(q Queue) { d.queues.rest(q, d.epoch.now(), d.config.HeartbeatTimeout) }

func (q *queues) rest(of Queue, now uint64, timeout time.Duration) {
	var last uint64 // never, where the machine has not run for that long
	if silence := uint64(timeout) + 1; now > silence {
		last = now - silence
	}
	atomic.StoreUint64(&q.states[of].Beat, last)
}

// Monotonic is a time that time.Now has returned, in CLOCK_MONOTONIC, as heartbeats are.
func (d *Datapath) Monotonic(now time.Time) time.Duration { return time.Duration(d.epoch.of(now)) }

// LastBeat is when a queue's verdict loop last showed itself, in CLOCK_MONOTONIC; 0 for never.
func (d *Datapath) LastBeat(q Queue) time.Duration {
	return time.Duration(atomic.LoadUint64(&d.queues.states[q].Beat))
}

// BeatAge is how long ago a queue's verdict loop last showed itself.
func (d *Datapath) BeatAge(q Queue) time.Duration {
	return time.Duration(d.epoch.now()) - d.LastBeat(q)
}

// OpenTime is for how long conduits that open were open, as KeepOpenTime last had it; 0 for maps that
// are new.
func (d *Datapath) OpenTime() time.Duration {
	return time.Duration(atomic.LoadUint64(&d.queues.states[0].Open))
}

// KeepOpenTime writes that down for the daemon that comes after.
func (d *Datapath) KeepOpenTime(open time.Duration) {
	atomic.StoreUint64(&d.queues.states[0].Open, uint64(open))
}

// QueueStates returns a descriptor of the map of the queues' states, for OpenBeats in another process.
func (d *Datapath) QueueStates() (*os.File, error) {
	m, err := d.objects.Queues.Clone()
	if err != nil {
		return nil, fmt.Errorf("hand on the state of the queues: %w", err)
	}
	defer m.Close()
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("hand on the state of the queues: %w", err)
	}
	return os.NewFile(uintptr(fd), "queues"), nil
}

// Beats is the heartbeats of verdict loops of another process.
type Beats struct {
	queues  *queues
	epoch   epoch
	timeout time.Duration
}

// OpenBeats maps the heartbeats that a descriptor from QueueStates leads to. timeout is the age from
// which a loop is silent. Beats last as long as the process.
func OpenBeats(fd int, timeout time.Duration) (*Beats, error) {
	q, err := mapQueues(fd)
	if err != nil {
		return nil, err
	}
	return &Beats{queues: q, epoch: newEpoch(), timeout: timeout}, nil
}

// Silence is for how long a verdict loop has been silent beyond the time-out; negative for one that is
// not, and since the machine began for one that never showed itself.
func (b *Beats) Silence(q Queue) time.Duration {
	return time.Duration(b.epoch.now()-atomic.LoadUint64(&b.queues.states[q].Beat)) - b.timeout
}

// Withdraw is Rest on behalf of a loop whose process has ended. A loop that is silent already stays so
// since when it has been.
func (b *Beats) Withdraw(q Queue) {
	if b.Silence(q) < 0 {
		b.queues.rest(q, b.epoch.now(), b.timeout)
	}
}

// transit is longer than a frame takes from XDP into its queue, which is within one turn of the
// kernel's receive loop.
const transit = 5 * time.Millisecond

// Progress tells the fast path how far a verdict loop has come, for the share of the queue that
// one identity may fill (bpf/lib/share.h). It belongs to that loop.
type Progress struct {
	state  *bpf.BridgeQueueState
	handed uint64 // what had been handed over at a moment
	at     time.Time
}

// Progress returns the progress of a queue whose reader begins: nothing waits in it.
func (d *Datapath) Progress(q Queue) *Progress {
	p := &Progress{state: &d.queues.states[q]}
	atomic.StoreUint64(&p.state.Answered, atomic.LoadUint64(&p.state.Handed))
	return p
}

// Answered notes that the loop has answered so many packets since the last call. drained says that
// it then saw the queue empty: what was handed over well before is answered or lost, so that frames
// which the kernel dropped on the way take nothing from anybody's share for longer than a moment.
func (p *Progress) Answered(packets int, drained bool, now time.Time) {
	answered := p.state.Answered + uint64(packets) // nobody else writes it
	if drained {
		handed := atomic.LoadUint64(&p.state.Handed)
		if now.Sub(p.at) >= transit {
			if int64(p.handed-answered) > 0 {
				answered = p.handed
			}
			p.handed, p.at = handed, now
		}
		if int64(answered-handed) > 0 {
			answered = handed // some were late and had been taken for lost
		}
	}
	atomic.StoreUint64(&p.state.Answered, answered)
}
