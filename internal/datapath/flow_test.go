package datapath

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestFlowShare fills the table from one device: it is refused as table_full at its share, and
// another device still begins flows.
func TestFlowShare(t *testing.T) {
	require(t)
	d := openWith(t, plan(), Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 1 << 40, Flows: 64})
	before := d.reasons(t)
	forwarded := 0
	for port := range uint16(100) {
		forwarded += d.passes(t, policy.SideB, hmiTCP(10000+port, 102, flagSYN), 1)
	}
	if want := 64 / quotaShare; forwarded != want {
		t.Errorf("one device began %d flows, want its share of %d", forwarded, want)
	}
	if got := moved(before, d.reasons(t))[verdict.ReasonTableFull]; got != 100-64/quotaShare {
		t.Errorf("%d frames were denied as table_full", got)
	}
	other := ether(macRouter, macPLC, ipPacket(ipFar, ipPLC, 6, 0, tcpSegment(9, 4840, flagSYN)))
	if d.passes(t, policy.SideB, other, 1) != 1 {
		t.Error("another device could not begin a flow")
	}
}

// TestFlowCountsAreSetRight holds that Sweep gives back a share that nobody uses any more.
func TestFlowCountsAreSetRight(t *testing.T) {
	d := open(t, plan())
	for port := range uint16(10) {
		d.passes(t, policy.SideB, hmiTCP(10000+port, 102, flagSYN), 1)
	}
	if err := d.objects.FlowCounts.Put(uint32(idHMI), uint32(1<<30)); err != nil {
		t.Fatal(err)
	}
	if d.passes(t, policy.SideB, hmiTCP(20000, 102, flagSYN), 1) != 0 {
		t.Fatal("a flow began beyond the count")
	}
	if _, live, err := d.Sweep(); err != nil || live != 10 {
		t.Fatalf("Sweep: %d live flows, %v", live, err)
	}
	if d.passes(t, policy.SideB, hmiTCP(20000, 102, flagSYN), 1) != 1 {
		t.Error("the count was not set right")
	}
}

// TestFlowByKey follows an inspected flow from the mark to its ends, and no further than it lives.
func TestFlowByKey(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN).tagged(0x8100<<16|10), 1)
	var key uint32
	if err := d.Flows(func(f *Flow) bool { key = f.Key; return false }); err != nil || key == 0 {
		t.Fatalf("the flow has key %#x: %v", key, err)
	}
	f, ok := d.FlowByKey(key)
	if !ok {
		t.Fatal("the key names no flow")
	}
	if f.Initiator != policy.SideB || f.Conduit != conduitModbus || f.Source != idHMI || f.Destination != idPLC || f.Action != verdict.Inspect {
		t.Errorf("the flow is %+v", f)
	}
	if f.A != (End{macPLC, ipPLC, 502}) || f.B != (End{macHMI, ipHMI, 40000}) {
		t.Errorf("its ends are %v and %v", f.A, f.B)
	}
	if len(f.Tags) != 1 || f.Tags[0] != (Tag{0x8100, 10}) {
		t.Errorf("its tags are %v", f.Tags)
	}
	if _, ok := d.FlowByKey(mark.NextGeneration(key)); ok {
		t.Error("the slot's next generation names the flow")
	}
}

// icmpError quotes a packet as an ICMP error does.
func icmpError(kind, code uint8, mtu uint16, quoted []byte) []byte {
	b := []byte{kind, code, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[6:], mtu)
	return append(b, quoted[:28]...)
}

// TestICMPErrors holds which errors follow a conversation without a conduit of their own.
func TestICMPErrors(t *testing.T) {
	request := ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(40000, 102, flagSYN))
	error := func(kind, code uint8, mtu uint16, quoted []byte) packet {
		return ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 1, 0, icmpError(kind, code, mtu, quoted)))
	}
	d := open(t, plan())
	for _, r := range []struct {
		name   string
		flow   bool
		frame  packet
		want   uint32
		reason verdict.Reason
	}{
		{"port unreachable for a live flow", true, error(3, 3, 0, request), xdpRedirect, 0},
		{"time exceeded for a live flow", true, error(11, 0, 0, request), xdpRedirect, 0},
		{"fragmentation needed, a lawful MTU", true, error(3, 4, 1400, request), xdpRedirect, 0},
		{"fragmentation needed, a tiny MTU", true, error(3, 4, 68, request), xdpDrop, verdict.ReasonMalformed},
		{"redirect with a live flow", true, error(5, 1, 0, request), xdpDrop, verdict.ReasonNoConduit},
		{"no such flow", false, error(3, 3, 0, request), xdpDrop, verdict.ReasonNoConduit},
		{"another port", true, error(3, 3, 0, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(40001, 102, flagSYN))), xdpDrop, verdict.ReasonNoConduit},
		{"the flow's packet from its other end", true, error(3, 3, 0, ipPacket(ipPLC, ipHMI, 6, 0, tcpSegment(102, 40000, flagACK))), xdpDrop, verdict.ReasonNoConduit},
		{"from another device", true, ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 1, 0, icmpError(3, 3, 0, request))), xdpDrop, verdict.ReasonNoConduit},
	} {
		t.Run(r.name, func(t *testing.T) {
			d.emptyFlows(t)
			if r.flow {
				d.passes(t, policy.SideB, ether(macHMI, macPLC, request), 1)
			}
			before := d.reasons(t)
			got, _ := d.run(t, policy.SideA, r.frame.bytes())
			if got != r.want {
				t.Errorf("the program returned %d, want %d", got, r.want)
			}
			if r.reason != 0 && moved(before, d.reasons(t))[r.reason] != 1 {
				t.Errorf("denied for %v, want %v", moved(before, d.reasons(t)), r.reason)
			}
		})
	}
}

