package policy

import (
	"cmp"
	"net/netip"
	"slices"
)

// addAddresses lists who may use and who is meant by each address.
//
// Each holder's own addresses and those behind it stand under the holder; all of them, and the
// groups, stand under holder 0. Where a network behind a router holds an address of somebody who
// is not behind it, the router gets an entry for that address that means nobody (identity 0):
// the longest prefix then keeps the router from speaking for a neighbour.
func (c *compiler) addAddresses() {
	for id := range c.plan.Identities {
		who := &c.plan.Identities[id]
		for _, prefix := range who.Addresses {
			c.addAddress(0, prefix, uint32(id))
			switch who.Kind {
			case KindDevice, KindRouter:
				c.addAddress(uint32(id), prefix, uint32(id))
			case KindBehind:
				c.addAddress(who.Via, prefix, uint32(id))
			}
		}
	}
	c.sortAddresses()
	c.addHoles()
	c.sortAddresses()
}

func (c *compiler) addAddress(holder uint32, prefix netip.Prefix, identity uint32) {
	c.plan.Addresses = append(c.plan.Addresses, AddressEntry{holder, prefix, identity})
}

func (c *compiler) sortAddresses() {
	slices.SortFunc(c.plan.Addresses, func(a, b AddressEntry) int {
		return cmp.Or(cmp.Compare(a.Holder, b.Holder), comparePrefix(a.Prefix, b.Prefix))
	})
}

// addHoles walks the owned addresses, which are sorted so that a network comes before what lies
// inside it.
func (c *compiler) addHoles() {
	var enclosing []AddressEntry
	for _, inner := range c.plan.Addresses {
		if inner.Holder != 0 {
			return
		}
		for len(enclosing) > 0 && !enclosing[len(enclosing)-1].Prefix.Contains(inner.Prefix.Addr()) {
			enclosing = enclosing[:len(enclosing)-1]
		}
		holders := make([]uint32, 0, len(enclosing))
		for _, outer := range enclosing {
			holder := c.holderOf(outer.Identity)
			if holder != c.holderOf(inner.Identity) && !slices.Contains(holders, holder) {
				holders = append(holders, holder)
				c.addAddress(holder, inner.Prefix, 0)
			}
		}
		if c.plan.Identities[inner.Identity].Kind != KindGroup {
			enclosing = append(enclosing, inner)
		}
	}
}

// holderOf returns the identity whose MAC address carries the one given.
func (c *compiler) holderOf(id uint32) uint32 {
	if c.plan.Identities[id].Kind == KindBehind {
		return c.plan.Identities[id].Via
	}
	return id
}
