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
	path    heartbeats
	timeout time.Duration
	queues  []datapath.Queue // whose conduits open

	mu     sync.Mutex // a loop takes it only after a silence
	open   time.Duration
	recent []span // silences that are over, while another queue's is not
}

// heartbeats are what a watch needs of a fast path.
type heartbeats interface {
	LastBeat(datapath.Queue) time.Duration
	BeatAt(datapath.Queue, time.Time)
	Monotonic(time.Time) time.Duration
	OpenTime() time.Duration
	KeepOpenTime(time.Duration)
}

// span is a time in CLOCK_MONOTONIC.
type span struct{ from, to time.Duration }

// newWatch goes on from what a daemon before had counted, and from its last heartbeats, if there was one.
func newWatch(path heartbeats, timeout time.Duration, lanes int) *watch {
	w := &watch{path: path, timeout: timeout, open: path.OpenTime()}
	for _, q := range queuesOf(lanes) {
		if q.Opens() {
			w.queues = append(w.queues, q)
		}
	}
	return w
}

// beat is the heartbeat of a loop whose conduits open, which has just read the clock. That one reading is what
// is compared and what is written: a loop that loses its processor, or is stopped, in between leaves a
// heartbeat as old as the reading, and the next one counts from there.
func (w *watch) beat(q datapath.Queue, now time.Time) {
	if w.path.Monotonic(now)-w.path.LastBeat(q) <= w.timeout {
		w.path.BeatAt(q, now)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, silent := w.silence(q, now); silent {
		w.recent = append(w.recent, s)
	}
	w.path.BeatAt(q, now)
	w.fold(now)
}

// silence is since when a queue's conduits have been open, and until now.
func (w *watch) silence(q datapath.Queue, now time.Time) (s span, silent bool) {
	last := w.path.LastBeat(q)
	if last == 0 {
		return s, false // there is no heartbeat to count from
	}
	s = span{last + w.timeout, w.path.Monotonic(now)}
	return s, s.to > s.from
}

// mostRecent bounds what is kept while a queue is silent. Beyond it a time may count twice.
const mostRecent = 64

// fold adds up the silences that are over, as far as no other can overlap them any more, and writes that
// down for the next daemon.
func (w *watch) fold(now time.Time) {
	settled := time.Duration(math.MaxInt64)
	for _, q := range w.queues {
		if s, silent := w.silence(q, now); silent && len(w.recent) < mostRecent {
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
	spans, now := slices.Clone(w.recent), time.Now()
	for _, q := range w.queues {
		if s, silent := w.silence(q, now); silent {
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
