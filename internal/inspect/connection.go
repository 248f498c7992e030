package inspect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// connection is what the pipeline keeps of one TCP connection, or of the UDP datagrams between two
// ends.
type connection struct {
	key        uint64
	flow       Flow
	generation uint64 // of the flow source when flow was asked for
	counters   *ConduitCounters
	stream     *stream.Conn // nil for datagrams
	session    session
	share      *share
	ends       [2]netip.AddrPort // by the direction in which they send
	observed   bool
	seen       time.Time
	asked      time.Time // when a sweep asked the flow source whether the flow is there
	place      int       // in the pipeline's list

	// whole are the sequence numbers at which segments end that were forwarded from flushFrom on,
	// while the device may flush; see cuts. The stream bounds them: none is acknowledged.
	whole     []uint32
	flushFrom uint32

	lost     [2]bool // of an observed connection: no message boundary is known
	refusals [2]int  // segments dropped one after another because none is known
}

// onDeny returns how the conduit wants denied operations refused.
func (c *connection) onDeny() policy.OnDeny { return c.flow.Plan.Conduits[c.flow.Conduit].OnDeny }

// noteWhole notes where a segment ends that was forwarded to a device that may flush: with a whole
// message, as the session sees to. before says that it may have flushed before this segment.
func (c *connection) noteWhole(s *stream.Segment, fresh int, before bool) {
	if !before {
		c.whole = c.whole[:0]
	}
	if !c.session.flushing() {
		return
	}
	end := s.Seq + uint32(len(s.Payload))
	if _, acked, _, ok := c.stream.ChallengeFor(stream.FromInitiator); ok {
		c.whole = slices.DeleteFunc(c.whole, func(e uint32) bool { return int32(e-acked) <= 0 })
	}
	if len(c.whole) == 0 {
		c.flushFrom = end - uint32(fresh)
	}
	c.whole = append(c.whole, end)
}

// cuts reports whether a repetition of what the initiator sent would give a device that may flush a
// piece of what was judged as a whole: it ends elsewhere than any of the segments did. What the
// device has acknowledged it does not take again.
func (c *connection) cuts(d stream.Direction, s *stream.Segment) bool {
	if d != stream.FromInitiator || len(s.Payload) == 0 || len(c.whole) == 0 || !c.session.flushing() {
		return false
	}
	end := s.Seq + uint32(len(s.Payload))
	if _, acked, _, ok := c.stream.ChallengeFor(stream.FromInitiator); ok && int32(end-acked) <= 0 {
		return false
	}
	return int32(end-c.flushFrom) > 0 && !slices.Contains(c.whole, end)
}

// datagrams reports whether the ends speak UDP.
func (c *connection) datagrams() bool { return c.stream == nil }

// restart begins another TCP connection between the same ends.
func (c *connection) restart() {
	c.session.close()
	c.lost, c.refusals, c.whole = [2]bool{}, [2]int{}, nil
}

// find resolves the packet's flow and its connection, if there is one. It is false where the
// policy has nothing for the packet; a connection that an older policy permitted then ends.
func (p *Pipeline) find(pkt *Packet, j *Judgement) (c *connection, ok bool) {
	p.generation = p.flows.Generation()
	if c = p.connections[pkt.Key]; c != nil && p.isAnother(c, pkt) {
		p.remove(c)
		c = nil
	}
	if c == nil {
		flow, ok := p.flows.Flow(pkt.Key)
		if !ok || !inspects(flow) {
			return nil, false
		}
		j.Flow = flow
		return nil, true
	}
	if c.generation != p.generation && !p.renew(c, p.generation) {
		*j = p.drop(c, *j)
		return nil, false
	}
	j.Flow = c.flow
	if c.observed == pkt.Observed {
		return c, true
	}
	// What was observed is enforced now, or the reverse: the connection is alive, and joined
	// anew as after a start.
	p.remove(c)
	j.Flow.Adopted = true
	return nil, true
}

// isAnother reports whether the packet is of another conversation than the connection of its key: a
// key names a slot of the fast path, and comes round. What no receiver would take says nothing.
func (p *Pipeline) isAnother(c *connection, pkt *Packet) bool {
	f := &p.frame
	if !f.IsTCP && !f.IsUDP || f.Fragment || f.Truncated || !f.ChecksumOK && !pkt.ChecksumNotReady {
		return false
	}
	d := stream.FromResponder
	if pkt.From == c.flow.Initiator {
		d = stream.FromInitiator
	}
	return f.Source() != c.ends[d] || f.Destination() != c.ends[d.Other()]
}

// inspects reports whether a flow names an inspected conduit of its plan.
func inspects(f Flow) bool {
	return f.Plan != nil && f.Conduit != 0 && int(f.Conduit) < len(f.Plan.Conduits) && f.Plan.Conduits[f.Conduit].Inspect
}

func (p *Pipeline) protocol(f Flow) policy.Protocol { return f.Plan.Conduits[f.Conduit].Protocol }

// drop ends and forgets a connection that the policy forbids by now.
func (p *Pipeline) drop(c *connection, j Judgement) Judgement {
	j.Flow = c.flow
	p.loseSession(c, false)
	if !c.observed && !p.over(c) {
		j = p.refuse(j, c, verdict.Denied(verdict.ReasonNoConduit))
	}
	if c.passedNothing() || p.past.add(c.key, c.seen.Add(p.limits.Idle)) {
		p.remove(c)
	}
	return j
}