// TestFragmentsOfAnswers holds that an address-only conversation carries fragments both ways,
// once it has begun.
func TestFragmentsOfAnswers(t *testing.T) {
	d := open(t, plan())
	answer := ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 17, 0x2000, udpDatagram(53, 1)))
	if d.passes(t, policy.SideA, answer, 1) != 0 {
		t.Fatal("a fragment passed against the conduit's direction before any request")
	}
	d.passes(t, policy.SideB, ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 17, 0, udpDatagram(1, 53))), 1)
	if d.passes(t, policy.SideA, answer, 1) != 1 {
		t.Error("a fragment of the answer was denied")
	}
}

// age makes every flow look as if its last frame were long ago.
func (d *Datapath) age(t *testing.T) {
	t.Helper()
	d.changeFlows(t, func(e *entry) { e.flow.Seen = d.longAgo() })
}

// freeSlotCount takes every free slot off the list and counts them.
func (d *Datapath) freeSlotCount(t *testing.T) int {
	t.Helper()
	n, slot := 0, uint32(0)
	for d.objects.FreeSlots.LookupAndDelete(nil, &slot) == nil {
		n++
	}
	return n
}

// TestSlotsComeBack holds that a slot is free again when its flow has expired, whether the sweep
// finds it or a new conversation of the same ends comes first.
func TestSlotsComeBack(t *testing.T) {
	all := 0
	for name, end := range map[string]func(*Datapath){
		"swept": func(d *Datapath) {
			if expired, live, err := d.Sweep(); err != nil || expired != 1 || live != 0 {
				t.Errorf("Sweep: %d expired, %d live, %v", expired, live, err)
			}
		},
		"begun again": func(d *Datapath) { d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 1) },
	} {
		d := open(t, plan())
		all = int(d.objects.Slots.MaxEntries()) - 1
		d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 1)
		key := d.keyOf(t, 40000)
		d.age(t)
		end(d)
		if _, ok := d.FlowByKey(key); ok {
			t.Errorf("%s: the expired flow still has its key", name)
		}
		want := all
		if name == "begun again" {
			want--
		}
		if got := d.freeSlotCount(t); got != want {
			t.Errorf("%s: %d slots are free, want %d", name, got, want)
		}
	}
}

// TestExpiredFlowAnswersNothing holds that an entry which nobody swept does not carry replies.
func TestExpiredFlowAnswersNothing(t *testing.T) {
	d := open(t, plan())
	d.control.setAdoptUntil(0)
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	d.age(t)
	d.denied(t, "a reply to an expired flow", policy.SideA, plcTCP(102, 40000, flagACK), verdict.ReasonNoConduit)
}

// TestHardLimits holds that identity and conduit are asked again after a conversation's hard limit, however
// busy it is, and not before.
func TestHardLimits(t *testing.T) {
	d := open(t, plan())
	for _, r := range []struct {
		name  string
		frame packet
		limit time.Duration
	}{
		{"TCP", hmiTCP(40000, 102, flagACK), 24 * time.Hour},
		{"UDP", hmi4(17, 0, udpDatagram(40000, 53)), time.Hour},
		{"echo", hmi4(1, 0, icmpEcho(8, 7)), time.Hour},
		{"UDP whose fragments have an entry", rtu4(17, 0, udpDatagram(40000, 9)), 10 * time.Second},
	} {
		d.emptyFlows(t)
		d.passes(t, policy.SideB, r.frame, 1)
		for _, age := range []time.Duration{r.limit / 2, r.limit + 10*time.Second} {
			var before []uint16
			d.changeFlows(t, func(e *entry) {
				e.flow.Decided -= uint16(age >> decidedShift)
				before = append(before, e.flow.Decided)
			})
			d.passes(t, policy.SideB, r.frame, 1)
			var after []uint16
			d.flowTable.each(func(e *entry) bool { after = append(after, e.flow.Decided); return true })
			if asked := !slices.Equal(before, after); asked != (age > r.limit) {
				t.Errorf("%s: asked again %v after %v, with a limit of %v", r.name, asked, age, r.limit)
			}
			d.changeFlows(t, func(e *entry) {
				e.flow.Decided = uint16((d.flowClock().ticks * d.flowClock().tickLength) >> decidedShift)
			})
		}
	}
}
