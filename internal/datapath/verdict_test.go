package datapath

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// row is one frame and what has to become of it. Frames in before are sent first, and what
// becomes of them is not looked at.
type row struct {
	name   string
	before []sent
	sent
	want   uint32
	reason verdict.Reason // of a denial, or of what else is told
}

type sent struct {
	side  policy.Side
	frame packet
	wait  time.Duration // instead of a frame
}

func a(p packet) sent { return sent{side: policy.SideA, frame: p} }
func b(p packet) sent { return sent{side: policy.SideB, frame: p} }

func rows() []row {
	syn := hmiTCP(40000, 102, flagSYN)
	modbusSYN := hmiTCP(40000, 502, flagSYN)
	return []row{
		{"plain conduit: SYN", nil, b(syn), xdpRedirect, 0},
		{"plain conduit: reply of its flow", []sent{b(syn)}, a(plcTCP(102, 40000, flagSYN|flagACK)), xdpRedirect, 0},
		{"plain conduit: reply without a flow", nil, a(plcTCP(102, 40001, flagSYN|flagACK)), xdpDrop, verdict.ReasonNoConduit},
		{"plain conduit: SYN from the responder", []sent{b(syn)}, a(plcTCP(102, 40000, flagSYN)), xdpDrop, verdict.ReasonTCPState},
		{"port range: first", nil, b(hmiTCP(40000, 1000, flagSYN)), xdpRedirect, 0},
		{"port range: last", nil, b(hmiTCP(40000, 2000, flagSYN)), xdpRedirect, 0},
		{"port range: one below", nil, b(hmiTCP(40000, 999, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"port range: one above", nil, b(hmiTCP(40000, 2001, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"unlisted port", nil, b(hmiTCP(40000, 80, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"conduit's port as source", nil, b(hmiTCP(102, 40000, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"against the conduit's direction", nil, a(plcTCP(40000, 102, flagSYN)), xdpDrop, verdict.ReasonNoConduit},
		{"inspected conduit: SYN", nil, b(modbusSYN), xdpPass, 0},
		{"inspected conduit: reply", []sent{b(modbusSYN)}, a(plcTCP(502, 40000, flagSYN|flagACK)), xdpPass, 0},
		{"inspected conduit: reply without a flow", nil, a(plcTCP(502, 40000, flagSYN|flagACK)), xdpDrop, verdict.ReasonNoConduit},
		{"second step of a handshake whose first was not seen", nil, b(hmiTCP(40000, 102, flagSYN|flagACK)), xdpDrop, verdict.ReasonTCPState},

		{"adoption in the conduit's direction", nil, b(hmiTCP(40000, 102, flagACK)), xdpRedirect, 0},
		{"adoption in reverse, in the window", nil, a(plcTCP(102, 40000, flagACK)), xdpRedirect, 0},
		{"adoption in reverse, not from the conduit's port", nil, a(plcTCP(40000, 103, flagACK)), xdpDrop, verdict.ReasonNoConduit},
		{"adoption in reverse, then its SYN", []sent{a(plcTCP(102, 40000, flagACK))}, a(plcTCP(102, 40000, flagSYN)), xdpDrop, verdict.ReasonTCPState},
		{"adoption in reverse, without ACK", nil, a(plcTCP(102, 40000, 0)), xdpDrop, verdict.ReasonNoConduit},

		{"UDP: request", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 0, udpDatagram(40000, 53)))), xdpRedirect, 0},
		{"UDP: reply of its flow", []sent{b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 0, udpDatagram(40000, 53))))},
			a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40000)))), xdpRedirect, 0},
		{"UDP is never adopted in reverse", nil, a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40000)))), xdpDrop, verdict.ReasonNoConduit},
		{"UDP on the port of a TCP conduit", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 0, udpDatagram(40000, 502)))), xdpDrop, verdict.ReasonNoConduit},

		{"ICMP: echo request", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 1, 0, icmpEcho(8, 7)))), xdpRedirect, 0},
		{"ICMP: its reply", []sent{b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 1, 0, icmpEcho(8, 7))))},
			a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, 0, icmpEcho(0, 7)))), xdpRedirect, 0},
		{"ICMP: a redirect with the echo's identifier", []sent{b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 1, 0, icmpEcho(8, 7))))},
			a(ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, 0, icmpEcho(5, 7)))), xdpDrop, verdict.ReasonNoConduit},
		{"ICMP: another type", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 1, 0, icmpEcho(5, 7)))), xdpDrop, verdict.ReasonNoConduit},

		{"unknown source", nil, b(ether(macOdd, macPLC, ipPacket(ipOdd, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonUnknownSource},
		{"a stranger with somebody's address", nil, b(ether(macOdd, macPLC, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"unknown destination", nil, b(ether(macHMI, macOdd, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonUnknownDestination},
		{"a device's MAC with an address that is not its own", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipRTU, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonUnknownDestination},
		{"spoofed address of another", nil, b(ether(macHMI, macPLC, ipPacket(ipRouter, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"address of nobody", nil, b(ether(macHMI, macPLC, ipPacket(ipOdd, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"identity on the wrong side", nil, a(hmiTCP(40000, 102, flagSYN)), xdpDrop, verdict.ReasonWrongPort},
		{"flooded back from the destination's side", nil, a(ether(macRTU, macPLC, ipPacket(ipRTU, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, 0},

		{"behind a router", nil, b(ether(macRouter, macPLC, ipPacket(ipFar, ipPLC, 6, 0, tcpSegment(1, 4840, flagSYN)))), xdpRedirect, 0},
		{"behind a router: the way back", []sent{b(ether(macRouter, macPLC, ipPacket(ipFar, ipPLC, 6, 0, tcpSegment(1, 4840, flagSYN))))},
			a(ether(macPLC, macRouter, ipPacket(ipPLC, ipFar, 6, 0, tcpSegment(4840, 1, flagSYN|flagACK)))), xdpRedirect, 0},
		{"behind a router: nobody known", nil, b(ether(macRouter, macPLC, ipPacket(ipOdd, ipPLC, 6, 0, tcpSegment(1, 4840, flagSYN)))), xdpDrop, verdict.ReasonUnknownSource},
		{"behind a router: an address that lives elsewhere", nil, b(ether(macRouter, macPLC, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"the router itself has no conduit", nil, b(ether(macRouter, macPLC, ipPacket(ipRouter, ipPLC, 6, 0, tcpSegment(1, 4840, flagSYN)))), xdpDrop, verdict.ReasonNoConduit},

		{"ARP: own address", nil, b(arp(macHMI, broadcast, macHMI, ipHMI, ipPLC)), xdpRedirect, 0},
		{"ARP: another's address", nil, b(arp(macHMI, broadcast, macHMI, ipRouter, ipPLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"ARP: another's hardware address", nil, b(arp(macHMI, broadcast, macPLC, ipHMI, ipPLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"ARP: a probe for its own address", nil, b(arp(macHMI, broadcast, macHMI, netip4(0, 0, 0, 0), ipHMI)), xdpRedirect, 0},
		{"ARP: a probe for another's address", nil, b(arp(macHMI, broadcast, macHMI, netip4(0, 0, 0, 0), ipPLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"ARP: a stranger claims somebody's address", nil, b(arp(macOdd, broadcast, macOdd, ipHMI, ipPLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"ARP: a router speaks for what is behind it", nil, b(arp(macRouter, broadcast, macRouter, ipFar, ipPLC)), xdpDrop, verdict.ReasonARPSpoofed},
		{"ARP: cut short", nil, b(packet{src: macHMI, dst: broadcast, ethertype: 0x0806}), xdpDrop, verdict.ReasonMalformed},

		{"EtherType conduit", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 0x8892}), xdpRedirect, 0},
		{"EtherType conduit is one-way", nil, a(packet{src: macPLC, dst: macHMI, ethertype: 0x8892}), xdpDrop, verdict.ReasonNoConduit},
		{"another EtherType", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 0x88b8}), xdpDrop, verdict.ReasonNoConduit},
		{"802.3 with LLC", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 38}), xdpDrop, verdict.ReasonNoConduit},
		{"boot: DHCP to broadcast", nil, a(ether(macPLC, broadcast, ipPacket(netip4(0, 0, 0, 0), netip4(255, 255, 255, 255), 17, 0, udpDatagram(68, 67)))), xdpRedirect, 0},
		{"another port to broadcast", nil, a(ether(macPLC, broadcast, ipPacket(ipPLC, netip4(255, 255, 255, 255), 17, 0, udpDatagram(68, 69)))), xdpDrop, verdict.ReasonNoConduit},

		{"link-local: spanning tree", nil, a(bpdu([6]byte{1, 0x80, 0xc2, 0, 0, 0})), xdpRedirect, 0},
		{"link-local: LLDP", nil, a(packet{src: macOdd, dst: [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, ethertype: 0x88cc}), xdpRedirect, 0},
		{"link-local: PTP", nil, a(packet{src: macOdd, dst: [6]byte{1, 0x1b, 0x19, 0, 0, 0}, ethertype: 0x88f7}), xdpRedirect, 0},
		{"link-local: MRP", nil, a(packet{src: macOdd, dst: [6]byte{1, 0x15, 0x4e, 0, 0, 1}, ethertype: 0x88e3}), xdpRedirect, 0},
		{"link-local: DLR", nil, a(packet{src: macOdd, dst: [6]byte{1, 0x21, 0x6c, 0, 0, 1}, ethertype: 0x80e1}), xdpRedirect, 0},
		{"no link-local group: -30", nil, a(packet{src: macOdd, dst: [6]byte{1, 0x80, 0xc2, 0, 0, 0x30}, ethertype: 0x88cc}), xdpDrop, verdict.ReasonUnknownSource},

		{"VLAN: permitted, inspected", nil, b(modbusSYN.tagged(0x8100<<16 | 10)), xdpPass, 0},
		{"VLAN: priority tag", nil, b(modbusSYN.tagged(0x8100<<16 | 5<<13)), xdpPass, 0},
		{"VLAN: another", nil, b(modbusSYN.tagged(0x8100<<16 | 11)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"VLAN: flow of one, reply in none", []sent{b(syn.tagged(0x8100<<16 | 10))}, a(plcTCP(102, 40000, flagSYN|flagACK)), xdpDrop, verdict.ReasonNoConduit},
		{"QinQ on an inspected conduit", nil, b(modbusSYN.tagged(0x88a8<<16|10, 0x8100<<16|20)), xdpDrop, verdict.ReasonEncapsulation},
		{"two 8100 tags on an inspected conduit", nil, b(modbusSYN.tagged(0x8100<<16|10, 0x8100<<16|20)), xdpDrop, verdict.ReasonEncapsulation},
		{"9100 on an inspected conduit", nil, b(modbusSYN.tagged(0x9100<<16 | 10)), xdpDrop, verdict.ReasonEncapsulation},
		{"three tags", nil, b(syn.tagged(0x8100<<16|10, 0x8100<<16|20, 0x8100<<16|30)), xdpDrop, verdict.ReasonEncapsulation},
		{"QinQ on a plain conduit", nil, b(syn.tagged(0x88a8<<16|10, 0x8100<<16|20)), xdpRedirect, 0},
		{"QinQ, the inner VLAN not permitted", nil, b(syn.tagged(0x88a8<<16|10, 0x8100<<16|30)), xdpDrop, verdict.ReasonVLANNotPermitted},

		{"fragment on an inspected conduit", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 6, 0x2000, tcpSegment(1, 502, flagSYN)))), xdpDrop, verdict.ReasonFragment},
		{"later fragment on a port-bound conduit", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 100, udpDatagram(1, 53)))), xdpDrop, verdict.ReasonFragment},
		{"fragment on an address-only conduit", nil, b(ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 17, 0x2000, udpDatagram(1, 53)))), xdpRedirect, 0},
		{"fragment without a conduit", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 132, 0x2000, udpDatagram(1, 53)))), xdpDrop, verdict.ReasonNoConduit},

		{"IP header cut short", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 0x0800, body: []byte{0x46}}), xdpDrop, verdict.ReasonMalformed},
		{"IP length beyond the frame", nil, b(ether(macHMI, macPLC, longer(ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN))))), xdpDrop, verdict.ReasonMalformed},
		{"IPv6 without addresses of its own", nil, b(ether(macHMI, macPLC, ipPacket(netip6(1), netip6(2), 6, 0, tcpSegment(1, 102, flagSYN)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"GRE", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 47, 0, make([]byte, 8)))), xdpDrop, verdict.ReasonEncapsulation},
		{"IP in IP", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 4, 0, make([]byte, 20)))), xdpDrop, verdict.ReasonEncapsulation},
		{"6in4", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 41, 0, make([]byte, 40)))), xdpDrop, verdict.ReasonEncapsulation},
		{"PPPoE", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 0x8864}), xdpDrop, verdict.ReasonEncapsulation},
		{"MPLS", nil, b(packet{src: macHMI, dst: macPLC, ethertype: 0x8847}), xdpDrop, verdict.ReasonEncapsulation},
		{"VXLAN under a conduit for every port", nil, b(ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 17, 0, udpDatagram(5000, 4789)))), xdpDrop, verdict.ReasonEncapsulation},
	}
}

