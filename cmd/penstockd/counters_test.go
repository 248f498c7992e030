package main

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// conduitOf reads the status of one conduit.
func conduitOf(t *testing.T, p *plant.Plant, name string) api.ConduitStatus {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Conduits {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no conduit %s", name)
	return api.ConduitStatus{}
}

// TestConduitCountersGoOn: what status shows of a conduit that keeps its name goes on over a change of
// policy, a restart and a crash, of messages as well as of frames.
func TestConduitCountersGoOn(t *testing.T) {
	plain, inspected := plainConduit("plain", "tcp", 4840), modbusConduit("inspected", resetPort, "on_deny: reset")
	p := lay(t, plant.Options{Policy: site{conduits: []string{plain, inspected}}.String()})
	startStation(t, p.Filler, resetPort)
	startStation(t, p.Filler, 4840)
	for round, change := range []func() error{
		func() error {
			_, err := p.Apply(site{conduits: []string{plainConduit("first", "udp", 9), inspected, plain}}.String())
			return err
		},
		func() error { return restart(t, p, p.Stop) },
		func() error {
			time.Sleep(5 * time.Second) // messages are written down every two
			return restart(t, p, p.Kill)
		},
	} {
		for port, request := range map[int][]byte{4840: readRegisters(0, 1), resetPort: readRegisters(0, 1)} {
			if err := ask(socketTo(t, p.HMI, p.Filler, port), mbap(1, 1, request), patience); err != nil {
				t.Fatalf("port %d: %v", port, err)
			}
		}
		if err := ask(socketTo(t, p.HMI, p.Filler, resetPort), mbap(2, 1, writeRegister(100, 1)), patience); !wasReset(err) {
			t.Fatalf("a write that is denied: %v", err)
		}
		eventually(t, "what was judged to be counted", func() bool {
			c := conduitOf(t, p, "inspected")
			return c.Allowed >= uint64(2*(round+1)) && c.Denied >= uint64(round+1) && conduitOf(t, p, "plain").Allowed >= 4*uint64(round+1)
		})
		beforePlain, beforeInspected := conduitOf(t, p, "plain"), conduitOf(t, p, "inspected")
		if want := uint64(2 * (round + 1)); beforeInspected.Allowed != want || beforeInspected.Denied < uint64(round+1) || beforePlain.Allowed < 4*uint64(round+1) {
			t.Errorf("in round %d: %+v and %+v", round, beforePlain, beforeInspected)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if after := conduitOf(t, p, "plain"); after.Allowed < beforePlain.Allowed {
			t.Errorf("round %d: plain counted %d frames, and now %d", round, beforePlain.Allowed, after.Allowed)
		}
		if after := conduitOf(t, p, "inspected"); after.Allowed != beforeInspected.Allowed || after.Denied < beforeInspected.Denied {
			t.Errorf("round %d: inspected was told as %+v, and is as %+v", round, beforeInspected, after)
		}
	}
}

func restart(t *testing.T, p *plant.Plant, end func() error) error {
	t.Helper()
	if err := end(); err != nil {
		return err
	}
	start(t, p)
	return nil
}

// TestEventsOfADaemonBeforeHaveNames: what the fast path tells while no daemon runs is told by the next
// one, in the names and with the version of the policy that decided.
func TestEventsOfADaemonBeforeHaveNames(t *testing.T) {
	p, w := layWire(t, plant.Options{Policy: site{conduits: []string{plainConduit("plain", "tcp", 4840)}}.String()})
	awaitLine(t, p)
	before, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	w.stops(t, policy.SideB, etherFrame(fillerMAC, hmiMAC, nil, ip4(hmi4, filler4, 6, 0, nil, tcp(41000, 81, 2))))
	w.passes(t, policy.SideB, etherFrame(fillerMAC, hmiMAC, nil, ip4(hmi4, filler4, 6, 0, nil, tcp(41000, 4840, 2))))
	start(t, p)
	for _, want := range []struct {
		reason  verdict.Reason
		conduit string
	}{{verdict.ReasonNoConduit, ""}, {verdict.ReasonPermitted, "plain"}} {
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
			return e.Reason == want.reason && e.Conduit == want.conduit && e.Source == "hmi-1" && e.Destination == "filler-plc" && e.Policy == before.Policy.Version
		}); err != nil {
			t.Errorf("%v: %v", want.reason, err)
		}
	}
}
