package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// decideBase has every kind of identity and conduit. The gate's side a is the cell.
const decideBase = `api_version: penstock/v1
mode: enforce
appliances: [{name: gate, sides: {a: [cell, split], b: [room, split]}}]
zones: [{name: room}, {name: cell}, {name: split}]
identities:
  - {name: hmi, zone: room, mac: "02:00:00:00:00:20", ip: [198.18.0.20, "2001:db8::20"], vlan: [untagged, 10]}
  - {name: loose, zone: room, mac: "02:00:00:00:00:21"}
  - {name: tagged, zone: room, mac: "02:00:00:00:00:22", ip: [198.18.0.22], vlan: 20}
  - {name: router, zone: room, role: router, mac: "02:00:00:00:00:01", ip: [198.18.0.1]}
  - {name: far, zone: room, via: router, ip: [198.18.0.0/16]}
  - {name: farther, zone: room, via: router, ip: [198.18.64.7]}
  - {name: plc, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10, "2001:db8::10"], vlan: [untagged, 10]}
  - {name: rtu, zone: cell, mac: "02:00:00:00:00:11", ip: [198.18.0.11], vlan: [untagged, 10]}
  - {name: left, zone: split, side: a, mac: "02:00:00:00:00:30", ip: [198.18.0.30]}
  - {name: right, zone: split, side: b, mac: "02:00:00:00:00:31", ip: [198.18.0.31]}
conduits:
  - {name: speak, from: [hmi, loose, tagged], to: [plc], protocol: modbus, rules: [{functions: [read]}]}
  - {name: pull, from: [far, farther], to: [plc], protocol: tcp, ports: [443, 8000-8080]}
  - {name: all, from: [hmi], to: [rtu], protocol: udp}
  - {name: ping, from: [hmi], to: [plc], protocol: icmp, types: [echo_request]}
  - {name: push, from: [rtu], to: [hmi], protocol: tcp, ports: [25]}
  - {name: name, from: [hmi], to: [plc, "group:profinet_dcp"], protocol: ethertype, ethertypes: [profinet]}
  - {name: boot, from: [zone:cell], to: [broadcast], protocol: udp, ports: [67]}
  - {name: cast, from: [rtu], to: ["group:239.192.0.0/14"], protocol: udp, ports: [2222]}
  - {name: split, from: [left], to: [right], protocol: modbus, rules: [{functions: [read]}]}
`

func mac(last byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, last} }

func tcp(port uint16) func(*Header) {
	return func(h *Header) { h.Protocol, h.SrcPort, h.DstPort = 6, 40000, port }
}

func udp(port uint16) func(*Header) {
	return func(h *Header) { h.Protocol, h.SrcPort, h.DstPort = 17, 40000, port }
}

// ip builds a header of IPv4 or IPv6.
func ip(side Side, src byte, from string, dst [6]byte, to string, more ...func(*Header)) *Header {
	h := &Header{Side: side, Src: mac(src), Dst: dst, EtherType: etherTypeIPv4,
		SrcIP: netip.MustParseAddr(from), DstIP: netip.MustParseAddr(to)}
	if h.SrcIP.Is6() {
		h.EtherType = etherTypeIPv6
	}
	for _, m := range more {
		m(h)
	}
	return h
}

func arp(side Side, src byte, dst [6]byte, sender, target string) *Header {
	return &Header{Side: side, Src: mac(src), Dst: dst, EtherType: etherTypeARP,
		ARP: ARPHeader{SenderMAC: mac(src), SenderIP: netip.MustParseAddr(sender), TargetIP: netip.MustParseAddr(target)}}
}

func ethernet(side Side, src byte, dst [6]byte, etherType uint16) *Header {
	return &Header{Side: side, Src: mac(src), Dst: dst, EtherType: etherType}
}

func with(h *Header, more ...func(*Header)) *Header {
	for _, m := range more {
		m(h)
	}
	return h
}

