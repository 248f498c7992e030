package policy

import (
	"cmp"
	"net/netip"
	"slices"
)

// ownedPrefix is an address or network and the identity that owns it.
type ownedPrefix struct {
	prefix netip.Prefix
	owner  int // identity
	at     pos
}

// addresses refuses addresses whose owner could not be told.
//
// Two identities that one appliance sees may not own the same address; cells with equal addresses
// behind different appliances may. A network may hold another identity's address only if it is
// behind a router: there the longest prefix tells the two apart, and what the router may not
// use of its network is taken out of it (see Compile). A device on this segment that claims a
// network with somebody else in it is a mistake.
func (c *checker) addresses() {
	type pair struct{ a, b netip.Prefix }
	told := make(map[pair]bool)
	for i := range c.p.Appliances {
		c.eachOverlap(c.x.place(&c.p.Appliances[i]), func(outer, inner ownedPrefix) {
			key := pair{outer.prefix, inner.prefix}
			if told[key] && outer.prefix != inner.prefix {
				return
			}
			told[key] = true
			c.overlappingAddress(outer, inner)
		})
	}
}

func (c *checker) overlappingAddress(outer, inner ownedPrefix) {
	wide, narrow := &c.p.Identities[outer.owner], &c.p.Identities[inner.owner]
	switch {
	case outer.prefix == inner.prefix && outer.owner == inner.owner:
		c.errorf(inner.at, "ip lists %s twice: remove one", show(inner.prefix))
	case outer.prefix == inner.prefix:
		c.errorf(inner.at, "ip %s is that of identity %q already, on line %d: an address has one owner", show(inner.prefix), wide.Name, outer.at.line)
	case outer.owner != inner.owner && wide.Via.Name == "":
		c.errorf(outer.at, "ip %s holds %s, which is identity %q's: only a network behind a router (via) may hold other identities' addresses",
			show(outer.prefix), show(inner.prefix), narrow.Name)
	}
}

// show writes a single address without its length.
func show(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// eachOverlap calls found for each prefix that lies inside or equals another, among the identities
// that have a place. Of equal ones the later in the file is the inner.
func (c *checker) eachOverlap(place placement, found func(outer, inner ownedPrefix)) {
	var all []ownedPrefix
	for i := range c.p.Identities {
		if place[i] == SideAny {
			continue
		}
		id := &c.p.Identities[i]
		for j, prefix := range id.Addresses {
			all = append(all, ownedPrefix{prefix, i, id.addressAt[j]})
		}
	}
	slices.SortStableFunc(all, func(a, b ownedPrefix) int { return comparePrefix(a.prefix, b.prefix) })
	var enclosing []ownedPrefix
	for _, one := range all {
		if len(c.errors) > maxErrors {
			return // thousands of equal addresses enclose one another
		}
		for len(enclosing) > 0 && !enclosing[len(enclosing)-1].prefix.Contains(one.prefix.Addr()) {
			enclosing = enclosing[:len(enclosing)-1]
		}
		for _, outer := range enclosing {
			found(outer, one)
		}
		enclosing = append(enclosing, one)
	}
}

// comparePrefix puts the wider of two that begin alike first.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
