package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// End is one end of a flow.
type End struct {
	MAC     [6]byte
	Address netip.Addr
	Port    uint16 // ICMP: the echo's identifier
}

// Tag is a VLAN tag of a flow: its EtherType and identifier.
type Tag struct {
	EtherType  uint16
	Identifier uint16
}

// Flow is one live conversation as the fast path keeps it.
type Flow struct {
	Key         uint32 // as in package mark; 0 for flows that are not inspected
	Generation  uint32
	Conduit     uint32
	Source      uint32 // identity of the initiator
	Destination uint32
	Action      verdict.Action
	Observed    bool
	Initiator   policy.Side
	Adopted     bool // begun without its SYN
	Protocol    uint8
	Tags        []Tag
	A, B        End // by side
	Created     time.Time
	Seen        time.Time
	Frames      [2]uint64 // sent by side a, by side b
	Bytes       [2]uint64
}

// FlowByKey finds the flow that a mark names. It is false for a flow that has ended.
func (d *Datapath) FlowByKey(key uint32) (Flow, bool) {
	var slot bpf.BridgeSlot
	if d.objects.Slots.Lookup(key&mark.SlotMask, &slot) != nil || slot.Slot != key {
		return Flow{}, false
	}
	var e entry
	if !d.flowTable.get(slot.At, &e) || e.record.Slot != key {
		return Flow{}, false
	}
	return flowOf(&e, d.flowClock()), true
}

// Overtaken reports whether the flow that a mark names has ended, or has gone on uninspected in an outage
// since: what waited under the mark is of before.
func (d *Datapath) Overtaken(key uint32) bool {
	var slot bpf.BridgeSlot
	if d.objects.Slots.Lookup(key&mark.SlotMask, &slot) != nil || slot.Slot != key {
		return true
	}
	var e entry
	return !d.flowTable.get(slot.At, &e) || e.record.Slot != key || e.flow.State&flowPassed != 0
}

// Flows calls f with each live flow until it returns false. Entries that come or go meanwhile
// may be missed; the line is not held up.
func (d *Datapath) Flows(f func(*Flow) bool) error {
	c, err := d.readClock()
	if err != nil {
		return err
	}
	d.flowTable.each(func(e *entry) bool {
		flow := flowOf(e, c)
		return f(&flow)
	})
	return nil
}

// staleGenerations is how many policies a flow may be behind without a frame. Its entry has the low 16
// bits of its policy's number, which must not come round.
const staleGenerations = 1 << 15

// behind is how many policies ago that of a generation was in force; negative for one that came into force
// meanwhile.
func behind(current, generation uint32) int32 { return int32(current - generation) }

// Sweep deletes flows that have been idle for longer than their limit, gives their slots back,
// and sets right how many flows each identity is counted for. It returns how many flows it
// deleted and how many are left. One goroutine at a time.
func (d *Datapath) Sweep() (expired, live int, err error) {
	now, err := d.readClock()
	if err != nil {
		return 0, 0, err
	}
	generation := d.control.generation()
	counts := map[uint32]uint32{}
	var idle, stale []bpf.BridgeFlowChoice
	stray := d.straySessions()
	owners := d.beginOwners(generation)
	d.flowTable.each(func(e *entry) bool {
		if _, ok := stray[e.record.Key]; ok {
			stray[e.record.Key] = e.record.Slot
		}
		choice := bpf.BridgeFlowChoice{At: e.at, Version: e.flow.Version}
		switch {
		case now.idle(e):
			idle = append(idle, choice)
			return true
		case behind(generation, e.record.Generation) >= staleGenerations:
			stale = append(stale, choice)
			return true
		}
		live++
		counts[owners.now(e.record.Generation, e.record.Owner)]++
		return true
	})
	owners.forget()
	if err := d.followSessions(stray); err != nil {
		return 0, live, err
	}
	if expired, err = d.remove(idle, false); err != nil {
		return expired, live, err
	}
	live += len(idle) - expired // a frame came for those, or they have ended by themselves
	gone, err := d.remove(stale, true)
	live += len(stale) - gone
	expired += gone
	if err != nil {
		return expired, live, err
	}
	return expired, live, d.correctCounts(counts, generation)
}

// owners says which numbers identities have that had others under the policies before. A flow keeps the
// numbers of the policy that it was last judged by, and would else be counted for nobody, or for somebody
// else, until its next frame.
type owners struct {
	current uint32
	ids     map[string]uint32
	plans   map[uint32]*policy.Plan
	seen    map[uint32]bool // generations that flows are of
}

// maxOwnerPlans is how many policies are remembered for that. Flows of older ones are counted for nobody.
const maxOwnerPlans = 16

// beginOwners prepares for a walk over the table under the generation in force.
func (d *Datapath) beginOwners(generation uint32) *owners {
	o := &d.owners
	o.seen = map[uint32]bool{generation: true}
	if o.plans == nil {
		o.plans = map[uint32]*policy.Plan{}
	}
	if g := d.plans.Load(); g != nil {
		for of, plan := range map[uint32]*policy.Plan{g.current: g.plan, g.previous: g.previousPlan} {
			if plan != nil {
				o.plans[of] = plan
			}
		}
	}
	if o.current == generation {
		return o
	}
	o.current, o.ids = generation, map[string]uint32{}
	if plan := o.plans[generation]; plan != nil {
		for id := range plan.Identities {
			o.ids[plan.Identities[id].Name] = uint32(id)
		}
	}
	return o
}

