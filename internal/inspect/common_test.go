package inspect

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// sideBySide returns wires whose pipelines share a Common, each with a connection of its own.
func sideBySide(t *testing.T, n int, plan *policy.Plan, l Limits) []*wire {
	t.Helper()
	common := NewCommon(l)
	list := make([]*wire, n)
	for i := range list {
		list[i] = newWire(t, plan)
		list[i].pipeline = New(Config{Flows: list[i].flows, Common: common})
	}
	return list
}

// TestRateHoldsOverAllLanes: a rule's rate is one for all pipelines that judge side by side, also
// when they judge at the same moment.
func TestRateHoldsOverAllLanes(t *testing.T) {
	const lanes, perSecond = 4, 50
	plan := rulesPlan(t, policy.DenyDrop, `{functions: [read], units: [1], rate: 50/s}`)
	wires := sideBySide(t, lanes, plan, Limits{})
	for _, w := range wires {
		w.handshake()
	}
	var allowed atomic.Int64
	var group sync.WaitGroup
	for _, w := range wires {
		group.Go(func() {
			for i := range uint16(perSecond) {
				if w.client(readRequest(i)); w.last.Verdict.Allows() {
					allowed.Add(1)
				} else if w.last.Verdict.Reason != verdict.ReasonRateExceeded {
					t.Errorf("denied as %v", w.last.Verdict.Reason)
				}
				if w.ended {
					return
				}
			}
		})
	}
	group.Wait()
	if n := allowed.Load(); n != perSecond {
		t.Errorf("%d requests passed at a rate of %d a second", n, perSecond)
	}
}

// TestPlanBeforeKeepsItsRates: pipelines come to a new plan one after the other, and the one that is
// late does not refill what the rules of the old plan have left.
func TestPlanBeforeKeepsItsRates(t *testing.T) {
	const rule = `{functions: [read], units: [1], rate: 50/s}`
	c := NewCommon(Limits{})
	before, now := rulesPlan(t, policy.DenyDrop, rule), rulesPlan(t, policy.DenyDrop, rule)
	first := c.ratesOf(before)
	second := c.ratesOf(now)
	if first == second || c.ratesOf(before) != first || c.ratesOf(now) != second {
		t.Error("the rates of a plan were made anew")
	}
}

// TestLimitsAreForAllLanes: connections, requests and bytes are bounded over pipelines that judge
// side by side, and so is an identity's share of them.
func TestLimitsAreForAllLanes(t *testing.T) {
	t.Run("connections", func(t *testing.T) {
		wires := sideBySide(t, 2, readPlan(t, policy.DenyReset), Limits{Connections: 64})
		open := func(w *wire, source uint32, key uint64) {
			flow := w.flows.table[testKey]
			flow.Source = source
			w.key, w.flows.table[key] = key, flow
			w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, keep: true})
		}
		for i := range uint64(16) {
			open(wires[i%2], 1, 100+i)
			wires[i%2].mustAllow("a SYN within the share")
		}
		for _, w := range wires {
			open(w, 1, 200)
			w.mustDeny("one beyond it", verdict.ReasonTableFull)
		}
		for i := range uint64(48) { // three other identities fill the table
			w := wires[i%2]
			open(w, 10+uint32(i/16), 300+i)
			w.mustAllow("another identity's SYN")
		}
		open(wires[0], 99, 400)
		wires[0].mustDeny("a full table", verdict.ReasonTableFull)
		wires[1].pipeline.remove(wires[1].pipeline.connections[101])
		open(wires[0], 99, 400)
		wires[0].mustAllow("once the other lane has room")
	})
	t.Run("requests", func(t *testing.T) {
		wires := sideBySide(t, 2, readPlan(t, policy.DenyReset), Limits{AllRequests: 8})
		for _, w := range wires {
			w.handshake()
			w.client(readRequest(1))
			w.mustAllow("one each, a quarter together")
		}
		wires[0].send(stream.FromInitiator, segment{payload: readRequest(2), keep: true})
		wires[0].mustDeny("a third", verdict.ReasonTableFull)
		wires[1].device(readReply(1))
		wires[0].client(readRequest(2))
		wires[0].mustAllow("the third, once there is room")
	})
	t.Run("bytes", func(t *testing.T) {
		wires := sideBySide(t, 2, readPlan(t, policy.DenyReset), Limits{StreamBytes: 4096})
		for _, w := range wires { // the beginning of a request holds a buffer of 512 bytes
			w.handshake()
			w.client(readRequest(1)[:7])
			w.mustAllow("the beginning of a request")
		}
		w := wires[0]
		w.key = testKey + 1
		w.flows.table[w.key] = w.flows.table[testKey]
		w.handshake()
		w.send(stream.FromInitiator, segment{payload: readRequest(1), keep: true})
		w.mustDeny("a third of the identity's share", verdict.ReasonTableFull)
		flow := w.flows.table[testKey]
		flow.Source = 3
		w.key = testKey + 2
		w.flows.table[w.key] = flow
		w.handshake()
		w.client(readRequest(1))
		w.mustAllow("another identity's")
		for _, w := range wires {
			for _, c := range w.pipeline.connections {
				w.pipeline.remove(c)
			}
		}
		if n := w.pipeline.common.memory.Used(); n != 0 {
			t.Errorf("%d bytes are held for no connection", n)
		}
	})
}

