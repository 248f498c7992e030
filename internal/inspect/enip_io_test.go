package inspect

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// lastingRules permit I/O that outlives its session.
var lastingRules = []string{
	enipRules[0], enipRules[2],
	`{services: [forward_open, large_forward_open, forward_close, unconnected_send], route: ["1/0"], io: {assemblies: [100, 150, 151], outlive_session: true}}`,
}

func ioOpening(serial uint16) ct.Open {
	return ct.Open{
		Serial: serial, ToSource: 0x9000 + uint32(serial), Class: 1, Size: 100, RPI: 20000,
		Path: ct.Join(ct.Class(4), ct.Point(150), ct.Point(100)),
	}
}

// scannerOf returns a target whose I/O connections are filed in common and told to the log.
func scannerOf(t testing.TB, plan *policy.Plan, common *Common, log IOConnections) *target {
	t.Helper()
	d := newTarget(t, plan)
	dissector := d.pipeline.dissectors[policy.ProtocolENIP].(*enipDissector)
	dissector.io, dissector.named, dissector.told = common.io, common.named, log
	return d
}

// fin sends an end's FIN, and the acknowledgement of the other.
func (w *wire) fin(d stream.Direction) {
	w.send(d, segment{flags: frame.FlagFIN | frame.FlagACK})
	w.send(d.Other(), segment{flags: frame.FlagACK})
}

// TestIOConnectionsEnd: with a Forward Close on any session, with another Forward Open of the same triad, and
// with the session that opened them, however that ends. Where a rule lets them outlive it they end with its
// loss, and not where its ends have closed it.
func TestIOConnectionsEnd(t *testing.T) {
	o := ioOpening(9)
	unregister := func(d *target) { d.client(ct.Encapsulate(0x66, enipHandle, 0, nil)) }
	for _, r := range []struct {
		name  string
		after func(*target)
		why   IOEnd // of a connection that ends with its session
		lasts IOEnd // of one that may outlive it; 0: it goes on
	}{
		{"nothing", func(*target) {}, 0, 0},
		{"a read", func(d *target) { d.rr(readIdentity()) }, 0, 0},
		{"forward close", func(d *target) { d.rr(ct.Close(9, o.Path)) }, IOClosed, IOClosed},
		{"forward close of another", func(d *target) { d.rr(ct.Close(10, o.Path)) }, 0, 0},
		{"forward open", func(d *target) { d.rr(o.Forward()) }, IOReplaced, IOReplaced},
		{"unregister session", unregister, IOSessionLost, 0},
		{"the client closes", func(d *target) { d.fin(stream.FromInitiator); d.fin(stream.FromResponder) }, IOSessionLost, 0},
		{"the device closes", func(d *target) { d.fin(stream.FromResponder); d.fin(stream.FromInitiator) }, IOSessionLost, 0},
		{"one end closes", func(d *target) { d.fin(stream.FromResponder) }, 0, 0},
		{"one end closes, and the other lets it linger", func(d *target) {
			d.fin(stream.FromResponder)
			d.pipeline.Sweep(d.now.Add(time.Minute), nil)
		}, IOSessionLost, 0},
		{"silence", func(d *target) { d.pipeline.Sweep(d.now.Add(24*time.Hour), nil) }, 0, 0},
		{"the client resets", func(d *target) { d.send(stream.FromInitiator, segment{flags: frame.FlagRST}) }, IOSessionLost, IOSessionLost},
		{"the device resets", func(d *target) { d.send(stream.FromResponder, segment{flags: frame.FlagRST | frame.FlagACK}) }, IOSessionLost, IOSessionLost},
		{"a reset that no end takes", func(d *target) {
			d.send(stream.FromInitiator, segment{flags: frame.FlagRST, seqAt: -500000, keep: true})
		}, 0, 0},
		{"a denial", func(d *target) { d.rr(otherTag(1)) }, IOSessionLost, IOSessionLost},
		{"closed, and then a policy that forbids it", func(d *target) {
			d.fin(stream.FromInitiator)
			d.fin(stream.FromResponder)
			delete(d.flows.table, testKey)
			d.flows.generation++
			d.pipeline.Sweep(d.now, nil)
		}, IOSessionLost, 0}, // the fast path ends what goes on and is forbidden
		{"a policy that forbids it", func(d *target) {
			delete(d.flows.table, testKey)
			d.flows.generation++
			d.pipeline.Sweep(d.now, nil)
		}, IOSessionLost, IOSessionLost},
	} {
		t.Run(r.name, func(t *testing.T) {
			for _, lasts := range []bool{false, true} {
				plan, want := enipPlan(t, policy.DenyReset), r.why
				if lasts {
					plan, want = enipPlan(t, policy.DenyReset, lastingRules...), r.lasts
				}
				log := &ioLog{}
				d := scannerOf(t, plan, NewCommon(Limits{}), log)
				d.rr(o.Forward())
				if len(log.opened) != 1 {
					t.Fatalf("%d opened", len(log.opened))
				}
				r.after(d)
				switch {
				case want == 0 && len(log.closed) != 0:
					t.Errorf("may outlive %v: closed for reason %v", lasts, log.why)
				case want != 0 && (len(log.closed) != 1 || log.closed[0] != log.opened[0].ID || log.why[0] != want):
					t.Errorf("may outlive %v: closed %v for reason %v, want %v", lasts, log.closed, log.why, want)
				}
			}
		})
	}
}

