package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const (
	inventoryInterval = 10 * time.Second // between two looks at all flows
	inventoryKeep     = 5 * time.Minute  // between two writes to the store
	claimsPending     = 256              // between the verdict loops and the inventory; more are shed
)

// inventory gathers what was seen of the devices: out of the fast path's events and flow table, and
// out of what devices say of themselves in messages. Nothing of the line waits for it.
type inventory struct {
	seen   *identity.Inventory
	path   *datapath.Datapath
	claims chan said
	kept   time.Time
}

// said is what the sender of a packet says of itself.
type said struct {
	key   uint32 // of the flow
	from  policy.Side
	claim identity.Claim
}

func newInventory(path *datapath.Datapath) *inventory {
	return &inventory{seen: identity.New(), path: path, claims: make(chan said, claimsPending), kept: time.Now()}
}

// openInventory takes up what was known before, and begins to gather.
func (d *daemon) openInventory(context.Context) error {
	d.inventory = newInventory(d.path)
	if d.store != nil {
		if err := d.inventory.restore(d.store.Inventory()); err != nil {
			d.warn("what was known of devices begins anew: %v", err)
		}
	}
	d.background(d.gather)
	d.onClose(d.keepInventory)
	return nil
}

func (v *inventory) restore(raw []byte, err error) error {
	if err != nil || raw == nil {
		return err
	}
	var s identity.Snapshot
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read the stored inventory: %w", err)
	}
	v.seen.Restore(s)
	return nil
}

// gather works until the daemon ends.
func (d *daemon) gather() error {
	tick := time.NewTicker(inventoryInterval)
	defer tick.Stop()
	for {
		select {
		case <-d.done:
			return nil
		case s := <-d.inventory.claims:
			d.inventory.said(&s)
		case now := <-tick.C:
			if err := d.inventory.look(); err != nil {
				d.log.Debug("flows could not be looked at", "error", err)
			}
			if now.Sub(d.inventory.kept) > inventoryKeep {
				d.inventory.kept = now
				if err := d.keepInventory(); err != nil {
					d.log.Warn("what was seen of devices is not stored", "error", err)
				}
			}
		}
	}
}

// keepInventory writes down what is known. A store that takes no writes has said so already.
func (d *daemon) keepInventory() error {
	if d.store == nil || d.store.ReadOnly() {
		return nil
	}
	raw, err := json.Marshal(d.inventory.seen.Snapshot())
	if err != nil {
		return fmt.Errorf("write the inventory: %w", err)
	}
	return d.store.PutInventory(raw)
}

// judged hands over what messages of a packet say of their sender. It belongs to a verdict loop: it
// never waits, and what finds no room is said again when the device is asked again.
func (v *inventory) judged(p *inspect.Packet, j *inspect.Judgement) {
	for i := range j.Messages {
		claim, ok := j.Messages[i].Claim()
		if !ok || !j.Messages[i].Verdict.Allows() {
			continue
		}
		claim.Seen = p.Time
		select {
		case v.claims <- said{key: uint32(p.Key), from: p.From, claim: claim}:
		default:
		}
	}
}

func (v *inventory) said(s *said) {
	w, ok := v.path.FlowByKey(s.key)
	if !ok {
		return // the flow has ended, and with it the knowledge of whose address it was
	}
	a, b := v.stations(&w)
	if s.from == policy.SideB {
		a = b
	}
	v.seen.Said(a, s.claim)
}

// saw notes who sent the frame of an event. What the guard denied says nothing of the device whose
// address it used: a MAC address on the wrong side is somebody else's, and a false address no
// address of its sender.
func (v *inventory) saw(e *datapath.Event, told *event.Event) {
	address := e.SourceIP
	switch e.Verdict.Reason {
	case verdict.ReasonWrongPort:
		return
	case verdict.ReasonAddressSpoofed, verdict.ReasonARPSpoofed:
		address = netip.Addr{}
	}
	s := identity.Station{
		MAC: e.SourceMAC, Address: address, Side: e.Side.String(), Identity: told.Source, VLAN: told.VLAN,
	}
	if plan, _, ok := v.path.Plan(e.Generation); ok {
		s.Behind = isBehind(plan, e.Source)
	}
	v.seen.Saw(s, e.Time)
}

// look goes through the flow table.
func (v *inventory) look() error {
	var talks []identity.Talk
	err := v.path.Flows(func(w *datapath.Flow) bool {
		talks = append(talks, v.talk(w))
		return true
	})
	if err != nil {
		return err
	}
	v.seen.Talked(talks)
	return nil
}

