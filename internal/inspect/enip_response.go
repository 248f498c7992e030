package inspect

import (
	"errors"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// enipReply is what is known of a message of the device before its request is looked for.
type enipReply struct {
	payload       []byte // from the outermost reply's code on
	length        int    // announced
	offset        int    // of it in the message
	code          cip.ServiceCode
	sequence      uint16
	sequenceKnown bool
}

// replyOf finds the outermost service of a reply.
func replyOf(m *enip.Message) enipReply {
	p := enipReply{payload: m.Payload, length: m.PayloadLength, offset: m.PayloadOffset}
	if m.Connected && m.PayloadKnown {
		const sequence = 2
		if len(p.payload) >= sequence {
			p.sequence, p.sequenceKnown = uint16(p.payload[0])|uint16(p.payload[1])<<8, true
		}
		p.payload = p.payload[min(sequence, len(p.payload)):]
		p.length, p.offset = p.length-sequence, p.offset+sequence
	}
	if len(p.payload) > 0 {
		p.code = cip.ServiceCode(p.payload[0] &^ 0x80)
	}
	return p
}

// readResponse judges a message of the device: it has to answer a request that waits for it.
func (s *enipSession) readResponse(r *reading, b []byte) step {
	m := &s.dissector.message
	n, err := enip.Parse(b, enip.Reply, m)
	if err != nil && !errors.Is(err, enip.ErrNeedMore) {
		return s.malformed(r, stream.FromResponder, b, err)
	}
	if m.KnowsCommand() && m.Command == enip.NOP && !s.datagrams && s.permitsNOP(r) {
		if n > 0 {
			s.recordReply(r, b[:n], m, nil, verdict.Permitted, "")
		}
		return step{size: n, verdict: verdict.Permitted}
	}
	p := replyOf(m)
	if bad := checkReply(&s.dissector.replies, m, &p, n > 0); bad != nil {
		return s.malformed(r, stream.FromResponder, b, bad)
	}
	w := s.requests.find(m, p.code, p.sequence, p.sequenceKnown)
	s.requests.cover(w, p.code)
	switch {
	case n == 0:
		return s.replyPrefix(r, b, m, &p, w)
	case w == nil && (!s.lenient(r.now) || !isAnswered(m.Command)):
		return s.unsolicited(r, b, n, verdict.ReasonUnsolicitedReply, "")
	case m.Command.CarriesCIP() && s.handle != 0 && m.Session != s.handle && m.Status == 0:
		return s.unsolicited(r, b, n, verdict.ReasonUnsolicitedReply, "session handle is not the session's")
	}
	if why := s.thirdParty(m, stream.FromResponder); why != "" {
		return s.unsolicited(r, b, n, verdict.ReasonAddressNotPermitted, why)
	}
	if w == nil {
		s.recordReply(r, b[:n], m, nil, verdict.Permitted, "")
		return step{size: n, verdict: verdict.Permitted}
	}
	if w.manages && !w.refusal.active {
		name, named := repliedName(&s.dissector.replies, p.payload)
		w = s.requests.settle(w, p.code, name, named)
	}
	s.requests.take(w)
	s.seenReply = true
	s.learn(m, w)
	if w.refusal.active {
		return s.refused(r, b[:n], m, &p, w)
	}
	s.noteReply(r, m, w)
	s.recordReply(r, b[:n], m, w, verdict.Permitted, "")
	return step{size: n, verdict: verdict.Permitted}
}

// permitsNOP tells whether a rule permits NOP, which either end may send unasked, and which says nothing (V2 2-4.1).
func (s *enipSession) permitsNOP(r *reading) bool {
	d := s.dissector
	r.plan.CheckENIP(&d.check, r.conduit, r.rates, r.now)
	v := d.check.EvalCommand(&d.message)
	d.check.Release()
	return v.Allows()
}

// checkReply judges the services of a reply: the structure of a whole one, the first of a prefix.
func checkReply(walk *cip.ReplyWalk, m *enip.Message, p *enipReply, whole bool) error {
	switch {
	case !m.PayloadKnown:
		return nil
	case !whole:
		var first cip.Reply
		return cip.ParseReply(p.payload, p.length, &first)
	}
	walk.Start(p.payload)
	for walk.Next() {
	}
	return walk.Err()
}

// learn notes the identifier that an adopted connection has in the other direction.
func (s *enipSession) learn(m *enip.Message, w *enipWaiting) {
	if c := w.connection; c != nil && !c.answered && m.Connected {
		c.toOriginator, c.answered = m.ConnectionID, true
	}
}

// replyPrefix lets the beginning of a reply pass, if there is a request that it may answer. Where that was
// refused it leaves as the beginning of the refusal.
func (s *enipSession) replyPrefix(r *reading, b []byte, m *enip.Message, p *enipReply, w *enipWaiting) step {
	switch {
	case w == nil && (r.observed || s.lenient(r.now) || !m.KnowsCommand()):
		return step{verdict: verdict.Permitted}
	case w == nil:
		return s.unsolicited(r, b, 0, verdict.ReasonUnsolicitedReply, "")
	case !w.refusal.active || p.code == 0:
		return step{verdict: verdict.Permitted}
	}
	return step{verdict: verdict.Permitted, edited: s.rewrite(b[:m.Seen], p, w, r.fresh)}
}

// unsolicited refuses a message of the device. Of one that is only observed the services are told, too.
func (s *enipSession) unsolicited(r *reading, b []byte, size int, why verdict.Reason, detail string) step {
	v := verdict.Denied(why)
	m := &s.dissector.message
	if r.observed && size > 0 {
		s.recordReply(r, b[:size], m, nil, v, detail)
		return step{size: size, verdict: v}
	}
	line := s.dissector.next()
	*line = enipMessage{raw: b[:m.Seen], index: isEnvelope, command: m.Command, isResponse: true, why: detail}
	if r.messages.takesLast(v) {
		s.dissector.last = *line
		line = &s.dissector.last
	}
	r.record(Message{Direction: stream.FromResponder, Protocol: policy.ProtocolENIP, Verdict: v, body: line})
	return step{size: size, verdict: v}
}

// recordReply notes the lines of a whole reply.
func (s *enipSession) recordReply(r *reading, raw []byte, m *enip.Message, w *enipWaiting, v verdict.Verdict, detail string) {
	envelope := s.dissector.next()
	*envelope = enipMessage{raw: raw, index: isEnvelope, command: m.Command, isResponse: true, answered: w, why: detail}
	r.record(Message{
		Direction: stream.FromResponder, Protocol: policy.ProtocolENIP, Verdict: v, Envelope: m.PayloadKnown, body: envelope,
	})
	if !m.PayloadKnown {
		return
	}
	p := replyOf(m)
	walk := &s.dissector.replies
	walk.Start(p.payload)
	for walk.Next() {
		line := s.dissector.next()
		*line = enipMessage{
			raw: raw, index: walk.Reply.Index, code: walk.Reply.Code, isResponse: true, answered: w, why: detail,
		}
		r.record(Message{Direction: stream.FromResponder, Protocol: policy.ProtocolENIP, Layer: layerCIP, Verdict: v, body: line})
	}
}
