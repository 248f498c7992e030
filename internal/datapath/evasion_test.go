package datapath

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// The numbers are those of the published list of evasions that the documentation keeps.

// denied sends frames that have to be dropped, and returns for what reasons.
func (d *Datapath) denied(t *testing.T, name string, side policy.Side, p packet, want verdict.Reason) {
	t.Helper()
	before := d.reasons(t)
	if got, _ := d.run(t, side, p.bytes()); got != xdpDrop {
		t.Errorf("%s: the program returned %d", name, got)
	}
	if got := moved(before, d.reasons(t)); want != 0 && got[want] != 1 {
		t.Errorf("%s: denied for %v, want %v", name, got, want)
	}
}

// TestEvasion07FragmentsAndTags puts fragments and extension headers inside tags.
func TestEvasion07FragmentsAndTags(t *testing.T) {
	d := open(t, plan())
	tiny := ipPacket(ipHMI, ipPLC, 6, 0x2000, tcpSegment(1, 502, flagSYN)[:8])
	for name, tags := range map[string][]uint32{
		"untagged": nil, "in a VLAN": {0x8100<<16 | 10}, "with a priority tag": {0x8100 << 16},
	} {
		d.denied(t, "tiny first fragment "+name, policy.SideB, ether(macHMI, macPLC, tiny).tagged(tags...), verdict.ReasonFragment)
		later := ipPacket(ipHMI, ipPLC, 6, 1, tcpSegment(1, 502, flagSYN))
		d.denied(t, "overlapping fragment "+name, policy.SideB, ether(macHMI, macPLC, later).tagged(tags...), verdict.ReasonFragment)
	}
	udp := ipPacket(ipHMI, ipPLC, 17, 0x2000, udpDatagram(1, 53))
	d.denied(t, "fragmented datagram", policy.SideB, ether(macHMI, macPLC, udp), verdict.ReasonFragment)
}

// TestEvasion35FramesThatNoHookSees sends an inspected conversation in every wrapping that would
// cross the bridge without touching the hooks: none leaves the program as inspected or allowed.
func TestEvasion35FramesThatNoHookSees(t *testing.T) {
	d := open(t, plan())
	syn := hmiTCP(40000, 502, flagSYN)
	snap := append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, syn.body...)
	hsr := append([]byte{0x10, 0x40, 0, 1, 8, 0}, syn.body...)
	pppoe := append([]byte{0x11, 0, 0, 1, 0, byte(len(syn.body) + 2), 0, 0x21}, syn.body...)
	for name, p := range map[string]packet{
		"88a8 and 8100": syn.tagged(0x88a8<<16|10, 0x8100<<16|20),
		"8100 twice":    syn.tagged(0x8100<<16|10, 0x8100<<16|10),
		"9100":          syn.tagged(0x9100<<16 | 10),
		"three tags":    syn.tagged(0x8100<<16|10, 0x8100<<16|10, 0x8100<<16|10),
		"LLC and SNAP":  {src: macHMI, dst: macPLC, ethertype: uint16(len(snap)), body: snap},
		"PPPoE":         {src: macHMI, dst: macPLC, ethertype: 0x8864, body: pppoe},
		"HSR":           {src: macHMI, dst: macPLC, ethertype: 0x892f, body: hsr},
	} {
		d.denied(t, name, policy.SideB, p, 0)
	}
	prp := syn
	prp.body = append(append([]byte{}, syn.body...), make([]byte, 20)...)
	prp.body = append(prp.body, 0, 1, 0xa0, 0x20, 0x88, 0xfb)
	d.denied(t, "a PRP trailer, which the hook would cut off", policy.SideB, prp, verdict.ReasonEncapsulation)
}

// verdicts of a tc program
const (
	tcOK   = 0
	tcShot = 2
)

// skb is the part of struct __sk_buff that a test run takes and gives back: its mark.
type skb struct {
	Length, PacketType, Mark uint32
	Rest                     [45]uint32
}

func runSKB(t *testing.T, p *ebpf.Program, m uint32) (uint32, uint32) {
	t.Helper()
	in, out := skb{Mark: m}, skb{}
	ret, err := p.Run(&ebpf.RunOptions{Data: hmiTCP(1, 502, flagSYN).bytes(), Context: in, ContextOut: &out})
	if err != nil {
		t.Fatal(err)
	}
	return ret, out.Mark
}

