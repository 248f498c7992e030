package datapath

import (
	"fmt"

	"github.com/penstock-ot/penstock/bpf"
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

// Conduits reads the counters of the conduits of the generation in force, indexed by conduit.
func (d *Datapath) Conduits() ([]ConduitCount, error) {
	g := d.plans.Load()
	if g == nil {
		return nil, nil
	}
	counts := make([]ConduitCount, len(g.plan.Conduits))
	base := (g.current & 1) * maxConduits
	for i := range counts {
		var perCPU []bpf.BridgeConduitCounter
		if err := d.objects.ConduitCounters.Lookup(base+uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read the counter of conduit %d: %w", i, err)
		}
		for _, c := range perCPU {
			counts[i].Allowed += c.Allowed
			counts[i].Denied += c.Denied
			counts[i].Inspected += c.Inspected
			counts[i].Uninspected += c.Uninspected
		}
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
