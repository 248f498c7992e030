package inspect

import (
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

// outstanding holds one connection's requests in the order in which they were sent. Clients
// repeat transaction identifiers, after a time-out or always, so the same one may wait several
// times; a reply belongs to the oldest that it fits.
type outstanding struct {
	unanswered[waiting]

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

// add files a request. There has to be room.
func (o *outstanding) add(r *modbus.Request, now time.Time) *waiting {
	w := o.file()
	w.request, w.since, w.refusal, w.flushes = r.Clone(&w.body), now, refusal{}, false
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
	o.giveBack(w)
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
			o.takeAt(i)
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

// expire forgets requests that have waited for longer than patience.
func (o *outstanding) expire(now time.Time, patience time.Duration) {
	over := o.expired(now, patience, func(w *waiting) time.Time { return w.since })
	for _, w := range over {
		o.owed = o.owed || w.flushes
		o.release(w)
	}
	o.drop(len(over))
}

// rollback takes back what was added since the last commit.
func (o *outstanding) rollback() {
	for _, w := range o.uncommitted() {
		o.release(w)
	}
}

func (o *outstanding) clear() {
	o.added = len(o.list)
	o.rollback()
	o.list, o.owed = nil, false
}
