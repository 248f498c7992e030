package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
)

// Maps of another layout are left to their programs until those are replaced, and then removed. What they
// know that the line or the numbers could not do without is taken over:
//
//   - when each verdict loop last showed itself, and for how long conduits were open, as Open finds them;
//   - the open I/O connections, just before the programs are replaced, each as our policy judges it: the
//     next cyclic frame finds its connection open;
//   - what has been counted, when no program counts there any more.
//
// Conversations are not: they are adopted from their next frame.

// Inheritance is what came of the maps of another layout.
type Inheritance struct {
	Layout string // the name of its directory
	IO     int    // I/O connections that go on
	LostIO int    // and that were open and do not, though the policy might permit them
	// Lacking says, in words for a person, what was there and could not be taken over.
	Lacking []string
}

// predecessor is the maps of another layout.
type predecessor struct {
	Inheritance
	dir    string
	types  *btf.Spec // ours
	stands [3]bool   // by side: its entry program is at that port
	maps   []*ebpf.Map
	told   map[string]bool // what it lacks

	states *theirs[bpf.BridgeIoState]
	tick   uint64            // ns
	places map[uint32]goesOn // by their place
}

// goesOn is a direction of I/O that goes on in our maps.
type goesOn struct {
	side  policy.Side // where its frames come in
	place uint32      // ours
	began uint64      // the sequence that it began with here
}

// theirs is a map of another build's, whose values are read as ours.
type theirs[T any] struct {
	m *ebpf.Map
	t translation
}

// openTheirs opens a map whose values are the structure named, and finds the fields needed. The map belongs to
// the predecessor.
func openTheirs[T any](p *predecessor, name, structure string, needed ...string) (*theirs[T], error) {
	wrong := func(err error) error { return fmt.Errorf("map %s: %w", name, err) }
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.dir, name), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, wrong(err)
	}
	p.maps = append(p.maps, m)
	handle, err := m.Handle()
	if err != nil {
		return nil, wrong(err)
	}
	defer handle.Close()
	spec, err := handle.Spec(nil)
	if err != nil {
		return nil, wrong(err)
	}
	var their, our *btf.Struct
	if err := errors.Join(spec.TypeByName(structure, &their), p.types.TypeByName(structure, &our)); err != nil {
		return nil, wrong(err)
	}
	out := &theirs[T]{m: m}
	if out.t, err = translate(their, our, needed...); err != nil {
		return nil, wrong(err)
	}
	if m.KeySize() != 4 || m.ValueSize() != their.Size {
		return nil, wrong(fmt.Errorf("its keys have %d bytes and its values %d, want 4 and %d", m.KeySize(), m.ValueSize(), their.Size))
	}
	return out, nil
}

func (m *theirs[T]) at(index uint32) (value T, err error) {
	raw, err := m.m.LookupBytes(index)
	if err != nil || raw == nil {
		return value, errors.Join(err, ebpf.ErrKeyNotExist)
	}
	return as[T](&m.t, raw)
}

// onEachCPU calls f with what each CPU has counted.
func (m *theirs[T]) onEachCPU(index uint32, f func(T)) error {
	var perCPU [][]byte
	if err := m.m.Lookup(index, &perCPU); err != nil {
		return err
	}
	for _, raw := range perCPU {
		value, err := as[T](&m.t, raw)
		if err != nil {
			return err
		}
		f(value)
	}
	return nil
}

// lack notes what cannot be taken over, once for each what.
func (p *predecessor) lack(what string, err error) {
	if !p.told[what] {
		p.told[what] = true
		p.Lacking = append(p.Lacking, fmt.Sprintf("%s of %s could not be taken over: %v", what, p.Layout, err))
	}
}

func (p *predecessor) close() {
	for _, m := range p.maps {
		_ = m.Close()
	}
	p.maps = nil
}

// findPredecessors looks for maps of other layouts. Those that cannot be looked for are as if they were not.
func (d *Datapath) findPredecessors() error {
	names, err := otherLayouts(d.config.PinDir)
	if err != nil || len(names) == 0 {
		return err
	}
	spec, err := bpf.LoadBridge()
	if err != nil {
		return err
	}
	for _, name := range names {
		d.before = append(d.before, &predecessor{
			Inheritance: Inheritance{Layout: name}, dir: filepath.Join(d.config.PinDir, name), types: spec.Types,
			told: map[string]bool{}, places: map[uint32]goesOn{},
		})
	}
	return nil
}

// Inherited returns what came of maps of other layouts, once AttachGate has returned.
func (d *Datapath) Inherited() (list []Inheritance) {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	return d.inherited
}

