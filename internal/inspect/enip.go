package inspect

import (
	"errors"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// enipDissector opens EtherNet/IP sessions. They share the storage of what a packet's messages are read
// into, and of requests that wait for their replies.
type enipDissector struct {
	limits   Limits
	decoded  []enipMessage // of the packet under judgement; never grows, so that pointers hold
	used     int
	last     enipMessage // the denial in the last place of a full list
	requests pool[enipWaiting]
	io       *ioTable     // in common
	named    *identifiers // in common
	told     IOConnections
	counters *Counters
	partials []*enipPartial // spare
	visited  int            // services judged, for tests of what judging costs

	// What follows belongs to the message under judgement and is used again for the next.
	message enip.Message
	walk    cip.Walk
	replies cip.ReplyWalk
	check   policy.ENIPCheck
	edited  []byte // the message that was edited last
}

func newENIPDissector(l Limits, c *Common, io IOConnections, counters *Counters) *enipDissector {
	return &enipDissector{
		limits:   l,
		decoded:  make([]enipMessage, l.Messages+1),
		requests: pool[enipWaiting]{limit: l.AllRequests, used: &c.requests},
		io:       c.io, named: c.named, told: io, counters: counters,
	}
}

func (d *enipDissector) begin() { d.used = 0 }

// implicitPort is where class 0 and 1 connections carry their data (V2 2-2).
const implicitPort = 2222

func (d *enipDissector) open(o opening) session {
	if o.datagrams && (o.ends[0].Port() == implicitPort || o.ends[1].Port() == implicitPort) {
		return &implicitSession{dissector: d, ends: o.ends}
	}
	return &enipSession{
		dissector: d, ends: o.ends, datagrams: o.datagrams,
		requests: enipOutstanding{unanswered: unanswered[enipWaiting]{pool: &d.requests, share: o.share, limit: d.limits.Requests}},
	}
}

// next returns storage for one message. Where a packet has more than are recorded, the last place is used
// again: a message that finds no room in the list is not asked for anything.
func (d *enipDissector) next() *enipMessage {
	i := min(d.used, len(d.decoded)-1)
	d.used++
	d.decoded[i] = enipMessage{}
	return &d.decoded[i]
}

// enipSession is one TCP connection that carries EtherNet/IP, or the discovery datagrams between two ends.
type enipSession struct {
	dissector *enipDissector
	ends      [2]netip.AddrPort
	datagrams bool

	handle      uint32 // of the encapsulation session, 0 if there is none
	requests    enipOutstanding
	connections []*enipConnection // explicit ones, in the order of their opening
	partial     *enipPartial      // of the message at the front, where that is long and not whole
	effects     []enipEffect      // of the replies since the last commit

	grace     time.Time // until then requests and connections may be under way that were not seen
	seenReply bool      // one has matched since
	adopts    bool      // the session was there before it was seen, and its handle is not known
}

func (s *enipSession) read(r *reading, d stream.Direction, b []byte) step {
	if d == stream.FromInitiator {
		return s.readRequest(r, b)
	}
	return s.readResponse(r, b)
}

// readRequest judges a message of the client. Of one that is not whole it asks whether any whole one that
// begins so could be permitted: if none could, its bytes stop here.
func (s *enipSession) readRequest(r *reading, b []byte) step {
	d := s.dissector
	if !r.measured {
		r.measured, r.waits = true, !r.observed && !s.fits(r, b)
	}
	m := &d.message
	n, err := enip.Parse(b, enip.Request, m)
	if err != nil && !errors.Is(err, enip.ErrNeedMore) {
		return s.malformed(r, stream.FromInitiator, b, err)
	}
	if n == 0 && r.observed {
		return step{verdict: verdict.Permitted}
	}
	room := s.requests.room(1, r.now, d.limits.Answer)
	if n > 0 {
		s.forget()
	}
	e := enipJudgement{session: s, r: r, m: m, raw: b[:m.Seen], known: max(0, len(b)-r.fresh), whole: n > 0}
	if e.judge(true); !e.verdict.Allows() && s.partial != nil {
		// Once more from the beginning, for what is told of it.
		d.check.Release()
		s.forget()
		d.used = e.first
		e = enipJudgement{session: s, r: r, m: m, raw: b[:m.Seen], known: e.known}
		e.judge(false)
	}
	waits := isAnswered(m.Command) && !r.observed && (!room || r.waits)
	if n > 0 && e.verdict.Allows() && !waits {
		d.check.Pay()
		return s.requestRead(r, b, n, &e, room)
	}
	d.check.Release()
	switch {
	case n == 0 && e.verdict.Allows():
		return step{verdict: e.verdict}
	case n == 0:
		e.settle()
		return step{verdict: e.verdict}
	case e.verdict.Allows():
		return step{verdict: verdict.Denied(verdict.ReasonTableFull)}
	}
	return s.requestRead(r, b, n, &e, room)
}

// isAnswered tells whether the device sends a message back: of SendUnitData one of the same command.
func isAnswered(c enip.Command) bool { return c.HasReply() || c == enip.SendUnitData }

// requestRead files a whole request for its reply, or refuses it.
func (s *enipSession) requestRead(r *reading, b []byte, n int, e *enipJudgement, room bool) step {
	m := &s.dissector.message
	var w *enipWaiting
	if isAnswered(m.Command) {
		if room {
			w = s.requests.add(e, r.now)
		} else {
			s.lose(r.now) // the reply that will come matches nothing
		}
	}
	if e.verdict.Allows() {
		e.settle()
		s.noteRequest(r, m)
		return step{size: n, verdict: e.verdict}
	}
	e.settle()
	return s.refuse(r, b, n, e, w)
}

// noteRequest keeps what a request without a reply changes.
func (s *enipSession) noteRequest(r *reading, m *enip.Message) {
	if m.Command == enip.UnregisterSession {
		s.effects = append(s.effects, enipEffect{kind: effectUnregister, flow: r.flow})
	}
}

// fits reports whether there is room for the replies of all whole messages in b, which leave together.
func (s *enipSession) fits(r *reading, b []byte) bool {
	count := 0
	for len(b) >= enip.HeaderLength {
		size := enip.HeaderLength + int(b[2]) + int(b[3])<<8
		if size > len(b) {
			break
		}
		b = b[size:]
		count++
	}
	return s.requests.room(count, r.now, s.dissector.limits.Answer)
}

// malformed refuses bytes that are no lawful message. An observer believes the header about where the next
// one begins, if all of it is here.
func (s *enipSession) malformed(r *reading, d stream.Direction, b []byte, err error) step {
	v := verdict.Denied(verdict.ReasonMalformed)
	r.record(Message{Direction: d, Protocol: policy.ProtocolENIP, Verdict: v, Malformed: reasonOfENIP(err)})
	if !r.observed || len(b) < enip.HeaderLength {
		return step{verdict: v}
	}
	n := enip.HeaderLength + int(b[2]) + int(b[3])<<8
	if n > len(b) {
		return step{verdict: v}
	}
	if d == stream.FromInitiator {
		s.lose(r.now) // its reply matches nothing
	}
	return step{size: n, verdict: v}
}

// reasonOfENIP returns why a parser refused, in one phrase.
func reasonOfENIP(err error) string {
	var outer *enip.MalformedError
	var inner *cip.MalformedError
	switch {
	case errors.As(err, &outer):
		return outer.Reason
	case errors.As(err, &inner):
		return inner.Reason
	}
	return err.Error()
}

// lenient reports whether requests may be under way that were not seen.
func (s *enipSession) lenient(now time.Time) bool { return !s.seenReply && now.Before(s.grace) }

// joined says that the session may have begun before: its handle and its connections are learnt from what
// is used, within JoinGrace.
func (s *enipSession) joined(now time.Time) {
	s.lose(now)
	s.adopts = s.handle == 0
}

// lose says that a request went by without being filed.
func (s *enipSession) lose(now time.Time) { s.grace, s.seenReply = now.Add(JoinGrace), false }

// misaligned reads whole messages until nothing is left.
func (s *enipSession) misaligned(d stream.Direction, b []byte) string {
	direction := enip.Request
	if d == stream.FromResponder {
		direction = enip.Reply
	}
	for len(b) > 0 {
		n, err := enip.Parse(b, direction, &s.dissector.message)
		switch {
		case errors.Is(err, enip.ErrNeedMore):
			return "no whole message in one segment"
		case err != nil:
			return reasonOfENIP(err)
		}
		b = b[n:]
	}
	return ""
}

func (s *enipSession) commit() {
	s.requests.use()
	s.requests.commit()
	for i := range s.effects {
		s.apply(&s.effects[i])
	}
	s.effects = s.effects[:0]
}

func (s *enipSession) rollback() {
	s.requests.rollback()
	s.forget() // other bytes may come in place of those that were dropped
	s.effects = s.effects[:0]
}

// Receivers frame messages by the length in their header, so that nothing has to be held back: what those could read that
// do not wait for all of a message is denied with it, see holdsAnother.
func (s *enipSession) flushing() bool { return false }
func (s *enipSession) fenced() bool   { return false }

func (s *enipSession) sweep(now time.Time) verdict.Reason {
	why := s.requests.overdue(now, s.dissector.limits.Refusal)
	s.requests.expire(now, s.dissector.limits.Answer)
	return why
}

func (s *enipSession) close() {
	s.requests.clear()
	s.forget()
	s.dismissAll()
	s.handle, s.connections, s.effects = 0, nil, nil
	s.grace, s.seenReply, s.adopts = time.Time{}, false, false
}