// over reports whether a connection has come to its end already, or has a key that names nothing any
// more: after an outage the fast path gives its flow another one, under which it goes on. A policy
// that forbids it changes nothing for its ends.
func (p *Pipeline) over(c *connection) bool {
	if !c.datagrams() {
		switch c.stream.State() {
		case stream.Closed, stream.Reset, stream.Ended:
			return true
		}
	}
	later := p.latest[c.ends]
	return later != nil && later != c
}

// open begins to follow a connection, if the packet may begin one. Where it may not, j says what
// becomes of the packet.
func (p *Pipeline) open(pkt *Packet, d stream.Direction, j *Judgement) (*connection, bool) {
	f := &p.frame
	syn := f.TCP.Flags&(frame.FlagSYN|frame.FlagACK) == frame.FlagSYN && d == stream.FromInitiator
	switch {
	case p.dissectors[p.protocol(j.Flow)] == nil:
		*j = p.deny(*j, verdict.ReasonUninspectable)
	case f.TCP.Flags&frame.FlagRST != 0 && len(f.Payload) == 0 && !pkt.Observed:
		// An end cleans up; a reset carries nothing to complete. It may have the right number.
		j.Verdict, j.Stage = verdict.Permitted, StageReset
	case !syn && !pkt.Observed && !p.joins(pkt, j.Flow):
		*j = p.deny(*j, verdict.ReasonTCPState)
		j.Resets = p.resetStranger(pkt, j.Flow)
	default:
		return p.begins(pkt, d, j)
	}
	return nil, false
}

// begins files a new conversation, if there is room for it and its protocol runs over its transport.
func (p *Pipeline) begins(pkt *Packet, d stream.Direction, j *Judgement) (*connection, bool) {
	f := &p.frame
	o := opening{datagrams: f.IsUDP}
	o.ends[d], o.ends[d.Other()] = f.Source(), f.Destination()
	if o.share = p.common.join(j.Flow); o.share == nil {
		*j = p.deny(*j, verdict.ReasonTableFull)
		return nil, false
	}
	session := p.dissectors[p.protocol(j.Flow)].open(o)
	if session == nil {
		p.common.leave(o.share)
		*j = p.deny(*j, verdict.ReasonNotTCP)
		return nil, false
	}
	return p.add(pkt, j.Flow, o, session), true
}

// joins reports whether a packet may join its connection in mid-stream.
func (p *Pipeline) joins(pkt *Packet, flow Flow) bool {
	return flow.Plan.Conduits[flow.Conduit].OnJoin == policy.JoinResync &&
		(flow.Adopted || pkt.Time.Before(p.adoptUntil)) && !p.past.has(pkt.Key)
}

// add files a new connection.
func (p *Pipeline) add(pkt *Packet, flow Flow, o opening, session session) *connection {
	c := &connection{
		key: pkt.Key, flow: flow, generation: p.generation, observed: pkt.Observed,
		counters: p.counters.Conduit(conduitName(flow.Plan, flow.Conduit)),
		session:  session, share: o.share, ends: o.ends,
	}
	if !o.datagrams {
		c.stream = stream.New(stream.Limits{Memory: p.memory.Within(o.share.memory), Observed: pkt.Observed})
	}
	p.connections[pkt.Key], p.latest[c.ends] = c, c
	c.place, p.list = len(p.list), append(p.list, c)
	p.past.remove(pkt.Key)
	p.counters.Connections.Add(1)
	return c
}

// remove forgets a connection.
func (p *Pipeline) remove(c *connection) {
	if p.connections[c.key] != c {
		return
	}
	c.session.close()
	if !c.datagrams() {
		c.stream.Close()
	}
	p.common.leave(c.share)
	if p.latest[c.ends] == c {
		delete(p.latest, c.ends)
	}
	last := p.list[len(p.list)-1]
	p.list[c.place], last.place = last, c.place
	p.list[len(p.list)-1] = nil
	p.list = p.list[:len(p.list)-1]
	delete(p.connections, c.key)
	p.counters.Connections.Add(-1)
}

// passedNothing reports whether no segment of the connection was held to be judged and then left. A
// datagram leaves whole messages behind, so that nothing later can complete one of them.
func (c *connection) passedNothing() bool {
	return c.observed || c.datagrams() || c.stream.State() == stream.Unseen
}

// dropUnseen forgets a connection whose first segment was no beginning after all, unless it is
// being waited for a message boundary.
func (p *Pipeline) dropUnseen(c *connection) {
	if c.stream.State() == stream.Unseen && c.refusals == [2]int{} {
		p.remove(c)
	}
}

// renew asks for a connection's flow under a new plan, and reports whether it may live on.
func (p *Pipeline) renew(c *connection, generation uint64) bool {
	flow, ok := p.flows.Flow(c.key)
	if !ok || !inspects(flow) || p.protocol(flow) != p.protocol(c.flow) || flow.Initiator != c.flow.Initiator {
		return false
	}
	c.flow, c.generation = flow, generation
	c.counters = p.counters.Conduit(conduitName(flow.Plan, flow.Conduit))
	return true
}
