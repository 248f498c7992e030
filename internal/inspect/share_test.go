package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

func TestOneIdentityCannotFillTheTable(t *testing.T) {
	w := newWire(t, readPlan(t, policy.DenyReset))
	w.pipeline = New(Config{Flows: w.flows, Limits: Limits{Connections: 64}})
	flow := w.flows.table[testKey]
	open := func(key uint64, f Flow) {
		w.key, w.flows.table[key] = key, f
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, keep: true})
	}
	for key := range uint64(16) {
		open(100+key, flow)
		w.mustAllow("a SYN within the share")
	}
	open(116, flow)
	w.mustDeny("one beyond it", verdict.ReasonTableFull)
	other := flow
	other.Source = 3
	open(500, other)
	w.mustAllow("another identity's SYN")

	w.pipeline.remove(w.pipeline.connections[100])
	open(116, flow)
	w.mustAllow("once there is room")
	for _, c := range w.pipeline.connections {
		w.pipeline.remove(c)
	}
	if len(w.pipeline.common.shares) != 0 {
		t.Errorf("%d shares of no connection", len(w.pipeline.common.shares))
	}
}

func TestOneIdentityCannotFillThePoolOfRequests(t *testing.T) {
	w := newWire(t, readPlan(t, policy.DenyReset))
	w.pipeline = New(Config{Flows: w.flows, Limits: Limits{AllRequests: 8}})
	w.handshake()
	w.client(readRequest(1), readRequest(2))
	w.mustAllow("two, a quarter")
	w.send(stream.FromInitiator, segment{payload: readRequest(3), keep: true})
	w.mustDeny("a third", verdict.ReasonTableFull)

	first := *w // another identity's connection has its own
	w.key = testKey + 1
	flow := w.flows.table[testKey]
	flow.Source = 3
	w.flows.table[w.key] = flow
	w.handshake()
	w.client(readRequest(1), readRequest(2))
	w.mustAllow("those of another identity")

	w.key, w.seq, w.received = first.key, first.seq, first.received
	w.device(readReply(1))
	w.client(readRequest(3))
	w.mustAllow("the third, once there is room")
}