// inheritBeats has fresh maps go on from when the verdict loops before last showed themselves, and reports
// whether that is known.
func (d *Datapath) inheritBeats() (known bool) {
	for _, p := range d.before {
		queues, err := openTheirs[bpf.BridgeQueueState](p, "queues", "queue_state", "beat", "open")
		for q := uint32(0); err == nil && q < min(maxQueues, queues.m.MaxEntries()); q++ {
			var state bpf.BridgeQueueState
			if state, err = queues.at(q); err == nil {
				ours := &d.queues.states[q]
				atomic.StoreUint64(&ours.Beat, max(ours.Beat, state.Beat))
				atomic.StoreUint64(&ours.Open, max(ours.Open, state.Open))
			}
		}
		known = known || err == nil
		if err != nil {
			p.lack("the time for which conduits were open", err)
		}
	}
	return known
}

// takeOver has the I/O connections go on that the programs at the ports have let through until now.
func (d *Datapath) takeOver(a, b Port) {
	for _, p := range d.before {
		p.stands[policy.SideA], p.stands[policy.SideB] = d.standsFor(p, a, "xdp_a"), d.standsFor(p, b, "xdp_b")
		if !p.stands[policy.SideA] && !p.stands[policy.SideB] {
			continue // what its connections have come to nobody knows
		}
		if err := d.takeOverIO(p); err != nil {
			p.lack("I/O connections", err)
		}
	}
}

// standsFor reports whether the entry program at a port is one that works with the maps of a predecessor.
func (d *Datapath) standsFor(p *predecessor, port Port, pin string) bool {
	for _, mode := range []XDPMode{XDPNative, XDPGeneric} {
		l, err := link.LoadPinnedLink(d.linkPath(pin+"_"+string(mode)), nil)
		if err != nil {
			continue
		}
		uses := linkIndex(l) == port.Index && p.isOf(l)
		l.Close()
		if uses {
			return true
		}
	}
	return false
}

// isOf reports whether the program in a link uses a map of the predecessor.
func (p *predecessor) isOf(l link.Link) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return false
	}
	defer program.Close()
	about, err := program.Info()
	if err != nil {
		return false
	}
	used, _ := about.MapIDs()
	pins, _ := os.ReadDir(p.dir)
	return slices.ContainsFunc(pins, func(pin os.DirEntry) bool {
		m, err := ebpf.LoadPinnedMap(filepath.Join(p.dir, pin.Name()), nil)
		if err != nil {
			return false
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return false
		}
		id, ok := info.ID()
		return ok && slices.Contains(used, id)
	})
}

// takeOverIO opens the connections of a predecessor in our maps, as far as our policy permits them. They
// have as long for their next frame as new ones.
func (d *Datapath) takeOverIO(p *predecessor) error {
	connections, err := openTheirs[bpf.BridgeIoConnection](p, "io_connections", "io_connection", "originator", "target", "halves",
		"session", "originator_serial", "serial", "vendor", "opened", "opening_length", "adopted", "session_slot", "opening")
	if err == nil {
		p.states, err = openTheirs[bpf.BridgeIoState](p, "io_states", "io_state", "seen", "timeout", "sequence", "frames", "bytes", "lost", "old", "unequal")
	}
	if err != nil {
		if p.LostIO = p.count("io_connections"); p.LostIO == 0 {
			return nil
		}
		return err
	}
	now, err := d.readClock()
	if err != nil {
		return err
	}
	if p.tick, err = p.tickLength(); err != nil {
		p.LostIO = p.count("io_connections")
		return err
	}
	d.io.mu.Lock()
	defer d.io.mu.Unlock()
	var id uint32
	var raw []byte
	all := connections.m.Iterate()
	for all.Next(&id, &raw) {
		record, err := as[bpf.BridgeIoConnection](&connections.t, raw)
		if err == nil {
			err = d.takeOverConnection(p, id, &record, now)
		}
		if err != nil {
			p.LostIO++
			p.lack("an I/O connection", err)
		}
	}
	return all.Err()
}

// tickLength is how long a tick of the kernel's clock lasts by the predecessor's measure, in which it wrote down
// when frames came. Ours may be a little off from that, which adds up since the machine began.
func (p *predecessor) tickLength() (uint64, error) {
	control, err := openTheirs[bpf.BridgeControlBlock](p, bpf.BridgeMapControl, "control_block", "tick")
	if err != nil {
		return 0, err
	}
	block, err := control.at(0)
	if err == nil && block.Tick == 0 {
		err = errNoTick
	}
	return block.Tick, err
}

