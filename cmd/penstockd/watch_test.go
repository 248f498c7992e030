package main

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
)

// beats are heartbeats of queues without a fast path. CLOCK_MONOTONIC began at zero.
type beats struct {
	zero time.Time
	last map[datapath.Queue]time.Duration
	open time.Duration
}

func (b *beats) LastBeat(q datapath.Queue) time.Duration { return b.last[q] }
func (b *beats) BeatAt(q datapath.Queue, now time.Time)  { b.last[q] = b.Monotonic(now) }
func (b *beats) Monotonic(now time.Time) time.Duration   { return now.Sub(b.zero) }
func (b *beats) OpenTime() time.Duration                 { return b.open }
func (b *beats) KeepOpenTime(open time.Duration)         { b.open = open }

// TestALoopHeldUpInItsHeartbeatIsCounted: a loop that loses its processor after it has read the clock, and before its heartbeat
// is written, has been silent since it read it, or nearly, and the next heartbeat tells that.
func TestALoopHeldUpInItsHeartbeatIsCounted(t *testing.T) {
	const timeout, second = 100 * time.Millisecond, time.Second
	for _, row := range []struct {
		name string
		read []time.Duration // when the loop reads the clock, one after the other
		want time.Duration
	}{
		{"in time", []time.Duration{10 * second, 10*second + timeout, 10*second + 2*timeout}, 0},
		{"silent", []time.Duration{10 * second, 12 * second}, 2*second - timeout},
		// The second reading is written at 12 s, and XDP has led nothing to the loop since 10.11 s.
		{"held up", []time.Duration{10 * second, 10*second + timeout/10, 12 * second}, 2*second - timeout/10 - timeout},
		{"held up at the end of a silence", []time.Duration{10 * second, 11 * second, 12 * second}, 2*second - 2*timeout},
	} {
		b := &beats{zero: time.Now(), last: map[datapath.Queue]time.Duration{}}
		w := newWatch(b, timeout, 1)
		for _, at := range row.read {
			w.beat(1, b.zero.Add(at))
		}
		if b.open != row.want {
			t.Errorf("%s: %v are told, want %v", row.name, b.open, row.want)
		}
	}
}
