package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/plant/cipio"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// untouched is what a daemon tells of that may not change because its clock is set.
type untouched struct {
	denied, dropped, uninspected uint64
	seconds                      float64
	silent                       uint64 // times that a verdict loop was
	io                           int    // connections open
}

func untouchedOf(t *testing.T, p *plant.Plant) (u untouched) {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Conduits {
		u.denied += c.Denied
	}
	for _, q := range s.Queues {
		u.dropped += q.Dropped
	}
	for _, f := range s.Outage.Failures {
		if f.Class == outage.ReaderSilent {
			u.silent = f.Count
		}
	}
	u.uninspected, u.seconds, u.io = s.Outage.UninspectedFrames, s.Outage.UninspectedSeconds, s.IO.Open
	return u
}

// settledOf is untouchedOf once what was denied before is counted.
func settledOf(t *testing.T, p *plant.Plant) (u untouched) {
	t.Helper()
	eventually(t, "counters to settle", func() bool {
		before := untouchedOf(t, p)
		time.Sleep(200 * time.Millisecond)
		u = untouchedOf(t, p)
		return u == before
	})
	return u
}

// observedPort is that of a conduit that is only observed.
const observedPort = 1503

// TestInvariant06ClockJumpIsNoOutage sets the clock of a daemon an hour ahead and a day back while connections of
// every kind are at work. No connection ends, nothing of them is denied or lost, and nothing passes uninspected, for
// longer than it takes until what is idle is looked for; each jump is told, and events tell the time by the clock as it
// is.
func TestInvariant06ClockJumpIsNoOutage(t *testing.T) {
	text := site{conduits: []string{
		modbusConduit("opens", openPort, "on_outage: open", "on_deny: reset"),
		modbusConduit("closes", closedPort, "on_outage: closed", "on_deny: reset"),
		modbusConduit("observed", observedPort, "mode: observe", "on_outage: open"),
		plainConduit("plain", "tcp", plainPort), cyclicConduit("100, 150, 151", "on_outage: open"),
	}}.String()
	// A loaded machine silences the loops for less than that, and the clock jumps by more.
	laid, d := layDisturbed(t, plant.Options{Policy: text, Settings: []string{"outage: {heartbeat_timeout: 5s}"}})
	p := withAdapter(t, laid)
	c := mustOpen(t, p.connect(t), cipio.Options{})
	p.flows(t, c)
	o := openOutage(t, laid)
	startStation(t, p.Filler, observedPort)
	stop := pollEach(t, o.conns)
	defer stop()
	for _, ahead := range []time.Duration{time.Hour, 0, -24 * time.Hour, 0} {
		before, jumps := settledOf(t, laid), failureOf(t, laid, outage.ClockJumped).Count
		d.SetClock(ahead)
		eventually(t, "the jump to be told", func() bool { return failureOf(t, laid, outage.ClockJumped).Count > jumps })
		time.Sleep(sweepInterval + ioSweepInterval)
		p.flows(t, c)
		intact(t, c.Received(), p.adapter.Received())
		if after := untouchedOf(t, laid); after != before {
			t.Errorf("%v ahead: the daemon tells %+v, and told %+v before", ahead, after, before)
		}
		eventsTell(t, laid, ahead)
	}
	stop()
	if c.Expired() {
		t.Error("the cyclic connection is over")
	}
	d.SetClock(-24 * time.Hour)
	c.Silence()
	eventually(t, "what is silent to end by its watchdog under a clock that was set back", func() bool { return untouchedOf(t, laid).io == 0 })
}

