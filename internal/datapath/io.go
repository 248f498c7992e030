package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
)

// maxIO and ioPlaces are MAX_IO and IO_PLACES of bpf/maps.h.
const (
	maxIO    = 4096
	ioPlaces = 2*maxIO + 1
)

// ioQuota is how many I/O connections may be counted for one identity: a fourth of the table, so that
// one scanner gone wild leaves room for the others.
const ioQuota = maxIO / 4

// IOOpeningMax is how long IOConnection.Opening may be, in bytes: the longest Forward Open, whose
// connection path has up to 510 bytes, and the hops that led to its target (IO_OPENING_MAX in bpf/types.h).
const IOOpeningMax = 716

// ioPatience is how long an end waits for the first frame of a connection (CIP volume 1, 3-4.6.1:
// ten seconds, or its watchdog's time where that is longer).
const ioPatience = 10 * time.Second

// The errors of OpenIO.
var (
	ErrIOFull         = errors.New("open an I/O connection: the table is full")
	ErrIOQuota        = errors.New("open an I/O connection: its originator has as many open as one may have")
	ErrIONotPermitted = errors.New("open an I/O connection: the policy in force does not permit it")
	ErrIOGroup        = errors.New("open an I/O connection: another device sends to its group under its identifier")
)

// IOEnd is one end of an I/O connection.
type IOEnd struct {
	MAC     [6]byte
	Address netip.Addr // IPv4
}

// IODirection is what one end of an I/O connection sends. The zero value sends nothing.
type IODirection struct {
	Connection uint32     // the identifier in its frames
	Group      netip.Addr // the multicast group that it is sent to; invalid: to the other end
	Size       uint16     // bytes of the connected data item: data, and in class 1 the sequence count
	Variable   bool       // Size is the most that a frame may have
	// Timeout is the consumer's watchdog: the packet interval times the multiplier. 0: nothing is
	// sent in this direction.
	Timeout time.Duration
}

func (d *IODirection) sends() bool { return d.Timeout > 0 }

// IOTriad is what names a connection to its target (CIP volume 1, 3-5.5.1.4).
type IOTriad struct {
	Serial, Vendor   uint16
	OriginatorSerial uint32
}

// IOConnection is a connection for cyclic I/O.
type IOConnection struct {
	ID   uint32 // given by OpenIO
	Side policy.Side
	// Side is the originator's. Tags are those of both ends' frames, without priority tags.
	Originator, Target IOEnd
	Tags               []Tag
	Triad              IOTriad
	Output, Input      IODirection // what the originator sends, and what the target sends
	// Session is the TCP conversation that opened it; when that is over it ends, but for one that may outlive
	// a session that its ends have closed. Nil for one that was adopted.
	Session *Flow
	// Opening is what the policy is asked about when it changes; the fast path does not read it.
	Opening []byte
	Opened  time.Time
	Adopted bool // begun unread in an outage, on a conduit that opens
}

// IOJudge reports whether a plan permits the connection under a conduit of it, by its Opening, and whether
// it may outlive its session.
type IOJudge func(plan *policy.Plan, conduit uint32, c *IOConnection) (permitted, outlives bool)

// IOEnd reasons, as IOEnded carries them.
const (
	IOClosed      = "closed by its originator"
	IOReplaced    = "opened anew"
	IOTimedOut    = "timed out"
	IOSessionOver = "its session is over"
	IOForbidden   = "the policy in force no longer permits it"
)

// IOEnded is a connection that was removed, and why.
type IOEnded struct {
	Connection IOConnection
	Why        string
}

// IOCount is what one direction of a connection has come to.
type IOCount struct {
	Frames, Bytes uint64
	Lost          uint64 // sequence numbers that never came
	Old           uint64 // frames denied because their number had been used, or leapt ahead
	Unequal       uint64 // frames denied because of their size
	Seen          time.Time
}

// IOStatus is an open connection and how it goes.
type IOStatus struct {
	IOConnection
	Conduit       uint32 // in the generation in force
	Output, Input IOCount
}

