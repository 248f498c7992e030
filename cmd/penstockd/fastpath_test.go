package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// lineRow is one frame on a real line: it arrives at the other end as it was sent, or not at all
// and is told with a reason.
type lineRow struct {
	name   string
	from   policy.Side
	frame  []byte
	reason verdict.Reason // ReasonNone: it arrives
}

var (
	pumpMAC        = [6]byte{2, 0, 0, 0, 0, 0x11}
	strangerMAC    = [6]byte{2, 0, 0, 0, 0, 0x77}
	hmi4           = netip.MustParseAddr(testnet.PlantAddress)
	filler4        = netip.MustParseAddr(testnet.CellAddress)
	pump4          = netip.MustParseAddr("198.18.0.11")
	engineeringMAC = [6]byte{2, 0, 0, 0, 0, 0x21}
	engineering4   = netip.MustParseAddr("198.18.0.21")
	stranger4      = netip.MustParseAddr("198.18.0.77")
	hmi6           = netip.MustParseAddr("2001:2::20")
	filler6        = netip.MustParseAddr("2001:2::10")
	tag10          = frame.Tag{TPID: 0x8100, TCI: 10}
)

func fastPathSite() string {
	return site{vlan: "[untagged, 10, 20]", conduits: []string{
		modbusConduit("inspected", 502),
		modbusConduit("watched", 503, "mode: observe"),
		"name: watched-too\nfrom: [engineering]\nto: [filler-plc]\nprotocol: tcp\nports: [503]\nmode: observe",
		plainConduit("plain", "tcp", 4840),
		plainConduit("datagrams", "udp", 2222),
		"name: anything\nfrom: [hmi-1]\nto: [pump-rtu]\nprotocol: udp",
		"name: ping\nfrom: [hmi-1]\nto: [filler-plc]\nprotocol: icmp\ntypes: [8, 128]",
		"name: fieldbus\nfrom: [hmi-1]\nto: [filler-plc, \"group:goose\", \"group:profinet_dcp\"]\nprotocol: ethertype\nethertypes: [0x8892, 0x88b8, 0x88ba, 0x88a4, 0x88e5, 0x88fb]",
		"name: cyclic\nfrom: [pump-rtu]\nto: [\"group:239.192.0.0/14\"]\nprotocol: udp\nports: [2222]",
		"name: boot\nfrom: [\"zone:cell\"]\nto: [broadcast]\nprotocol: udp\nports: [67]",
	}}.String()
}

// TestFastPathOnTheLine sends one frame after another into an appliance whose ports take jumbo
// frames.
func TestFastPathOnTheLine(t *testing.T) {
	fastPathOnTheLine(t, layStopped(t, plant.Options{Policy: fastPathSite(), Settings: []string{longHeartbeat}}))
}

