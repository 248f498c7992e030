package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/queue"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const (
	// sweepInterval is how often a verdict loop forgets what is idle.
	sweepInterval = time.Second
	// beatInterval is how often a loop that works shows its heartbeat: with each packet it would cost as
	// much as looking up the packet's connection, and the time-out is a hundred times as long.
	beatInterval = time.Millisecond
)

// inspection is one verdict loop: a queue, the pipeline that judges its packets, and what the
// pipeline wants sent. Everything but the counters belongs to the loop's goroutine.
type inspection struct {
	number   datapath.Queue
	lanes    int // of the appliance
	queue    *queue.Queue
	pipeline *inspect.Pipeline
	path     *datapath.Datapath
	watch    *watch
	haste    *haste
	injector *bridge.Injector
	flows    *flows
	asked    *pulsing // flows as the pipeline asks for them
	records  *recorder
	log      *slog.Logger

	packet     inspect.Packet
	limit      limiter
	swept      time.Time
	beaten     time.Time // when the loop last showed itself
	doubt      time.Time // until when packets may be of before an outage
	unfinished bool      // the last sweep has not come round to every connection
	generation uint32    // of the policy, when the pipeline last swept
	plan       *policy.Plan
	adoption   time.Duration
	complained time.Time // of a reset that could not be sent

	trial  atomic.Pointer[trial] // a self-test that runs, nil otherwise
	adopts atomic.Bool           // connections may be joined in mid-stream again

	injected, notInjected atomic.Uint64
	misled                atomic.Uint64 // packets that belong into another queue
}

// run judges packets until ctx ends. The heartbeat is the loop's own, so that a handler that
// hangs shows.
func (i *inspection) run(ctx context.Context) error {
	defer i.path.Rest(i.number)
	return i.queue.Run(ctx, i.judge)
}

// beat is called by the loop after each batch and when it is idle, with the time when that began.
func (i *inspection) beat(now time.Time) {
	pause := now.Sub(i.beaten)
	if pause < beatInterval {
		return
	}
	i.beatAt(now)
	if pause > tooLate && !i.beaten.IsZero() {
		i.haste.make(pause)
		i.doubtAfter(pause, now)
	}
	i.beaten = now
	if i.adopts.CompareAndSwap(true, false) {
		i.pipeline.AdoptUntil(now.Add(i.adoption))
	}
	generation := i.path.Generation()
	if generation == i.generation && !i.unfinished && now.Sub(i.swept) < sweepInterval {
		return
	}
	if generation != i.generation {
		plan, _, _ := i.path.Plan(generation)
		if holdsMore(i.plan, plan) {
			i.pipeline.AdoptUntil(now.Add(i.adoption))
		}
		i.plan = plan
	}
	i.swept, i.generation = now, generation
	i.asked.alive = i.pulse
	i.unfinished = !i.pipeline.Sweep(now, func(e *inspect.Ended) { i.ended(now, e) })
	i.asked.alive = nil
	i.beaten = time.Now()
}

// pulse is the heartbeat itself.
func (i *inspection) pulse() { i.beatAt(time.Now()) }

func (i *inspection) beatAt(now time.Time) {
	if i.number.Opens() {
		i.watch.beat(i.number, time.Now()) // later than that by what has been judged since
	} else {
		i.path.BeatAt(i.number, now)
	}
}

// holdsMore reports whether a plan has a conduit whose connections may be under way and new to their
// verdict loop, because it was not inspected, not enforced or in the other queue before. Any other
// change of policy is no reason to join connections in mid-stream: the loop knows all there are,
// and a client that had one forgotten in the middle of a message could finish it as another.
func holdsMore(before, now *policy.Plan) bool {
	if before == nil || now == nil {
		return true
	}
	held := map[string]policy.OnOutage{}
	for i := range before.Conduits {
		if c := &before.Conduits[i]; holds(c) {
			held[c.Name] = c.OnOutage
		}
	}
	for i := range now.Conduits {
		c := &now.Conduits[i]
		if queue, ok := held[c.Name]; holds(c) && (!ok || queue != c.OnOutage) {
			return true
		}
	}
	return false
}

func holds(c *policy.Conduit) bool {
	return c.Inspect && c.Mode == policy.Enforce
}