func tags(tags ...Tag) func(*Header) { return func(h *Header) { h.Tags = tags } }
func fragment(h *Header)             { h.Fragment, h.SrcPort, h.DstPort = true, 0, 0 }
func icmp(protocol, kind uint8) func(*Header) {
	return func(h *Header) { h.Protocol, h.ICMPType = protocol, kind }
}
func llc(kind LLC) func(*Header)     { return func(h *Header) { h.LLC = kind } }
func sender(last byte) func(*Header) { return func(h *Header) { h.ARP.SenderMAC = mac(last) } }

var (
	broadcastTo = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	dot1q       = Tag{0x8100, 10}
)

type decideRow struct {
	name   string
	h      *Header
	action verdict.Action
	reason verdict.Reason
	who    string // source>destination
	via    string // conduit
}

func decideRows() []decideRow {
	const a, d, i = verdict.Allow, verdict.Deny, verdict.Inspect
	ok := verdict.ReasonPermitted
	return []decideRow{
		{"inspected", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502)), i, ok, "hmi>plc", "speak"},
		{"inspected over IPv6", ip(SideB, 0x20, "2001:db8::20", mac(0x10), "2001:db8::10", tcp(502)), i, ok, "hmi>plc", "speak"},
		{"other port", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(503)), d, verdict.ReasonNoConduit, "hmi>plc", ""},
		{"modbus over UDP", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", udp(502)), d, verdict.ReasonNoConduit, "hmi>plc", ""},
		{"against the conduit's direction", ip(SideA, 0x10, "198.18.0.10", mac(0x20), "198.18.0.20", tcp(502)), d, verdict.ReasonNoConduit, "plc>hmi", ""},
		{"a conduit of the other way", ip(SideA, 0x11, "198.18.0.11", mac(0x20), "198.18.0.20", tcp(25)), a, ok, "rtu>hmi", "push"},
		{"protocol without a conduit", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", icmp(132, 0)), d, verdict.ReasonNoConduit, "hmi>rtu", ""},
		{"ESP", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", icmp(50, 0)), d, verdict.ReasonEncapsulation, "hmi>rtu", ""},
		{"tunnel", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", icmp(47, 0)), d, verdict.ReasonEncapsulation, "hmi>rtu", ""},
		{"ping", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", icmp(1, 8)), a, ok, "hmi>plc", "ping"},
		{"ping over IPv6", ip(SideB, 0x20, "2001:db8::20", mac(0x10), "2001:db8::10", icmp(58, 128)), a, ok, "hmi>plc", "ping"},
		{"redirect", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", icmp(1, 5)), d, verdict.ReasonNoConduit, "hmi>plc", ""},

		{"unknown source", ip(SideB, 0x99, "198.19.9.9", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonUnknownSource, ">", ""},
		{"unknown source with somebody's address", ip(SideB, 0x99, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, ">", ""},
		{"unknown source with an address behind the router", ip(SideB, 0x99, "198.18.64.7", mac(0x10), "198.18.0.10", tcp(443)), d, verdict.ReasonAddressSpoofed, ">", ""},
		{"zero source", with(ip(SideB, 0, "198.19.9.9", mac(0x10), "198.18.0.10"), func(h *Header) { h.Src = [6]byte{} }), d, verdict.ReasonUnknownSource, ">", ""},
		{"wrong port", ip(SideA, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonWrongPort, "hmi>", ""},
		{"port not known", ip(SideAny, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502)), i, ok, "hmi>plc", "speak"},
		{"port not known, one side", ip(SideAny, 0x20, "198.18.0.20", mac(0x21), "198.18.0.21", tcp(502)), d, verdict.ReasonSameSide, "hmi>loose", ""},
		{"same side", ip(SideB, 0x20, "198.18.0.20", mac(0x21), "198.18.0.21", tcp(502)), d, verdict.ReasonSameSide, "hmi>loose", ""},
		{"unknown destination", ip(SideB, 0x20, "198.18.0.20", mac(0x98), "198.18.0.98", tcp(502)), d, verdict.ReasonUnknownDestination, "hmi>", ""},
		{"a device asked to carry on", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.11", tcp(502)), d, verdict.ReasonUnknownDestination, "hmi>plc", ""},

		{"permitted VLAN", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502), tags(dot1q)), i, ok, "hmi>plc", "speak"},
		{"priority tag", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502), tags(Tag{0x8100, 0xe000})), i, ok, "hmi>plc", "speak"},
		{"a VLAN that is the sender's alone", ip(SideB, 0x22, "198.18.0.22", mac(0x10), "198.18.0.10", tcp(502), tags(Tag{0x8100, 20})), d, verdict.ReasonVLANNotPermitted, "tagged>plc", ""},
		{"ARP in a VLAN that is the sender's alone", with(arp(SideB, 0x22, mac(0x10), "198.18.0.22", "198.18.0.10"), tags(Tag{0x8100, 20})), d, verdict.ReasonVLANNotPermitted, "tagged>plc", ""},
		{"broadcast in it", with(arp(SideB, 0x22, broadcastTo, "198.18.0.22", "198.18.0.10"), tags(Tag{0x8100, 20})), a, ok, "tagged>broadcast", ""},
		{"other VLAN", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502), tags(Tag{0x8100, 11})), d, verdict.ReasonVLANNotPermitted, "hmi>", ""},
		{"without its tag", ip(SideB, 0x22, "198.18.0.22", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonVLANNotPermitted, "tagged>", ""},
		{"two tags on an inspected conduit", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502), tags(dot1q, dot1q)), d, verdict.ReasonEncapsulation, "hmi>plc", "speak"},
		{"a service tag on an inspected conduit", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502), tags(Tag{0x88a8, 10})), d, verdict.ReasonEncapsulation, "hmi>plc", "speak"},
		{"two tags on a plain conduit", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(9), tags(dot1q, dot1q)), a, ok, "hmi>rtu", "all"},
		{"an inner tag of another VLAN", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(9), tags(dot1q, Tag{0x8100, 11})), d, verdict.ReasonVLANNotPermitted, "hmi>", ""},
		{"an inner priority tag", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(9), tags(dot1q, Tag{0x8100, 0})), a, ok, "hmi>rtu", "all"},
		{"three tags", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(9), tags(dot1q, dot1q, dot1q)), d, verdict.ReasonEncapsulation, "hmi>rtu", ""},

		{"other address", ip(SideB, 0x20, "198.18.0.10", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "hmi>", ""},
		{"an address of nobody", ip(SideB, 0x20, "198.19.0.77", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "hmi>", ""},
		{"without addresses, one of nobody", ip(SideB, 0x21, "198.19.0.77", mac(0x10), "198.18.0.10", tcp(502)), i, ok, "loose>plc", "speak"},
		{"without addresses, from 0.0.0.0", ip(SideB, 0x21, "0.0.0.0", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "loose>", ""},
		{"without addresses, from 127.0.0.1", ip(SideB, 0x21, "127.0.0.1", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "loose>", ""},
		{"without addresses, from a group", ip(SideB, 0x21, "224.0.0.7", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "loose>", ""},
		{"without addresses, from everybody", ip(SideB, 0x21, "255.255.255.255", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "loose>", ""},
		{"without addresses, from ::1", ip(SideB, 0x21, "::1", mac(0x10), "2001:db8::10", tcp(502)), d, verdict.ReasonAddressSpoofed, "loose>", ""},
		{"without addresses, somebody's", ip(SideB, 0x21, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "loose>", ""},
		{"behind the router", ip(SideB, 1, "198.18.64.9", mac(0x10), "198.18.0.10", tcp(443)), a, ok, "far>plc", "pull"},
		{"behind the router, longer prefix", ip(SideB, 1, "198.18.64.7", mac(0x10), "198.18.0.10", tcp(8080)), a, ok, "farther>plc", "pull"},
		{"the router itself", ip(SideB, 1, "198.18.0.1", mac(0x10), "198.18.0.10", tcp(443)), d, verdict.ReasonNoConduit, "router>plc", ""},
		{"the router with a neighbour's address", ip(SideB, 1, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "router>", ""},
		{"the router with an unknown address", ip(SideB, 1, "198.19.0.1", mac(0x10), "198.18.0.10", tcp(443)), d, verdict.ReasonUnknownSource, "router>", ""},
		{"to behind the router", ip(SideA, 0x11, "198.18.0.11", mac(1), "198.18.64.7", tcp(25)), d, verdict.ReasonNoConduit, "rtu>farther", ""},
		{"to nobody behind the router", ip(SideA, 0x11, "198.18.0.11", mac(1), "198.19.64.7", tcp(25)), d, verdict.ReasonUnknownDestination, "rtu>", ""},
		{"to a neighbour through the router", ip(SideA, 0x11, "198.18.0.11", mac(1), "198.18.0.20", tcp(25)), d, verdict.ReasonUnknownDestination, "rtu>router", ""},

		{"who has", arp(SideB, 0x20, broadcastTo, "198.18.0.20", "198.18.0.10"), a, ok, "hmi>broadcast", ""},
		{"is at", arp(SideA, 0x10, mac(0x20), "198.18.0.10", "198.18.0.20"), a, ok, "plc>hmi", ""},
		{"probe for another's address", arp(SideB, 0x20, broadcastTo, "0.0.0.0", "198.18.0.10"), d, verdict.ReasonARPSpoofed, "hmi>", ""},
		{"probe for nobody's address", arp(SideB, 0x20, broadcastTo, "0.0.0.0", "198.19.0.10"), a, ok, "hmi>broadcast", ""},
		{"probe of a stranger for somebody's address", arp(SideB, 0x99, broadcastTo, "0.0.0.0", "198.18.0.10"), d, verdict.ReasonARPSpoofed, ">", ""},
		{"without addresses, probe for another's", arp(SideB, 0x21, broadcastTo, "0.0.0.0", "198.18.0.10"), d, verdict.ReasonARPSpoofed, "loose>", ""},
		{"probe", arp(SideB, 0x20, broadcastTo, "0.0.0.0", "198.18.0.20"), a, ok, "hmi>broadcast", ""},
		{"claims an address", arp(SideB, 0x20, broadcastTo, "198.18.0.10", "198.18.0.10"), d, verdict.ReasonARPSpoofed, "hmi>", ""},
		{"claims in another's name", with(arp(SideB, 0x20, broadcastTo, "198.18.0.20", "198.18.0.10"), sender(0x10)), d, verdict.ReasonARPSpoofed, "hmi>", ""},
		{"probe in another's name", with(arp(SideB, 0x20, broadcastTo, "0.0.0.0", "198.18.0.10"), sender(0x10)), d, verdict.ReasonARPSpoofed, "hmi>", ""},
		{"proxy of the router", arp(SideB, 1, broadcastTo, "198.18.64.7", "198.18.0.10"), d, verdict.ReasonARPSpoofed, "router>", ""},
		{"stranger claims an address", arp(SideB, 0x99, broadcastTo, "198.18.0.10", "198.18.0.10"), d, verdict.ReasonARPSpoofed, ">", ""},
		{"stranger asks", arp(SideB, 0x99, broadcastTo, "198.19.0.99", "198.18.0.10"), d, verdict.ReasonUnknownSource, ">", ""},
		{"is at, to a stranger", arp(SideA, 0x10, mac(0x99), "198.18.0.10", "198.19.0.99"), d, verdict.ReasonUnknownDestination, "plc>", ""},

		{"DHCP", ip(SideA, 0x10, "0.0.0.0", broadcastTo, "255.255.255.255", udp(67)), a, ok, "plc>broadcast", "boot"},
		{"TCP from no address", ip(SideB, 0x20, "0.0.0.0", mac(0x10), "198.18.0.10", tcp(502)), d, verdict.ReasonAddressSpoofed, "hmi>", ""},
		{"DHCP of a stranger", ip(SideA, 0x99, "0.0.0.0", broadcastTo, "255.255.255.255", udp(67)), d, verdict.ReasonUnknownSource, ">", ""},
		{"DHCP server in the cell", ip(SideA, 0x10, "198.18.0.10", broadcastTo, "255.255.255.255", udp(68)), d, verdict.ReasonNoConduit, "plc>broadcast", ""},
		{"DHCP from the other side", ip(SideB, 0x20, "0.0.0.0", broadcastTo, "255.255.255.255", udp(67)), d, verdict.ReasonNoConduit, "hmi>broadcast", ""},
		{"IP group", ip(SideA, 0x11, "198.18.0.11", [6]byte{1, 0, 0x5e, 0x40, 1, 1}, "239.192.1.1", udp(2222)), a, ok, "rtu>group:239.192.0.0/14", "cast"},
		{"other IP group", ip(SideA, 0x11, "198.18.0.11", [6]byte{1, 0, 0x5e, 1, 1, 1}, "239.1.1.1", udp(2222)), d, verdict.ReasonUnknownDestination, "rtu>", ""},
		{"a device's address in a group's frame", ip(SideB, 0x20, "198.18.0.20", [6]byte{1, 0, 0x5e, 1, 1, 1}, "198.18.0.10", tcp(502)), d, verdict.ReasonUnknownDestination, "hmi>", ""},
		{"profinet", ethernet(SideB, 0x20, mac(0x10), 0x8892), a, ok, "hmi>plc", "name"},
		{"profinet to its group", ethernet(SideB, 0x20, [6]byte{1, 0x0e, 0xcf, 0, 0, 0}, 0x8892), a, ok, "hmi>group:profinet_dcp", "name"},
		{"profinet back", ethernet(SideA, 0x10, mac(0x20), 0x8892), d, verdict.ReasonNoConduit, "plc>hmi", ""},
		{"other EtherType", ethernet(SideB, 0x20, mac(0x10), 0x88b8), d, verdict.ReasonNoConduit, "hmi>plc", ""},
		{"LLC", ethernet(SideB, 0x20, mac(0x10), 0), d, verdict.ReasonNoConduit, "hmi>plc", ""},
		{"LLDP", ethernet(SideB, 0x99, [6]byte{1, 0x80, 0xc2, 0, 0, 0x0e}, 0x88cc), a, ok, ">", ""},
		{"GVRP", with(ethernet(SideB, 0x99, [6]byte{1, 0x80, 0xc2, 0, 0, 0x21}, 0), llc(LLCBridge)), a, ok, ">", ""},
		{"SNAP to a link-local group", with(ethernet(SideB, 0x20, [6]byte{1, 0x80, 0xc2, 0, 0, 0x0e}, 0), llc(LLCSNAP)), d, verdict.ReasonLinkLocal, ">", ""},
		{"other LLC to a link-local group", ethernet(SideB, 0x20, [6]byte{1, 0x80, 0xc2, 0, 0, 0}, 0), d, verdict.ReasonLinkLocal, ">", ""},
		{"SNAP", with(ethernet(SideB, 0x20, mac(0x10), 0), llc(LLCSNAP)), d, verdict.ReasonEncapsulation, "hmi>plc", ""},
		{"not link-local", ethernet(SideB, 0x20, [6]byte{1, 0x80, 0xc2, 0, 0, 0x10}, 0), d, verdict.ReasonUnknownDestination, "hmi>", ""},
		{"MRP", ethernet(SideA, 0x99, [6]byte{1, 0x15, 0x4e, 0, 0, 1}, 0x88e3), a, ok, ">", ""},
		{"DLR", ethernet(SideA, 0x99, [6]byte{1, 0x21, 0x6c, 0, 0, 1}, 0x80e1), a, ok, ">", ""},
		{"PTP", ethernet(SideA, 0x99, [6]byte{1, 0x1b, 0x19, 0, 0, 0}, 0x88f7), a, ok, ">", ""},

		{"fragment on an inspected conduit", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(0), fragment), d, verdict.ReasonFragment, "hmi>plc", ""},
		{"fragment on a conduit with ports", ip(SideB, 1, "198.18.64.9", mac(0x10), "198.18.0.10", tcp(0), fragment), d, verdict.ReasonFragment, "far>plc", ""},
		{"fragment on a conduit for every port", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(0), fragment), a, ok, "hmi>rtu", "all"},
		{"first fragment of a tunnel", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(0), fragment, func(h *Header) { h.FirstPort = 4789 }), d, verdict.ReasonEncapsulation, "hmi>rtu", ""},
		{"a tunnel's port", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(4789)), d, verdict.ReasonEncapsulation, "hmi>rtu", ""},
		{"a lease that nobody asked for", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", udp(68)), d, verdict.ReasonNoConduit, "hmi>rtu", ""},
		{"fragment without a conduit", ip(SideB, 0x20, "198.18.0.20", mac(0x11), "198.18.0.11", tcp(0), fragment), d, verdict.ReasonNoConduit, "hmi>rtu", ""},

		{"one zone", ip(SideA, 0x30, "198.18.0.30", mac(0x31), "198.18.0.31", tcp(80)), d, verdict.ReasonNoConduit, "left>right", ""},
	}
}

func TestDecide(t *testing.T) {
	plan := mustCompile(t, decideBase)
	for _, row := range decideRows() {
		t.Run(row.name, func(t *testing.T) { row.check(t, plan) })
	}
}

func (row decideRow) check(t *testing.T, plan *Plan) {
	t.Helper()
	got := plan.Decide(row.h)
	if got.Action != row.action || got.Reason != row.reason {
		t.Errorf("got %s %s, want %s %s", got.Action, got.Reason, row.action, row.reason)
	}
	who := fmt.Sprintf("%s>%s", plan.Identities[got.Source].Name, plan.Identities[got.Destination].Name)
	if who != row.who || plan.Conduits[got.Conduit].Name != row.via {
		t.Errorf("got %s by %q, want %s by %q", who, plan.Conduits[got.Conduit].Name, row.who, row.via)
	}
}

func TestDecideDefaults(t *testing.T) {
	defaults := func(text string) *Plan {
		return mustCompile(t, strings.Replace(decideBase, "zones:", "defaults: {"+text+"}\nzones:", 1))
	}
	ok := verdict.ReasonPermitted
	rows := []struct {
		defaults string
		decideRow
	}{
		{"link_local: deny", decideRow{"LLDP", ethernet(SideB, 0x99, [6]byte{1, 0x80, 0xc2, 0, 0, 0x0e}, 0x88cc),
			verdict.Deny, verdict.ReasonLinkLocal, ">", ""}},
		{"unknown_identity: permit", decideRow{"unknown source", ip(SideB, 0x99, "198.19.9.9", mac(0x10), "198.18.0.10", tcp(502)),
			verdict.Allow, verdict.ReasonUnknownSource, ">", ""}},
		{"unknown_identity: permit", decideRow{"unknown destination", ip(SideB, 0x20, "198.18.0.20", mac(0x98), "198.18.0.98", tcp(502)),
			verdict.Allow, verdict.ReasonUnknownDestination, "hmi>", ""}},
		{"unknown_identity: permit", decideRow{"stranger with somebody's address", ip(SideB, 0x99, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(502)),
			verdict.Deny, verdict.ReasonAddressSpoofed, ">", ""}},
		{"arp: permit", decideRow{"claims an address", arp(SideB, 0x20, broadcastTo, "198.18.0.10", "198.18.0.10"),
			verdict.Allow, ok, "hmi>broadcast", ""}},
		{"intra_zone: permit", decideRow{"one zone", ip(SideA, 0x30, "198.18.0.30", mac(0x31), "198.18.0.31", tcp(80)),
			verdict.Allow, ok, "left>right", ""}},
		{"intra_zone: permit", decideRow{"one zone, inspected", ip(SideA, 0x30, "198.18.0.30", mac(0x31), "198.18.0.31", tcp(502)),
			verdict.Inspect, ok, "left>right", "split"}},
		{"intra_zone: permit", decideRow{"one zone, fragment", ip(SideA, 0x30, "198.18.0.30", mac(0x31), "198.18.0.31", tcp(502), fragment),
			verdict.Deny, verdict.ReasonFragment, "left>right", ""}},
		{"intra_zone: permit", decideRow{"two zones", ip(SideB, 0x20, "198.18.0.20", mac(0x10), "198.18.0.10", tcp(80)),
			verdict.Deny, verdict.ReasonNoConduit, "hmi>plc", ""}},
	}
	for _, row := range rows {
		t.Run(row.defaults+", "+row.name, func(t *testing.T) { row.check(t, defaults(row.defaults)) })
	}
}

func TestLend(t *testing.T) {
	plan := mustCompile(t, decideBase)
	elsewhere := ip(SideAny, 0x77, "10.0.0.7", mac(0x78), "10.0.0.8", tcp(502))
	lend := func(pairs ...string) *Plan {
		p := plan
		for i := 0; i < len(pairs); i += 2 {
			var err error
			if p, err = p.Lend(pairs[i], pairs[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	rows := []struct {
		loans []string
		decideRow
	}{
		{nil, decideRow{"nobody", elsewhere, verdict.Deny, verdict.ReasonUnknownSource, ">", ""}},
		{[]string{"hmi", "10.0.0.7"}, decideRow{"the source only", elsewhere, verdict.Deny, verdict.ReasonUnknownDestination, "hmi>", ""}},
		{[]string{"hmi", "10.0.0.7", "plc", "10.0.0.8"}, decideRow{"by address", elsewhere, verdict.Inspect, verdict.ReasonPermitted, "hmi>plc", "speak"}},
		{[]string{"hmi", "02:00:00:00:00:77", "plc", "02:00:00:00:00:78"}, decideRow{"by MAC", elsewhere, verdict.Inspect, verdict.ReasonPermitted, "hmi>plc", "speak"}},
		{[]string{"far", "10.0.0.7", "plc", "10.0.0.8"}, decideRow{"behind a router", elsewhere, verdict.Deny, verdict.ReasonNoConduit, "far>plc", ""}},
		{[]string{"hmi", "10.0.0.7", "plc", "10.0.0.8"}, decideRow{"tagged", with(ip(SideAny, 0x77, "10.0.0.7", mac(0x78), "10.0.0.8", tcp(502)), tags(Tag{0x8100, 99})),
			verdict.Inspect, verdict.ReasonPermitted, "hmi>plc", "speak"}},
		{[]string{"plc", "10.0.0.7", "hmi", "10.0.0.8"}, decideRow{"the wrong way round", elsewhere, verdict.Deny, verdict.ReasonNoConduit, "plc>hmi", ""}},
		{[]string{"hmi", "10.0.0.7", "hmi", "10.0.0.8"}, decideRow{"one to two addresses", elsewhere, verdict.Deny, verdict.ReasonSameSide, "hmi>hmi", ""}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { row.check(t, lend(row.loans...)) })
	}
	if got := plan.Decide(elsewhere).Reason; got != verdict.ReasonUnknownSource {
		t.Errorf("lending changed the plan: %s", got)
	}
}

func TestLendErrors(t *testing.T) {
	plan := mustCompile(t, decideBase)
	lent, err := plan.Lend("hmi", "10.0.0.7")
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct{ name, identity, address, want string }{
		{"no such identity", "hni", "10.0.0.1", `lend hni: the plan of gate has no such identity: did you mean "hmi"?`},
		{"a group", "broadcast", "10.0.0.1", "lend broadcast: the plan of gate has no such identity"},
		{"no address", "hmi", "10.0.0", `lend hmi: "10.0.0" is neither an IP nor a MAC address`},
		{"lent already", "plc", "10.0.0.7", "lend plc: 10.0.0.7 is lent to another identity already"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, err := lent.Lend(row.identity, row.address)
			if err == nil || err.Error() != row.want || got != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}
