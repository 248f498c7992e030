package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestInvariant01NothingLeavesWithoutAVerdict is EVASIONS 35: whatever takes frames past
// inspection, they do not leave. Plain traffic goes on, and a restart repairs what was broken.
func TestInvariant01NothingLeavesWithoutAVerdict(t *testing.T) {
	for _, row := range []struct {
		name string
		harm func(*testing.T, *plant.Plant)
	}{
		{"flushed ruleset", func(t *testing.T, p *plant.Plant) {
			gate := openGate(t, p)
			runIn(t, p, gate, "nft", "flush", "ruleset")
		}},
		{"marker removed", func(t *testing.T, p *plant.Plant) {
			detach(t, p, "marker_a")
			detach(t, p, "marker_b")
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := lay(t, plant.Options{Policy: outageSite()})
			o := openOutage(t, p)
			row.harm(t, p)
			for _, port := range []int{openPort, closedPort} {
				o.stopped(t, port)
			}
			for range 20 {
				if err := ask(o.conns[plainPort], mbap(9, 1, writeRegister(100, 1)), 3*time.Second); err != nil {
					t.Fatalf("plain traffic: %v", err)
				}
			}
			wantWarning(t, p, "no verdict")
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			start(t, p)
			for _, port := range []int{openPort, closedPort} {
				if err := readReply(o.conns[port], mbap(2, 1, readRegisters(0, 2)), 5*time.Second); err != nil {
					t.Errorf("port %d after a restart: %v", port, err)
				}
				if err := ask(o.conns[port], mbap(3, 1, writeRegister(100, 1)), 3*time.Second); !wasReset(err) {
					t.Errorf("a denied request on port %d after a restart: %v, want a reset", port, err)
				}
			}
		})
	}
}

// stopped sends a lawful request that may not arrive now.
func (o *outage) stopped(t *testing.T, port int) {
	t.Helper()
	call := o.devices[port].callFrom(t, o.conns[port])
	before := len(call.bytes())
	if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), 500*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("port %d: %v, want no answer", port, err)
	}
	if got := len(call.bytes()); got != before {
		t.Errorf("port %d: the device received %d bytes that nobody had judged", port, got-before)
	}
}

// TestInvariant01TheHostCannotSendThroughTheLine: what the machine's own programs put on the
// bridge or on a port does not leave.
func TestInvariant01TheHostCannotSendThroughTheLine(t *testing.T) {
	p, w := layWire(t, plant.Options{Policy: outageSite()})
	gate := openGate(t, p)
	c := newConversation(false, 40000, plainPort)
	for _, name := range []string{"penstock0", "pa", "pb"} {
		tap, err := p.Lab.Tap(gate, name)
		if err != nil {
			t.Fatal(err)
		}
		// A send that fails is as good: the gate may say so.
		_ = tap.Send(c.frame(t, policy.SideB, frame.FlagSYN, nil))
	}
	time.Sleep(200 * time.Millisecond)
	w.silent(t, "after frames from the host")
	wantWarning(t, p, "no verdict")
}

// openGate returns the namespace of ports and bridge.
func openGate(t *testing.T, p *plant.Plant) testnet.Place {
	t.Helper()
	gate, err := p.Gate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gate.Close() })
	return gate
}

// detach takes a program off its port, as somebody with a tool for it could.
func detach(t *testing.T, p *plant.Plant, pin string) {
	t.Helper()
	l, err := link.LoadPinnedLink(filepath.Join(pinsOf(p), "links", pin), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		t.Fatal(fmt.Errorf("detach %s: %w", pin, err))
	}
}

func wantWarning(t *testing.T, p *plant.Plant, text string) {
	t.Helper()
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(status.Warnings, "\n"), text) {
		t.Errorf("status warns of %q, want something with %q", status.Warnings, text)
	}
}
