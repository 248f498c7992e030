package datapath

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// shuffled is plan with its conduits under other numbers, and one of them, dnp3, under another name.
func shuffled() *policy.Plan {
	p := plan()
	last := uint32(len(p.Conduits) - 1)
	slices.Reverse(p.Conduits[1:])
	for i := range p.Ranges {
		p.Ranges[i].Conduit = last + 1 - p.Ranges[i].Conduit
	}
	for i := range p.Conduits {
		if p.Conduits[i].Name == "dnp3" {
			p.Conduits[i].Name = "dnp3-new"
		}
	}
	return p
}

// countOf reads the counters of the conduit of that name.
func (d *Datapath) countOf(t *testing.T, name string) ConduitCount {
	t.Helper()
	counts, err := d.Conduits()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range d.plans.Load().plan.Conduits {
		if i > 0 && c.Name == name {
			return counts[i]
		}
	}
	t.Fatalf("there is no conduit %s", name)
	return ConduitCount{}
}

// TestCountersGoOnAcrossPolicies: a conduit counts on by its name, whatever its number is.
func TestCountersGoOnAcrossPolicies(t *testing.T) {
	d := open(t, plan())
	dnp3 := ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 6, 0, tcpSegment(40000, 20000, flagSYN)))
	for i, p := range []*policy.Plan{plan(), shuffled(), plan(), shuffled()} {
		if i > 0 {
			if _, err := d.Apply(p, uint64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 5)
		d.passes(t, policy.SideB, hmiTCP(40001, 502, flagSYN), 3)
		d.passes(t, policy.SideB, dnp3, 1)
		if got := d.countOf(t, "opc").Allowed; got != uint64(5*(i+1)) {
			t.Errorf("after policy %d opc counts %d frames, want %d", i+1, got, 5*(i+1))
		}
		if got := d.countOf(t, "modbus").Inspected; got != uint64(3*(i+1)) {
			t.Errorf("after policy %d modbus counts %d frames, want %d", i+1, got, 3*(i+1))
		}
		name := []string{"dnp3", "dnp3-new"}[i%2]
		if got := d.countOf(t, name).Allowed; got != 1 {
			t.Errorf("after policy %d %s, which the one before did not have, counts %d frames, want 1", i+1, name, got)
		}
	}
}

// TestCountersGoOnAcrossDaemons ends a daemon and starts the next, twice.
func TestCountersGoOnAcrossDaemons(t *testing.T) {
	require(t)
	config := Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, AdoptionWindow: time.Hour, Flows: 64}
	for i := range 3 {
		d, err := Open(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.setPorts(Port{"lo", 1}, Port{"lo", 1}); err != nil {
			t.Fatal(err)
		}
		p := plan()
		p.Hash = fmt.Sprintf("%064x", i+1)
		if i > 0 {
			hash, version, err := d.InForce()
			if want := fmt.Sprintf("%064x", i); hash != want || version != uint64(i) || err != nil {
				t.Errorf("daemon %d found policy %s, version %d (%v), want %s, %d", i, hash, version, err, want, i)
			}
			before := plan()
			d.Recall(before, version)
			if got, number, ok := d.Plan(d.Generation()); got != before || number != uint64(i) || !ok {
				t.Errorf("daemon %d does not know the names of the generation that it found", i)
			}
		}
		found := d.Generation()
		if _, err := d.Apply(p, uint64(i+1)); err != nil {
			t.Fatal(err)
		}
		if _, number, ok := d.Plan(found); i > 0 && (number != uint64(i) || !ok) {
			t.Errorf("after its first policy daemon %d does not know the names of the generation before", i)
		}
		kept, err := d.KeptMessages()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := kept("modbus"), (Messages{uint64(i) * 10, uint64(i)}); got != want {
			t.Errorf("daemon %d begins with %+v, want %+v", i, got, want)
		}
		d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 7)
		if got := d.countOf(t, "opc").Allowed; got != uint64(7*(i+1)) {
			t.Errorf("daemon %d counts %d frames, want %d", i, got, 7*(i+1))
		}
		if err := d.KeepMessages(func(string) Messages { return Messages{uint64(i+1) * 10, uint64(i + 1)} }); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTallyAfterACrash undoes the step that follows the flip of a generation, as a crash between the
// two leaves it: it is done again, with the same numbers.
func TestTallyAfterACrash(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 5)
	if _, err := d.Apply(shuffled(), 2); err != nil {
		t.Fatal(err)
	}
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 5)
	for range 2 {
		if err := d.nameConduits(d.Generation()&1, shuffled()); err != nil {
			t.Fatal(err)
		}
		d.control.setTallied(d.Generation() - 1)
		if got := d.countOf(t, "opc").Allowed; got != 10 {
			t.Errorf("opc counts %d frames, want 10", got)
		}
	}
}

// TestFailedApplyKeepsCounters: nothing of a failed policy is counted or lost.
func TestFailedApplyKeepsCounters(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 5)
	d.faults = func(s step, _ *ebpf.MapSpec, _ *ebpf.Map) error {
		if s == stepInstall {
			return fmt.Errorf("broken on purpose")
		}
		return nil
	}
	if _, err := d.Apply(shuffled(), 2); err == nil {
		t.Fatal("the fault has no effect")
	}
	d.faults = nil
	if got := d.countOf(t, "opc").Allowed; got != 5 {
		t.Errorf("after a failed policy opc counts %d frames, want 5", got)
	}
	if _, err := d.Apply(shuffled(), 3); err != nil {
		t.Fatal(err)
	}
	if got := d.countOf(t, "opc").Allowed; got != 5 {
		t.Errorf("after the next one opc counts %d frames, want 5", got)
	}
}

// TestCountersUnderLoad changes the policy while frames pass: each is counted once. They are run one by
// one, because a run of many that a signal interrupts (the runtime sends some on a busy machine) is made
// again from its first frame, and nobody knows how many were counted before.
func TestCountersUnderLoad(t *testing.T) {
	d := open(t, plan())
	const changes = 10
	var changed atomic.Bool
	done := make(chan error)
	frames := uint64(0)
	go func() {
		data := hmiTCP(40000, 102, flagACK).bytes()
		for ; !changed.Load(); frames++ {
			if _, err := d.objects.PortB.Run(&ebpf.RunOptions{Data: data, Repeat: 1}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range changes {
		next := plan()
		if i%2 == 0 {
			next = shuffled()
		}
		if _, err := d.Apply(next, uint64(i)); err != nil {
			t.Error(err)
		}
	}
	changed.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := d.countOf(t, "opc").Allowed; got != frames || frames < changes {
		t.Errorf("%d frames are counted across %d changes of policy, want %d", got, changes, frames)
	}
	t.Logf("%d frames", frames)
}

// TestLinkControlIsCounted: link-local control traffic belongs to no conduit, and is counted by side.
func TestLinkControlIsCounted(t *testing.T) {
	d := open(t, plan())
	lldp := raw(macOdd, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, 0x88cc, 46)
	d.passes(t, policy.SideA, lldp, 3)
	d.passes(t, policy.SideB, bpdu([6]byte{1, 0x80, 0xc2, 0, 0, 0}), 2)
	d.run(t, policy.SideB, snap(macHMI, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, 0, 0, 0).bytes())
	for side, want := range map[policy.Side][2]uint64{policy.SideA: {3, 180}, policy.SideB: {2, 120}} {
		if frames, bytes, err := d.LinkControl(side); frames != want[0] || bytes != want[1] || err != nil {
			t.Errorf("side %v: %d frames, %d bytes (%v), want %v", side, frames, bytes, err, want)
		}
	}
}