// TestIOClosedOnAnotherSession: a target closes a connection whoever asks it to, so that the session
// does not matter, and neither does the key that names it: what has outlived its session is not touched by
// the end of the next one that goes by the same key.
func TestIOClosedOnAnotherSession(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset, lastingRules...)
	common, log := NewCommon(Limits{}), &ioLog{}
	first := scannerOf(t, plan, common, log)
	first.rr(ioOpening(9).Forward())
	first.fin(stream.FromInitiator)
	first.fin(stream.FromResponder)
	second := scannerOf(t, plan, common, log)
	second.rr(otherTag(1))
	second.mustDeny("write", verdict.ReasonTagNotPermitted)
	if len(log.opened) != 1 || len(log.closed) != 0 {
		t.Fatalf("%d opened, closed %v with another session", len(log.opened), log.closed)
	}
	third := scannerOf(t, plan, common, log)
	third.rr(ct.Close(9, ioOpening(9).Path))
	if len(log.closed) != 1 || log.closed[0] != log.opened[0].ID {
		t.Errorf("closed %v, want %v", log.closed, log.opened[0].ID)
	}
	if n := len(common.io.open) + len(common.io.paths) + len(common.io.begun) + len(common.io.shares) + len(common.io.telling); n != 0 {
		t.Errorf("%d entries are left of nothing", n)
	}
}

