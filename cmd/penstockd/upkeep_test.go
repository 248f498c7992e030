package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestWhatSomebodyTakesAwayIsMended: with connections of every kind open, each part of the line is
// taken away; within the time of a few retransmissions everything goes on, in the connections that
// were open, and the status says what happened.
func TestWhatSomebodyTakesAwayIsMended(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	gate := openGate(t, p)
	in := func(f func() error) func() error { return func() error { return gate.Do(f) } }
	for _, row := range []struct {
		name  string
		harm  func() error
		class outage.Class
	}{
		{"netfilter rules", in(flushRules), outage.RuleRemoved},
		{"bridge", in(func() error { return deleteLink("penstock0") }), outage.BridgeRemoved},
		{"port taken out of the bridge", in(func() error { return onLink(testnet.PortA, netlink.LinkSetNoMaster) }), outage.BridgeRemoved},
		{"bridge set down", in(func() error { return onLink("penstock0", netlink.LinkSetDown) }), outage.BridgeRemoved},
		{"port set down", in(func() error { return onLink(testnet.PortB, netlink.LinkSetDown) }), outage.BridgeRemoved},
		{"entry program", func() error { return detach(p, "xdp_a_native") }, outage.ProgramRemoved},
		{"exit gate", func() error { return detach(p, "gate_b") }, outage.ProgramRemoved},
		{"marker", func() error { return detach(p, "marker_a") }, outage.ProgramRemoved},
		{"learning switched on", in(func() error {
			return onLink(testnet.PortA, func(l netlink.Link) error { return netlink.LinkSetLearning(l, true) })
		}), outage.SettingChanged},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := openOutage(t, p)
			defer o.close()
			before := failureOf(t, p, row.class)
			if err := row.harm(); err != nil {
				t.Fatal(err)
			}
			for _, port := range []int{openPort, closedPort, plainPort} {
				if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
					t.Errorf("port %d: %v", port, err)
				}
			}
			err := testnet.WaitFor("it to be mended and said", 2*patience, func() (bool, error) {
				f := failureOf(t, p, row.class)
				return f.Count > before.Count && !f.Active, nil
			})
			if err != nil {
				t.Error(err)
			}
			for _, port := range []int{openPort, closedPort} {
				call := o.devices[port].callFrom(t, o.conns[port])
				lawful, denied := call.bytes(), mbap(5, 1, writeRegister(101, 1))
				if err := ask(o.conns[port], denied, patience); !wasReset(err) {
					t.Errorf("a denied request afterwards, port %d: %v, want a reset", port, err)
				}
				neverComplete(t, call, lawful, denied)
			}
		})
	}
}

func flushRules() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.FlushRuleset()
	return conn.Flush()
}

func deleteLink(name string) error { return onLink(name, netlink.LinkDel) }

func onLink(name string, do func(netlink.Link) error) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := do(link); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// failureOf returns what the status says of a class, the zero value if nothing.
func failureOf(t *testing.T, p *plant.Plant, class outage.Class) outage.Failure {
	t.Helper()
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(status.Outage.Failures, func(f outage.Failure) bool { return f.Class == class })
	if i < 0 {
		return outage.Failure{}
	}
	return status.Outage.Failures[i]
}

