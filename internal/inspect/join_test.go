package inspect

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// joining returns a wire whose connection was opened before the pipeline began.
func joining(t *testing.T, plan *policy.Plan) *wire {
	w := newWire(t, plan)
	w.seq = [2]uint32{5000, 6000}
	w.first = [2]uint32{stream.FromInitiator: 6000, stream.FromResponder: 5000}
	w.pipeline.AdoptUntil(clock.Add(30 * time.Second))
	return w
}

func TestEvasion08_PollLoopSurvivesTheStart(t *testing.T) {
	t.Run("joined at a request", func(t *testing.T) {
		w := joining(t, readPlan(t, policy.DenyReset))
		for i := range uint16(5) {
			w.client(readRequest(i))
			w.mustAllow("request")
			w.device(readReply(i))
			w.mustAllow("reply")
		}
		w.device(readReply(4))
		w.mustDeny("unsolicited, after a reply has matched", verdict.ReasonUnsolicitedReply)
	})
	t.Run("joined at a reply", func(t *testing.T) {
		w := joining(t, readPlan(t, policy.DenyReset))
		w.device(readReply(77))
		w.mustAllow("reply to a request from before")
		w.client(readRequest(78))
		w.mustAllow("request")
		w.device(readReply(78))
		w.mustAllow("reply")
		w.client(writeRequest(79))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	})
	t.Run("joined at an acknowledgment", func(t *testing.T) {
		w := joining(t, readPlan(t, policy.DenyReset))
		w.send(stream.FromInitiator, segment{})
		w.mustAllow("acknowledgment")
		w.client(readRequest(1))
		w.device(readReply(1))
		w.mustAllow("reply")
	})
	t.Run("a denied write is the first", func(t *testing.T) {
		w := joining(t, readPlan(t, policy.DenyReset))
		j := w.client(writeRequest(1))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
		if len(j.Resets) != 2 {
			t.Errorf("%d resets", len(j.Resets))
		}
		w.mustNotArrive("write", 0, writeRequest(1))
	})
}

func TestEvasion08_NeverGuessesABoundary(t *testing.T) {
	write := writeRequest(1)
	for cut := 1; cut < len(write); cut++ {
		w := joining(t, readPlan(t, policy.DenyReset))
		w.seq[0] += uint32(cut) // its head left before the start
		tail := w.packet(stream.FromInitiator, segment{payload: write[cut:]})
		for range 3 {
			w.deliver(stream.FromInitiator, tail)
			w.mustDeny("tail of a write", verdict.ReasonResynchronising)
			if w.ended {
				t.Fatal("ended too early")
			}
		}
		j := w.deliver(stream.FromInitiator, tail)
		if !j.Ended || len(j.Resets) != 2 {
			t.Errorf("cut %d: after four tries ended %v with %d resets", cut, j.Ended, len(j.Resets))
		}
		w.mustNotArrive("write", 0, write)
	}
	// A read that is not alone in its segment is no boundary either.
	w := joining(t, readPlan(t, policy.DenyReset))
	w.client(join([]byte{0, 8}, readRequest(2)))
	w.mustDeny("a read behind two bytes", verdict.ReasonResynchronising)
}

// TestEvasion08_ResetInsteadOfJoining: a conduit may ask for connections from before the start to end,
// so that no head of a message from then is there to be completed.
func TestEvasion08_ResetInsteadOfJoining(t *testing.T) {
	for _, onDeny := range []policy.OnDeny{policy.DenyDrop, policy.DenyReset, policy.DenyException} {
		plan := readPlan(t, onDeny)
		plan.Conduits[1].OnJoin = policy.JoinReset
		w := joining(t, plan)
		j := w.client(readRequest(1))
		w.mustDeny("a read on a connection from before", verdict.ReasonTCPState)
		resetsAreValid2(t, w, j)
		w.device(readReply(1))
		w.mustDeny("its device's reply", verdict.ReasonTCPState)
		flow := w.flows.table[testKey]
		flow.Adopted = true
		w.flows.table[testKey] = flow
		w.client(readRequest(1))
		w.mustDeny("a flow that the fast path adopted", verdict.ReasonTCPState)
		w.handshake()
		w.client(readRequest(2))
		w.mustAllow("a read on a new connection")
	}
}