// TestIOIsOpenedAsItWasAgreed: what the fast path is told is what request and reply say together, direction by
// direction, and nothing where they do not agree or one of them is no success.
func TestIOIsOpenedAsItWasAgreed(t *testing.T) {
	toTarget := IODirection{Type: IOPointToPoint, ConnectionID: 0x70001, Size: 100, Interval: 20 * time.Millisecond, Requested: 20 * time.Millisecond, Destination: netip.AddrPortFrom(deviceEnd.Addr(), implicitPort)}
	toOriginator := toTarget
	toOriginator.ConnectionID, toOriginator.Destination = 0x9009, netip.AddrPortFrom(clientEnd.Addr(), implicitPort)
	none := func(d IODirection) IODirection { d.Type, d.Destination = IONone, netip.AddrPort{}; return d }
	group := toOriginator
	group.Type, group.ConnectionID, group.Destination = IOMulticast, 0x555, netip.MustParseAddrPort("239.192.1.5:2222")
	nowhere := group
	nowhere.Destination = netip.AddrPort{}
	socket := func(kind uint16, a, b, c, d byte) []byte { return ct.Item(kind, ct.Socket(2222, a, b, c, d)) }
	opened := func(o ct.Open) []byte { return ct.Opened(o, 0x70001, 0x9009) }
	multicast := func(o ct.Open) []byte { return ct.Opened(o, 0x70001, 0x555) }
	for _, r := range []struct {
		name   string
		change func(*ct.Open)
		reply  func(ct.Open) []byte
		items  [][]byte
		want   []IODirection // to target and to originator; nil: nothing is told
		class  uint8
		owner  IOOwner
	}{
		{"both ways", nil, opened, nil, []IODirection{toTarget, toOriginator}, 1, OwnerExclusive},
		{"class 0", func(o *ct.Open) { o.Class = 0xff }, opened, nil, []IODirection{toTarget, toOriginator}, 0, OwnerExclusive},
		{"large", func(o *ct.Open) { o.Large = true }, opened, nil, []IODirection{toTarget, toOriginator}, 1, OwnerExclusive},
		{"redundant owner", func(o *ct.Open) { o.Owner = true }, opened, nil, []IODirection{toTarget, toOriginator}, 1, OwnerRedundant},
		{"nothing to the target", func(o *ct.Open) { o.Types[0] = ct.Null }, opened, nil, []IODirection{none(toTarget), toOriginator}, 1, OwnerNone},
		{"nothing to the originator", func(o *ct.Open) { o.Types[1] = ct.Null }, opened, nil, []IODirection{toTarget, none(toOriginator)}, 1, OwnerExclusive},
		{"nothing at all", func(o *ct.Open) { o.Types = [2]byte{ct.Null, ct.Null} }, opened, nil, nil, 0, 0},
		{"to a group", func(o *ct.Open) { o.Types[1] = 1 }, multicast, [][]byte{socket(0x8001, 239, 192, 1, 5)}, []IODirection{toTarget, group}, 1, OwnerExclusive},
		{"to a group that nobody names", func(o *ct.Open) { o.Types[1] = 1 }, multicast, nil, []IODirection{toTarget, nowhere}, 1, OwnerExclusive},
		{"to a group that is the device", func(o *ct.Open) { o.Types[1] = 1 }, multicast, [][]byte{socket(0x8001, 198, 18, 0, 10)}, []IODirection{toTarget, nowhere}, 1, OwnerExclusive},
		{"to a group of the other direction", func(o *ct.Open) { o.Types[1] = 1 }, multicast, [][]byte{socket(0x8000, 239, 192, 1, 5)}, []IODirection{toTarget, nowhere}, 1, OwnerExclusive},
		{"a group where none was asked for", nil, opened, [][]byte{socket(0x8001, 239, 192, 1, 5)}, []IODirection{toTarget, toOriginator}, 1, OwnerExclusive},
		{"an error", nil, func(ct.Open) []byte { return []byte{0xd4, 0, 1, 1, 0, 1, 9, 0, 0x37, 0x13, 42, 0, 0, 0, 0, 0} }, nil, nil, 0, 0},
		{"a success of another service", nil, func(o ct.Open) []byte { o.Large = true; return opened(o) }, nil, nil, 0, 0},
		{"a success of another connection", nil, func(o ct.Open) []byte { o.Serial = 10; return opened(o) }, nil, nil, 0, 0},
		{"a success that ends", nil, func(o ct.Open) []byte { return opened(o)[:20] }, nil, nil, 0, 0},
		{"a partial success", nil, func(o ct.Open) []byte { b := opened(o); b[2] = 6; return b }, nil, nil, 0, 0},
	} {
		t.Run(r.name, func(t *testing.T) {
			log := &ioLog{}
			d := scannerOf(t, enipPlan(t, policy.DenyReset, lastingRules...), NewCommon(Limits{}), log)
			o := ioOpening(9)
			if r.change != nil {
				r.change(&o)
			}
			d.silent = true
			d.rr(o.Forward())
			d.mustAllow("forward open")
			if len(log.opened) != 0 {
				t.Error("told before the reply")
			}
			d.device(ct.RR(enipHandle, 7, r.reply(o), r.items...))
			switch {
			case r.want == nil && len(log.opened) != 0:
				t.Errorf("opened %+v", log.opened)
			case r.want == nil:
			case len(log.opened) != 1:
				t.Errorf("%d opened", len(log.opened))
			default:
				c := &log.opened[0]
				if c.OriginatorToTarget != r.want[0] || c.TargetToOriginator != r.want[1] || c.Class != r.class || c.Owner != r.owner {
					t.Errorf("opened %+v and %+v, class %d, owner %d", c.OriginatorToTarget, c.TargetToOriginator, c.Class, c.Owner)
				}
			}
		})
	}
}

