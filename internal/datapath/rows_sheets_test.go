package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/verdict"
)

func sheets() []sheet {
	return []sheet{
		{name: "Ethernet", rows: ethernetRows()},
		{name: "EtherTypes", rows: etherTypeRows()},
		{name: "EtherTypes by name", rows: etherTypeRows(), replace: []string{
			"ethertypes: [0x8892, 0x88b8, 0x88ba, 0x88a4, 0x88ab, 0x88cd, 0x892f, 0x88fb, 0x88f7, 0x88cc, 0x88e3, 0x80e1, 0x88e5, 0x888e]",
			"ethertypes: [profinet, goose, sv, ethercat, powerlink, sercos, hsr, prp, ptp, lldp, mrp, dlr, macsec, eapol]"}},
		{name: "tags", rows: tagRows()},
		{name: "IPv4", rows: ipv4Rows()},
		{name: "IPv6", rows: ipv6Rows()},
		{name: "fragments", rows: fragmentRows()},
		{name: "groups", rows: groupRows()},
		{name: "ARP", rows: arpRows()},
		{name: "routers", rows: routerRows()},
		{name: "boot", rows: bootRows()},
		{name: "attacks", rows: attackRows()},
		{name: "attacks in a zone that permits itself", rows: zoneAttackRows(), replace: []string{"DEFAULTS", rowsZoneWide}},
		{name: "attacks of strangers who are permitted", rows: strangerAttackRows(), replace: []string{"DEFAULTS", "on_outage: open, unknown_identity: permit"}},
		{name: "tunnels", rows: tunnelRows()},
		{name: "TCP", rows: tcpRows(), prepare: func(d *Datapath) { d.control.setAdoptUntil(0) }},
		{name: "adoption", rows: adoptionRows()},
		{name: "idle limits", rows: idleRows(), prepare: func(d *Datapath) { d.control.setAdoptUntil(0) }},
		{name: "lax", rows: laxRows(), replace: []string{"DEFAULTS",
			"on_outage: open, unknown_identity: permit, intra_zone: permit, arp: permit, link_local: deny"}},
		{name: "intra_zone deny", rows: []row{
			{"two of a zone", nil, b(ether(macFeeder, macPress, ipPacket(ipFeeder, ipPress, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonNoConduit},
		}},
		{name: "observed conduit", rows: observedRows(), replace: []string{"CONDUIT", ", mode: observe, limit: {frames: 1/s, burst: 1s}"}},
		{name: "observe", rows: discoverRows(), replace: []string{"mode: enforce\n", "mode: observe\n"}},
		{name: "discover", rows: discoverRows(), replace: []string{"mode: enforce\n", "mode: discover\n"}},
		{name: "outage", rows: outageRows(), prepare: func(d *Datapath) { d.Rest(QueueCloses); d.Rest(QueueOpens) }},
		{name: "outage of the queue that opens", prepare: func(d *Datapath) { d.Rest(QueueOpens) }, rows: []row{
			{"the queue that closes goes on", nil, b(strictSYN()), xdpPass, 0},
			{"its own opens", nil, b(hmiTCP(40000, 502, flagSYN)), xdpRedirect, verdict.ReasonOutageOpen},
		}},
		{name: "rate", replace: []string{"CONDUIT", ", limit: {frames: 1/s, burst: 1s}"}, rows: []row{
			{"the frame over the conduit's rate", []sent{b(hmiTCP(40000, 502, flagSYN))}, b(hmiTCP(40000, 502, flagACK)), xdpDrop, verdict.ReasonRateExceeded},
			{"another conduit's", nil, b(hmiTCP(40000, 102, flagSYN)), xdpRedirect, 0},
		}},
		{name: "storm", replace: []string{"DEFAULTS", rowsDefaults + ", storm: {broadcast: {frames: 1/s, burst: 1s}, multicast: {frames: 1/s, burst: 1s}, link_local: {frames: 2/s, burst: 1s}}"}, rows: []row{
			{"a second broadcast", []sent{b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC))}, b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC)), xdpDrop, verdict.ReasonRateExceeded},
			{"a second multicast", []sent{a(castFrame(macRTU, ipRTU, netip4(239, 192, 1, 1), 2222))}, a(castFrame(macRTU, ipRTU, netip4(239, 192, 1, 1), 2222)), xdpDrop, verdict.ReasonRateExceeded},
			{"the other port's broadcast", nil, a(arp(macPLC, broadcast, macPLC, ipPLC, ipHMI)), xdpRedirect, 0},
			{"link-local control is no storm", nil, b(raw(macOdd, [6]byte{1, 0x15, 0x4e, 0, 0, 1}, 0x88e3, 46)), xdpRedirect, 0},
			{"a second one under its own limit", []sent{b(raw(macOdd, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, 0x88cc, 46))}, b(raw(macOdd, [6]byte{1, 0x15, 0x4e, 0, 0, 1}, 0x88e3, 46)), xdpDrop, verdict.ReasonRateExceeded},
			{"the other port's", nil, a(raw(macOdd, [6]byte{1, 0x15, 0x4e, 0, 0, 1}, 0x88e3, 46)), xdpRedirect, 0},
			{"unicast", nil, b(hmiTCP(40000, 102, flagSYN)), xdpRedirect, 0},
		}},
	}
}

func strictSYN() packet {
	return ether(macSCADA, macRTU, ipPacket(ipSCADA, ipRTU, 6, 0, tcpSegment(40000, 502, flagSYN)))
}

