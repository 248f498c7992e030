package inspect

import (
	"net/netip"
	"sync"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/internal/stream"
)

// maxIO is how many I/O connections are known at a time, and shareOf(maxIO) how many of them one identity
// may have begun. What is opened beyond is told as refused, so that its data do not pass.
const maxIO = 4096

// ioTable holds the I/O connections that permitted messages have opened, over all sessions of all
// pipelines: a Forward Close may come on another one, and with it the connection is over. It is safe for
// concurrent use.
//
// Whoever is told of openings and ends may take its time over it, so that nobody is told under the lock.
// Of one name it is told of one thing after the other: who has more to say waits until the last is said.
type ioTable struct {
	mu      sync.Mutex
	open    map[ioName]*ioOpen
	paths   map[ioPath][]*ioOpen // the same, by what their datagrams show
	begun   map[*enipSession]map[ioName]bool
	shares  map[string]int // how many an identity has begun
	telling map[ioName]chan struct{}
	number  uint64
	looked  map[string]time.Time // when it was looked for connections that are over, by whose opening found no room
}

func newIOTable() *ioTable {
	return &ioTable{
		open: map[ioName]*ioOpen{}, paths: map[ioPath][]*ioOpen{}, begun: map[*enipSession]map[ioName]bool{},
		shares: map[string]int{}, looked: map[string]time.Time{}, telling: map[ioName]chan struct{}{},
	}
}

// ioName names a connection to its target.
type ioName struct {
	target netip.Addr
	triad  cip.Triad
}

// ioPath is what the datagrams of one direction show: who sends under which identifier, and to whom. That
// is nobody for a multicast direction whose group is not known.
type ioPath struct {
	from, to netip.Addr
	id       uint32
}

type ioOpen struct {
	name       ioName
	connection IOConnection
	told       IOConnections // of its opening, and to be told of its end
	owner      string        // whose share it is counted to
	session    *enipSession  // that opened it, nil once that is over and the connection goes on
	lost       bool          // an observed one that has ended with its session: what it still carries would be denied
	seen       time.Time
	sequence   [2]uint32 // the last of each direction, by who sends
	begun      [2]bool
}

// paths returns where the connection's two directions are found.
func (o *ioOpen) paths() (list [2]ioPath, has [2]bool) {
	c := &o.connection
	for i, n := range []*IODirection{&c.OriginatorToTarget, &c.TargetToOriginator} {
		path := ioPath{from: c.Originator, to: c.Target, id: n.ConnectionID}
		if i == int(stream.FromResponder) {
			path.from, path.to = path.to, path.from
		}
		if n.Type == IOMulticast {
			path.to = n.Destination.Addr()
		}
		list[i], has[i] = path, n.Type != IONone
	}
	return list, has
}

// hold makes everybody else wait who has something to tell of the connection, until release, which has to
// be deferred: the loop survives a panic of whoever is told, and others must not wait for it. The lock is
// held.
func (t *ioTable) hold(name ioName) {
	for t.telling[name] != nil {
		said := t.telling[name]
		t.mu.Unlock()
		<-said
		t.mu.Lock()
	}
	t.telling[name] = make(chan struct{})
}

func (t *ioTable) release(name ioName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.telling[name])
	delete(t.telling, name)
}

// add notes a connection that a session has opened; one of the same name is not there any more.
func (t *ioTable) add(s *enipSession, name ioName, c IOConnection) {
	told := s.dissector.told
	t.mu.Lock()
	if t.isFull(ownerOf(c.Flow)) {
		t.mu.Unlock()
		t.expire(ownerOf(c.Flow), c.Opened)
		t.mu.Lock()
	}
	t.hold(name)
	defer t.release(name)
	old := t.take(name)
	if t.isFull(ownerOf(c.Flow)) {
		t.mu.Unlock()
		s.dissector.counters.IORefused.Add(1)
		told.Refused(c)
	} else {
		t.number++
		c.ID.Number = t.number
		t.put(&ioOpen{name: name, connection: c, told: told, owner: ownerOf(c.Flow), session: s, seen: c.Opened})
		t.mu.Unlock()
		told.Open(c)
	}
	if old != nil {
		old.told.Close(old.connection.ID, IOReplaced)
	}
}

// isFull reports whether there is no room for one more that the identity begins.
func (t *ioTable) isFull(owner string) bool {
	return len(t.open) >= maxIO || t.shares[owner] >= shareOf(maxIO)
}

func (t *ioTable) put(o *ioOpen) {
	t.open[o.name] = o
	t.shares[o.owner]++
	if t.begun[o.session] == nil {
		t.begun[o.session] = map[ioName]bool{}
	}
	t.begun[o.session][o.name] = true
	paths, has := o.paths()
	for i, path := range paths {
		if has[i] {
			t.paths[path] = append(t.paths[path], o)
		}
	}
}

