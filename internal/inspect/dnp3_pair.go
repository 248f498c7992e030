package inspect

import (
	"crypto/sha256"
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// dnp3Pair is a master and an outstation that speak on a connection.
type dnp3Pair struct {
	master, outstation uint16
	dnp3State
}

// dnp3State is what is known of a pair. It is copied before a packet changes it.
type dnp3State struct {
	assembly  [2]dnp3.Assembly // by direction
	parts     [2]*assembly     // of the messages within it; nil before the first whole segment
	waiting   [16]dnp3Waiting  // by sequence number
	selection dnp3Selection
}

// instant is a time in nanoseconds since 1970, a third of the size of a time.Time; 0 is none.
type instant int64

func instantOf(t time.Time) instant { return instant(t.UnixNano()) }

// past tells whether more time than patience has gone by since; it has not since none.
func (i instant) past(now time.Time, patience time.Duration) bool {
	return i != 0 && time.Duration(instantOf(now)-i) > patience
}

// dnp3Waiting is what may come with one sequence number.
type dnp3Waiting struct {
	asked     instant        // when a request was forwarded whose response is to come
	continues instant        // when a fragment was forwarded that another one follows
	count     uint8          // requests whose responses are to come, for a sender may repeat itself
	refused   verdict.Reason // why all of them went on neutralised; ReasonNone if none did
	sequence  uint8
}

// maxRepeated is how many requests with one sequence number may wait.
const maxRepeated = 255

// dnp3Selection is the last select that was forwarded.
type dnp3Selection struct {
	at       instant
	sequence uint8
	objects  [sha256.Size]byte
}

// assembly holds a message of which not every segment has come.
type assembly struct {
	bytes [dnp3.MaxMessage]byte
	used  int
}

// assemblyPool bounds the messages that are being put together on all connections, and keeps their
// storage for reuse.
type assemblyPool struct {
	limit int
	used  *atomic.Int64 // by all pipelines that share the limit
	spare []*assembly
}

// spareAssemblies is how many are kept for reuse.
const spareAssemblies = 64

func (p *assemblyPool) get() *assembly {
	p.used.Add(1)
	if n := len(p.spare); n > 0 {
		a := p.spare[n-1]
		p.spare = p.spare[:n-1]
		a.used = 0
		return a
	}
	return new(assembly)
}

func (p *assemblyPool) put(a *assembly) {
	p.used.Add(-1)
	if len(p.spare) < spareAssemblies {
		p.spare = append(p.spare, a)
	}
}

// dnp3Saved is a pair before the packet under judgement. length is how long its messages were.
type dnp3Saved struct {
	pair   *dnp3Pair
	state  dnp3State
	length [2]int
}

// maxPairs is how many pairs of stations one connection may have.
const maxPairs = 64

// pair returns what is kept of two stations, or nil where there is no room for them.
func (s *dnp3Session) pair(master, outstation uint16) *dnp3Pair {
	for _, p := range s.pairs {
		if p.master == master && p.outstation == outstation {
			return p
		}
	}
	limit := s.dissector.limits.AllRequests
	if len(s.pairs) >= maxPairs || int(s.dissector.common.requests.Load()) >= limit || int(s.share.requests.Load()) >= shareOf(limit) {
		return s.reuse(master, outstation)
	}
	p := &dnp3Pair{master: master, outstation: outstation}
	s.pairs = append(s.pairs, p)
	s.dissector.common.requests.Add(1)
	s.share.requests.Add(1)
	return p
}

// reuse gives two stations the place of two that wait for nothing.
func (s *dnp3Session) reuse(master, outstation uint16) *dnp3Pair {
	for _, p := range s.pairs {
		if p.idle() && !s.isSaved(p) {
			*p = dnp3Pair{master: master, outstation: outstation}
			return p
		}
	}
	return nil
}

// idle reports whether nothing would be lost with the pair.
func (p *dnp3Pair) idle() bool {
	if p.assembly[0].Within || p.assembly[1].Within || p.selection.at != 0 {
		return false
	}
	for i := range p.waiting {
		if p.waiting[i].asked != 0 || p.waiting[i].continues != 0 {
			return false
		}
	}
	return true
}

func (s *dnp3Session) isSaved(p *dnp3Pair) bool {
	for i := range s.saved {
		if s.saved[i].pair == p {
			return true
		}
	}
	return false
}

// save keeps a pair as it is, once a packet.
func (s *dnp3Session) save(p *dnp3Pair) {
	if s.isSaved(p) {
		return
	}
	s.saved = append(s.saved, dnp3Saved{pair: p, state: p.dnp3State})
	saved := &s.saved[len(s.saved)-1]
	for d, a := range p.parts {
		if a != nil {
			saved.length[d] = a.used
		}
	}
}

// commit keeps what the packet changed.
func (s *dnp3Session) commit() {
	for _, a := range s.retired {
		s.free(a)
	}
	s.retired, s.saved = s.retired[:0], s.saved[:0]
}

// rollback takes it back. What was assembled before was only appended to, or retired.
func (s *dnp3Session) rollback() {
	for i := range s.saved {
		saved := &s.saved[i]
		for d, a := range saved.pair.parts {
			if a != nil && a != saved.state.parts[d] {
				s.free(a)
			}
			if before := saved.state.parts[d]; before != nil {
				before.used = saved.length[d]
			}
		}
		saved.pair.dnp3State = saved.state
	}
	for _, a := range s.retired {
		if !s.inUse(a) {
			s.free(a)
		}
	}
	s.retired, s.saved = s.retired[:0], s.saved[:0]
}

func (s *dnp3Session) inUse(a *assembly) bool {
	for _, p := range s.pairs {
		if p.parts[0] == a || p.parts[1] == a {
			return true
		}
	}
	return false
}

// free gives an assembly back.
func (s *dnp3Session) free(a *assembly) {
	s.dissector.assemblies.put(a)
	s.share.assemblies.Add(-1)
}

func (s *dnp3Session) close() {
	s.rollback()
	for _, p := range s.pairs {
		for _, a := range p.parts {
			if a != nil {
				s.free(a)
			}
		}
	}
	s.dissector.common.requests.Add(-int64(len(s.pairs)))
	s.share.requests.Add(-int64(len(s.pairs)))
	*s = dnp3Session{dissector: s.dissector, share: s.share, datagrams: s.datagrams}
}

// assembled returns what has come of a message by whole segments.
func (p *dnp3Pair) assembled(d stream.Direction) []byte {
	if a := p.parts[d]; a != nil && p.assembly[d].Within {
		return a.bytes[:a.used]
	}
	return nil
}

// accept takes a whole segment. It is false where there is no room to keep it.
func (s *dnp3Session) accept(p *dnp3Pair, d stream.Direction, h dnp3.TransportHeader, data []byte) bool {
	if h.Final() {
		s.abandon(p, d)
		p.assembly[d].Accept(h)
		return true
	}
	if p.parts[d] == nil {
		pool := &s.dissector.assemblies
		if int(pool.used.Load()) >= pool.limit || int(s.share.assemblies.Load()) >= shareOf(pool.limit) {
			return false
		}
		p.parts[d] = pool.get()
		s.share.assemblies.Add(1)
	}
	a := p.parts[d]
	a.used += copy(a.bytes[a.used:], data) // it fits: longer messages are malformed
	p.assembly[d].Accept(h)
	return true
}

// abandon forgets what has come of a message.
func (s *dnp3Session) abandon(p *dnp3Pair, d stream.Direction) {
	if a := p.parts[d]; a != nil {
		s.retired = append(s.retired, a)
		p.parts[d] = nil
	}
	p.assembly[d] = dnp3.Assembly{}
}

// selected reports whether an operate repeats the select before it, or itself, and how long ago the
// select was.
func (p *dnp3Pair) selected(m *dnp3.Message, now time.Time) (ok bool, since time.Duration) {
	sel := &p.selection
	if m.Function != dnp3.Operate || sel.at == 0 || m.Sequence != (sel.sequence+1)&0x0f ||
		sha256.Sum256(m.Inner()) != sel.objects {
		return false, 0
	}
	return true, max(0, time.Duration(instantOf(now)-sel.at))
}

// asked notes a request that is forwarded.
func (p *dnp3Pair) asked(m *dnp3.Message, now time.Time) {
	switch m.Function {
	case dnp3.Select:
		p.selection = dnp3Selection{at: instantOf(now), sequence: m.Sequence, objects: sha256.Sum256(m.Inner())}
	case dnp3.Operate, dnp3.Confirm, dnp3.AuthenticateRequest, dnp3.AuthenticateRequestNoAck:
		// An operate may be repeated with its number, and the others come between it and its select.
	default:
		p.selection = dnp3Selection{} // an outstation forgets it, too
	}
	if m.Function.Answered() && !dnp3.Broadcast(p.outstation) {
		p.waiting[m.Sequence].add(m.Sequence, verdict.ReasonNone, now)
	}
}

// add notes a request that will be answered, and why it went on neutralised if it did.
func (w *dnp3Waiting) add(sequence uint8, refused verdict.Reason, now time.Time) {
	w.asked, w.refused, w.sequence = instantOf(now), refused, sequence
	w.count = min(w.count, maxRepeated-1) + 1
}

// take takes one request away.
func (w *dnp3Waiting) take() {
	if w.count--; w.count == 0 {
		w.asked, w.refused = 0, verdict.ReasonNone
	}
}

// holds reports whether a request has to wait until others with its sequence number are answered: too
// many of them, or one that was refused.
func (p *dnp3Pair) holds(m *dnp3.Message) bool {
	w := &p.waiting[m.Sequence]
	return m.Function.Answered() && (w.count == maxRepeated || w.refused != verdict.ReasonNone)
}

// expects reports whether a response may come: to a request with its sequence number, or behind a
// fragment before it.
func (p *dnp3Pair) expects(m *dnp3.Message, now time.Time, patience time.Duration) bool {
	w := &p.waiting[m.Sequence]
	since := w.continues
	if m.First {
		since = w.asked
	}
	return since != 0 && !since.past(now, patience)
}

// answered notes a response that is forwarded, and reports whether it was expected. A challenge leaves
// the request waiting, for its response follows.
func (p *dnp3Pair) answered(m *dnp3.Message) bool {
	w := &p.waiting[m.Sequence]
	since := &w.continues
	if m.First {
		since = &w.asked
	}
	if m.Unsolicited || *since == 0 {
		return false
	}
	if m.Function == dnp3.AuthenticateResponse {
		return true
	}
	begun := *since
	if m.First {
		w.take()
	} else {
		w.continues = 0
	}
	if !m.Final {
		p.waiting[(m.Sequence+1)&0x0f].continues = begun
	}
	return true
}

// refusedBy returns the refused request that a response answers, nil if it answers another or none. An
// outstation may answer a function that it does not know with another sequence number.
func (p *dnp3Pair) refusedBy(m *dnp3.Message) *dnp3Waiting {
	if w := &p.waiting[m.Sequence]; w.asked != 0 || !m.First {
		if w.refused != verdict.ReasonNone && m.First {
			return w
		}
		return nil
	}
	for i := range p.waiting {
		if w := &p.waiting[i]; w.asked != 0 && w.refused != verdict.ReasonNone {
			return w
		}
	}
	return nil
}

// sweep forgets what has waited for too long. It returns why a request was refused whose refusal the
// outstation owes for too long.
func (p *dnp3Pair) sweep(now time.Time, l *Limits) verdict.Reason {
	why := verdict.ReasonNone
	for i := range p.waiting {
		w := &p.waiting[i]
		if w.refused != verdict.ReasonNone && w.asked.past(now, l.Refusal) {
			why = w.refused
			*w = dnp3Waiting{continues: w.continues}
		}
		if w.asked.past(now, l.Answer) {
			*w = dnp3Waiting{continues: w.continues}
		}
		if w.continues.past(now, l.Answer) {
			w.continues = 0
		}
	}
	if p.selection.at.past(now, maxSelection) {
		p.selection = dnp3Selection{}
	}
	return why
}

// maxSelection is as long as a policy may let a select hold.
const maxSelection = 5 * time.Minute
