package main

import (
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/plant"
)

// TestInvariant06LoadedMachineIsNoOutage keeps every core busy several times over with programs of
// common priority. The verdict loops go before them and miss no heartbeat.
func TestInvariant06LoadedMachineIsNoOutage(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	startStation(t, p.Filler, openPort)
	conn := socketTo(t, p.HMI, p.Filler, openPort)
	for range 4 * runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = busy.Process.Kill()
			_ = busy.Wait()
		})
	}
	for until, i := time.Now().Add(3*time.Second), uint16(0); time.Now().Before(until); i++ {
		if err := ask(conn, mbap(i, 1, readRegisters(0, 1)), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if s := status.Outage; s.UninspectedSeconds != 0 || s.UninspectedFrames != 0 {
		t.Errorf("the outage is told as %+v", s)
	}
}
