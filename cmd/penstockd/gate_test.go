package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestInvariant01_Evasion35_NothingLeavesWithoutAVerdict is EVASIONS 35: whatever takes frames past
// inspection, they do not leave. Somebody takes it away again and again, faster than it is mended;
// plain traffic goes on, and once they stop everything does.
func TestInvariant01_Evasion35_NothingLeavesWithoutAVerdict(t *testing.T) {
	for _, row := range []struct {
		name string
		harm func(*testing.T, *plant.Plant) func() error
	}{
		{"flushed ruleset", func(t *testing.T, p *plant.Plant) func() error {
			gate := openGate(t, p)
			return func() error { return gate.Do(flushRules) }
		}},
		{"marker removed", func(_ *testing.T, p *plant.Plant) func() error {
			return func() error { return errors.Join(detach(p, "marker_a"), detach(p, "marker_b")) }
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := lay(t, plant.Options{Policy: outageSite()})
			o := openOutage(t, p)
			stop := again(row.harm(t, p))
			for _, port := range []int{openPort, closedPort} {
				o.refusedOrStopped(t, p, port)
			}
			for range 20 {
				if err := ask(o.conns[plainPort], mbap(9, 1, writeRegister(100, 1)), patience); err != nil {
					t.Fatalf("plain traffic: %v", err)
				}
			}
			if harmed := stop(); harmed == 0 {
				t.Fatal("nothing was taken away")
			}
			wantWarning(t, p, "no verdict")
			for _, port := range []int{openPort, closedPort} {
				conn := socketTo(t, p.HMI, p.Filler, port)
				if err := ask(conn, mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
					t.Errorf("port %d afterwards: %v", port, err)
				}
				if err := ask(conn, mbap(3, 1, writeRegister(100, 1)), patience); !wasReset(err) {
					t.Errorf("a denied request on port %d afterwards: %v, want a reset", port, err)
				}
			}
		})
	}
}

// again does harm over and over until the returned function is called, which returns how often it
// was done.
func again(harm func() error) (stop func() int) {
	done, ended := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-done:
				ended <- n
				return
			default:
			}
			if harm() == nil {
				n++
			}
		}
	}()
	return func() int {
		close(done)
		return <-ended
	}
}

// refusedOrStopped sends a denied request, over and over in connections of their own, that may not
// arrive, whether it is judged or not.
func (o *interrupted) refusedOrStopped(t *testing.T, p *plant.Plant, port int) {
	t.Helper()
	denied := mbap(2, 1, writeRegister(100, 1))
	_ = ask(o.conns[port], denied, 500*time.Millisecond)
	for range 5 {
		if conn, err := trySocket(p.HMI, p.Filler, port, 300*time.Millisecond); err == nil {
			_ = ask(conn, denied, 300*time.Millisecond)
			conn.Close()
		}
	}
	for _, call := range o.devices[port].all() {
		if bytes.Contains(call.bytes(), denied) {
			t.Errorf("port %d: the device received a denied request", port)
		}
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
func detach(p *plant.Plant, pin string) error { return datapath.Detach(pinsOf(p), pin) }

func wantWarning(t *testing.T, p *plant.Plant, text string) {
	t.Helper()
	var warnings []string
	if testnet.WaitFor("", patience, func() (bool, error) {
		status, err := p.Status()
		if err != nil {
			return false, err
		}
		warnings = status.Warnings
		return strings.Contains(strings.Join(warnings, "\n"), text), nil
	}) != nil {
		t.Errorf("status warns of %q, want something with %q", warnings, text)
	}
}
