package dnp3

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// pair connects a master to an outstation without a network.
func pair(t *testing.T, oc Config, mc MasterConfig) (*Outstation, *Master) {
	t.Helper()
	o := NewOutstation(oc)
	t.Cleanup(o.Close)
	return o, join(t, o, mc)
}

func join(t *testing.T, o *Outstation, mc MasterConfig) *Master {
	t.Helper()
	here, there := net.Pipe()
	go o.ServeConn(there)
	m := NewMaster(here, mc)
	t.Cleanup(m.Close)
	return m
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails unless an error is a refusal with the status.
func refused(t *testing.T, err error, status Status) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Status != status {
		t.Fatalf("%v, want a refusal with status %d", err, status)
	}
}

func TestChecksumOfTheStandard(t *testing.T) {
	if got := checksum([]byte("123456789")); got != 0xea82 {
		t.Errorf("the checksum of 123456789 is %#04x, want 0xea82", got)
	}
}

func TestFramesAreReadAsTheyWereWritten(t *testing.T) {
	for n := range maxUserData + 1 {
		want := Frame{Control: FromMaster, Destination: 10, Source: 1, Data: bytes.Repeat([]byte{0x64}, n)}
		raw := want.Append(nil)
		for cut := range raw {
			if f, took, err := parseFrame(raw[:cut]); took != 0 || err != nil {
				t.Fatalf("%d octets of %d: %v, %d, %v", cut, len(raw), f, took, err)
			}
		}
		got, took, err := parseFrame(append(raw, 5))
		if err != nil || took != len(raw) || got.Control != want.Control || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("%d octets of data: read %+v, %d, %v", n, got, took, err)
		}
	}
}

func TestScannerHunts(t *testing.T) {
	good := Frame{Control: FromMaster, Destination: 10, Source: 1, Data: []byte{0xc0, 0xc0, 1, 60, 1, 6}}.Append(nil)
	bad := append([]byte{}, good...)
	bad[12] ^= 1
	stream := slices.Concat([]byte{1, 2, 5, 5, 0x64, 0}, bad, good, []byte{5}, good)
	hunting := scanner{hunts: true}
	var found int
	for i := range stream {
		frames, err := hunting.feed(stream[i : i+1])
		must(t, err)
		found += len(frames)
	}
	if found != 2 {
		t.Errorf("%d frames found, want 2", found)
	}
	if frames, err := new(scanner).feed(stream); len(frames) != 0 || err == nil {
		t.Errorf("without hunting: %d frames, %v", len(frames), err)
	}
}

func TestTransport(t *testing.T) {
	fragment := bytes.Repeat([]byte{1, 2, 3}, 200)
	segments := Segments(fragment, 62)
	feed := func(a *assembler, list ...[]byte) (got []byte) {
		for _, s := range list {
			if whole := a.take(s); whole != nil {
				got = whole
			}
		}
		return got
	}
	for _, row := range []struct {
		name  string
		list  [][]byte
		whole bool
	}{
		{"in order", segments, true},
		{"one repeated", [][]byte{segments[0], segments[1], segments[1], segments[2]}, true},
		{"one missing", [][]byte{segments[0], segments[2]}, false},
		{"no first", segments[1:], false},
		{"begun again", [][]byte{segments[0], segments[0], segments[1], segments[2]}, true},
		{"out of order", [][]byte{segments[0], segments[2], segments[1], segments[2]}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := feed(&assembler{}, row.list...)
			if bytes.Equal(got, fragment) != row.whole {
				t.Errorf("assembled %d octets, want the whole to be %v", len(got), row.whole)
			}
		})
	}
}

func TestControlsInEverySpelling(t *testing.T) {
	for qualifier := range 256 {
		body := ControlsAs(uint8(qualifier), Latch(5, true), Latch(6, false))
		headers, err := ParseHeaders(body, DirectOperate)
		if qualifier&0x0f > rangeFree || qualifier>>4 > 6 || qualifier&0x0f == 10 || qualifier&0x0f == rangeAll {
			continue
		}
		if err != nil || len(headers) != 1 || len(headers[0].Objects) != 2 {
			t.Errorf("qualifier %#02x: %+v, %v", qualifier, headers, err)
			continue
		}
		if got := headers[0].Objects[1].Data; !bytes.Equal(got, Latch(6, false).Object().Data) {
			t.Errorf("qualifier %#02x: % x", qualifier, got)
		}
	}
}

