package datapath

import (
	"net/netip"
	"testing"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Types of neighbour discovery (RFC 4861 4).
const (
	routerSolicitation  = 133
	routerAdvertisement = 134
	solicitation        = 135
	advertisement       = 136
	redirect            = 137
)

// discovery is a neighbour discovery message with one link-layer address option.
func discovery(kind, hopLimit uint8, src, dst [6]byte, srcIP, target netip.Addr, option uint8, claimed [6]byte) packet {
	body := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
	switch kind {
	case solicitation, advertisement:
		body = append(body, target.AsSlice()...)
	case routerAdvertisement:
		body = append(body, make([]byte, 8)...)
	case redirect:
		body = append(body, make([]byte, 32)...)
	}
	if option != 0 {
		body = append(append(body, option, 1), claimed[:]...)
	}
	ip := ipPacket(srcIP, netip.MustParseAddr("ff02::1"), 58, 0, body)
	ip[7] = hopLimit
	return ether(src, dst, ip)
}

// TestNeighbourDiscovery holds what may be claimed: one's own addresses, and being a router only
// by a router.
func TestNeighbourDiscovery(t *testing.T) {
	hmi, plc, router := netip.MustParseAddr("2001:2::20"), netip.MustParseAddr("2001:2::10"), netip.MustParseAddr("2001:2::1")
	local, none := netip.MustParseAddr("fe80::20"), netip.IPv6Unspecified()
	solicited := [6]byte{0x33, 0x33, 0xff, 0, 0, 0x10}
	allNodes := [6]byte{0x33, 0x33, 0, 0, 0, 1}
	p := plan()
	for id, a := range map[uint32]netip.Addr{idHMI: hmi, idPLC: plc, idRouter: router} {
		prefix := netip.PrefixFrom(a, 128)
		p.Identities[id].Addresses = append(p.Identities[id].Addresses, prefix)
		p.Addresses = append(p.Addresses, policy.AddressEntry{Holder: id, Prefix: prefix, Identity: id},
			policy.AddressEntry{Prefix: prefix, Identity: id})
	}
	d := open(t, p)
	for _, r := range []struct {
		name   string
		frame  packet
		want   uint32
		reason verdict.Reason
	}{
		{"asks for another", discovery(solicitation, 255, macHMI, solicited, hmi, plc, 1, macHMI), xdpRedirect, 0},
		{"asks the device itself", discovery(solicitation, 255, macHMI, macPLC, hmi, plc, 1, macHMI), xdpRedirect, 0},
		{"asks with its link-local address", discovery(solicitation, 255, macHMI, solicited, local, plc, 1, macHMI), xdpRedirect, 0},
		{"detects a duplicate, from no address", discovery(solicitation, 255, macHMI, solicited, none, hmi, 0, macHMI), xdpRedirect, 0},
		{"asks with another's link-layer address", discovery(solicitation, 255, macHMI, solicited, hmi, plc, 1, macRouter), xdpDrop, verdict.ReasonARPSpoofed},
		{"asks with another's address", discovery(solicitation, 255, macHMI, solicited, router, plc, 1, macHMI), xdpDrop, verdict.ReasonARPSpoofed},
		{"announces itself", discovery(advertisement, 255, macHMI, allNodes, hmi, hmi, 2, macHMI), xdpRedirect, 0},
		{"announces its link-local address", discovery(advertisement, 255, macHMI, allNodes, local, local, 2, macHMI), xdpRedirect, 0},
		{"announces another's address", discovery(advertisement, 255, macHMI, allNodes, hmi, plc, 2, macHMI), xdpDrop, verdict.ReasonARPSpoofed},
		{"announces nobody's address", discovery(advertisement, 255, macHMI, allNodes, hmi, netip.MustParseAddr("2001:2::99"), 2, macHMI), xdpDrop, verdict.ReasonARPSpoofed},
		{"announces with another's link-layer address", discovery(advertisement, 255, macHMI, allNodes, hmi, hmi, 2, macPLC), xdpDrop, verdict.ReasonARPSpoofed},
		{"a router advertises itself", discovery(routerAdvertisement, 255, macRouter, allNodes, router, none, 1, macRouter), xdpRedirect, 0},
		{"a rogue router", discovery(routerAdvertisement, 255, macHMI, allNodes, local, none, 1, macHMI), xdpDrop, verdict.ReasonARPSpoofed},
		{"asks for routers", discovery(routerSolicitation, 255, macHMI, [6]byte{0x33, 0x33, 0, 0, 0, 2}, local, none, 1, macHMI), xdpRedirect, 0},
		{"redirects", discovery(redirect, 255, macRouter, macPLC, router, none, 0, macRouter), xdpDrop, verdict.ReasonARPSpoofed},
		{"from off the link", discovery(solicitation, 64, macHMI, solicited, hmi, plc, 1, macHMI), xdpDrop, verdict.ReasonMalformed},
		{"from a stranger", discovery(solicitation, 255, macOdd, solicited, netip.MustParseAddr("2001:2::77"), plc, 1, macOdd), xdpDrop, verdict.ReasonUnknownSource},
		{"to another group", discovery(solicitation, 255, macHMI, [6]byte{0x33, 0x33, 0, 0, 0, 0xfb}, hmi, plc, 1, macHMI), xdpDrop, verdict.ReasonUnknownDestination},
	} {
		t.Run(r.name, func(t *testing.T) {
			before := d.reasons(t)
			got, _ := d.run(t, policy.SideB, r.frame.bytes())
			if got != r.want {
				t.Errorf("the program returned %d, want %d (moved: %v)", got, r.want, moved(before, d.reasons(t)))
			}
			if r.reason != 0 && moved(before, d.reasons(t))[r.reason] != 1 {
				t.Errorf("denied for %v, want %v", moved(before, d.reasons(t)), r.reason)
			}
		})
	}
}