// ioTable is user space's view of the open connections. What outlives the daemon is in the pinned
// maps; this is built from them.
type ioTable struct {
	mu      sync.Mutex
	judge   IOJudge
	open    map[uint32]*ioEntry
	named   map[ioName]*ioEntry
	places  map[bpf.BridgeIoKey]*ioPlace
	begun   map[uint32]int // connections by the identity that they are counted for
	free    []uint32
	last    uint32
	ended   []IOEnded // of applies, for the next sweep to tell
	refused uint64
}

// ioName is what a target knows a connection by.
type ioName struct {
	target IOEnd
	triad  IOTriad
}

type ioEntry struct {
	c       IOConnection
	session bpf.BridgeFlowKey
	keys    [2]bpf.BridgeIoKey // of output and input, where they send
	// Of the generation in force: what is written down, and whether the connection may outlive its session.
	approvals [2]bpf.BridgeIoApproval
	outlives  bool
	left      bool // its session was seen closed; the flow table forgets that
	stray     bool // its session holds another slot than when it was opened, or none
}

// ioPlace is one direction in the kernel's tables. A multicast direction serves all connections that
// listen to it.
type ioPlace struct {
	number uint32
	users  []*ioEntry
}

func (e *ioEntry) direction(i int) *IODirection {
	if i == 0 {
		return &e.c.Output
	}
	return &e.c.Input
}

func (e *ioEntry) name() ioName { return ioName{e.c.Target, e.c.Triad} }

// owner is the identity that a connection is counted for: its originator. One that was adopted is whose frame was seen, else
// a device that answers could use up the share of those that open connections to it.
func (e *ioEntry) owner() uint32 {
	if e.c.Adopted && !e.c.Output.sends() {
		return e.approvals[1].Source
	}
	return e.approvals[0].Source
}

// SetIOJudge says who is asked, beside the policy's conduits, whether a connection is permitted: by
// OpenIO, and by Apply about each that is open. Without one the conduits alone decide, and none outlives its
// session.
func (d *Datapath) SetIOJudge(judge IOJudge) {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	d.io.judge = judge
}

// OpenIO lets a connection's cyclic frames through from now on and returns its number. It has to
// return before the device's reply to the Forward Open leaves, or the first frames race. One that is
// open under the same triad on the same target is replaced: the target has let go of it.
func (d *Datapath) OpenIO(c IOConnection) (uint32, error) {
	t := &d.io
	t.mu.Lock()
	defer t.mu.Unlock()
	id, err := d.openIO(c)
	if err != nil {
		t.refused++
	}
	return id, err
}

func (d *Datapath) openIO(c IOConnection) (uint32, error) {
	t := &d.io
	e, err := newIOEntry(c)
	if err != nil {
		return 0, err
	}
	if !c.Adopted {
		if old := t.named[e.name()]; old != nil {
			d.endIO(old, IOReplaced)
		}
	}
	if err := d.leaveGroup(e); err != nil {
		return 0, err
	}
	if t.isOthers(e) {
		return 0, ErrIOGroup
	}
	for _, old := range t.rivals(e) {
		d.endIO(old, IOReplaced)
	}
	g := d.plans.Load()
	var approvals ioApprovals
	ok := false
	if g != nil {
		approvals, ok = t.approve(e, g.plan, g.current)
	}
	e.take(&approvals)
	switch {
	case !ok:
		return 0, ErrIONotPermitted
	case len(t.open) >= maxIO || len(t.free) < 2:
		return 0, ErrIOFull
	case t.begun[e.owner()] >= ioQuota:
		return 0, ErrIOQuota
	}
	now, err := d.readClock()
	if err != nil {
		return 0, err
	}
	for t.last++; t.last == 0 || t.open[t.last] != nil; t.last++ {
	}
	e.c.ID = t.last
	t.add(e)
	if err := d.enterIO(e, g.current, now); err != nil {
		d.removeIO(e)
		d.goOnWithout(e)
		return 0, err
	}
	return e.c.ID, nil
}

