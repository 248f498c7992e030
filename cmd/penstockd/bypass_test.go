package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
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

// TestBypassThatCannotBeReleasedStaysEngaged: a release that fails when one of the entry programs stands leaves nothing of
// ours on the line, and the next one succeeds.
func TestBypassThatCannotBeReleasedStaysEngaged(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	const stranger = 7777 // no conduit has it
	startStation(t, p.Filler, stranger)
	startStation(t, p.Filler, openPort)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := p.Client()
	if _, err := client.EngageBypass(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(pinsOf(p), "links", "xdp_b_native") // where the second one is pinned
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ReleaseBypass(ctx, "done"); err == nil || !strings.Contains(err.Error(), inTheWay) {
		t.Errorf("released: %v, want that %s is in the way", err, inTheWay)
	}
	for _, port := range []int{stranger, openPort} {
		if !deniedPasses(p, port, patience) {
			t.Errorf("engaged still, port %d does not pass", port)
		}
	}
	if r, err := client.Bypass(ctx); err != nil || r.State != outage.Engaged || r.Detail != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ReleaseBypass(ctx, "done"); err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{stranger, openPort} {
		if deniedPasses(p, port, 300*time.Millisecond) {
			t.Errorf("released, what is denied passes through port %d", port)
		}
	}
}

// TestBypassShowsInTheStatus: whatever inspection could do, nothing of the line is inspected.
func TestBypassShowsInTheStatus(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	first, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	uncounted := first.Ports[0].Undelivered == nil // by any kernel
	look := func(when string, outageState api.OutageState, xdp string) {
		t.Helper()
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		if (s.Ports[0].Undelivered == nil) != uncounted {
			t.Errorf("%s: what does not leave is counted otherwise than before: %+v", when, s.Ports)
		}
		if s.Outage.State != outageState || (xdp == "none") != (s.Ports[0].XDP == "none" && s.Ports[1].XDP == "none") {
			t.Errorf("%s: %s, ports %+v", when, s.Outage.State, s.Ports)
		}
		open := !slices.ContainsFunc(s.Conduits, func(c api.ConduitStatus) bool { return c.State != api.StateOpen })
		warned := slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.HasPrefix(w, "the bypass is engaged: ") })
		if want := outageState == api.StateOpen; open != want || warned != want {
			t.Errorf("%s: conduits %+v, warnings %q", when, s.Conduits, s.Warnings)
		}
	}
	look("before", api.StateInspecting, "native")
	if _, err := p.Client().EngageBypass(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	look("engaged", api.StateOpen, "none")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	look("engaged, after a restart", api.StateOpen, "none")
	if _, err := p.Client().ReleaseBypass(ctx, "done"); err != nil {
		t.Fatal(err)
	}
	look("released", api.StateInspecting, "native")
}

// TestBypassIsNotCutByADaemonThatStarts: where the line is bare on purpose a start takes no port down, and one that fails
// leaves it.
func TestBypassIsNotCutByADaemonThatStarts(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	const stranger = 7777
	startStation(t, p.Filler, stranger)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := p.Client().EngageBypass(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	gate := openGate(t, p)
	updates, done := make(chan netlink.LinkUpdate, 1024), make(chan struct{})
	if err := gate.Do(func() error { return netlink.LinkSubscribe(updates, done) }); err != nil {
		t.Fatal(err)
	}
	fails(t, p, "no socket", "run", "--config", p.Config(), "--socket", p.Config())
	if !deniedPasses(p, stranger, patience) {
		t.Error("after a start that failed the bare bridge does not pass frames")
	}
	start(t, p)
	if !deniedPasses(p, stranger, patience) {
		t.Error("after a start the bare bridge does not pass frames")
	}
	close(done)
	for u := range updates {
		if u.Header.Type == unix.RTM_DELLINK || u.Attrs().RawFlags&unix.IFF_UP == 0 {
			if name := u.Attrs().Name; name == testnet.PortA || name == testnet.PortB || name == "penstock0" {
				t.Errorf("%s was down", name)
			}
		}
	}
	if _, err := p.Client().ReleaseBypass(ctx, "done"); err != nil || deniedPasses(p, stranger, 300*time.Millisecond) {
		t.Errorf("released (%v), what is denied passes", err)
	}
}

// TestReleaseOfWhatIsNotEngagedForgetsNothing: conversations are known as before, and no others may be joined.
func TestReleaseOfWhatIsNotEngagedForgetsNothing(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	o := openOutage(t, p)
	defer o.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begun := func() map[string]time.Time {
		list := map[string]time.Time{}
		if err := p.Client().Flows(ctx, func(f api.Flow) error {
			if f.Protocol == "tcp" {
				list[f.SourceAddress] = f.Created
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := begun()
	if len(before) < 3 {
		t.Fatalf("conversations are %v", before)
	}
	if _, err := p.Client().ReleaseBypass(ctx, "by mistake"); err != nil {
		t.Fatal(err)
	}
	for _, conn := range o.conns {
		if err := ask(conn, mbap(2, 1, readRegisters(0, 1)), patience); err != nil {
			t.Error(err)
		}
	}
	same := func(a, b time.Time) bool { return a.Sub(b).Abs() < time.Millisecond } // they are told by another clock
	if after := begun(); !maps.EqualFunc(before, after, same) {
		t.Errorf("conversations were %v, and are %v", before, after)
	}
}
