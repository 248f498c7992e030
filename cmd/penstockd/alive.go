package main

import (
	"fmt"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/penstock-ot/penstock/internal/outage"
)

// keepAlive tells those who want to know that every verdict loop is at work, until stop is closed: the service manager
// (WatchdogSec), as often as it wants to hear, 0 for never, and the bypass, where that engages by itself otherwise. It
// waits for nothing: the upkeep may have to, for a self-test or for a turn of the bypass, and inspection goes on.
func (d *daemon) keepAlive(stop <-chan struct{}, wanted time.Duration) error {
	tick := time.NewTicker(upkeepInterval)
	defer tick.Stop()
	told := time.Time{}
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		now := time.Now()
		silent := d.silentQueues()
		d.ledger.Note(outage.ReaderSilent, len(silent) > 0, strings.Join(silent, ", "), now)
		if len(silent) > 0 {
			continue
		}
		d.bypass.Beat()
		if wanted > 0 && now.Sub(told) >= wanted/3 {
			told = now
			_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
		}
	}
}

// silentQueues names the queues whose verdict loops do not show themselves.
func (d *daemon) silentQueues() (silent []string) {
	for _, i := range d.inspections {
		if !d.inspecting(i.number) {
			silent = append(silent, fmt.Sprintf("queue %d", i.netfilterNumber()))
		}
	}
	return silent
}
