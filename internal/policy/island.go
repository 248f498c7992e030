package policy

import (
	"fmt"
	"slices"
)

// Island returns the policy with every conduit of the zones closed at the appliance, but those that are
// essential: nothing else passes between an identity of such a zone and anybody on the other side
// (IEC 62443-3-3 SR 5.2 RE 2). Traffic inside a zone, and between other zones, stays as it was, with
// one exception: strangers are denied, because nobody knows that they are of another zone.
//
// A policy that only observes holds nothing back and so cannot close anything, which is an error, as
// is a zone that does not lie at the appliance.
func (p *Policy) Island(appliance string, zones ...string) (*Policy, error) {
	if p.Mode != Enforce {
		return nil, fmt.Errorf("close the zone %s: the policy in force is in mode %v and holds nothing back: apply one that enforces", orList(zones), p.Mode)
	}
	spec, err := p.appliance(appliance)
	if err != nil {
		return nil, err
	}
	cut := islander{x: newIndex(p), zones: zones}
	cut.place = cut.x.place(spec)
	for _, zone := range zones {
		if !slices.ContainsFunc(slices.Concat(spec.A, spec.B), func(r Reference) bool { return r.Name == zone }) {
			return nil, fmt.Errorf("close the zone %q: it does not lie at appliance %s, which has %s", zone, appliance, orList(zonesOf(spec)))
		}
	}
	island := *p
	island.Defaults.UnknownIdentity = builtinDefaults().UnknownIdentity
	island.Conduits = nil
	for i := range p.Conduits {
		if c, left := cut.conduit(p.Conduits[i]); left {
			island.Conduits = append(island.Conduits, c)
		}
	}
	return &island, nil
}

func zonesOf(a *ApplianceSpec) (names []string) {
	for _, r := range slices.Concat(a.A, a.B) {
		names = append(names, r.Name)
	}
	return names
}

// islander takes zones out of conduits.
type islander struct {
	x     *index
	place placement
	zones []string
}

// conduit returns what is left of a conduit, and whether anything is.
func (cut *islander) conduit(c ConduitSpec) (ConduitSpec, bool) {
	if c.Essential {
		return c, true
	}
	c.From, c.To = cut.without(c.From), cut.without(c.To)
	if slices.ContainsFunc(c.To, Selector.isGroup) {
		c.From = cut.notFacing(c.From)
	}
	return c, len(c.From) > 0 && len(c.To) > 0
}

func (s Selector) isGroup() bool { return s.Kind == SelectBroadcast || s.Kind == SelectGroup }

// without leaves out the zones and their identities. A selector of a zone that is left is one already.
func (cut *islander) without(selectors []Selector) []Selector {
	return slices.DeleteFunc(slices.Clone(selectors), func(s Selector) bool {
		switch s.Kind {
		case SelectZone:
			return slices.Contains(cut.zones, s.Name)
		case SelectIdentity:
			return slices.Contains(cut.zones, cut.x.p.Identities[cut.x.identities[s.Name]].Zone.Name)
		}
		return false
	})
}

// notFacing leaves only those who do not look at a closed zone from the other side: what they send to
// everybody would reach it.
func (cut *islander) notFacing(from []Selector) (left []Selector) {
	for _, s := range from {
		members := cut.x.members[s.Name]
		if s.Kind == SelectIdentity {
			members = []int{cut.x.identities[s.Name]}
		}
		for _, i := range members {
			if !cut.faces(i) {
				id := &cut.x.p.Identities[i]
				left = append(left, Selector{Kind: SelectIdentity, Name: id.Name, at: s.at})
			}
		}
	}
	return left
}

// faces reports whether an identity of a closed zone is on the other side of the one given.
func (cut *islander) faces(identity int) bool {
	for _, zone := range cut.zones {
		for _, i := range cut.x.members[zone] {
			if side := cut.place[i]; side != SideAny && side == cut.place[identity].Other() {
				return true
			}
		}
	}
	return false
}
