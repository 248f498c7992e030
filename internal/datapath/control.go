package datapath

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/bpf"
)

// control is the fast path's control block, mapped into this process: a heartbeat or the flip
// of a generation is one store, not a system call. Words are in host byte order.
type control struct {
	memory []byte
	block  *bpf.BridgeControlBlock
}

func mapControl(m *ebpf.Map) (*control, error) {
	size := wholePages(int(m.ValueSize()))
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the control block: %w", err)
	}
	return &control{memory: memory, block: (*bpf.BridgeControlBlock)(unsafe.Pointer(&memory[0]))}, nil
}

// wholePages rounds up to whole pages, as mapping asks.
func wholePages(n int) int {
	page := unix.Getpagesize()
	return (n + page - 1) / page * page
}

func (c *control) close() error { return unix.Munmap(c.memory) }

func (c *control) generation() uint32     { return atomic.LoadUint32(&c.block.Generation) }
func (c *control) setGeneration(g uint32) { atomic.StoreUint32(&c.block.Generation, g) }

func (c *control) setAdoptUntil(ns uint64) { atomic.StoreUint64(&c.block.AdoptUntil, ns) }

func (c *control) setHeartbeatTimeout(t time.Duration) {
	atomic.StoreUint64(&c.block.HeartbeatTimeout, uint64(t))
}

func (c *control) slotsReady() bool { return atomic.LoadUint32(&c.block.SlotsReady) != 0 }
func (c *control) setSlotsReady()   { atomic.StoreUint32(&c.block.SlotsReady, 1) }

func (c *control) setFlowQuota(flows uint32) { atomic.StoreUint32(&c.block.FlowQuota, flows) }

// Queue names one of the two verdict loops.
type Queue int

// The queues: for conduits that close and for those that open in an outage.
const (
	QueueCloses Queue = 0
	QueueOpens  Queue = 1
)

// Beat is the heartbeat of a queue's verdict loop. It is called by that loop itself, and costs
// a clock reading and a store.
func (d *Datapath) Beat(q Queue) {
	atomic.StoreUint64(&d.control.block.Beats[q], d.epoch.now())
}

// Rest withdraws a queue's heartbeat: inspection ends now, on purpose, and its conduits do at
// once what they do in an outage. How long it lasts can still be told from the heartbeat.
func (d *Datapath) Rest(q Queue) {
	atomic.StoreUint64(&d.control.block.Beats[q], monotonic()-uint64(d.config.HeartbeatTimeout)-1)
}

// BeatAge is how long ago a queue's verdict loop last showed itself.
func (d *Datapath) BeatAge(q Queue) time.Duration {
	return time.Duration(monotonic() - atomic.LoadUint64(&d.control.block.Beats[q]))
}
