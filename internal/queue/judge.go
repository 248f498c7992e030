package queue

import (
	"log/slog"
	"runtime/debug"
)

// minPayload is the shortest edit that can be an IP packet. The kernel would cut a packet down
// to anything shorter without complaint.
const minPayload = 20

// judge asks the handler, survives it, and turns what it said into what can be done.
type judge struct {
	handle Handler
	counts *counters
	log    *slog.Logger
	logged bool
}

// decide returns the answer to give for a packet. If its Payload is not nil it can be sent.
func (j *judge) decide(p *Packet) Answer {
	truncated := p.Truncated // the handler may write to the packet
	a := j.ask(p)
	if a.Accept && a.Payload != nil && !editable(a.Payload, truncated) {
		j.counts.badEdits.Add(1)
		a = Answer{}
	}
	switch {
	case !a.Accept:
		j.counts.dropped.Add(1)
		return Answer{}
	case a.Payload != nil:
		j.counts.edited.Add(1)
	}
	j.counts.accepted.Add(1)
	return a
}

// editable reports whether a packet may be replaced by this one. The kernel makes the packet as
// long as the edit, so an edit of a truncated packet would cut off what nobody has seen.
func editable(payload []byte, truncated bool) bool {
	return !truncated && len(payload) >= minPayload && len(payload) <= maxPayload
}

// ask returns the handler's answer, or a drop if it panics. What makes a handler panic may come
// again with each packet, so only the first panic is logged.
func (j *judge) ask(p *Packet) (a Answer) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		a = Answer{}
		j.counts.panics.Add(1)
		if !j.logged {
			j.logged = true
			j.log.Error("a packet handler panicked and its packet is dropped; more such panics are only counted",
				"cause", cause, "stack", string(debug.Stack()))
		}
	}()
	return j.handle(p)
}
