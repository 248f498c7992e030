package inspect

import (
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// judgeDatagram judges a UDP datagram, which has to be whole messages and nothing else. What is in it
// leaves together or not at all. A denial has no connection to end: the datagram stays, and what the
// session made of it is taken back.
//
// The receiver may never get what was forwarded, or twice, or in another order, and nobody tells: a
// session must not let what an earlier datagram held decide that a later one is harmless.
func (p *Pipeline) judgeDatagram(j Judgement, c *connection, d stream.Direction, pkt *Packet) Judgement {
	if c == nil {
		var ok bool
		if c, ok = p.openDatagrams(pkt, d, &j); !ok {
			return j
		}
	}
	c.seen = pkt.Time
	if len(p.frame.Payload) == 0 {
		j.Detail = "datagram without a message"
		return p.deny(j, verdict.ReasonMalformed)
	}
	p.reading = p.readingOf(c, pkt, len(p.frame.Payload))
	v := p.readDatagram(&j, c, d)
	p.reading.settle(v)
	j.Messages, j.Unrecorded = p.messages.list, p.messages.unrecorded
	p.counters.Unrecorded.Add(uint64(j.Unrecorded))
	j.Verdict = v
	switch {
	case c.observed:
		c.session.commit()
	case !v.Allows():
		c.session.rollback()
	default:
		c.session.commit()
		return p.forwardDatagram(j)
	}
	return j
}

// openDatagrams begins to follow the datagrams between two ends. After a start, replies may be under
// way to requests that were not seen.
func (p *Pipeline) openDatagrams(pkt *Packet, d stream.Direction, j *Judgement) (*connection, bool) {
	if p.dissectors[p.protocol(j.Flow)] == nil {
		*j = p.deny(*j, verdict.ReasonUninspectable)
		return nil, false
	}
	c, ok := p.begins(pkt, d, j)
	if ok && (pkt.Observed || p.joins(pkt, j.Flow)) {
		c.session.joined(pkt.Time)
	}
	return c, ok
}

// readDatagram reads the datagram's messages, and returns the first verdict that is not an allow.
func (p *Pipeline) readDatagram(j *Judgement, c *connection, d stream.Direction) verdict.Verdict {
	v := verdict.Permitted
	payload := p.frame.Payload
	for read := 0; read < len(payload); {
		step := c.session.read(&p.reading, d, payload[read:])
		if !step.verdict.Allows() && v.Allows() {
			v = step.verdict
		}
		if step.edited != nil {
			p.edits.put(payload, len(payload), len(payload)-read, step.edited)
		}
		switch {
		case step.size == 0 && step.verdict.Allows():
			j.Detail = "datagram ends within a message"
			return verdict.Denied(verdict.ReasonMalformed)
		case step.size == 0, !step.verdict.Allows() && !c.observed:
			return v
		}
		read += step.size
	}
	return v
}

// forwardDatagram lets the datagram pass, as it came or as edited.
func (p *Pipeline) forwardDatagram(j Judgement) Judgement {
	if !p.edits.made {
		return j
	}
	packet := p.copyPacket()
	if err := frame.SetUDPPayload(packet, p.edits.payload); err != nil {
		// The packet was decoded above, so that this cannot be; if it is, the bytes stay here.
		return p.deny(j, verdict.ReasonUninspectable)
	}
	j.Payload = packet
	return j
}

// readingOf returns what a session needs to judge a packet of which the last fresh bytes are new.
func (p *Pipeline) readingOf(c *connection, pkt *Packet, fresh int) reading {
	return reading{
		now: pkt.Time, plan: c.flow.Plan, rates: p.ratesOf(c.flow.Plan), conduit: c.flow.Conduit, flow: c.flow, key: c.key,
		fresh: fresh, observed: c.observed, exceptions: !c.observed && c.onDeny() == policy.DenyException,
		messages: &p.messages, counters: c.counters,
	}
}