// newIOEntry checks a connection and writes down the keys of its frames.
func newIOEntry(c IOConnection) (*ioEntry, error) {
	wrong := func(what string) error { return fmt.Errorf("open an I/O connection: %s", what) }
	switch {
	case c.Side != policy.SideA && c.Side != policy.SideB:
		return nil, wrong("the originator's side is not known")
	case !c.Originator.Address.Is4() || !c.Target.Address.Is4():
		return nil, wrong("its ends have to have IPv4 addresses")
	case c.Output.Group.IsValid():
		return nil, wrong("an originator does not send to a group")
	case c.Input.Group.IsValid() && (!c.Input.Group.Is4() || !c.Input.Group.IsMulticast()):
		return nil, wrong(fmt.Sprintf("%v is no multicast group", c.Input.Group))
	case !c.Output.sends() && !c.Input.sends():
		return nil, wrong("it carries nothing in either direction")
	case len(c.Opening) > IOOpeningMax:
		return nil, wrong(fmt.Sprintf("what opened it has %d bytes, and %d is the most", len(c.Opening), IOOpeningMax))
	}
	e := &ioEntry{c: c}
	if c.Session != nil {
		e.session = flowKeyOf(c.Session)
	}
	tags := ioTags(c.Tags)
	e.keys[0] = bpf.BridgeIoKey{
		SourceMac: c.Originator.MAC, DestinationMac: c.Target.MAC, Source: networkWord(c.Originator.Address),
		Destination: networkWord(c.Target.Address), Tags: tags, Connection: c.Output.Connection, Side: uint8(c.Side),
	}
	e.keys[1] = bpf.BridgeIoKey{
		SourceMac: c.Target.MAC, DestinationMac: c.Originator.MAC, Source: networkWord(c.Target.Address),
		Destination: networkWord(c.Originator.Address), Tags: tags, Connection: c.Input.Connection, Side: uint8(c.Side.Other()),
	}
	if c.Input.Group.IsValid() {
		e.keys[1].DestinationMac = multicastMAC(c.Input.Group)
		e.keys[1].Destination = networkWord(c.Input.Group)
	}
	return e, nil
}

// multicastMAC is the MAC address of an IPv4 group (RFC 1112 6.4).
func multicastMAC(group netip.Addr) [6]byte {
	a := group.As4()
	return [6]byte{0x01, 0x00, 0x5e, a[1] & 0x7f, a[2], a[3]}
}

// rivals returns the other connections whose frames would look like this one's. They are over: an
// identifier is in use once at its consumer, or for a group at its producer.
func (t *ioTable) rivals(e *ioEntry) []*ioEntry {
	var list []*ioEntry
	for _, other := range t.open {
		for i := range e.keys {
			shared := i == 1 && e.c.Input.Group.IsValid() && !other.c.Adopted
			if e.direction(i).sends() && other.direction(i).sends() && e.keys[i] == other.keys[i] && !shared {
				list = append(list, other)
				break
			}
		}
	}
	return list
}

// isOthers reports whether the target would send to a group under the identifier of another device there. Whoever
// listens to that may tell the two by nothing else, and a device is told of the group and chooses the identifier
// itself: it could speak for the other.
func (t *ioTable) isOthers(e *ioEntry) bool {
	if !e.c.Input.sends() || !e.c.Input.Group.IsValid() {
		return false
	}
	for _, other := range t.open {
		if in := &other.c.Input; in.sends() && in.Group == e.c.Input.Group && in.Connection == e.c.Input.Connection &&
			other.c.Target != e.c.Target && other.keys[1].Tags == e.keys[1].Tags {
			return true
		}
	}
	return false
}

// ioApprovals is what a plan says of a connection: what is written down for its two directions.
type ioApprovals struct {
	of       [2]bpf.BridgeIoApproval
	outlives bool
}

func (e *ioEntry) take(a *ioApprovals) { e.approvals, e.outlives = a.of, a.outlives }

// approve asks a plan about a connection.
func (t *ioTable) approve(e *ioEntry, plan *policy.Plan, generation uint32) (out ioApprovals, ok bool) {
	decision, ok := plan.DecideIO(ioHeader(&e.c))
	if !ok {
		return out, false
	}
	conduit := &plan.Conduits[decision.Conduit]
	switch {
	case e.c.Adopted && !joinsIO(conduit):
		return out, false
	case !e.c.Adopted && t.judge != nil:
		if ok, out.outlives = t.judge(plan, decision.Conduit, &e.c); !ok {
			return out, false
		}
	}
	out.of[0] = bpf.BridgeIoApproval{
		Generation: generation, Conduit: decision.Conduit, Source: decision.Source, Destination: decision.Destination,
		Observed: flag(conduit.Mode != policy.Enforce), Limited: flag(!conduit.Limit.IsZero()),
	}
	out.of[1] = out.of[0]
	out.of[1].Source, out.of[1].Destination = decision.Destination, decision.Source
	return out, true
}