// TestIOOfAnObserverAndOfAnEnforcer: a conduit is observed first and enforced then, on one TCP connection. No two
// connections go by one identifier, and each is closed by its own: one that the observer has seen open by a
// Forward Close that the enforcer sees, and not with the session in the observer's books.
func TestIOOfAnObserverAndOfAnEnforcer(t *testing.T) {
	plan, log := enipPlan(t, policy.DenyReset, lastingRules...), &ioLog{}
	common := NewCommon(Limits{})
	observer, enforcer := newTarget(t, plan), newTarget(t, plan)
	for _, d := range []*target{observer, enforcer} {
		of := common
		if d.observed = d == observer; d.observed {
			of = common.ForObserver()
		}
		d.pipeline = New(Config{Flows: d.flows, Common: of, IO: log})
		d.handshake()
		d.read = 0
		d.client(ct.Register(0))
		d.work()
	}
	observer.rr(ioOpening(9).Forward())
	enforcer.rr(ioOpening(10).Forward())
	if len(log.opened) != 2 || log.opened[0].ID == log.opened[1].ID {
		t.Fatalf("opened %v", log.opened)
	}
	if !log.opened[0].Observed || log.opened[1].Observed {
		t.Error("who was observed is not known")
	}
	enforcer.rr(ct.Close(9, ioOpening(9).Path))
	if len(log.closed) != 1 || log.closed[0] != log.opened[0].ID || len(log.forgotten) != 0 {
		t.Fatalf("closed %v, forgotten %v", log.closed, log.forgotten)
	}
	observer.send(stream.FromInitiator, segment{flags: frame.FlagRST})
	if len(log.closed) != 1 {
		t.Errorf("closed %v with the observer's session", log.closed[1:])
	}
	if a, b := enforcer.pipeline.common, observer.pipeline.common; a.ratesOf(plan) == b.ratesOf(plan) || a.memory == b.memory {
		t.Error("what is observed takes of what is enforced")
	}
}

// ioConnectionOf is a connection between two ends that an identity has opened.
func ioConnectionOf(plan *policy.Plan, identity uint32, i int) (ioName, IOConnection) {
	from, to := netip.AddrFrom4([4]byte{198, 18, 1, byte(identity)}), netip.AddrFrom4([4]byte{198, 18, 2, byte(i >> 8)})
	id := uint32(i)
	return ioName{to, cip.Triad{Serial: uint16(i), Vendor: 1, OriginatorSerial: identity}}, IOConnection{
		Flow: Flow{Plan: plan, Conduit: 1, Source: identity}, Originator: from, Target: to, Opened: clock, Multiplier: 4,
		OriginatorToTarget: IODirection{Type: IOPointToPoint, ConnectionID: id, Size: 10, Interval: time.Second, Destination: netip.AddrPortFrom(to, implicitPort)},
		TargetToOriginator: IODirection{Type: IOPointToPoint, ConnectionID: id, Size: 10, Interval: time.Second, Destination: netip.AddrPortFrom(from, implicitPort)},
	}
}

// TestIOShareOfOneIdentity: an identity may have a fourth of the connections open, what it opens beyond is
// told as refused and counted, and others find room; all together have no more than there may be.
func TestIOShareOfOneIdentity(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset)
	for i := range 6 {
		plan.Identities = append(plan.Identities, policy.Identity{Name: fmt.Sprintf("scanner-%d", i)})
	}
	base := uint32(len(plan.Identities) - 6)
	log := &ioLog{}
	d := scannerOf(t, plan, NewCommon(Limits{}), log)
	s := &enipSession{dissector: d.pipeline.dissectors[policy.ProtocolENIP].(*enipDissector)}
	table := s.dissector.io
	opens := func(identity uint32, n int) (opened, refused int) {
		before, beforeRefused := len(log.opened), len(log.refused)
		for i := range n {
			name, c := ioConnectionOf(plan, identity, i)
			table.add(s, name, c)
		}
		return len(log.opened) - before, len(log.refused) - beforeRefused
	}
	share := shareOf(maxIO)
	if opened, refused := opens(base, share+10); opened != share || refused != 10 {
		t.Errorf("one scanner: %d opened and %d refused", opened, refused)
	}
	if n := d.pipeline.Counters().IORefused.Load(); n != 10 {
		t.Errorf("%d counted as refused", n)
	}
	for i := range uint32(3) {
		if opened, refused := opens(base+1+i, share); opened != share || refused != 0 {
			t.Errorf("scanner %d: %d opened and %d refused", i+1, opened, refused)
		}
	}
	if opened, refused := opens(base+4, 1); opened != 0 || refused != 1 {
		t.Errorf("beyond all: %d opened, %d refused", opened, refused)
	}
	name, c := ioConnectionOf(plan, base, 5)
	table.add(s, name, c)
	if len(log.closed) != 1 || log.why[0] != IOReplaced || len(log.opened) != maxIO+1 {
		t.Error("one that is opened anew has found no room")
	}
	name, _ = ioConnectionOf(plan, base, 6)
	table.close(log, name, testKey)
	if opened, _ := opens(base+4, 1); opened != 1 {
		t.Error("what was closed has left no room")
	}
	table.lose(s, nil)
	if n := len(table.open) + len(table.paths) + len(table.begun) + len(table.shares) + len(table.telling); n != 0 {
		t.Errorf("%d entries are left of nothing", n)
	}
}

