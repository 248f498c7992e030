package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/plant/cipio"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// otherBuild is a penstockd of another layout.
func otherBuild(t *testing.T, layout int) string {
	t.Helper()
	built, err := plant.BuildLayout(t.TempDir(), layout, buildFlags()...)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// builds are this build and its neighbours.
type builds struct{ older, ours, newer string }

// TestUpgradeAndDowngrade replaces the daemon by builds of an older and of a newer layout, and by this
// one after each.
func TestUpgradeAndDowngrade(t *testing.T) {
	testnet.RequireNet(t)
	b := builds{otherBuild(t, datapath.LayoutVersion-1), daemonBinary, otherBuild(t, datapath.LayoutVersion+1)}
	t.Run("under traffic", b.underTraffic)
	t.Run("connections", b.keepConnections)
	t.Run("cyclic I/O", b.keepCyclicIO)
	t.Run("counts", b.keepCounts)
}

// steps are the replacements after the older build was begun with.
func (b builds) steps() []struct {
	name, binary string
	layout       int
} {
	const layout = datapath.LayoutVersion
	return []struct {
		name, binary string
		layout       int
	}{{"upgrade", b.ours, layout}, {"downgrade", b.older, layout - 1}, {"upgrade again", b.ours, layout},
		{"to a newer one", b.newer, layout + 1}, {"back from it", b.ours, layout}}
}

// replace ends the daemon, whose fast path stays, and starts that of another build.
func replace(t *testing.T, p *plant.Plant, binary string, layout int) {
	t.Helper()
	if p.Daemon != nil {
		if err := p.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	p.Use(binary)
	start(t, p)
	entries, err := filepath.Glob(filepath.Join(pinsOf(p), "layout-*"))
	if want := fmt.Sprintf("layout-%d", layout); err != nil || len(entries) != 1 || filepath.Base(entries[0]) != want {
		t.Errorf("%v are pinned, want %s alone (%v)", entries, want, err)
	}
}

// underTraffic has frames come without a pause: no permitted one is lost, and none that is denied
// crosses at any moment.
func (b builds) underTraffic(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: site{conduits: []string{
		plainConduit("datagrams", "udp", 2222), modbusConduit("inspected", 502),
	}}.String()})
	w := tapEnds(t, p)
	const layout = datapath.LayoutVersion
	replace(t, p, b.older, layout-1)
	stop, sent := make(chan struct{}), make(chan uint32)
	go func() { sent <- sendMixed(t, w, stop) }()
	for _, next := range b.steps() {
		before := w.taps[policy.SideA].Count()
		replace(t, p, next.binary, next.layout)
		eventually(t, "traffic after "+next.name, func() bool { return w.taps[policy.SideA].Count() > before })
	}
	close(stop)
	total := <-sent
	eventually(t, "the last frame to arrive", func() bool { return w.taps[policy.SideA].Count() >= int(total) })
	for i, f := range w.taps[policy.SideA].Frames() {
		if port := binary.BigEndian.Uint16(f.Data[36:]); port != 2222 {
			t.Fatalf("a frame to port %d arrived, which no conduit permits", port)
		}
		if got := binary.BigEndian.Uint32(f.Data[42:]); got != uint32(i) {
			t.Fatalf("frame %d arrived where %d of %d was due", got, i, total)
		}
	}
	if lost := w.taps[policy.SideA].Lost(); lost > 0 {
		t.Errorf("the test itself lost %d frames", lost)
	}
	t.Logf("%d permitted frames, and as many denied, across 5 replacements", total)
}

// sendMixed sends numbered datagrams until stop is closed, for each one that is permitted one that is
// not, and returns how many of either.
func sendMixed(t *testing.T, w *wire, stop <-chan struct{}) (total uint32) {
	permitted, denied := newConversation(false, 40000, 2222), newConversation(false, 40000, 2223)
	for {
		select {
		case <-stop:
			return total
		default:
		}
		for _, c := range []*conversation{permitted, denied} {
			ip, err := frame.AppendUDP(nil, c.client, c.server, binary.BigEndian.AppendUint32(nil, total))
			if err != nil {
				t.Error(err)
				return total
			}
			if err := w.sendOne(policy.SideB, etherFrame(fillerMAC, hmiMAC, nil, ip)); err != nil {
				t.Error(err)
				return total
			}
		}
		total++
		w.keepUp(policy.SideA, int(total), stop)
		time.Sleep(500 * time.Microsecond)
	}
}

