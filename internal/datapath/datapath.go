// Package datapath is the fast path seen from user space: it loads the programs of package bpf,
// pins what has to outlive the daemon, attaches to the two ports, fills the policy's maps and
// flips them, and reads events, copies, flows and counters back. Nothing else of Penstock
// speaks to eBPF.
//
// What crosses a daemon's end: the maps, by their pins, and the links, which keep the programs
// attached. A new daemon opens the pinned maps if their layout is its own, loads its programs
// against them and replaces the old ones in their links, one atomic step a link, so that no
// moment is without a program. Maps of another layout are left to the old programs until they
// are replaced, and removed afterwards; what of them has to go on is read by its names (predecessor.go).
package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
)

// LayoutVersion is the version of the pinned maps and of the metadata (LAYOUT_VERSION in
// bpf/types.h).
const LayoutVersion = 3

// Config says where the fast path lives and how patient it is.
type Config struct {
	// PinDir is a directory on a BPF file system. It is created, and removed by Remove.
	PinDir string
	// HeartbeatTimeout is the age of a verdict loop's heartbeat from which inspection counts
	// as not possible.
	HeartbeatTimeout time.Duration
	// AdoptionWindow is how long after Open connections that were there before may be adopted
	// against their conduit's direction.
	AdoptionWindow time.Duration
	// Lanes is how many cores judge, each with two queues: a power of two up to mark.MaxLanes; 0
	// is one.
	Lanes int
	// QueueShare is how many packets of one identity may wait in a queue; 0 is any number.
	QueueShare uint32
	// Flows is how many conversations the table holds; 0 is the default of bpf/maps.h. Maps
	// that are pinned already keep their size.
	Flows uint32
}

// Datapath is the loaded fast path. Its methods are safe for concurrent use.
type Datapath struct {
	config    Config
	objects   bpf.BridgeObjects
	adopted   bool
	control   *control
	queues    *queues
	flowTable *flowTable
	known     *passes
	epoch     epoch

	attachMu sync.Mutex
	links    []*portLink
	delivery *delivery     // nil where nobody watches
	generic  bool          // the ports run XDP in the kernel's generic hook
	refused  map[int]error // by index of the port: what the driver said

	before    []*predecessor // until AttachGate
	inherited []Inheritance

	clockMu sync.Mutex // program clock writes into the control block

	applyMu sync.Mutex
	countMu sync.Mutex // from the flip of a generation until its tallies are complete
	plans   atomic.Pointer[generations]
	owners  owners // the sweep's own
	io      ioTable
	faults  faults
}

// generations is what event and flow records are named by: the plan in force and the one that
// it replaced, whose records may still be in flight.
type generations struct {
	current, previous     uint32
	plan, previousPlan    *policy.Plan
	version, priorVersion uint64
}

