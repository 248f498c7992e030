package datapath

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// MAX_CONDUITS and MAX_IDENTITIES of bpf/maps.h.
const (
	maxConduits   = 16384
	maxIdentities = 65536
)

// step is one of the moments of Apply at which tests make it fail.
type step string

const (
	stepCreate   step = "create"
	stepFill     step = "fill"
	stepReadBack step = "read back"
	stepInstall  step = "install"
)

// faults lets tests break Apply at a step, by an error or by what they do to the map at hand, which
// at stepCreate is a specification yet; nil in production.
type faults func(s step, inner *ebpf.MapSpec, m *ebpf.Map) error

func (f faults) at(s step, inner *ebpf.MapSpec, m *ebpf.Map) error {
	if f == nil {
		return nil
	}
	return f(s, inner, m)
}

// Apply puts a plan in force as one whole: the maps of the next generation are made in the size
// that the plan needs, filled, read back and installed beside those in force, and one word is
// flipped. A frame meets the old policy or the new one, never a mix. If any step fails, the
// old generation goes on as if nothing had been. version is the caller's number for the policy;
// it comes back with the events. Returns the generation now in force.
func (d *Datapath) Apply(plan *policy.Plan, version uint64) (uint32, error) {
	d.applyMu.Lock()
	defer d.applyMu.Unlock()
	if len(plan.Conduits) > maxConduits {
		return 0, fmt.Errorf("apply the policy: %d conduits, and the fast path holds %d", len(plan.Conduits)-1, maxConduits-1)
	}
	if len(plan.Identities) > maxIdentities {
		return 0, fmt.Errorf("apply the policy: %d identities, and the fast path holds %d", len(plan.Identities)-1, maxIdentities-1)
	}
	d.countMu.Lock()
	// What cannot be counted on is no reason to refuse a policy.
	_ = d.settle()
	d.countMu.Unlock()
	current := d.control.generation()
	next := current + 1
	if next == 0 {
		next = 2 // 0 is "no policy"; the low bit has to differ from the current one's
	}
	if err := d.install(plan, next, version); err != nil {
		return 0, fmt.Errorf("apply the policy: %w", err)
	}
	old := d.plans.Load()
	g := &generations{current: next, plan: plan, version: version}
	if old != nil {
		g.previous, g.previousPlan, g.priorVersion = old.current, old.plan, old.version
	}
	d.countMu.Lock()
	defer d.countMu.Unlock()
	if err := d.flip(g); err != nil {
		return 0, fmt.Errorf("apply the policy: %w", err)
	}
	_ = d.settle() // or whoever reads the counters next
	return next, nil
}

// Plan returns the plan and version of a generation, if it is the one in force or the one
// before.
func (d *Datapath) Plan(generation uint32) (*policy.Plan, uint64, bool) {
	g := d.plans.Load()
	switch {
	case g == nil || generation == 0:
	case g.current == generation:
		return g.plan, g.version, true
	case g.previous == generation && g.previousPlan != nil:
		return g.previousPlan, g.priorVersion, true
	}
	return nil, 0, false
}

// VersionOf returns the version under which a plan was applied, if it is the one in force or the one
// before, else 0.
func (d *Datapath) VersionOf(plan *policy.Plan) uint64 {
	g := d.plans.Load()
	switch {
	case g == nil || plan == nil:
	case g.plan == plan:
		return g.version
	case g.previousPlan == plan:
		return g.priorVersion
	}
	return 0
}

// table is one inner map to be made: its place, its size and what goes in.
type table struct {
	name   string
	outer  *ebpf.Map
	length int
	keys   any
	values any
}

func (d *Datapath) install(plan *policy.Plan, generation uint32, version uint64) error {
	spec, err := bpf.LoadBridge()
	if err != nil {
		return err
	}
	index := generation & 1
	tables := d.tables(plan)
	for i := range tables {
		if err := d.installTable(spec, &tables[i], index); err != nil {
			return fmt.Errorf("table %s: %w", tables[i].name, err)
		}
	}
	if err := d.clearCounters(index, len(plan.Conduits)); err != nil {
		return err
	}
	if err := d.nameConduits(index, plan); err != nil {
		return err
	}
	if err := d.faults.at(stepInstall, nil, nil); err != nil {
		return err
	}
	if err := d.objects.Defaults.Put(index, defaultsOf(plan, generation, version)); err != nil {
		return fmt.Errorf("write the policy's defaults: %w", err)
	}
	return nil
}

