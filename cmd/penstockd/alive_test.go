package main

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/outage"
)

// TestInvariant06HeartbeatsWaitForNobody: a watchdog is fed while somebody waits for a disk with the policies, and while
// a self-test has the line.
func TestInvariant06HeartbeatsWaitForNobody(t *testing.T) {
	driver := &driven{}
	d := &daemon{policies: &policies{}, ledger: outage.NewLedger(nil), bypass: outage.NewSwitch(driver, outage.Standing{}, nil, nil)}
	d.policies.mu.Lock()
	defer d.policies.mu.Unlock()
	d.lineMu.Lock()
	defer d.lineMu.Unlock()
	stop, ended := make(chan struct{}), make(chan error)
	go func() { ended <- d.keepAlive(stop, 0) }()
	eventually(t, "heartbeats", func() bool { return driver.beats.Load() >= 3 })
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
