package datapath

import (
	"errors"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
)

// TestNearestTick holds that a measured tick finds the rate that kernels are built with.
func TestNearestTick(t *testing.T) {
	for measured, want := range map[uint64]uint64{
		10_000_000: 10_000_000, 9_300_000: 10_000_000, 4_000_000: 4_000_000, 3_850_000: 3_906_250,
		3_400_000: 3_333_333, 1_000_000: 1_000_000, 990_000: 1_000_000, 970_000: 976_562,
	} {
		if got := nearestTick(measured); got != want {
			t.Errorf("a tick of %d ns was taken for %d, want %d", measured, got, want)
		}
	}
}

// TestMeasuredTick holds that ticks which stand still for a while, and come all at once, do not tell another rate.
func TestMeasuredTick(t *testing.T) {
	const ms = 1_000_000
	for name, r := range map[string]struct {
		ticks []uint64 // at readings 60 ms apart, as many as are looked at
		want  uint64   // the nearest rate's; 0 where the clock stands still
	}{
		"even":                       {[]uint64{100, 115, 130}, 4 * ms},
		"a tick more":                {[]uint64{100, 115, 131}, 4 * ms},
		"held up at the first":       {[]uint64{90, 115, 130, 145}, 4 * ms},
		"held up at one between":     {[]uint64{100, 106, 130, 145}, 4 * ms},
		"held up at the next":        {[]uint64{100, 115, 121, 145}, 4 * ms},
		"still for a whole span":     {[]uint64{100, 100, 130, 145}, 4 * ms},
		"a hundred a second":         {[]uint64{100, 106, 112}, 10 * ms},
		"a thousand, held up a long": {[]uint64{100, 160, 161, 280}, ms},
		"still":                      {[]uint64{100, 100, 100, 100}, 0},
	} {
		looks := 0
		measured, err := measureTick(func() (clock, error) {
			looks++
			return clock{ticks: r.ticks[looks-1], ns: uint64(looks) * 60 * ms}, nil
		}, func() {})
		switch {
		case r.want == 0 && errors.Is(err, errClockStands):
		case err != nil || nearestTick(measured) != r.want || looks != len(r.ticks):
			t.Errorf("%s: a tick of %d ns after %d looks, %v, want %d after %d", name, measured, looks, err, r.want, len(r.ticks))
		}
	}
}

// between is a span of time.
type between struct{ from, to time.Time }

// TestFlowTimes holds that what flows tell of time is the time of day.
func TestFlowTimes(t *testing.T) {
	d := open(t, plan())
	begun := time.Now()
	d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 1)
	begin := between{begun, time.Now()}
	time.Sleep(150 * time.Millisecond)
	again := time.Now()
	d.passes(t, policy.SideB, hmiTCP(40000, 502, flagACK), 1)
	last := between{again, time.Now()}
	const tolerance = 50 * time.Millisecond // ticks of 10 ms
	near := func(what string, got time.Time, want between) {
		t.Helper()
		if got.Before(want.from.Add(-tolerance)) || got.After(want.to.Add(tolerance)) {
			t.Errorf("%s is %v, want between %v and %v", what, got, want.from, want.to)
		}
	}
	err := d.Flows(func(f *Flow) bool {
		near("the begin", f.Created, begin)
		near("the last frame", f.Seen, last)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	f, ok := d.FlowByKey(d.keyOf(t, 40000))
	if !ok {
		t.Fatal("the flow is gone")
	}
	near("the last frame, by key", f.Seen, last)
}

// TestLaterThanTheClock holds that the last frame of a flow has its time also where it came long after the
// clock was read that its time is told by: whoever reads flows may be slow.
func TestLaterThanTheClock(t *testing.T) {
	const tick = 4_000_000
	c := clock{ticks: 5_000_000_000, ns: 1_000_000_000_000, tickLength: tick}
	for _, later := range []time.Duration{-2 * time.Hour, -time.Second, 0, time.Second, 2 * time.Second, time.Hour, 24 * time.Hour} {
		seen := uint32((c.jiffies() + uint64(later)) >> seenShift)
		got := c.wallOfSeen(seen).Sub(c.wall(c.ns))
		if off := got - later; off.Abs() > 2<<seenShift {
			t.Errorf("a frame %v after the clock was read is told to be %v after", later, got)
		}
	}
}

// TestEpoch holds that the two readings of one clock stay together.
func TestEpoch(t *testing.T) {
	e := newEpoch()
	for range 5 {
		time.Sleep(10 * time.Millisecond)
		before, now, after := monotonic(), e.now(), monotonic()
		const apart = uint64(time.Millisecond) // between the two readings that began it
		if now+apart < before || now > after+apart {
			t.Errorf("the epoch says %d between %d and %d", now, before, after)
		}
		told, wall := e.timeOf(before), time.Now()
		if ago := wall.Sub(told); ago < -time.Duration(apart) || ago > time.Duration(monotonic()-before+apart) || told == told.Round(0) {
			t.Errorf("a moment ago is told as %v, and it is %v", told, wall)
		}
	}
}
