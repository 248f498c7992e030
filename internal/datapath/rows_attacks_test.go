package datapath

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// What somebody tries who owns a device of one side: to get a frame across that the policy forbids, or to
// keep another from what it permits.

// quoting is an ICMP error of plc about a packet, to whom it likes.
func quoting(dst [6]byte, to netip.Addr, kind, code uint8, mtu uint16, quoted []byte) packet {
	return ether(macPLC, dst, ipPacket(ipPLC, to, 1, 0, icmpError(kind, code, mtu, quoted)))
}

// quoting6 is the same of ICMPv6.
func quoting6(to netip.Addr, kind uint8, word uint32, quoted []byte) packet {
	body := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, quoted[:48]...)
	binary.BigEndian.PutUint32(body[4:], word)
	return ether(macPLC, macHMI, ipPacket(ip6PLC, to, 58, 0, body))
}

// solicited is where neighbours ask for an IPv6 address (RFC 4291 2.7.1).
func solicited(ip netip.Addr) [6]byte {
	b := ip.As16()
	return [6]byte{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}

// to6 sends an IPv6 packet to another address.
func to6(p packet, to netip.Addr) packet {
	p.body = append([]byte{}, p.body...)
	copy(p.body[24:], to.AsSlice())
	return p
}

func attackRows() []row {
	far := ipPacket(ipFar, ipPLC, 6, 0, tcpSegment(40000, 4840, flagSYN))
	pull := b(ether(macRouter, macPLC, far))
	syn6 := ipPacket(ip6HMI, ip6PLC, 6, 0, tcpSegment(40000, 102, flagSYN))
	echo := ipPacket(ipHMI, ipPLC, 1, 0, icmpEcho(8, 7))
	syn := hmiTCP(40000, 102, flagSYN)
	vxlan, dhcp, datagram := udpDatagram(1, 4789), udpDatagram(67, 68), udpDatagram(1, 9)
	rtu6 := func(body []byte) packet { return ether(macHMI, macRTU, ipPacket(ip6HMI, ip6RTU, 17, 0, body)) }
	router := func(port uint16) packet {
		return ether(macRouter, macRTU, ipPacket(ipRouter, ipRTU, 17, 0, udpDatagram(1, port)))
	}
	drive := func(from netip.Addr, protocol uint8, body []byte) packet {
		to := ipHMI
		if from.Is6() {
			to = ip6HMI
		}
		return ether(macDrive, macHMI, ipPacket(from, to, protocol, 0, body))
	}
	claim := to6(discovery(advertisement, 255, macHMI, macPLC, ip6HMI, ip6SCADA, 2, macHMI), ip6PLC)
	cut := func(p packet, n byte) packet { return edited(p, 5, n) }
	return []row{
		// Errors that belong to a conversation, and such as seem to.
		{"an error to another behind the router", []sent{pull}, a(quoting(macRouter, ipJump, 3, 3, 0, far)), xdpDrop, verdict.ReasonNoConduit},
		{"an error to the router about a packet of one behind it", []sent{pull}, a(quoting(macRouter, ipRouter, 3, 3, 0, far)), xdpDrop, verdict.ReasonNoConduit},
		{"an error to who sent the packet, behind the router", []sent{pull}, a(quoting(macRouter, ipFar, 3, 3, 0, far)), xdpRedirect, 0},
		{"an error about an echo", []sent{b(ether(macHMI, macPLC, echo))}, a(quoting(macHMI, ipHMI, 3, 1, 0, echo)), xdpRedirect, 0},
		{"an error about an error", []sent{b(ether(macHMI, macPLC, echo))}, a(quoting(macHMI, ipHMI, 3, 1, 0, ipPacket(ipHMI, ipPLC, 1, 0, icmpEcho(3, 8)))), xdpDrop, verdict.ReasonNoConduit},
		{"an error about a later fragment", []sent{b(syn)}, a(quoting(macHMI, ipHMI, 11, 1, 0, ipPacket(ipHMI, ipPLC, 6, 5, tcpSegment(40000, 102, flagSYN)))), xdpDrop, verdict.ReasonNoConduit},
		{"an error that quotes half a header", []sent{b(syn)}, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, 0, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, syn.body[:10]...)))), xdpDrop, verdict.ReasonNoConduit},
		{"an error that quotes another protocol", []sent{b(syn)}, a(quoting(macHMI, ipHMI, 3, 3, 0, ipPacket(ipHMI, ipPLC, 17, 0, tcpSegment(40000, 102, flagSYN)))), xdpDrop, verdict.ReasonNoConduit},
		{"an error in another VLAN than the conversation", []sent{b(syn)}, a(quoting(macHMI, ipHMI, 3, 3, 0, syn.body).tagged(0x8100<<16 | 20)), xdpDrop, verdict.ReasonNoConduit},
		{"an error of a device in between, which is none", []sent{b(syn)}, a(ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 1, 0, icmpError(3, 3, 0, syn.body)))), xdpDrop, verdict.ReasonNoConduit},
		{"an error of the conversation's end from its other side", []sent{b(syn)}, b(quoting(macHMI, ipHMI, 3, 3, 0, syn.body)), xdpDrop, verdict.ReasonWrongPort},
		{"IPv6: an error of a live flow", []sent{b(ether(macHMI, macPLC, syn6))}, a(quoting6(ip6HMI, 1, 0, syn6)), xdpRedirect, 0},
		{"IPv6: too big, at the least that IPv6 has", []sent{b(ether(macHMI, macPLC, syn6))}, a(quoting6(ip6HMI, 2, 1280, syn6)), xdpRedirect, 0},
		{"IPv6: too big, below it", []sent{b(ether(macHMI, macPLC, syn6))}, a(quoting6(ip6HMI, 2, 1279, syn6)), xdpDrop, verdict.ReasonMalformed},
		{"IPv6: an error of no flow", nil, a(quoting6(ip6HMI, 1, 0, syn6)), xdpDrop, verdict.ReasonNoConduit},
		{"source quench is no error of a flow", []sent{b(syn)}, a(quoting(macHMI, ipHMI, 4, 0, 0, syn.body)), xdpDrop, verdict.ReasonNoConduit},

		// Fragments.
		{"a tunnel's first fragment under address-only", nil, b(rtu4(17, 0x2000, vxlan)), xdpDrop, verdict.ReasonEncapsulation},
		{"the same where fragments have an entry", []sent{b(rtu4(17, 0, datagram)), b(rtu4(17, 0x2000, datagram))}, b(rtu4(17, 0x2000, vxlan)), xdpDrop, verdict.ReasonEncapsulation},
		{"the same behind IPv4 options", nil, b(optioned(rtu4(17, 0x2000, vxlan), 1, 1, 1, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"the same of IPv6", nil, b(extended(rtu6(vxlan), 44)), xdpDrop, verdict.ReasonEncapsulation},
		{"the same of IPv6 behind another header", nil, b(extended(rtu6(vxlan), 60, 44)), xdpDrop, verdict.ReasonEncapsulation},
		{"its later fragment, which nobody can put together", nil, b(rtu4(17, 3, make([]byte, 64))), xdpRedirect, 0},
		{"a routed packet's first fragment", nil, b(edited(extended(rtu6(datagram), 43, 44), 43, 1)), xdpDrop, verdict.ReasonEncapsulation},
		{"a lease's first fragment under address-only", nil, b(rtu4(17, 0x2000, dhcp)), xdpDrop, verdict.ReasonEncapsulation},
		{"another first fragment", nil, b(rtu4(17, 0x2000, datagram)), xdpRedirect, 0},
		{"a first fragment too small for its ports", nil, b(rtu4(17, 0x2000, datagram[:4])), xdpRedirect, 0},
		{"an overlapping fragment", []sent{b(rtu4(17, 0x2000, datagram))}, b(rtu4(17, 1, datagram)), xdpRedirect, 0},
		{"a fragment beyond the largest packet", nil, b(rtu4(17, 0x1fff, make([]byte, 64))), xdpDrop, verdict.ReasonMalformed},
		{"a fragment up to the end of the largest packet", nil, b(rtu4(17, 0x1fff, make([]byte, 7))), xdpRedirect, 0},
		{"a fragment of IPv6 beyond the largest packet", nil, b(edited(edited(extended(rtu6(make([]byte, 64)), 44), 42, 0xff), 43, 0xf8)), xdpDrop, verdict.ReasonMalformed},
		{"TCP in a fragment that says it is a datagram of IPv6", nil, b(edited(extended(ether(macHMI, macPLC, ipPacket(ip6HMI, ip6PLC, 6, 0, tcpSegment(1, 502, flagSYN))), 44), 40, 17)), xdpDrop, verdict.ReasonFragment},
		{"neighbour discovery in a fragment", nil, b(extended(claim, 44)), xdpDrop, verdict.ReasonFragment},

		// Ports that have to be named.
		{"a lease under address-only", nil, b(rtu4(17, 0, dhcp)), xdpDrop, verdict.ReasonNoConduit},
		{"a lease of IPv6 under address-only", nil, b(rtu6(udpDatagram(547, 546))), xdpDrop, verdict.ReasonNoConduit},
		{"a tunnel under a conduit that another cuts in two", nil, b(router(8472)), xdpDrop, verdict.ReasonEncapsulation},
		{"a port beside it", nil, b(router(8473)), xdpRedirect, 0},
		{"what cuts it", nil, b(router(123)), xdpRedirect, 0},
		{"a fragment that may be of either", nil, b(ether(macRouter, macRTU, ipPacket(ipRouter, ipRTU, 17, 0x2000, datagram))), xdpDrop, verdict.ReasonFragment},
		{"ESP in datagrams", nil, b(rtu4(17, 0, udpDatagram(4500, 4500))), xdpDrop, verdict.ReasonEncapsulation},
		{"WireGuard", nil, b(rtu4(17, 0, udpDatagram(1, 51820))), xdpDrop, verdict.ReasonEncapsulation},

		// Who one is.
		{"a probe for another's address", nil, b(arp(macHMI, broadcast, macHMI, ipNone, ipPLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"a probe for another's address, as a reply to that one", nil, b(edited(arp(macHMI, macPLC, macHMI, ipNone, ipPLC), 7, 2)), xdpDrop, verdict.ReasonARPSpoofed},
		{"a probe for nobody's address", nil, a(arp(macDrive, broadcast, macDrive, ipNone, ipOdd)), xdpRedirect, 0},
		{"a device without addresses probes another's", nil, a(arp(macDrive, broadcast, macDrive, ipNone, ipHMI)), xdpDrop, verdict.ReasonARPSpoofed},
		{"the router probes an address behind it", nil, b(arp(macRouter, broadcast, macRouter, ipNone, ipFar)), xdpDrop, verdict.ReasonARPSpoofed},
		{"duplicate detection for another's address", nil, b(discovery(solicitation, 255, macHMI, solicited(ip6PLC), netip.IPv6Unspecified(), ip6PLC, 0, macHMI)), xdpDrop, verdict.ReasonARPSpoofed},
		{"duplicate detection for its own", nil, b(discovery(solicitation, 255, macHMI, solicited(ip6HMI), netip.IPv6Unspecified(), ip6HMI, 0, macHMI)), xdpRedirect, 0},
		{"duplicate detection for a link-local address", nil, b(discovery(solicitation, 255, macHMI, solicited(ip6HMI), netip.IPv6Unspecified(), netip.MustParseAddr("fe80::20"), 0, macHMI)), xdpRedirect, 0},
		{"optimistic: it asks from its tentative address without its MAC", nil, b(discovery(solicitation, 255, macHMI, solicited(ip6PLC), ip6HMI, ip6PLC, 0, macHMI)), xdpRedirect, 0},
		{"a claim behind hop-by-hop", nil, b(extended(claim, 0)), xdpDrop, verdict.ReasonARPSpoofed},
		{"a claim behind seven headers", nil, b(extended(claim, 0, 60, 60, 60, 60, 60, 60)), xdpDrop, verdict.ReasonARPSpoofed},
		{"a claim behind nine headers", nil, b(extended(claim, 0, 60, 60, 60, 60, 60, 60, 60, 60)), xdpDrop, verdict.ReasonEncapsulation},
		{"a device without addresses as 0.0.0.0", nil, a(drive(ipNone, 6, tcpSegment(1, 9, flagSYN))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"as one of this network", nil, a(drive(netip4(0, 0, 0, 9), 17, datagram)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"as the receiver itself", nil, a(drive(netip4(127, 0, 0, 1), 17, datagram)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"as a group, for the answer to reach all of it", nil, a(drive(netip4(224, 0, 1, 9), 17, datagram)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"as everybody", nil, a(drive(ipAll, 17, datagram)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"as ::1", nil, a(drive(netip.MustParseAddr("::1"), 17, datagram)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"as a group of IPv6", nil, a(drive(ip6All, 17, datagram)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"as nobody who is", nil, a(drive(ipOdd, 17, datagram)), xdpRedirect, 0},
		{"from the receiver's own address", nil, b(ether(macHMI, macPLC, ipPacket(ipPLC, ipPLC, 6, 0, tcpSegment(102, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"to a MAC of zeros", nil, b(raw(macSCADA, [6]byte{}, 0x8892, 46)), xdpDrop, verdict.ReasonUnknownDestination},
		{"from a group, along a flow to it", []sent{a(castFrame(macRTU, ipRTU, netip4(239, 192, 1, 1), 2222))}, b(ether(groupMAC(netip4(239, 192, 1, 1)), macRTU, ipPacket(netip4(239, 192, 1, 1), ipRTU, 17, 0, udpDatagram(2222, 5000)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"IPv4 in the address of IPv6", nil, b(ether(macHMI, macPLC, ipPacket(netip.MustParseAddr("::198.18.0.20"), ip6PLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},

		// VLANs.
		{"a VLAN that the receiver is not in", nil, b(rtu4(17, 0, datagram).tagged(0x8100<<16 | 10)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"an inner VLAN that the receiver is not in", nil, b(rtu4(17, 0, datagram).tagged(0x8100<<16, 0x8100<<16|10)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"ARP in a VLAN that the receiver is not in", nil, b(arp(macHMI, macRTU, macHMI, ipHMI, ipRTU).tagged(0x8100<<16 | 10)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"trunk negotiation", nil, b(snap(macHMI, [6]byte{1, 0, 0x0c, 0xcc, 0xcc, 0xcc}, 0, 0, 0x0c)), xdpDrop, verdict.ReasonUnknownDestination},
		{"three priority tags", nil, b(syn.tagged(0x8100<<16, 0x8100<<16, 0x8100<<16)), xdpDrop, verdict.ReasonEncapsulation},

		// Another's conversation.
		{"a RST by a neighbour", []sent{b(syn)}, b(ether(macSCADA, macPLC, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(40000, 102, flagRST)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"a FIN by a neighbour", []sent{b(syn)}, b(ether(macSCADA, macPLC, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(40000, 102, flagFIN|flagACK)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"a RST by a neighbour of the responder", []sent{b(syn)}, a(ether(macRTU, macHMI, ipPacket(ipPLC, ipHMI, 6, 0, tcpSegment(102, 40000, flagRST)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"a RST with the responder's MAC from the initiator's side", []sent{b(syn)}, b(plcTCP(102, 40000, flagRST)), xdpDrop, verdict.ReasonWrongPort},
		{"the conversation goes on after all that", []sent{b(syn),
			b(ether(macSCADA, macPLC, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(40000, 102, flagRST)))),
			a(ether(macRTU, macHMI, ipPacket(ipPLC, ipHMI, 6, 0, tcpSegment(102, 40000, flagRST)))),
			b(plcTCP(102, 40000, flagRST)), after(11 * time.Second)}, a(plcTCP(102, 40000, flagSYN|flagACK)), xdpRedirect, 0},
		{"SYN with RST of the responder", []sent{b(syn)}, a(plcTCP(102, 40000, flagSYN|flagRST)), xdpDrop, verdict.ReasonTCPState},
		{"every flag at once against the conduit", []sent{b(syn)}, a(plcTCP(102, 40001, 0x3f)), xdpDrop, verdict.ReasonNoConduit},
		{"simultaneous open where messages are read", []sent{b(hmiTCP(40000, 502, flagSYN))}, a(plcTCP(502, 40000, flagSYN)), xdpDrop, verdict.ReasonTCPState},
		{"a datagram from the answered port to another", []sent{b(hmi4(17, 0, udpDatagram(40000, 53)))}, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40001)))), xdpDrop, verdict.ReasonNoConduit},
		{"an echo the other way with the identifier of one", []sent{b(ether(macHMI, macPLC, echo))}, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, 0, icmpEcho(8, 7)))), xdpDrop, verdict.ReasonNoConduit},
		{"an address mask request with that identifier", []sent{b(ether(macHMI, macPLC, echo))}, b(hmi4(1, 0, icmpEcho(17, 7))), xdpDrop, verdict.ReasonNoConduit},
		{"a value in another's name", nil, b(raw(macHMI, [6]byte{1, 0x0c, 0xcd, 1, 0, 1}, 0x88b8, 46)), xdpDrop, verdict.ReasonNoConduit},

		// Lengths that lie.
		{"IPv6: its payload ends inside the TCP header", nil, b(cut(hmi6(6, tcpSegment(40000, 102, flagSYN)), 19)), xdpDrop, verdict.ReasonMalformed},
		{"IPv6: its payload ends inside the UDP header", nil, b(cut(rtu6(datagram), 7)), xdpDrop, verdict.ReasonMalformed},
		{"IPv6: an extension header ends behind the payload", nil, b(cut(extended(hmi6(6, tcpSegment(40000, 102, flagSYN)), 60), 7)), xdpDrop, verdict.ReasonMalformed},
		{"IPv4: options end behind the packet", nil, b(edited(syn, 0, 0x4f)), xdpDrop, verdict.ReasonMalformed},
		{"version 6 in an IPv4 frame", nil, b(edited(syn, 0, 0x65)), xdpDrop, verdict.ReasonMalformed},
		{"an advertisement whose option has no length", nil, b(edited(claim, 40+24+1, 0)), xdpDrop, verdict.ReasonMalformed},
		{"an advertisement whose option is longer than it", nil, b(edited(claim, 40+24+1, 2)), xdpDrop, verdict.ReasonMalformed},
		{"an advertisement that ends inside its target", nil, b(cut(claim, 20)), xdpDrop, verdict.ReasonMalformed},

		// Groups of the link.
		{"a pause of the link", nil, b(raw(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 1}, 0x8808, 46)), xdpDrop, verdict.ReasonLinkLocal},
		{"a pause to a device", nil, b(raw(macHMI, macPLC, 0x8808, 46)), xdpDrop, verdict.ReasonNoConduit},
		{"multicast registration", nil, b(raw(macOdd, [6]byte{1, 0x80, 0xc2, 0, 0, 0x20}, 0x88f6, 46)), xdpRedirect, 0},
		{"something else to its group", nil, b(raw(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 0x20}, 0x8892, 46)), xdpDrop, verdict.ReasonLinkLocal},
		{"a bridges' LLC that ends before it begins", nil, b(packet{src: macOdd, dst: [6]byte{1, 0x80, 0xc2, 0, 0, 0}, ethertype: 2, body: []byte{0x42, 0x42, 3}}), xdpDrop, verdict.ReasonLinkLocal},

		// What the policy says by its own choice: a broadcast means everybody, whatever address is inside.
		{"a device's address in a broadcast frame", nil, a(ether(macPLC, broadcast, ipPacket(ipPLC, ipSCADA, 17, 0, udpDatagram(68, 67)))), xdpRedirect, 0},
		{"the same to a port that no conduit to broadcast has", nil, a(ether(macPLC, broadcast, ipPacket(ipPLC, ipSCADA, 17, 0, udpDatagram(68, 161)))), xdpDrop, verdict.ReasonNoConduit},

		// Observed by itself.
		{"a fragment of an answer where all conduits of the other way are observed", nil, b(ether(macSCADA, macPress, ipPacket(ipSCADA, ipPress, 17, 0x2000, datagram))), xdpRedirect, verdict.ReasonFragment},
		{"the same of another protocol", nil, b(ether(macSCADA, macPress, ipPacket(ipSCADA, ipPress, 6, 0x2000, tcpSegment(9, 1, flagACK)))), xdpDrop, verdict.ReasonNoConduit},
	}
}

// zoneAttackRows is what a zone as a whole does not permit its members.
func zoneAttackRows() []row {
	ip6Press, ip6Feeder := netip.MustParseAddr("2001:2::30"), netip.MustParseAddr("2001:2::31")
	v4 := func(protocol uint8, fragment uint16, body []byte) packet {
		return ether(macPress, macFeeder, ipPacket(ipPress, ipFeeder, protocol, fragment, body))
	}
	v6 := func(protocol uint8, body []byte) packet {
		return ether(macPress, macFeeder, ipPacket(ip6Press, ip6Feeder, protocol, 0, body))
	}
	llc := func(head ...byte) packet {
		return packet{src: macPress, dst: macFeeder, ethertype: 46, body: append(head, make([]byte, 46-len(head))...)}
	}
	rows := []row{
		{"a datagram", nil, a(v6(17, udpDatagram(1, 9))), xdpRedirect, 0},
		{"the same behind eight headers", nil, a(extended(v6(17, udpDatagram(1, 9)), 0, 60, 60, 60, 60, 60, 60, 60)), xdpRedirect, 0},
		{"behind nine headers", nil, a(extended(v6(17, udpDatagram(1, 4789)), 0, 60, 60, 60, 60, 60, 60, 60, 60)), xdpDrop, verdict.ReasonEncapsulation},
		{"a tunnel behind eight headers", nil, a(extended(v6(17, udpDatagram(1, 4789)), 0, 60, 60, 60, 60, 60, 60, 60)), xdpDrop, verdict.ReasonEncapsulation},
		{"a header behind the fragment header", nil, a(extended(v6(17, udpDatagram(1, 4789)), 44, 60)), xdpDrop, verdict.ReasonEncapsulation},
		{"a fragment header behind a fragment header", nil, a(extended(v6(17, udpDatagram(1, 4789)), 44, 44)), xdpDrop, verdict.ReasonEncapsulation},
		{"a tunnel's first fragment", nil, a(v4(17, 0x2000, udpDatagram(1, 4789))), xdpDrop, verdict.ReasonEncapsulation},
		{"a tunnel's first fragment of IPv6", nil, a(extended(v6(17, udpDatagram(1, 4789)), 44)), xdpDrop, verdict.ReasonEncapsulation},
		{"a fragment of 6in4", nil, a(v4(41, 0x2000, make([]byte, 40))), xdpDrop, verdict.ReasonEncapsulation},
		{"a later fragment of GRE", nil, a(v4(47, 100, make([]byte, 40))), xdpDrop, verdict.ReasonEncapsulation},
		{"neighbour discovery in a fragment", nil, a(extended(to6(discovery(advertisement, 255, macPress, macFeeder, ip6Press, ip6Feeder, 2, macPress), ip6Feeder), 44)), xdpDrop, verdict.ReasonFragment},
		{"a lease that nobody asked for", nil, a(v4(17, 0, udpDatagram(67, 68))), xdpDrop, verdict.ReasonNoConduit},
		{"a lease of IPv6", nil, a(v6(17, udpDatagram(547, 546))), xdpDrop, verdict.ReasonNoConduit},
		{"renumbering of routers", nil, a(v6(58, icmpEcho(138, 0))), xdpDrop, verdict.ReasonNoConduit},
		{"a pause", nil, a(raw(macPress, macFeeder, 0x8808, 46)), xdpDrop, verdict.ReasonNoConduit},
		{"SNAP with another access point at the source", nil, a(llc(0xaa, 0, 3, 0, 0, 0, 8, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"SNAP to the group of its access point", nil, a(llc(0xab, 0xaa, 3, 0, 0, 0, 8, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"SNAP that wants an answer", nil, a(llc(0xaa, 0xaa, 0x13, 0, 0, 0, 8, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"SNAP around a bridged frame", nil, a(llc(0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, 7)), xdpDrop, verdict.ReasonEncapsulation},
		{"IP by its own access point", nil, a(llc(6, 6, 3, 0x45)), xdpDrop, verdict.ReasonEncapsulation},
		{"SNAP behind the length", nil, a(packet{src: macPress, dst: macFeeder, ethertype: 3, body: []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45}}), xdpDrop, verdict.ReasonEncapsulation},
		{"SNAP of a vendor", nil, a(llc(0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0)), xdpRedirect, 0},
	}
	for _, e := range []etherType{{"PPP", 0x880b}, {"network service headers", 0x894f}, {"a message that says where to send it on", 0x9000}} {
		rows = append(rows, row{e.name, nil, a(raw(macPress, macFeeder, e.number, 46)), xdpDrop, verdict.ReasonEncapsulation})
	}
	for _, p := range []struct {
		name   string
		number uint8
	}{
		{"authentication headers", 51}, {"minimal encapsulation", 55}, {"IPIP", 94}, {"ENCAP", 98}, {"compressed IP", 108},
		{"Ethernet in IP", 143}, {"aggregation", 144}, {"mobility", 135}, {"host identity", 139}, {"shim", 140},
	} {
		rows = append(rows,
			row{p.name, nil, a(v4(p.number, 0, make([]byte, 40))), xdpDrop, verdict.ReasonEncapsulation},
			row{p.name + " over IPv6", nil, a(v6(p.number, make([]byte, 40))), xdpDrop, verdict.ReasonEncapsulation})
	}
	return rows
}

// strangerAttackRows is what strangers may not do although they are permitted.
func strangerAttackRows() []row {
	detection := func(target netip.Addr) packet {
		return discovery(solicitation, 255, macOdd, solicited(target), netip.IPv6Unspecified(), target, 0, macOdd)
	}
	return []row{
		{"a probe for nobody's address", nil, b(arp(macOdd, broadcast, macOdd, ipNone, ipOdd)), xdpRedirect, verdict.ReasonUnknownSource},
		{"a probe for somebody's address", nil, b(arp(macOdd, broadcast, macOdd, ipNone, ipPLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"duplicate detection for somebody's address", nil, b(detection(ip6PLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"duplicate detection for nobody's", nil, b(detection(netip.MustParseAddr("2001:2::77"))), xdpRedirect, verdict.ReasonUnknownSource},
		{"a device in a VLAN that the receiver is not in", nil, b(rtu4(17, 0, udpDatagram(1, 9)).tagged(0x8100<<16 | 10)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"a malformed packet of a stranger", nil, b(ether(macOdd, macPLC, longer(ipPacket(ipOdd, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN))))), xdpDrop, verdict.ReasonMalformed},
	}
}
