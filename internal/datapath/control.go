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

func (c *control) setIOAdoptUntil(ns uint64) { atomic.StoreUint64(&c.block.IoAdoptUntil, ns) }

func (c *control) setHeartbeatTimeout(t time.Duration) {
	atomic.StoreUint64(&c.block.HeartbeatTimeout, uint64(t))
}

func (c *control) slotsReady() bool { return atomic.LoadUint32(&c.block.SlotsReady) != 0 }
func (c *control) setSlotsReady()   { atomic.StoreUint32(&c.block.SlotsReady, 1) }

// setFlowEntries tells the fast path how long the two parts of its table are.
func (c *control) setFlowEntries(homes, spill uint32) {
	atomic.StoreUint32(&c.block.FlowHomes, homes)
	atomic.StoreUint32(&c.block.FlowSpill, spill)
}

func (c *control) setFlowQuota(flows uint32) { atomic.StoreUint32(&c.block.FlowQuota, flows) }

func (c *control) setLanes(lanes int)           { atomic.StoreUint32(&c.block.LaneMask, uint32(lanes-1)) }
func (c *control) setQueueShare(packets uint32) { atomic.StoreUint32(&c.block.QueueShare, packets) }
