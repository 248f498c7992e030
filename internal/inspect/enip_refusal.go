package inspect

import (
	"slices"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// enipRefusal is what a request that went on neutralised is to be refused with.
type enipRefusal struct {
	active bool
	reason verdict.Reason
	code   cip.ServiceCode // that the client asked for
	inner  bool            // the service in an Unconnected Send was neutralised, not the outermost
}

// refuse neutralises a denied request of n bytes at the front of b: one service code becomes
// Get_Attributes_All, which reads, and everything else stays. The reply to that, be it an error or data,
// becomes the refusal. One denied service denies the message, so that it is the outermost that changes, or
// if the denial is of what an Unconnected Send carries, that: the route is permitted then, and the device
// at its end refuses. What cannot be refused so is denied, which ends the connection: see
// docs/decisions/cip-refusal.md.
func (s *enipSession) refuse(r *reading, b []byte, n int, e *enipJudgement, w *enipWaiting) step {
	denied := step{size: n, verdict: e.verdict}
	if !r.exceptions || w == nil || len(b) > r.fresh || !refusable(e) {
		return denied
	}
	at, code, inner := e.outer, e.outerCode, false
	if e.inside && e.inner != 0 {
		at, code, inner = e.inner, e.innerCode, true
	}
	if code == cip.GetAttributesAll || w.outerCode == cip.GetAttributesAll {
		return denied // it would be executed as it is
	}
	s.dissector.edited = append(s.dissector.edited[:0], b[:n]...)
	s.dissector.edited[at] = byte(cip.GetAttributesAll)
	s.requests.refuse(w, enipRefusal{active: true, reason: e.verdict.Reason, code: code, inner: inner})
	return step{size: n, verdict: verdict.Permitted, edited: s.dissector.edited}
}

// refuse notes that a request of the list went on neutralised. What its reply is to be read from nobody may have: a
// device repeats it where the next request on a connection has the same sequence count, and of requests in one
// context it may answer another first.
func (o *enipOutstanding) refuse(w *enipWaiting, r enipRefusal) {
	w.refusal, w.exposed = r, verdict.ReasonNone
	o.refused++
	if w.connection != nil {
		w.connection.refused, w.connection.refusedSequence = r.reason, w.sequence
	}
	for _, x := range o.list {
		if x != w && !x.refusal.active && x.sharesReply(w) {
			x.exposed = r.reason
		}
	}
}

// expose notes of a request that joins the list whether it may get the reply of one that was refused.
func (o *enipOutstanding) expose(w *enipWaiting) {
	w.exposed = verdict.ReasonNone
	if c := w.connection; c != nil {
		if c.refused != verdict.ReasonNone && c.refusedSequence == w.sequence {
			w.exposed = c.refused
			return
		}
		c.refused = verdict.ReasonNone
	}
	if o.refused == 0 {
		return
	}
	for _, x := range o.list {
		if x != w && x.refusal.active && x.sharesReply(w) {
			w.exposed = x.refusal.reason
		}
	}
}

// sharesReply tells whether a reply may be to either of two requests, if services do not tell them apart.
func (w *enipWaiting) sharesReply(x *enipWaiting) bool {
	if w.command != x.command || w.connection != x.connection {
		return false
	}
	return w.connection != nil && w.sequence == x.sequence || w.connection == nil && w.context == x.context
}

// cover refuses a request whose reply is one to Get_Attributes_All, and may be that of another which was refused.
func (o *enipOutstanding) cover(w *enipWaiting, code cip.ServiceCode) {
	if w == nil || w.exposed == verdict.ReasonNone || code != cip.GetAttributesAll {
		return
	}
	refused := w.outerCode
	if w.inUnconnected {
		refused = w.innerCode
	}
	o.refuse(w, enipRefusal{active: true, reason: w.exposed, code: refused, inner: w.inUnconnected})
}

// refusable tells whether the denial is one that the device's own refusal can stand for: of a lawful message
// in its session, that has no other in it, for all of it but one byte would leave.
func refusable(e *enipJudgement) bool {
	if e.hides {
		return false
	}
	switch e.verdict.Reason {
	case verdict.ReasonServiceNotPermitted, verdict.ReasonPathNotPermitted, verdict.ReasonTagNotPermitted,
		verdict.ReasonRouteNotPermitted, verdict.ReasonValueNotPermitted, verdict.ReasonRateExceeded,
		verdict.ReasonAddressNotPermitted:
		return e.services > 0 && (!e.m.Connected || e.connection != nil)
	}
	return false
}

// rewrite makes a reply, or the beginning of one, the refusal of the request that w is: the service that was
// asked for, status privilege violation, and zeros as far as the reply goes. CIP replies have no length of
// their own, so that the encapsulation's stays. It returns what leaves, of which the last fresh bytes are made:
// those before them have left.
func (s *enipSession) rewrite(b []byte, p *enipReply, w *enipWaiting, fresh int) []byte {
	d := s.dissector
	from, end := max(0, len(b)-fresh), p.offset+len(p.payload)
	d.edited = slices.Grow(d.edited[:0], len(b))[:len(b)]
	copy(d.edited[from:], b[from:])
	clear(d.edited[min(max(from, p.offset), end):end])
	const status = 2
	if len(p.payload) > 0 {
		d.edited[p.offset] = byte(w.refusal.code) | 0x80
	}
	if len(p.payload) > status {
		d.edited[p.offset+status] = cip.StatusPrivilegeViolation
	}
	return d.edited
}

// refused turns the device's reply to a neutralised request into the client's refusal. A reply without a
// service, such as an error of the encapsulation, cannot be: it would tell the client something else.
func (s *enipSession) refused(r *reading, b []byte, m *enip.Message, p *enipReply, w *enipWaiting) step {
	const least = 4
	if m.Status != 0 || len(p.payload) < least {
		return s.unsolicited(r, b, len(b), w.refusal.reason, "the device has answered a refused request with an error of the encapsulation")
	}
	edited := s.rewrite(b, p, w, len(b))
	var message enip.Message
	if _, err := enip.Parse(edited, enip.Reply, &message); err == nil {
		s.recordReply(r, edited, &message, w, verdict.Permitted, "")
	}
	return step{size: len(b), verdict: verdict.Permitted, edited: edited}
}