func ethernetRows() []row {
	rows := []row{
		{"802.3: LLC with SNAP around IP", nil, b(snap(macSCADA, macDrive, 0, 0, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"802.3: the same as bridges translate it", nil, b(snap(macSCADA, macDrive, 0, 0, 0xf8)), xdpDrop, verdict.ReasonEncapsulation},
		{"802.3: SNAP of a vendor", nil, b(snap(macSCADA, macDrive, 0, 0, 0x0c)), xdpDrop, verdict.ReasonNoConduit},
		{"802.3: SNAP cut off by its length", nil, b(packet{src: macSCADA, dst: macDrive, ethertype: 5, body: []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}}), xdpDrop, verdict.ReasonEncapsulation},
		{"802.3: length beyond the frame", nil, b(packet{src: macSCADA, dst: macDrive, ethertype: 100}), xdpDrop, verdict.ReasonMalformed},
		{"802.3: length 0", nil, b(packet{src: macSCADA, dst: macDrive}), xdpDrop, verdict.ReasonNoConduit},
		{"neither type nor length: 05ff", nil, b(packet{src: macSCADA, dst: macDrive, ethertype: 0x5ff, body: make([]byte, 1535)}), xdpDrop, verdict.ReasonNoConduit},
		{"source is a group", nil, b(raw(broadcast, macDrive, 0x8892, 46)), xdpDrop, verdict.ReasonWrongPort},
		{"source is the destination", nil, b(raw(macDrive, macDrive, 0x8892, 46)), xdpDrop, verdict.ReasonWrongPort},
		{"source is all zeros", nil, b(raw([6]byte{}, macDrive, 0x8892, 46)), xdpDrop, verdict.ReasonUnknownSource},
		{"the largest frame without a tag", nil, b(raw(macSCADA, macDrive, 0x8892, 1500)), xdpRedirect, 0},
		{"a PRP trailer passes a plain conduit", nil, b(trailed(hmiTCP(40000, 102, flagSYN), 0, 0, 0, 0, 0, 0, 0, 1, 0xa0, 0x2e, 0x88, 0xfb)), xdpRedirect, 0},
		{"a PRP trailer on an inspected conduit", nil, b(trailed(hmiTCP(40000, 502, flagSYN), 0, 0, 0, 0, 0, 0, 0, 1, 0xa0, 0x2e, 0x88, 0xfb)), xdpDrop, verdict.ReasonEncapsulation},
		{"padding behind the packet", nil, b(trailed(hmiTCP(40000, 502, flagSYN), make([]byte, 40)...)), xdpPass, 0},
	}
	for _, n := range []int{14, 15, 18, 33, 46, 59} {
		rows = append(rows, row{fmt.Sprintf("short: %d bytes", n), nil, b(raw(macSCADA, macDrive, 0x8892, n-14)), xdpRedirect, 0})
	}
	for _, n := range []int{2000, 4000, 9014} {
		rows = append(rows, row{fmt.Sprintf("jumbo: %d bytes", n), nil, b(raw(macSCADA, macDrive, 0x8892, n-14)), xdpRedirect, 0},
			row{fmt.Sprintf("jumbo: %d bytes, denied", n), nil, b(raw(macHMI, macPLC, 0x8892, n-14)), xdpDrop, verdict.ReasonNoConduit})
	}
	rows = append(rows,
		row{"longer than any frame", nil, b(raw(macSCADA, macDrive, 0x8892, 66000-14)), xdpDrop, verdict.ReasonMalformed},
		row{"longer than any frame around a small packet", nil, b(trailed(hmiTCP(40000, 102, flagSYN), make([]byte, 66000)...)), xdpDrop, verdict.ReasonMalformed})
	for _, n := range []int{15, 33, 34, 53} {
		p := hmiTCP(40000, 102, flagSYN)
		p.short, p.body = true, p.body[:n-14]
		rows = append(rows, row{fmt.Sprintf("TCP cut after %d bytes", n), nil, b(p), xdpDrop, verdict.ReasonMalformed})
	}
	return rows
}

type etherType struct {
	name   string
	number uint16
}

// denied is why the EtherType is denied where no conduit names it: what wraps another frame might
// carry anything.
func (e etherType) denied() verdict.Reason {
	if e.number == 0x892f || e.number == 0x88e5 {
		return verdict.ReasonEncapsulation
	}
	return verdict.ReasonNoConduit
}

func etherTypeRows() []row {
	var rows []row
	for _, e := range []etherType{
		{"PROFINET", 0x8892}, {"GOOSE", 0x88b8}, {"SV", 0x88ba}, {"EtherCAT", 0x88a4}, {"POWERLINK", 0x88ab},
		{"SERCOS", 0x88cd}, {"HSR", 0x892f}, {"PRP supervision", 0x88fb}, {"PTP", 0x88f7}, {"LLDP", 0x88cc},
		{"MRP", 0x88e3}, {"DLR", 0x80e1}, {"MACsec", 0x88e5}, {"EAPOL", 0x888e},
	} {
		rows = append(rows,
			row{e.name + ": named by a conduit", nil, b(raw(macSCADA, macDrive, e.number, 46)), xdpRedirect, 0},
			row{e.name + ": named by none", nil, b(raw(macHMI, macPLC, e.number, 46)), xdpDrop, e.denied()})
	}
	return append(rows,
		row{"one-way", []sent{b(raw(macSCADA, macDrive, 0x8892, 46))}, a(raw(macDrive, macSCADA, 0x8892, 46)), xdpDrop, verdict.ReasonNoConduit},
		row{"GOOSE in VLAN 0 with priority 4", nil, b(raw(macSCADA, macDrive, 0x88b8, 46).tagged(0x8100<<16 | 4<<13)), xdpRedirect, 0},
		row{"EtherType from the wrong side", nil, a(raw(macSCADA, macDrive, 0x8892, 46)), xdpDrop, verdict.ReasonWrongPort},
	)
}

func tagRows() []row {
	syn, inspected := hmiTCP(40000, 102, flagSYN), hmiTCP(40000, 502, flagSYN)
	udp := hmi4(17, 0, udpDatagram(40000, 53))
	return []row{
		{"VLAN on a plain conduit", nil, b(syn.tagged(0x8100<<16 | 10)), xdpRedirect, 0},
		{"VLAN with priority and drop eligible", nil, b(syn.tagged(0x8100<<16 | 0xf00a)), xdpRedirect, 0},
		{"VLAN 4095", nil, b(syn.tagged(0x8100<<16 | 4095)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"88a8 alone on a plain conduit", nil, b(syn.tagged(0x88a8<<16 | 10)), xdpRedirect, 0},
		{"88a8 alone on an inspected conduit", nil, b(inspected.tagged(0x88a8<<16 | 10)), xdpDrop, verdict.ReasonEncapsulation},
		{"priority tag in 88a8 on an inspected conduit", nil, b(inspected.tagged(0x88a8 << 16)), xdpDrop, verdict.ReasonEncapsulation},
		{"outer VLAN not permitted, inner is", nil, b(syn.tagged(0x88a8<<16|11, 0x8100<<16|10)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"a VLAN behind a priority tag", nil, b(syn.tagged(0x8100<<16, 0x8100<<16|11)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"inner VLAN not permitted, outer is", nil, b(syn.tagged(0x88a8<<16|10, 0x8100<<16|11)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"both VLANs permitted", nil, b(syn.tagged(0x88a8<<16|10, 0x8100<<16|20)), xdpRedirect, 0},
		{"an inner priority tag", nil, b(syn.tagged(0x88a8<<16|10, 0x8100<<16)), xdpRedirect, 0},
		{"two VLANs around an EtherType", nil, b(raw(macHMI, macPLC, 0x8892, 46).tagged(0x8100<<16|20, 0x8100<<16|11)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"a flow's priority tag may go", []sent{b(syn.tagged(0x8100<<16 | 5<<13))}, a(plcTCP(102, 40000, flagSYN|flagACK)), xdpRedirect, 0},
		{"or come", []sent{b(syn)}, a(plcTCP(102, 40000, flagSYN|flagACK).tagged(0x8100 << 16)), xdpRedirect, 0},
		{"and is one stream with what has none", []sent{b(inspected)}, a(plcTCP(502, 40000, flagSYN|flagACK).tagged(0x8100 << 16)), xdpPass, 0},
		{"a service tag without identifier is no priority tag of the flow", []sent{b(udp)}, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40000))).tagged(0x88a8 << 16)), xdpDrop, verdict.ReasonNoConduit},
		{"9100 on a plain conduit", nil, b(syn.tagged(0x9100<<16 | 10)), xdpRedirect, 0},
		{"9100 outside, 8100 inside", nil, b(syn.tagged(0x9100<<16|10, 0x8100<<16|20)), xdpRedirect, 0},
		{"8100 outside, 88a8 inside", nil, b(syn.tagged(0x8100<<16|10, 0x88a8<<16|20)), xdpRedirect, 0},
		{"8100 outside, 9100 inside, the VLAN not permitted", nil, b(syn.tagged(0x8100<<16|10, 0x9100<<16|11)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"a permitted VLAN behind a priority tag", nil, b(syn.tagged(0x8100<<16, 0x8100<<16|10)), xdpRedirect, 0},
		{"an untagged device in a VLAN", nil, b(raw(macSCADA, macDrive, 0x8892, 46).tagged(0x8100<<16 | 10)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"ARP in a VLAN", nil, b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC).tagged(0x8100<<16 | 10)), xdpRedirect, 0},
		{"ARP in another", nil, b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC).tagged(0x8100<<16 | 11)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"ARP in QinQ", nil, b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC).tagged(0x88a8<<16|10, 0x8100<<16|20)), xdpRedirect, 0},
		{"ARP behind three tags", nil, b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC).tagged(0x8100<<16|10, 0x8100<<16|20, 0x8100<<16|6)), xdpDrop, verdict.ReasonEncapsulation},
		{"a flow's priority may change", []sent{b(udp.tagged(0x8100<<16 | 10))}, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40000))).tagged(0x8100<<16 | 0xe00a)), xdpRedirect, 0},
		{"a flow's tag may not", []sent{b(udp.tagged(0x8100<<16 | 10))}, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40000))).tagged(0x88a8<<16 | 10)), xdpDrop, verdict.ReasonNoConduit},
		{"a tag cut short", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 0x8100, body: []byte{0, 10}, short: true}), xdpDrop, verdict.ReasonMalformed},
		{"tagged and short", nil, b(raw(macHMI, macPLC, 0x8892, 1).tagged(0x8100<<16 | 10)), xdpDrop, verdict.ReasonNoConduit},
	}
}