// TestLinkStatePassesThrough: a ring sees at its other end that the line is interrupted, and that it
// is there again, whichever side it was; without the setting nothing of one side shows at the other.
func TestLinkStatePassesThrough(t *testing.T) {
	for _, passes := range []bool{true, false} {
		t.Run(fmt.Sprint(passes), func(t *testing.T) {
			o := plant.Options{Policy: outageSite()}
			if passes {
				o.Settings = []string{"outage: {link_state: pass_through}"}
			}
			p := lay(t, o)
			for _, ends := range [][2]*testnet.Host{{p.Filler, p.HMI}, {p.HMI, p.Filler}} {
				lost, other := ends[0], ends[1]
				if err := setLink(lost, false); err != nil {
					t.Fatal(err)
				}
				err := testnet.WaitFor("the lost link to be told", patience, func() (bool, error) {
					return failureOf(t, p, outage.LinkDown).Active, nil
				})
				if err != nil {
					t.Error(err)
				}
				if passes {
					awaitCarrier(t, other, false)
				} else if has, err := carrier(other); err != nil || !has {
					t.Errorf("the other end has lost its link, too (%v)", err)
				}
				if err := setLink(lost, true); err != nil {
					t.Fatal(err)
				}
				for _, h := range ends {
					awaitCarrier(t, h, true)
				}
				eventually(t, "both ports to be up", func() bool {
					status, err := p.Status()
					return err == nil && !slices.ContainsFunc(status.Ports, func(p api.PortStatus) bool { return p.Link != "up" })
				})
			}
			c := openOutage(t, p)
			defer c.close()
			for _, port := range []int{openPort, closedPort, plainPort} {
				if err := ask(c.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
					t.Errorf("afterwards, port %d: %v", port, err)
				}
			}
		})
	}
}

// TestAnEndLetsThePortUpThatIsHeldDown: nobody else would when the link is back.
func TestAnEndLetsThePortUpThatIsHeldDown(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite(), Settings: []string{"outage: {link_state: pass_through}"}})
	if err := setLink(p.Filler, false); err != nil {
		t.Fatal(err)
	}
	awaitCarrier(t, p.HMI, false)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	awaitCarrier(t, p.HMI, true)
}

func setLink(h *testnet.Host, up bool) error {
	return h.Do(func() error {
		if up {
			return onLink(testnet.HostInterface, netlink.LinkSetUp)
		}
		return onLink(testnet.HostInterface, netlink.LinkSetDown)
	})
}

func carrier(h *testnet.Host) (has bool, err error) {
	err = h.Do(func() error {
		link, err := netlink.LinkByName(testnet.HostInterface)
		if err == nil {
			has = link.Attrs().OperState == netlink.OperUp
		}
		return err
	})
	return has, err
}

