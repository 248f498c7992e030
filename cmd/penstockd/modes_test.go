package main

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// observing has a conduit whose own mode is given, below the policy's.
func observing(policyMode, conduitMode string) string {
	return site{mode: policyMode, conduits: []string{
		modbusConduit("watched", 502, "mode: "+conduitMode, "on_deny: reset"),
	}}.String()
}

// TestObservedTrafficIsNeitherHeldNorDropped: what enforcement would have done is told, and that
// is all. It goes on while the daemon hangs, since nobody waits for it.
func TestObservedTrafficIsNeitherHeldNorDropped(t *testing.T) {
	for _, row := range []struct {
		name, policy, conduit string
		strangers             bool // what no conduit covers passes as well
	}{
		{"discover", "discover", "enforce", true},
		{"observe", "observe", "enforce", true},
		{"observe by the conduit", "enforce", "observe", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := lay(t, plant.Options{Policy: observing(row.policy, row.conduit)})
			device := startStation(t, p.Filler, 502)
			startStation(t, p.Filler, 9999)
			conn := socketTo(t, p.HMI, p.Filler, 502)
			lawful, denied := mbap(1, 1, readRegisters(0, 1)), mbap(2, 1, writeRegister(100, 1))
			for _, request := range [][]byte{lawful, denied, lawful} {
				if err := ask(conn, request, patience); err != nil {
					t.Fatalf("% x: %v", request, err)
				}
			}
			if err := inSegments(conn, denied, 1); err != nil {
				t.Fatal(err)
			}
			if err := readReply(conn, denied, patience); err != nil {
				t.Errorf("byte by byte: %v", err)
			}
			wouldDeny(t, p, verdict.ReasonAddressNotPermitted, "watched", event.LayerInspect)
			wait := 500 * time.Millisecond
			if row.strangers {
				wait = patience
			}
			stranger, err := trySocket(p.HMI, p.Filler, 9999, wait)
			if (err == nil) != row.strangers {
				t.Errorf("a connection that no conduit covers: %v, want it to pass: %v", err, row.strangers)
			}
			if err == nil {
				stranger.Close()
				wouldDeny(t, p, verdict.ReasonNoConduit, "", event.LayerXDP)
			}
			if err := p.Daemon.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			for range 10 {
				if err := ask(conn, denied, patience); err != nil {
					t.Fatalf("while the daemon hangs: %v", err)
				}
			}
			if err := p.Daemon.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if got, want := len(device.callFrom(t, conn).bytes()), 14*12; got != want {
				t.Errorf("the device received %d bytes, want %d", got, want)
			}
			wantCounts(t, p, "watched", 12)
		})
	}
}

func wouldDeny(t *testing.T, p *plant.Plant, reason verdict.Reason, conduit string, layer event.Layer) {
	t.Helper()
	_, err := p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Mode == event.ModeObserve && e.Verdict == verdict.Deny && e.Reason == reason &&
			e.Conduit == conduit && e.Layer == layer && e.Source == "hmi-1" && e.Destination == "filler-plc"
	})
	if err != nil {
		t.Errorf("no event says that %v would have been denied: %v", reason, err)
	}
}

// wantCounts waits until a conduit has counted what would have been denied.
func wantCounts(t *testing.T, p *plant.Plant, conduit string, denied uint64) {
	t.Helper()
	var got uint64
	eventually(t, fmt.Sprintf("conduit %s to count %d that would be denied", conduit, denied), func() bool {
		status, err := p.Status()
		if err != nil {
			return false
		}
		for _, c := range status.Conduits {
			if c.Name == conduit {
				got = c.Denied
			}
		}
		return got == denied
	})
	if got != denied {
		t.Errorf("conduit %s counts %d", conduit, got)
	}
}

// TestObserveToEnforceAndBack changes the mode under live connections.
func TestObserveToEnforceAndBack(t *testing.T) {
	p := lay(t, plant.Options{Policy: observing("observe", "enforce")})
	device := startStation(t, p.Filler, 502)
	first, second := socketTo(t, p.HMI, p.Filler, 502), socketTo(t, p.HMI, p.Filler, 502)
	read, denied := mbap(1, 1, readRegisters(0, 1)), mbap(2, 1, writeRegister(100, 1))
	for _, conn := range []net.Conn{first, second} {
		if err := ask(conn, denied, patience); err != nil {
			t.Fatalf("while observed: %v", err)
		}
	}
	apply(t, p, observing("enforce", "enforce"))
	for range 5 {
		if err := ask(first, read, patience); err != nil {
			t.Fatalf("a lawful request once enforced, on a connection from before: %v", err)
		}
	}
	for _, conn := range []net.Conn{first, second} {
		call := device.callFrom(t, conn)
		lawful := call.bytes()
		if err := ask(conn, denied, patience); !wasReset(err) {
			t.Errorf("a denied request once enforced, on a connection from before: %v, want a reset", err)
		}
		neverComplete(t, call, lawful, denied)
	}
	third := socketTo(t, p.HMI, p.Filler, 502)
	if err := ask(third, read, patience); err != nil {
		t.Fatal(err)
	}
	apply(t, p, observing("enforce", "observe"))
	for _, request := range [][]byte{read, denied, read} {
		if err := ask(third, request, patience); err != nil {
			t.Errorf("% x once observed again: %v", request, err)
		}
	}
}

func apply(t *testing.T, p *plant.Plant, text string) {
	t.Helper()
	if _, err := p.Apply(text); err != nil {
		t.Fatal(err)
	}
}