// now returns the number that the identity has today, 0 where it has none.
func (o *owners) now(generation, id uint32) uint32 {
	o.seen[generation] = true
	plan := o.plans[generation]
	switch {
	case generation == o.current:
		return id
	case plan == nil || int(id) >= len(plan.Identities):
		return 0
	}
	return o.ids[plan.Identities[id].Name]
}

// forget drops policies that no flow is of any more, and the oldest of too many.
func (o *owners) forget() {
	for generation := range o.plans {
		if !o.seen[generation] || o.current-generation >= maxOwnerPlans {
			delete(o.plans, generation)
		}
	}
}

// sweepBatch is how many counts one system call reads.
const sweepBatch = 2048

// correctCounts writes the counts that a walk over the table found wherever the fast path has
// others. It looks at those of all identities of the generation, and of all numbers where its policy
// is not known: what a daemon before left, or what was counted for a flow that did not come about,
// would else stay and in the end lock an identity out. Flows that began during the walk are in the
// next one. Reading a count that no identity has takes as long as reading one that matters.
func (d *Datapath) correctCounts(counts map[uint32]uint32, generation uint32) error {
	left := int(d.objects.FlowCounts.MaxEntries())
	if plan, _, ok := d.Plan(generation); ok {
		left = min(left, len(plan.Identities))
	}
	var cursor ebpf.MapBatchCursor
	keys, values := make([]uint32, min(sweepBatch, left)), make([]uint32, min(sweepBatch, left))
	for left > 0 {
		keys, values = keys[:min(len(keys), left)], values[:min(len(values), left)]
		n, err := d.objects.FlowCounts.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			if want := counts[keys[i]]; values[i] != want {
				if err := d.objects.FlowCounts.Put(keys[i], want); err != nil {
					return fmt.Errorf("correct the flow count of identity %d: %w", keys[i], err)
				}
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the flow counts: %w", err)
		}
		left -= n
	}
	return nil
}

// The bits of a flow's state (FLOW_* in bpf/types.h).
const (
	flowFinA     = 0x01
	flowFinB     = 0x02
	flowReset    = 0x04
	flowAnswered = 0x08
	flowAdopted  = 0x10
	flowPassed   = 0x20
)

// The bits of a flow's treatment.
const (
	flowObserved = 0x01
	flowInspect  = 0x10
	flowByB      = 0x20
)

const (
	protocolTCP = 6
	protocolUDP = 17
)

// flowClosed reports whether a TCP flow is over, as flow_closed in bpf/lib/flow.h.
func flowClosed(state uint8) bool {
	return state&flowReset != 0 || state&(flowFinA|flowFinB) == flowFinA|flowFinB
}

// idleLimit is how long a flow may be silent, as idle_limit in bpf/lib/flow.h.
func idleLimit(protocol, state uint8) time.Duration {
	closed := flowClosed(state)
	answered := state&flowAnswered != 0
	switch {
	case protocol == protocolTCP && closed:
		return 10 * time.Second
	case protocol == protocolTCP && answered:
		return 2 * time.Hour
	case protocol == protocolUDP && answered:
		return 180 * time.Second
	case protocol == protocolUDP:
		return 60 * time.Second
	}
	return 30 * time.Second
}

// action is the flow's verdict.
func (e *entry) action() verdict.Action {
	if e.flow.Treatment&flowInspect != 0 {
		return verdict.Inspect
	}
	return verdict.Allow
}

// initiator is the side that began the flow.
func (e *entry) initiator() policy.Side {
	if e.flow.Treatment&flowByB != 0 {
		return policy.SideB
	}
	return policy.SideA
}

// treatmentOf is what a flow's treatment says of who began it.
func treatmentOf(initiator policy.Side) uint8 {
	if initiator == policy.SideB {
		return flowByB
	}
	return 0
}

func flowOf(e *entry, c clock) Flow {
	k, w, r := &e.record.Key, &e.flow, &e.record
	f := Flow{
		Key: r.Slot, Generation: r.Generation, Conduit: uint32(w.Conduit),
		Source: r.Source, Destination: r.Destination,
		Action: e.action(), Observed: w.Treatment&flowObserved != 0,
		Initiator: e.initiator(), Adopted: w.State&flowAdopted != 0,
		Protocol: k.Protocol,
		A:        End{k.MacA, address(k.IpA[:]), networkToHost16(k.PortA)},
		B:        End{k.MacB, address(k.IpB[:]), networkToHost16(k.PortB)},
		Created:  c.wall(r.Created), Seen: c.wallOfSeen(w.Seen),
	}
	f.Tags = tagsOf(k.Tags[:])
	for i := range f.Frames {
		f.Frames[i], f.Bytes[i] = e.carried(i)
	}
	return f
}

// tagEtherType reads the kind of a tag (TAG_* in bpf/types.h).
func tagEtherType(tag uint16) uint16 {
	switch tag & 0xf000 {
	case 0x2000:
		return 0x88a8
	case 0x3000:
		return 0x9100
	}
	return 0x8100
}

func networkToHost16(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}