// joinsIO reports whether I/O that nobody saw opened may live on under a conduit: it would have passed in
// an outage, and connections from before inspection live on.
func joinsIO(c *policy.Conduit) bool {
	return c.IO && c.OnOutage == policy.OutageOpen && c.OnJoin == policy.JoinResync
}

// ioHeader is what the originator's frames look like.
func ioHeader(c *IOConnection) *policy.Header {
	h := &policy.Header{
		Src: c.Originator.MAC, Dst: c.Target.MAC, Side: c.Side, EtherType: 0x0800,
		SrcIP: c.Originator.Address, DstIP: c.Target.Address, Protocol: protocolUDP,
		SrcPort: policy.IOPort, DstPort: policy.IOPort,
	}
	for _, tag := range c.Tags {
		h.Tags = append(h.Tags, policy.Tag{TPID: tag.EtherType, TCI: tag.Identifier})
	}
	return h
}

// add files a connection and gives its directions places.
func (t *ioTable) add(e *ioEntry) {
	t.open[e.c.ID] = e
	if !e.c.Adopted {
		t.named[e.name()] = e
	}
	t.begun[e.owner()]++
	for i, key := range e.keys {
		if !e.direction(i).sends() {
			continue
		}
		p := t.places[key]
		if p == nil {
			p = &ioPlace{number: t.free[0]}
			t.free = t.free[1:]
			t.places[key] = p
		}
		p.users = append(p.users, e)
	}
}

// enterIO writes a connection down for the kernel, what its frames are looked up by last.
func (d *Datapath) enterIO(e *ioEntry, generation uint32, now clock) error {
	t, o := &d.io, &d.objects
	for i, key := range e.keys {
		p := t.places[key]
		if !e.direction(i).sends() || len(p.users) > 1 {
			continue
		}
		if err := o.IoStates.Put(p.number, bpf.BridgeIoState{
			Seen: now.jiffies(), Timeout: uint64(max(ioPatience, e.direction(i).Timeout)),
		}); err != nil {
			return fmt.Errorf("open an I/O connection: %w", err)
		}
	}
	for i, key := range e.keys {
		if !e.direction(i).sends() {
			continue
		}
		p := t.places[key]
		if len(p.users) > 1 {
			continue
		}
		if err := o.IoApprovals.Put(approvalAt(p.number, generation), e.approvals[i]); err != nil {
			return fmt.Errorf("approve an I/O connection: %w", err)
		}
		if err := o.IoApprovals.Put(approvalAt(p.number, generation+1), bpf.BridgeIoApproval{}); err != nil {
			return fmt.Errorf("approve an I/O connection: %w", err)
		}
	}
	if err := o.IoConnections.Put(e.c.ID, t.record(e, now)); err != nil {
		return fmt.Errorf("write an I/O connection down: %w", err)
	}
	for i, key := range e.keys {
		if !e.direction(i).sends() {
			continue
		}
		if p := t.places[key]; len(p.users) > 1 {
			if err := d.shareGroup(&key, p); err != nil {
				return err
			}
			continue
		}
		if err := o.IoHalves.Put(&key, t.half(e, i)); err != nil {
			return fmt.Errorf("open an I/O connection: %w", err)
		}
	}
	return nil
}

// approvalAt is where the approval of a place lies in the half of a generation.
func approvalAt(place, generation uint32) uint32 { return generation&1*ioPlaces + place }

// IO_VARIABLE and IO_GRACE in bpf/types.h.
const (
	ioVariable = 0x01
	ioGrace    = 20_000_000
)

func (t *ioTable) half(e *ioEntry, i int) bpf.BridgeIoHalf {
	own := e.direction(i)
	h := bpf.BridgeIoHalf{Place: t.places[e.keys[i]].number, Size: own.Size, Timeout: uint64(own.Timeout)}
	if own.Variable {
		h.Treatment |= ioVariable
	}
	// What goes to a group serves others when this connection is given up.
	if other := 1 - i; e.direction(other).sends() && !(i == 1 && e.c.Input.Group.IsValid()) {
		h.Peer = t.places[e.keys[other]].number
	}
	return h
}

