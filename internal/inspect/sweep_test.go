package inspect

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// The fast path lets go of a connection 10 s after both ends have sent a FIN, acknowledged or not.
func TestConnectionsDoNotOutliveTheirFlow(t *testing.T) {
	rows := map[string]struct {
		before func(w *wire)
		known  bool
		after  time.Duration
		held   int64
	}{
		"open, and gone":             {after: 31 * time.Second},
		"open, and just gone":        {after: 29 * time.Second, held: 1},
		"open, and there":            {after: time.Hour, known: true, held: 1},
		"half-closed, and gone":      {before: func(w *wire) { w.send(stream.FromInitiator, segment{flags: finAck}) }, after: 31 * time.Second},
		"both closed, and gone":      {before: closeBoth, after: 31 * time.Second},
		"both closed, and there":     {before: closeBoth, after: 31 * time.Second, known: true},
		"both closed, and for later": {before: closeBoth, after: 29 * time.Second, held: 1},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			w := connected(t, readPlan(t, policy.DenyReset))
			if row.before != nil {
				row.before(w)
			}
			if !row.known {
				delete(w.flows.table, testKey)
			}
			w.pipeline.Sweep(w.now.Add(row.after), func(e *Ended) { t.Errorf("told of it: %+v", e) })
			if n := w.pipeline.counters.Connections.Load(); n != row.held {
				t.Errorf("%d connections are held, want %d", n, row.held)
			}
		})
	}
}

func closeBoth(w *wire) {
	w.send(stream.FromInitiator, segment{flags: finAck})
	w.send(stream.FromResponder, segment{flags: finAck}) // never acknowledged
}

// counting is a flow source that counts how often it is asked.
type counting struct {
	*flows
	asked int
}

func (c *counting) Flow(key uint64) (Flow, bool) {
	c.asked++
	return c.flows.Flow(key)
}

// A plan change concerns every connection, and the heartbeat does not wait for all of them.
func TestSweepLooksAtASliceOfTheConnections(t *testing.T) {
	const connections = 3*sweepSlice + 5
	w := newWire(t, readPlan(t, policy.DenyReset))
	source := &counting{flows: w.flows}
	w.pipeline = New(Config{Flows: source})
	flow := w.flows.table[testKey]
	open := func(key uint64) {
		w.key, w.flows.table[key] = key, flow
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, keep: true})
		w.mustAllow("SYN")
	}
	for key := range uint64(connections) {
		open(1000 + key)
	}
	sweep := func(forbidden int) {
		t.Helper()
		told, calls := map[uint64]bool{}, 0
		for done := false; !done; calls++ {
			source.asked = 0
			done = w.pipeline.Sweep(w.now, func(e *Ended) { told[e.Key] = true })
			if source.asked > sweepSlice+pastSlice {
				t.Fatalf("one call asked for %d flows", source.asked)
			}
			if calls == 0 && forbidden == 0 { // what comes and goes meanwhile
				w.pipeline.remove(w.pipeline.list[3])
				w.pipeline.remove(w.pipeline.list[len(w.pipeline.list)-3])
				open(5000)
				open(5001)
			}
		}
		if calls != 4 || len(told) != forbidden {
			t.Errorf("%d calls told of %d connections", calls, len(told))
		}
		for _, c := range w.pipeline.list {
			if c.generation != w.flows.generation {
				t.Fatal("one was passed over")
			}
		}
	}
	w.flows.generation++
	sweep(0)
	for key := range uint64(connections) {
		if key%2 == 0 {
			delete(w.flows.table, 1000+key)
		}
	}
	forbidden := 0
	for _, c := range w.pipeline.list {
		if _, ok := w.flows.table[c.key]; !ok {
			forbidden++
		}
		if c.place >= len(w.pipeline.list) || w.pipeline.list[c.place] != c {
			t.Fatal("a connection has lost its place")
		}
	}
	delete(w.pipeline.latest, w.pipeline.list[0].ends) // all have the same ends here
	w.flows.generation++
	sweep(forbidden)
}
