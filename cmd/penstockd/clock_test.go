package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
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
	laid, d := layDisturbed(t, plant.Options{Policy: text, Settings: []string{longHeartbeat}})
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

// TestTimesPassWhateverTheClockSays: a zone that is closed for a time, and a policy that is on trial, are so for just
// that time where the clock is set meanwhile, and where the daemon is restarted afterwards.
func TestTimesPassWhateverTheClockSays(t *testing.T) {
	p, d := layDisturbed(t, plant.Options{Policy: outageSite()})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i, row := range []struct {
		ahead   time.Duration
		restart bool
		length  time.Duration // the restart is over by then
	}{{time.Hour, false, 3 * time.Second}, {-24 * time.Hour, false, 3 * time.Second}, {time.Hour, true, 6 * time.Second}, {-24 * time.Hour, true, 6 * time.Second}} {
		t.Run(fmt.Sprintf("%v ahead, restart %v", row.ahead, row.restart), func(t *testing.T) {
			d.SetClock(0)
			before, err := p.Status()
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now() // each of both begins between this and asked
			trial := api.Submission{Name: "trial", Raw: fmt.Appendf(nil, "%s# %d\n", outageSite(), i), ConfirmWithin: row.length}
			if _, err := p.Client().Apply(ctx, trial); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Client().CloseZone(ctx, "cell", row.length); err != nil {
				t.Fatal(err)
			}
			asked := time.Now()
			d.SetClock(row.ahead)
			if row.restart {
				if err := p.Stop(); err != nil {
					t.Fatal(err)
				}
				start(t, p)
			}
			var opened, back time.Duration
			for opened == 0 || back == 0 {
				if time.Since(began) > row.length+patience {
					t.Fatalf("after %v the zone is open since %v, and the policy back since %v, where 0 is neither", time.Since(began), opened, back)
				}
				s, err := p.Status()
				if err != nil {
					t.Fatal(err)
				}
				told := []time.Time{s.Policy.ConfirmBy}
				if opened == 0 && len(s.Islands) == 0 {
					opened = time.Since(began)
				}
				if back == 0 && s.Policy.Version == before.Policy.Version {
					back = time.Since(began)
				}
				for _, i := range s.Islands {
					told = append(told, i.Until)
				}
				const tolerance = 2 * time.Second
				first, last := began.Add(row.length+row.ahead), asked.Add(row.length+row.ahead) // by the clock as it is set
				for _, until := range told {
					if !until.IsZero() && (until.Before(first.Add(-tolerance)) || until.After(last.Add(tolerance))) {
						t.Fatalf("an end is told to be at %v, want %v to %v", until, first.UTC(), last.UTC())
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
			if opened < row.length || back < row.length {
				t.Errorf("the zone was open after %v, and the policy back after %v, want %v", opened, back, row.length)
			}
		})
	}
}
