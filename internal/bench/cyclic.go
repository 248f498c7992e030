package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/penstock-ot/penstock/internal/plant/cipio"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// How much I/O there is, and what goes on beside it in a turn with load.
const (
	cyclicConnections = 32
	cyclicInterval    = 2 * time.Millisecond
	cyclicMultiplier  = 7 // a watchdog of 512 intervals: a machine that pauses ends no connection
	cyclicSessions    = 4 // that ask explicit messages without a pause
	cyclicApply       = 100 * time.Millisecond
	cyclicTurns       = 3 // of a round: of one frame in a hundred a machine's own moods are a large part
)

// cyclicProcessors is how many threads of this program the runtime lets run at once. Where none is to spare it
// takes one from a thread that is in a system call, and while it does its monitor wakes some thousand times a
// second, each time in the middle of whatever a core does.
const cyclicProcessors = 16

// cableName is the line with nothing in between.
const cableName = "cable"

// cyclicPolicy permits I/O, and explicit messages that are inspected.
const cyclicPolicy = `api_version: penstock/v1
site: benchmark
mode: enforce
appliances:
  - {name: line-3-gate, sides: {a: [cell], b: [room]}}
zones:
  - {name: room, sl_target: 2}
  - {name: cell, sl_target: 2}
identities:
  - {name: scanner, zone: room, mac: "` + testnet.PlantMAC + `", ip: [` + testnet.PlantAddress + `]}
  - {name: adapter, zone: cell, mac: "` + testnet.CellMAC + `", ip: [` + testnet.CellAddress + `]}
conduits:
  - name: cyclic
    from: [scanner]
    to: [adapter]
    protocol: enip
    rules:
      - {services: [forward_open, large_forward_open, forward_close], io: {assemblies: [100, 150, 151]}}
      - {services: [get_attributes_all], classes: [identity]}
`

// cyclic is a line with I/O on it.
type cyclic struct {
	*line
	label string
	load  *line // whose appliance has as much to do as it can meanwhile, the line itself or one beside it; nil for none
	turns []cyclicTurn
}

type cyclicTurn struct {
	p50, p99 time.Duration
	frames   int
	lost     int
	messages int
	applied  int
}

// jitter is how much later than the median one frame in a hundred comes.
func (t *cyclicTurn) jitter() time.Duration { return t.p99 - t.p50 }

// cyclicIO compares how evenly cyclic frames come through, alone and while a slow path has as much to
// do as it can and policies change. What that takes of the cores and their caches is there for every line: messages
// that go through another line's appliance are for the frames of this one what those through its own are.
func (b *bench) cyclicIO() error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(cyclicProcessors, runtime.NumCPU())))
	lines, err := b.layCyclic()
	if err != nil {
		return err
	}
	var all []*cyclic
	for _, l := range lines {
		all = append(all, &cyclic{line: l, label: l.name})
	}
	for _, l := range lines {
		all = append(all, &cyclic{line: l, label: l.name + ", messages and policies beside it", load: lines[len(lines)-1]})
	}
	for round := range cyclicTurns * b.rounds {
		for i := range all {
			if err := all[(i+round)%len(all)].run(b); err != nil {
				return err
			}
		}
	}
	b.report.cyclic(all)
	for ; len(all) > 0; all = all[len(lines):] {
		bridge, ends, polled, redirect, penstock := all[1], all[2], all[3], all[4], all[5]
		b.report.bar(fmt.Sprintf("cyclic I/O: jitter of %s, times the Linux bridge's between the same ends", penstock.label), penstock.compare(ends), atMost(1))
		b.report.bar("… times the bridge's between ends that do not poll", penstock.compare(bridge), nil)
		b.report.bar("… times the bridge's with polled ports, too", penstock.compare(polled), nil)
		b.report.bar("… times the bare redirect's", penstock.compare(redirect), nil)
		b.report.bar("… frames lost", float64(penstock.lost()), atMost(0))
	}
	return nil
}