// TestSession is what a master does all day, with replies of several fragments of several segments.
func TestSession(t *testing.T) {
	for name, personality := range Personalities() {
		t.Run(name, func(t *testing.T) {
			o, m := pair(t, Config{Points: 100, FragmentSize: 500, Unsolicited: true, Personality: personality}, MasterConfig{})
			session(t, o, m)
		})
	}
}

func session(t *testing.T, o *Outstation, m *Master) {
	t.Helper()
	eventually(t, "the null response", func() bool { return len(m.Unsolicited()) > 0 })
	must(t, m.Begin())
	if o.Restarted() || m.Indications()&(IINRestart|IINNeedTime) != 0 {
		t.Errorf("indications %#04x after the beginning", m.Indications())
	}
	for i := range 20 {
		o.Update(30, i%10, float64(100+i))
		o.Update(1, i%10, float64(i&1))
		o.Update(20, i%10, float64(i))
	}
	eventually(t, "events to be confirmed", func() bool { return o.Unconfirmed(1) == 0 })
	events := 0
	for _, f := range m.Unsolicited() {
		headers, err := ParseHeaders(f.Body, f.Function)
		must(t, err)
		for _, h := range headers {
			events += len(h.Objects)
		}
	}
	if events != 60 {
		t.Errorf("%d events came unasked, want 60", events)
	}
	must(t, m.Disable())
	o.Update(30, 3, 77)
	headers, err := m.Integrity()
	must(t, err)
	static := 0
	for _, h := range headers {
		if h.Group != 32 {
			static += len(h.Objects)
		}
	}
	if want := 5 * o.config.Points; static != want {
		t.Errorf("an integrity poll read %d points, want %d", static, want)
	}
	eventually(t, "the event read to be confirmed", func() bool { return o.Unconfirmed(1) == 0 })
	must(t, m.ResetLink())
	must(t, m.KeepAlive())
}

func TestEventsAreReadByObjectAndClass(t *testing.T) {
	o, m := pair(t, Config{}, MasterConfig{})
	must(t, m.Begin())
	must(t, m.Disable())
	o.Update(1, 2, 1)
	o.Update(30, 4, -5)
	o.Update(20, 1, 9)
	for _, row := range []struct {
		read []byte
		kind Kind
		at   uint32
	}{
		{All(2, 2), Kind{2, 2}, 2},
		{Class(2), Kind{32, 1}, 4},
		{[]byte{22, 5, 0x07, 1}, Kind{22, 5}, 1},
	} {
		headers, err := m.Read(row.read)
		must(t, err)
		if len(headers) != 1 || headers[0].Kind != row.kind || headers[0].Objects[0].Index != row.at {
			t.Errorf("READ % x: %+v", row.read, headers)
		}
	}
	if n := o.Unconfirmed(1); n > 1 {
		t.Errorf("%d events are unconfirmed", n)
	}
}

func TestSelectBeforeOperate(t *testing.T) {
	o, m := pair(t, Config{SelectTimeout: time.Second}, MasterConfig{})
	controls := Controls(Latch(1, true), Latch(2, true))
	must(t, m.SelectOperate(controls))
	must(t, m.SelectOperate(AnalogOutput(3, -200)))
	if o.Value(10, 1) != 1 || o.Value(10, 2) != 1 || o.Value(40, 3) != -200 || len(o.Executed()) != 3 {
		t.Errorf("executed %v", o.Executed())
	}
	before := len(o.Executed())
	refused(t, m.Control(Operate, controls), StatusNoSelect)
	must(t, m.Control(Select, controls))
	refused(t, m.Control(Operate, Controls(Latch(1, true))), StatusNoSelect) // other objects
	must(t, m.Control(Select, controls))
	if _, err := m.Read(Class(0)); err != nil { // what is between disarms
		t.Fatal(err)
	}
	refused(t, m.Control(Operate, controls), StatusNoSelect)
	must(t, m.Control(Select, controls))
	time.Sleep(1100 * time.Millisecond)
	refused(t, m.Control(Operate, controls), StatusTimeout)
	refused(t, m.Control(Select, Controls(Latch(99, true))), StatusOutOfRange)
	refused(t, m.Control(DirectOperate, ControlsAs(0x00, Latch(1, false))), StatusFormatError)
	if got := o.Executed()[before:]; len(got) != 0 {
		t.Errorf("executed %v", got)
	}
	must(t, m.Control(DirectOperate, Controls(CROB{Index: 4, Code: Close, Count: 1, On: 100})))
	must(t, m.Control(DirectOperateNR, Controls(Latch(5, true))))
	eventually(t, "an operation without a reply", func() bool { return o.Value(10, 5) == 1 })
}

