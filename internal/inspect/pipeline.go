package inspect

import (
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Config is what a Pipeline needs. Zero limits mean their defaults.
type Config struct {
	Flows    FlowSource
	Counters *Counters     // may be shared by several pipelines; nil counts for this one alone
	Common   *Common       // shared by several pipelines; nil is this one's alone, under Limits
	Limits   Limits        // without a Common, whose own hold
	IO       IOConnections // told of I/O connections; may be nil
}

// Pipeline judges packets. It belongs to one goroutine, the verdict loop; only its Counters may
// be read from others.
type Pipeline struct {
	flows      FlowSource
	counters   *Counters
	common     *Common
	limits     Limits
	adoptUntil time.Time

	decoder     frame.Decoder
	memory      *stream.Memory
	dissectors  [policy.ProtocolEtherType + 1]dissector // by policy.Protocol; nil for what is not inspected
	connections map[uint64]*connection
	list        []*connection                     // the same, for sweeps
	cursor      int                               // in it: up to where the sweep still has to look
	sweeping    uint64                            // the generation under which it began
	latest      map[[2]netip.AddrPort]*connection // by its ends, the initiator's first
	past        past
	rates       *policy.Rates
	ratesFor    *policy.Plan

	// What follows belongs to the packet under judgement and is used again for the next.
	generation uint64 // of the flow source, before it was asked for the packet's flow
	frame      frame.Frame
	segment    stream.Segment
	messages   messages
	reading    reading
	edits      edits
	resets     []Reset
	packets    [3][]byte // storage of an edited packet and of two resets
}

// New returns a pipeline that follows no connection yet.
func New(c Config) *Pipeline {
	if c.Counters == nil {
		c.Counters = NewCounters()
	}
	if c.Common == nil {
		c.Common = NewCommon(c.Limits)
	}
	if c.IO == nil {
		c.IO = noIO{}
	}
	limits := c.Common.limits
	return &Pipeline{
		flows: c.Flows, counters: c.Counters, common: c.Common, limits: limits,
		memory:      stream.NewMemory(0),
		connections: map[uint64]*connection{},
		latest:      map[[2]netip.AddrPort]*connection{},
		past:        newPast(limits.Past),
		dissectors: [policy.ProtocolEtherType + 1]dissector{
			policy.ProtocolModbus: newModbusDissector(limits, &c.Common.requests),
			policy.ProtocolDNP3:   newDNP3Dissector(limits, c.Common),
			policy.ProtocolENIP:   newENIPDissector(limits, c.Common, c.IO, c.Counters),
		},
		messages: messages{list: make([]Message, 0, limits.Messages)},
		resets:   make([]Reset, 0, 2),
	}
}

// Counters returns what the pipeline counts into.
func (p *Pipeline) Counters() *Counters { return p.counters }

// AdoptUntil lets connections be joined in mid-stream until then: after a start, and after a
// bypass was released.
func (p *Pipeline) AdoptUntil(t time.Time) { p.adoptUntil = t }

// Judge judges one packet. The order is the one in which a receiver would object: what it would
// throw away (checksum) or not understand (fragments, options) may not move the stream, and only
// bytes that the stream takes reach the dissector.
func (p *Pipeline) Judge(pkt *Packet) Judgement {
	j := p.begin()
	f := &p.frame
	if err := p.decoder.IP(pkt.IP, f); err != nil {
		return p.deny(j, verdict.ReasonMalformed)
	}
	c, ok := p.find(pkt, &j)
	switch {
	case !ok:
		return p.deny(j, verdict.ReasonNoConduit)
	case f.Truncated:
		return p.deny(j, verdict.ReasonUninspectable)
	case !f.ChecksumOK && !pkt.ChecksumNotReady:
		return p.deny(j, verdict.ReasonBadChecksum)
	case f.Fragment:
		return p.deny(j, verdict.ReasonFragment)
	case f.HasOptions:
		// A source route (RFC 791) leads past the identities that the conduit names.
		return p.deny(j, verdict.ReasonUninspectable)
	case !f.IsTCP && !f.IsUDP, c != nil && c.datagrams() != f.IsUDP:
		return p.deny(j, verdict.ReasonNotTCP)
	}
	d := stream.FromResponder
	if pkt.From == j.Flow.Initiator {
		d = stream.FromInitiator
	}
	if f.IsUDP {
		return p.judgeDatagram(j, c, d, pkt)
	}
	if c == nil {
		if c, ok = p.open(pkt, d, &j); !ok {
			return j
		}
	}
	defer p.followed(c)
	c.seen = pkt.Time

	p.segment = stream.Segment{
		Seq: f.TCP.Seq, Ack: f.TCP.Ack, Flags: f.TCP.Flags, Window: f.TCP.Window,
		Urgent: f.TCP.Urgent, Options: f.TCP.Options, Payload: f.Payload,
	}
	out := c.stream.Offer(d, &p.segment)
	if out.Restarted {
		c.restart()
	}
	switch out.Disposition {
	case stream.Forward:
		if c.cuts(d, &p.segment) {
			j.Detail = "repetition in pieces of what came whole, behind a request that not every device knows"
			return p.end(j, c, verdict.ReasonMalformed)
		}
		return p.forward(j, c, d)
	case stream.Judge:
		return p.judgeBytes(j, c, d, pkt, out.Fresh)
	case stream.End:
		return p.end(j, c, out.Reason)
	}
	return p.discard(j, c, d, out)
}

// followed looks at where a packet has brought its connection.
func (p *Pipeline) followed(c *connection) {
	p.dropUnseen(c)
	switch c.stream.State() {
	case stream.Closed:
		p.loseSession(c, true)
	case stream.Reset:
		p.loseSession(c, false)
	}
}

// judgeBytes reads the messages that the offered segment continues or completes, and forwards or
// stops the segment, which ends in fresh new bytes. What was refused in the protocol's own terms
// leaves edited, in a packet that is allowed; the message keeps its verdict.
func (p *Pipeline) judgeBytes(j Judgement, c *connection, d stream.Direction, pkt *Packet, fresh int) Judgement {
	if c.stream.Adopted(d) || c.lost[d] {
		if why := c.session.misaligned(d, c.stream.Pending(d)); why != "" {
			j.Detail = why
			return p.outOfStep(j, c, d, pkt)
		}
		c.stream.Resync(d)
		c.lost[d], c.refusals[d] = false, 0
		c.session.joined(pkt.Time)
	}
	p.reading = p.readingOf(c, pkt, fresh)
	flushing := c.session.flushing()
	consumed, v := p.read(c, d)
	p.reading.settle(v)
	j.Messages, j.Unrecorded = p.messages.list, p.messages.unrecorded
	p.counters.Unrecorded.Add(uint64(j.Unrecorded))
	if c.observed || v.Allows() {
		p.accept(c, d, consumed, flushing)
		j = p.forward(j, c, d)
		if c.observed {
			j.Verdict, j.Ended = v, !v.Allows()
		}
		return j
	}
	if v.Reason == verdict.ReasonTableFull {
		// No message is at fault. The sender repeats the segment, and until then replies may
		// have made room: the client is slowed down, and inspection goes on.
		c.stream.Refuse(d)
		c.session.rollback()
		if c.session.fenced() {
			j.Detail = "waits until the device has answered a refused request"
		}
		j.Verdict = v
		return j
	}
	return p.refuse(j, c, v)
}

// accept lets the segment under judgement leave, as it came or as edited. Its repetitions leave
// in the same form. flushing is what the session was before the segment.
func (p *Pipeline) accept(c *connection, d stream.Direction, consumed int, flushing bool) {
	if p.edits.made {
		c.stream.AcceptEdited(d, consumed, p.edits.payload)
	} else {
		c.stream.Accept(d, consumed)
	}
	c.session.commit()
	if d == stream.FromInitiator && !c.observed {
		c.noteWhole(&p.segment, p.reading.fresh, flushing)
	}
}

// read takes messages off the front of what is pending. It returns how many bytes were whole
// messages, and the first verdict that is not an allow.
func (p *Pipeline) read(c *connection, d stream.Direction) (consumed int, v verdict.Verdict) {
	v = verdict.Permitted
	pending := c.stream.Pending(d)
	for consumed < len(pending) {
		step := c.session.read(&p.reading, d, pending[consumed:])
		if !step.verdict.Allows() && v.Allows() {
			v = step.verdict
		}
		if step.edited != nil {
			p.edits.put(p.segment.Payload, p.reading.fresh, len(pending)-consumed, step.edited)
		}
		switch {
		case step.verdict.Allows() && step.size == 0:
			return consumed, v // the beginning of a message that may still be lawful
		case step.verdict.Allows():
		case !c.observed:
			return consumed, v
		case step.size == 0:
			c.lost[d] = true // where the next message begins is not known
			return len(pending), v
		}
		consumed += step.size
	}
	return consumed, v
}

// outOfStep refuses a segment of a direction in which no message boundary is known, see the
// package comment. Of an observed connection it is passed over.
func (p *Pipeline) outOfStep(j Judgement, c *connection, d stream.Direction, pkt *Packet) Judgement {
	v := verdict.Denied(verdict.ReasonResynchronising)
	if c.observed {
		c.stream.Accept(d, len(c.stream.Pending(d)))
		c.session.joined(pkt.Time)
		j.Verdict = v
		return j
	}
	j = p.deny(j, v.Reason)
	if c.refusals[d]++; c.refusals[d] > p.limits.Refusals {
		return p.refuse(j, c, v)
	}
	c.stream.Refuse(d)
	return j
}

// refuse ends a connection over a denied message, silently or with resets as its conduit asks. A
// conduit with exceptions resets here: the session has found no way to refuse the message in the
// protocol's own terms. Where there is no connection only the datagram stays.
func (p *Pipeline) refuse(j Judgement, c *connection, v verdict.Verdict) Judgement {
	if c.datagrams() {
		j.Verdict = v
		return j
	}
	c.stream.End()
	c.session.close()
	p.loseSession(c, false)
	j.Verdict, j.Ended = v, true
	p.counters.Ended.Add(1)
	if c.onDeny() != policy.DenyDrop {
		j.Resets = p.resetBoth(c)
	}
	return j
}

// end ends a connection over a segment that its receiver would have acted on.
func (p *Pipeline) end(j Judgement, c *connection, why verdict.Reason) Judgement {
	j = p.deny(j, why)
	if c.observed {
		j.Ended = true
		return j
	}
	return p.refuse(j, c, j.Verdict)
}

// discard drops one segment. Where the receiver would have answered it, it is answered in the
// receiver's name, or an end that has forgotten the connection could never open another.
func (p *Pipeline) discard(j Judgement, c *connection, d stream.Direction, out stream.Outcome) Judgement {
	j = p.deny(j, out.Reason)
	switch {
	case c.observed:
	case out.Challenge:
		j.Resets = p.challenge(c, d)
	case out.Reason == verdict.ReasonConnectionEnded && c.onDeny() != policy.DenyDrop:
		j.Resets = p.resetTo(c, d)
	}
	return j
}

// forward lets the packet pass, with other bytes where the stream or a SYN's options ask for it.
func (p *Pipeline) forward(j Judgement, c *connection, d stream.Direction) Judgement {
	j.Verdict = verdict.Permitted
	if c.observed {
		return j
	}
	payload, err := p.edit(c, d)
	if err != nil {
		// The packet was decoded above, so that this cannot be; if it is, the bytes stay here.
		return p.end(j, c, verdict.ReasonUninspectable)
	}
	j.Payload = payload
	j.Stage = stageOf(c.stream)
	return j
}

// stageOf is the stage of a connection of which a segment is forwarded. What we ended lets nothing but an RST pass.
func stageOf(c *stream.Conn) Stage {
	switch c.State() {
	case stream.Opening:
		return StageOpening
	case stream.Reset, stream.Ended:
		return StageReset
	}
	if c.Finished(stream.FromInitiator) && c.Finished(stream.FromResponder) {
		return StageClosed
	}
	return StageUnderWay
}

// ratesOf returns what the plan's rules have left.
func (p *Pipeline) ratesOf(plan *policy.Plan) *policy.Rates {
	if plan != p.ratesFor {
		p.rates, p.ratesFor = p.common.ratesOf(plan), plan
	}
	return p.rates
}

// begin clears what belongs to the last packet.
func (p *Pipeline) begin() Judgement {
	p.counters.Packets.Add(1)
	p.messages.reset()
	p.edits.reset()
	p.resets = p.resets[:0]
	for _, d := range p.dissectors {
		if d != nil {
			d.begin()
		}
	}
	return Judgement{}
}

// deny denies a packet that is no message.
func (p *Pipeline) deny(j Judgement, why verdict.Reason) Judgement {
	j.Verdict = verdict.Denied(why)
	p.counters.Reasons[why].Add(1)
	if name := conduitName(j.Flow.Plan, j.Flow.Conduit); name != "" {
		p.counters.Conduit(name).Denied.Add(1)
	}
	return j
}
