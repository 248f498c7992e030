package datapath

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// shareOf is a fast path for so many flows, of which one identity may have begun the fourth part.
func shareOf(t *testing.T, p *policy.Plan, flows uint32) *Datapath {
	t.Helper()
	require(t)
	return openWith(t, p, Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, Flows: flows, AdoptionWindow: time.Hour})
}

func (d *Datapath) lines() (n int) {
	d.flowTable.each(func(*entry) bool { n++; return true })
	return n
}

// TestAdoptionTakesNobodysShare has a device answer, in the adoption window, connections that nobody began:
// who would have begun them has its share all the same.
func TestAdoptionTakesNobodysShare(t *testing.T) {
	d := shareOf(t, plan(), 64)
	for port := range uint16(100) {
		d.passes(t, policy.SideA, plcTCP(102, 20000+port, flagACK), 1)
	}
	if d.passes(t, policy.SideB, hmiTCP(10000, 102, flagSYN), 1) != 1 {
		t.Error("the other device used its share up")
	}
	if got := d.lines(); got != 64/quotaShare+1 {
		t.Errorf("%d flows, want %d by one and one by the other", got, 64/quotaShare)
	}
	if _, _, err := d.Sweep(); err != nil {
		t.Fatal(err)
	}
	if d.passes(t, policy.SideA, plcTCP(102, 30000, flagACK), 1) != 0 || d.passes(t, policy.SideB, hmiTCP(10001, 102, flagSYN), 1) != 1 {
		t.Error("the sweep counts them for the other")
	}
}

// TestFragmentEntriesAreCounted has a device that may use many addresses begin a conversation from each.
func TestFragmentEntriesAreCounted(t *testing.T) {
	d := shareOf(t, sheet{}.plan(t), 1024)
	for i := range 1000 {
		from := netip4(198, 19, byte(i/250), byte(i%250+1))
		d.passes(t, policy.SideA, ether(macDrive, macHMI, ipPacket(from, ipHMI, 17, 0, udpDatagram(1, 9))), 1)
	}
	if got := d.lines(); got > 1024/quotaShare {
		t.Errorf("one device has %d lines, and its share is %d", got, 1024/quotaShare)
	}
	d.age(t)
	if _, live, err := d.Sweep(); err != nil || live != 0 {
		t.Fatalf("%d live, %v", live, err)
	}
	d.noFlowCounted(t)
}

func (d *Datapath) noFlowCounted(t *testing.T) {
	t.Helper()
	for id := range uint32(32) {
		var count uint32
		if err := d.objects.FlowCounts.Lookup(id, &count); err != nil || count != 0 {
			t.Errorf("identity %d is counted for %d flows (%v)", id, count, err)
		}
	}
}

// TestShareAcrossPolicies has a device begin as many flows as it may under each of several policies, in
// which its number is not the same, and never end one.
func TestShareAcrossPolicies(t *testing.T) {
	plans := []*policy.Plan{
		sheet{}.plan(t),
		sheet{replace: []string{"  - {name: dhcp, zone: plant,", "  - {name: dhcp-0, zone: plant, mac: \"02:00:00:00:00:71\"}\n  - {name: dhcp, zone: plant,",
			"  - {name: hmi, zone", "  - {name: hmi-0, zone: plant, mac: \"02:00:00:00:00:70\"}\n  - {name: hmi, zone"}}.plan(t),
	}
	d := shareOf(t, plans[0], 1024)
	for round := range 5 {
		for i := range 400 {
			d.passes(t, policy.SideB, hmiTCP(uint16(1000+round*400+i), 102, flagSYN), 1)
		}
		if _, err := d.Apply(plans[(round+1)%2], uint64(round+2)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.lines(); got > 1024/quotaShare {
		t.Errorf("one device has %d flows, and its share is %d", got, 1024/quotaShare)
	}
	if d.passes(t, policy.SideB, ether(macSCADA, macPLC, ipPacket(ipSCADA, ipPLC, 6, 0, tcpSegment(1, 102, flagSYN))), 1) != 1 {
		t.Error("another device cannot begin one")
	}
	d.age(t)
	if _, _, err := d.Sweep(); err != nil {
		t.Fatal(err)
	}
	d.noFlowCounted(t)
}
