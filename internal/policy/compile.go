package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// Compile turns the policy into the plan of the appliance named. Identities whose zone lies on
// neither of its sides, and conduits that do not cross it, are left out. Equal policies give equal
// plans. The error says which conduit makes the tables too large, or which appliances there are.
func (p *Policy) Compile(appliance string) (*Plan, error) {
	spec, err := p.appliance(appliance)
	if err != nil {
		return nil, err
	}
	x := newIndex(p)
	place := x.place(spec)
	conduits := p.crossing(x, place)
	u := newUniverse(x, place, conduits)
	part, err := newPartition(u, conduits)
	if err != nil {
		return nil, fmt.Errorf("compile policy for %s: %w", appliance, err)
	}
	c := &compiler{p: p, u: u, part: part, conduits: conduits, plan: p.emptyPlan(appliance)}
	c.addIdentities()
	c.addConduits()
	c.addAddresses()
	if err := c.addPairs(); err != nil {
		return nil, fmt.Errorf("compile policy for %s: %w", appliance, err)
	}
	return c.plan, nil
}

func (p *Policy) appliance(name string) (*ApplianceSpec, error) {
	var known []string
	for i := range p.Appliances {
		if p.Appliances[i].Name == name {
			return &p.Appliances[i], nil
		}
		known = append(known, p.Appliances[i].Name)
	}
	var r report
	return nil, fmt.Errorf("compile policy %s: it has no appliance %q%s", p.File, name,
		r.suggest(name, known, "it has "+orList(known)))
}

// crossing returns the conduits of which something has to pass from one side to the other.
func (p *Policy) crossing(x *index, place placement) []ConduitSpec {
	u := newUniverse(x, place, nil)
	var out []ConduitSpec
	for i := range p.Conduits {
		from, to := u.mask(p.Conduits[i].From), u.mask(p.Conduits[i].To)
		if from&1 != 0 && to&2 != 0 || from&2 != 0 && to&1 != 0 {
			out = append(out, p.Conduits[i])
		}
	}
	return out
}

// mask says on which sides the selectors name somebody; broadcast and groups are on both.
func (u *universe) mask(selectors []Selector) sideMask {
	var mask sideMask
	for _, s := range selectors {
		switch s.Kind {
		case SelectIdentity:
			mask |= maskOf(u.side[u.x.identities[s.Name]])
		case SelectZone:
			for _, i := range u.x.members[s.Name] {
				mask |= maskOf(u.side[i])
			}
		default:
			mask |= bothSides
		}
	}
	return mask
}

func (p *Policy) emptyPlan(appliance string) *Plan {
	return &Plan{
		Site:            p.Site,
		Appliance:       appliance,
		Hash:            p.Hash,
		Mode:            p.Mode,
		UnknownIdentity: p.Defaults.UnknownIdentity,
		IntraZone:       p.Defaults.IntraZone,
		ARPGuard:        p.Defaults.ARPGuard,
		LinkLocal:       p.Defaults.LinkLocal,
		Broadcast:       p.Defaults.Broadcast,
		Multicast:       p.Defaults.Multicast,
		Control:         p.Defaults.Control,
		Identities:      make([]Identity, 1),
		Conduits:        make([]Conduit, 1),
	}
}

// compiler fills one plan.
type compiler struct {
	p        *Policy
	u        *universe
	part     *partition
	conduits []ConduitSpec
	plan     *Plan
	ids      []uint32 // of each node; 0 where it is left out
	nodes    []int    // of each identity's id
}

