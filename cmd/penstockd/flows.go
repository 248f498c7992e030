package main

import (
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// flows tells a pipeline what the fast path knows of a flow, and remembers it, because a flow's
// ends are still told of its end when the fast path has forgotten it. It belongs to one verdict
// loop.
type flows struct {
	path  *datapath.Datapath
	known map[uint32]datapath.Flow // by slot, so that it is bounded as the slots are
}

func newFlows(path *datapath.Datapath) *flows {
	return &flows{path: path, known: map[uint32]datapath.Flow{}}
}

// look returns what is known of a flow: from the fast path, else from memory.
func (s *flows) look(key uint32) (datapath.Flow, bool) {
	if w, ok := s.path.FlowByKey(key); ok {
		s.known[key&mark.SlotMask] = w
		return w, true
	}
	w, ok := s.known[key&mark.SlotMask]
	return w, ok && w.Key == key
}

// Generation implements inspect.FlowSource.
func (s *flows) Generation() uint64 { return uint64(s.path.Generation()) }

// Flow implements inspect.FlowSource. An entry that the fast path has not renewed since the
// policy changed, because no frame came meanwhile, is judged by the plan in force.
func (s *flows) Flow(key uint64) (inspect.Flow, bool) {
	w, ok := s.path.FlowByKey(uint32(key))
	if !ok {
		return inspect.Flow{}, false
	}
	s.known[w.Key&mark.SlotMask] = w
	generation := s.path.Generation()
	plan, _, ok := s.path.Plan(generation)
	if !ok {
		return inspect.Flow{}, false
	}
	f := inspect.Flow{
		Plan: plan, Conduit: w.Conduit, Source: w.Source, Destination: w.Destination,
		Initiator: w.Initiator, Adopted: w.Adopted,
	}
	if w.Generation == generation {
		return f, true
	}
	d := plan.Decide(headerOf(&w))
	if d.Verdict.Action != verdict.Inspect {
		return inspect.Flow{}, false
	}
	f.Conduit, f.Source, f.Destination = d.Conduit, d.Source, d.Destination
	return f, true
}

// pulsing is a flow source that shows a heartbeat with each answer while alive is set. After a change
// of policy a sweep asks for every connection there is, two look-ups in the kernel each: with many
// of them for longer than a heartbeat may pause, and a loop that works is not an outage.
type pulsing struct {
	inspect.FlowSource
	alive func()
}

func (p *pulsing) Flow(key uint64) (inspect.Flow, bool) {
	if p.alive != nil {
		p.alive()
	}
	return p.FlowSource.Flow(key)
}

// ends returns a flow's ends in the direction of its conduit.
func ends(w *datapath.Flow) (from, to datapath.End) {
	if w.Initiator == policy.SideA {
		return w.A, w.B
	}
	return w.B, w.A
}

// headerOf is what a frame of the flow's initiator looks like.
func headerOf(w *datapath.Flow) *policy.Header {
	from, to := ends(w)
	h := &policy.Header{
		Src: from.MAC, Dst: to.MAC, Side: w.Initiator, EtherType: 0x0800,
		SrcIP: from.Address, DstIP: to.Address, Protocol: w.Protocol,
		SrcPort: from.Port, DstPort: to.Port,
	}
	if from.Address.Is6() {
		h.EtherType = 0x86dd
	}
	for _, t := range w.Tags {
		h.Tags = append(h.Tags, policy.Tag{TPID: t.EtherType, TCI: t.Identifier})
	}
	return h
}

// frameTo wraps an IP packet of ours into the frame that one end of a flow would have got from
// the other.
func frameTo(w *datapath.Flow, side policy.Side, ip []byte) []byte {
	to, from := w.A, w.B
	if side == policy.SideB {
		to, from = from, to
	}
	etherType := uint16(0x0800)
	if len(ip) > 0 && ip[0]>>4 == 6 {
		etherType = 0x86dd
	}
	var tags []frame.Tag
	for _, t := range w.Tags {
		tags = append(tags, frame.Tag{TPID: t.EtherType, TCI: t.Identifier})
	}
	return frame.PrependEthernet(to.MAC, from.MAC, tags, etherType, ip)
}