// count is how many entries a map of a predecessor has, whatever is in them; 0 for one that is not there.
func (p *predecessor) count(name string) (n int) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.dir, name), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return 0
	}
	defer m.Close()
	var key any // nil asks for the first
	for range maxIO {
		next, err := m.NextKeyBytes(key)
		if err != nil || next == nil {
			break
		}
		key, n = next, n+1
	}
	return n
}

func (d *Datapath) takeOverConnection(p *predecessor, id uint32, r *bpf.BridgeIoConnection, now clock) error {
	var states [2]bpf.BridgeIoState
	theirs := now
	theirs.tickLength = p.tick
	for i, h := range r.Halves {
		if h.Place == 0 {
			continue
		}
		if h.Treatment&^ioVariable != 0 {
			return fmt.Errorf("its frames are treated as %#x says, which is not known here", h.Treatment)
		}
		var err error
		if states[i], err = p.states.at(h.Place); err != nil {
			return err
		}
		if ioExpired(&states[i], theirs) {
			return nil // its ends have given it up
		}
	}
	c := connectionOf(id, r, now)
	e, err := newIOEntry(c)
	if err != nil {
		return err
	}
	if !d.knowsIO(e) {
		ours, err := d.openIO(c)
		if errors.Is(err, ErrIONotPermitted) {
			d.io.tell(IOEnded{Connection: c, Why: IOForbidden})
			return nil
		}
		if err != nil {
			return err
		}
		d.io.open[ours].stray = c.Session != nil
		p.IO++
	}
	return d.goOn(p, e, r, &states, now)
}

// knowsIO reports whether both directions of a connection are open here: a daemon of our layout ended
// between the two ports.
func (d *Datapath) knowsIO(e *ioEntry) bool {
	for i, key := range e.keys {
		if e.direction(i).sends() && d.io.places[key] == nil {
			return false
		}
	}
	return true
}

// goOn notes where the directions of a connection lie here. What is known of them from before is out of date
// where their entry program is still the predecessor's.
func (d *Datapath) goOn(p *predecessor, e *ioEntry, r *bpf.BridgeIoConnection, states *[2]bpf.BridgeIoState, now clock) error {
	for i, key := range e.keys {
		if !e.direction(i).sends() {
			continue
		}
		ours := goesOn{side: policy.Side(key.Side), place: d.io.places[key].number}
		if p.stands[key.Side] {
			ours.began = states[i].Sequence
			if err := d.objects.IoStates.Put(ours.place, bpf.BridgeIoState{
				Seen: now.jiffies(), Timeout: uint64(max(ioPatience, e.direction(i).Timeout)), Sequence: ours.began,
			}); err != nil {
				return fmt.Errorf("take an I/O connection over: %w", err)
			}
		}
		p.places[r.Halves[i].Place] = ours
	}
	return nil
}

// holdIO has the predecessor's program that is still at the other port let its direction of each connection
// through although it sees no frame of the one that comes in at a side any more: on a busy machine more time may pass
// until that port has ours, too, than the watchdog of a connection has.
func (d *Datapath) holdIO(side policy.Side) {
	for _, p := range d.before {
		if err := p.hold(side); err != nil {
			p.lack("the watchdogs of I/O connections", err)
		}
	}
}

// hold gives the directions of a side as long for their next frame as new ones. Nobody else writes there, once no
// program of the predecessor's is at that port.
func (p *predecessor) hold(side policy.Side) error {
	if len(p.places) == 0 {
		return nil
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.dir, "io_states"), nil)
	if err != nil {
		return err
	}
	defer m.Close()
	for place, ours := range p.places {
		if ours.side != side {
			continue
		}
		raw, err := m.LookupBytes(place)
		if err != nil {
			return err
		}
		state, err := as[bpf.BridgeIoState](&p.states.t, raw)
		if err != nil {
			return err
		}
		state.Timeout = max(state.Timeout, uint64(ioPatience))
		if err := p.states.t.back(raw, bytesOf(&state)); err != nil {
			return err
		}
		if err := m.Put(place, raw); err != nil {
			return err
		}
	}
	return nil
}

// settlePredecessors adds what the maps of other layouts counted to ours, once no program of theirs counts any
// more, and removes them.
func (d *Datapath) settlePredecessors() error {
	if len(d.before) > 0 {
		_ = d.awaitPrograms(d.control.generation() & 1) // nothing came in the last moments, then
	}
	for _, p := range d.before {
		d.inheritCounts(p)
		p.close()
		d.attachMu.Lock()
		d.inherited = append(d.inherited, p.Inheritance)
		d.attachMu.Unlock()
	}
	d.before = nil
	return removeOtherLayouts(d.config.PinDir)
}

