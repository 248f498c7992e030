package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/settings"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestFailedStartOverAnotherLayoutLeavesNoOpenWire: the line is up under programs of another
// layout, as in an upgrade, and the start fails at its last step. Its programs have replaced the
// old ones by then, so they must stay: without any, the bridge would forward whatever comes.
func TestFailedStartOverAnotherLayoutLeavesNoOpenWire(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, 81)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	pins := pinsOf(p)
	ours := fmt.Sprintf("layout-%d", datapath.LayoutVersion)
	if err := os.Rename(filepath.Join(pins, ours), filepath.Join(pins, "layout-0")); err != nil {
		t.Fatal(err)
	}
	fails(t, p, "no socket", "run", "--config", p.Config(), "--socket", p.Config())
	if conn, err := trySocket(p.HMI, p.Filler, 81, 2*time.Second); err == nil {
		conn.Close()
		t.Error("after the failed start a connection that no conduit permits was made")
	}
	start(t, p)
}

// TestPinsStayBelowTheirRoot: down removes the directory of pins whole, so that no name may lead
// elsewhere, or be that of another appliance.
func TestPinsStayBelowTheirRoot(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range []settings.Settings{
		{Name: "gate", Netns: "one"}, {Name: "gate@one", Netns: "two"}, {Name: "gate", Netns: "one@two"}, {Name: "gate.one", Netns: "two"},
		{Name: ".", Netns: ""}, {Name: "..", Netns: ""}, {Name: "../../../../etc", Netns: ""}, {Name: "a/b", Netns: "c"},
	} {
		dir := pinDir(&s)
		if filepath.Dir(dir) != pinRoot || strings.Contains(filepath.Base(dir), ".") || seen[dir] {
			t.Errorf("%q in %q is pinned in %s", s.Name, s.Netns, dir)
		}
		seen[dir] = true
	}
}

// TestStatusOfAPortThatWasReplaced: an interface that took the port's name has none of our programs,
// and nobody may believe that it has.
func TestStatusOfAPortThatWasReplaced(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	gate := openGate(t, p)
	runIn(t, p, gate, "ip", "link", "delete", testnet.PortA)
	runIn(t, p, gate, "ip", "link", "add", testnet.PortA, "type", "veth", "peer", "name", "px")
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Ports[0].XDP != "none" || s.Ports[1].XDP == "none" {
		t.Errorf("the ports are told as %+v", s.Ports)
	}
	// With the port gone the appliance cannot give it back: only this test could.
	runIn(t, p, gate, "ip", "link", "delete", testnet.PortA)
}
