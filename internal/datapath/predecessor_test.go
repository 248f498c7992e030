package datapath

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// succession is a fast path that stands at the ports, whose maps are made those of another layout, and the one
// that comes after it.
type succession struct {
	lab    *testnet.Lab
	config Config
	a, b   Port
	before *Datapath
}

const otherNumber = LayoutVersion - 1

// succeed lays a fast path in which the connections are open.
func succeed(t *testing.T, connections ...IOConnection) *succession {
	t.Helper()
	require(t)
	s := &succession{lab: testnet.New(t), config: Config{
		PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, AdoptionWindow: time.Hour, Flows: 1024,
	}}
	s.a, s.b = boxPorts(t, s.lab)
	s.before = openWith(t, ioPlan(t, "closed", "enforce"), s.config)
	attach(t, s.lab, s.before)
	if err := s.before.setPorts(Port{"lo", 1}, Port{"lo", 1}); err != nil {
		t.Fatal(err)
	}
	for _, c := range connections {
		s.before.mustOpenIO(t, c)
	}
	if err := os.Rename(layoutDir(s.config.PinDir, LayoutVersion), s.other()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *succession) other() string { return layoutDir(s.config.PinDir, otherNumber) }

// next opens the fast path that comes after, with a policy in force.
func (s *succession) next(t *testing.T, p *policy.Plan) *Datapath {
	t.Helper()
	d, err := Open(s.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if _, err := d.Apply(p, 2); err != nil {
		t.Fatal(err)
	}
	return d
}

// enter puts its entry programs at the ports, whose frames lead to loopback.
func (s *succession) enter(t *testing.T, d *Datapath) {
	t.Helper()
	if err := s.lab.Box.Do(func() error {
		_, err := d.AttachXDP(s.a, s.b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.setPorts(Port{"lo", 1}, Port{"lo", 1}); err != nil {
		t.Fatal(err)
	}
}

func (s *succession) settle(t *testing.T, d *Datapath) Inheritance {
	t.Helper()
	if err := s.lab.Box.Do(func() error { return d.AttachGate(s.a, s.b) }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.other()); !os.IsNotExist(err) {
		t.Errorf("the maps of the other layout are left: %v", err)
	}
	list := d.Inherited()
	if len(list) != 1 || list[0].Layout != filepath.Base(s.other()) {
		t.Fatalf("inherited %+v", list)
	}
	return list[0]
}

// cyclic sends the numbered frames of both ends into the programs of a fast path.
func (d *Datapath) cyclic(t *testing.T, want uint32, sequences ...uint32) {
	t.Helper()
	for _, n := range sequences {
		for side, frame := range map[policy.Side]packet{policy.SideB: output(n), policy.SideA: input(n)} {
			if got, _ := d.run(t, side, frame.bytes()); got != want {
				t.Errorf("frame %d of side %v: the program returned %d, want %d", n, side, got, want)
			}
		}
	}
}

func (d *Datapath) onlyIO(t *testing.T) IOStatus {
	t.Helper()
	list, err := d.ListIO()
	if err != nil || len(list) != 1 {
		t.Fatalf("%d connections, %v", len(list), err)
	}
	return list[0]
}

// TestCyclicIOGoesOnUnderAnotherLayout: what was open is open when the programs are replaced, goes on in its
// sequence, and is counted as one, whatever came between the look and the replacement.
func TestCyclicIOGoesOnUnderAnotherLayout(t *testing.T) {
	c := ioConnection()
	c.Session = &Flow{Initiator: policy.SideB, Protocol: 6, A: End{macPLC, ipPLC, 44818}, B: End{macHMI, ipHMI, 40000}}
	s := succeed(t, c)
	s.before.cyclic(t, xdpRedirect, 1, 2, 4) // and 3 was lost
	d := s.next(t, ioPlan(t, "closed", "enforce"))
	s.enter(t, d)
	for _, frame := range []packet{output(5), output(6)} { // to the old program, after the look
		if got, _ := s.before.run(t, policy.SideB, frame.bytes()); got != xdpRedirect {
			t.Fatalf("the old program returned %d", got)
		}
	}
	if got, _ := d.run(t, policy.SideB, output(7).bytes()); got != xdpRedirect {
		t.Fatalf("the new program returned %d", got)
	}
	if got, _ := d.run(t, policy.SideA, input(4).bytes()); got != xdpDrop {
		t.Error("before its maps are settled, a frame passed twice")
	}
	if got, _ := s.before.run(t, policy.SideA, input(5).bytes()); got != xdpRedirect {
		t.Fatalf("the old program returned %d", got)
	}
	if i := s.settle(t, d); i.IO != 1 || i.LostIO != 0 || len(i.Lacking) > 0 {
		t.Errorf("inherited %+v", i)
	}
	if got, _ := d.run(t, policy.SideA, input(5).bytes()); got != xdpDrop {
		t.Error("a frame that the old program let through was let through again")
	}
	if got, _ := d.run(t, policy.SideA, input(6).bytes()); got != xdpRedirect {
		t.Error("the next one was not")
	}
	is := d.onlyIO(t)
	if is.Output.Frames != 6 || is.Output.Lost != 1 || is.Input.Frames != 5 || is.Input.Lost != 1 || is.Input.Old != 2 || is.Output.Old != 0 {
		t.Errorf("counted %+v and %+v", is.Output, is.Input)
	}
	if is.Triad != c.Triad || is.Session == nil || is.Session.B != c.Session.B || string(is.Opening) != string(c.Opening) {
		t.Errorf("the connection is %+v", is.IOConnection)
	}
	if ended, err := d.SweepIO(); err != nil || len(ended) != 0 {
		t.Errorf("ended %v, %v", ended, err)
	}
}

// TestCyclicIOWaitsForTheOtherPort: the port that is second to have the new program lets its direction through as
// long as it has the old one, which sees no frame of the other direction any more, for longer than the watchdogs.
func TestCyclicIOWaitsForTheOtherPort(t *testing.T) {
	c := ioConnection()
	c.Output.Timeout, c.Input.Timeout = ioPatience/2, ioPatience/2
	s := succeed(t, c)
	d := s.next(t, ioPlan(t, "closed", "enforce"))
	s.before.cyclic(t, xdpRedirect, 1)
	s.enter(t, d)
	s.before.idleIO(t, s.before.io.open[1].keys[1], ioPatience*3/4)
	if got, _ := s.before.run(t, policy.SideB, output(2).bytes()); got != xdpRedirect {
		t.Errorf("the old program returned %d", got)
	}
	if i := s.settle(t, d); i.IO != 1 || len(i.Lacking) > 0 {
		t.Errorf("inherited %+v", i)
	}
}

// TestPolicyJudgesCyclicIOOfAnotherLayout: what the policy in force does not permit ends with the replacement,
// and is told.
func TestPolicyJudgesCyclicIOOfAnotherLayout(t *testing.T) {
	s := succeed(t, ioConnection())
	d := s.next(t, ioPlan(t, "closed", "enforce"))
	d.SetIOJudge(func(*policy.Plan, uint32, *IOConnection) (bool, bool) { return false, false })
	s.enter(t, d)
	if i := s.settle(t, d); i.IO != 0 || i.LostIO != 0 || len(i.Lacking) > 0 {
		t.Errorf("inherited %+v", i)
	}
	d.cyclic(t, xdpDrop, 1)
	if ended, err := d.SweepIO(); err != nil || len(ended) != 1 || ended[0].Why != IOForbidden {
		t.Errorf("ended %v, %v", ended, err)
	}
}

// TestCyclicIOOfAnotherLayoutThatIsOver is not revived: neither by its watchdogs nor where the programs were
// taken off the ports.
func TestCyclicIOOfAnotherLayoutThatIsOver(t *testing.T) {
	for name, end := range map[string]func(*succession){
		"watchdog": func(s *succession) { s.before.idleIO(t, s.before.io.open[1].keys[1], 2*time.Minute) },
		"taken off": func(s *succession) {
			if err := s.before.DetachAll(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := succeed(t, ioConnection())
			s.before.cyclic(t, xdpRedirect, 1)
			end(s)
			d := s.next(t, ioPlan(t, "closed", "enforce"))
			s.enter(t, d)
			if i := s.settle(t, d); i.IO != 0 || len(i.Lacking) > 0 {
				t.Errorf("inherited %+v", i)
			}
			d.cyclic(t, xdpDrop, 2)
		})
	}
}

// TestSharedGroupGoesOnUnderAnotherLayout: several connections that listen to one group do so afterwards.
func TestSharedGroupGoesOnUnderAnotherLayout(t *testing.T) {
	s := succeed(t, multicastConnection(1, outputID), multicastConnection(2, outputID+1))
	for n := range uint32(3) {
		s.before.run(t, policy.SideA, inputToGroup(n+1).bytes())
	}
	d := s.next(t, ioPlan(t, "closed", "enforce"))
	s.enter(t, d)
	if i := s.settle(t, d); i.IO != 2 || len(i.Lacking) > 0 {
		t.Errorf("inherited %+v", i)
	}
	if got, _ := d.run(t, policy.SideA, inputToGroup(3).bytes()); got != xdpDrop {
		t.Error("a frame passed twice")
	}
	if got, _ := d.run(t, policy.SideA, inputToGroup(4).bytes()); got != xdpRedirect {
		t.Error("the next frame did not pass")
	}
	list, err := d.ListIO()
	if err != nil || len(list) != 2 {
		t.Fatalf("%d connections, %v", len(list), err)
	}
	for _, c := range list {
		if c.Input.Frames != 4 || c.Input.Old != 1 || c.Input.Lost != 0 {
			t.Errorf("counted %+v", c.Input)
		}
	}
}

// reshape pins a map of the other layout anew, with its structure changed and its values brought over as far as
// they have a place there.
func (s *succession) reshape(t *testing.T, name, structure string, change func(*btf.Struct)) {
	t.Helper()
	path := filepath.Join(s.other(), name)
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	spec, err := bpf.LoadBridge()
	if err != nil {
		t.Fatal(err)
	}
	var was *btf.Struct
	if err := spec.Types.TypeByName(structure, &was); err != nil {
		t.Fatal(err)
	}
	is := btf.Copy(was).(*btf.Struct)
	change(is)
	shape := spec.Maps[name]
	shape.Value, shape.ValueSize, shape.Pinning = is, is.Size, ebpf.PinNone
	other, err := ebpf.NewMap(shape)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	back := known(t, was, is)
	var key uint32
	var value []byte
	for all := m.Iterate(); all.Next(&key, &value); {
		reshaped := make([]byte, is.Size)
		if err := back.into(reshaped, value); err != nil {
			t.Fatal(err)
		}
		if err := other.Put(key, reshaped); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := other.Pin(path); err != nil {
		t.Fatal(err)
	}
}

// known is the translation of what both structures have.
func known(t *testing.T, theirs, ours *btf.Struct) translation {
	t.Helper()
	from, err := fieldsOf(theirs)
	if err != nil {
		t.Fatal(err)
	}
	to, err := fieldsOf(ours)
	if err != nil {
		t.Fatal(err)
	}
	out := translation{theirs: theirs.Size, ours: ours.Size}
	for name, at := range to {
		if was, ok := from[name]; ok && was.size == at.size {
			out.moves = append(out.moves, move{was.offset, at.offset, at.size})
		}
	}
	return out
}

// turned has the members of a structure in the opposite order, behind one that nobody knows.
func turned(s *btf.Struct) {
	members := []btf.Member{{Name: "of_another_build", Type: &btf.Int{Name: "unsigned long long", Size: 8}}}
	at := uint32(8)
	for i := len(s.Members) - 1; i >= 0; i-- {
		m := s.Members[i]
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			panic(err)
		}
		at = (at + 7) &^ 7
		m.Offset = btf.Bits(8 * at)
		at += uint32(size)
		members = append(members, m)
	}
	s.Members, s.Size = members, (at+7)&^7
}

func memberOf(s *btf.Struct, path ...string) *btf.Member {
	for i := range s.Members {
		m := &s.Members[i]
		if m.Name != path[0] {
			continue
		}
		if len(path) == 1 {
			return m
		}
		t := btf.UnderlyingType(m.Type)
		if array, ok := t.(*btf.Array); ok {
			t = btf.UnderlyingType(array.Type)
		}
		return memberOf(t.(*btf.Struct), path[1:]...)
	}
	panic("no member " + path[0])
}

// TestFieldsOfAnotherLayout: fields are found by their names. A connection of which one cannot be read is
// not taken over, and it is said what is missing.
func TestFieldsOfAnotherLayout(t *testing.T) {
	for _, r := range []struct {
		name   string
		change func(*succession)
		lacks  string // "" where the connection goes on
	}{
		{"moved", func(s *succession) {
			s.reshape(t, "io_connections", "io_connection", turned)
			s.reshape(t, "io_states", "io_state", turned)
		}, ""},
		{"of the connection, missing", func(s *succession) {
			s.reshape(t, "io_connections", "io_connection", func(c *btf.Struct) { memberOf(c, "opened").Name = "begun" })
		}, "struct io_connection has no field opened"},
		{"of a direction, missing", func(s *succession) {
			s.reshape(t, "io_connections", "io_connection", func(c *btf.Struct) { memberOf(c, "halves", "timeout").Name = "patience" })
		}, "].timeout"},
		{"of the state, missing", func(s *succession) {
			s.reshape(t, "io_states", "io_state", func(c *btf.Struct) { memberOf(c, "sequence").Name = "number" })
		}, "struct io_state has no field sequence"},
		{"of another size", func(s *succession) {
			s.reshape(t, "io_connections", "io_connection", func(c *btf.Struct) {
				memberOf(c, "opening").Type = &btf.Array{Index: wordType, Type: byteType, Nelems: IOOpeningMax - 4}
			})
		}, "in field opening"},
		{"of the clock, missing", func(s *succession) {
			s.reshape(t, "control", "control_block", func(c *btf.Struct) { memberOf(c, "tick").Name = "tock" })
		}, "struct control_block has no field tick"},
		{"a map is missing", func(s *succession) {
			if err := os.Remove(filepath.Join(s.other(), "io_states")); err != nil {
				t.Error(err)
			}
		}, "map io_states"},
		{"a treatment that is not known", func(s *succession) {
			s.reshape(t, "io_connections", "io_connection", func(*btf.Struct) {})
			s.treat(t, 0x80)
		}, "are treated as 0x80 says"},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := succeed(t, ioConnection())
			s.before.cyclic(t, xdpRedirect, 1, 2)
			r.change(s)
			d := s.next(t, ioPlan(t, "closed", "enforce"))
			s.enter(t, d)
			i := s.settle(t, d)
			if r.lacks == "" {
				d.cyclic(t, xdpRedirect, 3)
				if i.IO != 1 || len(i.Lacking) > 0 {
					t.Errorf("inherited %+v", i)
				}
				if is := d.onlyIO(t); is.Output.Frames != 3 || is.Input.Frames != 3 || is.IOConnection.Output.Size != 38 || is.IOConnection.Output.Timeout != time.Minute {
					t.Errorf("the connection is %+v", is)
				}
				return
			}
			d.cyclic(t, xdpDrop, 3)
			if i.IO != 0 || i.LostIO != 1 || len(i.Lacking) != 1 || !strings.Contains(i.Lacking[0], r.lacks) {
				t.Errorf("inherited %+v, which should lack %q", i, r.lacks)
			}
		})
	}
}

// treat has the frames of every connection of the other layout be treated in a way of its own.
func (s *succession) treat(t *testing.T, treatment uint8) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(s.other(), "io_connections"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var id uint32
	var record bpf.BridgeIoConnection
	for all := m.Iterate(); all.Next(&id, &record); {
		record.Halves[0].Treatment |= treatment
		if err := m.Put(id, &record); err != nil {
			t.Fatal(err)
		}
	}
}

// TestADaemonThatEndedAsItTookOver leaves maps of our layout behind, in which the connections are as they were
// then: the next one takes them over again, and counts once.
func TestADaemonThatEndedAsItTookOver(t *testing.T) {
	s := succeed(t, ioConnection())
	s.before.cyclic(t, xdpRedirect, 1, 2)
	killed := s.next(t, ioPlan(t, "closed", "enforce"))
	killed.takeOver(s.a, s.b)
	s.before.cyclic(t, xdpRedirect, 3, 4)
	d := s.next(t, ioPlan(t, "closed", "enforce"))
	if !d.Adopted() {
		t.Error("the maps that it left were not adopted")
	}
	s.enter(t, d)
	if i := s.settle(t, d); len(i.Lacking) > 0 {
		t.Errorf("inherited %+v", i)
	}
	d.cyclic(t, xdpDrop, 4)
	d.cyclic(t, xdpRedirect, 5)
	if is := d.onlyIO(t); is.Output.Frames != 5 || is.Output.Lost != 0 {
		t.Errorf("counted %+v", is.Output)
	}
}

// TestCountsGoOnUnderAnotherLayout: reasons, conduits, messages, ports and the time for which conduits were open.
func TestCountsGoOnUnderAnotherLayout(t *testing.T) {
	s := succeed(t, ioConnection())
	plan := ioPlanOf(t, strings.NewReplacer("OUTAGE", "closed", "MODE", "enforce", "ports: [2222]", "ports: [5000]").Replace(ioPolicy))
	if _, err := s.before.Apply(plan, 1); err != nil {
		t.Fatal(err)
	}
	s.before.cyclic(t, xdpRedirect, 1, 2)
	plain := ether(macHMI, [6]byte{2, 0, 0, 0, 0, 0x11}, ipPacket(ipHMI, netip4(198, 18, 0, 11), 17, 0, udpDatagram(40000, 5000))).bytes()
	for range 10 {
		if got, _ := s.before.run(t, policy.SideB, plain); got != xdpRedirect {
			t.Fatalf("a plain frame: the program returned %d", got)
		}
	}
	if s.before.known.of(s.before.Generation()&1, cyclicID+1) == 0 {
		t.Error("no frame went the short way")
	}
	s.before.KeepOpenTime(1234 * time.Millisecond)
	s.before.Rest(QueueOpens)
	const messages = 77
	if err := s.before.KeepMessages(func(string) Messages { return Messages{Allowed: messages} }); err != nil {
		t.Fatal(err)
	}
	d := s.next(t, plan)
	if got := d.OpenTime(); got != 1234*time.Millisecond {
		t.Errorf("open for %v before", got)
	}
	if got, want := d.LastBeat(QueueOpens), s.before.LastBeat(QueueOpens); got != want {
		t.Errorf("the last heartbeat was at %v, want %v", got, want)
	}
	s.enter(t, d)
	s.before.cyclic(t, xdpRedirect, 3) // counted there until nobody counts there any more
	d.cyclic(t, xdpRedirect, 4)
	d.cyclic(t, xdpDrop, 4)
	var want [verdict.ReasonCount]ReasonCount
	for _, path := range []*Datapath{s.before, d} {
		counts, err := path.Reasons()
		if err != nil {
			t.Fatal(err)
		}
		for r := range counts {
			want[r].Frames, want[r].Bytes = want[r].Frames+counts[r].Frames, want[r].Bytes+counts[r].Bytes
			want[r].EventsLost += counts[r].EventsLost
		}
	}
	if i := s.settle(t, d); len(i.Lacking) > 0 {
		t.Errorf("inherited %+v", i)
	}
	got, err := d.Reasons()
	if err != nil || got != want {
		t.Errorf("reasons were counted as %v, want %v (%v)", got, want, err)
	}
	if want[verdict.ReasonPermitted].Frames == 0 && want[verdict.ReasonIOSequence].Frames == 0 {
		t.Error("the test counted nothing")
	}
	conduits, err := d.Conduits()
	if err != nil || conduits[cyclicID].Allowed != 8 || conduits[cyclicID+1].Allowed != 10 {
		t.Errorf("the conduits counted %+v, want 8 and 10 frames (%v)", conduits, err)
	}
	kept, err := d.KeptMessages()
	if err != nil || kept("cyclic").Allowed != messages {
		t.Errorf("%d messages were kept, want %d (%v)", kept("cyclic").Allowed, messages, err)
	}
}

// TestPassesGoOnUnderAnotherLayout: what went the short way is counted on, of both halves.
func TestPassesGoOnUnderAnotherLayout(t *testing.T) {
	for name, untallied := range map[string]bool{"whole": false, "ended before its tallies were": true} {
		t.Run(name, func(t *testing.T) {
			s := succeed(t, ioConnection())
			frames := uint64(0)
			for i, p := range []*policy.Plan{plan(), shuffled()} {
				if _, err := s.before.Apply(p, uint64(i+2)); err != nil {
					t.Fatal(err)
				}
				s.before.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
				s.before.passes(t, policy.SideB, hmiTCP(40000, 102, flagACK), 10)
				frames += 11
			}
			if untallied {
				if err := s.before.nameConduits(s.before.Generation()&1, shuffled()); err != nil {
					t.Fatal(err)
				}
				s.before.control.setTallied(s.before.Generation() - 1)
			}
			d := s.next(t, plan())
			s.enter(t, d)
			if i := s.settle(t, d); len(i.Lacking) > 0 {
				t.Errorf("inherited %+v", i)
			}
			if got := d.countOf(t, "opc").Allowed; got != frames {
				t.Errorf("opc counts %d frames, want %d", got, frames)
			}
		})
	}
}

// TestPassesOfAnotherShape: words that are not where ours are stand for nothing here, and that is told.
func TestPassesOfAnotherShape(t *testing.T) {
	s := succeed(t, ioConnection())
	pin := filepath.Join(s.other(), bpf.BridgeMapConduitPasses)
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 3 * maxConduits})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(pin); err != nil {
		t.Fatal(err)
	}
	d := s.next(t, ioPlan(t, "closed", "enforce"))
	s.enter(t, d)
	if i := s.settle(t, d); len(i.Lacking) != 1 || !strings.Contains(i.Lacking[0], bpf.BridgeMapConduitPasses) {
		t.Errorf("inherited %+v", i)
	}
}

// TestSessionOfCyclicIOIsFoundAgain: under another layout its flow has another slot, and its end still ends the I/O.
func TestSessionOfCyclicIOIsFoundAgain(t *testing.T) {
	c := ioConnection()
	c.Session = &Flow{Key: 4711, Initiator: policy.SideB, Protocol: 6, A: End{macPLC, ipPLC, 44818}, B: End{macHMI, ipHMI, 40000}}
	s := succeed(t, c)
	s.before.cyclic(t, xdpRedirect, 1)
	d := s.next(t, ioPlan(t, "closed", "enforce"))
	s.enter(t, d)
	s.settle(t, d)
	d.Beat(QueueCloses)
	d.Beat(QueueOpens)
	goesOn := func(when string) {
		t.Helper()
		if _, _, err := d.Sweep(); err != nil {
			t.Fatal(err)
		}
		if ended, err := d.SweepIO(); err != nil || len(ended) != 0 {
			t.Fatalf("%s: ended %v, %v", when, ended, err)
		}
	}
	goesOn("before a frame of the session")
	d.run(t, policy.SideB, hmiTCP(40000, 44818, flagACK).bytes())
	goesOn("with its session")
	if slot := d.keyOf(t, 40000); d.onlyIO(t).Session.Key != slot {
		t.Errorf("its session is said to hold slot %#x, and does %#x", d.onlyIO(t).Session.Key, slot)
	}
	d.leaves(t, policy.SideB, hmiTCP(40000, 44818, flagRST), mark.Resets)
	if ended, err := d.SweepIO(); err != nil || len(ended) != 1 || ended[0].Why != IOSessionOver {
		t.Errorf("after a reset: ended %v, %v", ended, err)
	}
}