func (d *Datapath) inheritCounts(p *predecessor) {
	for _, take := range []struct {
		what string
		from func(*predecessor) error
	}{
		{"counters of reasons", d.inheritReasons}, {"counters of ports", d.inheritLinkControl}, {"counters of copies", d.inheritCopies},
		{"counters of conduits", d.inheritTallies}, {"counters of I/O connections", d.inheritIO},
	} {
		if err := take.from(p); err != nil {
			p.lack(take.what, err)
		}
	}
}

// What a carry is about (CARRY_* in bpf/types.h).
const (
	carryReason      = 0
	carryLinkControl = 1
	carryCopies      = 2
	carryIO          = 3
	carryOffset      = 16
)

// carry adds numbers to a counter at which the fast path counts.
func (d *Datapath) carry(what, index uint32, numbers ...uint64) error {
	c := bpf.BridgeCarried{What: what, Index: index}
	if copy(c.Numbers[:], numbers); c.Numbers == [7]uint64{} {
		return nil
	}
	packet := make([]byte, carryOffset, carryOffset+int(unsafe.Sizeof(c)))
	packet = append(packet, unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c))...)
	ret, err := d.objects.Carry.Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		return fmt.Errorf("add to a counter: %w", err)
	}
	if ret != xdpPassed {
		return errors.New("add to a counter: there is none of that number")
	}
	return nil
}

// xdpPassed is XDP_PASS of linux/bpf.h.
const xdpPassed = 2

func (d *Datapath) inheritReasons(p *predecessor) error {
	counters, err := openTheirs[bpf.BridgeReasonCounter](p, bpf.BridgeMapReasons, "reason_counter", "frames", "bytes", "events_lost")
	if err != nil {
		return err
	}
	for reason := range min(counters.m.MaxEntries(), d.objects.Reasons.MaxEntries()) {
		var sum bpf.BridgeReasonCounter
		if err := counters.onEachCPU(reason, func(c bpf.BridgeReasonCounter) {
			sum.Frames, sum.Bytes, sum.EventsLost = sum.Frames+c.Frames, sum.Bytes+c.Bytes, sum.EventsLost+c.EventsLost
		}); err != nil {
			return err
		}
		if err := d.carry(carryReason, reason, sum.Frames, sum.Bytes, sum.EventsLost); err != nil {
			return err
		}
	}
	return nil
}

func (d *Datapath) inheritLinkControl(p *predecessor) error {
	counters, err := openTheirs[bpf.BridgeControlCounter](p, bpf.BridgeMapControlCounters, "control_counter", "frames", "bytes")
	if err != nil {
		return err
	}
	for side := range min(counters.m.MaxEntries(), d.objects.ControlCounters.MaxEntries()) {
		var sum bpf.BridgeControlCounter
		if err := counters.onEachCPU(side, func(c bpf.BridgeControlCounter) {
			sum.Frames, sum.Bytes = sum.Frames+c.Frames, sum.Bytes+c.Bytes
		}); err != nil {
			return err
		}
		if err := d.carry(carryLinkControl, side, sum.Frames, sum.Bytes); err != nil {
			return err
		}
	}
	return nil
}

func (d *Datapath) inheritCopies(p *predecessor) error {
	counters, err := openTheirs[bpf.BridgeTapCounter](p, bpf.BridgeMapTapCounters, "tap_counter", "copied", "lost")
	if err != nil {
		return err
	}
	var sum bpf.BridgeTapCounter
	if err := counters.onEachCPU(0, func(c bpf.BridgeTapCounter) {
		sum.Copied, sum.Lost = sum.Copied+c.Copied, sum.Lost+c.Lost
	}); err != nil {
		return err
	}
	return d.carry(carryCopies, 0, sum.Copied, sum.Lost)
}

// inheritIO has the counters of each direction go on, and its sequence, which may have come further since the
// connection was taken over.
func (d *Datapath) inheritIO(p *predecessor) error {
	for place, ours := range p.places {
		s, err := p.states.at(place)
		if err != nil {
			return err
		}
		if err := d.carry(carryIO, ours.place, ours.began, s.Sequence, s.Frames, s.Bytes, s.Lost, s.Old, s.Unequal); err != nil {
			return err
		}
	}
	return nil
}

