package inspect

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// The head of a message that may still be a read, and a permitted read that, behind this head, is
// write_single_register of register 0: unit 1, function 6, address 0, value 6.
var (
	headOfWrite = []byte{0x00, 0x09, 0x00, 0x00, 0x00, 0x06}
	tailOfWrite = mbap(0x0106, 1, 3, 0, 40, 0, 2)
)

// deviceWrote reports whether the first request that reached the device is a write.
func deviceWrote(w *wire) bool {
	var r modbus.Request
	n, err := modbus.ParseRequest(w.got(stream.FromResponder), &r)
	return err == nil && n > 0 && r.Function == modbus.WriteSingleRegister
}

// endedBehindHead returns a wire whose connection was ended without a word to its device, which has
// the head of a message.
func endedBehindHead(t *testing.T) *wire {
	w := connected(t, readPlan(t, policy.DenyDrop))
	w.client(headOfWrite)
	w.mustAllow("head")
	w.send(stream.FromInitiator, segment{payload: []byte{1, 6, 0, 0, 0, 1}, keep: true})
	w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	return w
}

func TestEvasion08_WhatWasFollowedIsNotJoined(t *testing.T) {
	for name, forget := range map[string]func(w *wire){
		"idle": func(w *wire) {
			w.now = w.now.Add(6 * time.Minute)
			w.pipeline.Sweep(w.now, nil)
		},
		"idle, and long ago": func(w *wire) {
			for range 10 {
				w.now = w.now.Add(time.Hour)
				w.pipeline.Sweep(w.now, nil)
			}
		},
		"forbidden for a while": func(w *wire) {
			flow := w.flows.table[testKey]
			delete(w.flows.table, testKey)
			w.flows.generation++
			for range 3 {
				w.now = w.now.Add(time.Minute)
				w.pipeline.Sweep(w.now, nil)
			}
			w.flows.table[testKey] = flow
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := endedBehindHead(t)
			forget(w)
			if n := w.pipeline.counters.Connections.Load(); n != 0 {
				t.Fatalf("%d connections are held", n)
			}
			w.flows.generation++
			w.pipeline.AdoptUntil(w.now.Add(30 * time.Second))
			flow := w.flows.table[testKey]
			flow.Adopted = true
			w.flows.table[testKey] = flow
			w.client(tailOfWrite)
			w.mustDeny("the rest of it", verdict.ReasonTCPState)
			if deviceWrote(w) {
				t.Error("the device executed a write that the policy denies")
			}
			w.send(stream.FromInitiator, segment{flags: frame.FlagSYN})
			w.mustAllow("a connection that begins anew")
		})
	}
}

func TestPastIsBounded(t *testing.T) {
	w := endedBehindHead(t)
	w.pipeline.past.limit = 1
	w.pipeline.past.add(99, w.now)
	w.pipeline.Sweep(w.now.Add(6*time.Minute), nil)
	if n := w.pipeline.counters.Connections.Load(); n != 0 {
		t.Errorf("%d connections, though the other key has made room", n)
	}
	w = endedBehindHead(t)
	w.pipeline.past.limit = 1
	w.flows.table[99] = w.flows.table[testKey]
	w.pipeline.past.add(99, w.now)
	w.pipeline.Sweep(w.now.Add(6*time.Minute), nil)
	if n := w.pipeline.counters.Connections.Load(); n != 1 {
		t.Error("forgotten, and nothing remembers its key")
	}
}

func TestPastForgetsInSlices(t *testing.T) {
	p, source := newPast(1000), &flows{table: map[uint64]Flow{500: {}}}
	for key := range uint64(1000) {
		p.add(key, clock)
	}
	for n := 0; len(p.list) > 1; n++ {
		if n > 1000/pastSlice+1 {
			t.Fatalf("%d keys left", len(p.list))
		}
		p.sweep(clock.Add(time.Second), source)
	}
	if !p.has(500) || len(p.places) != 1 {
		t.Error("the one that the flow source knows is gone")
	}
}