// askedLog counts how often it is asked whether a connection lives.
type askedLog struct {
	ioLog
	asked int
}

func (l *askedLog) Lives(id IOConnectionID) bool {
	l.asked++
	return l.ioLog.Lives(id)
}

// TestRefusedIOCostsLittle: whoever goes on opening connections beyond what it may have does not have all that are
// open looked at each time, only once a second; and what is over by then still makes room.
func TestRefusedIOCostsLittle(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset)
	log := &askedLog{}
	d := scannerOf(t, plan, NewCommon(Limits{}), log)
	s := &enipSession{dissector: d.pipeline.dissectors[policy.ProtocolENIP].(*enipDissector)}
	share := shareOf(maxIO)
	open := func(i int, after time.Duration) {
		name, c := ioConnectionOf(plan, 1, i)
		c.Opened = clock.Add(after)
		s.dissector.io.add(s, name, c)
	}
	for i := range share {
		open(i, 0)
	}
	for i := range 100 { // all that are open are past their watchdogs here, and live elsewhere
		open(share+i, time.Minute+time.Duration(i)*20*time.Millisecond)
	}
	if len(log.refused) != 100 || log.asked > 2*share {
		t.Errorf("%d refused, and asked %d times of %d connections", len(log.refused), log.asked, share)
	}
	open(share+100, time.Minute+3*time.Second)
	if log.asked <= 2*share {
		t.Error("nobody looks any more")
	}
}

// TestIOIsFoundByWhatItsDatagramsShow: by sender, receiver and identifier, whatever else is open.
func TestIOIsFoundByWhatItsDatagramsShow(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset)
	d := scannerOf(t, plan, NewCommon(Limits{}), &ioLog{})
	s := &enipSession{dissector: d.pipeline.dissectors[policy.ProtocolENIP].(*enipDissector)}
	table := s.dissector.io
	for i := range 100 {
		name, c := ioConnectionOf(plan, 1, i)
		table.add(s, name, c)
	}
	group := netip.MustParseAddr("239.192.1.5")
	for i := range 2 {
		name, c := ioConnectionOf(plan, 1, 200+i)
		c.TargetToOriginator.Type, c.TargetToOriginator.ConnectionID = IOMulticast, 200
		c.TargetToOriginator.Destination = netip.AddrPortFrom(group, implicitPort)
		table.add(s, name, c)
	}
	name, c := ioConnectionOf(plan, 1, 300)
	c.TargetToOriginator.Type, c.TargetToOriginator.Destination = IOMulticast, netip.AddrPort{}
	table.add(s, name, c)
	for _, r := range []struct {
		name     string
		from, to netip.Addr
		id       uint32
		found    bool
		d        stream.Direction
	}{
		{"output", c.Originator, c.Target, 7, false, 0}, // of other targets
		{"output", c.Originator, netip.MustParseAddr("198.18.2.0"), 7, true, stream.FromInitiator},
		{"input", netip.MustParseAddr("198.18.2.0"), c.Originator, 7, true, stream.FromResponder},
		{"another identifier", c.Originator, netip.MustParseAddr("198.18.2.0"), 100, false, 0},
		{"another sender", netip.MustParseAddr("198.18.1.2"), netip.MustParseAddr("198.18.2.0"), 7, false, 0},
		{"to a group that was not named", netip.MustParseAddr("198.18.2.0"), group, 7, false, 0},
		{"to the group", netip.MustParseAddr("198.18.2.0"), group, 200, true, stream.FromResponder},
		{"to another group", netip.MustParseAddr("198.18.2.0"), netip.MustParseAddr("239.192.1.6"), 200, false, 0},
		{"multicast to one", netip.MustParseAddr("198.18.2.0"), c.Originator, 200, false, 0},
		{"to any group, where none was named", c.Target, group, 300, true, stream.FromResponder},
		{"to one, where none was named", c.Target, c.Originator, 300, false, 0},
	} {
		o, direction := table.find(r.from, r.to, r.id)
		if (o != nil) != r.found || o != nil && direction != r.d {
			t.Errorf("%s: found %v, direction %v", r.name, o != nil, direction)
		}
	}
	first, _ := ioConnectionOf(plan, 1, 200)
	table.close(&ioLog{}, first, testKey)
	if o, _ := table.find(netip.MustParseAddr("198.18.2.0"), group, 200); o == nil {
		t.Error("the group is closed while another connection listens to it")
	}
}

