package inspect

import (
	"sync/atomic"
	"time"
)

// pool bounds the requests that wait on all connections together, and keeps their storage for reuse.
type pool[W any] struct {
	limit int
	used  *atomic.Int64 // by all pipelines that share the limit
	spare []*W
}

// spareWaiting is how many are kept for reuse.
const spareWaiting = 1024

func (p *pool[W]) get() *W {
	p.used.Add(1)
	if n := len(p.spare); n > 0 {
		w := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return w
	}
	return new(W)
}

func (p *pool[W]) put(w *W) {
	p.used.Add(-1)
	if len(p.spare) < spareWaiting {
		p.spare = append(p.spare, w)
	}
}

// unanswered is one session's requests that wait for their replies, in the order in which they were sent: what
// the protocols have in common.
type unanswered[W any] struct {
	pool  *pool[W]
	share *share // of the pool, and of the session's identity
	limit int
	list  []*W
	added int // since the last commit: the last of the list
}

// holds reports whether there is room for n more.
func (u *unanswered[W]) holds(n int) bool {
	return len(u.list)+n <= u.limit && int(u.pool.used.Load())+n <= u.pool.limit &&
		int(u.share.requests.Load())+n <= shareOf(u.pool.limit)
}

// file appends a request, whose storage may have been used before. There has to be room.
func (u *unanswered[W]) file() *W {
	w := u.pool.get()
	u.share.requests.Add(1)
	u.list = append(u.list, w)
	u.added++
	return w
}

// giveBack gives back the storage of what is no longer in the list.
func (u *unanswered[W]) giveBack(w *W) {
	u.pool.put(w)
	u.share.requests.Add(-1)
}

// takeAt takes a request off the list.
func (u *unanswered[W]) takeAt(i int) {
	u.list = append(u.list[:i], u.list[i+1:]...)
	u.added = min(u.added, len(u.list))
}

// expired returns the requests that have waited for longer than patience. They are the oldest, and none of a
// segment under judgement is among them.
func (u *unanswered[W]) expired(now time.Time, patience time.Duration, since func(*W) time.Time) []*W {
	n := 0
	for n < len(u.list)-u.added && now.Sub(since(u.list[n])) > patience {
		n++
	}
	return u.list[:n]
}

// drop takes the oldest n requests off the list.
func (u *unanswered[W]) drop(n int) { u.list = append(u.list[:0], u.list[n:]...) }

func (u *unanswered[W]) commit() { u.added = 0 }

// uncommitted takes what was added since the last commit off the list, and returns it.
func (u *unanswered[W]) uncommitted() []*W {
	keep := len(u.list) - u.added
	taken := u.list[keep:]
	u.list, u.added = u.list[:keep], 0
	return taken
}
