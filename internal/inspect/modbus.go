package inspect

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// modbusDissector opens Modbus/TCP sessions. They share the storage of decoded messages and of
// requests that wait for their replies.
type modbusDissector struct {
	limits   Limits
	decoded  []modbusMessage // of the packet under judgement; never grows, so that pointers hold
	used     int
	last     modbusMessage // the denial in the last place of a full list
	requests pool[waiting]
	edited   [modbus.MaxMessage]byte // the message that was edited last

	measured, without *policy.Plan // see unmeasured
}

func newModbusDissector(l Limits, used *atomic.Int64) *modbusDissector {
	return &modbusDissector{
		limits:   l,
		decoded:  make([]modbusMessage, l.Messages+1),
		requests: pool[waiting]{limit: l.AllRequests, used: used},
	}
}

func (m *modbusDissector) begin() { m.used = 0 }

// open refuses datagrams: Modbus over UDP is not Modbus/TCP.
func (m *modbusDissector) open(o opening) session {
	if o.datagrams {
		return nil
	}
	return &modbusSession{dissector: m, requests: outstanding{unanswered: unanswered[waiting]{pool: &m.requests, share: o.share, limit: m.limits.Requests}}}
}

// next returns storage for one message. Where a packet has more than are recorded, the last
// place is used again: a message that finds no room in the list is not asked for anything.
func (m *modbusDissector) next(response bool) *modbusMessage {
	i := min(m.used, len(m.decoded)-1)
	m.used++
	m.decoded[i].isResponse, m.decoded[i].answered = response, nil
	return &m.decoded[i]
}

// modbusSession is one Modbus/TCP connection.
type modbusSession struct {
	dissector *modbusDissector
	requests  outstanding
	split     bool      // the request at the front came in pieces, its function code among the first
	grace     time.Time // until then a reply may belong to a request that was not seen
	seenReply bool      // one has matched since
}

func (s *modbusSession) read(r *reading, d stream.Direction, b []byte) step {
	if d == stream.FromInitiator {
		return s.readRequest(r, b)
	}
	return s.readResponse(r, b)
}

// readRequest judges a request. Of one that is not whole it asks whether any whole one that
// begins so could be permitted: if none could, its bytes stop here.
func (s *modbusSession) readRequest(r *reading, b []byte) step {
	if s.requests.fenced() {
		return s.held()
	}
	if !r.measured {
		r.measured, r.waits = true, !r.observed && !s.fits(r, b)
	}
	m := s.dissector.next(false)
	n, err := modbus.ParseRequest(b, &m.request)
	if err != nil && !errors.Is(err, modbus.ErrNeedMore) {
		return s.malformed(r, stream.FromInitiator, b, err)
	}
	if n == 0 {
		return s.readPrefix(r, m)
	}
	if s.split && !m.request.Function.SelfDelimiting() {
		return s.inPieces(r, b, errInPieces)
	}
	s.split = false
	v, w := s.evaluate(r, &m.request)
	s.record(r, stream.FromInitiator, v, m)
	if !v.Allows() {
		return s.refuse(r, b, n, v, w)
	}
	return step{size: n, verdict: v}
}

// fits reports whether there is room for all the requests that b begins with and that are to leave
// together. Those up to the first that ends the connection are counted.
func (s *modbusSession) fits(r *reading, b []byte) bool {
	patience := s.dissector.limits.Answer
	if s.requests.room(len(b)/shortestRequest, r.now, patience) {
		return true
	}
	m, count := s.dissector.next(false), 0
	for len(b) > 0 {
		n, err := modbus.ParseRequest(b, &m.request)
		if n == 0 || err != nil || !r.exceptions && !r.plan.EvalModbus(r.conduit, &m.request).Allows() {
			break
		}
		b = b[n:]
		count++
	}
	s.dissector.used-- // nobody points to it
	return s.requests.room(count, r.now, patience)
}

// shortestRequest is the length of a request without anything but a function code (TCP 3.1.3).
const shortestRequest = 8

// evaluate asks the policy, and files the request for its reply. Where there is no room for it, or
// for others in its segment, nothing is taken from a rate: its sender will repeat it.
func (s *modbusSession) evaluate(r *reading, request *modbus.Request) (v verdict.Verdict, w *waiting) {
	room := s.requests.room(1, r.now, s.dissector.limits.Answer)
	if !room && !r.observed {
		if v := r.plan.EvalModbus(r.conduit, request); !v.Allows() {
			return v, nil
		}
		return verdict.Denied(verdict.ReasonTableFull), nil
	}
	if r.waits {
		return verdict.Denied(verdict.ReasonTableFull), nil
	}
	if room {
		w = s.requests.add(request, r.now)
	} else {
		s.joined(r.now) // the reply that will come matches nothing
	}
	return r.plan.EvalModbusRate(r.conduit, request, r.rates, r.now), w
}

