package datapath

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
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

func mapQueues(m *ebpf.Map) (*queues, error) {
	size := wholePages(maxQueues * int(m.ValueSize()))
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
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

// Beat is the heartbeat of a queue's verdict loop. It is called by that loop itself, and costs
// a clock reading and a store.
func (d *Datapath) Beat(q Queue) { d.BeatAt(q, time.Now()) }

// BeatAt is Beat for a loop that has just read the clock.
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
func (d *Datapath) Rest(q Queue) {
	var last uint64 // never, where the machine has not run for that long
	if now, silence := d.epoch.now(), uint64(d.config.HeartbeatTimeout)+1; now > silence {
		last = now - silence
	}
	atomic.StoreUint64(&d.queues.states[q].Beat, last)
}

// LastBeat is when a queue's verdict loop last showed itself, in CLOCK_MONOTONIC; 0 for never.
func (d *Datapath) LastBeat(q Queue) time.Duration {
	return time.Duration(atomic.LoadUint64(&d.queues.states[q].Beat))
}

// BeatAge is how long ago a queue's verdict loop last showed itself.
func (d *Datapath) BeatAge(q Queue) time.Duration {
	return time.Duration(d.epoch.now()) - d.LastBeat(q)
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
