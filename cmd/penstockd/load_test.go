package main

import (
	"os/exec"
	"runtime"
	"strings"
	"sync"
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
	var all []*exec.Cmd
	idle := sync.OnceFunc(func() {
		for _, busy := range all {
			_ = busy.Process.Kill()
			_ = busy.Wait()
		}
	})
	t.Cleanup(idle)
	for range 4 * runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, busy)
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
	realTime := func() bool { return strings.Contains(p.Daemon.Output(), "the daemon is real-time") }
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until) && !realTime(); {
		poll(100 * time.Millisecond)
	}
	var first, last api.OutageStatus
	for again := true; again; { // where a loop waits for the first time meanwhile, that is before
		before := realTime()
		first, last = poll(0), poll(3*time.Second)
		again = realTime() != before
	}
	if realTime() {
		// What was missed until then is told, and stays.
		last.UninspectedSeconds -= first.UninspectedSeconds
		last.UninspectedFrames -= first.UninspectedFrames
	}
	if last.UninspectedSeconds != 0 || last.UninspectedFrames != 0 {
		t.Errorf("the outage is told as %+v, before %+v", last, first)
	}
	if !realTime() {
		return
	}
	idle()
	// A thread like the daemon's tells whether this machine, which others may use, is calm now.
	stop := make(chan struct{})
	defer time.AfterFunc(time.Minute, func() { close(stop) }).Stop()
	if !awaitCalm(2*leastCalm, stop) {
		t.Log("not looked at: whether a daemon is taken back from real time, for this machine is busy with other things")
		return
	}
	const back = "the daemon is not real-time any more"
	for until := time.Now().Add(5 * time.Second); !strings.Contains(p.Daemon.Output(), back); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("after a calm of %v the daemon is real-time still", 2*leastCalm)
		}
	}
}
