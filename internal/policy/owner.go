package policy

import (
	"net/netip"
	"slices"
)

// byMAC returns the identity that the MAC address is of, or 0: a device, a router, broadcast, or
// the narrowest group that holds it.
func (p *Plan) byMAC(mac [6]byte) uint32 {
	best, width := uint32(0), ^uint64(0)
	for id := 1; id < len(p.Identities); id++ {
		switch who := &p.Identities[id]; who.Kind {
		case KindDevice, KindRouter, KindBroadcast:
			if who.MAC == mac {
				return uint32(id)
			}
		case KindGroup:
			first, last, at := macNumber(who.MAC), macNumber(who.MACLast), macNumber(mac)
			if last != 0 && first <= at && at <= last && last-first < width {
				best, width = uint32(id), last-first
			}
		}
	}
	return best
}

// macNumber orders MAC addresses. An IP group has none: its numbers are 0.
func macNumber(mac [6]byte) uint64 {
	return uint64(mac[0])<<40 | uint64(mac[1])<<32 | uint64(mac[2])<<24 | uint64(mac[3])<<16 | uint64(mac[4])<<8 | uint64(mac[5])
}

// ownerOf returns whose address it is, by the longest prefix and whoever sends it, or 0.
func (p *Plan) ownerOf(a netip.Addr) uint32 {
	best, bits := uint32(0), -1
	for id := 1; id < len(p.Identities); id++ {
		for _, prefix := range p.Identities[id].Addresses {
			if prefix.Bits() > bits && prefix.Contains(a) {
				best, bits = uint32(id), prefix.Bits()
			}
		}
	}
	return best
}

// groupOf returns the IP group that holds the address, or 0.
func (p *Plan) groupOf(a netip.Addr) uint32 {
	id := p.ownerOf(a)
	if id != 0 && p.Identities[id].Kind != KindGroup {
		return 0
	}
	return id
}

// meantBy returns whom the address means in a frame that carries holder's MAC address: holder, one
// behind it, or 0 for nobody. An identity without addresses of its own may use each that is not
// somebody else's. What lies inside a network behind a router but is another's is not the router's.
func (p *Plan) meantBy(holder uint32, a netip.Addr) uint32 {
	owner := p.ownerOf(a)
	switch {
	case owner == 0 && len(p.Identities[holder].Addresses) == 0:
		return holder
	case owner == holder || owner != 0 && p.Identities[owner].Kind == KindBehind && p.Identities[owner].Via == holder:
		return owner
	}
	return 0
}

// inVLAN tells whether the identity may be seen with these tags. A priority tag (identifier 0) is no
// VLAN (IEEE 802.1Q 6.9), and receivers look behind it. Each other tag has to be permitted, the inner
// one too: a switch that takes the outer one off carries the frame on in the inner one's VLAN.
func (id *Identity) inVLAN(tags []Tag) bool {
	tagged := false
	for i := 0; i < len(tags) && i < maxTags; i++ {
		vlan := tags[i].TCI & 0x0fff
		if vlan == 0 {
			continue
		}
		tagged = true
		if !slices.Contains(id.VLANs, vlan) {
			return false
		}
	}
	return tagged || id.Untagged
}