// CloseIO removes the connection that a target knows by a triad, and reports whether there was one.
func (d *Datapath) CloseIO(target IOEnd, triad IOTriad) bool {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	e := d.io.named[ioName{target, triad}]
	if e == nil {
		return false
	}
	d.endIO(e, IOClosed)
	return true
}

// CloseIOByID removes a connection by the number that OpenIO gave it, for one of the reasons above.
func (d *Datapath) CloseIOByID(id uint32, why string) bool {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	e := d.io.open[id]
	if e == nil {
		return false
	}
	d.endIO(e, why)
	return true
}

// IOIsOpen reports whether the connection of a number is open.
func (d *Datapath) IOIsOpen(id uint32) bool {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	return d.io.open[id] != nil
}

// endIO removes a connection and remembers to tell of it. Those go on that share a direction with it.
func (d *Datapath) endIO(e *ioEntry, why string) {
	d.dropIO(e, why)
	d.goOnWithout(e)
}

// dropIO does the same for who sees to those.
func (d *Datapath) dropIO(e *ioEntry, why string) {
	d.removeIO(e)
	d.io.tell(IOEnded{Connection: e.c, Why: why})
}

// tell remembers an end for the next sweep.
func (t *ioTable) tell(e IOEnded) {
	if len(t.ended) < maxIO {
		t.ended = append(t.ended, e)
	}
}

// removeIO takes a connection out of the kernel's tables, what its frames are looked up by first. A
// deletion fails only where there is nothing to delete.
func (d *Datapath) removeIO(e *ioEntry) {
	t := &d.io
	for i, key := range e.keys {
		if !e.direction(i).sends() {
			continue
		}
		p := t.places[key]
		if p.users = slices.DeleteFunc(p.users, func(u *ioEntry) bool { return u == e }); len(p.users) > 0 {
			continue
		}
		_ = d.objects.IoHalves.Delete(&key)
		delete(t.places, key)
		t.free = append(t.free, p.number)
	}
	_ = d.objects.IoConnections.Delete(e.c.ID)
	delete(t.open, e.c.ID)
	if t.named[e.name()] == e {
		delete(t.named, e.name())
	}
	if t.begun[e.owner()]--; t.begun[e.owner()] <= 0 {
		delete(t.begun, e.owner())
	}
}

// flip puts a generation in force, with every open connection that its plan permits, and ends the
// others: their frames are denied from the flip on. It fails before anything has changed.
func (d *Datapath) flip(g *generations) error {
	t, plan, next := &d.io, g.plan, g.current
	t.mu.Lock()
	defer t.mu.Unlock()
	approvals := make(map[uint32]bpf.BridgeIoApproval, len(t.places))
	for _, p := range t.places {
		approvals[approvalAt(p.number, next)] = bpf.BridgeIoApproval{}
	}
	var over []*ioEntry
	kept := make(map[*ioEntry]ioApprovals, len(t.open))
	for _, e := range t.open {
		both, ok := t.approve(e, plan, next)
		if !ok {
			over = append(over, e)
			continue
		}
		kept[e] = both
		for i, key := range e.keys {
			if e.direction(i).sends() {
				at := approvalAt(t.places[key].number, next)
				approvals[at] = stricter(approvals[at], both.of[i])
			}
		}
	}
	if err := d.writeApprovals(approvals); err != nil {
		return err
	}
	d.plans.Store(g)
	d.control.setGeneration(next)
	for e, both := range kept {
		e.take(&both)
	}
	for _, e := range over {
		d.dropIO(e, IOForbidden)
	}
	settled := make(map[bpf.BridgeIoKey]bool, len(over)) // once for all that have left a group
	for _, e := range over {
		if !settled[e.keys[1]] {
			settled[e.keys[1]] = true
			d.goOnWithout(e)
		}
	}
	clear(t.begun) // identities may have other numbers than before
	for e := range kept {
		t.begun[e.owner()]++
	}
	return nil
}

func (d *Datapath) writeApprovals(approvals map[uint32]bpf.BridgeIoApproval) error {
	if len(approvals) == 0 {
		return nil
	}
	keys := make([]uint32, 0, len(approvals))
	values := make([]bpf.BridgeIoApproval, 0, len(approvals))
	for key, value := range approvals {
		keys, values = append(keys, key), append(values, value)
	}
	if _, err := d.objects.IoApprovals.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("approve the open I/O connections: %w", err)
	}
	return nil
}

