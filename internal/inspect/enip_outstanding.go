package inspect

import (
	"slices"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// maxKeptRequest is how much of a request is kept for its reply: a Forward Open with the longest path, in an
// Unconnected Send. Of longer ones the beginning is kept.
const maxKeptRequest = 640

// enipWaiting is a request that waits for its reply. It owns its bytes.
type enipWaiting struct {
	command  enip.Command
	context  [8]byte
	since    time.Time
	services bool // it carries CIP

	connection *enipConnection // that it was sent on
	sequence   uint16

	kept       [maxKeptRequest]byte // of the outermost service, from its code on
	keptLength int
	length     int    // of it all
	manages    bool   // some service in it opens or closes a connection
	opens      triads // of its Forward Opens
	names      triads // of these and of its Forward Closes
	asked      uint64 // the number of its last Forward Open or Close, see identifiers
	contested  bool   // another may have got its reply, see contest

	outerCode, innerCode cip.ServiceCode // inner: of what an Unconnected Send carries
	inUnconnected        bool

	refusal enipRefusal
	// exposed is the reason of a request that was refused and whose reply this one may get, ReasonNone if there is none.
	exposed verdict.Reason
}

// triads are names of connections, the first of a request. A list that has more may have any.
type triads struct {
	list  [4]cip.Triad
	count int
}

func (n *triads) add(t cip.Triad) {
	if n.count < len(n.list) {
		n.list[n.count] = t
	}
	n.count++
}

// has tells whether a name may be in the list.
func (n *triads) has(t cip.Triad) bool {
	return n.count > len(n.list) || slices.Contains(n.list[:n.count], t)
}

// meets tells whether a name may be in both lists.
func (n *triads) meets(m *triads) bool {
	switch {
	case n.count == 0 || m.count == 0:
		return false
	case n.count > len(n.list):
		return true
	}
	return slices.ContainsFunc(n.list[:n.count], m.has)
}

// enipOutstanding holds one session's requests in the order in which they were sent. Clients repeat sender
// contexts, most of them 0 always, so the same one may wait several times; a reply belongs to the oldest
// that it fits.
type enipOutstanding struct {
	unanswered[enipWaiting]

	refused int // how many of the list are
	// disordered says that a reply to a Forward Open or Close may have been another's, of which nothing told: none is
	// believed until all that wait have theirs.
	disordered bool
}

// room reports whether n more requests can wait, once those that have waited for too long are forgotten.
func (o *enipOutstanding) room(n int, now time.Time, patience time.Duration) bool {
	if !o.holds(n) {
		o.expire(now, patience)
	}
	return o.holds(n)
}

// add files a request. There has to be room.
func (o *enipOutstanding) add(e *enipJudgement, now time.Time) *enipWaiting {
	w, m := o.file(), e.m
	w.command, w.context, w.since, w.refusal = m.Command, m.Context, now, enipRefusal{}
	w.services, w.connection, w.sequence = m.PayloadKnown, e.connection, 0
	payload := m.Payload
	if m.Connected && len(payload) >= 2 {
		w.sequence = uint16(payload[0]) | uint16(payload[1])<<8
		payload = payload[2:]
	}
	w.keptLength, w.length = copy(w.kept[:], payload), len(payload)
	w.outerCode, w.innerCode, w.inUnconnected = e.outerCode, e.innerCode, e.inner != 0
	o.expose(w)
	w.manages, w.opens, w.names, w.asked, w.contested = e.manages, e.opens, e.names, e.asked, false
	return w
}

// start begins a walk through as much of the request as was kept.
func (w *enipWaiting) start(walk *cip.Walk) {
	var base []cip.Hop
	if w.connection != nil {
		base = w.connection.route()
	}
	walk.Start(w.kept[:w.keptLength], w.length, base)
}

// managesConnections tells whether the service opens or closes a connection.
func managesConnections(q *cip.Request) bool {
	return q.Is(cip.ForwardOpen, cip.ConnectionManager) || q.Is(cip.LargeForwardOpen, cip.ConnectionManager) ||
		q.Is(cip.ForwardClose, cip.ConnectionManager)
}

// settle returns the request that a reply to a Forward Open or Close answers, of those that wait in one context with the
// one found: the one that has its name. A device that asks its modules answers as they do, and not in the order of
// the requests.
func (o *enipOutstanding) settle(w *enipWaiting, code cip.ServiceCode, name cip.Triad, named bool) *enipWaiting {
	if named && w.names.has(name) {
		return w
	}
	for _, x := range o.list {
		if x == w || !x.manages || x.refusal.active || x.command != w.command || x.context != w.context {
			continue
		}
		if named && x.names.has(name) && x.fits(code) {
			return x
		}
		o.disordered = true
	}
	return w
}

// contest looks, when a reply has come, for other requests that it may as well be to: in the same context, and about to
// open a connection of the same name. Of what such requests open, nobody knows where it leads.
func (o *enipOutstanding) contest(w *enipWaiting) {
	for _, x := range o.list {
		if !x.refusal.active && x.command == w.command && x.context == w.context && x.opens.meets(&w.opens) {
			x.contested, w.contested = true, true
		}
	}
}

// order forgets that replies were in disorder, once none is awaited that could be another's.
func (o *enipOutstanding) order() {
	if o.disordered {
		o.disordered = slices.ContainsFunc(o.list, func(w *enipWaiting) bool { return w.manages })
	}
}

// use notes that what was added since the last commit has left.
func (o *enipOutstanding) use() {
	for _, w := range o.list[len(o.list)-o.added:] {
		if w.connection != nil {
			w.connection.used = w.since
		}
	}
}

// release gives back what is no longer in the list.
func (o *enipOutstanding) release(w *enipWaiting) {
	if w.refusal.active {
		o.refused--
	}
	w.connection = nil
	o.giveBack(w)
}

// answers reports whether a reply, or the beginning of one, may answer the request. code is the service of
// its outermost reply, 0 while that has not arrived.
func (w *enipWaiting) answers(m *enip.Message, code cip.ServiceCode, sequence uint16, sequenceKnown bool) bool {
	switch {
	case w.command != m.Command:
		return false
	case m.Command == enip.SendUnitData:
		if m.Status != 0 { // of an error the device repeats what it likes
			return true
		}
		c := w.connection
		if c == nil || m.PayloadKnown && c.answered && m.ConnectionID != 0 && c.toOriginator != m.ConnectionID {
			return false
		}
		return (!sequenceKnown || w.sequence == sequence) && (code == 0 || w.fits(code))
	case m.KnowsHeader() && w.context != m.Context:
		return false
	}
	return code == 0 || w.fits(code)
}

// fits reports whether a service of a reply may be the one to the request: of an Unconnected Send, that of
// what it carries, or its own where it went wrong on the way.
func (w *enipWaiting) fits(code cip.ServiceCode) bool {
	outer, inner := w.outerCode, w.innerCode
	if w.refusal.active {
		if w.refusal.inner {
			inner = cip.GetAttributesAll
		} else {
			return code == cip.GetAttributesAll
		}
	}
	return code == outer || w.inUnconnected && code == inner
}

// find returns the oldest request that a reply answers, nil if there is none. Devices exist that put another
// service into their replies than was asked for (gologix as a server): where none fits better, context or
// sequence decide.
func (o *enipOutstanding) find(m *enip.Message, code cip.ServiceCode, sequence uint16, sequenceKnown bool) *enipWaiting {
	for _, c := range [2]cip.ServiceCode{code, 0} {
		for _, w := range o.list {
			if w.answers(m, c, sequence, sequenceKnown) {
				return w
			}
		}
		if code == 0 {
			break
		}
	}
	return nil
}

// take takes an answered request off the list. What it points to is valid until the next add.
func (o *enipOutstanding) take(w *enipWaiting) {
	o.takeAt(slices.Index(o.list, w))
	connection := w.connection
	o.release(w)
	w.connection = connection
}

// expire forgets requests that have waited for longer than patience.
func (o *enipOutstanding) expire(now time.Time, patience time.Duration) {
	over := o.expired(now, patience, func(w *enipWaiting) time.Time { return w.since })
	for _, w := range over {
		o.release(w)
	}
	o.drop(len(over))
}

// rollback takes back what was added since the last commit.
func (o *enipOutstanding) rollback() {
	for _, w := range o.uncommitted() {
		o.release(w)
	}
}

func (o *enipOutstanding) clear() {
	o.added = len(o.list)
	o.rollback()
	o.list, o.disordered = nil, false
}

// overdue returns why the first of the requests was refused whose neutralised form the device has not
// answered in time, ReasonNone if there is none.
func (o *enipOutstanding) overdue(now time.Time, patience time.Duration) verdict.Reason {
	if o.refused == 0 {
		return verdict.ReasonNone
	}
	for _, w := range o.list {
		if w.refusal.active && now.Sub(w.since) > patience {
			return w.refusal.reason
		}
	}
	return verdict.ReasonNone
}
