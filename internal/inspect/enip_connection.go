package inspect

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// enipConnection is a connection for services (transport class 2 or 3) that a session has open.
type enipConnection struct {
	toTarget, toOriginator uint32 // identifiers
	triad                  cip.Triad
	hops                   []cip.Hop // few have any, and none as many as there may be
	// adopted says that its opening was not seen: where it leads to is not known, and toOriginator only
	// once a reply has come.
	adopted, answered bool
	// elsewhere says that the device has given the identifier to a connection by another route meanwhile, or may
	// have. It may be set by any pipeline.
	elsewhere atomic.Bool
	// used is when the last request on it left, that which opened it included, and watchdog how long the device waits
	// for the next.
	used     time.Time
	watchdog time.Duration
	// refused is why the last request on it was refused, ReasonNone if it was not, and refusedSequence its sequence count.
	refused         verdict.Reason
	refusedSequence uint16
	// asked is the number of the request that opened it, and opened that of its opening; see identifiers.
	asked, opened uint64
}

// unknownRoute is what no rule names.
var unknownRoute = []cip.Hop{{Other: true}}

// route returns the hops that lead to where the connection does.
func (c *enipConnection) route() []cip.Hop {
	if c.adopted || c.elsewhere.Load() {
		return unknownRoute
	}
	return c.hops
}

// expire notes that the device may have given the connection up, because nothing was said on it for too long: another
// may have its identifier.
func (c *enipConnection) expire(now time.Time) {
	if !c.adopted && now.Sub(c.used) > c.watchdog {
		c.elsewhere.Store(true)
	}
}

// maxConnections is how many connections for services a session may have; the oldest is forgotten for one
// more, and what is sent on it then is denied.
const maxConnections = 64

// connectionTo returns the connection whose data the client sends under the identifier. One that may have
// been opened before the session was joined is adopted.
func (s *enipSession) connectionTo(r *reading, id uint32) *enipConnection {
	for _, c := range s.connections {
		if c.toTarget == id {
			return c
		}
	}
	if !r.now.Before(s.grace) {
		return nil
	}
	c := &enipConnection{toTarget: id, adopted: true}
	s.file(c)
	return c
}

// file keeps a connection; an earlier one of its identifier or its triad is not there any more.
func (s *enipSession) file(c *enipConnection) {
	if !c.adopted {
		s.dissector.named.open(s, c) // while those before it are known
	}
	s.dismiss(func(old *enipConnection) bool {
		return old.toTarget == c.toTarget || !c.adopted && !old.adopted && old.triad == c.triad
	})
	if len(s.connections) >= maxConnections {
		oldest := s.connections[0]
		s.dismiss(func(old *enipConnection) bool { return old == oldest })
	}
	s.connections = append(s.connections, c)
}

// dismiss lets go of connections that are over.
func (s *enipSession) dismiss(over func(*enipConnection) bool) {
	s.connections = slices.DeleteFunc(s.connections, func(c *enipConnection) bool {
		if !over(c) {
			return false
		}
		if !c.adopted {
			s.dissector.named.forget(s, c)
		}
		return true
	})
}

func (s *enipSession) dismissAll() { s.dismiss(func(*enipConnection) bool { return true }) }

// enipEffect is what a reply, or a request without one, changes once it has left.
type enipEffect struct {
	kind       effectKind
	handle     uint32 // of the session, or of what an identifier has passed to
	connection *enipConnection
	triad      cip.Triad
	key        uint64 // of the flow that a connection was closed over
	flow       Flow   // whose session is over
	io         IOConnection
}

type effectKind uint8

const (
	effectRegister effectKind = iota
	effectUnregister
	effectOpen
	effectPass
	effectOpenIO
	effectClose
)

func (s *enipSession) apply(e *enipEffect) {
	switch e.kind {
	case effectRegister:
		s.handle, s.adopts = e.handle, false
	case effectUnregister:
		s.handle = 0
		s.dismissAll()
		s.loseIO(e.flow, true)
	case effectOpen:
		s.file(e.connection)
	case effectPass:
		s.dissector.named.pass(s.identifier(e.handle))
	case effectOpenIO:
		s.dissector.io.add(s, s.ioName(e.triad), e.io)
	case effectClose:
		s.dismiss(func(c *enipConnection) bool { return !c.adopted && c.triad == e.triad })
		s.dissector.io.close(s.dissector.told, s.ioName(e.triad), e.key)
	}
}

func (s *enipSession) ioName(t cip.Triad) ioName {
	return ioName{s.ends[stream.FromResponder].Addr(), t}
}

// loseSession closes the I/O connections that a TCP connection has opened, because its session is over
// (V2 2-4.5).
func (p *Pipeline) loseSession(c *connection, inOrder bool) {
	if s, ok := c.session.(*enipSession); ok && !c.datagrams() {
		s.loseIO(c.flow, inOrder)
	}
}