// readPrefix decides whether the beginning of a request may leave. An observer waits for the
// rest, which came by or will.
func (s *modbusSession) readPrefix(r *reading, m *modbusMessage) step {
	knowsFunction := m.request.Function != 0
	if r.observed {
		s.split = s.split || knowsFunction
		return step{verdict: verdict.Permitted}
	}
	v := r.plan.EvalModbus(r.conduit, &m.request)
	switch {
	case !v.Allows():
		s.record(r, stream.FromInitiator, v, m)
		return step{verdict: v}
	case knowsFunction && !m.request.Function.SelfDelimiting():
		return s.inPieces(r, nil, errInPieces)
	}
	// A piece behind a request that the device may flush could be flushed with it, and the next
	// piece be read as a request. Behind a fence in its segment the segment is denied for that.
	if v := s.requests.fencedBy(); !v.Allows() {
		return step{verdict: v}
	}
	if s.requests.flushing() {
		return s.inPieces(r, nil, errPiecesBehind)
	}
	return step{verdict: verdict.Permitted}
}

// inPieces refuses a request in pieces whose function has no length of its own, or that comes
// behind one over which the device may flush. Servers exist that answer a code with an exception,
// flush what has come so far, and read the rest as the next request (see
// modbus.FunctionCode.SelfDelimiting and Flushes).
func (s *modbusSession) inPieces(r *reading, b []byte, why *modbus.MalformedError) step {
	return s.malformed(r, stream.FromInitiator, b, why)
}

var (
	errInPieces     = &modbus.MalformedError{Reason: "request in pieces whose function does not say its own length"}
	errPiecesBehind = &modbus.MalformedError{Reason: "request in pieces behind one that not every device knows, before its reply"}
)

// record notes a message, and keeps what it points to where the place of m is used again.
func (s *modbusSession) record(r *reading, d stream.Direction, v verdict.Verdict, m *modbusMessage) {
	if r.messages.takesLast(v) {
		s.dissector.last = *m
		m = &s.dissector.last
	}
	r.record(Message{Direction: d, Protocol: policy.ProtocolModbus, Verdict: v, body: m})
}

// malformed refuses bytes that are no lawful message. An observer believes a lawful header about
// where the next one begins, if all of it is here: servers went on there too.
func (s *modbusSession) malformed(r *reading, d stream.Direction, b []byte, err error) step {
	v := verdict.Denied(verdict.ReasonMalformed)
	s.split = false
	r.record(Message{Direction: d, Protocol: policy.ProtocolModbus, Verdict: v, Malformed: reasonOf(err)})
	n := claimedLength(b)
	if !r.observed || n == 0 || n > len(b) {
		return step{verdict: v}
	}
	if d == stream.FromInitiator {
		s.joined(r.now) // its reply matches nothing
	}
	return step{size: n, verdict: v}
}

// claimedLength returns how long the message at the front of b is by its header alone, 0 if the
// header is not lawful (TCP 3.1.3).
func claimedLength(b []byte) int {
	if len(b) < 8 || b[2]|b[3]|b[4] != 0 || b[5] < 2 || b[5] > 254 {
		return 0
	}
	return 6 + int(b[5])
}

// reasonOf returns why a parser refused, in one phrase.
func reasonOf(err error) string {
	var bad *modbus.MalformedError
	if errors.As(err, &bad) {
		return bad.Reason
	}
	return err.Error()
}

// readResponse judges a reply: it has to answer a request that waits for one.
func (s *modbusSession) readResponse(r *reading, b []byte) step {
	m := s.dissector.next(true)
	n, err := modbus.ParseResponse(b, &m.response)
	switch {
	case err != nil && !errors.Is(err, modbus.ErrNeedMore):
		return s.malformed(r, stream.FromResponder, b, err)
	case n == 0 && (r.observed || s.lenient(r.now) || s.requests.expects(&m.response)):
		return s.refusedPrefix(b, m)
	case n == 0:
		return s.unsolicited(r, m, 0, verdict.ReasonUnsolicitedReply)
	}
	request, why := s.requests.answer(&m.response)
	switch {
	case request != nil:
		m.answered, s.seenReply = &request.request, true
		if request.refusal.active() {
			return s.refused(r, b[:n], m, request)
		}
	case !s.lenient(r.now) || s.requests.refuses(&m.response):
		return s.unsolicited(r, m, n, why)
	}
	s.record(r, stream.FromResponder, verdict.Permitted, m)
	return step{size: n, verdict: verdict.Permitted}
}

