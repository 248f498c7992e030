package datapath

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/penstock-ot/penstock/bpf"
)

// A target sends to a multicast group once for all that listen, and their connections share that direction: one place, one
// sequence, one entry in the kernel's tables.

// leaveGroup ends the connections to the group of e, under its identifier, where what is sent there is past its watchdog.
// The kernel lets nothing of that through any more, and a sweep would end them soon. Until then they must not have e share
// what is over, nor keep the group from it.
func (d *Datapath) leaveGroup(e *ioEntry) error {
	in := &e.c.Input
	if !in.sends() || !in.Group.IsValid() {
		return nil
	}
	now, err := d.readClock()
	if err != nil {
		return err
	}
	for key, p := range d.io.places {
		if key.Destination != e.keys[1].Destination || key.Connection != in.Connection || !d.isOver(p.number, now) {
			continue
		}
		for _, other := range slices.Clone(p.users) {
			d.dropIO(other, IOTimedOut)
		}
	}
	return nil
}

// goOnWithout has those go on that shared a direction with a connection that was removed.
func (d *Datapath) goOnWithout(e *ioEntry) {
	if p := d.io.places[e.keys[1]]; p != nil && e.c.Input.sends() {
		_ = d.shareGroup(&e.keys[1], p) // where it fails what holds is what did, which is no less strict
	}
}

// shareGroup writes down what holds for a direction that several connections share. It has the size of the first of them,
// is watched for as long as the most patient waits, and is held to the strictest of what they are permitted under.
func (d *Datapath) shareGroup(key *bpf.BridgeIoKey, p *ioPlace) error {
	half := d.io.half(slices.MinFunc(p.users, func(a, b *ioEntry) int { return cmp.Compare(a.c.ID, b.c.ID) }), 1)
	var approval bpf.BridgeIoApproval
	for _, e := range p.users {
		half.Timeout = max(half.Timeout, uint64(e.c.Input.Timeout))
		if e.approvals[1].Generation == d.Generation() {
			approval = stricter(approval, e.approvals[1])
		}
	}
	if approval.Generation == 0 {
		return nil // opened under a daemon before, and not judged yet
	}
	if err := d.objects.IoApprovals.Put(approvalAt(half.Place, approval.Generation), approval); err != nil {
		return fmt.Errorf("approve an I/O connection: %w", err)
	}
	if err := d.objects.IoHalves.Put(key, half); err != nil {
		return fmt.Errorf("share a direction of I/O: %w", err)
	}
	return nil
}

// stricter is the approval that denies more: an enforced one, then one with a rate limit, and of two alike that of the
// conduit that comes first. One without a generation is none.
func stricter(a, b bpf.BridgeIoApproval) bpf.BridgeIoApproval {
	if a.Generation == 0 || b.Generation != 0 &&
		cmp.Or(cmp.Compare(b.Observed, a.Observed), cmp.Compare(a.Limited, b.Limited), cmp.Compare(b.Conduit, a.Conduit)) < 0 {
		return b
	}
	return a
}