// strictIO is told as a fast path is that takes its time: for each connection it notes what is wrong with the
// order of what it is told, and for all whether the table was locked meanwhile.
type strictIO struct {
	t     *testing.T
	table *ioTable

	mu     sync.Mutex
	busy   map[cip.Triad]bool
	open   map[cip.Triad]IOConnectionID
	closed map[IOConnectionID]bool
}

func (f *strictIO) tell(name cip.Triad, what func()) {
	f.mu.Lock()
	if f.busy[name] {
		f.t.Error("told twice at a time of one connection")
	}
	f.busy[name] = true
	f.mu.Unlock()
	free := make(chan struct{})
	go func() {
		f.table.mu.Lock()
		defer f.table.mu.Unlock()
		close(free)
	}()
	select {
	case <-free:
	case <-time.After(5 * time.Second):
		f.t.Error("told under the table's lock")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
	f.busy[name] = false
}

func (f *strictIO) Open(c IOConnection) {
	name := c.Triad
	f.tell(name, func() {
		if f.closed[c.ID] {
			f.t.Error("opened after it was closed")
		}
		f.open[name] = c.ID
	})
}

func (f *strictIO) Close(id IOConnectionID, _ IOEnd) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed[id] = true
	for name, open := range f.open {
		if open == id {
			delete(f.open, name)
		}
	}
}

func (f *strictIO) Refused(IOConnection)      {}
func (f *strictIO) Forget(uint64, cip.Triad)  {}
func (f *strictIO) Lives(IOConnectionID) bool { return true }

// TestIOIsToldInOrder: pipelines that open and close the same connections side by side tell of each in the
// order in which it went, nobody is told under the lock, and in the end the fast path has open what the table
// has.
func TestIOIsToldInOrder(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset)
	common := NewCommon(Limits{})
	fast := &strictIO{
		t: t, table: common.io, busy: map[cip.Triad]bool{}, open: map[cip.Triad]IOConnectionID{}, closed: map[IOConnectionID]bool{},
	}
	var group sync.WaitGroup
	for lane := range 4 {
		d := scannerOf(t, plan, common, fast)
		s := &enipSession{dissector: d.pipeline.dissectors[policy.ProtocolENIP].(*enipDissector)}
		group.Go(func() {
			for i := range 300 {
				name, c := ioConnectionOf(plan, 1, (i+lane)%3)
				c.Triad = name.triad
				switch (i + lane) % 5 {
				case 0, 1, 2:
					common.io.add(s, name, c)
				case 3:
					common.io.close(fast, name, testKey)
				default:
					common.io.lose(s, nil)
				}
			}
		})
	}
	group.Wait()
	if len(fast.open) != len(common.io.open) || len(common.io.telling) != 0 {
		t.Errorf("%d are open in the fast path and %d in the table", len(fast.open), len(common.io.open))
	}
	for _, o := range common.io.open {
		if fast.open[o.connection.Triad] != o.connection.ID {
			t.Errorf("%v is not what the fast path has open", o.connection.ID)
		}
	}
}