// TestVerdict holds the fast path's answer to one frame, and that a frame which passes leaves
// as it came.
func TestVerdict(t *testing.T) {
	d := open(t, plan())
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) { d.meets(t, r) })
	}
}

// TestObserveHoldsNothing sends every row with the policy in observe: each frame is forwarded,
// and a denial is counted all the same.
func TestObserveHoldsNothing(t *testing.T) {
	p := plan()
	p.Mode = policy.Observe
	d := open(t, p)
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			d.emptyFlows(t)
			for _, s := range r.before {
				d.run(t, s.side, s.frame.bytes())
			}
			before := d.reasons(t)
			got, _ := d.run(t, r.side, r.frame.bytes())
			if got != xdpRedirect {
				t.Errorf("the program returned %d, want %d", got, xdpRedirect)
			}
			if r.reason != 0 && moved(before, d.reasons(t))[r.reason] != 1 {
				t.Errorf("%v was not counted", r.reason)
			}
		})
	}
}

// TestNoPolicyDenies holds that fresh maps let nothing through.
func TestNoPolicyDenies(t *testing.T) {
	d := open(t, nil)
	for _, r := range rows() {
		if got, _ := d.run(t, r.side, r.frame.bytes()); got != xdpDrop {
			t.Errorf("%s: the program returned %d without a policy", r.name, got)
		}
	}
}