// Open loads the programs and opens the pinned maps, or creates and pins them. Nothing is
// attached yet, and until a policy is applied to fresh maps every frame is denied. It needs the
// rights to load eBPF programs, and a BPF file system at PinDir.
func Open(config Config) (*Datapath, error) {
	d := &Datapath{config: config, epoch: newEpoch(), refused: make(map[int]error)}
	if err := d.load(); err != nil {
		return nil, err
	}
	var err error
	if d.control, err = mapControl(d.objects.Control); err != nil {
		d.objects.Close()
		return nil, err
	}
	if d.queues, err = mapQueues(d.objects.Queues.FD()); err != nil {
		return nil, errors.Join(err, d.control.close(), d.objects.Close())
	}
	if d.flowTable, err = mapTable(d.objects.Flows, d.objects.FlowRecords); err != nil {
		return nil, errors.Join(err, d.queues.close(), d.control.close(), d.objects.Close())
	}
	if d.known, err = mapPasses(d.objects.ConduitPasses); err != nil {
		return nil, errors.Join(err, d.flowTable.close(), d.queues.close(), d.control.close(), d.objects.Close())
	}
	d.adopted = d.control.generation() != 0
	homes, spill := flowCapacity(d.objects.Flows)
	d.control.setFlowEntries(homes, spill)
	if err := errors.Join(d.fillSlots(), d.setTick(), d.loadIO()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.findPredecessors(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	found := d.adopted || d.inheritBeats()
	d.control.setFlowQuota(max(homes/quotaShare, 1))
	d.setLanes(max(config.Lanes, 1))
	d.control.setQueueShare(config.QueueShare)
	d.control.setHeartbeatTimeout(config.HeartbeatTimeout)
	d.control.setAdoptUntil(monotonic() + uint64(config.AdoptionWindow))
	if found && d.wasOut() {
		d.control.setIOAdoptUntil(monotonic() + uint64(config.AdoptionWindow))
	}
	return d, nil
}

// quotaShare is the part of the flow table that the flows of one identity may fill: a fourth. A
// flood from one device then leaves room for the others.
const quotaShare = 4

// Adopted reports whether Open found maps with a policy in force, from a daemon before.
func (d *Datapath) Adopted() bool { return d.adopted }

// Generation is the number of the policy generation in force; 0 is none.
func (d *Datapath) Generation() uint32 { return d.control.generation() }

func (d *Datapath) load() (failed error) {
	spec, err := bpf.LoadBridge()
	if err != nil {
		return fmt.Errorf("read the compiled fast path: %w", err)
	}
	maps := layoutDir(d.config.PinDir, LayoutVersion)
	for name, m := range spec.Maps {
		if pinned(name) {
			m.Pinning = ebpf.PinByName
		}
	}
	fresh, err := removeRemains(maps, spec)
	if err != nil {
		return err
	}
	if fresh {
		defer func() {
			if failed != nil {
				failed = errors.Join(failed, os.RemoveAll(maps))
				_ = os.Remove(d.config.PinDir) // only if nothing else is there
			}
		}()
	}
	if err := os.MkdirAll(maps, 0o700); err != nil {
		return fmt.Errorf("make the pin directory %s: %w", maps, err)
	}
	if d.config.Flows != 0 {
		entries := tableEntries(d.config.Flows)
		for _, name := range []string{bpf.BridgeMapFlows, bpf.BridgeMapFlowHops, bpf.BridgeMapFlowRecords} {
			spec.Maps[name].MaxEntries = entries
		}
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	spec.Maps[bpf.BridgeMapConduitPasses].MaxEntries *= uint32(cpus)
	options := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: maps}}
	err = spec.LoadAndAssign(&d.objects, options)
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return fmt.Errorf("open the pinned maps in %s: %w: they are of another build with the same layout version; run penstockd down first", maps, err)
	}
	if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			return fmt.Errorf("load the fast path: the kernel's verifier refused it: %+v", verifier)
		}
		return fmt.Errorf("load the fast path: %w", err)
	}
	return nil
}

// fillSlots hands out every slot but 0, which means none: once in the life of the maps. What a
// daemon left that ended on the way is taken back first.
func (d *Datapath) fillSlots() error {
	if d.control.slotsReady() {
		return nil
	}
	d.control.drawSeeds()
	for slot := uint32(0); ; {
		err := d.objects.FreeSlots.LookupAndDelete(nil, &slot)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("empty the list of free slots: %w", err)
		}
	}
	for slot := uint32(1); slot < d.objects.Slots.MaxEntries(); slot++ {
		if err := d.objects.FreeSlots.Put(nil, slot); err != nil {
			return fmt.Errorf("fill the list of free slots at %d: %w", slot, err)
		}
	}
	d.control.setSlotsReady()
	return nil
}

// Close lets go of the fast path and leaves it working: programs stay attached, maps pinned.
func (d *Datapath) Close() error {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	var errs []error
	for _, l := range d.links {
		errs = append(errs, l.Close())
	}
	d.links = nil
	for _, p := range d.before {
		p.close()
	}
	if d.delivery != nil {
		errs = append(errs, d.delivery.close())
		d.delivery = nil
	}
	errs = append(errs, d.flowTable.close(), d.known.close(), d.control.close(), d.queues.close(), d.objects.Close())
	return errors.Join(errs...)
}

// Remove takes a fast path apart: detaches the programs, then removes every pin of every
// layout under dir. A directory that does not exist is no error.
func Remove(dir string) error {
	if err := detachAll(filepath.Join(dir, linksDir)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the pins in %s: %w", dir, err)
	}
	return nil
}
