package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
)

// TestSelfTestFindsWhatIsBroken: it passes on a line that works, puts nothing on the wire, and names
// what is in the way where inspection does not work.
func TestSelfTestFindsWhatIsBroken(t *testing.T) {
	p, w := layWire(t, plant.Options{Policy: outageSite()})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := p.Client()
	for range 3 {
		if err := client.SelfTest(ctx); err != nil {
			t.Error(err)
		}
	}
	w.silent(t, "a self-test")
	gate := openGate(t, p)
	stop := again(func() error { return gate.Do(flushRules) })
	err := client.SelfTest(ctx)
	stop()
	if err == nil || !strings.Contains(err.Error(), "did not reach its verdict loop") {
		t.Errorf("without netfilter rules the self-test says %v", err)
	}
	w.silent(t, "a self-test that failed")
	eventually(t, "the rules to be back", func() bool { return client.SelfTest(ctx) == nil })
}

// TestBypassIsTheBareBridge: engaged, everything passes that the policy denies, and nothing of ours is on
// the line; released, connections from before go on and are inspected again. A restart keeps either.
func TestBypassIsTheBareBridge(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	o := openOutage(t, p)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := p.Client()
	const stranger = 7777 // no conduit has it
	startStation(t, p.Filler, stranger)
	passes := func(port int) bool { return deniedPasses(p, port, 300*time.Millisecond) }
	if passes(stranger) || passes(closedPort) {
		t.Fatal("what no conduit permits passes before")
	}
	bare := func(when string) {
		t.Helper()
		for _, port := range []int{stranger, openPort, closedPort, plainPort} {
			if !deniedPasses(p, port, patience) {
				t.Errorf("%s: port %d does not pass", when, port)
			}
		}
		for port, conn := range o.conns {
			if err := ask(conn, mbap(3, 1, readRegisters(0, 1)), patience); err != nil {
				t.Errorf("%s: the connection from before, port %d: %v", when, port, err)
			}
		}
		if r, err := client.Bypass(ctx); err != nil || r.State != outage.Engaged || r.Detail != "" {
			t.Errorf("%s: %+v, %v", when, r, err)
		}
	}
	if _, err := client.EngageBypass(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	bare("engaged")
	if err := client.SelfTest(ctx); err != nil {
		t.Errorf("a self-test beside a line that is bare: %v", err)
	}
	bare("after a self-test")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if !deniedPasses(p, stranger, patience) {
		t.Error("without a daemon the bare bridge does not pass frames")
	}
	start(t, p)
	bare("engaged, after a restart")

	if _, err := client.ReleaseBypass(ctx, "done"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Layer == event.LayerPerson && strings.HasPrefix(e.Detail, "bypass released")
	}); err != nil {
		t.Error(err)
	}
	if passes(stranger) {
		t.Error("released: what no conduit permits passes")
	}
	for _, port := range []int{openPort, closedPort, plainPort} {
		if err := ask(o.conns[port], mbap(4, 1, readRegisters(0, 4)), patience); err != nil {
			t.Errorf("released: the connection from before, port %d: %v", port, err)
		}
	}
	for _, port := range []int{openPort, closedPort} {
		if err := ask(o.conns[port], mbap(5, 1, writeRegister(101, 1)), patience); !wasReset(err) {
			t.Errorf("released: a denied request, port %d: %v, want a reset", port, err)
		}
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	if r, err := client.Bypass(ctx); err != nil || r.State != outage.Inline || passes(stranger) {
		t.Errorf("released, after a restart: %+v, %v", r, err)
	}
}

// deniedPasses reports whether a write that no conduit permits is answered, by a connection of its own
// each of whose steps may take so long.
func deniedPasses(p *plant.Plant, port int, timeout time.Duration) bool {
	conn, err := trySocket(p.HMI, p.Filler, port, timeout)
	if err != nil {
		return false
	}
	defer conn.Close()
	return ask(conn, mbap(2, 1, writeRegister(100, 1)), timeout) == nil
}

// TestBypassAtBootAndAtShutdown: the settings' choices.
func TestBypassAtBootAndAtShutdown(t *testing.T) {
	p := layStopped(t, plant.Options{
		Policy:   outageSite(),
		Settings: []string{"bypass: {driver: none, at_boot: engaged, on_shutdown: engage}"},
	})
	start(t, p)
	startStation(t, p.Filler, openPort)
	if !deniedPasses(p, openPort, patience) {
		t.Error("at boot it is not engaged")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := p.Client().ReleaseBypass(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if deniedPasses(p, openPort, time.Second) {
		t.Error("released, what is denied passes")
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if !deniedPasses(p, openPort, patience) {
		t.Error("at shutdown it is not engaged")
	}
}
