package datapath

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
)

// TestTickLength holds that the kernel's ticks are as long as its coarse clock says. They stand still while the CPU that
// counts them is held up, as by a hypervisor, and come all at once afterwards, so that one look of several has to show it.
func TestTickLength(t *testing.T) {
	d := open(t, plan())
	want, err := tickLength()
	if err != nil {
		t.Fatal(err)
	}
	if got := d.flowClock().tickLength; got != want {
		t.Fatalf("the fast path goes by ticks of %d ns, want %d", got, want)
	}
	var measured []uint64
	for range 20 {
		before, err := d.readClock()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		after, err := d.readClock()
		if err != nil {
			t.Fatal(err)
		}
		length := (after.ns - before.ns) / max(after.ticks-before.ticks, 1)
		if measured = append(measured, length); max(length, want)-min(length, want) < want/8 {
			return
		}
	}
	t.Errorf("a tick lasted %d ns, want %d", measured, want)
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
