package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/plant"
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
	if err := os.Rename(filepath.Join(pins, "layout-1"), filepath.Join(pins, "layout-0")); err != nil {
		t.Fatal(err)
	}
	fails(t, p, "no socket", "run", "--config", p.Config(), "--socket", p.Config())
	if conn, err := trySocket(p.HMI, p.Filler, 81, 2*time.Second); err == nil {
		conn.Close()
		t.Error("after the failed start a connection that no conduit permits was made")
	}
	start(t, p)
}
