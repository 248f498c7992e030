package datapath

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
)

// TestSweepCorrectsEveryCount: counts that no flow stands behind, as a daemon before left them or
// a full slot table, must not lock an identity out for good.
func TestSweepCorrectsEveryCount(t *testing.T) {
	d := open(t, plan())
	for _, count := range []uint32{1, 1 << 20, 0xffffffff} {
		if err := d.objects.FlowCounts.Put(uint32(idHMI), count); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Sweep(); err != nil {
			t.Fatal(err)
		}
		if got, _ := d.run(t, policy.SideB, hmiTCP(40000, 102, flagSYN).bytes()); got != xdpRedirect {
			t.Errorf("a flow after a stray count of %d: the program returned %d", count, got)
		}
		d.emptyFlows(t)
	}
}

// TestFullSlotTable: a new inspected flow is denied by name, its identity is not counted for it,
// and it is inspected as soon as there is a slot again.
func TestFullSlotTable(t *testing.T) {
	d := open(t, plan())
	syn := hmiTCP(40000, 502, flagSYN)
	plain := plan()
	plain.Conduits[conduitModbus].Inspect = false
	if _, err := d.Apply(plain, 2); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.run(t, policy.SideB, syn.bytes()); got != xdpRedirect {
		t.Fatalf("plain: the program returned %d", got)
	}
	if _, err := d.Apply(plan(), 3); err != nil {
		t.Fatal(err)
	}
	slots := d.takeSlots(t)
	ack := hmiTCP(40000, 502, flagACK)
	for range 3 { // the flow that was plain, each time
		if got, _ := d.run(t, policy.SideB, ack.bytes()); got != xdpDrop {
			t.Errorf("without a slot: the program returned %d", got)
		}
	}
	for port := range uint16(3) {
		if got, _ := d.run(t, policy.SideB, hmiTCP(41000+port, 502, flagSYN).bytes()); got != xdpDrop {
			t.Errorf("a new flow without a slot: the program returned %d", got)
		}
	}
	var count uint32
	if err := d.objects.FlowCounts.Lookup(uint32(idHMI), &count); err != nil {
		t.Fatal(err)
	}
	if count > 1 {
		t.Errorf("the identity is counted for %d flows, and there is at most one", count)
	}
	for _, slot := range slots {
		if err := d.objects.FreeSlots.Put(nil, slot); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := d.run(t, policy.SideB, ack.bytes()); got != xdpPass {
		t.Errorf("with slots again: the program returned %d", got)
	}
	n := 0
	if err := d.Flows(func(f *Flow) bool {
		n++
		if w, ok := d.FlowByKey(f.Key); !ok || w.Key == 0 {
			t.Errorf("the flow's key %#x names nothing", f.Key)
		}
		return true
	}); err != nil || n != 1 {
		t.Errorf("%d flows, %v", n, err)
	}
}

// takeSlots empties the list of free slots.
func (d *Datapath) takeSlots(t *testing.T) (slots []uint32) {
	t.Helper()
	var slot uint32
	for d.objects.FreeSlots.LookupAndDelete(nil, &slot) == nil {
		slots = append(slots, slot)
	}
	return slots
}

// TestSlotsStayUnique ends flows from two CPUs and from user space at once, again and again: each
// slot is in the list or with one flow, and no slot twice.
func TestSlotsStayUnique(t *testing.T) {
	d := open(t, plan())
	d.control.setAdoptUntil(0)
	deadline := time.Now().Add(4 * time.Second)
	permit, forbid := plan(), plan()
	forbid.Pairs = forbid.Pairs[1:]
	for round := uint16(0); time.Now().Before(deadline); round++ {
		syn, ack, back := hmiTCP(40000, 502, flagSYN).bytes(), hmiTCP(40000, 502, flagACK).bytes(), plcTCP(502, 40000, flagACK).bytes()
		if round%2 == 0 {
			if got, _ := d.run(t, policy.SideB, syn); got != xdpPass {
				t.Fatalf("round %d: the program returned %d", round, got)
			}
			if _, err := d.Apply(forbid, 2); err != nil {
				t.Fatal(err)
			}
		} else if _, err := d.Apply(permit, 3); err != nil {
			t.Fatal(err)
		}
		d.race(t, ack, back)
	}
	d.noSlotTwice(t)
}

// race runs one frame on each side at the same time.
func (d *Datapath) race(t *testing.T, b, a []byte) {
	t.Helper()
	done, begin := make(chan struct{}, 2), make(chan struct{})
	for side, frame := range map[policy.Side][]byte{policy.SideA: a, policy.SideB: b} {
		go func() {
			<-begin
			d.run(t, side, frame)
			done <- struct{}{}
		}()
	}
	close(begin)
	<-done
	<-done
}

func (d *Datapath) noSlotTwice(t *testing.T) {
	t.Helper()
	seen := map[uint32]int{}
	for _, slot := range d.takeSlots(t) {
		seen[slot&0x3ffff]++
	}
	if err := d.Flows(func(f *Flow) bool {
		seen[f.Key&0x3ffff]++
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for slot, n := range seen {
		if n > 1 && slot != 0 {
			t.Errorf("slot %d is held %d times", slot, n)
		}
	}
	if want := int(d.objects.Slots.MaxEntries()) - 1; len(seen) < want {
		t.Errorf("%d slots of %d are left", len(seen), want)
	}
}

// TestGroupSpeaksForNobody: a group's address is no sender's, whatever flow towards the group
// there is.
func TestGroupSpeaksForNobody(t *testing.T) {
	d := open(t, plan())
	any4 := netip4(255, 255, 255, 255)
	ask := ether(macPLC, broadcast, ipPacket(ipPLC, any4, 17, 0, udpDatagram(68, 67)))
	if got, _ := d.run(t, policy.SideA, ask.bytes()); got != xdpRedirect {
		t.Fatalf("to broadcast: the program returned %d", got)
	}
	forged := ether(broadcast, macPLC, ipPacket(any4, ipPLC, 17, 0, udpDatagram(67, 68)))
	if got, _ := d.run(t, policy.SideB, forged.bytes()); got != xdpDrop {
		t.Errorf("from broadcast: the program returned %d", got)
	}
}

// TestLinkLocalGroupsCarryTheirProtocols: a device takes in what is sent to a group that it listens
// to, so that nothing else may travel there, and least of all what sets its name or its outputs.
func TestLinkLocalGroupsCarryTheirProtocols(t *testing.T) {
	d := open(t, plan())
	for _, group := range [][6]byte{{1, 0x80, 0xc2, 0, 0, 0xe}, {1, 0x1b, 0x19, 0, 0, 0}, {1, 0x15, 0x4e, 0, 0, 1}, {1, 0x21, 0x6c, 0, 0, 1}} {
		for _, kind := range []uint16{0x8892, 0x88b8, 0x88ba, 0x8864, 0x88e5, 0x892f, 0x8808, 0x0806, 0x0800} {
			p := ether(macHMI, group, ipPacket(ipHMI, ipPLC, 17, 0, udpDatagram(40000, 53)))
			p.ethertype = kind
			if got, _ := d.run(t, policy.SideB, p.bytes()); got != xdpDrop {
				t.Errorf("EtherType %#04x to %x: the program returned %d", kind, group, got)
			}
		}
		for _, kind := range []uint16{38, 0x88cc, 0x8809, 0x888e, 0x88e3, 0x80e1, 0x88fb, 0x88f7, 0x8902} {
			p := packet{src: macOdd, dst: group, ethertype: kind, body: append([]byte{0x42, 0x42, 3}, make([]byte, 43)...)}
			if got, _ := d.run(t, policy.SideB, p.bytes()); got != xdpRedirect {
				t.Errorf("EtherType %#04x to %x: the program returned %d", kind, group, got)
			}
		}
	}
}

// TestFragmentsLiveAsLongAsTheirConversation: an answer in fragments is known however long the
// conversation has been without any.
func TestFragmentsLiveAsLongAsTheirConversation(t *testing.T) {
	d := open(t, plan())
	ask := ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 17, 0, udpDatagram(40000, 161))).bytes()
	fragment := ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 17, 0x2000, udpDatagram(161, 40000))).bytes()
	for range 4 {
		if got, _ := d.run(t, policy.SideB, ask); got != xdpRedirect {
			t.Fatalf("the program returned %d", got)
		}
		d.agedBy(t, 40*time.Second)
	}
	if got, _ := d.run(t, policy.SideA, fragment); got != xdpRedirect {
		t.Errorf("in the third minute: the program returned %d", got)
	}
	d.agedBy(t, time.Hour)
	if got, _ := d.run(t, policy.SideA, fragment); got != xdpDrop {
		t.Errorf("long after the conversation: the program returned %d", got)
	}
}

// agedBy makes every flow older.
func (d *Datapath) agedBy(t *testing.T, by time.Duration) {
	t.Helper()
	d.changeFlows(t, func(e *entry) {
		e.flow.Seen -= uint32(by >> seenShift)
		e.flow.Decided -= uint16(by >> decidedShift)
	})
}
