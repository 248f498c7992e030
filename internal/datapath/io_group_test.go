package datapath

import (
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestIOGroupThatIsListenedToAnew: when what a target sends to a group has stopped for longer than its listeners wait,
// they open it anew, and do so before a sweep has looked: the watchdog of before is not theirs.
func TestIOGroupThatIsListenedToAnew(t *testing.T) {
	for _, r := range []struct {
		name   string
		serial uint16 // of the connection that is opened anew; 1 and 2 were open
	}{{"the same connection", 1}, {"another one", 3}} {
		t.Run(r.name, func(t *testing.T) {
			d := openIOWith(t, ioPlan(t, "closed", "enforce"), multicastConnection(1, outputID), multicastConnection(2, outputID+1))
			d.meets(t, row{sent: a(inputToGroup(9)), want: xdpRedirect})
			d.idleIO(t, d.io.open[1].keys[1], 2*time.Minute)
			if got, _ := d.run(t, policy.SideA, inputToGroup(10).bytes()); got != xdpDrop {
				t.Errorf("after its watchdog the program returned %d", got)
			}
			again := d.mustOpenIO(t, multicastConnection(r.serial, outputID+2))
			d.meets(t, row{sent: a(inputToGroup(1)), want: xdpRedirect})
			if _, err := d.SweepIO(); err != nil {
				t.Fatal(err)
			}
			if !d.IOIsOpen(again) {
				t.Error("the sweep has ended what was opened anew")
			}
			d.meets(t, row{sent: a(inputToGroup(2)), want: xdpRedirect})
			if open, _ := d.CountIO(); open != 1 {
				t.Errorf("%d connections are open", open)
			}
		})
	}
}

// TestEvasion33GroupThatIsFree: a group that its target has given up is free for another, before a sweep has looked.
func TestEvasion33GroupThatIsFree(t *testing.T) {
	text := strings.NewReplacer("OUTAGE", "closed", "MODE", "enforce", "to: [plc], protocol: enip", "to: [plc, rtu], protocol: enip",
		"  - {name: plain, from: [hmi], to: [rtu], protocol: udp, ports: [2222]}\n", "").Replace(ioPolicy)
	d := openIOWith(t, ioPlanOf(t, text), multicastConnection(1, outputID))
	d.meets(t, row{sent: a(inputToGroup(1)), want: xdpRedirect})
	d.idleIO(t, d.io.open[1].keys[1], 2*time.Minute)
	other := multicastConnection(2, outputID+1)
	other.Target = IOEnd{macRTU, ipRTU}
	d.mustOpenIO(t, other)
	d.meets(t, row{sent: a(ether(macRTU, multicastMAC(ioGroup), ipPacket(ipRTU, ioGroup, 17, 0, ioDatagram(inputID, 1, 34)))), want: xdpRedirect})
	if got, _ := d.run(t, policy.SideA, inputToGroup(2).bytes()); got != xdpDrop {
		t.Errorf("of the device that gave the group up: the program returned %d", got)
	}
}

// TestIOGroupOfThePatient: what is sent to a group passes for as long as one of those that listen waits for it, whoever
// came first, and no longer.
func TestIOGroupOfThePatient(t *testing.T) {
	waits := func(serial uint16, timeout time.Duration) IOConnection {
		c := multicastConnection(serial, outputID+uint32(serial))
		c.Input.Timeout = timeout
		return c
	}
	for _, r := range []struct {
		name   string
		opened []IOConnection
		closed uint16 // serial number of one that is closed again
		passes bool
	}{
		{"the first waits longer", []IOConnection{waits(1, time.Minute), waits(2, time.Second)}, 0, true},
		{"the second waits longer", []IOConnection{waits(1, time.Second), waits(2, time.Minute)}, 0, true},
		{"the first is closed", []IOConnection{waits(1, time.Second), waits(2, time.Minute)}, 1, true},
		{"the one that waits longer is closed", []IOConnection{waits(1, time.Minute), waits(2, time.Second)}, 1, false},
		{"and came second", []IOConnection{waits(1, time.Second), waits(2, time.Minute)}, 2, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			d := openIOWith(t, ioPlan(t, "closed", "enforce"), r.opened...)
			if r.closed != 0 && !d.CloseIO(IOEnd{macPLC, ipPLC}, waits(r.closed, 0).Triad) {
				t.Fatal("it cannot be closed")
			}
			d.meets(t, row{sent: a(inputToGroup(1)), want: xdpRedirect})
			for _, e := range d.io.open {
				d.idleIO(t, e.keys[1], 5*time.Second)
				break
			}
			want := uint32(xdpDrop)
			if r.passes {
				want = xdpRedirect
			}
			if got, _ := d.run(t, policy.SideA, inputToGroup(2).bytes()); got != want {
				t.Errorf("after five seconds the program returned %d, want %d", got, want)
			}
			ended, err := d.SweepIO()
			if err != nil || r.passes != (len(ended) == 0 || r.closed != 0 && len(ended) == 1) {
				t.Errorf("ended %v, %v", ended, err)
			}
		})
	}
}