// brokenIO panics whenever it is told of an opening.
type brokenIO struct{ noIO }

func (brokenIO) Open(IOConnection) { panic("told of an opening") }

// TestIOOfABrokenListenerHoldsUpNobody: a verdict loop survives a panic while it tells of a connection, and
// the others have something to tell of the same one all the same.
func TestIOOfABrokenListenerHoldsUpNobody(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset)
	common := NewCommon(Limits{})
	sessionOf := func(log IOConnections) *enipSession {
		return &enipSession{dissector: scannerOf(t, plan, common, log).pipeline.dissectors[policy.ProtocolENIP].(*enipDissector)}
	}
	name, c := ioConnectionOf(plan, 1, 0)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the listener did not panic")
			}
		}()
		common.io.add(sessionOf(brokenIO{}), name, c)
	}()
	told := make(chan struct{})
	go func() {
		defer close(told)
		common.io.add(sessionOf(noIO{}), name, c)
	}()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("another verdict loop waits for the one that panicked")
	}
}

// TestConnectionsWithinOtherServices: a Forward Open or Close counts wherever it is nested, each by its own
// reply; what is sent on a connection may close one and opens none.
func TestConnectionsWithinOtherServices(t *testing.T) {
	rules := []string{
		`{services: [get_attributes_all], classes: [identity]}`,
		`{services: [forward_open, forward_close, unconnected_send], route: ["1/0", "1/0,1/0"], io: {assemblies: [100, 150]}}`,
	}
	open := func(serial uint16) []byte { return ioOpening(serial).Forward() }
	shut := func(serial uint16) []byte { return ct.Close(serial, ioOpening(serial).Path) }
	opened := func(serial uint16) []byte {
		return ct.Opened(ct.Open{Serial: serial}, 0x7000+uint32(serial), 0x9000+uint32(serial))
	}
	closed, failed := func(serial uint16) []byte {
		return append([]byte{0xce, 0, 0, 0}, ct.Join(ct.U16(serial), ct.U16(0x1337), ct.U32(42), []byte{0, 0})...)
	}, func(code byte) []byte { return []byte{code | 0x80, 0, 1, 0} }
	packet := func(status byte, replies ...[]byte) []byte {
		return append([]byte{0x8a, 0, status, 0}, ct.Packet(replies...)...)
	}
	hop := ct.Port(1, 0)
	for _, r := range []struct {
		name           string
		request, reply []byte
		opens, closes  []uint16
	}{
		{"open alone", open(1), opened(1), []uint16{1}, nil},
		{"open that fails", open(1), failed(0x54), nil, nil},
		{"two opens", ct.Multiple(open(1), open(2)), packet(0, opened(1), opened(2)), []uint16{1, 2}, nil},
		{"two opens, one fails", ct.Multiple(open(1), open(2)), packet(0x1e, failed(0x54), opened(2)), []uint16{2}, nil},
		{"two opens with each other's replies", ct.Multiple(open(1), open(2)), packet(0, opened(2), opened(1)), nil, nil},
		{"two opens, one reply", ct.Multiple(open(1), open(2)), packet(0, opened(1)), []uint16{1}, nil},
		{"a packet that fails", ct.Multiple(open(1), shut(9)), failed(0x0a), nil, nil},
		{"close between others", ct.Multiple(readIdentity(), shut(9), readIdentity()), packet(0x1e, failed(1), closed(9), failed(1)), nil, []uint16{9}},
		{"close that fails between others", ct.Multiple(readIdentity(), shut(9), readIdentity()), packet(0x1e, []byte{0x81, 0, 0, 0}, failed(0x4e), []byte{0x81, 0, 0, 0}), nil, nil},
		{"closed and opened anew", ct.Multiple(shut(9), open(9)), packet(0, closed(9), opened(9)), []uint16{9}, []uint16{9}},
		{"close in an unconnected send", ct.Unconnected(shut(9), hop), closed(9), nil, []uint16{9}},
		{"close in two", ct.Unconnected(ct.Unconnected(shut(9), hop), hop), closed(9), nil, []uint16{9}},
		{"packet in an unconnected send", ct.Unconnected(ct.Multiple(open(1), shut(9)), hop), packet(0, opened(1), closed(9)), []uint16{1}, []uint16{9}},
		{"unconnected send in a packet", ct.Multiple(ct.Unconnected(open(1), hop), shut(9)), packet(0, opened(1), closed(9)), []uint16{1}, []uint16{9}},
		{"unconnected send that fails in a packet", ct.Multiple(ct.Unconnected(shut(9), hop), shut(8)), packet(0x1e, failed(0x52), closed(8)), nil, []uint16{8}},
		{"packet in a packet", ct.Multiple(ct.Multiple(open(1), open(2)), shut(9)), packet(0, packet(0, opened(1), opened(2)), closed(9)), []uint16{1, 2}, []uint16{9}},
		{"packet that fails in a packet", ct.Multiple(ct.Multiple(open(1), shut(7)), shut(9)), packet(0x1e, failed(0x0a), closed(9)), nil, []uint16{9}},
		{"packet with a reply too few in a packet", ct.Multiple(ct.Multiple(open(1), open(2)), shut(9)), packet(0, packet(0, opened(1)), closed(9)), []uint16{1}, []uint16{9}},
	} {
		t.Run(r.name, func(t *testing.T) {
			common, log := NewCommon(Limits{}), &ioLog{}
			d := scannerOf(t, enipPlan(t, policy.DenyReset, rules...), common, log)
			for _, serial := range []uint16{7, 8, 9} {
				d.rr(open(serial))
			}
			before := log.opened
			ids := map[IOConnectionID]uint16{}
			for _, c := range before {
				ids[c.ID] = c.Serial
			}
			d.silent = true
			d.rr(r.request)
			d.mustAllow("request")
			d.device(ct.RR(enipHandle, 7, r.reply))
			d.mustAllow("reply")
			var opens, closes []uint16
			for _, c := range log.opened[len(before):] {
				opens = append(opens, c.Serial)
			}
			for _, id := range log.closed {
				closes = append(closes, ids[id])
			}
			if !slices.Equal(opens, r.opens) || !slices.Equal(closes, r.closes) {
				t.Errorf("opened %v and closed %v, want %v and %v", opens, closes, r.opens, r.closes)
			}
		})
	}

	log := &ioLog{}
	d := scannerOf(t, enipPlan(t, policy.DenyReset, rules...), NewCommon(Limits{}), log)
	d.rr(open(9))
	id := d.openExplicit(3)
	d.silent = true
	for i, request := range [][]byte{open(1), shut(9)} {
		d.client(ct.Unit(enipHandle, id, uint16(i+1), request))
		d.mustAllow("on a connection")
		d.device(ct.Unit(enipHandle, d.opened[id], uint16(i+1), [][]byte{opened(1), closed(9)}[i]))
		d.mustAllow("its reply")
	}
	if len(log.opened) != 1 || len(log.closed) != 1 || log.closed[0] != log.opened[0].ID {
		t.Errorf("on a connection: opened %d, closed %v", len(log.opened), log.closed)
	}
}

