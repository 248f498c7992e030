package main

import (
	"sync"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
)

// watch counts for how long conduits that open were open: by the silence between two heartbeats
// of their queue's verdict loop. The older one may be of the daemon before, which ended, or of
// this one, which hung; no goroutine of this one could have counted then.
type watch struct {
	path    *datapath.Datapath
	timeout time.Duration

	mu    sync.Mutex // the loop holds it for two stores, everybody else for two loads
	known bool       // there is a heartbeat to count from
	open  time.Duration
}

// newWatch counts from the last heartbeat of a daemon before, if there was one.
func newWatch(path *datapath.Datapath, timeout time.Duration) *watch {
	return &watch{path: path, timeout: timeout, known: path.Adopted()}
}

// beat is the heartbeat of the loop whose conduits open.
func (w *watch) beat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open += w.silence()
	w.known = true
	w.path.Beat(datapath.QueueOpens)
}

// silence is how long the conduits have been open by now.
func (w *watch) silence() time.Duration {
	if !w.known {
		return 0
	}
	return max(0, w.path.BeatAge(datapath.QueueOpens)-w.timeout)
}

func (w *watch) uninspected() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open + w.silence()
}