// pollEach polls in connections that are open, each of which has to answer until stop returns.
func pollEach(t *testing.T, conns map[int]net.Conn) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var polling sync.WaitGroup
	for port, conn := range conns {
		polling.Go(func() {
			for n := uint16(1); ; n++ {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if err := ask(conn, mbap(n, 1, readRegisters(0, 4)), patience); err != nil {
					t.Errorf("port %d, poll %d: %v", port, n, err)
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(done); polling.Wait() })
}

// eventsTell holds that what inspection, observation and the fast path would not have now is told as of now, by a clock
// that is so far ahead.
func eventsTell(t *testing.T, p *plant.Plant, ahead time.Duration) {
	t.Helper()
	began := time.Now().Add(ahead)
	last := uint64(0)
	if list, err := p.Events(); err != nil {
		t.Fatal(err)
	} else if len(list) > 0 {
		last = list[len(list)-1].Sequence
	}
	conn := socketTo(t, p.HMI, p.Filler, openPort)
	defer conn.Close()
	if err := ask(conn, mbap(1, 1, writeRegister(100, 1)), patience); !wasReset(err) {
		t.Errorf("a denied request: %v, want a reset", err)
	}
	if err := ask(socketTo(t, p.HMI, p.Filler, observedPort), mbap(1, 1, writeRegister(100, 1)), patience); err != nil {
		t.Errorf("a request that is only observed: %v", err)
	}
	if denied, err := trySocket(p.HMI, p.Filler, 8080, 10*time.Millisecond); err == nil {
		denied.Close()
		t.Error("a port that no conduit names is open")
	}
	for _, by := range []struct {
		layer event.Layer
		mode  event.Mode
	}{{event.LayerInspect, event.ModeEnforce}, {event.LayerInspect, event.ModeObserve}, {event.LayerXDP, event.ModeEnforce}} {
		e, err := p.AwaitEvent(patience, func(e *event.Event) bool {
			return e.Sequence > last && e.Layer == by.layer && e.Mode == by.mode && e.Verdict == verdict.Deny
		})
		if err != nil {
			t.Errorf("%v: %v", by, err)
			continue
		}
		const tolerance = time.Second
		if now := time.Now().Add(ahead); e.Time.Before(began.Add(-tolerance)) || e.Time.After(now.Add(tolerance)) {
			t.Errorf("%v ahead: an event of %v tells %v, and it was %v to %v", ahead, by, e.Time.UTC(), began.UTC(), now.UTC())
		}
	}
}

// TestIslandEndsByItsTimeWhateverTheClockSays: a zone that is closed for a time is closed for just that time, where the
// clock is set meanwhile, and where the daemon is restarted afterwards.
func TestIslandEndsByItsTimeWhateverTheClockSays(t *testing.T) {
	p, d := layDisturbed(t, plant.Options{Policy: outageSite()})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// closed is whether the zone is, which is told with the time to come by the clock as it is set.
	closed := func(t *testing.T, until time.Time) bool {
		t.Helper()
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Islands) > 0 && s.Islands[0].Until.Sub(until).Abs() > 2*time.Second {
			t.Fatalf("the zone is told to be closed until %v, want %v", s.Islands[0].Until, until.UTC())
		}
		return len(s.Islands) > 0
	}
	for _, row := range []struct {
		ahead   time.Duration
		restart bool
		length  time.Duration // the restart is over by then
	}{{time.Hour, false, 3 * time.Second}, {-24 * time.Hour, false, 3 * time.Second}, {time.Hour, true, 6 * time.Second}, {-24 * time.Hour, true, 6 * time.Second}} {
		t.Run(fmt.Sprintf("%v ahead, restart %v", row.ahead, row.restart), func(t *testing.T) {
			d.SetClock(0)
			began := time.Now()
			if _, err := p.Client().CloseZone(ctx, "cell", row.length); err != nil {
				t.Fatal(err)
			}
			d.SetClock(row.ahead)
			if row.restart {
				if err := p.Stop(); err != nil {
					t.Fatal(err)
				}
				start(t, p)
			}
			for closed(t, began.Add(row.length+row.ahead)) {
				if time.Since(began) > row.length+patience {
					t.Fatalf("the zone is closed %v after it was closed for %v", time.Since(began), row.length)
				}
				time.Sleep(50 * time.Millisecond)
			}
			if took := time.Since(began); took < row.length {
				t.Errorf("the zone is open %v after it was closed for %v", took, row.length)
			}
		})
	}
}
