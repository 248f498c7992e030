package datapath

import (
	"fmt"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// ReasonCount is how often the fast path decided for a reason.
type ReasonCount struct {
	Frames, Bytes uint64
	EventsLost    uint64 // decisions that were counted and not told
}

// Reasons reads the counters of all reasons, summed over the CPUs.
func (d *Datapath) Reasons() ([verdict.ReasonCount]ReasonCount, error) {
	var sums [verdict.ReasonCount]ReasonCount
	for reason := range sums {
		var perCPU []bpf.BridgeReasonCounter
		if err := d.objects.Reasons.Lookup(uint32(reason), &perCPU); err != nil {
			return sums, fmt.Errorf("read the counter of %s: %w", verdict.Reason(reason), err)
		}
		for _, c := range perCPU {
			sums[reason].Frames += c.Frames
			sums[reason].Bytes += c.Bytes
			sums[reason].EventsLost += c.EventsLost
		}
	}
	return sums, nil
}

// ConduitCount is what the fast path did with the frames of one conduit.
type ConduitCount struct {
	Allowed     uint64 // redirected
	Denied      uint64 // refused, or forwarded on an observed conduit although refused
	Inspected   uint64 // handed to the slow path
	Uninspected uint64 // forwarded in an outage, because the conduit opens
}

// Conduits reads the counters of the conduits of the generation in force, indexed by conduit. They
// hold what was counted under the same name before, by policies and daemons without a gap between.
func (d *Datapath) Conduits() ([]ConduitCount, error) {
	d.countMu.Lock()
	defer d.countMu.Unlock()
	if err := d.settle(); err != nil {
		return nil, err
	}
	g := d.plans.Load()
	if g == nil {
		return nil, nil
	}
	index := g.current & 1
	tallies, err := d.tallyOf(index)
	if err != nil {
		return nil, err
	}
	counts := make([]ConduitCount, len(tallies))
	for i, t := range tallies {
		live, err := d.counted(index, uint32(i))
		if err != nil {
			return nil, err
		}
		sum := add(t.Frames, live)
		counts[i] = ConduitCount{Allowed: sum.Allowed, Denied: sum.Denied, Inspected: sum.Inspected, Uninspected: sum.Uninspected}
	}
	return counts, nil
}

// Copies reads how many frames of observed conduits were copied, and how many found no room.
func (d *Datapath) Copies() (copied, lost uint64, err error) {
	var perCPU []bpf.BridgeTapCounter
	if err := d.objects.TapCounters.Lookup(uint32(0), &perCPU); err != nil {
		return 0, 0, fmt.Errorf("read the counters of copies: %w", err)
	}
	for _, c := range perCPU {
		copied += c.Copied
		lost += c.Lost
	}
	return copied, lost, nil
}

// LinkControl reads how many frames of link-local control traffic were forwarded, and their bytes, by
// the side that they came from.
func (d *Datapath) LinkControl(side policy.Side) (frames, bytes uint64, err error) {
	var perCPU []bpf.BridgeControlCounter
	if err := d.objects.ControlCounters.Lookup(uint32(side), &perCPU); err != nil {
		return 0, 0, fmt.Errorf("read the counters of link-local traffic: %w", err)
	}
	for _, c := range perCPU {
		frames += c.Frames
		bytes += c.Bytes
	}
	return frames, bytes, nil
}
