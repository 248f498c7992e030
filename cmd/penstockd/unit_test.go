package main

import (
	"os"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestTheUnitsCapabilitiesAreEnough starts the daemon with no more rights than its systemd unit leaves
// it: a cold start, work, an outage, an adoption, and down.
func TestTheUnitsCapabilitiesAreEnough(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: outageSite()})
	testnet.RequireProgram(t, "setpriv")
	p.Wrap("setpriv", "--bounding-set", "-all"+capabilities(t), "--no-new-privs")
	start(t, p)
	o := openOutage(t, p)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	for _, port := range []int{openPort, closedPort, plainPort} {
		if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
}

// capabilities reads the unit's bounding set as setpriv takes one: ",+net_admin,+net_raw".
func capabilities(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../images/penstockd.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if set, ok := strings.CutPrefix(strings.TrimSpace(line), "CapabilityBoundingSet="); ok {
			var b strings.Builder
			for _, name := range strings.Fields(set) {
				b.WriteString(",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_")))
			}
			return b.String()
		}
	}
	t.Fatal("the unit bounds no capabilities")
	return ""
}
