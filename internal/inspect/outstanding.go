package inspect

import (
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// waiting is a request that waits for its reply. It owns its bytes.
type waiting struct {
	request modbus.Request
	body    [modbus.MaxBody]byte
	since   time.Time
	refusal refusal
	flushes bool // the device may throw away what follows, until it has answered
}

// waitingPool bounds the requests that wait on all connections together, and keeps their
// storage for reuse.
type waitingPool struct {
	limit int
	used  *atomic.Int64 // by all pipelines that share the limit
	spare []*waiting
}

// spareWaiting is how many are kept for reuse.
const spareWaiting = 1024

func (p *waitingPool) get() *waiting {
	p.used.Add(1)
	if n := len(p.spare); n > 0 {
		w := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return w
	}
	return new(waiting)
}

func (p *waitingPool) put(w *waiting) {
	p.used.Add(-1)
	if len(p.spare) < spareWaiting {
		p.spare = append(p.spare, w)
	}
}

// outstanding holds one connection's requests in the order in which they were sent. Clients
// repeat transaction identifiers, after a time-out or always, so the same one may wait several
// times; a reply belongs to the oldest that it fits.
type outstanding struct {
	pool  *waitingPool
	share *share // of the pool, and of the connection's identity
	limit int
	list  []*waiting
	added int // since the last commit

	refused, fences, flushers int  // how many of the list are
	owed                      bool // a flusher was forgotten unanswered: it may flush at any time
}

// room reports whether n more requests can wait, once those that have waited for too long are
// forgotten.
func (o *outstanding) room(n int, now time.Time, patience time.Duration) bool {
	if !o.holds(n) {
		o.expire(now, patience)
	}
	return o.holds(n)
}

func (o *outstanding) holds(n int) bool {
	return len(o.list)+n <= o.limit && int(o.pool.used.Load())+n <= o.pool.limit &&
		int(o.share.requests.Load())+n <= shareOf(o.pool.limit)
}

// add files a request. There has to be room.
func (o *outstanding) add(r *modbus.Request, now time.Time) *waiting {
	w := o.pool.get()
	o.share.requests.Add(1)
	w.request, w.since, w.refusal, w.flushes = r.Clone(&w.body), now, refusal{}, false
	o.list = append(o.list, w)
	o.added++
	o.setFlushes(w, r.Function.Flushes())
	return w
}

func (o *outstanding) setFlushes(w *waiting, flushes bool) {
	if w.flushes {
		o.flushers--
	}
	if w.flushes = flushes; flushes {
		o.flushers++
	}
}

// flushing reports whether the device may throw away what the client sends now.
func (o *outstanding) flushing() bool { return o.flushers > 0 || o.owed }

// refuse notes that a request of the list went on neutralised.
func (o *outstanding) refuse(w *waiting, r refusal) {
	w.refusal = r
	o.setFlushes(w, r.fence)
	o.refused++
	if r.fence {
		o.fences++
	}
}

// release gives back what is no longer in the list.
func (o *outstanding) release(w *waiting) {
	if w.refusal.active() {
		o.refused--
	}
	if w.refusal.fence {
		o.fences--
	}
	o.setFlushes(w, false)
	o.pool.put(w)
	o.share.requests.Add(-1)
}

// answer takes the request that a reply answers off the list. Where there is none it says what
// is wrong: the reply fits a request by its header but not by its contents, or none at all.
// What the result points to is valid until the next add.
func (o *outstanding) answer(r *modbus.Response) (*waiting, verdict.Reason) {
	why := verdict.ReasonUnsolicitedReply
	for i, w := range o.list {
		if w.request.Transaction != r.Transaction {
			continue
		}
		if w.answeredBy(r) {
			o.list = append(o.list[:i], o.list[i+1:]...)
			o.release(w)
			return w, verdict.ReasonPermitted
		}
		if w.request.Unit == r.Unit && w.request.Function == r.Function {
			why = verdict.ReasonMalformed
		}
	}
	return nil, why
}

// answeredBy reports whether a whole reply of the request's transaction answers it. A neutralised
// one is answered by anything that has the length of an exception.
func (w *waiting) answeredBy(r *modbus.Response) bool {
	if w.refusal.active() {
		return w.request.Unit == r.Unit && r.Seen == modbus.ExceptionLength
	}
	return r.Answers(&w.request) == nil
}

// claims returns the request that a reply of an exception's length will answer by its header and
// function code, nil while the code has not arrived or if there is none.
func (o *outstanding) claims(r *modbus.Response) *waiting {
	if r.Seen != modbus.ExceptionLength-1 || r.Length != exceptionMBAP {
		return nil
	}
	for _, w := range o.list {
		if w.request.Transaction == r.Transaction && w.request.Unit == r.Unit &&
			(w.refusal.active() || w.request.Function == r.Function) {
			return w
		}
	}
	return nil
}

// exceptionMBAP is what the header of an exception has for its length (TCP 3.1.3).
const exceptionMBAP = 3

// expects reports whether a reply that is not whole yet may answer a request.
func (o *outstanding) expects(r *modbus.Response) bool {
	const transaction, unit, function = 2, 7, 8 // bytes after which each is known
	for _, w := range o.list {
		if (r.Seen < transaction || w.request.Transaction == r.Transaction) &&
			(r.Seen < unit || w.request.Unit == r.Unit) &&
			(r.Seen < function || w.request.Function == r.Function || w.refusal.active()) &&
			(r.Seen < unit || r.Length == exceptionMBAP || !w.refusal.active()) {
			return true
		}
	}
	return false
}

// expire forgets requests that have waited for longer than patience. They are the oldest, and
// none of a segment under judgement is among them.
func (o *outstanding) expire(now time.Time, patience time.Duration) {
	n := 0
	for n < len(o.list)-o.added && now.Sub(o.list[n].since) > patience {
		o.owed = o.owed || o.list[n].flushes
		o.release(o.list[n])
		n++
	}
	o.list = append(o.list[:0], o.list[n:]...)
}

func (o *outstanding) commit() { o.added = 0 }

// rollback takes back what was added since the last commit.
func (o *outstanding) rollback() {
	keep := len(o.list) - o.added
	for _, w := range o.list[keep:] {
		o.release(w)
	}
	o.list, o.added = o.list[:keep], 0
}

func (o *outstanding) clear() {
	o.added = len(o.list)
	o.rollback()
	o.list, o.owed = nil, false
}