// unsolicited refuses a reply that answers nothing.
func (s *modbusSession) unsolicited(r *reading, m *modbusMessage, size int, why verdict.Reason) step {
	v := verdict.Denied(why)
	s.record(r, stream.FromResponder, v, m)
	return step{size: size, verdict: v}
}

// lenient reports whether requests may be under way that were not seen.
func (s *modbusSession) lenient(now time.Time) bool { return !s.seenReply && now.Before(s.grace) }

func (s *modbusSession) joined(now time.Time) {
	s.grace, s.seenReply, s.split = now.Add(JoinGrace), false, false
}

// misaligned reads whole messages until nothing is left.
func (s *modbusSession) misaligned(d stream.Direction, b []byte) string {
	m := s.dissector.next(d == stream.FromResponder)
	for len(b) > 0 {
		n, err := 0, error(nil)
		if d == stream.FromInitiator {
			n, err = modbus.ParseRequest(b, &m.request)
		} else {
			n, err = modbus.ParseResponse(b, &m.response)
		}
		switch {
		case errors.Is(err, modbus.ErrNeedMore):
			return "no whole message in one segment"
		case err != nil:
			return reasonOf(err)
		}
		b = b[n:]
	}
	return ""
}

func (s *modbusSession) commit()        { s.requests.commit() }
func (s *modbusSession) rollback()      { s.requests.rollback() }
func (s *modbusSession) flushing() bool { return s.requests.flushing() }
func (s *modbusSession) fenced() bool   { return s.requests.fenced() }

func (s *modbusSession) sweep(now time.Time) verdict.Reason {
	why := s.requests.overdue(now, s.dissector.limits.Refusal)
	s.requests.expire(now, s.dissector.limits.Answer)
	return why
}

func (s *modbusSession) close() {
	s.requests.clear()
	s.split, s.seenReply, s.grace = false, false, time.Time{}
}

// modbusMessage is a decoded request or response.
type modbusMessage struct {
	request    modbus.Request
	response   modbus.Response
	isResponse bool
	answered   *modbus.Request // what a response answers, where known
}

// changes tells a request that writes from one that reads, and calls what is not known a change.
func (m *modbusMessage) changes() bool {
	if m.isResponse {
		return false
	}
	_, writes := m.request.WriteRange()
	return writes || m.request.Function == modbus.WriteFileRecord || !m.request.Function.Public()
}

func (m *modbusMessage) operation() string {
	switch {
	case !m.isResponse && m.request.Function == 0, m.isResponse && m.response.Function == 0:
		return "" // the code has not arrived
	case !m.isResponse:
		return m.request.Operation()
	}
	if m.answered != nil {
		return m.answered.Operation() // an exception does not repeat everything
	}
	return m.response.Operation()
}

func (m *modbusMessage) fields() any {
	if !m.isResponse {
		return m.request.Fields()
	}
	return m.response.FieldsAnswering(m.answered)
}

// detail names the unit and what the request is about; for a response, that of its request.
func (m *modbusMessage) detail() string {
	r := &m.request
	if m.isResponse {
		if r = m.answered; r == nil {
			return fmt.Sprintf("unit %d", m.response.Unit)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "unit %d", r.Unit)
	reads, hasReads := r.ReadRange()
	writes, hasWrites := r.WriteRange()
	switch {
	case hasReads && hasWrites:
		fmt.Fprintf(&b, " read %s write %s", addresses(reads), addresses(writes))
	case hasReads:
		fmt.Fprintf(&b, " %s", addresses(reads))
	case hasWrites:
		fmt.Fprintf(&b, " %s", addresses(writes))
	case r.Function == modbus.Diagnostics:
		fmt.Fprintf(&b, " %s", modbus.SubFunctionName(r.SubFunction))
	case r.Function == modbus.EncapsulatedInterfaceTransport:
		fmt.Fprintf(&b, " MEI type %d", r.MEIType)
	}
	for records := r.Records(); records.Next(); {
		fmt.Fprintf(&b, " file %d record %d length %d", records.File, records.Number, records.Length)
	}
	return b.String()
}

// addresses writes a range as people say it: "address 5", "address 100-101".
func addresses(g modbus.Range) string {
	if g.Quantity <= 1 {
		return fmt.Sprintf("address %d", g.Address)
	}
	return fmt.Sprintf("address %d-%d", g.Address, g.Last())
}
