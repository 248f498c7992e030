package datapath

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
)

// The programs count conduits by their number, which is another one in each generation. What was
// counted before is kept here by name, so that a conduit which keeps its name goes on counting when
// the policy changes, and when the daemon does. One that a policy leaves out begins anew when a later
// one has it again.
//
// A generation's tallies are made whole from the generation before: its tallies, and what its
// programs had counted when the last of them was done. Nothing of that changes afterwards until the
// next policy is applied, so that whoever finds the step undone, after a crash, may do it again.

// Messages is what the slow path decided on the messages of one conduit.
type Messages struct{ Allowed, Denied uint64 }

// nameKey stands for a conduit's name in the kernel; never 0.
func nameKey(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.NativeEndian.Uint64(sum[:]) | 1
}

// nameConduits writes down what the conduits of the next generation are called, with nothing counted
// before.
func (d *Datapath) nameConduits(index uint32, plan *policy.Plan) error {
	tallies := make([]bpf.BridgeTally, len(plan.Conduits))
	for i := 1; i < len(tallies); i++ {
		tallies[i].Name = nameKey(plan.Conduits[i].Name)
	}
	if _, err := d.objects.Tallies.BatchUpdate(counterKeys(index, len(tallies)), tallies, nil); err != nil {
		return fmt.Errorf("name the conduits' counters: %w", err)
	}
	return nil
}

// settle completes the tallies of the generation in force, unless they are. Callers hold countMu.
func (d *Datapath) settle() error {
	generation := d.control.generation()
	if generation == 0 || d.control.tallied() == generation {
		return nil
	}
	if err := d.tally(generation & 1); err != nil {
		return fmt.Errorf("carry the conduits' counters over: %w", err)
	}
	d.control.setTallied(generation)
	return nil
}

func (d *Datapath) tally(index uint32) error {
	if err := d.awaitPrograms(index ^ 1); err != nil {
		return err
	}
	before, err := d.tallyOf(index ^ 1)
	if err != nil {
		return err
	}
	sums := make(map[uint64]bpf.BridgeTally, len(before))
	for i, t := range before {
		if i == 0 {
			continue // what no conduit is about goes on under no name
		}
		live, err := d.counted(index^1, uint32(i))
		if err != nil {
			return err
		}
		t.Frames = add(t.Frames, live)
		sums[t.Name] = t
	}
	now, err := d.tallyOf(index)
	if err != nil {
		return err
	}
	for i := range now {
		if t, ok := sums[now[i].Name]; ok && i > 0 {
			now[i] = t
		}
	}
	_, err = d.objects.Tallies.BatchUpdate(counterKeys(index, len(now)), now, nil)
	return err
}

// awaitPrograms returns when no program works with the half any more that is not in force: the kernel
// waits for them whenever a map behind another one is exchanged, here for itself.
func (d *Datapath) awaitPrograms(index uint32) error {
	var inner *ebpf.Map
	err := d.objects.Macs.Lookup(index, &inner)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil // there was no policy before
	}
	if err != nil {
		return fmt.Errorf("look for the tables before: %w", err)
	}
	defer inner.Close()
	return d.objects.Macs.Put(index, inner)
}

// tallyOf reads the tallies of the generation that a half is of, indexed by conduit.
func (d *Datapath) tallyOf(index uint32) ([]bpf.BridgeTally, error) {
	var of bpf.BridgePolicyDefaults
	if err := d.objects.Defaults.Lookup(index, &of); err != nil {
		return nil, fmt.Errorf("read the policy's defaults: %w", err)
	}
	tallies := make([]bpf.BridgeTally, min(of.Conduits, maxConduits))
	for i := range tallies {
		if err := d.objects.Tallies.Lookup(index*maxConduits+uint32(i), &tallies[i]); err != nil {
			return nil, fmt.Errorf("read the tally of conduit %d: %w", i, err)
		}
	}
	return tallies, nil
}