// TestRepeatedRequestsAreNotExecutedTwice: IEEE 1815 4.2.2.6, for all but READ.
func TestRepeatedRequestsAreNotExecutedTwice(t *testing.T) {
	o, m := pair(t, Config{}, MasterConfig{})
	request := Request(5, DirectOperate, Controls(Latch(1, true)))
	first, err := m.AskRaw(request)
	must(t, err)
	second, err := m.AskRaw(request)
	must(t, err)
	if !bytes.Equal(first.Body, second.Body) || len(o.Executed()) != 1 {
		t.Errorf("executed %v", o.Executed())
	}
}

// TestMasterRepeats loses a request on the way.
func TestMasterRepeats(t *testing.T) {
	o := NewOutstation(Config{})
	defer o.Close()
	here, there := net.Pipe()
	m := NewMaster(here, MasterConfig{Timeout: 500 * time.Millisecond, Retries: 1})
	defer m.Close()
	lost := make([]byte, 100)
	go func() {
		_, _ = there.Read(lost)
		o.ServeConn(there)
	}()
	must(t, m.Control(DirectOperate, Controls(Latch(1, true))))
	if lost[0] != 0x05 || len(o.Executed()) != 1 {
		t.Errorf("lost % x, executed %v", lost[:10], o.Executed())
	}
}

func TestEverythingElseThatIsExecuted(t *testing.T) {
	o, m := pair(t, Config{}, MasterConfig{})
	o.Update(20, 3, 40)
	_, err := m.Do(ImmediateFreeze, Range(20, 0, 0, 5))
	must(t, err)
	_, err = m.Do(FreezeClear, All(20, 0))
	must(t, err)
	if o.Value(21, 3) != 40 || o.Value(20, 3) != 0 {
		t.Errorf("counter 3 is %v, frozen %v", o.Value(20, 3), o.Value(21, 3))
	}
	_, err = m.Do(AssignClass, Class(1), Range(30, 0, 2, 4))
	must(t, err)
	must(t, m.SetTimeLAN(time.Now()))
	r, err := m.Do(ColdRestart)
	must(t, err)
	if headers, err := r.Headers(); err != nil || headers[0].Kind != (Kind{52, 2}) || !o.Restarted() {
		t.Errorf("COLD_RESTART: %+v, %v", headers, err)
	}
	var got []string
	for _, op := range o.Executed() {
		got = append(got, op.Function.String())
	}
	want := []string{"immed_freeze", "freeze_clear", "assign_class", "record_current_time", "write", "cold_restart"}
	if !slices.Equal(got, want) {
		t.Errorf("executed %v, want %v", got, want)
	}
}

func TestFiles(t *testing.T) {
	long := bytes.Repeat([]byte("the settings of a relay\n"), 100)
	o, m := pair(t, Config{Files: map[string][]byte{"a.cfg": long, "empty": {}}}, MasterConfig{})
	for name, want := range map[string][]byte{"a.cfg": long, "empty": nil} {
		got, err := m.ReadFile(name)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: read %d octets, want %d", name, len(got), len(want))
		}
	}
	d, err := m.FileInfo("a.cfg")
	must(t, err)
	if d.Name != "a.cfg" || int(d.Size) != len(long) {
		t.Errorf("descriptor %+v", d)
	}
	must(t, m.WriteFile("b.cfg", long[:700]))
	if !bytes.Equal(o.File("b.cfg"), long[:700]) {
		t.Errorf("b.cfg holds %d octets", len(o.File("b.cfg")))
	}
	must(t, m.DeleteFile("b.cfg"))
	for what, try := range map[string]func() error{
		"read":   func() error { _, err := m.ReadFile("b.cfg"); return err },
		"info":   func() error { _, err := m.FileInfo("b.cfg"); return err },
		"delete": func() error { return m.DeleteFile("b.cfg") },
	} {
		var wrong *FileError
		if err := try(); !errors.As(err, &wrong) || wrong.Status != FileNotFound {
			t.Errorf("%s a file that is not there: %v", what, err)
		}
	}
}

