package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// narrow is plan without the conduit that the tests use, and with another in its place.
func narrow() *policy.Plan {
	p := plan()
	p.Ranges[0] = policy.Range{Low: 103, High: 103, Conduit: conduitOPC}
	return p
}

// TestInvariant05PolicyChangesWhole breaks Apply at each step: the policy before goes on, for
// new conversations and for those that live, and the next change succeeds.
func TestInvariant05PolicyChangesWhole(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	broken := errors.New("broken on purpose")
	for _, at := range []step{stepCreate, stepFill, stepReadBack, stepInstall} {
		for _, after := range []int{0, 1, 3} {
			left := after
			d.faults = func(s step, _ *ebpf.MapSpec, _ *ebpf.Map) error {
				if s != at {
					return nil
				}
				if left--; left < 0 {
					return broken
				}
				return nil
			}
			generation := d.Generation()
			_, err := d.Apply(narrow(), 2)
			d.faults = nil
			if at == stepInstall && after > 0 {
				if err != nil {
					t.Fatalf("%s: %v", at, err)
				}
				if _, err := d.Apply(plan(), 1); err != nil {
					t.Fatal(err)
				}
				d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
				continue
			}
			if !errors.Is(err, broken) {
				t.Fatalf("%s after %d: Apply returned %v", at, after, err)
			}
			if d.Generation() != generation {
				t.Errorf("%s after %d: the generation moved", at, after)
			}
			if got, _ := d.run(t, policy.SideA, plcTCP(102, 40000, flagACK).bytes()); got != xdpRedirect {
				t.Errorf("%s after %d: a live conversation was cut", at, after)
			}
			if d.passes(t, policy.SideB, hmiTCP(41000, 102, flagSYN), 1) != 1 || d.passes(t, policy.SideB, hmiTCP(41001, 103, flagSYN), 1) != 0 {
				t.Errorf("%s after %d: the failed policy shows", at, after)
			}
		}
	}
	if _, err := d.Apply(narrow(), 2); err != nil {
		t.Fatal(err)
	}
	if d.passes(t, policy.SideB, hmiTCP(41002, 103, flagSYN), 1) != 1 {
		t.Error("the policy after the failed ones is not in force")
	}
}

// TestInvariant05WhatTheKernelRefuses makes the kernel itself fail in the middle of Apply, for one table
// after the other: a map that is full, a value that is not what was written, an entry that is gone, and
// a process that may no longer make maps. The policy before goes on.
func TestInvariant05WhatTheKernelRefuses(t *testing.T) {
	d := open(t, plan())
	for _, r := range []struct {
		name, want string
		at         step
		harm       func(*ebpf.MapSpec, *ebpf.Map) (done bool)
	}{
		{"a full map", "", stepCreate, func(inner *ebpf.MapSpec, _ *ebpf.Map) bool {
			inner.MaxEntries--
			return inner.MaxEntries > 0
		}},
		{"a bad value", "instead of", stepReadBack, func(_ *ebpf.MapSpec, m *ebpf.Map) bool {
			return overwrite(t, m, func(value []byte) { value[0]++ })
		}},
		{"an entry that is gone", "is not there", stepReadBack, func(_ *ebpf.MapSpec, m *ebpf.Map) bool {
			return m.Type() != ebpf.Array && removeOne(t, m)
		}},
		{"a lost privilege", "not permitted", stepCreate, func(*ebpf.MapSpec, *ebpf.Map) bool {
			dropCapabilities(t)
			return true
		}},
	} {
		for nth := range 6 {
			t.Run(fmt.Sprintf("%s, table %d", r.name, nth), func(t *testing.T) {
				generation, left, done := d.Generation(), nth, false
				d.faults = func(s step, inner *ebpf.MapSpec, m *ebpf.Map) error {
					if s == r.at {
						if left--; left == -1 {
							done = r.harm(inner, m)
						}
					}
					return nil
				}
				err := onThreadOfItsOwn(func() error { _, err := d.Apply(narrow(), 2); return err })
				d.faults = nil
				if !done {
					if err != nil {
						t.Fatalf("nothing was broken, and Apply returned %v", err)
					}
					if _, err := d.Apply(plan(), 1); err != nil {
						t.Fatal(err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), r.want) || !strings.Contains(err.Error(), "table ") {
					t.Errorf("Apply returned %v, want an error that names the table and says %q", err, r.want)
				}
				if d.Generation() != generation {
					t.Error("the generation moved")
				}
				d.emptyFlows(t)
				if d.passes(t, policy.SideB, hmiTCP(41000, 102, flagSYN), 1) != 1 || d.passes(t, policy.SideB, hmiTCP(41001, 103, flagSYN), 1) != 0 {
					t.Error("the failed policy shows")
				}
			})
		}
	}
}

// overwrite changes the first value of a map.
func overwrite(t *testing.T, m *ebpf.Map, change func([]byte)) bool {
	t.Helper()
	key, err := m.NextKeyBytes(nil)
	if err != nil || key == nil {
		return false
	}
	value, err := m.LookupBytes(key)
	if err != nil {
		t.Fatal(err)
	}
	change(value)
	if err := m.Put(key, value); err != nil {
		t.Fatal(err)
	}
	return true
}

// removeOne takes the first entry of a map away.
func removeOne(t *testing.T, m *ebpf.Map) bool {
	t.Helper()
	key, err := m.NextKeyBytes(nil)
	if err != nil || key == nil {
		return false
	}
	return m.Delete(key) == nil
}

// onThreadOfItsOwn runs f on a thread that ends with it, so that it may take itself privileges away.
func onThreadOfItsOwn(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		done <- f()
	}()
	return <-done
}

