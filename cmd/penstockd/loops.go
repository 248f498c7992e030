package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/queue"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// inspectionTimeout is how long a start waits for the verdict loops.
const inspectionTimeout = 5 * time.Second

// openQueues opens the queues and starts their verdict loops. Until a loop shows its heartbeat
// nothing is led there. Each lane has a queue for conduits that close and one for conduits that open.
func (d *daemon) openQueues(ctx context.Context) error {
	injector, err := d.line.OpenInjector()
	if err != nil {
		return err
	}
	d.injector = injector
	d.onClose(injector.Close)
	d.records = newRecorder(d.path, d.bus, d.inventory)
	d.pinholes = newPinholes(d.path, d.records, d.log)
	d.background(func() error { d.records.run(d.done); return nil })
	d.background(func() error { d.haste.run(d.done); return nil })
	d.deputy.over = make(chan struct{})
	d.onClose(func() error { close(d.deputy.over); return nil }) // after the loops, before the fast path
	for _, n := range queuesOf(d.lanes) {
		if err := d.openQueue(ctx, n); err != nil {
			return err
		}
	}
	d.openStandIn()
	return nil
}

func (i *inspection) netfilterNumber() uint16 { return bridge.QueueNumber(i.number) }

func (d *daemon) openQueue(ctx context.Context, number datapath.Queue) error {
	source := newFlows(d.path)
	asked := &pulsing{FlowSource: source}
	i := &inspection{
		number: number, lanes: d.lanes, path: d.path, watch: d.watch, haste: d.haste, injector: d.injector, records: d.records, log: d.log,
		flows: source, asked: asked, adoption: d.settings.AdoptionWindow,
		pipeline: inspect.New(inspect.Config{Flows: asked, Counters: d.counters, Common: d.common, IO: d.pinholes}),
	}
	i.pipeline.AdoptUntil(time.Now().Add(i.adoption))
	err := d.line.Do(func() (err error) {
		i.queue, err = openSoon(queue.Config{
			Number: i.netfilterNumber(), MaxLength: d.settings.QueueLength, Beat: i.beat,
			Answered: d.path.Progress(number).Answered, Shared: number.Opens(), Log: d.log,
		})
		return err
	})
	if err != nil {
		return err
	}
	d.inspections = append(d.inspections, i)
	d.onClose(i.queue.Close)
	d.background(func() error {
		if err := i.run(ctx); err != nil {
			return fmt.Errorf("inspection through queue %d ended: %w", i.netfilterNumber(), err)
		}
		return nil
	})
	return nil
}

// openSoon opens a queue that the stand-in of a daemon before may still hold for a moment.
func openSoon(c queue.Config) (*queue.Queue, error) {
	for deadline := time.Now().Add(inspectionTimeout); ; time.Sleep(standInPause) {
		q, err := queue.Open(c)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return q, err
		}
	}
}

// awaitInspection waits until all verdict loops have shown themselves, which they do once the
// kernel hands them packets: the ports may only follow then.
func (d *daemon) awaitInspection(ctx context.Context) error {
	deadline := time.Now().Add(inspectionTimeout)
	for !d.allInspecting(false) || !d.allInspecting(true) {
		select {
		case err := <-d.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("start inspection: the verdict loops have not begun within %v", inspectionTimeout)
		}
	}
	return nil
}

// observe starts what watches: the copies of observed frames, the fast path's events, the sweep
// of idle flows.
func (d *daemon) observe(context.Context) error {
	tap, err := d.path.Tap()
	if err != nil {
		return err
	}
	d.onClose(tap.Close)
	d.observation = &observation{
		tap: tap, records: d.records,
		pipeline: inspect.New(inspect.Config{Flows: newFlows(d.path), Counters: d.counters, Common: d.common.ForObserver(), IO: d.pinholes}),
	}
	d.background(d.observation.run)

	if d.events, err = d.path.Events(); err != nil {
		return err
	}
	d.onClose(d.events.Close)
	d.background(d.readEvents)
	d.background(d.sweepFlows)
	d.background(d.sweepIO)
	return nil
}

// background runs f until the daemon ends; an error of f ends the daemon.
func (d *daemon) background(f func() error) {
	d.group.Add(1)
	go func() {
		defer d.group.Done()
		if err := f(); err != nil {
			select {
			case d.failed <- err:
			default:
			}
		}
	}()
}

func (d *daemon) readEvents() error {
	for {
		e, err := d.events.Read()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Verdict.Reason == verdict.ReasonNoVerdict {
			d.lookNow()
			continue
		}
		told := d.records.frameEvent(&e)
		d.inventory.saw(&e, &told)
		d.bus.Publish(told)
	}
}

// sweepFlows removes idle flows, and writes down what was counted, which a crash would else take
// along. What fails is told once a minute and tried again: the line does not depend on it.
func (d *daemon) sweepFlows() error {
	tick := time.NewTicker(flowSweepInterval)
	defer tick.Stop()
	var told time.Time
	for {
		select {
		case <-d.done:
			return nil
		case now := <-tick.C:
			_, _, err := d.path.Sweep()
			if err = errors.Join(err, d.keepMessages()); err != nil && now.Sub(told) > time.Minute {
				told = now
				d.log.Warn("idle flows could not be removed, or counters kept", "error", err)
			}
		}
	}
}