// counted reads what a generation's programs have counted of one conduit.
func (d *Datapath) counted(index, conduit uint32) (sum bpf.BridgeConduitCounter, err error) {
	var perCPU []bpf.BridgeConduitCounter
	if err := d.objects.ConduitCounters.Lookup(index*maxConduits+conduit, &perCPU); err != nil {
		return sum, fmt.Errorf("read the counter of conduit %d: %w", conduit, err)
	}
	for _, c := range perCPU {
		sum = add(sum, c)
	}
	sum.Allowed += d.known.of(index, conduit)
	return sum, nil
}

func add(a, b bpf.BridgeConduitCounter) bpf.BridgeConduitCounter {
	return bpf.BridgeConduitCounter{
		Allowed: a.Allowed + b.Allowed, Denied: a.Denied + b.Denied,
		Uninspected: a.Uninspected + b.Uninspected, Inspected: a.Inspected + b.Inspected,
	}
}

// KeepMessages writes down what the slow path has decided, by the name of the conduit, so that the
// next daemon can go on from there.
func (d *Datapath) KeepMessages(of func(conduit string) Messages) error {
	d.countMu.Lock()
	defer d.countMu.Unlock()
	g := d.plans.Load()
	if g == nil || d.control.tallied() != g.current {
		return nil // the next time
	}
	for i := 1; i < len(g.plan.Conduits); i++ {
		if !g.plan.Conduits[i].Inspect {
			continue
		}
		m := of(g.plan.Conduits[i].Name)
		at := (g.current&1)*maxConduits + uint32(i)
		var t bpf.BridgeTally
		if err := d.objects.Tallies.Lookup(at, &t); err != nil {
			return fmt.Errorf("read the tally of conduit %d: %w", i, err)
		}
		if t.MessagesAllowed == m.Allowed && t.MessagesDenied == m.Denied {
			continue
		}
		t.MessagesAllowed, t.MessagesDenied = m.Allowed, m.Denied
		if err := d.objects.Tallies.Put(at, &t); err != nil {
			return fmt.Errorf("write the tally of conduit %d: %w", i, err)
		}
	}
	return nil
}

// KeptMessages returns what a daemon before wrote down of the conduit of that name, be it one of another layout.
func (d *Datapath) KeptMessages() (of func(conduit string) Messages, err error) {
	d.countMu.Lock()
	defer d.countMu.Unlock()
	kept := map[uint64]Messages{}
	if generation := d.control.generation(); generation != 0 {
		if err := d.settle(); err != nil {
			return nil, err
		}
		tallies, err := d.tallyOf(generation & 1)
		if err != nil {
			return nil, err
		}
		for _, t := range tallies {
			kept[t.Name] = Messages{t.MessagesAllowed, t.MessagesDenied}
		}
	}
	for _, p := range d.before {
		tallies, err := p.tallies()
		if err != nil {
			p.lack("counters of messages", err)
		}
		for name, t := range tallies {
			kept[name] = Messages{max(kept[name].Allowed, t.MessagesAllowed), max(kept[name].Denied, t.MessagesDenied)}
		}
	}
	return func(conduit string) Messages { return kept[nameKey(conduit)] }, nil
}

// InForce returns the hash, in hexadecimal, and the version of the policy that the maps hold; 0 and ""
// where they hold none.
func (d *Datapath) InForce() (hash string, version uint64, err error) {
	generation := d.control.generation()
	if generation == 0 {
		return "", 0, nil
	}
	var of bpf.BridgePolicyDefaults
	if err := d.objects.Defaults.Lookup(generation&1, &of); err != nil {
		return "", 0, fmt.Errorf("read the policy's defaults: %w", err)
	}
	return hex.EncodeToString(of.Policy[:]), of.Version, nil
}

// Recall names the records of a generation that a daemon before put in force, whose policy is plan.
// It has to be called before Apply.
func (d *Datapath) Recall(plan *policy.Plan, version uint64) {
	d.applyMu.Lock()
	defer d.applyMu.Unlock()
	if generation := d.control.generation(); generation != 0 && d.plans.Load() == nil {
		d.plans.Store(&generations{current: generation, plan: plan, version: version})
	}
}

func (c *control) tallied() uint32     { return atomic.LoadUint32(&c.block.Tallied) }
func (c *control) setTallied(g uint32) { atomic.StoreUint32(&c.block.Tallied, g) }