// dropCapabilities takes the calling thread every privilege of root.
func dropCapabilities(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Error(err)
	}
}

// TestInvariant05LiveConnections holds that a conversation which the new policy permits goes on
// in the same flow, and that one which it forbids ends at its next frame, from either end.
func TestInvariant05LiveConnections(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	d.passes(t, policy.SideB, hmiTCP(40001, 1500, flagSYN), 1)
	d.passes(t, policy.SideB, hmiTCP(40002, 502, flagSYN), 1)
	key := d.keyOf(t, 40002)
	if _, err := d.Apply(narrow(), 2); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.run(t, policy.SideA, plcTCP(1500, 40001, flagACK).bytes()); got != xdpRedirect {
		t.Error("a permitted conversation was cut")
	}
	if got, _ := d.run(t, policy.SideB, hmiTCP(40002, 502, flagACK).bytes()); got != xdpPass {
		t.Error("an inspected conversation was cut")
	}
	if d.keyOf(t, 40002) != key {
		t.Error("an inspected conversation lost its slot, and with it its stream")
	}
	if got, _ := d.run(t, policy.SideA, plcTCP(102, 40000, flagACK).bytes()); got != xdpDrop {
		t.Error("a forbidden conversation went on")
	}
	live := 0
	if err := d.Flows(func(f *Flow) bool { live++; return true }); err != nil || live != 2 {
		t.Errorf("%d flows are left, want 2 (%v)", live, err)
	}
}

// keyOf returns the slot of the HMI's flow from a port.
func (d *Datapath) keyOf(t *testing.T, port uint16) (key uint32) {
	t.Helper()
	err := d.Flows(func(f *Flow) bool {
		if f.B.Port == port {
			key = f.Key
			return false
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestApplyRefusesWhatDoesNotFit gives plans that the kernel cannot hold as they are meant.
func TestApplyRefusesWhatDoesNotFit(t *testing.T) {
	d := open(t, plan())
	twice := plan()
	twice.MACs = append(twice.MACs, policy.MACEntry{MAC: macHMI, Identity: idPLC})
	overlap := plan()
	overlap.Addresses = append(overlap.Addresses, policy.AddressEntry{Prefix: netip.PrefixFrom(ipHMI, 32), Identity: idPLC})
	many := plan()
	many.Conduits = make([]policy.Conduit, maxConduits+1)
	for _, r := range []struct {
		name, want string
		plan       *policy.Plan
	}{
		{"one MAC address of two identities", "table macs", twice},
		{"one address of two identities", "table addresses", overlap},
		{"too many conduits", "16384 conduits", many},
	} {
		generation := d.Generation()
		_, err := d.Apply(r.plan, 3)
		if err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v, want an error about %s", r.name, err, r.want)
		}
		if d.Generation() != generation {
			t.Errorf("%s: the generation moved", r.name)
		}
	}
}

// TestModeOfOneConduit observes one conduit of an enforcing appliance: what it covers and would
// be denied is forwarded and counted, the rest is enforced.
func TestModeOfOneConduit(t *testing.T) {
	p := plan()
	p.Conduits[conduitModbus].Mode = policy.Observe
	d := open(t, p)
	before := d.reasons(t)
	fragment := ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 6, 0x2000, tcpSegment(1, 20000, flagSYN)))
	if d.passes(t, policy.SideB, fragment, 1) != 0 {
		t.Error("an enforced conduit let a fragment through")
	}
	if got, _ := d.run(t, policy.SideB, hmiTCP(40000, 502, flagSYN).bytes()); got != xdpRedirect {
		t.Errorf("the observed conduit answered %d, want a redirect", got)
	}
	qinq := hmiTCP(40001, 502, flagSYN).tagged(0x88a8<<16|10, 0x8100<<16|20)
	if got, _ := d.run(t, policy.SideB, qinq.bytes()); got != xdpRedirect {
		t.Errorf("a would-be denial answered %d, want a redirect", got)
	}
	if moved(before, d.reasons(t))[verdict.ReasonEncapsulation] != 1 {
		t.Error("a would-be denial was not counted")
	}
	copied, lost, err := d.Copies()
	if err != nil || copied != 1 || lost != 0 {
		t.Errorf("%d copies, %d lost, want the one that is inspected (%v)", copied, lost, err)
	}
}