// TestEvasion35ExitGate holds that only two kinds of mark leave, and the marker that a frame
// without metadata goes no further and keeps no mark.
func TestEvasion35ExitGate(t *testing.T) {
	d := open(t, plan())
	for kind := range uint32(16) {
		want := uint32(tcShot)
		if m := kind << 28; m == mark.Permitted || m == mark.Own {
			want = tcOK
		}
		if got, _ := runSKB(t, d.objects.ExitGate, kind<<28|123); got != want {
			t.Errorf("the exit gate answered %d to a mark of kind %#x, want %d", got, kind, want)
		}
	}
	for _, m := range []uint32{0, mark.Inspect, mark.Permitted, mark.Own} {
		if got, left := runSKB(t, d.objects.Marker, m); got != tcShot || left != 0 {
			t.Errorf("the marker answered %d to a frame without metadata, and left the mark %#x", got, left)
		}
	}
}

// TestEvasion37ReverseAdoption has a device begin with an ACK from the conduit's port, and try to
// ride the entry.
func TestEvasion37ReverseAdoption(t *testing.T) {
	d := open(t, plan())
	d.denied(t, "an ACK from another port", policy.SideA, plcTCP(5000, 40000, flagACK), verdict.ReasonNoConduit)
	if d.passes(t, policy.SideA, plcTCP(102, 40000, flagACK), 1) != 1 {
		t.Fatal("a connection that was there before is not adopted in the window")
	}
	d.denied(t, "a SYN over the adopted entry", policy.SideA, plcTCP(102, 40000, flagSYN), verdict.ReasonTCPState)
	d.denied(t, "a SYN to another port", policy.SideA, plcTCP(102, 40001, flagSYN), verdict.ReasonNoConduit)
	d.denied(t, "UDP in reverse", policy.SideA, ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(53, 40000))), verdict.ReasonNoConduit)
	d.denied(t, "simultaneous open", policy.SideA, plcTCP(502, 40000, flagSYN), verdict.ReasonNoConduit)
	d.control.setAdoptUntil(0)
	d.denied(t, "an ACK after the window", policy.SideA, plcTCP(102, 40002, flagACK), verdict.ReasonNoConduit)
}

// TestEvasion38OneTupleTwice holds that the same five-tuple in two VLANs, and between other MACs,
// is not one stream.
func TestEvasion38OneTupleTwice(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 1)
	d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN).tagged(0x8100<<16|10), 1)
	keys := map[uint32]bool{}
	if err := d.Flows(func(f *Flow) bool { keys[f.Key] = true; return true }); err != nil || len(keys) != 2 {
		t.Errorf("%d slots for two VLANs (%v)", len(keys), err)
	}
	clone := hmiTCP(40000, 502, flagACK)
	clone.dst = macRTU
	d.denied(t, "the tuple to another MAC", policy.SideB, clone, verdict.ReasonUnknownDestination)
}

// TestEvasion38TagThatIsNone holds that a priority tag does not make another stream: to the receiver
// the segments with one and those without are one connection, and halves of a message that are read
// apart could both look lawful.
func TestEvasion38TagThatIsNone(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 1)
	key := d.keyOf(t, 40000)
	for _, tci := range []uint32{0, 7 << 13, 1 << 12} {
		if d.passes(t, policy.SideB, hmiTCP(40000, 502, flagACK).tagged(0x8100<<16|tci), 1) != 1 {
			t.Errorf("a segment with the tag %#x was stopped", tci)
		}
	}
	flows := 0
	if err := d.Flows(func(f *Flow) bool { flows++; return true }); err != nil || flows != 1 || d.keyOf(t, 40000) != key {
		t.Errorf("%d flows (%v), want the one whose key is %#x", flows, err, key)
	}
}

