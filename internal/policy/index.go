package policy

// index finds a policy's parts by name. Where a name is given twice the first one counts, so that
// what refers to it is judged all the same.
type index struct {
	p          *Policy
	zones      map[string]int
	identities map[string]int
	members    map[string][]int // identities of each zone, in the order of the policy
}

func newIndex(p *Policy) *index {
	x := &index{
		p:          p,
		zones:      make(map[string]int, len(p.Zones)),
		identities: make(map[string]int, len(p.Identities)),
		members:    make(map[string][]int, len(p.Zones)),
	}
	for i := range p.Zones {
		if _, again := x.zones[p.Zones[i].Name]; !again {
			x.zones[p.Zones[i].Name] = i
		}
	}
	for i := range p.Identities {
		id := &p.Identities[i]
		if _, again := x.identities[id.Name]; !again {
			x.identities[id.Name] = i
		}
		x.members[id.Zone.Name] = append(x.members[id.Zone.Name], i)
	}
	return x
}

// router returns the identity that the one given is behind, or nil.
func (x *index) router(id *IdentitySpec) *IdentitySpec {
	if i, ok := x.identities[id.Via.Name]; ok && id.Via.Name != "" {
		return &x.p.Identities[i]
	}
	return nil
}

// sideMask is a set of sides: bit 0 is a, bit 1 is b.
type sideMask uint8

const bothSides sideMask = 3

func maskOf(s Side) sideMask {
	switch s {
	case SideA:
		return 1
	case SideB:
		return 2
	}
	return 0
}

// zoneMasks says on which sides of the appliance each zone lies.
func zoneMasks(a *ApplianceSpec) map[string]sideMask {
	masks := make(map[string]sideMask, len(a.A)+len(a.B))
	for _, z := range a.A {
		masks[z.Name] |= 1
	}
	for _, z := range a.B {
		masks[z.Name] |= 2
	}
	return masks
}

// placement is where each identity lives as one appliance sees it; SideAny is nowhere.
type placement []Side

// place returns where the appliance finds each identity. One behind a router is where its router
// is, as long as its own zone has to do with the appliance at all.
func (x *index) place(a *ApplianceSpec) placement {
	masks := zoneMasks(a)
	out := make(placement, len(x.p.Identities))
	for i := range x.p.Identities {
		id := &x.p.Identities[i]
		if masks[id.Zone.Name] == 0 {
			continue
		}
		if id.Via.Name == "" {
			out[i] = directSide(id, masks)
		} else if router := x.router(id); router != nil {
			out[i] = directSide(router, masks)
		}
	}
	return out
}

func directSide(id *IdentitySpec, masks map[string]sideMask) Side {
	switch masks[id.Zone.Name] {
	case 1:
		return SideA
	case 2:
		return SideB
	case bothSides:
		return id.Side
	}
	return SideAny
}