func (v *inventory) talk(w *datapath.Flow) identity.Talk {
	client, server := v.stations(w)
	answered := w.Frames[1]
	if w.Initiator == policy.SideB {
		client, server, answered = server, client, w.Frames[0]
	}
	_, to := ends(w)
	t := identity.Talk{
		Client: client, Server: server, Protocol: transportName(w.Protocol), Frames: w.Frames[0] + w.Frames[1],
		Bytes: w.Bytes[0] + w.Bytes[1], Answered: answered > 0, Seen: w.Seen,
	}
	if w.Protocol == protocolTCP || w.Protocol == protocolUDP {
		t.Port = to.Port
	}
	if plan, names := naming(v.path, w); plan != nil {
		t.Conduit = conduitName(plan, names.Conduit)
	}
	return t
}

// stations returns the ends of a flow, by side.
func (v *inventory) stations(w *datapath.Flow) (a, b identity.Station) {
	a = identity.Station{MAC: w.A.MAC, Address: w.A.Address, Side: policy.SideA.String()}
	b = identity.Station{MAC: w.B.MAC, Address: w.B.Address, Side: policy.SideB.String()}
	if len(w.Tags) > 0 {
		a.VLAN, b.VLAN = w.Tags[0].Identifier, w.Tags[0].Identifier
	}
	plan, names := naming(v.path, w)
	if plan == nil {
		return a, b
	}
	onA, onB := names.Source, names.Destination
	if w.Initiator == policy.SideB {
		onA, onB = onB, onA
	}
	a.Identity, a.Behind = identityName(plan, onA), isBehind(plan, onA)
	b.Identity, b.Behind = identityName(plan, onB), isBehind(plan, onB)
	return a, b
}

// naming returns the plan that names a flow's conduit and ends. For a flow that the fast path has not
// asked about since the policy changed, or since another daemon's time, it is what the policy in
// force makes of it. The plan is nil where there is none.
func naming(path *datapath.Datapath, w *datapath.Flow) (*policy.Plan, policy.Decision) {
	if plan, _, ok := path.Plan(w.Generation); ok {
		return plan, policy.Decision{Conduit: w.Conduit, Source: w.Source, Destination: w.Destination}
	}
	plan, _, ok := path.Plan(path.Generation())
	if !ok {
		return nil, policy.Decision{}
	}
	return plan, plan.Decide(headerOf(w))
}

func isBehind(plan *policy.Plan, id uint32) bool {
	return int(id) < len(plan.Identities) && plan.Identities[id].Kind == policy.KindBehind
}

// Inventory implements api.Backend. It looks once more, so that nothing younger is missing.
func (d *daemon) Inventory(context.Context) (identity.Snapshot, error) {
	if err := d.inventory.look(); err != nil {
		return identity.Snapshot{}, err
	}
	return d.inventory.seen.Snapshot(), nil
}

// Flows implements api.Backend.
func (d *daemon) Flows(_ context.Context, fn func(*api.Flow) error) error {
	var failed error
	err := d.path.Flows(func(w *datapath.Flow) bool {
		f := d.flowRecord(w)
		failed = fn(&f)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (d *daemon) flowRecord(w *datapath.Flow) api.Flow {
	from, to := ends(w)
	sent, received := 0, 1
	if w.Initiator == policy.SideB {
		sent, received = 1, 0
	}
	f := api.Flow{
		Source: event.Unknown, Destination: event.Unknown,
		SourceAddress:      addressOf(from.Address, from.Port, w.Protocol, ""),
		DestinationAddress: addressOf(to.Address, to.Port, w.Protocol, ""),
		SourceMAC:          net.HardwareAddr(from.MAC[:]).String(), DestinationMAC: net.HardwareAddr(to.MAC[:]).String(),
		Side: w.Initiator.String(), Protocol: transportName(w.Protocol), Verdict: w.Action.String(),
		Observed: w.Observed, Adopted: w.Adopted, Created: w.Created, Seen: w.Seen,
		FramesSent: w.Frames[sent], BytesSent: w.Bytes[sent], FramesReceived: w.Frames[received], BytesReceived: w.Bytes[received],
	}
	for _, t := range w.Tags {
		f.VLANs = append(f.VLANs, t.Identifier)
	}
	if plan, names := naming(d.path, w); plan != nil {
		f.Conduit = conduitName(plan, names.Conduit)
		if name := identityName(plan, names.Source); name != "" {
			f.Source = name
		}
		if name := identityName(plan, names.Destination); name != "" {
			f.Destination = name
		}
	}
	return f
}
