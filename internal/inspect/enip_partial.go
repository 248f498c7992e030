package inspect

import (
	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// longPrefix is how much of an incomplete message is judged from its beginning with each segment. Of a longer one
// it is remembered what has been judged, so that a message costs what it has and not that times its
// segments.
const longPrefix = 256

// enipPartial is how far an incomplete message was judged.
type enipPartial struct {
	plan    *policy.Plan // by which, and the conduit
	conduit uint32
	begun   bool
	walk    cip.Walk
	so      policy.ENIPSoFar // of the service that the walk has found last
}

// partialOf returns what is remembered of the incomplete message under judgement, nil if it is judged from its
// beginning.
func (s *enipSession) partialOf(e *enipJudgement) *enipPartial {
	if e.whole || e.r.observed || len(e.raw) < longPrefix {
		return nil
	}
	if s.partial == nil {
		s.partial = s.dissector.newPartial()
	}
	if p := s.partial; p.plan != e.r.plan || p.conduit != e.r.conduit {
		p.plan, p.conduit, p.begun = e.r.plan, e.r.conduit, false
	}
	return s.partial
}

// forget lets go of what is remembered of a message: it is whole, or its session is over.
func (s *enipSession) forget() {
	if s.partial != nil {
		s.dissector.keepPartial(s.partial)
		s.partial = nil
	}
}

func (d *enipDissector) newPartial() *enipPartial {
	n := len(d.partials)
	if n == 0 {
		return new(enipPartial)
	}
	p := d.partials[n-1]
	d.partials = d.partials[:n-1]
	return p
}

// keepPartial keeps the storage for another message, for a few.
func (d *enipDissector) keepPartial(p *enipPartial) {
	p.plan, p.begun = nil, false
	if len(d.partials) < spareWaiting {
		d.partials = append(d.partials, p)
	}
}

// goOn judges what has come of the message since it was judged last. What was permitted stays so, for each
// service is judged again until it is whole, and the message once more when it is.
func (e *enipJudgement) goOn(p *enipPartial, payload []byte, length int, base []cip.Hop) {
	d := e.session.dissector
	again, ok := false, false
	if p.begun {
		again, ok = p.walk.Extend(payload)
	} else {
		p.begun = true
		p.walk.Start(payload, length, base)
		ok = p.walk.Next()
	}
	for ok && e.verdict.Allows() {
		if !again {
			p.so = policy.ENIPSoFar{}
		}
		d.visited++
		if v := d.check.EvalMore(&p.walk, &p.so); p.walk.Request.Seen > 0 && !v.Allows() {
			e.verdict = v
		}
		again, ok = false, p.walk.Next()
	}
	if p.walk.Err() != nil {
		e.verdict = verdict.Denied(verdict.ReasonMalformed)
	}
}