// layCyclic lays what cyclic frames go through: nothing, the bridge by default, between ends that poll, and
// with ports that do, the least program, Penstock. Their ports have a queue for each core.
func (b *bench) layCyclic() ([]*line, error) {
	b.lab = append(b.lab, testnet.QueueForEachCore)
	defer func() { b.lab = nil }()
	var lines []*line
	for _, lay := range []func() (*line, error){
		func() (*line, error) { return b.layCable(cableName) },
		func() (*line, error) { return b.layBridge("Linux bridge") },
		func() (*line, error) { return b.layBridgeOfPolledEnds("Linux bridge, polled ends") },
		func() (*line, error) { return b.layPolledBridge("Linux bridge, polled ends and ports") },
		func() (*line, error) { return b.layRedirect("bare XDP redirect") },
		func() (*line, error) { return b.layAppliance("Penstock", cyclicPolicy) },
	} {
		l, err := lay()
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// run is one turn: connections of its own, which are closed again.
func (c *cyclic) run(b *bench) error {
	adapter, station, err := c.startEnds()
	if err != nil {
		return err
	}
	defer adapter.Close()
	defer station.Close()
	scanner, err := station.Connect(c.Cell.Address())
	if err != nil {
		return err
	}
	defer scanner.Close()
	var open []*cipio.Connection
	for range cyclicConnections {
		io, err := scanner.Open(cipio.Options{Interval: cyclicInterval, Multiplier: cyclicMultiplier})
		if err != nil {
			return fmt.Errorf("open I/O through %s: %w", c.label, err)
		}
		open = append(open, io)
	}
	t := cyclicTurn{}
	if err := c.pass(b, station, &t); err != nil {
		return fmt.Errorf("beside I/O through %s: %w", c.label, err)
	}
	count := cipio.Count{}
	for _, io := range open {
		count.Add(io.Received())
		if err := io.Close(); err != nil {
			return fmt.Errorf("close I/O through %s: %w", c.label, err)
		}
	}
	count.Add(adapter.Received())
	if count.Frames == 0 {
		return fmt.Errorf("no I/O came through %s", c.label)
	}
	slices.Sort(count.Delays)
	t.p50, t.p99 = at(count.Delays, 0.5), at(count.Delays, 0.99)
	t.frames, t.lost = count.Frames, count.Lost+count.Old+count.Unequal
	c.turns = append(c.turns, t)
	return nil
}

// startEnds starts what stands at both ends of a line.
func (l *line) startEnds() (adapter *cipio.Adapter, station *cipio.Station, err error) {
	if adapter, err = cipio.StartAdapter(l.Cell, l.Cell.Address()); err != nil {
		return nil, nil, err
	}
	if station, err = cipio.NewStation(l.Plant, l.Plant.Address()); err != nil {
		adapter.Close()
		return nil, nil, err
	}
	if err := apart(adapter, station); err != nil {
		adapter.Close()
		station.Close()
		return nil, nil, err
	}
	return adapter, station, nil
}

// apart keeps the producers of both ends to cores of their own, where there are two: what wakes one would
// interrupt a frame of the other.
func apart(adapter *cipio.Adapter, station *cipio.Station) error {
	first, last := outerCores()
	if first == last {
		return nil
	}
	return errors.Join(adapter.KeepTo(first), station.KeepTo(last))
}

// at is the value below which a part of sorted values lies.
func at(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

// pass lets a turn's time pass, with or without something to do beside the I/O.
func (c *cyclic) pass(b *bench, station *cipio.Station, t *cyclicTurn) error {
	ctx, cancel := context.WithTimeout(b.ctx, b.time)
	defer cancel()
	if c.load == nil {
		<-ctx.Done()
		return b.ctx.Err()
	}
	if c.load != c.line { // with ends of its own
		adapter, other, err := c.load.startEnds()
		if err != nil {
			return err
		}
		defer adapter.Close()
		defer other.Close()
		station = other
	}
	var group sync.WaitGroup
	errs := make([]error, cyclicSessions+1)
	asked := make([]int, cyclicSessions)
	for i := range cyclicSessions {
		group.Go(func() { asked[i], errs[i] = askMessages(ctx, station, c.load.Cell) })
	}
	group.Go(func() { t.applied, errs[cyclicSessions] = c.load.change(ctx) })
	group.Wait()
	for _, n := range asked {
		t.messages += n
	}
	return errors.Join(append(errs, b.ctx.Err())...)
}

// askMessages sends explicit messages, one as soon as the one before is answered.
func askMessages(ctx context.Context, station *cipio.Station, target *testnet.Host) (n int, err error) {
	s, err := station.Connect(target.Address())
	if err != nil {
		return 0, err
	}
	defer s.Close()
	for ; ctx.Err() == nil; n++ {
		if err := s.Identity(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// change applies one policy after the other.
func (l *line) change(ctx context.Context) (n int, err error) {
	for ; ctx.Err() == nil; n++ {
		text := fmt.Sprintf("%s# %d\n", cyclicPolicy, time.Now().UnixNano())
		if _, err := l.appliance.Apply(text); err != nil {
			return n, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(cyclicApply):
		}
	}
	return n, nil
}

// compare is the jitter as a multiple of another's, the median of the rounds.
func (c *cyclic) compare(base *cyclic) float64 {
	list := make([]float64, min(len(c.turns), len(base.turns)))
	for i := range list {
		list[i] = float64(c.turns[i].jitter()) / float64(max(base.turns[i].jitter(), 1))
	}
	return median(list)
}

func (c *cyclic) lost() (n int) {
	for i := range c.turns {
		n += c.turns[i].lost
	}
	return n
}

// beyond is how much more jitter there is than without anything in between, the median of the rounds in
// microseconds.
func (c *cyclic) beyond(cable *cyclic) float64 {
	list := make([]float64, min(len(c.turns), len(cable.turns)))
	for i := range list {
		list[i] = microseconds(c.turns[i].jitter() - cable.turns[i].jitter())
	}
	return median(list)
}

// cyclic adds the table of cyclic I/O. Each cable comes before what is compared with it.
func (r *report) cyclic(all []*cyclic) {
	s := r.section("Cyclic I/O",
		fmt.Sprintf("%d connections of class 1, each a frame both ways every %v, %d turns. Under way is the time from "+
			"before the producer's system call to the consumer's kernel; jitter is its 99th percentile less its median, and "+
			"added what of it the same round's cable has not. "+
			"Beside it, where it says so, %d sessions of explicit messages without a pause through Penstock, the line itself or one "+
			"beside it, and a policy there every %v. "+
			"Medians of the turns.", cyclicConnections, cyclicInterval, len(all[0].turns), cyclicSessions, cyclicApply),
		"through", "under way p50 µs", "p99 µs", "jitter µs", "added µs", "frames", "lost", "messages", "policies")
	var cable *cyclic
	for _, c := range all {
		if c.name == cableName {
			cable = c
		}
		var mid, late, jitter []float64
		var frames, messages, applied int
		for i := range c.turns {
			t := &c.turns[i]
			mid, late, jitter = append(mid, microseconds(t.p50)), append(late, microseconds(t.p99)), append(jitter, microseconds(t.jitter()))
			frames, messages, applied = frames+t.frames, messages+t.messages, applied+t.applied
		}
		s.row(c.label, fmt.Sprintf("%.1f", median(mid)), fmt.Sprintf("%.1f", median(late)), fmt.Sprintf("%.1f", median(jitter)),
			fmt.Sprintf("%.1f", c.beyond(cable)), thousands(float64(frames)), thousands(float64(c.lost())),
			thousands(float64(messages)), thousands(float64(applied)))
	}
}