// ended ends a connection, because the policy no longer permits it or its device owes an answer: both
// ends are told.
func (i *inspection) ended(now time.Time, e *inspect.Ended) {
	w, ok := i.flows.look(uint32(e.Key))
	if ok {
		if plan, _, known := i.path.Plan(i.path.Generation()); known && forgotten(plan, e, &w) {
			return
		}
		i.inject(&w, e.Resets)
		i.records.ended(now, e, &w)
		return
	}
	i.notInjected.Add(uint64(len(e.Resets)))
	i.records.ended(now, e, nil)
}

// forgotten reports whether a connection is over only in the pipeline's books: the fast path has
// let go of its slot, because its ends closed it or because it goes on under another one after an
// outage, and the policy permits it as before. Nobody is told, least of all the ends.
func forgotten(plan *policy.Plan, e *inspect.Ended, w *datapath.Flow) bool {
	d := plan.Decide(headerOf(w))
	return e.Reason == verdict.ReasonNoConduit && d.Verdict.Action == verdict.Inspect && w.Initiator == e.Flow.Initiator &&
		plan.Conduits[d.Conduit].Protocol == e.Flow.Plan.Conduits[e.Flow.Conduit].Protocol
}

// judge answers one packet. One of another lane's flow, which the rule led here, is dropped: its
// connection is followed elsewhere.
func (i *inspection) judge(p *queue.Packet) queue.Answer {
	if answer, ok := i.trial.Load().answers(p); ok {
		return answer
	}
	if mark.QueueOf(p.Mark, i.lanes) != i.number {
		i.misled.Add(1)
		return queue.Answer{}
	}
	if i.overtaken(p) {
		return queue.Answer{}
	}
	i.packet = inspect.Packet{
		Time:             p.Received,
		Key:              uint64(mark.Key(p.Mark)),
		From:             sideOf(p.Mark),
		IP:               p.Payload,
		ChecksumNotReady: p.ChecksumNotReady,
	}
	j := i.pipeline.Judge(&i.packet)
	if len(j.Resets) > 0 {
		i.send(mark.Key(p.Mark), j.Resets)
	}
	i.records.judgement(&i.limit, &i.packet, &j)
	return queue.Answer{Accept: j.Verdict.Allows(), Mark: permitted(p.Mark, j.Stage), Payload: j.Payload}
}

// permitted is the mark with which a packet may leave that came with another. What its connection has come to the fast
// path has from there: it sees each RST, and not which one counts.
func permitted(came uint32, stage inspect.Stage) uint32 {
	m := mark.Permitted | mark.Key(came)
	switch stage {
	case inspect.StageOpening:
		m |= mark.Opens
	case inspect.StageClosed:
		m |= mark.Closed
	case inspect.StageReset:
		m |= mark.Resets
	}
	return m
}

// doubtful is for how long after an outage a queue may still hold packets of before.
const doubtful = time.Second

func (i *inspection) doubtAfter(pause time.Duration, now time.Time) {
	if pause > i.watch.timeout {
		i.doubt = now.Add(doubtful)
	}
}

// overtaken reports whether a packet has waited through an outage in which its flow went on uninspected.
// It went on itself, or its sender has repeated it: nothing of it can be denied any more, and whoever
// judged it would tell of a denial that was none.
func (i *inspection) overtaken(p *queue.Packet) bool {
	i.doubtAfter(p.Received.Sub(i.beaten), p.Received)
	return i.number.Opens() && p.Received.Before(i.doubt) && i.path.Overtaken(mark.Key(p.Mark))
}

func sideOf(m uint32) policy.Side {
	if m&mark.SideB != 0 {
		return policy.SideB
	}
	return policy.SideA
}

// send puts packets of ours on the wire, in the frames of the flow that they belong to.
func (i *inspection) send(key uint32, resets []inspect.Reset) {
	w, ok := i.flows.look(key)
	if !ok {
		i.notInjected.Add(uint64(len(resets)))
		return
	}
	i.inject(&w, resets)
}

func (i *inspection) inject(w *datapath.Flow, resets []inspect.Reset) {
	for _, r := range resets {
		if err := i.injector.Send(r.To, frameTo(w, r.To, r.IP)); err != nil {
			i.notInjected.Add(1)
			i.complain(err)
			continue
		}
		i.injected.Add(1)
	}
}

// complaintInterval keeps a port that is down from filling the log, which the loop waits for: a
// stranger's every segment asks for resets.
const complaintInterval = time.Minute

func (i *inspection) complain(err error) {
	now := time.Now()
	if !i.complained.IsZero() && now.Sub(i.complained) < complaintInterval {
		return
	}
	i.complained = now
	i.log.Warn("resets could not be sent", "error", err, "so far", i.notInjected.Load())
}
