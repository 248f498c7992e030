package policy

import "slices"

// isTunnel knows formats that carry another conversation inside, which no identity and no port
// here speaks for: IP in IP, 6in4, GRE, ESP, EtherIP, L2TPv3, MPLS in IP by their IP protocol; TRILL,
// bridged Ethernet, PPPoE, MPLS, MACsec, provider backbone bridges, LLC in jumbo frames, HSR, and tags
// that are not looked through (VN-tag, E-tag, 0x9200, 0x9300) by their EtherType.
func isTunnel(h *Header) bool {
	if h.EtherType == etherTypeIPv4 || h.EtherType == etherTypeIPv6 {
		return slices.Contains([]uint8{4, 41, 47, 50, 97, 115, 137}, h.Protocol)
	}
	return slices.Contains([]uint16{
		0x22f3, 0x6558, 0x8863, 0x8864, 0x8847, 0x8848, 0x8870, 0x88e5, 0x88e7, 0x8926, 0x892f, 0x893f, 0x9200, 0x9300,
	}, h.EtherType)
}

// isUDPTunnel knows the same over UDP: VXLAN (RFC 7348, and as Linux first had it), Geneve
// (RFC 8926), L2TP (RFC 2661), Teredo (RFC 4380), GTP-U. A conduit for every port does not mean
// these; one that names the port does.
func isUDPTunnel(h *Header) bool {
	return Transport(h.Protocol) == TransportUDP && !h.Fragment &&
		slices.Contains([]uint16{4789, 8472, 6081, 1701, 3544, 2152}, h.DstPort)
}

// misleads knows what no zone as a whole permits: to lead a neighbour's traffic elsewhere (redirects
// and router advertisements of ICMP, RFC 792, RFC 1256), and ICMP in pieces, which could be either
// and for ICMPv6 neighbour discovery (RFC 6980).
func misleads(h *Header) bool {
	switch {
	case h.EtherType != etherTypeIPv4 && h.EtherType != etherTypeIPv6:
		return false
	case Transport(h.Protocol) == TransportICMPv6:
		return h.Fragment
	}
	return Transport(h.Protocol) == TransportICMP && (h.Fragment || h.ICMPType == 5 || h.ICMPType == 9)
}