func fastPathOnTheLine(t *testing.T, p *plant.Plant) {
	w := tapEnds(t, p)
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		runIn(t, p, p.Box, "ip", "link", "set", port, "mtu", "9000")
	}
	for _, h := range []*testnet.Host{p.Filler, p.HMI} {
		runIn(t, p, h, "ip", "link", "set", testnet.HostInterface, "mtu", "9000")
	}
	start(t, p)
	awaitLine(t, p)
	for _, r := range lineRows() {
		t.Run(r.name, func(t *testing.T) {
			if r.reason == verdict.ReasonNone {
				w.passes(t, r.from, r.frame)
				return
			}
			last := lastSequence(t, p)
			w.stops(t, r.from, r.frame)
			if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
				return e.Sequence > last && e.Reason == r.reason && e.Layer == event.LayerXDP && e.Verdict == verdict.Deny
			}); err != nil {
				t.Errorf("no event says %v: %v", r.reason, err)
			}
		})
	}
	t.Run("a fragment between two whose conduits are observed", func(t *testing.T) {
		last := lastSequence(t, p)
		w.passes(t, policy.SideB, etherFrame(fillerMAC, engineeringMAC, nil, ip4(engineering4, filler4, 6, 0x2000, nil, tcp(41020, 503, 2))))
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
			return e.Sequence > last && e.Reason == verdict.ReasonFragment && e.Mode == event.ModeObserve && e.Conduit == "watched-too"
		}); err != nil {
			t.Errorf("no event says that it would have been denied: %v", err)
		}
	})
	t.Run("inspected in a VLAN", func(t *testing.T) {
		c := newConversation(false, 40100, 502, tag10)
		c.open(t, w)
		w.passes(t, policy.SideB, c.frame(t, policy.SideB, pushed, mbap(1, 1, readRegisters(0, 2))))
		w.passes(t, policy.SideA, c.frame(t, policy.SideA, pushed, mbap(1, 1, []byte{3, 4, 0, 1, 0, 2})))
	})
	t.Run("jumbo, observed", func(t *testing.T) {
		c := newConversation(false, 40101, 503)
		c.open(t, w)
		last := lastSequence(t, p)
		w.passes(t, policy.SideB, c.frame(t, policy.SideB, pushed, make([]byte, 8900)))
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
			return e.Sequence > last && e.Layer == event.LayerInspect && e.Conduit == "watched"
		}); err != nil {
			t.Errorf("the copy of a jumbo frame was not judged: %v", err)
		}
	})
}

func lastSequence(t *testing.T, p *plant.Plant) (last uint64) {
	t.Helper()
	events, err := p.Events()
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		last = max(last, events[i].Sequence)
	}
	return last
}

// ip4 is an IPv4 packet; the checksum is left out, which no fast path looks at. Options are a
// multiple of four bytes.
func ip4(from, to netip.Addr, protocol uint8, fragment uint16, options, body []byte) []byte {
	b := make([]byte, 20, 20+len(options)+len(body))
	b[0] = 0x45 + byte(len(options)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(options)+len(body)))
	binary.BigEndian.PutUint16(b[6:], fragment)
	b[8], b[9] = 64, protocol
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	return append(append(b, options...), body...)
}

// ip6 is an IPv6 packet whose extension headers, of eight bytes each, are given by number.
func ip6(from, to netip.Addr, protocol uint8, extensions []byte, body []byte) []byte {
	b := make([]byte, 40, 40+8*len(extensions)+len(body))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(8*len(extensions)+len(body)))
	b[6], b[7] = protocol, 64
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	at := 6
	for _, kind := range extensions {
		b[at] = kind
		at = len(b)
		b = append(b, protocol, 0, 0, 0, 0, 0, 0, 0)
	}
	return append(b, body...)
}

func udp(from, to uint16, n int) []byte {
	b := make([]byte, 8+n)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

func tcp(from, to uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[13] = 0x50, flags
	return b
}

func echo(kind byte) []byte { return append([]byte{kind, 0, 0, 0, 0, 9, 0, 1}, "abcdefgh"...) }

// arpFrame asks for the filler's address.
func arpFrame(src, claimed [6]byte, sender netip.Addr, dst string) []byte {
	return arpFor(src, claimed, sender, filler4, dst)
}

func arpFor(src, claimed [6]byte, sender, target netip.Addr, dst string) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, claimed[:]...)
	b = append(append(b, sender.AsSlice()...), 0, 0, 0, 0, 0, 0)
	return ethernet(dst, src, nil, 0x0806, append(b, target.AsSlice()...))
}