// TestErrorsByPersonality refuses a function in each way that REFUSALS tells of.
func TestErrorsByPersonality(t *testing.T) {
	for name, personality := range Personalities() {
		t.Run(name, func(t *testing.T) {
			o, m := pair(t, Config{Personality: personality}, MasterConfig{Timeout: time.Second})
			must(t, m.Begin())
			executed := len(o.Executed())
			r, err := m.AskRaw(Request(9, Function(0x7a), Controls(Latch(1, true))))
			if personality.ErrorsZero {
				if stray := m.Stray(); !errors.Is(err, ErrTimeout) || len(stray) != 1 || stray[0].sequence() != 0 || stray[0].IIN&IINNoFunction == 0 {
					t.Errorf("%v, stray %+v", err, stray)
				}
			} else if err != nil || r.IIN&IINNoFunction == 0 {
				t.Errorf("%+v, %v", r, err)
			}
			r, err = m.Ask(Read, Class(0))
			must(t, err)
			if sticks := r.IIN&IINNoFunction != 0; sticks != personality.StickyErrors {
				t.Errorf("indications %#04x in the reply after", r.IIN)
			}
			if got := o.Executed()[executed:]; len(got) != 0 {
				t.Errorf("executed %v", got)
			}
		})
	}
}

// TestLooseExecutesWhatStrictDoesNot shows that the loose outstation is what an attacker hopes for.
func TestLooseExecutesWhatStrictDoesNot(t *testing.T) {
	latch := Controls(Latch(1, true))
	request := Request(0, DirectOperate, latch)
	segments := SegmentsOf(request, 3, 10)
	frame := func(control byte, destination uint16, data []byte) []byte {
		return Frame{Control: control, Destination: destination, Source: 1, Data: data}.Append(nil)
	}
	whole := Segments(request, 0)[0]
	for _, row := range []struct {
		name   string
		octets []byte
	}{
		{"no first segment", frame(FromMaster, 10, segments[len(segments)-1])},
		{"direction", frame(LinkPRM|UnconfirmedUserData, 10, whole)},
		{"self-address", frame(FromMaster, SelfAddress, whole)},
		{"not a first fragment", frame(FromMaster, 10, append([]byte{whole[0], FIN}, whole[2:]...))},
		{"unknown object before", frame(FromMaster, 10, Segments(Request(0, DirectOperate, Spell(VendorKind, 0x07, Object{Data: []byte{1, 2}}), latch), 0)[0])},
		{"garbage behind", frame(FromMaster, 10, append(append([]byte{}, whole...), 12, 1, 0x7f))},
		{"start and stop", frame(FromMaster, 10, Segments(Request(0, DirectOperate, ControlsAs(0x00, Latch(1, true))), 0)[0])},
		{"free format", frame(FromMaster, 10, Segments(Request(0, DirectOperate, ControlsAs(0x5b, Latch(1, true))), 0)[0])},
		{"write", frame(FromMaster, 10, Segments(Request(0, Write, Spell(Kind{10, 2}, 0x28, Object{Index: 1, Data: []byte{0x81}})), 0)[0])},
	} {
		t.Run(row.name, func(t *testing.T) {
			for name, p := range map[string]Personality{"strict": Strict(), "loose": Loose()} {
				o, m := pair(t, Config{Personality: p}, MasterConfig{})
				octets := row.octets
				if row.name == "no first segment" {
					octets = frame(FromMaster, 10, append([]byte{TransportFIN | 9}, request...))
				}
				_, err := m.Conn().Write(octets)
				must(t, err)
				must(t, m.KeepAlive()) // what was sent has been handled
				if executed := len(o.Executed()) > 0; executed != (name == "loose") {
					t.Errorf("%s executed %v", name, o.Executed())
				}
			}
		})
	}
}

