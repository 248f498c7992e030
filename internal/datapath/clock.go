package datapath

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The fast path has two clocks. What it tells and what it limits carries CLOCK_MONOTONIC in
// nanoseconds. A flow's age is in ticks of the kernel (jiffies), because those cost a load and
// not a call for each frame. User space cannot read ticks: the program clock reads one moment in
// both.

// monotonic is CLOCK_MONOTONIC in nanoseconds.
func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot fail for this clock; 0 reads as a heartbeat long gone
	}
	return uint64(ts.Nano())
}

// epoch is one moment in CLOCK_MONOTONIC and in the runtime's clock, which is the same one read
// without a system call: a heartbeat for each packet can afford no more.
type epoch struct {
	at time.Time
	ns uint64
}

// newEpoch reads both clocks. Of a few readings the one counts between which least time passed: a thread
// that has to wait for its processor in between would be that far ahead for good.
func newEpoch() (best epoch) {
	least := ^uint64(0)
	for range 5 {
		before := monotonic()
		at := time.Now()
		if took := monotonic() - before; took < least {
			least, best = took, epoch{at: at, ns: before + took/2}
		}
	}
	return best
}

// now is CLOCK_MONOTONIC in nanoseconds.
func (e epoch) now() uint64 { return e.of(time.Now()) }

// of is CLOCK_MONOTONIC at a time that time.Now has returned.
func (e epoch) of(now time.Time) uint64 { return e.ns + uint64(now.Sub(e.at)) }

// timeOf is a CLOCK_MONOTONIC as time.Now would have told it: it compares with what that returns by the clock that
// only goes forward, which a time in UTC would not, and tells the time of day by the clock of the wall as it is set now.
func (e epoch) timeOf(ns uint64) time.Time {
	now := time.Now()
	return now.Add(time.Duration(ns - e.of(now)))
}

// clock turns the fast path's times into the time of day. A step of the wall clock after its
// making shifts nothing: times stay comparable with one another.
type clock struct {
	offset     int64 // wall clock minus CLOCK_MONOTONIC, ns
	ticks, ns  uint64
	tickLength uint64 // ns
}

func newClock() clock {
	e := newEpoch()
	return clock{offset: e.at.UnixNano() - int64(e.ns)}
}

// wall is the time of day of a CLOCK_MONOTONIC.
func (c clock) wall(ns uint64) time.Time { return time.Unix(0, int64(ns)+c.offset).UTC() }

// An entry of the flow table tells when its last frame came in few bits: ticks in ns, less so many low
// bits (SEEN_SHIFT in bpf/types.h). Where the question is for how long a flow has been silent, as many
// units as AHEAD in bpf/lib/flow.h may be later than the clock, for another CPU may have read it.
const (
	seenShift = 24
	seenAhead = 64
)

// sinceSeen is how many of an entry's units before the clock was read a moment was. It comes round.
func (c clock) sinceSeen(seen uint32) uint32 { return uint32(c.jiffies()>>seenShift) - seen }

// wallOfSeen is the time of day of an entry's last frame, within two of its units (34 ms) and for a year
// before and after the clock was read: frames come while the flows are being read.
func (c clock) wallOfSeen(seen uint32) time.Time {
	return c.wall(c.ns - uint64(int64(int32(c.sinceSeen(seen)))<<seenShift))
}

// idle is whether a flow has been silent for longer than it may.
func (c clock) idle(e *entry) bool {
	limit := uint32(idleLimit(e.record.Key.Protocol, e.flow.State) >> seenShift)
	return c.sinceSeen(e.flow.Seen)+seenAhead > limit+seenAhead
}

// jiffies is when the clock was read, by the kernel's ticks, in ns.
func (c clock) jiffies() uint64 { return c.ticks * c.tickLength }

// flowClock is a clock that knows ticks, as of the last reading.
func (d *Datapath) flowClock() clock {
	d.clockMu.Lock()
	defer d.clockMu.Unlock()
	c := newClock()
	b := d.control.block
	c.ticks, c.ns = atomic.LoadUint64(&b.ClockTicks), atomic.LoadUint64(&b.ClockNs)
	c.tickLength = atomic.LoadUint64(&b.Tick)
	return c
}

// readClock has the kernel read both clocks now.
func (d *Datapath) readClock() (clock, error) {
	if err := d.runClock(); err != nil {
		return clock{}, err
	}
	return d.flowClock(), nil
}

func (d *Datapath) runClock() error {
	d.clockMu.Lock()
	defer d.clockMu.Unlock()
	// A test run of XDP takes an Ethernet frame and does not send it.
	if _, err := d.objects.Clock.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
		return fmt.Errorf("read the kernel's clock: %w", err)
	}
	return nil
}

var errNoTick = errors.New("the length of a tick of the kernel's clock is not known")

// setTick writes down how long a tick lasts, once in the life of the maps, and reads the clock.
func (d *Datapath) setTick() error {
	if atomic.LoadUint64(&d.control.block.Tick) == 0 {
		length, err := tickLength()
		if err != nil {
			return err
		}
		atomic.StoreUint64(&d.control.block.Tick, length)
	}
	return d.runClock()
}

// tickLength is how long a tick of the kernel's lasts, in ns: its coarse clocks go on with each, and say so as their
// resolution.
func tickLength() (uint64, error) {
	var resolution unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &resolution); err != nil {
		return 0, fmt.Errorf("%w: %w", errNoTick, err)
	}
	if resolution.Nano() <= 0 {
		return 0, errNoTick
	}
	return uint64(resolution.Nano()), nil
}
