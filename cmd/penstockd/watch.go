package main

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
)

// watch counts for how long conduits that open were open, all of them or those of one lane: by the
// silence between two heartbeats of a queue's verdict loop. The older one may be of the daemon
// before, which ended, or of this one, which hung; no goroutine of this one could have counted then.
// Silences of several queues that overlap count once. What has been counted outlives the daemon, beside
// the number of frames.
type watch struct {
	path    *datapath.Datapath
	timeout time.Duration
	queues  []datapath.Queue // whose conduits open

	mu     sync.Mutex // a loop takes it only after a silence
	open   time.Duration
	recent []span // silences that are over, while another queue's is not
}

// span is a time in CLOCK_MONOTONIC.
type span struct{ from, to time.Duration }

// newWatch goes on from what a daemon before had counted, and from its last heartbeats, if there was one.
func newWatch(path *datapath.Datapath, timeout time.Duration, lanes int) *watch {
	w := &watch{path: path, timeout: timeout, open: path.OpenTime()}
	for _, q := range queuesOf(lanes) {
		if q.Opens() {
			w.queues = append(w.queues, q)
		}
	}
	return w
}

// beat is the heartbeat of a loop whose conduits open.
func (w *watch) beat(q datapath.Queue) {
	if w.path.BeatAge(q) <= w.timeout {
		w.path.Beat(q)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, silent := w.silence(q); silent {
		w.recent = append(w.recent, s)
	}
	w.path.Beat(q)
	w.fold()
}

// silence is since when a queue's conduits have been open, and until now.
func (w *watch) silence(q datapath.Queue) (s span, silent bool) {
	last := w.path.LastBeat(q)
	if last == 0 {
		return s, false // there is no heartbeat to count from
	}
	s = span{last + w.timeout, last + w.path.BeatAge(q)}
	return s, s.to > s.from
}

// mostRecent bounds what is kept while a queue is silent. Beyond it a time may count twice.
const mostRecent = 64

// fold adds up the silences that are over, as far as no other can overlap them any more, and writes that
// down for the next daemon.
func (w *watch) fold() {
	settled := time.Duration(math.MaxInt64)
	for _, q := range w.queues {
		if s, silent := w.silence(q); silent && len(w.recent) < mostRecent {
			settled = min(settled, s.from)
		}
	}
	before, after := split(w.recent, settled)
	w.open += covered(before)
	w.recent = after
	w.path.KeepOpenTime(w.open)
}

// split cuts spans at a moment.
func split(spans []span, at time.Duration) (before, after []span) {
	for _, s := range spans {
		if s.from < at {
			before = append(before, span{s.from, min(s.to, at)})
		}
		if s.to > at {
			after = append(after, span{max(s.from, at), s.to})
		}
	}
	return before, after
}

func (w *watch) uninspected() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	spans := slices.Clone(w.recent)
	for _, q := range w.queues {
		if s, silent := w.silence(q); silent {
			spans = append(spans, s)
		}
	}
	return w.open + covered(spans)
}

// covered is how long it was within any of the spans.
func covered(spans []span) (sum time.Duration) {
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	var end time.Duration
	for _, s := range spans {
		if s.to > end {
			sum += s.to - max(s.from, end)
			end = s.to
		}
	}
	return sum
}