// TestEvasion38VLANHopping puts a permitted tag around another VLAN's: a switch that takes the outer
// one off carries the frame on where its sender may not be.
func TestEvasion38VLANHopping(t *testing.T) {
	d := open(t, plan())
	for name, p := range map[string]packet{
		"TCP": hmiTCP(40000, 102, flagSYN), "EtherType": raw(macHMI, macPLC, 0x8892, 46), "ARP": arp(macHMI, broadcast, macHMI, ipHMI, ipPLC),
	} {
		d.denied(t, name+" in 8100 twice", policy.SideB, p.tagged(0x8100<<16|10, 0x8100<<16|30), verdict.ReasonVLANNotPermitted)
		d.denied(t, name+" in 88a8 and 8100", policy.SideB, p.tagged(0x88a8<<16|10, 0x8100<<16|30), verdict.ReasonVLANNotPermitted)
		d.denied(t, name+" behind a priority tag", policy.SideB, p.tagged(0x8100<<16, 0x8100<<16|30), verdict.ReasonVLANNotPermitted)
	}
}

// TestEvasion39 tries what carries a conversation past its conduit, or leads it elsewhere, under a
// conduit for every port and in a zone that permits itself.
func TestEvasion39(t *testing.T) {
	s := sheet{replace: []string{"DEFAULTS", "on_outage: open, intra_zone: permit"}}
	d := open(t, s.plan(t))
	zone := func(protocol uint8, fragment uint16, body []byte) packet {
		return ether(macFeeder, macPress, ipPacket(ipFeeder, ipPress, protocol, fragment, body))
	}
	for _, protocol := range []uint8{4, 41, 47, 50, 97, 115, 137} {
		d.denied(t, "an IP tunnel, address-only", policy.SideB, rtu4(protocol, 0, make([]byte, 40)), verdict.ReasonEncapsulation)
		d.denied(t, "an IP tunnel, zone-wide", policy.SideB, zone(protocol, 0, make([]byte, 40)), verdict.ReasonEncapsulation)
	}
	for _, port := range []uint16{4789, 8472, 6081, 1701, 3544, 2152} {
		d.denied(t, "a UDP tunnel, address-only", policy.SideB, rtu4(17, 0, udpDatagram(1, port)), verdict.ReasonEncapsulation)
		d.denied(t, "a UDP tunnel, zone-wide", policy.SideB, zone(17, 0, udpDatagram(1, port)), verdict.ReasonEncapsulation)
	}
	for _, etherType := range []uint16{0x8863, 0x8864, 0x8847, 0x8848, 0x88e7, 0x88e5, 0x892f, 0x8870, 0x8926, 0x893f, 0x9200, 0x9300, 0x6558, 0x22f3} {
		d.denied(t, "an Ethernet tunnel, zone-wide", policy.SideB, raw(macFeeder, macPress, etherType, 46), verdict.ReasonEncapsulation)
	}
	d.denied(t, "SNAP, zone-wide", policy.SideB, snap(macFeeder, macPress, 0, 0, 0), verdict.ReasonEncapsulation)

	d.denied(t, "an ICMP redirect", policy.SideB, hmi4(1, 0, icmpEcho(5, 1)), verdict.ReasonNoConduit)
	d.denied(t, "an ICMP redirect, zone-wide", policy.SideB, zone(1, 0, icmpEcho(5, 1)), verdict.ReasonNoConduit)
	d.denied(t, "an ICMP redirect in pieces, zone-wide", policy.SideB, zone(1, 0x2000, icmpEcho(5, 1)), verdict.ReasonFragment)
	d.denied(t, "a neighbour redirect", policy.SideB, discovery(redirect, 255, macHMI, macPLC, ip6HMI, netip.Addr{}, 2, macOdd), verdict.ReasonARPSpoofed)
	d.denied(t, "a rogue router", policy.SideB, discovery(routerAdvertisement, 255, macHMI, groupMAC(ip6All), ip6HMI, netip.Addr{}, 1, macHMI), verdict.ReasonARPSpoofed)

	tiny := icmpEcho(3, 0)
	tiny[1], tiny[7] = 4, 68 // fragmentation needed, next hop's MTU 68
	d.denied(t, "a tiny MTU", policy.SideB, zone(1, 0, tiny), verdict.ReasonMalformed)
	d.denied(t, "a tiny MTU of IPv6", policy.SideB, hmi6(58, icmpEcho(2, 0)), verdict.ReasonMalformed)

	offer := udpDatagram(67, 68)
	d.denied(t, "a rogue DHCP server", policy.SideB, ether(macHMI, broadcast, ipPacket(ipHMI, ipAll, 17, 0, offer)), verdict.ReasonNoConduit)
	d.denied(t, "a rogue DHCP server in a zone that permits itself", policy.SideB, ether(macFeeder, broadcast, ipPacket(ipFeeder, ipAll, 17, 0, offer)), verdict.ReasonNoConduit)
}