// ioLook is what a sweep or a list has to know of a connection to read its state without the lock.
type ioLook struct {
	entry   *ioEntry
	id      uint32
	places  [2]uint32 // of output and input; 0: nothing is sent
	session *Flow
	left    bool
}

// look writes down what is open. The lock is held.
func (t *ioTable) look(e *ioEntry) ioLook {
	l := ioLook{entry: e, id: e.c.ID, session: e.c.Session, left: e.left}
	for i, key := range e.keys {
		if e.direction(i).sends() {
			l.places[i] = t.places[key].number
		}
	}
	return l
}

func (t *ioTable) looks() []ioLook {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]ioLook, 0, len(t.open))
	for _, e := range t.open {
		list = append(list, t.look(e))
	}
	return list
}

// SweepIO removes connections that an end's watchdog has given up and those whose session is over,
// adopts what passed unread on conduits that open, and returns what was removed since the last call,
// for whatever reason. The maps are read without the lock, which who opens and closes connections
// waits for, and with it the replies that do; only of what seems to be over they are read again under it.
func (d *Datapath) SweepIO() ([]IOEnded, error) {
	t := &d.io
	err := d.adoptIO()
	if looks := t.looks(); len(looks) > 0 {
		now, clockErr := d.readClock()
		if clockErr != nil {
			return nil, errors.Join(err, clockErr)
		}
		for i := range looks {
			if l := &looks[i]; l.left || d.gaveUp(l, now) || d.sessionOf(l) != ioSessionLives {
				d.settleIO(l, now)
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := t.ended
	t.ended = nil
	return ended, err
}

// settleIO ends a connection that seemed to be over, if it is the one that was looked at and still does.
func (d *Datapath) settleIO(seen *ioLook, now clock) {
	t := &d.io
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.open[seen.id]
	if e == nil || e != seen.entry {
		return
	}
	l := t.look(e)
	session := d.sessionOf(&l)
	e.left = e.left || session == ioSessionClosed
	switch {
	case d.gaveUp(&l, now):
		d.endIO(e, IOTimedOut)
	case session == ioSessionReset || e.left && !e.outlives:
		d.endIO(e, IOSessionOver)
	}
}

// ioExpired is io_expired of bpf/lib/io.h.
func ioExpired(s *bpf.BridgeIoState, now clock) bool {
	return int64(now.jiffies()-s.Seen-ioGrace) > int64(s.Timeout)
}

// gaveUp reports whether an end's watchdog has given the connection up.
// The lock need not be held: of a place that has passed to another connection meanwhile it says nothing that
// settleIO does not ask again.
func (d *Datapath) gaveUp(l *ioLook, now clock) bool {
	for _, place := range l.places {
		if place != 0 && d.isOver(place, now) {
			return true
		}
	}
	return false
}

// isOver reports whether a direction is past its watchdog.
func (d *Datapath) isOver(place uint32, now clock) bool {
	var s bpf.BridgeIoState
	if d.objects.IoStates.Lookup(place, &s) != nil {
		return false // it cannot fail for an index of an array; the kernel goes by its own look
	}
	return ioExpired(&s, now)
}

type ioSession uint8

const (
	ioSessionLives  ioSession = iota
	ioSessionClosed           // by both ends
	ioSessionReset            // by an end or by us
)

// sessionOf says what has become of the TCP conversation that opened a connection. One that the flow table
// knows nothing of has been silent for hours, and may live.
func (d *Datapath) sessionOf(l *ioLook) ioSession {
	if l.session == nil {
		return ioSessionLives
	}
	w, found := d.flowOfSession(l.session, &l.entry.session)
	switch {
	case !found:
		return ioSessionLives
	case w.flow.State&flowReset != 0:
		return ioSessionReset
	case flowClosed(w.flow.State):
		return ioSessionClosed
	}
	return ioSessionLives
}

// flowOfSession is the flow that a connection's session has, in the slot where it was last. After an outage that
// is the same one under another generation.
func (d *Datapath) flowOfSession(session *Flow, key *bpf.BridgeFlowKey) (w entry, ok bool) {
	var slot bpf.BridgeSlot
	ok = d.objects.Slots.Lookup(session.Key&mark.SlotMask, &slot) == nil && d.flowTable.get(slot.At, &w) &&
		w.record.Key == *key
	return w, ok
}

// strays reports whether the flow of a session has to be looked for.
func (d *Datapath) strays(e *ioEntry) bool {
	if e.c.Session == nil {
		return false
	}
	_, found := d.flowOfSession(e.c.Session, &e.session)
	return !found
}

// straySessions returns the sessions of which the slot is not known, as keys of flows.
func (d *Datapath) straySessions() (slots map[bpf.BridgeFlowKey]uint32) {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	for _, e := range d.io.open {
		if !e.stray {
			continue
		}
		if slots == nil {
			slots = map[bpf.BridgeFlowKey]uint32{}
		}
		slots[e.session] = 0
	}
	return slots
}

// followSessions notes the slots in which flows of stray sessions were found, for the next daemon, too.
func (d *Datapath) followSessions(slots map[bpf.BridgeFlowKey]uint32) error {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	now := newClock()
	for _, e := range d.io.open {
		slot := slots[e.session]
		if !e.stray || slot == 0 {
			continue
		}
		session := *e.c.Session // others read the one that is there
		session.Key = slot
		e.c.Session, e.stray = &session, false
		if err := d.objects.IoConnections.Put(e.c.ID, d.io.record(e, now)); err != nil {
			return fmt.Errorf("write an I/O connection down: %w", err)
		}
	}
	return nil
}

// adoptIO opens connections for what the fast path let through unread: each direction by itself, for
// nothing is known of what belongs together.
func (d *Datapath) adoptIO() error {
	var key bpf.BridgeIoKey
	var c bpf.BridgeIoCandidate
	var keys []bpf.BridgeIoKey
	var candidates []bpf.BridgeIoCandidate
	for i := d.objects.IoCandidates.Iterate(); i.Next(&key, &c); {
		keys, candidates = append(keys, key), append(candidates, c)
	}
	var errs []error
	for i := range keys {
		if err := d.adoptOne(&keys[i], &candidates[i]); err != nil && !errors.Is(err, ErrIONotPermitted) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) adoptOne(key *bpf.BridgeIoKey, c *bpf.BridgeIoCandidate) error {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	_ = d.objects.IoCandidates.Delete(key)
	if p := d.io.places[*key]; p != nil {
		if err := d.endSilent(p); err != nil {
			return err
		}
		if d.io.places[*key] != nil {
			return nil // opened meanwhile
		}
	}
	_, err := d.openIO(adopted(key, c))
	return err
}

// endSilent ends the connections in a place that an end has given up: what passes unread under their identifiers since then
// is another's.
func (d *Datapath) endSilent(p *ioPlace) error {
	now, err := d.readClock()
	if err != nil {
		return err
	}
	for _, e := range slices.Clone(p.users) {
		if l := d.io.look(e); d.gaveUp(&l, now) {
			d.endIO(e, IOTimedOut)
		}
	}
	return nil
}

// adopted is the connection of which one frame was seen.
func adopted(k *bpf.BridgeIoKey, seen *bpf.BridgeIoCandidate) IOConnection {
	c := IOConnection{
		Side: policy.Side(k.Side), Tags: tagsOf(k.Tags[:]), Adopted: true, Opened: time.Now(),
		Originator: IOEnd{k.SourceMac, addressOfWord(k.Source)}, Target: IOEnd{k.DestinationMac, addressOfWord(k.Destination)},
	}
	sent := IODirection{Connection: k.Connection, Size: seen.Size, Timeout: ioPatience}
	if seen.Reverse == 0 {
		c.Output = sent
		return c
	}
	c.Originator, c.Target, c.Side = c.Target, c.Originator, c.Side.Other()
	c.Input = sent
	return c
}

// ListIO returns the open connections with their counters, in no order.
func (d *Datapath) ListIO() ([]IOStatus, error) {
	t := &d.io
	looks := t.looks()
	now := d.flowClock()
	states := make([][2]bpf.BridgeIoState, len(looks))
	for i := range looks {
		for j, place := range looks[i].places {
			if place == 0 {
				continue
			}
			if err := d.objects.IoStates.Lookup(place, &states[i][j]); err != nil {
				return nil, fmt.Errorf("read an I/O connection's counters: %w", err)
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]IOStatus, 0, len(looks))
	for i := range looks {
		e := looks[i].entry
		if t.open[looks[i].id] != e {
			continue // its places may be another's by now
		}
		s := IOStatus{IOConnection: e.c, Conduit: e.approvals[0].Conduit}
		for j, count := range []*IOCount{&s.Output, &s.Input} {
			if e.direction(j).sends() {
				*count = countOf(&states[i][j], now)
			}
		}
		list = append(list, s)
	}
	return list, nil
}

func countOf(s *bpf.BridgeIoState, now clock) IOCount {
	return IOCount{
		Frames: s.Frames, Bytes: s.Bytes, Lost: s.Lost, Old: s.Old, Unequal: s.Unequal,
		Seen: now.wall(now.ns - (now.jiffies() - s.Seen)),
	}
}

// CountIO returns how many connections are open, and how many OpenIO could not open: their ends find no
// way through, and give them up.
func (d *Datapath) CountIO() (open int, refused uint64) {
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	return len(d.io.open), d.io.refused
}

// loadIO takes over what the pinned maps hold. A connection of which the daemon before wrote down
// only a part, because it ended on the way, is removed, and so is a half that belongs to none.
func (d *Datapath) loadIO() error {
	t := &d.io
	t.open, t.named = map[uint32]*ioEntry{}, map[ioName]*ioEntry{}
	t.places, t.begun = map[bpf.BridgeIoKey]*ioPlace{}, map[uint32]int{}
	taken := map[uint32]bool{}
	var broken []uint32
	var id uint32
	var record bpf.BridgeIoConnection
	c := newClock()
	connections := d.objects.IoConnections.Iterate()
	for connections.Next(&id, &record) {
		e, ok := d.restoreIO(id, &record, c)
		if !ok {
			broken = append(broken, id)
			continue
		}
		for i, h := range record.Halves {
			if e.direction(i).sends() {
				taken[h.Place] = true
			}
		}
		t.last = max(t.last, id)
	}
	if err := connections.Err(); err != nil {
		return fmt.Errorf("read the open I/O connections: %w", err)
	}
	for place := uint32(1); place < ioPlaces; place++ {
		if !taken[place] {
			t.free = append(t.free, place)
		}
	}
	for _, id := range broken {
		if err := d.objects.IoConnections.Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove what is left of an I/O connection: %w", err)
		}
	}
	return d.removeStrayHalves()
}

func (d *Datapath) removeStrayHalves() error {
	var key bpf.BridgeIoKey
	var half bpf.BridgeIoHalf
	var stray []bpf.BridgeIoKey
	halves := d.objects.IoHalves.Iterate()
	for halves.Next(&key, &half) {
		if d.io.places[key] == nil {
			stray = append(stray, key)
		}
	}
	if err := halves.Err(); err != nil {
		return fmt.Errorf("read the open I/O connections: %w", err)
	}
	for i := range stray {
		if err := d.objects.IoHalves.Delete(&stray[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove what is left of an I/O connection: %w", err)
		}
	}
	return nil
}

// restoreIO files a connection from its record, if all of it is there. For whom it is counted the first policy says that
// is applied: before that none is opened.
func (d *Datapath) restoreIO(id uint32, r *bpf.BridgeIoConnection, c clock) (*ioEntry, bool) {
	e := &ioEntry{c: connectionOf(id, r, c), session: r.Session, keys: [2]bpf.BridgeIoKey{r.Originator, r.Target}}
	for i, key := range e.keys {
		var half bpf.BridgeIoHalf
		if e.direction(i).sends() && (d.objects.IoHalves.Lookup(&key, &half) != nil || half.Place != r.Halves[i].Place) {
			return nil, false
		}
	}
	t := &d.io
	t.open[id] = e
	if !e.c.Adopted {
		t.named[e.name()] = e
	}
	e.stray = d.strays(e)
	for i, key := range e.keys {
		if !e.direction(i).sends() {
			continue
		}
		if t.places[key] == nil {
			t.places[key] = &ioPlace{number: r.Halves[i].Place}
		}
		t.places[key].users = append(t.places[key].users, e)
	}
	return e, true
}