// TestIOGroupIsHeldToTheStricter: what is sent to a group on an enforced conduit and on an observed one is enforced, for as
// long as a connection of the enforced one is open.
func TestIOGroupIsHeldToTheStricter(t *testing.T) {
	text := strings.NewReplacer("OUTAGE", "closed", "MODE", "enforce",
		"conduits:\n", "  - {name: panel, zone: plant, mac: \"02:00:00:00:00:77\", ip: [198.18.0.77]}\nconduits:\n"+
			"  - {name: watched, from: [panel], to: [plc], protocol: enip, mode: observe, rules: [{services: [forward_open], io: {assemblies: [100]}}]}\n").Replace(ioPolicy)
	plan := ioPlanOf(t, text)
	panel := multicastConnection(2, outputID+1)
	panel.Originator = IOEnd{macOdd, ipOdd}
	short := a(ether(macPLC, multicastMAC(ioGroup), ipPacket(ipPLC, ioGroup, 17, 0, ioDatagram(inputID, 100, 33))))
	for _, order := range [][]IOConnection{{multicastConnection(1, outputID), panel}, {panel, multicastConnection(1, outputID)}} {
		d := openIOWith(t, plan, order...)
		for range 3 {
			d.meets(t, row{sent: short, want: xdpDrop, reason: verdict.ReasonIOSize})
			if _, err := d.Apply(plan, 2); err != nil {
				t.Fatal(err)
			}
		}
		d.CloseIO(IOEnd{macPLC, ipPLC}, IOTriad{Serial: 1, Vendor: 0x1337, OriginatorSerial: 42})
		d.meets(t, row{sent: short, want: xdpRedirect, reason: verdict.ReasonIOSize})
		d.mustOpenIO(t, multicastConnection(1, outputID))
		d.CloseIO(IOEnd{macPLC, ipPLC}, panel.Triad)
		d.meets(t, row{sent: short, want: xdpDrop, reason: verdict.ReasonIOSize})
	}
}

// TestStricter holds that of each two approvals the same one is stricter in either order: an enforced one, then one with a
// rate limit.
func TestStricter(t *testing.T) {
	none := bpf.BridgeIoApproval{}
	order := []bpf.BridgeIoApproval{ // the strictest first
		{Generation: 5, Limited: 1, Conduit: 3}, {Generation: 5, Conduit: 1}, {Generation: 5, Conduit: 2},
		{Generation: 5, Observed: 1, Limited: 1, Conduit: 9}, {Generation: 5, Observed: 1, Conduit: 4}, none,
	}
	for i, a := range order {
		for _, b := range order[i:] {
			if stricter(a, b) != a || stricter(b, a) != a {
				t.Errorf("of %+v and %+v the second is stricter", a, b)
			}
		}
	}
}