// take takes a connection out of the table, and returns nil if it is not there.
func (t *ioTable) take(name ioName) *ioOpen {
	o := t.open[name]
	if o == nil {
		return nil
	}
	delete(t.open, name)
	if t.shares[o.owner]--; t.shares[o.owner] == 0 {
		delete(t.shares, o.owner)
	}
	t.leave(o)
	paths, has := o.paths()
	for i, path := range paths {
		if has[i] {
			t.takePath(path, o)
		}
	}
	return o
}

func (t *ioTable) takePath(path ioPath, o *ioOpen) {
	list := t.paths[path]
	for i := range list {
		if list[i] == o {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if t.paths[path] = list; len(list) == 0 {
		delete(t.paths, path)
	}
}

// leave lets a connection go on without its session.
func (t *ioTable) leave(o *ioOpen) {
	if o.session == nil {
		return
	}
	delete(t.begun[o.session], o.name)
	if len(t.begun[o.session]) == 0 {
		delete(t.begun, o.session)
	}
	o.session = nil
}

// close notes that the target that a flow leads to has closed a connection. One that is not known may
// have been opened before we looked.
func (t *ioTable) close(told IOConnections, name ioName, flow uint64) {
	t.mu.Lock()
	t.hold(name)
	defer t.release(name)
	o := t.take(name)
	t.mu.Unlock()
	if o != nil {
		o.told.Close(o.connection.ID, IOClosed)
	} else {
		told.Forget(flow, name.triad)
	}
}

// end closes a connection for a reason of our own, if it is still the one that is open under its name. One that
// is only observed and loses its session goes on all the same: it is remembered, to say so.
func (t *ioTable) end(o *ioOpen, why IOEnd) {
	t.mu.Lock()
	t.hold(o.name)
	defer t.release(o.name)
	is := t.open[o.name] == o
	tell := is && !o.lost
	switch {
	case is && why == IOSessionLost && o.connection.Observed:
		o.lost = true
		t.leave(o)
	case is:
		t.take(o.name)
	}
	t.mu.Unlock()
	if tell {
		o.told.Close(o.connection.ID, why)
	}
}

// lose closes what a session has opened, now that it is over, but for what goes on without it.
func (t *ioTable) lose(s *enipSession, goesOn func(*IOConnection) bool) {
	for _, o := range t.of(s) {
		if goesOn == nil || !goesOn(&o.connection) {
			t.end(o, IOSessionLost)
			continue
		}
		t.mu.Lock()
		t.leave(o)
		t.mu.Unlock()
	}
}

// of returns what a session has opened.
func (t *ioTable) of(s *enipSession) []*ioOpen {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*ioOpen
	for name := range t.begun[s] {
		list = append(list, t.open[name])
	}
	return list
}

// lookAgain is how long nobody looks for connections that are over, once somebody has: each costs a question to who lets
// its data through, and who has opened more than it may could have all asked by each further Forward Open: of its own
// openings one a second looks.
const lookAgain = time.Second

// expire closes connections that have been silent for longer than their own time-outs. Where the data do
// not come here, whoever lets them through knows.
func (t *ioTable) expire(owner string, now time.Time) {
	for _, o := range t.silent(owner, now) {
		if !o.told.Lives(o.connection.ID) {
			t.end(o, IOSilent)
		}
	}
}

func (t *ioTable) silent(owner string, now time.Time) []*ioOpen {
	t.mu.Lock()
	defer t.mu.Unlock()
	if since := now.Sub(t.looked[owner]); since >= 0 && since < lookAgain {
		return nil
	}
	if len(t.looked) >= maxIO {
		clear(t.looked)
	}
	t.looked[owner] = now
	var list []*ioOpen
	for _, o := range t.open {
		c := &o.connection
		longest := max(c.OriginatorToTarget.Interval, c.TargetToOriginator.Interval, time.Second)
		if now.Sub(o.seen) > longest*time.Duration(c.Multiplier) {
			list = append(list, o)
		}
	}
	return list
}

// find returns the open connection that an end sends data of under the identifier, and in which of its
// directions. Of several that listen to one group it is the first. The lock is held.
func (t *ioTable) find(from, to netip.Addr, id uint32) (*ioOpen, stream.Direction) {
	list := t.paths[ioPath{from, to, id}]
	if len(list) == 0 && to.IsMulticast() {
		list = t.paths[ioPath{from: from, id: id}]
	}
	if len(list) == 0 {
		return nil, 0
	}
	o := list[0]
	if c := &o.connection; c.Originator == from && c.OriginatorToTarget.ConnectionID == id && c.OriginatorToTarget.Type != IONone {
		return o, stream.FromInitiator
	}
	return o, stream.FromResponder
}
