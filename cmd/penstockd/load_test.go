package main

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/plant"
)

// TestInvariant06LoadedMachineIsNoOutage keeps every core busy several times over with programs of
// common priority. Once a verdict loop has waited for a processor, the daemon goes before them all, and
// no heartbeat is missed any more.
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
	poll := func(d time.Duration) api.OutageStatus {
		for until, i := time.Now().Add(d), uint16(0); time.Now().Before(until); i++ {
			if err := ask(conn, mbap(i, 1, readRegisters(0, 1)), patience); err != nil {
				t.Fatal(err)
			}
		}
		status, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		return status.Outage
	}
	const noticed = "the daemon is real-time"
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until) && !strings.Contains(p.Daemon.Output(), noticed); {
		poll(100 * time.Millisecond)
	}
	first, last := poll(0), poll(3*time.Second)
	if strings.Contains(p.Daemon.Output(), noticed) {
		// What was missed until then is told, and stays.
		last.UninspectedSeconds -= first.UninspectedSeconds
		last.UninspectedFrames -= first.UninspectedFrames
	}
	if last.UninspectedSeconds != 0 || last.UninspectedFrames != 0 {
		t.Errorf("the outage is told as %+v, before %+v", last, first)
	}
}