// loseIO closes what the session has opened. Where its ends have ended it in order, what a rule lets outlive
// its session goes on: devices exist that close TCP connections over which nothing is said, and leave
// the I/O alone (docs/decisions/cip-io.md).
func (s *enipSession) loseIO(flow Flow, inOrder bool) {
	var goesOn func(*IOConnection) bool
	if inOrder && inspects(flow) {
		goesOn = func(c *IOConnection) bool { return flow.Plan.OutlivesSession(flow.Conduit, c.Opening, c.Route) }
	}
	s.dissector.io.lose(s, goesOn)
}

// noteReply keeps what a reply changes, once it leaves: each Forward Open and Close in it, alone, in an
// Unconnected Send or in a Multiple Service Packet. What is sent on a connection opens none, for Forward Opens
// are sent unconnected (V1 3-5.5.2).
func (s *enipSession) noteReply(r *reading, m *enip.Message, w *enipWaiting) {
	if m.Command == enip.RegisterSession && m.Status == 0 {
		s.effects = append(s.effects, enipEffect{kind: effectRegister, handle: m.Session})
		return
	}
	if w == nil || !w.manages {
		return
	}
	s.requests.contest(w)
	d := s.dissector
	d.replies.Start(replyOf(m).payload)
	w.start(&d.walk)
	pairs := answers{walk: &d.walk, replies: &d.replies, silent: -1}
	for pairs.next() {
		q, reply := &d.walk.Request, &d.replies.Reply
		if q.Complete() && q.Code == reply.Code && reply.Status == cip.StatusSuccess {
			s.noteManaged(r, m, w, reply)
		}
	}
	s.requests.order()
}

// answers goes through the services of a request and their replies together.
type answers struct {
	walk    *cip.Walk
	replies *cip.ReplyWalk
	silent  int // what is nested deeper than that has no replies; -1: nothing
}

// next finds the next reply and the service that it is to. What an Unconnected Send carries is answered in its
// place, unless it went wrong on the way.
func (a *answers) next() bool {
	q, reply := &a.walk.Request, &a.replies.Reply
	if !a.replies.Next() {
		return false
	}
	for a.walk.Next() {
		if a.silent >= 0 && q.Depth > a.silent {
			continue
		}
		a.silent = -1
		sent := q.Is(cip.UnconnectedSend, cip.ConnectionManager)
		switch depth := q.Depth - a.sends(); {
		case depth > reply.Depth: // a packet with fewer replies than services
			continue
		case depth < reply.Depth:
			return false
		case sent && reply.Code != cip.UnconnectedSend:
			continue
		}
		if sent || q.Code == cip.MultipleServicePacket && !reply.Packet() {
			a.silent = q.Depth
		}
		return true
	}
	return false
}

// sends returns how many of the services around the one that was found are Unconnected Sends.
func (a *answers) sends() (n int) {
	for i := range a.walk.Request.Depth {
		if a.walk.Within(i) == (cip.Outer{Code: cip.UnconnectedSend, Owner: cip.ConnectionManager}) {
			n++
		}
	}
	return n
}

// noteManaged keeps what the successful reply to the Forward Open or Close that the walk is at changes.
func (s *enipSession) noteManaged(r *reading, m *enip.Message, w *enipWaiting, reply *cip.Reply) {
	q := &s.dissector.walk.Request
	var o cip.Open
	var f cip.Close
	var opened cip.Opened
	switch {
	case q.ForwardClose(&f):
		s.effects = append(s.effects, enipEffect{kind: effectClose, key: r.key, triad: f.Triad})
	case !q.ForwardOpen(&o) || o.Null() || !reply.ForwardOpened(&opened):
	case m.Connected, o.Triad != opened.Triad, w.contested || s.requests.disordered:
		// It is sent unconnected, or the reply is or may be to another: all that is known is the identifier.
		s.effects = append(s.effects, enipEffect{kind: effectPass, handle: opened.ToTarget})
	case o.Explicit():
		c := &enipConnection{
			toTarget: opened.ToTarget, toOriginator: opened.ToOriginator, answered: true,
			triad: o.Triad, used: w.since, watchdog: watchdogOf(&o, &opened), asked: w.asked,
		}
		c.hops = routeOfOpen(nil, &s.dissector.walk, &o)
		c.elsewhere.Store(len(c.hops) > cip.MaxHops) // farther than any rule names
		s.effects = append(s.effects, enipEffect{kind: effectOpen, connection: c})
	case o.IO():
		s.effects = append(s.effects, enipEffect{
			kind: effectOpenIO, triad: o.Triad, io: s.ioConnection(r, m, w, &o, &opened),
		})
	}
}