// TestAdversariesSlowNoOther: one identity opens as many connections as it may and sends garbage,
// halves of messages, and requests whose replies nobody acknowledges. Another one's polls take what
// they take of another pipeline in which it is alone, and what is held stays within the identity's
// share. Time is the thread's own on a processor, so that it is the same on a busy machine.
func TestAdversariesSlowNoOther(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	limits := Limits{Connections: 4096, StreamBytes: 4 << 20, AllRequests: 8192}
	w := newWire(t, readPlan(t, policy.DenyReset))
	w.pipeline = New(Config{Flows: w.flows, Limits: limits})
	victim := w.flows.table[testKey]
	victim.Source = 3
	w.flows.table[testKey] = victim
	w.handshake()
	lawful := *w
	attack := func(key uint64, between func()) {
		flow := victim
		flow.Source = 1
		w.key, w.flows.table[key] = key, flow
		w.listen()
		for i, s := range []segment{
			{flags: frame.FlagSYN}, {flags: frame.FlagSYN | frame.FlagACK}, {flags: frame.FlagACK},
		} {
			w.send(stream.Direction(i%2), s)
		}
		switch key % 3 {
		case 0: // garbage
			w.client(make([]byte, 1000))
		case 1: // halves
			w.client(readRequest(1)[:7])
			w.device(readReply(1)[:6])
		case 2: // a reply that nobody acknowledges, and its repetitions
			w.client(readRequest(1))
			for range 3 {
				w.send(stream.FromResponder, segment{payload: readReply(1), ackAt: -12, keep: true})
			}
		}
		between()
	}
	ask := func(w *wire, transaction uint16) time.Duration {
		began := onProcessor(t)
		w.client(readRequest(transaction))
		w.mustAllow("a poll")
		w.device(readReply(transaction))
		w.mustAllow("its reply")
		return onProcessor(t) - began
	}
	peaceful := connected(t, readPlan(t, policy.DenyReset))
	var alone, attacked []time.Duration
	poll := func(transaction uint16) {
		w.key, w.seq, w.received = testKey, lawful.seq, lawful.received
		attacked = append(attacked, ask(w, transaction))
		lawful.seq = w.seq
		alone = append(alone, ask(peaceful, transaction))
	}
	for key := range uint64(3000) {
		attack(1000+key, func() { poll(uint16(key)) })
	}
	if n, most := w.pipeline.common.memory.Used(), limits.StreamBytes/2; n > most {
		t.Errorf("%d bytes are held, want at most %d", n, most)
	}
	if n := w.pipeline.Counters().Connections.Load(); n > int64(shareOf(limits.Connections))+1 {
		t.Errorf("%d connections are followed", n)
	}
	slices.Sort(alone)
	slices.Sort(attacked)
	if slowest := attacked[len(attacked)-1]; slowest > 100*time.Millisecond {
		t.Errorf("a poll took %v", slowest)
	}
	if usual, want := attacked[len(attacked)/2], 10*alone[len(alone)/2]; usual > want {
		t.Errorf("a poll usually took %v, want at most %v, ten times what it takes alone", usual, want)
	}
}

// onProcessor is for how long the calling thread has run.
func onProcessor(t *testing.T) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