func TestNoConnectionIsJoinedLater(t *testing.T) {
	w := joining(t, readPlan(t, policy.DenyReset))
	w.now = clock.Add(time.Minute)
	j := w.client(readRequest(1))
	w.mustDeny("after the window", verdict.ReasonTCPState)
	resetsAreValid2(t, w, j)
	flow := w.flows.table[testKey]
	flow.Adopted = true
	w.flows.table[testKey] = flow
	w.client(readRequest(2))
	w.mustAllow("a flow that the fast path adopted")
}

// resetsAreValid2 checks resets of a connection that is not followed: the sender expects next
// what it acknowledged, the receiver what was sent.
func resetsAreValid2(t *testing.T, w *wire, j Judgement) {
	t.Helper()
	if len(j.Resets) != 2 || j.Resets[0].To != policy.SideB || j.Resets[1].To != policy.SideA {
		t.Fatalf("resets: %+v", j.Resets)
	}
}

func TestPlanChange(t *testing.T) {
	t.Run("connections that it permits live on under its rules", func(t *testing.T) {
		w := connected(t, permitAll(t))
		w.client(writeRequest(1))
		w.device(mbap(1, 1, 16, 0, 100, 0, 2))
		w.mustAllow("write")
		flow := w.flows.table[testKey]
		flow.Plan = readPlan(t, policy.DenyReset)
		w.flows.table[testKey], w.flows.generation = flow, 2
		w.client(readRequest(2))
		w.mustAllow("read")
		w.client(writeRequest(3))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	})
	t.Run("connections that it forbids end with their next packet", func(t *testing.T) {
		w := connected(t, permitAll(t))
		w.client(readRequest(1))
		delete(w.flows.table, testKey)
		w.flows.generation = 2
		j := w.device(readReply(1))
		w.mustDeny("reply", verdict.ReasonNoConduit)
		if !j.Ended || len(j.Resets) != 2 {
			t.Errorf("ended %v, %d resets", j.Ended, len(j.Resets))
		}
		w.client(readRequest(2))
		w.mustDeny("afterwards", verdict.ReasonNoConduit)
	})
	t.Run("and without one, by the next sweep", func(t *testing.T) {
		w := connected(t, permitAll(t))
		delete(w.flows.table, testKey)
		w.flows.generation = 2
		var ended []uint64
		w.pipeline.Sweep(w.now, func(e *Ended) {
			ended = append(ended, e.Key)
			if len(e.Resets) != 2 || e.Flow.Conduit != 1 {
				t.Errorf("%d resets, flow %+v", len(e.Resets), e.Flow)
			}
		})
		if len(ended) != 1 || w.pipeline.Counters().Connections.Load() != 0 {
			t.Errorf("ended %v", ended)
		}
	})
	t.Run("from observe to enforce", func(t *testing.T) {
		w := newWire(t, readPlan(t, policy.DenyReset))
		w.observed = true
		w.handshake()
		w.client(readRequest(1))
		w.observed = false
		w.device(readReply(1))
		w.mustAllow("reply")
		w.client(readRequest(2))
		w.mustAllow("read")
		w.client(writeRequest(3))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	})
}

func TestSweepForgetsTheIdle(t *testing.T) {
	w := connected(t, permitAll(t))
	w.pipeline.Sweep(w.now.Add(time.Hour), nil)
	if w.pipeline.Counters().Connections.Load() != 1 {
		t.Error("an open connection was forgotten within its limit")
	}
	w.pipeline.Sweep(w.now.Add(3*time.Hour), nil)
	if w.pipeline.Counters().Connections.Load() != 0 {
		t.Error("it is still there")
	}
}