// routeOfOpen appends the hops that lead to where a Forward Open that a walk is at does.
func routeOfOpen(hops []cip.Hop, w *cip.Walk, o *cip.Open) []cip.Hop {
	outer, _ := w.Route()
	return append(append(append(hops, outer...), w.Request.Path.Hops()...), o.Path.Hops()...)
}

// watchdogOf returns how long the device waits for the next request on a connection: the shorter of what was asked for
// and what it granted, for devices exist that go by either.
func watchdogOf(o *cip.Open, opened *cip.Opened) time.Duration {
	interval := o.ToTarget.RPI
	if opened.TargetAPI > 0 && opened.TargetAPI < interval {
		interval = opened.TargetAPI
	}
	return interval * 4 << o.Multiplier
}

// managedName returns the name of the connection that a Forward Open or Close is about, and whether it opens one.
func managedName(q *cip.Request) (name cip.Triad, opens, ok bool) {
	var o cip.Open
	var f cip.Close
	switch {
	case q.ForwardClose(&f):
		return f.Triad, false, true
	case q.ForwardOpen(&o):
		return o.Triad, !o.Null(), true
	}
	return cip.Triad{}, false, false
}

// repliedName returns the name of the first connection that a whole reply tells of the opening or closing of.
func repliedName(walk *cip.ReplyWalk, payload []byte) (name cip.Triad, ok bool) {
	walk.Start(payload)
	for walk.Next() {
		reply := &walk.Reply
		switch reply.Code {
		case cip.ForwardOpen, cip.LargeForwardOpen, cip.ForwardClose:
		default:
			continue
		}
		if b := reply.Data; reply.Status == cip.StatusSuccess && reply.Code != cip.ForwardClose {
			var opened cip.Opened
			ok = reply.ForwardOpened(&opened)
			return opened.Triad, ok
		} else if len(b) >= cip.TriadLength { // V1 3-5.5.2 and 3-5.5.4: of a refusal, too
			return cip.ReadTriad(b), true
		}
		return cip.Triad{}, false
	}
	return cip.Triad{}, false
}

// doubt notes what a Forward Open or Close may change before its reply comes: the client need not wait for that with what
// it sends under an identifier. It returns the request's number.
func (s *enipSession) doubt(name cip.Triad) uint64 {
	return s.dissector.named.doubt(s.originatorsName(name))
}

// ioConnection puts together what a Forward Open and its reply say. A message has one multicast group at most,
// and of several Forward Opens in a packet nothing says whose it is: then it is nobody's.
func (s *enipSession) ioConnection(r *reading, m *enip.Message, w *enipWaiting, o *cip.Open, opened *cip.Opened) IOConnection {
	client, device := s.ends[stream.FromInitiator].Addr(), s.ends[stream.FromResponder].Addr()
	c := IOConnection{
		ID: IOConnectionID{Key: r.key}, Flow: r.flow, Opened: r.now, Originator: client, Target: device,
		Class: o.Class, Multiplier: 4 << o.Multiplier, Safety: o.Path.Safety, Observed: r.observed,
		Triad: o.Triad,
	}
	walk := &s.dissector.walk
	c.Opening = append(c.Opening, walk.Found()...)
	outer, _ := walk.Route()
	c.Route = append(c.Route, outer...)
	c.Denied = r.observed && !r.plan.PermitsOpening(r.conduit, c.Opening, c.Route)
	switch policy.OwnerOf(o) {
	case policy.OwnsExclusively:
		c.Owner = OwnerExclusive
	case policy.OwnsRedundantly:
		c.Owner = OwnerRedundant
	default:
		c.Owner = OwnerNone
	}
	group := m.ToSource
	if w.outerCode == cip.MultipleServicePacket || w.inUnconnected && w.innerCode == cip.MultipleServicePacket {
		group = enip.Socket{}
	}
	c.OriginatorToTarget = ioDirection(&o.ToTarget, opened.ToTarget, opened.TargetAPI, device, enip.Socket{})
	c.TargetToOriginator = ioDirection(&o.ToOriginator, opened.ToOriginator, opened.OriginatorAPI, client, group)
	return c
}

// ioDirection describes one direction. A multicast group is the one that the reply names.
func ioDirection(n *cip.NetworkParameters, id uint32, granted time.Duration, to netip.Addr, group enip.Socket) IODirection {
	d := IODirection{ConnectionID: id, Size: n.Size, Variable: n.Variable, Interval: granted, Requested: n.RPI}
	switch n.Type {
	case cip.TypeMulticast:
		d.Type = IOMulticast
		if to = (netip.Addr{}); group.Given && group.Address.Addr().IsMulticast() {
			to = group.Address.Addr()
		}
	case cip.TypePointToPoint:
		d.Type = IOPointToPoint
	}
	if d.Type != IONone && to.IsValid() {
		d.Destination = netip.AddrPortFrom(to, implicitPort)
	}
	return d
}
