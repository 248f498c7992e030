package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const (
	openPort   = 502
	closedPort = 1502
	plainPort  = 4840
)

func outageSite() string {
	return site{conduits: []string{
		modbusConduit("opens", openPort, "on_outage: open", "on_deny: reset"),
		modbusConduit("closes", closedPort, "on_outage: closed", "on_deny: reset"),
		plainConduit("plain", "tcp", plainPort),
	}}.String()
}

// TestInvariant06OutagesDoWhatTheConduitSays ends inspection in every way that a process can, with
// connections open, and has it begin again.
func TestInvariant06OutagesDoWhatTheConduitSays(t *testing.T) {
	for _, row := range []struct {
		name       string
		begin, end func(*plant.Plant) error
		adopts     bool
	}{
		{"crash", (*plant.Plant).Kill, (*plant.Plant).Start, true},
		{"SIGTERM", (*plant.Plant).Stop, (*plant.Plant).Start, true},
		{
			"hang", func(p *plant.Plant) error { return p.Daemon.Signal(syscall.SIGSTOP) },
			func(p *plant.Plant) error { return p.Daemon.Signal(syscall.SIGCONT) }, false,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := lay(t, plant.Options{Policy: outageSite()})
			o := openOutage(t, p)
			began := time.Now()
			if err := row.begin(p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // twice the heartbeat's time-out
			o.during(t, p)
			if err := row.end(p); err != nil {
				t.Fatal(err)
			}
			if row.adopts && !strings.Contains(p.Daemon.Output(), "adopting the fast path") {
				t.Errorf("the start does not say that it adopts:\n%s", p.Daemon.Output())
			}
			o.after(t, p, began)
		})
	}
}

// interrupted are connections that an outage meets, one of each kind.
type interrupted struct {
	devices map[int]*station
	conns   map[int]net.Conn
	seconds float64 // uninspected before
}

func openOutage(t *testing.T, p *plant.Plant) *interrupted {
	t.Helper()
	o := &interrupted{devices: map[int]*station{}, conns: map[int]net.Conn{}}
	for _, port := range []int{openPort, closedPort, plainPort} {
		o.devices[port] = startStation(t, p.Filler, port)
		o.conns[port] = socketTo(t, p.HMI, p.Filler, port)
		if err := ask(o.conns[port], mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
			t.Fatalf("port %d before the outage: %v", port, err)
		}
	}
	o.seconds = outageOf(t, p).UninspectedSeconds
	return o
}

// close ends the connections and what they lead to, so that others can be opened.
func (o *interrupted) close() {
	for port, conn := range o.conns {
		conn.Close()
		o.devices[port].listener.Close()
	}
}

// during: nothing is inspected. What passes is whatever the conduit lets pass then.
func (o *interrupted) during(t *testing.T, p *plant.Plant) {
	t.Helper()
	for _, port := range []int{openPort, plainPort} {
		if err := ask(o.conns[port], mbap(2, 1, writeRegister(100, 1)), patience); err != nil {
			t.Errorf("a connection from before, port %d: %v", port, err)
		}
		if err := ask(socketTo(t, p.HMI, p.Filler, port), mbap(3, 1, readRegisters(0, 1)), patience); err != nil {
			t.Errorf("a new connection, port %d: %v", port, err)
		}
	}
	call := o.devices[closedPort].callFrom(t, o.conns[closedPort])
	before := len(call.bytes())
	if err := ask(o.conns[closedPort], mbap(2, 1, readRegisters(0, 2)), 700*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a conduit that closes: %v, want no answer", err)
	}
	if got := len(call.bytes()); got != before {
		t.Errorf("through a conduit that closes the device received %d bytes", got-before)
	}
	if _, err := trySocket(p.HMI, p.Filler, closedPort, 300*time.Millisecond); err == nil {
		t.Error("a conduit that closes let a connection be opened")
	}
}

// after: the connections from before live on and are inspected, and what passed uninspected is told:
// for no longer than it lasted.
func (o *interrupted) after(t *testing.T, p *plant.Plant, began time.Time) {
	t.Helper()
	// Its sender waits longer each time before it repeats it.
	if err := readReply(o.conns[closedPort], mbap(2, 1, readRegisters(0, 2)), patience+2*time.Since(began)); err != nil {
		t.Errorf("the request that waited, repeated by its sender: %v", err)
	}
	for _, port := range []int{openPort, closedPort, plainPort} {
		if err := ask(o.conns[port], mbap(4, 1, readRegisters(0, 4)), patience); err != nil {
			t.Errorf("a connection from before, port %d: %v", port, err)
		}
	}
	var s api.OutageStatus
	eventually(t, "inspection to be at work", func() bool {
		s = outageOf(t, p)
		return s.State == api.StateInspecting
	})
	// Until now, because a daemon that is back may pause again on a busy machine.
	lasted := time.Since(began).Seconds()
	if told := s.UninspectedSeconds - o.seconds; s.UninspectedFrames == 0 || told < 0.5 || told > lasted+0.05 {
		t.Errorf("the outage is told as %+v, %v s before it, it lasted %v s", s, o.seconds, lasted)
	}
	for _, row := range []struct {
		reason verdict.Reason
		port   int
	}{{verdict.ReasonOutageOpen, openPort}, {verdict.ReasonOutageClosed, closedPort}} {
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
			return e.Reason == row.reason && e.Layer == event.LayerXDP &&
				e.DestinationAddress == fmt.Sprintf("%s:%d", testnet.CellAddress, row.port)
		}); err != nil {
			t.Errorf("an event of %v: %v", row.reason, err)
		}
	}
	for _, port := range []int{openPort, closedPort} {
		call := o.devices[port].callFrom(t, o.conns[port])
		lawful, denied := call.bytes(), mbap(5, 1, writeRegister(101, 1))
		if err := ask(o.conns[port], denied, patience); !wasReset(err) {
			t.Errorf("a denied request on a connection from before, port %d: %v, want a reset", port, err)
		}
		neverComplete(t, call, lawful, denied)
	}
}