// TestAGroupInAPacketIsNobodys: the reply to a packet has room for one group, and nothing says to which of its
// connections that belongs.
func TestAGroupInAPacketIsNobodys(t *testing.T) {
	log := &ioLog{}
	d := scannerOf(t, enipPlan(t, policy.DenyReset, `{services: [forward_open], io: {assemblies: [100, 150]}}`), NewCommon(Limits{}), log)
	d.silent = true
	o := ioOpening(1)
	o.Types[1] = 1 // multicast
	forward := o.Forward()
	group := ct.Item(0x8001, ct.Socket(2222, 239, 192, 1, 5))
	reply := ct.Opened(o, 5, 6)
	for _, packet := range []bool{false, true} {
		request, answer := forward, reply
		if packet {
			request, answer = ct.Multiple(forward), append([]byte{0x8a, 0, 0, 0}, ct.Packet(reply)...)
		}
		d.rr(request)
		d.mustAllow("request")
		d.device(ct.RR(enipHandle, 7, answer, group))
		d.mustAllow("reply")
		c := log.opened[len(log.opened)-1].TargetToOriginator
		if c.Type != IOMulticast || c.Destination.IsValid() == packet {
			t.Errorf("in a packet %v: type %v to %v", packet, c.Type, c.Destination)
		}
	}
}