func ipv4Rows() []row {
	syn, inspected := hmiTCP(40000, 102, flagSYN), hmiTCP(40000, 502, flagSYN)
	claims := func(p packet, total uint16) packet {
		p.body = append([]byte{}, p.body...)
		binary.BigEndian.PutUint16(p.body[2:], total)
		return p
	}
	return []row{
		{"options: router alert", nil, b(optioned(syn, 148, 4, 0, 0)), xdpRedirect, 0},
		{"options: inspected", nil, b(optioned(inspected, 1, 1, 1, 0)), xdpPass, 0},
		{"options: forty bytes of them", nil, b(optioned(syn, append([]byte{7, 39, 4}, make([]byte, 37)...)...)), xdpRedirect, 0},
		{"options: loose source route", nil, b(optioned(syn, 131, 7, 4, 198, 18, 0, 11, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"options: strict source route behind another", nil, b(optioned(syn, 1, 148, 4, 0, 0, 137, 3, 4)), xdpDrop, verdict.ReasonEncapsulation},
		{"options: a source route over a live flow", []sent{b(syn)}, b(optioned(hmiTCP(40000, 102, flagACK), 131, 7, 4, 198, 18, 0, 11, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"options: a number inside another's data", nil, b(optioned(syn, 68, 8, 5, 0, 131, 137, 131, 137)), xdpRedirect, 0},
		{"options: longer than the header", nil, b(optioned(syn, 7, 9, 4, 0)), xdpDrop, verdict.ReasonMalformed},
		{"options: length 1", nil, b(optioned(syn, 7, 1, 4, 0)), xdpDrop, verdict.ReasonMalformed},
		{"options: inspected, against an unlisted port", nil, b(optioned(hmiTCP(40000, 503, flagSYN), 148, 4, 0, 0)), xdpDrop, verdict.ReasonNoConduit},
		{"version 5", nil, b(edited(syn, 0, 0x55)), xdpDrop, verdict.ReasonMalformed},
		{"header of 16 bytes", nil, b(edited(syn, 0, 0x44)), xdpDrop, verdict.ReasonMalformed},
		{"total length less than the header", nil, b(claims(syn, 19)), xdpDrop, verdict.ReasonMalformed},
		{"TCP header in the padding", nil, b(claims(syn, 20)), xdpDrop, verdict.ReasonMalformed},
		{"half a TCP header in the padding", nil, b(claims(inspected, 30)), xdpDrop, verdict.ReasonMalformed},
		{"TCP header of 16 bytes", nil, b(edited(syn, 32, 0x40)), xdpDrop, verdict.ReasonMalformed},
		{"TCP options beyond the packet", nil, b(edited(syn, 32, 0x60)), xdpDrop, verdict.ReasonMalformed},
		{"UDP length beyond the packet", nil, b(edited(hmi4(17, 0, udpDatagram(40000, 53)), 25, 13)), xdpDrop, verdict.ReasonMalformed},
		{"UDP length below its header", nil, b(edited(hmi4(17, 0, udpDatagram(40000, 53)), 25, 7)), xdpDrop, verdict.ReasonMalformed},
		{"an ICMP header in the padding", nil, b(claims(hmi4(1, 0, icmpEcho(8, 1)), 24)), xdpDrop, verdict.ReasonMalformed},
		{"another protocol", nil, b(hmi4(132, 0, make([]byte, 12))), xdpDrop, verdict.ReasonNoConduit},
		{"source 127.0.0.1", nil, b(ether(macHMI, macPLC, ipPacket(netip4(127, 0, 0, 1), ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"destination 0.0.0.0", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipNone, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonUnknownDestination},
		{"destination 255.255.255.255 to one MAC", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipAll, 17, 0, udpDatagram(1, 53)))), xdpDrop, verdict.ReasonUnknownDestination},
	}
}

func ipv6Rows() []row {
	syn := hmi6(6, tcpSegment(40000, 102, flagSYN))
	inspected := hmi6(6, tcpSegment(40000, 502, flagSYN))
	const hop, routing, fragment, destination, authentication, none = 0, 43, 44, 60, 51, 59
	mapped := netip.AddrFrom16(ipHMI.As16())
	return []row{
		{"plain", nil, b(syn), xdpRedirect, 0},
		{"inspected", nil, b(inspected), xdpPass, 0},
		{"inspected in a VLAN", nil, b(inspected.tagged(0x8100<<16 | 10)), xdpPass, 0},
		{"hop-by-hop", nil, b(extended(syn, hop)), xdpRedirect, 0},
		{"destination options", nil, b(extended(syn, destination)), xdpRedirect, 0},
		{"routing without segments left", nil, b(extended(syn, routing)), xdpRedirect, 0},
		{"routing with a segment left", nil, b(edited(extended(syn, routing), 43, 1)), xdpDrop, verdict.ReasonEncapsulation},
		{"the same over a live flow", []sent{b(syn)}, b(edited(extended(hmi6(6, tcpSegment(40000, 102, flagACK)), routing), 43, 1)), xdpDrop, verdict.ReasonEncapsulation},
		{"three headers, inspected", nil, b(extended(inspected, hop, destination, routing)), xdpPass, 0},
		{"eight headers", nil, b(extended(syn, hop, 60, 60, 60, 60, 60, 60, 60)), xdpRedirect, 0},
		{"nine headers", nil, b(extended(syn, hop, 60, 60, 60, 60, 60, 60, 60, 60)), xdpDrop, verdict.ReasonEncapsulation},
		{"a header beyond the packet", nil, b(edited(extended(syn, destination), 41, 9)), xdpDrop, verdict.ReasonMalformed},
		{"authentication is not walked", nil, b(extended(syn, authentication)), xdpDrop, verdict.ReasonEncapsulation},
		{"no next header", nil, b(hmi6(none, nil)), xdpDrop, verdict.ReasonNoConduit},
		{"a fragment header around a whole packet", nil, b(extended(syn, fragment)), xdpDrop, verdict.ReasonFragment},
		{"a jumbogram", nil, b(edited(extended(syn, hop), 5, 0)), xdpDrop, verdict.ReasonMalformed},
		{"payload beyond the frame", nil, b(edited(syn, 5, 255)), xdpDrop, verdict.ReasonMalformed},
		{"version 4 in an IPv6 frame", nil, b(edited(syn, 0, 0x40)), xdpDrop, verdict.ReasonMalformed},
		{"an IPv4 address mapped into IPv6", nil, b(ether(macHMI, macPLC, ipPacket(mapped, ip6PLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonMalformed},
		{"both mapped, over an IPv4 flow", []sent{b(hmiTCP(40000, 102, flagSYN))},
			b(ether(macHMI, macPLC, ipPacket(mapped, netip.AddrFrom16(ipPLC.As16()), 6, 0, tcpSegment(40000, 102, flagACK)))), xdpDrop, verdict.ReasonMalformed},
		{"spoofed", nil, b(ether(macHMI, macPLC, ipPacket(ip6SCADA, ip6PLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"to another device's address", nil, b(ether(macHMI, macPLC, ipPacket(ip6HMI, ip6RTU, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonUnknownDestination},
		{"ICMPv6 echo", nil, b(hmi6(58, icmpEcho(128, 9))), xdpRedirect, 0},
		{"its reply", []sent{b(hmi6(58, icmpEcho(128, 9)))}, a(ether(macPLC, macHMI, ipPacket(ip6PLC, ip6HMI, 58, 0, icmpEcho(129, 9)))), xdpRedirect, 0},
		{"a reply without its request", nil, a(ether(macPLC, macHMI, ipPacket(ip6PLC, ip6HMI, 58, 0, icmpEcho(129, 9)))), xdpDrop, verdict.ReasonNoConduit},
		{"ICMPv4 in IPv6", nil, b(hmi6(1, icmpEcho(8, 9))), xdpRedirect, 0},
		{"an advertisement's ninth option claims a MAC", nil, b(advertisementWith(9)), xdpDrop, verdict.ReasonMalformed},
		{"an advertisement's fifth option claims a MAC", nil, b(advertisementWith(5)), xdpDrop, verdict.ReasonARPSpoofed},
	}
}

// advertisementWith is hmi's neighbour advertisement whose last of n options names another's MAC.
func advertisementWith(n int) packet {
	body := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, ip6HMI.AsSlice()...)
	for range n - 1 {
		body = append(body, 14, 1, 0, 0, 0, 0, 0, 0) // nonces (RFC 3971 5.3.2)
	}
	body = append(append(body, 2, 1), macOdd[:]...)
	p := ether(macHMI, macPLC, ipPacket(ip6HMI, ip6PLC, 58, 0, body))
	p.body[7] = 255
	return p
}

func fragmentRows() []row {
	const first, later, last = 0x2000, 0x2000 | 185, 200
	udp := udpDatagram(40000, 53)
	fragment6 := func(dst [6]byte, to netip.Addr, protocol uint8, body []byte) packet {
		return extended(ether(macHMI, dst, ipPacket(ip6HMI, to, protocol, 0, body)), 44)
	}
	return []row{
		{"v4: inspected, first", nil, b(hmi4(6, first, tcpSegment(1, 502, flagSYN))), xdpDrop, verdict.ReasonFragment},
		{"v4: inspected, later", nil, b(hmi4(6, later, make([]byte, 64))), xdpDrop, verdict.ReasonFragment},
		{"v4: port-bound, first", nil, b(hmi4(17, first, udp)), xdpDrop, verdict.ReasonFragment},
		{"v4: port-bound, last", nil, b(hmi4(17, last, udp)), xdpDrop, verdict.ReasonFragment},
		{"v4: over a live port-bound flow", []sent{b(hmi4(17, 0, udp))}, b(hmi4(17, first, udp)), xdpDrop, verdict.ReasonFragment},
		{"v4: address-only, first", nil, b(rtu4(17, first, udp)), xdpRedirect, 0},
		{"v4: address-only, later", nil, b(rtu4(17, later, make([]byte, 64))), xdpRedirect, 0},
		{"v4: address-only, tiny last", nil, b(rtu4(17, last, []byte{1})), xdpRedirect, 0},
		{"v4: address-only TCP", nil, b(rtu4(6, first, tcpSegment(1, 9, flagACK))), xdpRedirect, 0},
		{"v4: answer of an address-only flow", []sent{b(rtu4(17, 0, udp))}, a(ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 17, later, make([]byte, 64)))), xdpRedirect, 0},
		{"v4: answer without its flow", nil, a(ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 17, first, udp))), xdpDrop, verdict.ReasonNoConduit},
		{"v4: ICMP over an echo whose identifier is 0", []sent{b(hmi4(1, 0, icmpEcho(8, 0)))}, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, first, icmpEcho(5, 0)))), xdpDrop, verdict.ReasonNoConduit},
		{"v4: UDP over a flow whose ports are 0", []sent{b(rtu4(17, 0, udpDatagram(0, 0)))}, a(ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 6, first, udp))), xdpDrop, verdict.ReasonFragment},
		{"v4: don't fragment is none", nil, b(hmi4(17, 0x4000, udp)), xdpRedirect, 0},
		{"v4: with a source route", nil, b(optioned(rtu4(17, first, udp), 131, 3, 4, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"v4: spoofed", nil, b(ether(macHMI, macRTU, ipPacket(ipSCADA, ipRTU, 17, first, udp))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"v4: in a VLAN", nil, b(hmi4(17, first, udp).tagged(0x8100<<16 | 10)), xdpDrop, verdict.ReasonFragment},
		{"v6: inspected", nil, b(fragment6(macPLC, ip6PLC, 6, tcpSegment(1, 502, flagSYN))), xdpDrop, verdict.ReasonFragment},
		{"v6: port-bound", nil, b(fragment6(macPLC, ip6PLC, 17, udp)), xdpDrop, verdict.ReasonFragment},
		{"v6: address-only", nil, b(fragment6(macRTU, ip6RTU, 17, udp)), xdpRedirect, 0},
		{"v6: the header behind another", nil, b(extended(hmi6(17, udp), 0, 44)), xdpDrop, verdict.ReasonFragment},
		{"v6: the fragment header cut short", nil, b(edited(ether(macHMI, macRTU, ipPacket(ip6HMI, ip6RTU, 17, 0, []byte{17, 0, 0, 1})), 6, 44)), xdpDrop, verdict.ReasonMalformed},
	}
}

// groupMAC maps an IP group to its MAC address (RFC 1112 6.4, RFC 2464 7).
func groupMAC(ip netip.Addr) [6]byte {
	if ip.Is4() {
		b := ip.As4()
		return [6]byte{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := ip.As16()
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// castFrame is a datagram to a group.
func castFrame(src [6]byte, from, group netip.Addr, port uint16) packet {
	return ether(src, groupMAC(group), ipPacket(from, group, 17, 0, udpDatagram(5000, port)))
}

func groupRows() []row {
	goose, sv := [6]byte{1, 0x0c, 0xcd, 1, 1, 0xff}, [6]byte{1, 0x0c, 0xcd, 4, 0, 1}
	agents := netip.MustParseAddr("ff02::1:2")
	return []row{
		{"IP group of a network", nil, a(castFrame(macRTU, ipRTU, netip4(239, 195, 255, 255), 2222)), xdpRedirect, 0},
		{"IP group beyond the network", nil, a(castFrame(macRTU, ipRTU, netip4(239, 196, 0, 0), 2222)), xdpDrop, verdict.ReasonUnknownDestination},
		{"IP group, another port", nil, a(castFrame(macRTU, ipRTU, netip4(239, 192, 1, 1), 2223)), xdpDrop, verdict.ReasonNoConduit},
		{"IP group from a device that no conduit names", nil, a(castFrame(macPLC, ipPLC, netip4(239, 192, 1, 1), 2222)), xdpDrop, verdict.ReasonNoConduit},
		{"IP group from the other side", nil, b(castFrame(macHMI, ipHMI, netip4(239, 192, 1, 1), 2222)), xdpDrop, verdict.ReasonNoConduit},
		{"IP group, spoofed", nil, a(castFrame(macRTU, ipPLC, netip4(239, 192, 1, 1), 2222)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"IP group, fragment", nil, a(ether(macRTU, groupMAC(netip4(239, 192, 1, 1)), ipPacket(ipRTU, netip4(239, 192, 1, 1), 17, 0x2000, udpDatagram(1, 2222)))), xdpDrop, verdict.ReasonFragment},
		{"a device's address to a group's MAC", nil, b(ether(macHMI, groupMAC(netip4(239, 192, 1, 1)), ipPacket(ipHMI, ipPLC, 17, 0, udpDatagram(1, 53)))), xdpDrop, verdict.ReasonUnknownDestination},
		{"IPv6 group", nil, b(castFrame(macHMI, ip6HMI, agents, 547)), xdpRedirect, 0},
		{"IPv6 group, another port", nil, b(castFrame(macHMI, ip6HMI, agents, 546)), xdpDrop, verdict.ReasonNoConduit},
		{"MAC group by name", nil, b(raw(macSCADA, goose, 0x88b8, 46)), xdpRedirect, 0},
		{"MAC group by name, one beyond", nil, b(raw(macSCADA, [6]byte{1, 0x0c, 0xcd, 1, 2, 0}, 0x88b8, 46)), xdpDrop, verdict.ReasonUnknownDestination},
		{"MAC group by address", nil, b(raw(macSCADA, sv, 0x88ba, 46)), xdpRedirect, 0},
		{"MAC group, another EtherType", nil, b(raw(macSCADA, goose, 0x88b9, 46)), xdpDrop, verdict.ReasonNoConduit},
		{"MAC group, IP inside", nil, b(ether(macSCADA, goose, ipPacket(ipSCADA, ipPLC, 17, 0, udpDatagram(1, 53)))), xdpDrop, verdict.ReasonNoConduit},
		{"MAC group of nobody", nil, b(raw(macSCADA, [6]byte{3, 0, 0, 0, 0, 1}, 0x88b8, 46)), xdpDrop, verdict.ReasonUnknownDestination},
		{"broadcast of an EtherType", nil, b(raw(macSCADA, broadcast, 0x8892, 46)), xdpDrop, verdict.ReasonNoConduit},
		{"multicast DNS", nil, a(castFrame(macRTU, ipRTU, netip4(224, 0, 0, 251), 5353)), xdpDrop, verdict.ReasonUnknownDestination},
		{"IGMP report", nil, a(optioned(ether(macRTU, groupMAC(netip4(224, 0, 0, 22)), ipPacket(ipRTU, netip4(224, 0, 0, 22), 2, 0, make([]byte, 16))), 148, 4, 0, 0)), xdpDrop, verdict.ReasonUnknownDestination},
		{"link-local: LACP", nil, b(raw(macOdd, [6]byte{1, 0x80, 0xc2, 0, 0, 2}, 0x8809, 110)), xdpRedirect, 0},
		{"link-local: EAPOL", nil, b(raw(macOdd, [6]byte{1, 0x80, 0xc2, 0, 0, 3}, 0x888e, 46)), xdpRedirect, 0},
		{"link-local: GVRP", nil, b(bpdu([6]byte{1, 0x80, 0xc2, 0, 0, 0x21})), xdpRedirect, 0},
		{"link-local: SNAP around IP", nil, b(snap(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, 0, 0, 0)), xdpDrop, verdict.ReasonLinkLocal},
		{"link-local: SNAP of a vendor", nil, b(snap(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 0}, 0, 0, 0x0c)), xdpDrop, verdict.ReasonLinkLocal},
		{"link-local: LLC of nobody's", nil, b(packet{src: macHMI, dst: [6]byte{1, 0x80, 0xc2, 0, 0, 0}, ethertype: 38}), xdpDrop, verdict.ReasonLinkLocal},
		{"link-local: LLC in a VLAN", nil, b(bpdu([6]byte{1, 0x80, 0xc2, 0, 0, 0}).tagged(0x8100<<16 | 11)), xdpRedirect, 0},
		{"link-local: LLDP in a VLAN", nil, b(raw(macOdd, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, 0x88cc, 46).tagged(0x8100<<16 | 11)), xdpRedirect, 0},
		{"link-local: a datagram to LLDP's group", nil, b(ether(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, ipPacket(ipHMI, ipPLC, 17, 0, udpDatagram(1, 44818)))), xdpDrop, verdict.ReasonLinkLocal},
		{"link-local: IPv6 in a VLAN to PTP's group", nil, b(ether(macHMI, [6]byte{1, 0x1b, 0x19, 0, 0, 0}, ipPacket(ip6HMI, ip6PLC, 17, 0, udpDatagram(1, 53))).tagged(0x8100<<16 | 10)), xdpDrop, verdict.ReasonLinkLocal},
		{"link-local: ARP to MRP's group", nil, b(arp(macHMI, [6]byte{1, 0x15, 0x4e, 0, 0, 1}, macHMI, ipHMI, ipPLC)), xdpDrop, verdict.ReasonLinkLocal},
		{"link-local: behind three tags", nil, b(raw(macOdd, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, 0x88cc, 46).tagged(0x8100<<16, 0x8100<<16, 0x8100<<16)), xdpDrop, verdict.ReasonLinkLocal},
	}
}

func arpRows() []row {
	const request, reply, inverse = 1, 2, 8
	as := func(operation byte, p packet) packet { return edited(p, 7, operation) }
	return []row{
		{"request", nil, b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC)), xdpRedirect, 0},
		{"reply", nil, a(as(reply, arp(macPLC, macHMI, macPLC, ipPLC, ipHMI))), xdpRedirect, 0},
		{"unicast poll", nil, b(as(request, arp(macHMI, macPLC, macHMI, ipHMI, ipPLC))), xdpRedirect, 0},
		{"announcement", nil, b(as(request, arp(macHMI, broadcast, macHMI, ipHMI, ipHMI))), xdpRedirect, 0},
		{"gratuitous reply", nil, b(as(reply, arp(macHMI, broadcast, macHMI, ipHMI, ipHMI))), xdpRedirect, 0},
		{"announcement of another's address", nil, b(as(request, arp(macHMI, broadcast, macHMI, ipPLC, ipPLC))), xdpDrop, verdict.ReasonARPSpoofed},
		{"gratuitous reply for another's address", nil, b(as(reply, arp(macHMI, broadcast, macHMI, ipSCADA, ipSCADA))), xdpDrop, verdict.ReasonARPSpoofed},
		{"probe", nil, b(as(request, arp(macHMI, broadcast, macHMI, ipNone, ipHMI))), xdpRedirect, 0},
		{"probe with another's MAC", nil, b(as(request, arp(macHMI, broadcast, macSCADA, ipNone, ipHMI))), xdpDrop, verdict.ReasonARPSpoofed},
		{"proxy: a device answers for another", nil, a(as(reply, arp(macPLC, macHMI, macPLC, ipRTU, ipHMI))), xdpDrop, verdict.ReasonARPSpoofed},
		{"proxy: a router answers for what is behind it", nil, b(as(reply, arp(macRouter, macPLC, macRouter, ipFar, ipPLC))), xdpDrop, verdict.ReasonARPSpoofed},
		{"a router for itself", nil, b(as(reply, arp(macRouter, macPLC, macRouter, netip4(198, 18, 0, 1), ipPLC))), xdpRedirect, 0},
		{"a device without addresses takes a free one", nil, a(arp(macDrive, broadcast, macDrive, ipOdd, ipHMI)), xdpRedirect, 0},
		{"a device without addresses takes another's", nil, a(arp(macDrive, broadcast, macDrive, ipPLC, ipHMI)), xdpDrop, verdict.ReasonARPSpoofed},
		{"a stranger", nil, b(arp(macOdd, broadcast, macOdd, ipOdd, ipPLC)), xdpDrop, verdict.ReasonUnknownSource},
		{"to a stranger", nil, b(arp(macHMI, macOdd, macHMI, ipHMI, ipOdd)), xdpDrop, verdict.ReasonUnknownDestination},
		{"from the wrong side", nil, a(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC)), xdpDrop, verdict.ReasonWrongPort},
		{"between two of one side", nil, a(as(reply, arp(macRTU, macPLC, macRTU, ipRTU, ipPLC))), xdpDrop, 0},
		{"to a group", nil, b(arp(macHMI, [6]byte{1, 0, 0x5e, 0, 0, 1}, macHMI, ipHMI, ipPLC)), xdpDrop, verdict.ReasonUnknownDestination},
		{"inverse ARP claims like a request", nil, b(as(inverse, arp(macHMI, macPLC, macHMI, ipSCADA, ipPLC))), xdpDrop, verdict.ReasonARPSpoofed},
		{"of IEEE 802 hardware", nil, b(edited(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC), 1, 6)), xdpDrop, verdict.ReasonMalformed},
		{"for another protocol", nil, b(edited(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC), 2, 0x86)), xdpDrop, verdict.ReasonMalformed},
		{"addresses of another length", nil, b(edited(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC), 5, 16)), xdpDrop, verdict.ReasonMalformed},
		{"RARP", nil, b(func() packet {
			p := as(3, arp(macHMI, broadcast, macHMI, ipHMI, ipHMI))
			p.ethertype = 0x8035
			return p
		}()), xdpDrop, verdict.ReasonNoConduit},
	}
}

func routerRows() []row {
	from := func(ip netip.Addr, dst [6]byte, to netip.Addr, port uint16) packet {
		return ether(macRouter, dst, ipPacket(ip, to, 6, 0, tcpSegment(40000, port, flagSYN)))
	}
	return []row{
		{"a network behind it", nil, b(from(ipFar, macPLC, ipPLC, 4840)), xdpRedirect, 0},
		{"a longer prefix is another identity", nil, b(from(ipJump, macPLC, ipPLC, 22)), xdpRedirect, 0},
		{"and has none of the shorter one's conduits", nil, b(from(ipJump, macPLC, ipPLC, 4840)), xdpDrop, verdict.ReasonNoConduit},
		{"the shorter one has none of its", nil, b(from(ipFar, macPLC, ipPLC, 22)), xdpDrop, verdict.ReasonNoConduit},
		{"a device's address by the router", nil, b(from(ipSCADA, macRTU, ipRTU, 20000)), xdpDrop, verdict.ReasonAddressSpoofed},
		{"nobody's address by the router", nil, b(from(netip4(198, 19, 0, 1), macPLC, ipPLC, 4840)), xdpDrop, verdict.ReasonUnknownSource},
		{"what is behind the router from a device", nil, b(ether(macHMI, macPLC, ipPacket(ipFar, ipPLC, 6, 0, tcpSegment(1, 4840, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"to what is behind it, by a device's MAC", nil, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipFar, 6, 0, tcpSegment(4840, 1, flagACK)))), xdpDrop, verdict.ReasonUnknownDestination},
		{"the router itself", nil, b(from(netip4(198, 18, 0, 1), macPLC, ipPLC, 4840)), xdpDrop, verdict.ReasonNoConduit},
		{"an IPv6 router that advertises itself", nil, b(discovery(routerAdvertisement, 255, macRouter, [6]byte{0x33, 0x33, 0, 0, 0, 1}, netip.MustParseAddr("fe80::1"), netip.Addr{}, 1, macRouter)), xdpRedirect, 0},
		{"a device that advertises itself as one", nil, a(discovery(routerAdvertisement, 255, macPLC, [6]byte{0x33, 0x33, 0, 0, 0, 1}, netip.MustParseAddr("fe80::1"), netip.Addr{}, 1, macPLC)), xdpDrop, verdict.ReasonARPSpoofed},
	}
}

func bootRows() []row {
	dhcp := func(src, dst [6]byte, from, to netip.Addr, sport, dport uint16) packet {
		return ether(src, dst, ipPacket(from, to, 17, 0, udpDatagram(sport, dport)))
	}
	return []row{
		{"discover from 0.0.0.0", nil, a(dhcp(macPLC, broadcast, ipNone, ipAll, 68, 67)), xdpRedirect, 0},
		{"renewal to broadcast", nil, a(dhcp(macPLC, broadcast, ipPLC, ipAll, 68, 67)), xdpRedirect, 0},
		{"offer to broadcast", nil, b(dhcp(macDHCP, broadcast, ipDHCP, ipAll, 67, 68)), xdpRedirect, 0},
		{"offer to the address offered", nil, b(dhcp(macDHCP, macPLC, ipDHCP, ipPLC, 67, 68)), xdpRedirect, 0},
		{"offer to a device that has no address", nil, b(dhcp(macDHCP, macDrive, ipDHCP, ipOdd, 67, 68)), xdpRedirect, 0},
		{"offer of another's address to a device that has none", nil, b(dhcp(macDHCP, macDrive, ipDHCP, ipPLC, 67, 68)), xdpDrop, verdict.ReasonUnknownDestination},
		{"a second server", nil, b(dhcp(macHMI, broadcast, ipHMI, ipAll, 67, 68)), xdpDrop, verdict.ReasonNoConduit},
		{"a server among the devices", nil, a(dhcp(macRTU, broadcast, ipRTU, ipAll, 67, 68)), xdpDrop, verdict.ReasonNoConduit},
		{"a stranger asks", nil, a(dhcp(macOdd, broadcast, ipNone, ipAll, 68, 67)), xdpDrop, verdict.ReasonUnknownSource},
		{"0.0.0.0 from the wrong side", nil, b(dhcp(macPLC, broadcast, ipNone, ipAll, 68, 67)), xdpDrop, verdict.ReasonWrongPort},
		{"TCP from 0.0.0.0", nil, b(ether(macHMI, macPLC, ipPacket(ipNone, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"an echo from 0.0.0.0", nil, b(ether(macHMI, macPLC, ipPacket(ipNone, ipPLC, 1, 0, icmpEcho(8, 1)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"a datagram from ::", nil, b(ether(macHMI, macPLC, ipPacket(netip.IPv6Unspecified(), ip6PLC, 17, 0, udpDatagram(1, 53)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"a report of groups from ::", nil, b(ether(macHMI, groupMAC(ip6All), ipPacket(netip.IPv6Unspecified(), ip6All, 58, 0, append([]byte{143}, make([]byte, 27)...)))), xdpDrop, verdict.ReasonUnknownDestination},
		{"0.0.0.0 to another port", nil, a(dhcp(macPLC, broadcast, ipNone, ipAll, 68, 69)), xdpDrop, verdict.ReasonNoConduit},
	}
}

func tunnelRows() []row {
	rows := []row{
		{"VXLAN where a conduit names its port", nil, b(ether(macSCADA, macRTU, ipPacket(ipSCADA, ipRTU, 17, 0, udpDatagram(1, 4789)))), xdpRedirect, 0},
		{"VXLAN where no conduit is", nil, b(hmi4(17, 0, udpDatagram(1, 4789))), xdpDrop, verdict.ReasonNoConduit},
	}
	for _, p := range []struct {
		name string
		port uint16
	}{{"VXLAN", 4789}, {"VXLAN as Linux had it", 8472}, {"Geneve", 6081}, {"L2TP", 1701}, {"Teredo", 3544}, {"GTP-U", 2152}} {
		rows = append(rows, row{p.name + " under address-only", nil, b(rtu4(17, 0, udpDatagram(1, p.port))), xdpDrop, verdict.ReasonEncapsulation})
	}
	for _, p := range []struct {
		name     string
		protocol uint8
	}{{"IP in IP", 4}, {"6in4", 41}, {"GRE", 47}, {"EtherIP", 97}, {"L2TPv3", 115}, {"MPLS in IP", 137}, {"ESP", 50}} {
		rows = append(rows, row{p.name, nil, b(rtu4(p.protocol, 0, make([]byte, 40))), xdpDrop, verdict.ReasonEncapsulation})
	}
	for _, p := range []struct {
		name      string
		ethertype uint16
	}{{"PPPoE discovery", 0x8863}, {"PPPoE session", 0x8864}, {"MPLS", 0x8847}, {"MPLS multicast", 0x8848}, {"provider backbone", 0x88e7}} {
		rows = append(rows, row{p.name, nil, b(raw(macSCADA, macDrive, p.ethertype, 46)), xdpDrop, verdict.ReasonEncapsulation})
	}
	return rows
}

func tcpRows() []row {
	segment := func(flags byte) packet { return hmiTCP(40000, 102, flags) }
	reply := func(flags byte) packet { return plcTCP(102, 40000, flags) }
	back := func(sport, dport uint16, flags byte) packet {
		return ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 6, 0, tcpSegment(sport, dport, flags)))
	}
	rtu := func(sport, dport uint16, flags byte) packet { return rtu4(6, 0, tcpSegment(sport, dport, flags)) }
	open := []sent{b(segment(flagSYN)), a(reply(flagSYN | flagACK)), b(segment(flagACK))}
	then := func(more ...sent) []sent { return append(append([]sent{}, open...), more...) }
	return []row{
		{"data of an open connection", open, a(reply(flagACK)), xdpRedirect, 0},
		{"FIN", open, b(segment(flagFIN | flagACK)), xdpRedirect, 0},
		{"data against one FIN", then(b(segment(flagFIN | flagACK))), a(reply(flagACK)), xdpRedirect, 0},
		{"the last ACK", then(b(segment(flagFIN|flagACK)), a(reply(flagFIN|flagACK))), b(segment(flagACK)), xdpRedirect, 0},
		{"RST of the responder", open, a(reply(flagRST)), xdpRedirect, 0},
		{"the same ends again after both FIN", then(b(segment(flagFIN|flagACK)), a(reply(flagFIN|flagACK))), b(segment(flagSYN)), xdpRedirect, 0},
		{"the same ends again after a RST", then(a(reply(flagRST))), b(segment(flagSYN)), xdpRedirect, 0},
		{"closed, then SYN from the responder", then(b(segment(flagRST))), a(reply(flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"open, then SYN from the responder", open, a(reply(flagSYN)), xdpDrop, verdict.ReasonTCPState},
		{"open, then SYN from the responder, which a conduit permits", []sent{b(rtu(9000, 8080, flagSYN)), a(back(8080, 9000, flagSYN|flagACK))}, a(back(8080, 9000, flagSYN)), xdpDrop, verdict.ReasonTCPState},
		{"closed, then SYN from the responder, which a conduit permits", []sent{b(rtu(8080, 8080, flagSYN)), a(back(8080, 8080, flagRST))}, a(back(8080, 8080, flagSYN)), xdpRedirect, 0},
		{"and its answer", []sent{b(rtu(8080, 8080, flagSYN)), a(back(8080, 8080, flagRST)), a(back(8080, 8080, flagSYN))}, b(rtu(8080, 8080, flagSYN|flagACK)), xdpRedirect, 0},
		{"RST without a connection, against the conduit", nil, a(reply(flagRST)), xdpDrop, verdict.ReasonNoConduit},
		{"no flags, against the conduit", nil, a(reply(0)), xdpDrop, verdict.ReasonNoConduit},
		{"SYN with FIN, against the conduit", open, a(reply(flagSYN | flagFIN)), xdpDrop, verdict.ReasonTCPState},
		{"SYN of another initiator port", open, a(plcTCP(102, 40001, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"the connection's ports the other way round", open, b(hmiTCP(102, 40000, flagACK)), xdpDrop, verdict.ReasonNoConduit},
		{"the connection from another MAC", open, b(ether(macSCADA, macPLC, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(40000, 102, flagACK)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"the connection from the other side", open, a(segment(flagACK)), xdpDrop, verdict.ReasonWrongPort},
	}
}

func adoptionRows() []row {
	return []row{
		{"forwards, inspected", nil, b(hmiTCP(40000, 502, flagACK)), xdpPass, 0},
		{"in reverse, inspected", nil, a(plcTCP(502, 40000, flagACK)), xdpPass, 0},
		{"in reverse, FIN", nil, a(plcTCP(102, 40000, flagFIN|flagACK)), xdpRedirect, 0},
		{"in reverse, then the initiator", []sent{a(plcTCP(102, 40000, flagACK))}, b(hmiTCP(40000, 102, flagACK)), xdpRedirect, 0},
		{"in reverse, then the initiator's new SYN", []sent{a(plcTCP(102, 40000, flagACK))}, b(hmiTCP(40000, 102, flagSYN)), xdpRedirect, 0},
		{"in reverse, SYN with ACK", nil, a(plcTCP(102, 40000, flagSYN|flagACK)), xdpDrop, verdict.ReasonNoConduit},
		{"in reverse, RST alone", nil, a(plcTCP(102, 40000, flagRST)), xdpDrop, verdict.ReasonNoConduit},
		{"in reverse, by an enforced conduit where an observed one could not carry it forwards", []sent{b(scadaPLC(6, 0, tcpSegment(8081, 502, flagACK)).tagged(0x88a8 << 16))},
			b(scadaPLC(6, 0, tcpSegment(8081, 502, flagACK)).tagged(0x88a8 << 16)), xdpDrop, verdict.ReasonRateExceeded},
		{"in reverse, a fragment", nil, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 6, 0x2000, tcpSegment(102, 40000, flagACK)))), xdpDrop, verdict.ReasonNoConduit},
		{"in reverse, an echo", nil, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, 0, icmpEcho(0, 7)))), xdpDrop, verdict.ReasonNoConduit},
		{"in reverse, QinQ on an inspected conduit", nil, a(plcTCP(502, 40000, flagACK).tagged(0x88a8<<16|10, 0x8100<<16|20)), xdpDrop, verdict.ReasonNoConduit},
	}
}

func idleRows() []row {
	const tick = 100 * time.Millisecond // the coarse clock's, several times over
	syn, synAck, ack := hmiTCP(40000, 102, flagSYN), plcTCP(102, 40000, flagSYN|flagACK), plcTCP(102, 40000, flagACK)
	query := hmi4(17, 0, udpDatagram(40000, 53))
	answer := ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40000)))
	echo, echoed := hmi4(1, 0, icmpEcho(8, 7)), ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, 0, icmpEcho(0, 7)))
	var rows []row
	for _, l := range []struct {
		name   string
		limit  time.Duration
		before []sent
		frame  packet
	}{
		{"half-open TCP", 30 * time.Second, []sent{b(syn)}, synAck},
		{"open TCP", 2 * time.Hour, []sent{b(syn), a(synAck)}, ack},
		{"closed TCP", 10 * time.Second, []sent{b(syn), a(synAck), b(hmiTCP(40000, 102, flagRST))}, ack},
		{"unanswered UDP", time.Minute, []sent{b(query)}, answer},
		{"answered UDP", 3 * time.Minute, []sent{b(query), a(answer)}, answer},
		{"echo", 30 * time.Second, []sent{b(echo)}, echoed},
	} {
		until := func(d time.Duration) []sent { return append(append([]sent{}, l.before...), after(d)) }
		rows = append(rows,
			row{l.name + ": before its limit", until(l.limit - 10*tick), a(l.frame), xdpRedirect, 0},
			row{l.name + ": after it", until(l.limit + tick), a(l.frame), xdpDrop, verdict.ReasonNoConduit})
	}
	return append(rows, row{"an expired one may begin again", []sent{b(syn), a(synAck), after(3 * time.Hour)}, b(syn), xdpRedirect, 0})
}

func laxRows() []row {
	pair := func(from, to [6]byte, ipFrom, ipTo netip.Addr, protocol uint8, body []byte) packet {
		return ether(from, to, ipPacket(ipFrom, ipTo, protocol, 0, body))
	}
	return []row{
		{"unknown_identity: a stranger", nil, b(raw(macOdd, macPLC, 0x8892, 46)), xdpRedirect, verdict.ReasonUnknownSource},
		{"unknown_identity: to a stranger", nil, b(raw(macHMI, macOdd, 0x8892, 46)), xdpRedirect, verdict.ReasonUnknownDestination},
		{"unknown_identity: a stranger's TCP", nil, b(pair(macOdd, macPLC, ipOdd, ipPLC, 6, tcpSegment(1, 502, flagSYN))), xdpRedirect, verdict.ReasonUnknownSource},
		{"unknown_identity: to a device's MAC with another's address", nil, b(pair(macHMI, macPLC, ipHMI, ipRTU, 6, tcpSegment(1, 502, flagSYN))), xdpDrop, verdict.ReasonUnknownDestination},
		{"unknown_identity: to a device's MAC with nobody's address", nil, b(pair(macHMI, macPLC, ipHMI, ipOdd, 6, tcpSegment(1, 502, flagSYN))), xdpDrop, verdict.ReasonUnknownDestination},
		{"unknown_identity: to a device's MAC with all devices' address", nil, b(pair(macHMI, macPLC, ipHMI, ipAll, 17, udpDatagram(1, 44818))), xdpDrop, verdict.ReasonUnknownDestination},
		{"unknown_identity: to somebody behind the router", nil, a(pair(macPLC, macRouter, ipPLC, netip4(198, 19, 0, 1), 6, tcpSegment(1, 9, flagSYN))), xdpRedirect, verdict.ReasonUnknownDestination},
		{"unknown_identity: by the router to another's address", nil, a(pair(macPLC, macRouter, ipPLC, ipHMI, 6, tcpSegment(1, 9, flagSYN))), xdpDrop, verdict.ReasonUnknownDestination},
		{"unknown_identity: a stranger announces somebody's IPv6 address", nil, b(discovery(advertisement, 255, macOdd, macPLC, netip.MustParseAddr("fe80::77"), ip6HMI, 2, macOdd)), xdpDrop, verdict.ReasonARPSpoofed},
		{"unknown_identity: a stranger announces its own", nil, b(discovery(advertisement, 255, macOdd, macPLC, netip.MustParseAddr("fe80::77"), netip.MustParseAddr("fe80::77"), 2, macOdd)), xdpRedirect, verdict.ReasonUnknownSource},
		{"unknown_identity: a stranger says that it is a router", nil, b(discovery(routerAdvertisement, 255, macOdd, groupMAC(ip6All), netip.MustParseAddr("fe80::77"), netip.Addr{}, 1, macOdd)), xdpDrop, verdict.ReasonARPSpoofed},
		{"unknown_identity: a stranger redirects", nil, b(discovery(redirect, 255, macOdd, macPLC, netip.MustParseAddr("fe80::77"), netip.Addr{}, 2, macOdd)), xdpDrop, verdict.ReasonARPSpoofed},
		{"unknown_identity: a stranger with somebody's address", nil, b(pair(macOdd, macPLC, ipHMI, ipPLC, 6, tcpSegment(1, 502, flagSYN))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"unknown_identity: from the wrong side all the same", nil, a(raw(macHMI, macPLC, 0x8892, 46)), xdpDrop, verdict.ReasonWrongPort},
		{"unknown_identity: malformed all the same", nil, b(packet{src: macOdd, dst: macPLC, ethertype: 0x0800, body: []byte{0x46}}), xdpDrop, verdict.ReasonMalformed},
		{"unknown_identity: no conduit all the same", nil, b(hmiTCP(40000, 80, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"intra_zone: SYN", nil, b(pair(macFeeder, macPress, ipFeeder, ipPress, 6, tcpSegment(1, 102, flagSYN))), xdpRedirect, 0},
		{"intra_zone: SYN with ACK", nil, a(pair(macPress, macFeeder, ipPress, ipFeeder, 6, tcpSegment(102, 1, flagSYN|flagACK))), xdpRedirect, 0},
		{"intra_zone: EtherType", nil, a(raw(macPress, macFeeder, 0x8892, 46)), xdpRedirect, 0},
		{"intra_zone: fragment", nil, a(ether(macPress, macFeeder, ipPacket(ipPress, ipFeeder, 17, 0x2000, udpDatagram(1, 2)))), xdpRedirect, 0},
		{"intra_zone: GRE", nil, a(pair(macPress, macFeeder, ipPress, ipFeeder, 47, make([]byte, 8))), xdpDrop, verdict.ReasonEncapsulation},
		{"intra_zone: VXLAN", nil, a(pair(macPress, macFeeder, ipPress, ipFeeder, 17, udpDatagram(1, 4789))), xdpDrop, verdict.ReasonEncapsulation},
		{"intra_zone: SNAP", nil, a(snap(macPress, macFeeder, 0, 0, 0)), xdpDrop, verdict.ReasonEncapsulation},
		{"intra_zone: other LLC", nil, a(packet{src: macPress, dst: macFeeder, ethertype: 38}), xdpRedirect, 0},
		{"intra_zone: HSR", nil, a(raw(macPress, macFeeder, 0x892f, 46)), xdpDrop, verdict.ReasonEncapsulation},
		{"intra_zone: MACsec", nil, a(raw(macPress, macFeeder, 0x88e5, 46)), xdpDrop, verdict.ReasonEncapsulation},
		{"intra_zone: an echo", nil, a(pair(macPress, macFeeder, ipPress, ipFeeder, 1, icmpEcho(8, 1))), xdpRedirect, 0},
		{"intra_zone: an ICMP redirect", nil, a(pair(macPress, macFeeder, ipPress, ipFeeder, 1, icmpEcho(5, 1))), xdpDrop, verdict.ReasonNoConduit},
		{"intra_zone: an ICMP router advertisement", nil, a(pair(macPress, macFeeder, ipPress, ipFeeder, 1, icmpEcho(9, 1))), xdpDrop, verdict.ReasonNoConduit},
		{"intra_zone: ICMP in pieces", nil, a(ether(macPress, macFeeder, ipPacket(ipPress, ipFeeder, 1, 0x2000, icmpEcho(5, 1)))), xdpDrop, verdict.ReasonFragment},
		{"intra_zone: of another zone", nil, a(pair(macPress, macHMI, ipPress, ipHMI, 6, tcpSegment(1, 102, flagSYN))), xdpDrop, verdict.ReasonNoConduit},
		{"arp: another's address", nil, b(arp(macHMI, broadcast, macHMI, ipSCADA, ipPLC)), xdpRedirect, 0},
		{"arp: another's MAC", nil, b(arp(macHMI, broadcast, macSCADA, ipHMI, ipPLC)), xdpRedirect, 0},
		{"arp: a redirect of IPv6", nil, b(discovery(redirect, 255, macHMI, macPLC, ip6HMI, netip.Addr{}, 2, macOdd)), xdpRedirect, 0},
		{"arp: IP is guarded all the same", nil, b(pair(macHMI, macPLC, ipSCADA, ipPLC, 6, tcpSegment(1, 102, flagSYN))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"link_local: LLDP", nil, b(raw(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, 0x88cc, 46)), xdpDrop, verdict.ReasonLinkLocal},
		{"link_local: a stranger's PTP", nil, b(raw(macOdd, [6]byte{1, 0x1b, 0x19, 0, 0, 0}, 0x88f7, 46)), xdpDrop, verdict.ReasonLinkLocal},
	}
}

func observedRows() []row {
	return []row{
		{"a frame is forwarded, not handed over", nil, b(hmiTCP(40000, 502, flagSYN)), xdpRedirect, 0},
		{"a frame over the rate", []sent{b(hmiTCP(40000, 502, flagSYN))}, b(hmiTCP(40000, 502, flagACK)), xdpRedirect, verdict.ReasonRateExceeded},
		{"a fragment that may be an enforced conduit's", nil, b(hmi4(6, 0x2000, tcpSegment(1, 502, flagSYN))), xdpDrop, verdict.ReasonFragment},
		{"a first fragment between two whose conduits are all observed", nil, b(scadaPLC(6, 0x2000, tcpSegment(1, 502, flagSYN))), xdpRedirect, verdict.ReasonFragment},
		{"a later one", nil, b(scadaPLC(6, 100, make([]byte, 40))), xdpRedirect, verdict.ReasonFragment},
		{"the same of another protocol", nil, b(scadaPLC(17, 0x2000, udpDatagram(1, 502))), xdpDrop, verdict.ReasonNoConduit},
		{"the same against the conduits, where another is enforced", nil, a(ether(macPLC, macSCADA, ipPacket(ipPLC, ipSCADA, 6, 0x2000, tcpSegment(502, 1, flagACK)))), xdpDrop, verdict.ReasonFragment},
		{"the same from another's address", nil, b(ether(macSCADA, macPLC, ipPacket(ipHMI, ipPLC, 6, 0x2000, tcpSegment(1, 502, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"QinQ", nil, b(hmiTCP(40000, 502, flagSYN).tagged(0x88a8<<16|10, 0x8100<<16|20)), xdpRedirect, verdict.ReasonEncapsulation},
		{"a PRP trailer", nil, b(trailed(scadaPLC(6, 0, tcpSegment(40000, 502, flagSYN)), 0, 0, 0, 0, 0, 0, 0, 1, 0xa0, 0x2e, 0x88, 0xfb)), xdpRedirect, verdict.ReasonEncapsulation},
		{"the second step of a handshake", nil, b(hmiTCP(40000, 502, flagSYN|flagACK)), xdpRedirect, verdict.ReasonTCPState},
		{"a SYN of the responder inside a connection", []sent{b(scadaPLC(6, 0, tcpSegment(40000, 502, flagSYN)))}, a(ether(macPLC, macSCADA, ipPacket(ipPLC, ipSCADA, 6, 0, tcpSegment(502, 40000, flagSYN)))), xdpRedirect, verdict.ReasonTCPState},
		{"another conduit is enforced", nil, b(strictSYN()), xdpPass, 0},
		{"no conduit is enforced", nil, b(hmiTCP(40000, 80, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
	}
}

func discoverRows() []row {
	return []row{
		{"no conduit", nil, b(hmiTCP(40000, 80, flagSYN)), xdpRedirect, verdict.ReasonNoConduit},
		{"inspected", nil, b(hmiTCP(40000, 502, flagSYN)), xdpRedirect, 0},
		{"spoofed", nil, b(ether(macHMI, macPLC, ipPacket(ipSCADA, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpRedirect, verdict.ReasonAddressSpoofed},
		{"malformed", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 0x0800, body: []byte{0x46}}), xdpRedirect, verdict.ReasonMalformed},
		{"encapsulated", nil, b(hmi4(47, 0, make([]byte, 8))), xdpRedirect, verdict.ReasonEncapsulation},
		{"flooded back, or moved to another side", nil, a(raw(macRTU, macPLC, 0x8892, 46)), xdpRedirect, 0},
		{"IP on a link-local group", nil, b(ether(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, ipPacket(ipHMI, ipPLC, 17, 0, udpDatagram(1, 53)))), xdpRedirect, verdict.ReasonLinkLocal},
		{"a PRP trailer on an inspected conduit", nil, b(trailed(hmiTCP(40000, 502, flagSYN), 0, 0, 0, 0, 0, 0, 0, 1, 0xa0, 0x2e, 0x88, 0xfb)), xdpRedirect, verdict.ReasonEncapsulation},
		{"a fragment", nil, b(hmi4(6, 0x2000, tcpSegment(1, 502, flagSYN))), xdpRedirect, verdict.ReasonFragment},
		{"a SYN inside a connection", []sent{b(hmiTCP(40000, 102, flagSYN))}, a(plcTCP(102, 40000, flagSYN)), xdpRedirect, verdict.ReasonTCPState},
		{"another VLAN", nil, b(hmiTCP(40000, 102, flagSYN).tagged(0x8100<<16 | 11)), xdpRedirect, verdict.ReasonVLANNotPermitted},
		{"ARP for another", nil, b(arp(macHMI, broadcast, macHMI, ipSCADA, ipPLC)), xdpRedirect, verdict.ReasonARPSpoofed},
	}
}

func outageRows() []row {
	return []row{
		{"a conduit that opens", nil, b(hmiTCP(40000, 502, flagSYN)), xdpRedirect, verdict.ReasonOutageOpen},
		{"a conduit that closes", nil, b(strictSYN()), xdpDrop, verdict.ReasonOutageClosed},
		{"a plain conduit", nil, b(hmiTCP(40000, 102, flagSYN)), xdpRedirect, 0},
		{"opens to what the conduit permits only", nil, b(hmiTCP(40000, 503, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"opens to nothing that could not be inspected", nil, b(hmiTCP(40000, 502, flagSYN).tagged(0x88a8<<16 | 10)), xdpDrop, verdict.ReasonEncapsulation},
		{"opens to no fragment", nil, b(hmi4(6, 0x2000, tcpSegment(1, 502, flagSYN))), xdpDrop, verdict.ReasonFragment},
		{"opens to no spoofed address", nil, b(ether(macHMI, macPLC, ipPacket(ipSCADA, ipPLC, 6, 0, tcpSegment(1, 502, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
	}
}