// installTable makes one inner map, fills it, reads it back, and puts it behind its outer map
// in the half that is not in force.
func (d *Datapath) installTable(spec *ebpf.CollectionSpec, t *table, index uint32) error {
	inner := spec.Maps[t.name].InnerMap.Copy()
	inner.MaxEntries = uint32(max(t.length, 1))
	if err := d.faults.at(stepCreate, inner, nil); err != nil {
		return err
	}
	m, err := ebpf.NewMap(inner)
	if err != nil {
		return fmt.Errorf("create it with %d entries: %w", inner.MaxEntries, err)
	}
	defer m.Close()
	if t.length > 0 {
		if err := d.faults.at(stepFill, nil, m); err != nil {
			return err
		}
		if err := fill(m, t); err != nil {
			return err
		}
	}
	if err := d.faults.at(stepReadBack, nil, m); err != nil {
		return err
	}
	if err := readBack(m, t); err != nil {
		return err
	}
	if err := t.outer.Put(index, m); err != nil {
		return fmt.Errorf("install it: %w", err)
	}
	return nil
}

func (d *Datapath) tables(plan *policy.Plan) []table {
	macKeys, macIDs := macTable(plan)
	addressKeys, addressIDs := addressTable(plan)
	pairKeys, pairs := pairTable(plan)
	o := &d.objects.BridgeMaps
	return []table{
		{"macs", o.Macs, len(macKeys), macKeys, macIDs},
		{"addresses", o.Addresses, len(addressKeys), addressKeys, addressIDs},
		{"identities", o.Identities, len(plan.Identities), indices(len(plan.Identities)), identityTable(plan)},
		{"pairs", o.Pairs, len(pairKeys), pairKeys, pairs},
		{"ranges", o.Ranges, len(plan.Ranges), indices(len(plan.Ranges)), rangeTable(plan)},
		{"conduits", o.Conduits, len(plan.Conduits), indices(len(plan.Conduits)), conduitTable(plan)},
	}
}

func indices(n int) []uint32 {
	list := make([]uint32, n)
	for i := range list {
		list[i] = uint32(i)
	}
	return list
}

func macTable(plan *policy.Plan) (keys []bpf.BridgeMacKey, ids []uint32) {
	for _, e := range plan.MACs {
		keys = append(keys, bpf.BridgeMacKey{Mac: e.MAC})
		ids = append(ids, e.Identity)
	}
	return keys, ids
}

func addressTable(plan *policy.Plan) (keys []bpf.BridgeAddressKey, ids []uint32) {
	for _, e := range plan.Addresses {
		bits := e.Prefix.Bits()
		if e.Prefix.Addr().Is4() {
			bits += 96 // IPv4 lies in ::ffff:0:0/96
		}
		keys = append(keys, bpf.BridgeAddressKey{
			PrefixLength: uint32(32 + bits),
			Holder:       hostToNetwork(e.Holder),
			Address:      e.Prefix.Masked().Addr().As16(),
		})
		ids = append(ids, e.Identity)
	}
	return keys, ids
}

func identityTable(plan *policy.Plan) []bpf.BridgeIdentity {
	list := make([]bpf.BridgeIdentity, len(plan.Identities))
	for i := range plan.Identities {
		list[i] = identityEntry(&plan.Identities[i])
	}
	return list
}

func identityEntry(id *policy.Identity) bpf.BridgeIdentity {
	e := bpf.BridgeIdentity{
		Class:    uint32(id.Class),
		Zone:     id.ZoneID,
		Side:     uint8(id.Side),
		Kind:     uint8(id.Kind),
		Unbound:  flag(len(id.Addresses) == 0),
		Untagged: flag(id.Untagged),
	}
	for _, vid := range id.VLANs {
		e.Vlans[vid/64&63] |= 1 << (vid % 64)
	}
	return e
}

func pairTable(plan *policy.Plan) (keys []bpf.BridgePairKey, pairs []bpf.BridgePair) {
	for _, p := range plan.Pairs {
		keys = append(keys, bpf.BridgePairKey{From: uint32(p.From), To: uint32(p.To), Transport: uint32(p.Transport)})
		pairs = append(pairs, bpf.BridgePair{First: p.First, Count: p.Count, Observed: observedOf(plan, p)})
	}
	return keys, pairs
}

// observedOf returns the first conduit of a pair if all of them are observed, else 0.
func observedOf(plan *policy.Plan, p policy.Pair) (conduit uint32) {
	for _, r := range plan.Ranges[p.First : p.First+p.Count] {
		if plan.Conduits[r.Conduit].Mode == policy.Enforce {
			return 0
		}
		if conduit == 0 || r.Conduit < conduit {
			conduit = r.Conduit
		}
	}
	return conduit
}

