package inspect

import (
	"net/netip"
	"slices"
	"sync"
)

// identifiers tells which connection for services a device knows under an identifier, over all sessions of
// all pipelines: devices exist that take what comes under one from any of their sessions. One that was
// closed from elsewhere, or has timed out, may pass to a connection by another route, and what the session that
// opened it first still sends goes there. It is safe for concurrent use. Sessions bound it: each holds at
// most maxConnections.
type identifiers struct {
	mu sync.Mutex
	by map[identifierName]*enipConnection // as opened last
}

// identifierName is an identifier of a device's.
type identifierName struct {
	device netip.Addr
	id     uint32
}

func newIdentifiers() *identifiers { return &identifiers{by: map[identifierName]*enipConnection{}} }

// open notes that a device has given an identifier to a connection. Of the one that had it nobody knows any
// more where it leads, unless that is the same.
func (t *identifiers) open(name identifierName, c *enipConnection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.by[name]; old != nil && old != c && !slices.Equal(old.route(), c.route()) {
		old.elsewhere.Store(true)
	}
	t.by[name] = c
}

// pass notes that a device has given an identifier to a connection of which nothing is known.
func (t *identifiers) pass(name identifierName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.by[name]; old != nil {
		old.elsewhere.Store(true)
	}
}

// forget lets go of a connection that its session has closed.
func (t *identifiers) forget(name identifierName, c *enipConnection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by[name] == c {
		delete(t.by, name)
	}
}