func awaitCarrier(t *testing.T, h *testnet.Host, want bool) {
	t.Helper()
	err := testnet.WaitFor(fmt.Sprintf("carrier of %v: %v", h, want), patience, func() (bool, error) {
		has, err := carrier(h)
		return has == want, err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestClockJumpsAreTold: whoever sets the clock changes nothing of the line, and is told of.
func TestClockJumpsAreTold(t *testing.T) {
	u := &upkeep{daemon: &daemon{ledger: outage.NewLedger(nil)}}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for i, look := range []struct {
		wall    time.Time
		forward time.Duration
		jumps   uint64
	}{
		{noon, time.Second, 0},
		{noon.Add(50 * time.Millisecond), 1050 * time.Millisecond, 0},
		{noon.Add(10 * time.Second), 11 * time.Second, 0}, // it was stopped for a while
		{noon.Add(time.Hour), 12 * time.Second, 1},
		{noon, 13 * time.Second, 2},
		{noon.Add(time.Second), 14 * time.Second, 2},
	} {
		u.lookAtClock(look.wall, look.forward)
		var jumps uint64
		for _, f := range u.ledger.Failures() {
			jumps = f.Count
		}
		if jumps != look.jumps {
			t.Errorf("look %d: %d jumps, want %d", i, jumps, look.jumps)
		}
	}
}

// TestAPolicyFileThatIsOfNoUseIsTold: the policy in force goes on, and the status says why the file is
// not in force for as long as that is so.
func TestAPolicyFileThatIsOfNoUseIsTold(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	for _, text := range []string{"nonsense: [", ""} {
		if text == "" {
			if err := os.Remove(p.PolicyFile()); err != nil {
				t.Fatal(err)
			}
		} else if err := p.WritePolicy(text); err != nil {
			t.Fatal(err)
		}
		if err := p.Daemon.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it to be told", func() bool { return failureOf(t, p, outage.PolicyInvalid).Active })
		o := openOutage(t, p)
		o.close()
		if err := p.WritePolicy(outageSite()); err != nil {
			t.Fatal(err)
		}
		if err := p.Daemon.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it to be over", func() bool { return !failureOf(t, p, outage.PolicyInvalid).Active })
	}
}

// TestAnExpiredWaiverIsTold: a conduit goes on that opens by a waiver which is over, the status says so, and nobody puts
// such a policy in force anew.
func TestAnExpiredWaiverIsTold(t *testing.T) {
	text := site{conduits: []string{modbusConduit("opens", openPort, "on_outage: open", "sl_target: 3",
		"waiver: {owner: line manager, expires: 2020-06-30, compensating: the cabinet is locked}")}}.String()
	p := lay(t, plant.Options{Policy: text})
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	const want = "conduit opens opens in an outage by a waiver of line manager that expired on 2020-06-30"
	if !slices.Contains(s.Warnings, want) || s.Conduits[0].Waiver == nil || !s.Conduits[0].Waiver.Lapsed || s.Conduits[0].SLTarget != "3" {
		t.Errorf("the status warns %q, and shows %+v", s.Warnings, s.Conduits[0])
	}
	if _, err := p.Apply(text + "# another\n"); err == nil || !strings.Contains(err.Error(), "expired on 2020-06-30") {
		t.Errorf("applied anew: %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, p) // what is cached is in force
}

// TestFailuresThatOnlyCountersShowAreTold: the first as well as any other, each as long as it lasts; what was
// counted before the daemon began is none.
func TestFailuresThatOnlyCountersShowAreTold(t *testing.T) {
	u := &upkeep{daemon: &daemon{ledger: outage.NewLedger(nil)}}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for i, look := range []struct {
		counted counted
		active  []outage.Class
	}{
		{counted{}, nil},
		{counted{netlink: 1}, []outage.Class{outage.NetlinkError}},
		{counted{netlink: 1, full: 7}, []outage.Class{outage.QueueFull}},
		{counted{netlink: 1, full: 9, table: 3}, []outage.Class{outage.TableFull, outage.QueueFull}},
		{counted{netlink: 1, full: 9, table: 3}, nil},
	} {
		u.compare(look.counted, noon.Add(time.Duration(i)*time.Second))
		var active []outage.Class
		for _, f := range u.ledger.Failures() {
			if f.Active {
				active = append(active, f.Class)
			}
		}
		if !slices.Equal(active, look.active) {
			t.Errorf("look %d: %v, want %v", i, active, look.active)
		}
	}
	u = &upkeep{daemon: &daemon{ledger: outage.NewLedger(nil)}}
	u.compare(counted{full: 5, netlink: 5, table: 5}, noon)
	if f := u.ledger.Failures(); len(f) != 0 {
		t.Errorf("of a daemon before: %v", f)
	}
}

// TestNetlinkErrorsAreTold: the kernel's messages find no room. Their packets are dropped, which is told as that and
// opens nothing, and everything goes on when there is room again.
func TestNetlinkErrorsAreTold(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite(), Settings: []string{longHeartbeat}})
	o := openOutage(t, p)
	widen, err := plant.NarrowQueues(p.Daemon.PID())
	if err != nil {
		t.Fatal(err)
	}
	stop := flood(t, p)
	eventually(t, "it to be told", func() bool { return failureOf(t, p, outage.NetlinkError).Active })
	stop()
	if err := widen(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it to be over", func() bool { return !failureOf(t, p, outage.NetlinkError).Active })
	for _, port := range []int{openPort, closedPort, plainPort} {
		if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
	if s := outageOf(t, p); s.UninspectedFrames != 0 || s.State != api.StateInspecting {
		t.Errorf("the outage is told as %+v", s)
	}
}
