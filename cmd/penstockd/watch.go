package main

import (
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
)

// watchInterval is how finely the time without inspection is counted.
const watchInterval = 50 * time.Millisecond

// watch counts for how long conduits that open were open: from the heartbeat in the fast
// path, which tells of the time before this daemon, too.
type watch struct {
	path    *datapath.Datapath
	timeout time.Duration
	open    atomic.Int64 // ns
}

// before counts the outage that ends with this start.
func (w *watch) before() {
	if age := w.path.BeatAge(datapath.QueueOpens) - w.timeout; age > 0 {
		w.open.Add(int64(age))
	}
}

// run counts until done is closed.
func (w *watch) run(done <-chan struct{}) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			if w.path.BeatAge(datapath.QueueOpens) > w.timeout {
				w.open.Add(int64(now.Sub(last)))
			}
			last = now
		}
	}
}

func (w *watch) uninspected() time.Duration { return time.Duration(w.open.Load()) }