func TestBroadcast(t *testing.T) {
	o, m := pair(t, Config{}, MasterConfig{})
	_, err := m.Conn().Write(Wire(FromMaster, 0xffff, 1, 0, Request(3, DirectOperate, Controls(Latch(1, true)))))
	must(t, err)
	r, err := m.Do(Read, Class(1))
	must(t, err)
	if len(o.Executed()) != 1 || r.IIN&IINBroadcast == 0 {
		t.Errorf("executed %v, indications %#04x", o.Executed(), r.IIN)
	}
}

func TestConfirmedUserData(t *testing.T) {
	o, m := pair(t, Config{}, MasterConfig{})
	send := func(control byte, function Function, index uint32) {
		data := Segments(Request(byte(index), function, Controls(Latch(index, true))), byte(index))[0]
		_, err := m.Conn().Write(Frame{Control: LinkDIR | LinkPRM | control, Destination: 10, Source: 1, Data: data}.Append(nil))
		must(t, err)
		must(t, m.KeepAlive())
	}
	send(LinkFCV|LinkFCB|ConfirmedUserData, DirectOperate, 1) // not reset yet
	must(t, m.ResetLink())
	send(LinkFCV|LinkFCB|ConfirmedUserData, DirectOperate, 2)
	send(LinkFCV|LinkFCB|ConfirmedUserData, DirectOperate, 3) // repeated frame count bit
	send(LinkFCV|ConfirmedUserData, DirectOperate, 4)
	if got := fmt.Sprint(o.Executed()); len(o.Executed()) != 2 || o.Value(10, 2) != 1 || o.Value(10, 4) != 1 {
		t.Errorf("executed %s", got)
	}
}

// TestUnsolicitedIsRepeatedUntilConfirmed: IEEE 1815 5.1.1.1.1.
func TestUnsolicitedIsRepeatedUntilConfirmed(t *testing.T) {
	o, m := pair(t, Config{Unsolicited: true, UnsolicitedTimeout: 20 * time.Millisecond}, MasterConfig{Silent: true})
	eventually(t, "repetitions", func() bool { return len(m.Unsolicited()) > 3 })
	for _, f := range m.Unsolicited() {
		if f.sequence() != 0 || f.Control&(CON|UNS) != CON|UNS || f.IIN&IINRestart == 0 {
			t.Errorf("repeated as %+v", f)
		}
	}
	m.Close()
	o.Update(1, 1, 1)
	m = join(t, o, MasterConfig{})
	eventually(t, "the null response on a new connection", func() bool { return len(m.Unsolicited()) == 1 })
	must(t, m.Enable())
	eventually(t, "the event", func() bool { return o.Unconfirmed(1) == 0 })
}

// TestEagerMasterLoops shows that a master would be driven into a loop, so that a test on the line
// can tell that it is not.
func TestEagerMasterLoops(t *testing.T) {
	o, m := pair(t, Config{}, MasterConfig{Eager: true})
	_, err := m.Read(Class(0))
	must(t, err)
	eventually(t, "the restart indication to be cleared", func() bool { return !o.Restarted() })
	if n := m.RestartClears(); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
	here, there := net.Pipe()
	defer there.Close()
	go refuseAll(there)
	refusing := NewMaster(here, MasterConfig{Eager: true, Limit: 200})
	defer refusing.Close()
	_, _ = refusing.Ask(Read, Class(0))
	eventually(t, "the limit", func() bool { return refusing.RestartClears() == 200 })
}

// refuseAll replies to everything that the function is not known, and that it has restarted.
func refuseAll(conn net.Conn) {
	ch := newChannel(true, func() {})
	_ = ch.receive(conn, func(f Frame) {
		r := Fragment{Control: FIR | FIN | f.Data[1]&sequenceBits, Function: Response, IIN: IINRestart | IINNoFunction}
		_, _ = conn.Write(Wire(FromOutstation, 1, 10, 0, r.Append(nil)))
	})
}

func TestKeepAliveFromTheOutstation(t *testing.T) {
	o, _ := pair(t, Config{KeepAlive: 10 * time.Millisecond}, MasterConfig{})
	eventually(t, "link statuses", func() bool { return o.Alive() > 2 })
}
