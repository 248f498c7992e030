package datapath

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/bpf"
)

// What bpf/types.h says of an entry of the flow table.
const (
	entriesAround = 16
	spillShare    = 4

	entryFree      = 0
	entryBusy      = 1
	entryLive      = 2
	entryStateMask = 3

	sumBytesShift = 8
	sumFramesMask = 0xff
)

// tableEntries is how many entries a table for so many flows has: one for each, in whole neighbourhoods, and
// those for what spills. More than there can be is left to the kernel to refuse.
func tableEntries(flows uint32) uint32 {
	const unit = entriesAround * spillShare
	homes := (uint64(flows) + unit - 1) / unit * unit
	return uint32(min(homes+homes/spillShare, math.MaxUint32))
}

// flowCapacity is how many of a table's entries are homes, which is how many flows it is for, and how
// many are for what spills.
func flowCapacity(flows *ebpf.Map) (homes, spill uint32) {
	spill = flows.MaxEntries() / (spillShare + 1)
	return flows.MaxEntries() - spill, spill
}

// flowTable is the flow table, mapped into this process. It is only read: what removes a flow is the
// program expire. Safe for concurrent use; after close it is empty.
type flowTable struct {
	mu       sync.RWMutex // held for reading by who reads the memory
	memory   [2][]byte
	flows    []bpf.BridgeFlow
	records  []bpf.BridgeFlowRecord
	capacity int
}

func mapTable(flows, records *ebpf.Map) (*flowTable, error) {
	t := &flowTable{capacity: int(flows.MaxEntries())}
	for i, m := range []*ebpf.Map{flows, records} {
		memory, err := unix.Mmap(m.FD(), 0, wholePages(int(m.ValueSize())*t.capacity), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.close()
			return nil, fmt.Errorf("map the flow table: %w", err)
		}
		t.memory[i] = memory
	}
	t.flows = unsafe.Slice((*bpf.BridgeFlow)(unsafe.Pointer(&t.memory[0][0])), t.capacity)
	t.records = unsafe.Slice((*bpf.BridgeFlowRecord)(unsafe.Pointer(&t.memory[1][0])), t.capacity)
	return t, nil
}

func (t *flowTable) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flows, t.records = nil, nil
	for i, memory := range t.memory {
		if memory == nil {
			continue
		}
		if err := unix.Munmap(memory); err != nil {
			return os.NewSyscallError("munmap", err)
		}
		t.memory[i] = nil
	}
	return nil
}

// entry is a copy of what the table has of one flow.
type entry struct {
	at     uint32
	flow   bpf.BridgeFlow
	record bpf.BridgeFlowRecord
}

// readTries is how often an entry is read that is written at the same time. The fast path is done
// with one in less than a microsecond.
const readTries = 64

// read copies an entry and its record, and is false where no flow is in it. What it copied belongs
// together, as bpf/lib/table.h has it: the version was the same before and after. The caller holds
// mu.
//
// Counters that move from the entry to the record meanwhile are waited for, but not for ever: a flow
// that ended while they moved leaves the entry's next one with a move that does not end.
func (t *flowTable) read(at uint32, e *entry) bool {
	if int(at) >= len(t.flows) {
		return false
	}
	flow, record := &t.flows[at], &t.records[at]
	for try := range readTries {
		version := atomic.LoadUint32(&flow.Version)
		switch version & entryStateMask {
		case entryFree:
			return false
		case entryBusy:
			continue
		}
		before := moves(record)
		e.at, e.flow, e.record = at, *flow, *record
		settled := moves(record) == before && (before[0]|before[1])&1 == 0
		if atomic.LoadUint32(&flow.Version) == version && (settled || try >= readTries/2) {
			e.flow.Version = version
			return true
		}
	}
	return false
}

// moves is how often the counters of each direction began or ended to move into a record.
func moves(r *bpf.BridgeFlowRecord) [2]uint32 {
	return [2]uint32{atomic.LoadUint32(&r.Moves[0]), atomic.LoadUint32(&r.Moves[1])}
}

// get is read for one entry.
func (t *flowTable) get(at uint32, e *entry) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.read(at, e)
}

// each calls f with a copy of each live flow until it returns false. Flows that come or go meanwhile
// may be missed. The fast path does not notice.
func (t *flowTable) each(f func(*entry) bool) {
	var e entry
	for at := range uint32(t.capacity) {
		if t.get(at, &e) && !f(&e) {
			return
		}
	}
}

// frames and bytes that a direction carried: what its record has, and what is still in its entry.
func (e *entry) carried(direction int) (frames, bytes uint64) {
	d, sum := &e.record.Direction[direction], uint64(e.flow.Sum[direction])
	return d.Frames + sum&sumFramesMask, d.Bytes + sum>>sumBytesShift
}

// drawSeeds makes the flow table's hashes ones that nobody can foresee. Once in the life of the maps:
// flows that are there would not be found again.
func (c *control) drawSeeds() {
	for i := range c.block.Hashes {
		seeds := &c.block.Hashes[i].Seeds
		var random [unsafe.Sizeof(*seeds)]byte
		rand.Read(random[:]) // never fails
		for j := range seeds {
			seeds[j] = binary.NativeEndian.Uint64(random[8*j:])
		}
	}
}

// What bpf/types.h says of a removal.
const (
	choices       = 256
	choicesOffset = 16
	choicesBusy   = 14
)

// remove has the kernel remove flows, each if it is still the same one, and idle unless it may be busy,
// and returns how many it removed. Their slots are free again and their identities no longer counted for them.
func (d *Datapath) remove(chosen []bpf.BridgeFlowChoice, busy bool) (removed int, err error) {
	for len(chosen) > 0 {
		n := min(len(chosen), choices)
		packet := make([]byte, choicesOffset, choicesOffset+n*int(unsafe.Sizeof(chosen[0])))
		if busy {
			packet[choicesBusy] = 1
		}
		for _, c := range chosen[:n] {
			packet = binary.NativeEndian.AppendUint32(packet, c.At)
			packet = binary.NativeEndian.AppendUint32(packet, c.Version)
		}
		ret, err := d.objects.Expire.Run(&ebpf.RunOptions{Data: packet})
		if err != nil {
			return removed, fmt.Errorf("remove flows: %w", err)
		}
		removed += int(ret)
		chosen = chosen[n:]
	}
	return removed, nil
}