func lineRows() []lineRow {
	const sideA, sideB, ok = policy.SideA, policy.SideB, verdict.ReasonNone
	const filler, broadcast = testnet.CellMAC, "ff:ff:ff:ff:ff:ff"
	hmi := func(ip []byte, tags ...frame.Tag) []byte { return etherFrame(fillerMAC, hmiMAC, tags, ip) }
	pump := func(ip []byte) []byte { return etherFrame(pumpMAC, hmiMAC, nil, ip) }
	syn := func(to uint16) []byte { return ip4(hmi4, filler4, 6, 0, nil, tcp(41000, to, 2)) }
	prp := []byte{0, 1, 0xa0, 0x2e, 0x88, 0xfb}
	padded := func(b []byte, tail ...byte) []byte {
		return append(append(append([]byte{}, b...), make([]byte, max(0, 60-len(b)))...), tail...)
	}
	type fieldbus struct {
		name   string
		number uint16
	}
	var rows []lineRow
	for _, e := range []fieldbus{{"PROFINET", 0x8892}, {"GOOSE", 0x88b8}, {"SV", 0x88ba}, {"EtherCAT", 0x88a4}, {"MACsec", 0x88e5}, {"PRP supervision", 0x88fb}} {
		rows = append(rows, lineRow{e.name, sideB, ethernet(filler, hmiMAC, nil, e.number, make([]byte, 46)), ok})
	}
	for _, e := range []fieldbus{{"POWERLINK", 0x88ab}, {"SERCOS", 0x88cd}, {"EAPOL", 0x888e}, {"RARP", 0x8035}} {
		rows = append(rows, lineRow{e.name + " without a conduit", sideB, ethernet(filler, hmiMAC, nil, e.number, make([]byte, 46)), verdict.ReasonNoConduit})
	}
	for _, n := range []int{15, 20, 59, 1514, 4000, 9014} {
		rows = append(rows, lineRow{fmt.Sprintf("%d bytes", n), sideB, ethernet(filler, hmiMAC, nil, 0x8892, make([]byte, n-14)), ok})
	}
	return append(rows, []lineRow{
		{"plain TCP", sideB, hmi(syn(4840)), ok},
		{"plain TCP, jumbo", sideB, hmi(ip4(hmi4, filler4, 6, 0, nil, append(tcp(41000, 4840, 0x10), make([]byte, 8900)...))), ok},
		{"plain TCP in a VLAN", sideB, hmi(syn(4840), tag10), ok},
		{"plain TCP, jumbo in a VLAN", sideB, hmi(ip4(hmi4, filler4, 6, 0, nil, append(tcp(41000, 4840, 0x10), make([]byte, 8900)...)), tag10), ok},
		{"plain TCP with a priority tag", sideB, hmi(syn(4840), frame.Tag{TPID: 0x8100, TCI: 7 << 13}), ok},
		{"plain TCP in QinQ", sideB, hmi(syn(4840), frame.Tag{TPID: 0x88a8, TCI: 10}, frame.Tag{TPID: 0x8100, TCI: 20}), ok},
		{"plain TCP with IPv4 options", sideB, hmi(ip4(hmi4, filler4, 6, 0, []byte{148, 4, 0, 0}, tcp(41001, 4840, 2))), ok},
		{"plain TCP with extension headers", sideB, hmi(ip6(hmi6, filler6, 6, []byte{0, 43, 60}, tcp(41002, 4840, 2))), ok},
		{"a PRP trailer on a plain conduit", sideB, padded(hmi(syn(4840)), prp...), ok},
		{"datagram", sideB, hmi(ip4(hmi4, filler4, 17, 0, nil, udp(41000, 2222, 30))), ok},
		{"its answer", sideA, etherFrame(hmiMAC, fillerMAC, nil, ip4(filler4, hmi4, 17, 0, nil, udp(2222, 41000, 30))), ok},
		{"echo", sideB, hmi(ip4(hmi4, filler4, 1, 0, nil, echo(8))), ok},
		{"ICMPv6 echo", sideB, hmi(ip6(hmi6, filler6, 58, nil, echo(128))), ok},
		{"fragment on an address-only conduit", sideB, pump(ip4(hmi4, pump4, 17, 0x2000, nil, udp(41000, 9, 24))), ok},
		{"IPv6 fragment on a port-bound conduit", sideB, hmi(ip6(hmi6, filler6, 17, []byte{44}, udp(41000, 2222, 8))), verdict.ReasonFragment},
		{"MAC group by name", sideB, ethernet("01:0c:cd:01:00:07", hmiMAC, nil, 0x88b8, make([]byte, 60)), ok},
		{"IP group", sideA, etherFrame([6]byte{1, 0, 0x5e, 0x40, 1, 1}, pumpMAC, nil, ip4(pump4, netip.MustParseAddr("239.192.1.1"), 17, 0, nil, udp(41000, 2222, 30))), ok},
		{"boot", sideA, etherFrame([6]byte{255, 255, 255, 255, 255, 255}, fillerMAC, nil, ip4(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), 17, 0, nil, udp(68, 67, 240))), ok},
		{"ARP request", sideB, arpFrame(hmiMAC, hmiMAC, hmi4, broadcast), ok},
		{"ARP probe", sideB, arpFor(hmiMAC, hmiMAC, netip.IPv4Unspecified(), hmi4, broadcast), ok},
		{"LLDP", sideA, ethernet("01:80:c2:00:00:0e", strangerMAC, nil, 0x88cc, make([]byte, 46)), ok},
		{"MRP", sideA, ethernet("01:15:4e:00:00:01", strangerMAC, nil, 0x88e3, make([]byte, 46)), ok},
		{"DLR", sideB, ethernet("01:21:6c:00:00:01", strangerMAC, nil, 0x80e1, make([]byte, 46)), ok},
		{"PTP", sideB, ethernet("01:1b:19:00:00:00", strangerMAC, nil, 0x88f7, make([]byte, 46)), ok},
		{"spanning tree", sideB, ethernet("01:80:c2:00:00:00", strangerMAC, nil, 38, append([]byte{0x42, 0x42, 3}, make([]byte, 43)...)), ok},

		{"another port", sideB, hmi(syn(80)), verdict.ReasonNoConduit},
		{"against the conduit", sideA, etherFrame(hmiMAC, fillerMAC, nil, ip4(filler4, hmi4, 6, 0, nil, tcp(41010, 4840, 2))), verdict.ReasonNoConduit},
		{"SYN of the responder", sideA, etherFrame(hmiMAC, fillerMAC, nil, ip4(filler4, hmi4, 6, 0, nil, tcp(4840, 41000, 2))), verdict.ReasonTCPState},
		{"a stranger", sideB, ethernet(filler, strangerMAC, nil, 0x8892, make([]byte, 46)), verdict.ReasonUnknownSource},
		{"to a stranger", sideB, ethernet("02:00:00:00:00:77", hmiMAC, nil, 0x8892, make([]byte, 46)), verdict.ReasonUnknownDestination},
		{"spoofed", sideB, hmi(ip4(stranger4, filler4, 17, 0, nil, udp(41011, 2222, 8))), verdict.ReasonAddressSpoofed},
		{"wrong side", sideA, hmi(syn(4840)), verdict.ReasonWrongPort},
		{"ARP probe for another's address", sideB, arpFrame(hmiMAC, hmiMAC, netip.IPv4Unspecified(), broadcast), verdict.ReasonARPSpoofed},
		{"a VLAN that the receiver is not in", sideB, etherFrame(pumpMAC, hmiMAC, []frame.Tag{tag10}, ip4(hmi4, pump4, 17, 0, nil, udp(41000, 9, 8))), verdict.ReasonVLANNotPermitted},
		{"the first fragment of VXLAN", sideB, pump(ip4(hmi4, pump4, 17, 0x2000, nil, udp(41000, 4789, 24))), verdict.ReasonEncapsulation},
		{"a fragment beyond the largest packet", sideB, pump(ip4(hmi4, pump4, 17, 0x1fff, nil, make([]byte, 64))), verdict.ReasonMalformed},
		{"a lease that nobody asked for", sideB, pump(ip4(hmi4, pump4, 17, 0, nil, udp(67, 68, 240))), verdict.ReasonNoConduit},
		{"ARP for another", sideB, arpFrame(hmiMAC, hmiMAC, stranger4, broadcast), verdict.ReasonARPSpoofed},
		{"fragment on an inspected conduit", sideB, hmi(ip4(hmi4, filler4, 6, 0x2000, nil, tcp(41012, 502, 2))), verdict.ReasonFragment},
		{"another VLAN", sideB, hmi(syn(4840), frame.Tag{TPID: 0x8100, TCI: 11}), verdict.ReasonVLANNotPermitted},
		{"another VLAN behind a priority tag", sideB, hmi(syn(4840), frame.Tag{TPID: 0x8100}, frame.Tag{TPID: 0x8100, TCI: 11}), verdict.ReasonVLANNotPermitted},
		{"QinQ on an inspected conduit", sideB, hmi(syn(502), frame.Tag{TPID: 0x88a8, TCI: 10}, frame.Tag{TPID: 0x8100, TCI: 20}), verdict.ReasonEncapsulation},
		{"three tags", sideB, hmi(syn(4840), tag10, tag10, tag10), verdict.ReasonEncapsulation},
		{"a PRP trailer on an inspected conduit", sideB, padded(hmi(syn(502)), prp...), verdict.ReasonEncapsulation},
		{"GRE", sideB, pump(ip4(hmi4, pump4, 47, 0, nil, make([]byte, 24))), verdict.ReasonEncapsulation},
		{"VXLAN under an address-only conduit", sideB, pump(ip4(hmi4, pump4, 17, 0, nil, udp(41013, 4789, 50))), verdict.ReasonEncapsulation},
		{"a source route", sideB, hmi(ip4(hmi4, filler4, 6, 0, []byte{131, 7, 4, 198, 18, 0, 11, 0}, tcp(41014, 4840, 2))), verdict.ReasonEncapsulation},
		{"nine extension headers", sideB, hmi(ip6(hmi6, filler6, 6, []byte{0, 60, 60, 60, 60, 60, 60, 60, 60}, tcp(41015, 4840, 2))), verdict.ReasonEncapsulation},
		{"LLC and SNAP around IP", sideB, ethernet(filler, hmiMAC, nil, 48, append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, syn(4840)...)), verdict.ReasonEncapsulation},
		{"LLC and SNAP around IP to a link-local group", sideB, ethernet("01:80:c2:00:00:0e", hmiMAC, nil, 48, append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, syn(4840)...)), verdict.ReasonLinkLocal},
		{"HSR without a conduit", sideB, ethernet(filler, hmiMAC, nil, 0x892f, make([]byte, 46)), verdict.ReasonEncapsulation},
		{"an inner tag of another VLAN", sideB, hmi(syn(4840), frame.Tag{TPID: 0x88a8, TCI: 10}, frame.Tag{TPID: 0x8100, TCI: 11}), verdict.ReasonVLANNotPermitted},
		{"TCP from 0.0.0.0", sideB, hmi(ip4(netip.IPv4Unspecified(), filler4, 6, 0, nil, tcp(41019, 4840, 2))), verdict.ReasonAddressSpoofed},
		{"cut short", sideB, hmi(syn(4840)[:24]), verdict.ReasonMalformed},
		{"a TCP header in the padding", sideB, hmi(append(ip4(hmi4, filler4, 6, 0, nil, nil), tcp(41016, 4840, 2)...)), verdict.ReasonMalformed},
		{"IP to a link-local group", sideB, etherFrame([6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, hmiMAC, nil, ip4(hmi4, filler4, 17, 0, nil, udp(41017, 44818, 8))), verdict.ReasonLinkLocal},
		{"a jumbo frame that no conduit covers", sideB, hmi(ip4(hmi4, filler4, 6, 0, nil, append(tcp(41018, 80, 0x10), make([]byte, 8900)...))), verdict.ReasonNoConduit},
	}...)
}
