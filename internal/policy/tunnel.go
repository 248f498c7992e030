package policy

import (
	"slices"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// isTunnel knows formats that carry another conversation inside, which no identity and no port
// here speaks for: IP in IP, 6in4, GRE, ESP, authentication headers, minimal encapsulation, IPIP, EtherIP,
// ENCAP, compressed IP, L2TPv3, MPLS in IP, Ethernet in IPv6, aggregation by their IP protocol; TRILL, bridged
// Ethernet, PPP, PPPoE, MPLS, MACsec, provider backbone bridges, network service headers, LLC in jumbo frames,
// HSR, tags that are not looked through (VN-tag, E-tag, 0x9200, 0x9300), and the configuration test, whose
// messages say where a station sends them on, by their EtherType. So are headers of IPv6 (hop-by-hop,
// routing, fragment, destination options, mobility, host identity, shim) that are not read any further.
func isTunnel(h *Header) bool {
	if h.EtherType == etherTypeIPv4 || h.EtherType == etherTypeIPv6 {
		return slices.Contains([]uint8{
			4, 41, 47, 50, 51, 55, 94, 97, 98, 108, 115, 137, 143, 144,
			0, 43, 44, 60, 135, 139, 140,
		}, h.Protocol)
	}
	return slices.Contains([]uint16{
		0x22f3, 0x6558, 0x880b, 0x8863, 0x8864, 0x8847, 0x8848, 0x8870, 0x88e5, 0x88e7, 0x8926, 0x892f, 0x893f, 0x894f,
		0x9000, 0x9200, 0x9300,
	}, h.EtherType)
}

// unnamedPort tells why a datagram is denied that only a conduit for every port, or a zone, would permit.
func unnamedPort(h *Header) verdict.Reason {
	if Transport(h.Protocol) != TransportUDP || h.Fragment || h.EtherType != etherTypeIPv4 && h.EtherType != etherTypeIPv6 {
		return verdict.ReasonNone
	}
	return hasToBeNamed(h.DstPort)
}

// hasToBeNamed knows ports of UDP that a conduit for every port does not mean, and one that names them
// does. Formats that carry another conversation inside are an encapsulation: OpenVPN, L2TP (RFC 2661),
// GTP-U, Teredo (RFC 4380), LISP (RFC 9300), NAT traversal of ESP (RFC 3948), GRE (RFC 8086), VXLAN (RFC 7348,
// and as Linux first had it), its generic extension, generic encapsulation, Geneve (RFC 8926), MPLS
// (RFC 7510), WireGuard. Clients of DHCP and DHCPv6 take a lease from whoever offers one: no conduit.
func hasToBeNamed(port uint16) verdict.Reason {
	switch port {
	case 1194, 1701, 2152, 3544, 4341, 4500, 4754, 4755, 4789, 4790, 6080, 6081, 6635, 8472, 51820:
		return verdict.ReasonEncapsulation
	case 68, 546:
		return verdict.ReasonNoConduit
	}
	return verdict.ReasonNone
}

// etherTypeMACControl is for the other end of one cable: it stops that end's traffic (IEEE 802.3 31).
const etherTypeMACControl = 0x8808

// misleads knows what no zone as a whole permits: to lead a neighbour's traffic elsewhere (redirects
// and router advertisements of ICMP, RFC 792, RFC 1256, renumbering of routers, RFC 2894) or to stop it, and
// ICMP in pieces, which could be any of these and for ICMPv6 neighbour discovery (RFC 6980).
func misleads(h *Header) bool {
	switch {
	case h.EtherType != etherTypeIPv4 && h.EtherType != etherTypeIPv6:
		return h.EtherType == etherTypeMACControl
	case Transport(h.Protocol) == TransportICMPv6:
		return h.Fragment || h.ICMPType == 138
	}
	return Transport(h.Protocol) == TransportICMP && (h.Fragment || h.ICMPType == 5 || h.ICMPType == 9)
}