func rangeTable(plan *policy.Plan) []bpf.BridgeRange {
	list := make([]bpf.BridgeRange, len(plan.Ranges))
	for i, r := range plan.Ranges {
		list[i] = bpf.BridgeRange{Low: r.Low, High: r.High, Conduit: r.Conduit}
	}
	return list
}

func conduitTable(plan *policy.Plan) []bpf.BridgeConduit {
	list := make([]bpf.BridgeConduit, len(plan.Conduits))
	for i := 1; i < len(list); i++ { // 0 is none, and stays undecided
		c := &plan.Conduits[i]
		action := verdict.Allow
		if c.Inspect {
			action = verdict.Inspect
		}
		list[i] = bpf.BridgeConduit{
			Action:  uint8(action),
			Observe: flag(c.Mode != policy.Enforce),
			Opens:   flag(c.OnOutage == policy.OutageOpen),
			Limited: flag(!c.Limit.IsZero()),
			Io:      flag(c.IO),
			IoJoins: flag(joinsIO(c)),
			Wide:    flag(slices.Contains(c.Services, policy.Service{Transport: policy.TransportUDP, Low: 0, High: 0xffff})),
			Limit:   limitOf(c.Limit),
		}
	}
	return list
}

func defaultsOf(plan *policy.Plan, generation uint32, version uint64) bpf.BridgePolicyDefaults {
	return bpf.BridgePolicyDefaults{
		Generation:      generation,
		Conduits:        uint32(len(plan.Conduits)),
		Version:         version,
		Policy:          hashOf(plan),
		Enforce:         flag(plan.Mode == policy.Enforce),
		UnknownIdentity: uint8(plan.UnknownIdentity),
		IntraZone:       uint8(plan.IntraZone),
		ArpGuard:        flag(plan.ARPGuard),
		LinkLocal:       uint8(plan.LinkLocal),
		StormLimited:    flag(!plan.Broadcast.IsZero() || !plan.Multicast.IsZero() || !plan.Control.IsZero()),
		Broadcast:       limitOf(plan.Broadcast),
		Multicast:       limitOf(plan.Multicast),
		Control:         limitOf(plan.Control),
	}
}

// hashOf returns the plan's hash in bytes; zeros for a plan that is of no text.
func hashOf(plan *policy.Plan) (hash [32]byte) {
	if raw, err := hex.DecodeString(plan.Hash); err == nil {
		copy(hash[:], raw)
	}
	return hash
}

// longestFrame is a jumbo frame with its tags, bytes: a burst below it would refuse each one.
const longestFrame = 9728

const nsPerSecond = 1_000_000_000

// limitOf turns a rate into what a frame, or 1024 bytes, costs in time. Rates above one frame a
// nanosecond limit nothing.
func limitOf(l policy.Limit) (out bpf.BridgeLimit) {
	if l.Frames > 0 {
		out.FrameCost = max(nsPerSecond/l.Frames, 1)
		out.FrameBurst = max(l.FrameBurst, 1) * out.FrameCost
	}
	if l.Bytes > 0 {
		out.KibCost = max(nsPerSecond*1024/l.Bytes, 1)
		out.ByteBurst = max(l.ByteBurst, longestFrame) * out.KibCost / 1024
	}
	return out
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// counterKeys are where the conduits of a generation count.
func counterKeys(index uint32, conduits int) []uint32 {
	keys := make([]uint32, conduits)
	for i := range keys {
		keys[i] = index*maxConduits + uint32(i)
	}
	return keys
}

// clearCounters begins the next generation's conduit counters and rate limits at zero.
func (d *Datapath) clearCounters(index uint32, conduits int) error {
	if _, err := d.objects.Buckets.BatchUpdate(counterKeys(index, conduits), make([]bpf.BridgeBucket, conduits), nil); err != nil {
		return fmt.Errorf("clear the conduits' rate limits: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	zero := make([]bpf.BridgeConduitCounter, conduits*cpus)
	if _, err := d.objects.ConduitCounters.BatchUpdate(counterKeys(index, conduits), zero, nil); err != nil {
		return fmt.Errorf("clear the conduits' counters: %w", err)
	}
	d.known.clear(index)
	return nil
}

// fill writes a table's entries, in one system call where the map's type has batches.
func fill(m *ebpf.Map, t *table) error {
	_, err := m.BatchUpdate(t.keys, t.values, nil)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("fill it: %w", err)
	}
	return t.each(func(key, value any) error {
		if err := m.Put(key, value); err != nil {
			return fmt.Errorf("enter %v: %w", key, err)
		}
		return nil
	})
}
