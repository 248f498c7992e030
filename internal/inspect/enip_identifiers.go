package inspect

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/internal/stream"
)

// identifiers tells which connections for services a device knows under an identifier, over all sessions of
// all pipelines: devices exist that take what comes under one from any of their sessions. One that was
// closed from elsewhere, or has timed out, may pass to a connection by another route, and what the sessions that
// had it before still send goes there. It is safe for concurrent use. Sessions bound it: each holds at
// most maxConnections.
type identifiers struct {
	mu     sync.Mutex
	by     map[identifierName][]*enipConnection
	triads map[originatorName][]*enipConnection

	// Replies may come later than what was asked for after them. count numbers what happens, and places hold the number
	// of the last request to open or close a connection of a name.
	count  uint64
	places [2048]place
	seed   maphash.Seed
}

// place remembers the last requests of the names that share it, and of those that found no room the number of the latest.
type place struct {
	names     [8]struct{ hash, number uint64 }
	forgotten uint64
}

// note notes a request of a name, in place of the oldest if there is no other room.
func (p *place) note(hash, number uint64) {
	oldest := &p.names[0]
	for i := range p.names {
		n := &p.names[i]
		if n.hash == hash {
			n.number = number
			return
		}
		if n.number < oldest.number {
			oldest = n
		}
	}
	p.forgotten = max(p.forgotten, oldest.number)
	oldest.hash, oldest.number = hash, number
}

// last returns the number of the last request of a name; of one that is forgotten, that of the latest it may have been.
func (p *place) last(hash uint64) uint64 {
	for i := range p.names {
		if p.names[i].hash == hash {
			return p.names[i].number
		}
	}
	return p.forgotten
}

// identifierName is an identifier of a device's.
type identifierName struct {
	device netip.Addr
	id     uint32
}

// originatorName is what an originator calls a connection to a device. Clients exist that all call theirs the same,
// so that it counts for one address.
type originatorName struct {
	originator, device netip.Addr
	triad              cip.Triad
}

func newIdentifiers() *identifiers {
	return &identifiers{
		by: map[identifierName][]*enipConnection{}, triads: map[originatorName][]*enipConnection{}, seed: maphash.MakeSeed(),
	}
}

func (s *enipSession) identifier(id uint32) identifierName {
	return identifierName{s.ends[stream.FromResponder].Addr(), id}
}

func (s *enipSession) originatorsName(t cip.Triad) originatorName {
	return originatorName{s.ends[stream.FromInitiator].Addr(), s.ends[stream.FromResponder].Addr(), t}
}

// open notes that a device has given an identifier to a connection of the session. Of those that had it nobody knows
// any more where they lead, unless that is the same; and neither of this one, if they were opened, or its end was asked
// for, since it was.
func (t *identifiers) open(s *enipSession, c *enipConnection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, own := s.identifier(c.toTarget), s.originatorsName(c.triad)
	at, hash := t.placeOf(own)
	late := at.last(hash) > c.asked
	for _, old := range t.by[name] {
		if !slices.Equal(old.route(), c.route()) {
			old.elsewhere.Store(true)
			late = late || old.opened > c.asked
		}
	}
	if late {
		c.elsewhere.Store(true)
	}
	t.count++
	c.opened = t.count
	t.by[name] = append(t.by[name], c)
	t.triads[own] = append(t.triads[own], c)
}

func (t *identifiers) placeOf(name originatorName) (p *place, hash uint64) {
	hash = maphash.Comparable(t.seed, name)
	return &t.places[hash%uint64(len(t.places))], hash
}

// pass notes that a device has given an identifier to a connection of which nothing is known.
func (t *identifiers) pass(name identifierName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.by[name] {
		c.elsewhere.Store(true)
	}
}

// doubt notes that a device is asked to close a connection, or to open it anew: before its reply comes the identifier may
// have passed to another. It returns the request's number.
func (t *identifiers) doubt(name originatorName) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.triads[name] {
		c.elsewhere.Store(true)
	}
	t.count++
	at, hash := t.placeOf(name)
	at.note(hash, t.count)
	return t.count
}

// forget lets go of a connection that the session has closed.
func (t *identifiers) forget(s *enipSession, c *enipConnection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	without(t.by, s.identifier(c.toTarget), c)
	without(t.triads, s.originatorsName(c.triad), c)
}

func without[K comparable](lists map[K][]*enipConnection, name K, c *enipConnection) {
	list := lists[name]
	if i := slices.Index(list, c); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if lists[name] = list; len(list) == 0 {
		delete(lists, name)
	}
}
