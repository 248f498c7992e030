package inspect

import (
	"errors"
	"time"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// dnp3Dissector opens DNP3 sessions. They share the storage of decoded messages and of messages that
// are being put together.
type dnp3Dissector struct {
	limits  Limits
	decoded []dnp3Message // of the packet under judgement; never grows, so that pointers hold
	used    int
	last    dnp3Message // the denial in the last place of a full list
	ahead   dnp3.Frame  // the one behind the frame under judgement
	// bytes holds the packet's messages without their CRCs. Where it grows, messages read before keep
	// the storage that they point to.
	bytes  []byte
	edited [dnp3.MaxFrame]byte // the frame that was edited last
	editor dnp3.Editor
	asked  policy.DNP3Request // the request under judgement

	common     *Common // counts pairs of stations and assemblies
	assemblies assemblyPool
}

func newDNP3Dissector(l Limits, c *Common) *dnp3Dissector {
	return &dnp3Dissector{
		limits:     l,
		decoded:    make([]dnp3Message, l.Messages+1),
		bytes:      make([]byte, 0, 2*dnp3.MaxMessage),
		common:     c,
		assemblies: assemblyPool{limit: l.Assemblies, used: &c.assemblies},
	}
}

func (p *dnp3Dissector) begin() { p.used, p.bytes = 0, p.bytes[:0] }

func (p *dnp3Dissector) open(o opening) session {
	return &dnp3Session{dissector: p, share: o.share, datagrams: o.datagrams}
}

// next returns storage for one message, as modbusDissector.next does.
func (p *dnp3Dissector) next() *dnp3Message {
	i := min(p.used, len(p.decoded)-1)
	p.used++
	m := &p.decoded[i]
	m.whole, m.unselected = false, false
	return m
}

// dnp3Session is one connection, or the datagrams between two ends. The initiator is the master's
// side. Both may speak for several stations: what belongs together is kept for each pair.
type dnp3Session struct {
	dissector *dnp3Dissector
	share     *share
	datagrams bool
	pairs     []*dnp3Pair
	saved     []dnp3Saved // the pairs as they were before the packet under judgement
	retired   []*assembly // what that packet has no more use for
	grace     time.Time   // until then a reply may belong to a request that was not seen
	seenReply bool        // one has matched since
}

// read judges the link frame that b begins with, and the message if the frame completes one.
func (s *dnp3Session) read(r *reading, d stream.Direction, b []byte) step {
	m := s.dissector.next()
	n, err := dnp3.ParseFrame(b, &m.frame)
	switch {
	case err != nil && !errors.Is(err, dnp3.ErrNeedMore):
		return s.malformed(r, d, b, nil, err)
	case n == 0 && s.datagrams:
		return s.malformed(r, d, b, nil, errDatagramCut)
	case m.frame.Addressed() && m.frame.FromMaster != (d == stream.FromInitiator):
		return s.malformed(r, d, b, nil, errDirection)
	case !m.frame.Addressed():
		return step{verdict: verdict.Permitted}
	}
	master, outstation := m.stations()
	if v := r.plan.EvalDNP3Link(r.conduit, master, outstation); !v.Allows() {
		s.name(m)
		s.record(r, d, v, m)
		return step{size: n, verdict: v}
	}
	if !m.frame.CarriesData() {
		if n > 0 {
			s.record(r, d, verdict.Permitted, m)
		}
		return step{size: n, verdict: verdict.Permitted}
	}
	return s.readSegment(r, d, b, n, m)
}

// name reads what the frame begins, as far as it can be, for people who are told that it was denied.
func (s *dnp3Session) name(m *dnp3Message) {
	m.message = dnp3.Message{}
	if !m.frame.CarriesData() {
		return
	}
	if data := s.dissector.data(&m.frame); len(data) > 0 && dnp3.TransportHeader(data[0]).First() {
		_ = dnp3.ParseMessage(data[1:], false, !m.frame.FromMaster, &m.message)
	}
}

// stations returns which of the frame's addresses is the master's and which the outstation's.
func (m *dnp3Message) stations() (master, outstation uint16) {
	if m.frame.FromMaster {
		return m.frame.Source, m.frame.Destination
	}
	return m.frame.Destination, m.frame.Source
}

// readSegment puts the frame's data behind what has come of its message, and judges the message as far
// as it is here.
func (s *dnp3Session) readSegment(r *reading, d stream.Direction, b []byte, n int, m *dnp3Message) step {
	data := s.dissector.data(&m.frame)
	if len(data) == 0 {
		return step{size: n, verdict: verdict.Permitted}
	}
	pair := s.pair(m.stations())
	if pair == nil {
		return step{verdict: verdict.Denied(verdict.ReasonTableFull)}
	}
	s.save(pair)
	header := dnp3.TransportHeader(data[0])
	if err := s.checkSegment(pair, d, header, &m.frame); err != nil {
		return s.malformed(r, d, b, pair, err)
	}
	if n > 0 && !header.Final() && s.goesOn(pair, d, data[1:], &m.frame, b[n:]) {
		if !s.accept(pair, d, header, data[1:]) {
			return step{verdict: verdict.Denied(verdict.ReasonTableFull)}
		}
		return step{size: n, verdict: verdict.Permitted}
	}
	message := s.dissector.join(pair.assembled(d), data[1:])
	m.whole = n > 0 && header.Final()
	err := dnp3.ParseMessage(message, m.whole, d == stream.FromResponder, &m.message)
	if err != nil && !errors.Is(err, dnp3.ErrNeedMore) {
		return s.malformed(r, d, b, pair, err)
	}
	if n > 0 && !s.accept(pair, d, header, data[1:]) {
		return step{verdict: verdict.Denied(verdict.ReasonTableFull)}
	}
	if d == stream.FromInitiator {
		return s.readRequest(r, b, n, m, pair)
	}
	return s.readResponse(r, b, n, m, pair)
}

// goesOn reports whether a message that data continues goes on in the whole frame that rest begins with.
// That leaves together with this one, or not at all, and what has come of the message by then is judged
// there: else one packet full of the shortest segments would have it judged from its beginning a thousand
// times. In a datagram another message may begin instead.
func (s *dnp3Session) goesOn(pair *dnp3Pair, d stream.Direction, data []byte, f *dnp3.Frame, rest []byte) bool {
	if s.datagrams || len(pair.assembled(d))+len(data) > dnp3.MaxMessage {
		return false
	}
	next := &s.dissector.ahead
	n, err := dnp3.ParseFrame(rest, next)
	return err == nil && n > 0 && next.CarriesData() && next.FromMaster == f.FromMaster &&
		next.Source == f.Source && next.Destination == f.Destination
}

// checkSegment judges a transport segment before it is accepted.
//
// A station discards confirmed user data whose frame count bit is not the one that it expects, so that
// only it knows what a message in several such frames is; one that is whole is judged by itself,
// whether or not the station takes it. In the same way a request in several datagrams, of which
// one may be lost, is another request to the station. What datagrams an outstation sends may be lost,
// too, and then its next message begins within the last.
func (s *dnp3Session) checkSegment(pair *dnp3Pair, d stream.Direction, h dnp3.TransportHeader, f *dnp3.Frame) error {
	inPieces := !h.First() || !h.Final()
	switch {
	case f.Function == dnp3.ConfirmedUserData && inPieces:
		return errConfirmedPieces
	case s.datagrams && d == stream.FromInitiator && inPieces:
		return errDatagramPieces
	case d == stream.FromInitiator && s.interrupts(pair):
		return errInterrupts
	case s.datagrams && h.First():
		s.abandon(pair, d)
	}
	return pair.assembly[d].Check(h)
}

var (
	errDatagramCut     = &dnp3.MalformedError{Reason: "datagram ends within a frame"}
	errDirection       = &dnp3.MalformedError{Reason: "direction bit contradicts the direction of the conduit"}
	errConfirmedPieces = &dnp3.MalformedError{Reason: "message in several frames of confirmed user data"}
	errInterrupts      = &dnp3.MalformedError{Reason: "request within another one to the same station"}
	errDatagramPieces  = &dnp3.MalformedError{Reason: "request in several transport segments over UDP"}
)

// interrupts reports whether another request is under way to an outstation that takes the pair's, too: from
// another master, or one of the two is for all stations. Outstations exist that put together in one place
// what they get from whomever, and would read the beginning of one and the end of the other.
func (s *dnp3Session) interrupts(pair *dnp3Pair) bool {
	for _, p := range s.pairs {
		if p != pair && p.assembly[stream.FromInitiator].Within &&
			(p.outstation == pair.outstation || dnp3.Broadcast(p.outstation) || dnp3.Broadcast(pair.outstation)) {
			return true
		}
	}
	return false
}

// data returns the frame's user data as far as it has arrived.
func (p *dnp3Dissector) data(f *dnp3.Frame) []byte {
	at := len(p.bytes)
	p.bytes = f.AppendData(p.bytes)
	return p.bytes[at:len(p.bytes):len(p.bytes)]
}

// join returns data behind what was assembled before it.
func (p *dnp3Dissector) join(assembled, data []byte) []byte {
	if len(assembled) == 0 {
		return data
	}
	at := len(p.bytes)
	p.bytes = append(append(p.bytes, assembled...), data...)
	return p.bytes[at:len(p.bytes):len(p.bytes)]
}

// readRequest judges a request. Of one that is not whole it asks whether any whole one that begins so
// could be permitted: if none could, its bytes stop here.
func (s *dnp3Session) readRequest(r *reading, b []byte, n int, m *dnp3Message, pair *dnp3Pair) step {
	request := &s.dissector.asked
	*request = policy.DNP3Request{Master: pair.master, Outstation: pair.outstation, Message: &m.message}
	if !m.whole {
		if r.observed {
			return step{size: n, verdict: verdict.Permitted} // the rest came by or will
		}
		v := r.plan.EvalDNP3(r.conduit, request)
		if !v.Allows() {
			s.record(r, stream.FromInitiator, v, m)
		}
		return step{size: n, verdict: v}
	}
	if pair.holds(&m.message) && !r.observed {
		return step{verdict: verdict.Denied(verdict.ReasonTableFull)}
	}
	request.Selected, request.SinceSelect = pair.selected(&m.message, r.now)
	m.unselected = m.message.Function == dnp3.Operate && !request.Selected
	v := r.plan.EvalDNP3Rate(r.conduit, request, r.rates, r.now)
	s.record(r, stream.FromInitiator, v, m)
	if !v.Allows() {
		return s.refuse(r, b, n, m, pair, v)
	}
	pair.asked(&m.message, r.now)
	return step{size: n, verdict: v}
}

// readResponse judges a response: it has to answer a request that waits for one, or come from an
// outstation that may speak unasked.
func (s *dnp3Session) readResponse(r *reading, b []byte, n int, m *dnp3Message, pair *dnp3Pair) step {
	if !m.message.Known() || !m.whole && r.observed {
		return step{size: n, verdict: verdict.Permitted}
	}
	v, refused := s.evaluateResponse(r, m, pair)
	switch {
	case !v.Allows():
		s.record(r, stream.FromResponder, v, m)
		return step{size: n, verdict: v}
	case refused != nil:
		return s.refused(r, b, n, m, refused)
	case m.whole:
		if pair.answered(&m.message) {
			s.seenReply = true
		}
		s.record(r, stream.FromResponder, v, m)
	}
	return step{size: n, verdict: v}
}

// evaluateResponse says whether a response may pass, and which refused request it answers, if one.
func (s *dnp3Session) evaluateResponse(r *reading, m *dnp3Message, pair *dnp3Pair) (verdict.Verdict, *dnp3Waiting) {
	if m.message.Unsolicited {
		return r.plan.EvalDNP3Unsolicited(r.conduit, pair.master, pair.outstation), nil
	}
	if w := pair.refusedBy(&m.message); w != nil {
		return verdict.Permitted, w
	}
	if pair.expects(&m.message, r.now, s.dissector.limits.Answer) || s.lenient(r.now) {
		return verdict.Permitted, nil
	}
	return verdict.Denied(verdict.ReasonUnsolicitedReply), nil
}

// lenient reports whether requests may be under way that were not seen.
func (s *dnp3Session) lenient(now time.Time) bool { return !s.seenReply && now.Before(s.grace) }

func (s *dnp3Session) joined(now time.Time) {
	s.grace, s.seenReply = now.Add(JoinGrace), false
	for _, pair := range s.pairs {
		s.abandon(pair, stream.FromInitiator)
		s.abandon(pair, stream.FromResponder)
		pair.selection = dnp3Selection{}
	}
}

// record notes a message, and keeps what it points to where the place of m is used again.
func (s *dnp3Session) record(r *reading, d stream.Direction, v verdict.Verdict, m *dnp3Message) {
	if r.messages.takesLast(v) {
		s.dissector.last = *m
		m = &s.dissector.last
	}
	r.record(Message{Direction: d, Protocol: policy.ProtocolDNP3, Verdict: v, body: m})
}

// malformed refuses bytes that are no lawful frame or message. An observer believes a lawful link header
// about where the next frame begins, if all of it is here: stations went on there too.
func (s *dnp3Session) malformed(r *reading, d stream.Direction, b []byte, pair *dnp3Pair, err error) step {
	v := verdict.Denied(verdict.ReasonMalformed)
	r.record(Message{Direction: d, Protocol: policy.ProtocolDNP3, Verdict: v, Malformed: dnp3Reason(err)})
	n := dnp3.ClaimedSize(b)
	if !r.observed || n == 0 || n > len(b) {
		return step{verdict: v}
	}
	if pair != nil {
		s.abandon(pair, d)
	}
	s.grace, s.seenReply = r.now.Add(JoinGrace), false // a reply to it matches nothing
	return step{size: n, verdict: v}
}

// dnp3Reason returns why a parser refused, in one phrase.
func dnp3Reason(err error) string {
	if bad, ok := err.(*dnp3.MalformedError); ok { // as the parsers return it; errors.As would allocate
		return bad.Reason
	}
	return err.Error()
}

// misaligned reads whole frames until nothing is left. The first message has to begin there.
func (s *dnp3Session) misaligned(d stream.Direction, b []byte) string {
	m, begun := s.dissector.next(), false
	for len(b) > 0 {
		n, err := dnp3.ParseFrame(b, &m.frame)
		switch {
		case errors.Is(err, dnp3.ErrNeedMore):
			return "no whole frame in one segment"
		case err != nil:
			return dnp3Reason(err)
		case m.frame.FromMaster != (d == stream.FromInitiator):
			return errDirection.Reason
		}
		if m.frame.CarriesData() && !begun {
			if begun = dnp3.TransportHeader(s.dissector.data(&m.frame)[0]).First(); !begun {
				return "no message begins with the segment"
			}
		}
		b = b[n:]
	}
	return ""
}

func (s *dnp3Session) flushing() bool { return false }
func (s *dnp3Session) fenced() bool   { return false }

func (s *dnp3Session) sweep(now time.Time) verdict.Reason {
	why := verdict.ReasonNone
	for _, pair := range s.pairs {
		if overdue := pair.sweep(now, &s.dissector.limits); overdue != verdict.ReasonNone {
			why = overdue
		}
	}
	return why
}
