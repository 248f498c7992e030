package queue

import "testing"

// TestWaitsEndTogether holds that a wait ends at a multiple of idleWait, and is never one for ever.
func TestWaitsEndTogether(t *testing.T) {
	const period = idleWait * 1000 // ns
	for _, now := range []int64{0, 1, 999, 1000, period / 3, period - 1001, period - 1, period, 7*period + 5} {
		wait := untilTogether(now)
		if end := now/1000 + wait; wait < 1 || wait > idleWait || end%idleWait != 0 {
			t.Errorf("at %d ns: a wait of %d µs, which ends at %d µs", now, wait, end)
		}
	}
}