// inheritTallies adds to the tallies of our generation what was counted under the same names.
func (d *Datapath) inheritTallies(p *predecessor) error {
	sums, err := p.tallies()
	if err != nil {
		return err
	}
	d.countMu.Lock()
	defer d.countMu.Unlock()
	if err := d.settle(); err != nil {
		return err
	}
	index := d.control.generation() & 1
	now, err := d.tallyOf(index)
	if err != nil {
		return err
	}
	for i := range now {
		if t, ok := sums[now[i].Name]; ok && i > 0 {
			now[i].Frames = add(now[i].Frames, t.Frames)
			now[i].MessagesAllowed = max(now[i].MessagesAllowed, t.MessagesAllowed) // which KeptMessages returned
			now[i].MessagesDenied = max(now[i].MessagesDenied, t.MessagesDenied)
		}
	}
	if len(now) == 0 {
		return nil
	}
	_, err = d.objects.Tallies.BatchUpdate(counterKeys(index, len(now)), now, nil)
	return err
}

// tallies is what was counted under the names of conduits, as tally makes it whole.
func (p *predecessor) tallies() (map[uint64]bpf.BridgeTally, error) {
	control, err := openTheirs[bpf.BridgeControlBlock](p, bpf.BridgeMapControl, "control_block", "generation", "tallied")
	if err != nil {
		return nil, err
	}
	now, err := control.at(0)
	if err != nil || now.Generation == 0 {
		return nil, err
	}
	sums, err := p.talliesOf(now.Generation & 1)
	if err != nil || now.Tallied == now.Generation {
		return sums, err
	}
	before, err := p.talliesOf(now.Generation&1 ^ 1) // it ended between the flip and their addition
	for name, t := range sums {
		b := before[name]
		b.Frames = add(b.Frames, t.Frames)
		sums[name] = b
	}
	return sums, err
}

// talliesOf is what the conduits of one half have counted, by name.
func (p *predecessor) talliesOf(index uint32) (map[uint64]bpf.BridgeTally, error) {
	defaults, err := openTheirs[bpf.BridgePolicyDefaults](p, bpf.BridgeMapDefaults, "policy_defaults", "conduits")
	if err != nil {
		return nil, err
	}
	tallies, err := openTheirs[bpf.BridgeTally](p, bpf.BridgeMapTallies, "tally", "name", "frames", "messages_allowed", "messages_denied")
	if err != nil {
		return nil, err
	}
	counters, err := openTheirs[bpf.BridgeConduitCounter](p, bpf.BridgeMapConduitCounters, "conduit_counter", "allowed", "denied", "uninspected", "inspected")
	if err != nil {
		return nil, err
	}
	of, err := defaults.at(index)
	if err != nil {
		return nil, err
	}
	sums := map[uint64]bpf.BridgeTally{}
	half := counters.m.MaxEntries() / 2
	passes, err := p.openPasses(2 * half)
	if err != nil {
		return nil, err
	}
	for i := uint32(1); i < min(of.Conduits, half); i++ {
		t, err := tallies.at(index*half + i)
		if err != nil {
			return nil, err
		}
		if err := counters.onEachCPU(index*half+i, func(c bpf.BridgeConduitCounter) { t.Frames = add(t.Frames, c) }); err != nil {
			return nil, err
		}
		passed, err := passes.of(index*half + i)
		if err != nil {
			return nil, err
		}
		t.Frames.Allowed += passed
		sums[t.Name] = t
	}
	return sums, nil
}

// theirPasses are a predecessor's conduit_passes, words that no structure describes: for each CPU as many as there are conduits
// of both generations.
type theirPasses struct {
	m       *ebpf.Map // nil for a layout that has none, and counts everything in conduit_counters
	stretch uint32    // of one CPU
}

func (p *predecessor) openPasses(stretch uint32) (*theirPasses, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.dir, bpf.BridgeMapConduitPasses), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		return &theirPasses{}, nil
	}
	if err != nil {
		return nil, err
	}
	p.maps = append(p.maps, m)
	if m.Type() != ebpf.Array || m.ValueSize() != 8 || stretch == 0 || m.MaxEntries()%stretch != 0 {
		return nil, fmt.Errorf("map %s: %d values of %d bytes are not words for whole CPUs", bpf.BridgeMapConduitPasses, m.MaxEntries(), m.ValueSize())
	}
	return &theirPasses{m, stretch}, nil
}

// of is what all CPUs have counted at a place of their stretch.
func (p *theirPasses) of(at uint32) (sum uint64, err error) {
	if p.m == nil {
		return 0, nil
	}
	for ; at < p.m.MaxEntries(); at += p.stretch {
		var n uint64
		if err := p.m.Lookup(at, &n); err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