// addIdentities numbers the nodes that are present, from 1, in the order of the policy.
func (c *compiler) addIdentities() {
	c.ids = make([]uint32, len(c.u.present))
	c.nodes = []int{-1}
	for node, present := range c.u.present {
		if present {
			c.ids[node] = uint32(len(c.plan.Identities))
			c.nodes = append(c.nodes, node)
			c.plan.Identities = append(c.plan.Identities, c.identity(node))
		}
	}
	for node := range c.p.Identities {
		if id := c.ids[node]; id != 0 && c.p.Identities[node].Via.Name != "" {
			c.plan.Identities[id].Via = c.ids[c.u.x.identities[c.p.Identities[node].Via.Name]]
		}
	}
	for id := 1; id < len(c.plan.Identities); id++ {
		c.addMACs(uint32(id))
	}
	slices.SortFunc(c.plan.MACs, func(a, b MACEntry) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
}

func (c *compiler) identity(node int) Identity {
	id := Identity{Name: c.u.name(node), Side: c.u.side[node], Class: c.part.classOf[node]}
	if n := len(c.p.Identities); node >= n {
		id.Kind = KindGroup
		if s := c.u.pseudo[node-n]; s.Kind == SelectBroadcast {
			id.Kind, id.MAC = KindBroadcast, broadcastMAC()
		} else if s.group.prefix.IsValid() {
			id.Addresses = []netip.Prefix{s.group.prefix}
		} else {
			id.MAC, id.MACLast = s.group.first, s.group.last
		}
		return id
	}
	spec := &c.p.Identities[node]
	id.Zone = spec.Zone.Name
	id.ZoneID = uint16(c.u.x.zones[spec.Zone.Name] + 1)
	id.MAC = spec.MAC
	id.Addresses = slices.Clone(spec.Addresses)
	id.VLANs, id.Untagged = slices.Clone(spec.VLANs), spec.Untagged
	switch {
	case spec.Via.Name != "":
		id.Kind = KindBehind
	case spec.Role == roleRouter:
		id.Kind = KindRouter
	}
	return id
}

func broadcastMAC() [6]byte { return [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// addMACs lists the identity's MAC addresses. Of two groups that hold one address the narrower is
// meant by it, and the wider group's selectors name the narrower too.
func (c *compiler) addMACs(id uint32) {
	switch who := &c.plan.Identities[id]; who.Kind {
	case KindDevice, KindRouter, KindBroadcast:
		c.plan.MACs = append(c.plan.MACs, MACEntry{who.MAC, id})
	case KindGroup:
		own := c.groupOf(id)
		for _, mac := range own.macs() {
			if c.narrowest(mac) == own {
				c.plan.MACs = append(c.plan.MACs, MACEntry{mac, id})
			}
		}
	}
}

func (c *compiler) groupOf(id uint32) group {
	return c.u.pseudo[c.nodes[id]-len(c.p.Identities)].group
}

func (c *compiler) narrowest(mac [6]byte) group {
	var best group
	for _, s := range c.u.pseudo {
		if s.group.known() && s.group.contains(groupMAC(mac)) && (!best.known() || best.contains(s.group)) {
			best = s.group
		}
	}
	return best
}

func (c *compiler) addConduits() {
	for i := range c.conduits {
		spec := &c.conduits[i]
		c.plan.Conduits = append(c.plan.Conduits, Conduit{
			Name:      spec.Name,
			Protocol:  spec.Protocol,
			Mode:      spec.Mode,
			OnOutage:  spec.OnOutage,
			Assurance: Assurance{spec.SLTarget, spec.Essential, spec.SecondPath, spec.Waiver},
			OnDeny:    spec.OnDeny,
			OnJoin:    spec.OnJoin,
			Limit:     spec.Limit,
			Inspect:   spec.Protocol.Inspected(),
			IO:        spec.Protocol == ProtocolENIP,
			Modbus:    spec.Modbus,
			DNP3:      spec.DNP3,
			ENIP:      spec.ENIP,
			From:      c.idsOf(c.part.sets[c.part.from[i]]),
			To:        c.idsOf(c.part.sets[c.part.to[i]]),
			Services:  spec.Services,
		})
	}
}

func (c *compiler) idsOf(nodes []int) []uint32 {
	out := make([]uint32, len(nodes))
	for i, node := range nodes {
		out[i] = c.ids[node]
	}
	return out
}

// addPairs files the conduits under class pairs. Overlapping ranges are cut so that they no longer
// do: an inspected conduit goes before a plain one, then the earlier before the later.
func (c *compiler) addPairs() error {
	entries, err := c.part.entries(c.conduits)
	if err != nil {
		return err
	}
	eachPair(entries, func(pair []entry) {
		if err != nil {
			return
		}
		first := len(c.plan.Ranges)
		c.plan.Ranges = c.flatten(c.plan.Ranges, pair)
		count := len(c.plan.Ranges) - first
		c.plan.Pairs = append(c.plan.Pairs, Pair{pair[0].from, pair[0].to, pair[0].transport, uint32(first), uint32(count)})
		switch {
		case count > maxRangesPerPair:
			err = fmt.Errorf("conduits such as %q come to %d port ranges between two identities, and the limit is %d: join neighbouring ports",
				c.conduits[pair[0].conduit].Name, count, maxRangesPerPair)
		case len(c.plan.Pairs) > maxPairs || len(c.plan.Ranges) > math.MaxUint32:
			err = fmt.Errorf("conduits such as %q come to more than %d pairs of identities: use zones instead of single identities",
				c.conduits[pair[0].conduit].Name, maxPairs)
		}
	})
	return err
}

// flatten appends the entries of one pair, sorted by low, as ranges that do not overlap.
func (c *compiler) flatten(out []Range, pair []entry) []Range {
	if len(pair) == 1 {
		return append(out, c.rangeOf(pair[0], uint32(pair[0].low), uint32(pair[0].high)))
	}
	first := len(out)
	cuts := make([]uint32, 0, 2*len(pair))
	for _, e := range pair {
		cuts = append(cuts, uint32(e.low), uint32(e.high)+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	open := candidates{c: c}
	next := 0
	for i := 0; i+1 < len(cuts); i++ {
		for next < len(pair) && uint32(pair[next].low) == cuts[i] {
			open.push(pair[next])
			next++
		}
		best, ok := open.best(cuts[i])
		if !ok {
			continue
		}
		r := c.rangeOf(best, cuts[i], cuts[i+1]-1)
		if last := len(out) - 1; last >= first && out[last].Conduit == r.Conduit && int(out[last].High)+1 == int(r.Low) {
			out[last].High = r.High
			continue
		}
		out = append(out, r)
	}
	return out
}

func (c *compiler) rangeOf(e entry, low, high uint32) Range {
	return Range{uint16(low), uint16(high), uint32(e.conduit + 1)}
}

// before tells whether a goes before b where both cover a port.
func (c *compiler) before(a, b entry) bool {
	x, y := c.plan.Conduits[a.conduit+1].Inspect, c.plan.Conduits[b.conduit+1].Inspect
	if x != y {
		return x
	}
	return cmp.Less(a.conduit, b.conduit)
}