// TestEvasion40WrongSide sends with a device's MAC from the side where it does not live.
func TestEvasion40WrongSide(t *testing.T) {
	d := open(t, plan())
	d.denied(t, "TCP", policy.SideA, hmiTCP(40000, 102, flagSYN), verdict.ReasonWrongPort)
	d.denied(t, "ARP", policy.SideA, arp(macHMI, broadcast, macHMI, ipHMI, ipPLC), verdict.ReasonWrongPort)
	d.denied(t, "EtherType", policy.SideA, packet{src: macHMI, dst: macPLC, ethertype: 0x8892}, verdict.ReasonWrongPort)
	before := d.reasons(t)
	d.denied(t, "flooded back", policy.SideA, ether(macRTU, macPLC, ipPacket(ipRTU, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN))), 0)
	if got := moved(before, d.reasons(t)); len(got) != 0 {
		t.Errorf("a frame flooded back from the destination's side was told as %v", got)
	}
}

// TestEventsAreCountedOrTold floods the program with one denial: what is not told is counted.
func TestEventsAreCountedOrTold(t *testing.T) {
	d := open(t, plan())
	events, err := d.Events()
	if err != nil {
		t.Fatal(err)
	}
	const frames = 5000
	p := hmiTCP(40000, 80, flagSYN)
	if _, err := d.objects.PortB.Run(&ebpf.RunOptions{Data: p.bytes(), Repeat: frames}); err != nil {
		t.Fatal(err)
	}
	var told atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			e, err := events.Read()
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil || e.Verdict != verdict.Denied(verdict.ReasonNoConduit) || e.SourcePort != 40000 ||
				e.DestinationIP != ipPLC || e.SourceMAC != macHMI || e.Source != idHMI || e.Destination != idPLC || e.Side != policy.SideB || e.Protocol != 6 {
				t.Errorf("event %+v, %v", e, err)
			}
			told.Add(1)
		}
	}()
	_ = testnet.WaitFor("", 10*time.Second, func() (bool, error) {
		return uint64(told.Load())+d.reasons(t)[verdict.ReasonNoConduit].EventsLost >= frames, nil
	})
	time.Sleep(50 * time.Millisecond) // for one too many
	if err := events.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	n := told.Load()
	counted := d.reasons(t)[verdict.ReasonNoConduit]
	if counted.Frames != frames || uint64(n)+counted.EventsLost != frames {
		t.Errorf("%d frames: %d counted, %d told, %d counted as not told", frames, counted.Frames, n, counted.EventsLost)
	}
	if n == 0 || n > 1000 {
		t.Errorf("%d of %d equal denials were told", n, frames)
	}
}

// TestTap holds that a copy is the frame, and in the order of the wire.
func TestTap(t *testing.T) {
	p := plan()
	p.Mode = policy.Observe
	d := open(t, p)
	tap, err := d.Tap()
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	for i, size := range []int{60, 300, 1514, 9000} {
		syn := hmiTCP(40000, 502, flagSYN)
		syn.body = append(syn.body, make([]byte, size-14-len(syn.body))...)
		binary.BigEndian.PutUint16(syn.body[2:], uint16(len(syn.body)))
		syn.body[len(syn.body)-1] = byte(i)
		d.run(t, policy.SideB, syn.bytes())
		c, err := tap.Read()
		if err != nil {
			t.Fatal(err)
		}
		if string(c.Frame) != string(syn.bytes()) || string(c.IP) != string(syn.bytes()[14:]) || c.Side != policy.SideB || c.Key == 0 {
			t.Errorf("the copy of %d bytes differs: %d bytes, key %#x", size, len(c.Frame), c.Key)
		}
	}
}
