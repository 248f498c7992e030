package inspect

import (
	"fmt"
	"net/netip"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// enipJudgement judges one message of a client, or as much of it as has arrived: the encapsulation, and
// every service inside.
type enipJudgement struct {
	session *enipSession
	r       *reading
	m       *enip.Message
	raw     []byte
	known   int // bytes of it that have left
	whole   bool

	verdict    verdict.Verdict // of the whole message: the first that is not an allow
	connection *enipConnection // that the message is sent on
	envelope   enipMessage     // the line of the encapsulation
	first      int             // its place in the dissector's storage; the services' follow
	services   int
	denied     int // services that found no room and were denied, permitted likewise
	permitted  int

	// What a refusal needs: where the outermost service's code lies in the message, and that of the one
	// in an unconnected send, 0 where there is none.
	outer, inner         int
	outerCode, innerCode cip.ServiceCode
	inside               bool   // the denial is of a service inside the outermost
	hides                bool   // it has another message in it
	manages              bool   // some service opens or closes a connection
	opens, names         triads // of its Forward Opens; of these and its Forward Closes
	asked                uint64 // number of the last of these, see identifiers
}

// judge sets the verdict. Of an incomplete message it may go on where it was left; what there is to tell of one
// is known if it does not.
func (e *enipJudgement) judge(mayGoOn bool) {
	d := e.session.dissector
	e.verdict, e.first = verdict.Permitted, d.used
	d.next()
	envelope := &e.envelope
	*envelope = enipMessage{raw: e.raw, index: isEnvelope, command: e.m.Command, verdict: verdict.Permitted}
	e.r.plan.CheckENIP(&d.check, e.r.conduit, e.r.rates, e.r.now)
	if v := d.check.EvalCommand(e.m); !v.Allows() {
		e.deny(envelope, v.Reason, "")
		return
	}
	if why := e.session.misplaced(e.r, e.m); why != "" {
		e.deny(envelope, verdict.ReasonMalformed, why)
		if !e.r.observed {
			return
		}
	}
	if e.m.PayloadKnown {
		e.judgePayload(envelope, mayGoOn)
	}
	if e.verdict.Allows() && e.m.Command.CarriesCIP() && !e.m.InOrder() {
		e.deny(envelope, verdict.ReasonMalformed, "address and data item are not the first and the second")
	}
	if e.hides = e.holdsAnother(); e.hides && e.verdict.Allows() {
		e.deny(envelope, verdict.ReasonMalformed, errHidden)
	}
	if e.verdict.Allows() && e.whole {
		if why := e.session.thirdParty(e.m, stream.FromInitiator); why != "" {
			e.deny(envelope, verdict.ReasonAddressNotPermitted, why)
		}
	}
}

// errHidden is why a message is denied of which a device that does not wait for all of it might execute the middle.
const errHidden = "message with another message in it"

// holdsAnother tells whether the message has another one in it, or a part of one, see enip.HoldsAnother. What has left
// was looked at before, unless the message is only observed.
func (e *enipJudgement) holdsAnother() bool {
	from := 1
	if !e.r.observed {
		from = max(from, e.known-enip.InnerLength)
	}
	return enip.HoldsAnother(e.raw, from) || enip.EndsAnother(e.raw)
}

// deny denies a line, and with it the message.
func (e *enipJudgement) deny(line *enipMessage, why verdict.Reason, detail string) {
	line.verdict, line.why = verdict.Denied(why), detail
	if e.verdict.Allows() {
		e.verdict = line.verdict
	}
}

// misplaced says what is wrong with a message of the client in its session, "" if nothing is.
func (s *enipSession) misplaced(r *reading, m *enip.Message) string {
	switch {
	case s.datagrams && !m.Command.OverUDP():
		return "command that does not run over UDP"
	case !m.KnowsHeader():
		return ""
	case m.Command == enip.RegisterSession && s.handle != 0:
		return "second session on one connection"
	case !m.Command.CarriesCIP() && m.Command != enip.UnregisterSession:
		return ""
	case s.handle == 0 && s.adopts && r.now.Before(s.grace):
		s.handle = m.Session
		return ""
	case s.handle == 0:
		return "no session is registered"
	case s.handle != m.Session:
		return "session handle is not the session's"
	}
	return ""
}

// judgePayload judges the services of the message.
func (e *enipJudgement) judgePayload(envelope *enipMessage, mayGoOn bool) {
	const sequence = 2
	d, payload, length, offset := e.session.dissector, e.m.Payload, e.m.PayloadLength, e.m.PayloadOffset
	var base []cip.Hop
	if e.m.Connected {
		if e.connection = e.session.connectionTo(e.r, e.m.ConnectionID); e.connection == nil {
			e.deny(envelope, verdict.ReasonPathNotPermitted, "connection that is not open")
			if !e.r.observed {
				return
			}
			e.connection = &enipConnection{toTarget: e.m.ConnectionID, adopted: true}
		}
		if length < sequence {
			e.isMalformed(envelope, "connected data without a sequence count")
			return
		}
		e.connection.expire(e.r.now)
		base = e.connection.route()
		payload, length, offset = payload[min(sequence, len(payload)):], length-sequence, offset+sequence
	}
	if mayGoOn {
		if p := e.session.partialOf(e); p != nil {
			e.goOn(p, payload, length, base)
			return
		}
	}
	w := &d.walk
	w.Start(payload, length, base)
	for w.Next() {
		e.service(w, offset)
	}
	if w.Err() != nil {
		e.isMalformed(envelope, reasonOfENIP(w.Err()))
	}
}

// isMalformed makes the whole message one that is no lawful message.
func (e *enipJudgement) isMalformed(envelope *enipMessage, why string) {
	e.verdict = verdict.Denied(verdict.ReasonMalformed)
	envelope.verdict, envelope.malformed = e.verdict, why
}

// service judges the service that the walk has found, and notes it.
func (e *enipJudgement) service(w *cip.Walk, offset int) {
	d, q := e.session.dissector, &w.Request
	if q.Seen == 0 {
		return
	}
	d.visited++
	v, why := d.check.EvalCIP(w), ""
	if managesConnections(q) {
		v, why = e.manage(q, v)
	}
	switch {
	case e.services == 0:
		e.outer, e.outerCode = offset+q.Offset, q.Code
	case e.services == 1 && q.Depth == 1 && w.Within(0) == cip.Outer{Code: cip.UnconnectedSend, Owner: cip.ConnectionManager}:
		e.inner, e.innerCode = offset+q.Offset, q.Code
	}
	if !v.Allows() && e.verdict.Allows() {
		e.verdict, e.inside = v, q.Depth > 0
	}
	line := d.next()
	*line = enipMessage{
		raw: e.raw, index: e.services, code: q.Code, owner: q.Owner, verdict: v, why: why, connection: e.connection,
	}
	e.services++
	if d.used >= len(d.decoded) {
		e.noRoom(line, v)
	}
}

// manage notes a Forward Open or Close, and denies one that could not be kept for its reply.
func (e *enipJudgement) manage(q *cip.Request, v verdict.Verdict) (verdict.Verdict, string) {
	e.manages = true
	if v.Allows() && q.Offset+q.Length > maxKeptRequest {
		return verdict.Denied(verdict.ReasonMalformed), errManagedLate
	}
	name, opens, ok := managedName(q)
	if !ok {
		return v, ""
	}
	e.names.add(name)
	if opens {
		e.opens.add(name)
	}
	if e.r.observed || v.Allows() {
		e.asked = e.session.doubt(name)
	}
	return v, ""
}

// errManagedLate is why a service is denied of which too little would be kept to know what its reply changes: under
// an identifier that passes to another connection unseen, services would be judged by the route of the old one.
const errManagedLate = "service that opens or closes a connection, behind the first 640 bytes of its message"

// noRoom counts a line whose storage the next one will take. The first denial is kept for the last place of
// the list.
func (e *enipJudgement) noRoom(line *enipMessage, v verdict.Verdict) {
	switch {
	case v.Allows():
		e.permitted++
	default:
		if e.denied == 0 {
			e.session.dissector.last = *line
		}
		e.denied++
	}
}

// settle records the lines of the message. Where it was denied, what is permitted in it shares that, unless
// the message is only observed: then each says what would have been said of it alone. The line of the
// encapsulation counts only where it says more than the services inside.
func (e *enipJudgement) settle() {
	d := e.session.dissector
	shared := verdict.Permitted
	if !e.r.observed {
		shared = e.verdict
	}
	e.settleEnvelope(shared)
	for i := e.first + 1; i < min(d.used, len(d.decoded)-1); i++ {
		e.record(&d.decoded[i], shared)
	}
	more := Message{Direction: stream.FromInitiator, Protocol: policy.ProtocolENIP, Layer: layerCIP}
	for range e.denied {
		more.Verdict, more.body = d.last.verdict, &d.last
		e.r.record(more)
	}
	for range e.permitted {
		more.Verdict, more.body = orShared(verdict.Permitted, shared), nil
		e.r.record(more)
	}
}

// settleEnvelope records the line of the encapsulation. Where there is no room for it the last place is for
// a denial: a service's, if one has been denied that has found no room either.
func (e *enipJudgement) settleEnvelope(shared verdict.Verdict) {
	d := e.session.dissector
	switch {
	case e.first < len(d.decoded)-1:
		d.decoded[e.first] = e.envelope
		e.record(&d.decoded[e.first], shared)
	case e.denied > 0:
	case e.envelope.verdict.Allows():
		e.r.record(Message{
			Direction: stream.FromInitiator, Protocol: policy.ProtocolENIP, Verdict: orShared(e.envelope.verdict, shared),
			Envelope: e.services > 0,
		})
	default:
		d.last = e.envelope
		e.record(&d.last, shared)
	}
}

func orShared(own, shared verdict.Verdict) verdict.Verdict {
	if own.Allows() {
		return shared
	}
	return own
}

func (e *enipJudgement) record(line *enipMessage, shared verdict.Verdict) {
	own := line.verdict
	m := Message{
		Direction: stream.FromInitiator, Protocol: policy.ProtocolENIP, Layer: line.layer(),
		Verdict: orShared(own, shared), Malformed: line.malformed, body: line,
	}
	m.Envelope = line.index == isEnvelope && e.services > 0 && own.Allows()
	e.r.record(m)
}

// thirdParty says what is wrong with the socket addresses of a message, "" if nothing is: they would have
// the other end send I/O data to a host or port that no conduit names.
func (s *enipSession) thirdParty(m *enip.Message, d stream.Direction) string {
	for _, socket := range []enip.Socket{m.ToTarget, m.ToSource} {
		if !socket.Given {
			continue
		}
		addr := socket.Address.Addr()
		if own := s.ends[d].Addr(); addr != own && !addr.IsUnspecified() && !(d == stream.FromResponder && s.answersTo(m, addr)) {
			return fmt.Sprintf("socket address names another host: %s", addr)
		}
		if port := socket.Address.Port(); port != implicitPort && port != 0 {
			return fmt.Sprintf("socket address names another port: %d", port)
		}
	}
	return ""
}

// answersTo tells whether a device may name the address beside its own: a group to which it sends, or the client for
// what is sent to that. There are stacks that put the client's own item into their replies.
func (s *enipSession) answersTo(m *enip.Message, addr netip.Addr) bool {
	return addr.IsMulticast() || addr == s.ends[stream.FromInitiator].Addr() && m.ToTarget.Address.Addr() != addr
}