// keepConnections has inspected and plain connections outlive the builds: their new maps know nothing
// of them, so that they are adopted, and inspected at once.
func (b builds) keepConnections(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: site{conduits: []string{
		modbusConduit("inspected", 502, "on_deny: reset"), plainConduit("plain", "tcp", 4840),
	}}.String()})
	const layout = datapath.LayoutVersion
	replace(t, p, b.older, layout-1)
	startStation(t, p.Filler, 502)
	startStation(t, p.Filler, 4840)
	inspected, plain := socketTo(t, p.HMI, p.Filler, 502), socketTo(t, p.HMI, p.Filler, 4840)
	for i, next := range b.steps() {
		replace(t, p, next.binary, next.layout)
		for range 3 {
			if err := ask(inspected, mbap(uint16(i), 1, readRegisters(0, 4)), 10*time.Second); err != nil {
				t.Fatalf("after replacement %d, inspected: %v", i+1, err)
			}
			if err := ask(plain, mbap(uint16(i), 1, readRegisters(0, 4)), 10*time.Second); err != nil {
				t.Fatalf("after replacement %d, plain: %v", i+1, err)
			}
		}
	}
	if err := ask(inspected, mbap(9, 1, writeRegister(100, 1)), patience); !wasReset(err) {
		t.Errorf("a write that no rule permits, on the connection that outlived them all: %v, want a reset", err)
	}
}

// keepCyclicIO has cyclic I/O of each kind go on through the builds without losing a frame or passing one twice,
// and end afterwards as it does without them: by the policy, and by its session.
func (b builds) keepCyclicIO(t *testing.T) {
	p := &ioPlant{Plant: layStopped(t, plant.Options{Policy: site{conduits: []string{cyclicConduit("100, 150, 151", "on_outage: closed")}}.String()})}
	replace(t, p.Plant, b.older, datapath.LayoutVersion-1)
	var err error
	if p.adapter, err = cipio.StartAdapter(p.Filler, p.Filler.Address()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.adapter.Close)
	single, shared := p.connect(t), p.connect(t)
	options := cipio.Options{Interval: 5 * time.Millisecond, Multiplier: 4} // a watchdog of 320 ms
	c := mustOpen(t, single, options)
	options.Multicast = true
	group := mustOpen(t, shared, options)
	p.flows(t, c)
	p.flows(t, group)
	early := p.denials(t) // what the adapter sent before its reply had been judged
	for _, next := range b.steps() {
		replace(t, p.Plant, next.binary, next.layout)
		p.flows(t, c)
		p.flows(t, group)
		intact(t, c.Received(), group.Received(), p.adapter.Received())
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.IO.Open != 2 {
			t.Errorf("%s: %d connections are open, want 2", next.name, s.IO.Open)
		}
		for _, w := range s.Warnings {
			if strings.Contains(w, "taken over") {
				t.Errorf("%s: %s", next.name, w)
			}
		}
		if n := p.denials(t) - early; n != 0 {
			t.Errorf("%s: %d frames of I/O were denied", next.name, n)
			for _, e := range denials(t, p.Plant, func(e *event.Event) bool { return e.Conduit == "cyclic" }) {
				t.Logf("%v: %v from %s to %s, %s", e.Time, e.Reason, e.SourceAddress, e.DestinationAddress, e.Detail)
			}
		}
	}
	if c.Expired() || group.Expired() {
		t.Error("a watchdog ran off")
	}
	shared.Reset()
	eventually(t, "the I/O of the session that was reset to end", func() bool {
		s, err := p.Status()
		return err == nil && s.IO.Open == 1
	})
	p.flows(t, c)
	if _, err := p.Apply(site{conduits: []string{cyclicConduit("102", "on_outage: closed")}}.String()); err != nil {
		t.Fatal(err)
	}
	p.stops(t)
}

// keepCounts has what was counted go on through the builds: messages, frames that passed uninspected, and the time for
// which the conduit was open.
func (b builds) keepCounts(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: site{conduits: []string{modbusConduit("inspected", 502, "on_outage: open")}}.String()})
	replace(t, p, b.older, datapath.LayoutVersion-1)
	startStation(t, p.Filler, 502)
	conn := socketTo(t, p.HMI, p.Filler, 502)
	poll := func(n int) {
		t.Helper()
		for i := range n {
			if err := ask(conn, mbap(uint16(i), 1, readRegisters(0, 4)), patience); err != nil {
				t.Fatal(err)
			}
		}
	}
	const polls = 5
	poll(polls)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	poll(polls)
	p.Daemon = nil
	before := plantStatus(t, p, b.older)
	if before.Outage.UninspectedFrames < 2*polls || before.Outage.UninspectedSeconds < 0.2 {
		t.Fatalf("the outage is told as %+v", before.Outage)
	}
	for _, next := range b.steps() {
		replace(t, p, next.binary, next.layout)
		poll(polls)
		after, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		if after.Outage.UninspectedFrames < before.Outage.UninspectedFrames || after.Outage.UninspectedSeconds < before.Outage.UninspectedSeconds ||
			after.Conduits[0].Allowed < before.Conduits[0].Allowed+polls {
			t.Errorf("%s: %d messages and %+v, before %d and %+v", next.name,
				after.Conduits[0].Allowed, after.Outage, before.Conduits[0].Allowed, before.Outage)
		}
		if frames := after.Outage.UninspectedFrames - before.Outage.UninspectedFrames; frames > 50 {
			t.Errorf("%s: %d frames passed uninspected", next.name, frames)
		}
		before = after
	}
}

// plantStatus starts a build again and asks it.
func plantStatus(t *testing.T, p *plant.Plant, binary string) api.Status {
	t.Helper()
	p.Use(binary)
	start(t, p)
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
