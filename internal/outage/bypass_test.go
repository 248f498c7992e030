package outage

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSwitchReleasesOnlyAfterASelfTest(t *testing.T) {
	f := &fake{state: Engaged}
	broken := errors.New("nothing came back")
	var tested error = broken
	var kept []bool
	s := NewSwitch(f, Standing{Engaged: true}, func(context.Context) error { return tested },
		func(st Standing) error { kept = append(kept, st.Engaged); return nil })
	if err := s.Release(t.Context(), "root", "done"); !errors.Is(err, broken) || len(f.calls) != 0 || !s.Standing().Engaged {
		t.Errorf("after a failed self-test: %v, the driver was told %v", err, f.calls)
	}
	tested = nil
	if err := s.Release(t.Context(), "root", "done"); err != nil || f.state != Inline || s.Standing().Engaged || s.Standing().Who != "root" {
		t.Errorf("%v, %s, %+v", err, f.state, s.Standing())
	}
	if err := s.Engage(t.Context(), "root", "work on the line"); err != nil || f.state != Engaged {
		t.Errorf("%v, %s", err, f.state)
	}
	if !slices.Equal(kept, []bool{false, true}) {
		t.Errorf("written down %v", kept)
	}
}

func TestSwitchEngagesAlthoughItCannotBeWrittenDown(t *testing.T) {
	f := &fake{state: Inline}
	full := errors.New("no space left")
	s := NewSwitch(f, Standing{}, nil, func(Standing) error { return full })
	if err := s.Engage(t.Context(), "root", ""); !errors.Is(err, full) || f.state != Engaged {
		t.Errorf("%v, %s: want it engaged, and the error told", err, f.state)
	}
}

func TestSwitchReportsWhatDiffers(t *testing.T) {
	f := &fake{state: Inline}
	s := NewSwitch(f, Standing{Engaged: true}, nil, nil)
	if r := s.Report(t.Context()); r.State != Inline || r.Detail == "" {
		t.Errorf("%+v, want it to be said that it should be engaged", r)
	}
	f.state, f.err = Unknown, errors.New("no answer")
	if r := s.Report(t.Context()); r.State != Unknown || r.Detail != "no answer" {
		t.Errorf("%+v", r)
	}
}

// script writes a vendor's tool.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExecDrivesATool(t *testing.T) {
	tool := script(t, `f="$(dirname "$0")/state"
case "$1" in on|off) echo "bypass is $1" >"$f";; get) cat "$f";; esac`)
	e := &Exec{
		EngageCommand: []string{tool, "on"}, ReleaseCommand: []string{tool, "off"}, StateCommand: []string{tool, "get"},
		WhenEngaged: "is on", WhenInline: "is off",
	}
	for _, row := range []struct {
		turn func(context.Context) error
		want State
	}{{e.Engage, Engaged}, {e.Release, Inline}} {
		if err := row.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		if state, err := e.State(t.Context()); state != row.want || err != nil {
			t.Errorf("state %s, %v, want %s", state, err, row.want)
		}
	}
}

func TestExecSaysWhatWentWrong(t *testing.T) {
	for _, row := range []struct{ name, body, want string }{
		{"fails", "echo no such card; exit 3", "no such card"},
		{"says something else", "echo maybe", "says none of"},
		{"floods", "yes | head -c 1000000", "says none of"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := &Exec{StateCommand: []string{script(t, row.body)}, WhenEngaged: "is on", WhenInline: "is off"}
			state, err := e.State(t.Context())
			if state != Unknown || err == nil || !strings.Contains(err.Error(), row.want) || len(err.Error()) > 1000 {
				t.Errorf("state %s, error %v", state, err)
			}
		})
	}
	e := &Exec{}
	if err := e.Engage(t.Context()); err == nil {
		t.Error("a command that is not named was run")
	}
}

func TestExecDoesNotWaitForEver(t *testing.T) {
	e := &Exec{StateCommand: []string{script(t, "sleep 60")}, WhenInline: "x"}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if state, err := e.State(ctx); state != Unknown || err == nil || time.Since(begin) > 10*time.Second {
		t.Errorf("state %s, %v, after %v", state, err, time.Since(begin))
	}
}

// short is a listener for which the kernel is short of something, so many times.
type short struct {
	net.Listener
	fails int
}

func (s *short) Accept() (net.Conn, error) {
	if s.fails--; s.fails >= 0 {
		return nil, unix.ENFILE
	}
	return s.Listener.Accept()
}

func TestRelayIsHeldBeyondItsAsker(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "relay.sock")
	line := &pin{value: 0}
	h, err := NewHolder(line, 1, socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	h.listener = &short{Listener: h.listener, fails: 2}
	go func() { h.Serve(); close(served) }()
	g := &GPIO{Socket: socket}
	if state, err := g.State(t.Context()); state != Engaged || err != nil {
		t.Errorf("a holder begins %s, %v, want it engaged", state, err)
	}
	if err := g.Release(t.Context()); err != nil || line.value != 0 {
		t.Errorf("released: %v, the line is %d", err, line.value)
	}
	if _, err := NewHolder(line, 1, socket); err == nil {
		t.Error("a second holder took the relay")
	}
	if _, err := g.ask(t.Context(), "nonsense"); err == nil {
		t.Error("nonsense was carried out")
	}
	line.err = errors.New("the chip is gone")
	if err := g.Engage(t.Context()); err == nil || !strings.Contains(err.Error(), "the chip is gone") {
		t.Errorf("%v, want the chip's error", err)
	}
	line.err = nil
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
	if state, err := g.State(t.Context()); state != Unknown || err == nil {
		t.Errorf("without a holder the state is %s, %v", state, err)
	}
	if line.value != 0 {
		t.Error("the line moved when its holder ended")
	}
}

func TestRelayLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewHolder(&pin{}, 1, path); err == nil {
		t.Error("a file was taken for a stale socket")
	}
}

func TestWatchdogLetsGoOnlyWithoutHeartbeat(t *testing.T) {
	device, now := &dog{}, noon
	w, err := newWatchdog(device, 90*time.Second, 10*time.Second, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if w.Timeout() != time.Minute || device.pretimeout != 10 || device.fed != 1 {
		t.Errorf("time-out %v, %+v", w.Timeout(), device)
	}
	now = now.Add(59 * time.Second)
	if err := w.Beat(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(59 * time.Second)
	if state, err := w.State(t.Context()); state != Inline || err != nil {
		t.Errorf("fed in time it is %s, %v", state, err)
	}
	if err := w.Engage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Beat(); err != nil || device.fed != 2 {
		t.Errorf("fed %d times, %v: engaged on purpose it is not fed", device.fed, err)
	}
	if state, err := w.State(t.Context()); state != Inline || err == nil {
		t.Errorf("before its time is over it is %s, %v; want it to be said when", state, err)
	}
	now = now.Add(time.Second)
	if state, _ := w.State(t.Context()); state != Engaged {
		t.Errorf("when its time is over it is %s", state)
	}
	if err := w.Close(); err != nil || device.ended != "abandoned" {
		t.Errorf("closed while engaged it is %s, %v", device.ended, err)
	}
}

func TestWatchdogIsDisarmedByAnOrderlyEnd(t *testing.T) {
	device := &dog{}
	w, err := newWatchdog(device, 30*time.Second, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil || device.ended != "disarmed" {
		t.Errorf("%s, %v", device.ended, err)
	}
	refused := &dog{refuses: errors.New("not that long")}
	if _, err := newWatchdog(refused, time.Hour, 0, time.Now); err == nil || refused.ended != "disarmed" {
		t.Errorf("%v, a watchdog that takes no time-out is %q: it must not be left running", err, refused.ended)
	}
}

// TestWatchdogThatCannotBeFedIsNotLeftRunning: nobody holds it who could feed it later.
func TestWatchdogThatCannotBeFedIsNotLeftRunning(t *testing.T) {
	device := &dog{hungry: errors.New("no such device")}
	if w, err := newWatchdog(device, 30*time.Second, 0, time.Now); err == nil || w != nil || device.ended != "disarmed" {
		t.Errorf("%v, %v, the watchdog is %q", w, err, device.ended)
	}
}

// TestWatchdogThatIsMeantToBeEngagedIsNotFed: from the beginning, so that a start which fails leaves it to its end.
func TestWatchdogThatIsMeantToBeEngagedIsNotFed(t *testing.T) {
	device := &dog{}
	w, err := newWatchdog(device, 30*time.Second, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSwitch(w, Standing{Engaged: true}, nil, nil)
	s.Beat()
	if err := s.Close(); err != nil || device.fed != 1 || device.ended != "abandoned" {
		t.Errorf("%v, fed %d times, %s", err, device.fed, device.ended)
	}
}

// TestWhatIsNotFedIsReported: until it is.
func TestWhatIsNotFedIsReported(t *testing.T) {
	device := &dog{}
	w, err := newWatchdog(device, 30*time.Second, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSwitch(w, Standing{}, nil, nil)
	device.hungry = errors.New("no such device")
	s.Beat()
	if r := s.Report(t.Context()); !strings.Contains(r.Detail, "no such device") {
		t.Errorf("%+v", r)
	}
	device.hungry = nil
	s.Beat()
	if r := s.Report(t.Context()); r.Detail != "" {
		t.Errorf("%+v", r)
	}
}

// TestAReportThatIsGivenUpIsNotTheLast: who hangs up while the driver is asked has nobody else told that its state is not
// known.
func TestAReportThatIsGivenUpIsNotTheLast(t *testing.T) {
	f := &fake{state: Engaged}
	s := NewSwitch(f, Standing{Engaged: true}, nil, nil)
	s.Report(t.Context())
	f.err = context.Canceled
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := s.Report(ctx); r.Detail == "" {
		t.Errorf("told is %+v", r)
	}
	if r := s.Last(); r.State != Engaged || r.Detail != "" {
		t.Errorf("the last is %+v", r)
	}
}

// TestSettleChangesNothingThatIsMeant: a start drives the driver to what the bypass was meant to be, since when and by whom
// it was.
func TestSettleChangesNothingThatIsMeant(t *testing.T) {
	standing := Standing{Engaged: true, Why: "work", Who: "root", Since: time.Now().Add(-time.Hour)}
	f := &fake{state: Inline}
	var kept Standing
	s := NewSwitch(f, standing, nil, func(st Standing) error { kept = st; return nil })
	if err := s.Settle(t.Context()); err != nil || f.state != Engaged || s.Standing() != standing || kept != standing {
		t.Errorf("%v, it is %v, meant to be %+v, written down %+v", err, f.state, s.Standing(), kept)
	}
	f.state = Inline
	if err := NewSwitch(f, Standing{}, nil, nil).Settle(t.Context()); err != nil || f.state != Inline {
		t.Errorf("%v, and one that is not meant to be engaged is %v", err, f.state)
	}
}

// TestSwitchThatFailsIsMeantToBeWhatItWas: whoever starts next does not do what nobody was told has happened.
func TestSwitchThatFailsIsMeantToBeWhatItWas(t *testing.T) {
	f := &fake{state: Inline, err: errors.New("no answer")}
	var kept Standing
	s := NewSwitch(f, Standing{Why: "done", Who: "root"}, nil, func(st Standing) error { kept = st; return nil })
	if err := s.Engage(t.Context(), "root", "work"); !errors.Is(err, f.err) || errors.Is(err, ErrNotKept) {
		t.Error(err)
	}
	if kept != s.Standing() || kept.Engaged {
		t.Errorf("written down is %+v, and it is meant to be %+v", kept, s.Standing())
	}
}

func TestSwitchTellsThoseWhoCannotWait(t *testing.T) {
	s := NewSwitch(&fake{state: Engaged}, Standing{Engaged: true}, nil, nil)
	if r := s.Last(); r.State != "" {
		t.Errorf("before anybody asked: %+v", r)
	}
	want := s.Report(t.Context())
	s.mu.Lock() // a turn is being made
	defer s.mu.Unlock()
	if r := s.Last(); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
}

// TestExecEndsWhatTheToolStarted: a tool that hangs does not turn the bypass later.
func TestExecEndsWhatTheToolStarted(t *testing.T) {
	tool := script(t, `(sleep 1; echo late >"$(dirname "$0")/late") & wait`)
	e := &Exec{EngageCommand: []string{tool}}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := e.Engage(ctx); err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Error(err)
	}
	time.Sleep(1500 * time.Millisecond)
	if _, err := os.Stat(filepath.Join(filepath.Dir(tool), "late")); err == nil {
		t.Error("what the tool started went on after it was given up")
	}
}

// TestExecTakesAToolThatLeavesSomebodyBehind: it has ended, and well.
func TestExecTakesAToolThatLeavesSomebodyBehind(t *testing.T) {
	e := &Exec{StateCommand: []string{script(t, "sleep 3 & echo bypass is on")}, WhenEngaged: "is on"}
	if state, err := e.State(t.Context()); state != Engaged || err != nil {
		t.Errorf("%s, %v", state, err)
	}
}

// TestExecNamesTheToolThatFailed: what ends it otherwise than by itself, and what is none.
func TestExecNamesTheToolThatFailed(t *testing.T) {
	for _, row := range []struct{ name, command, want string }{
		{"by a signal", script(t, "kill -9 $$"), "signal: killed"},
		{"no program", "/nowhere/bpctl", "no such file"},
	} {
		e := &Exec{EngageCommand: []string{row.command}}
		if err := e.Engage(t.Context()); err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), row.command) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// TestRelayWhoseHolderIsBusyIsNotTaken: a holder that does not answer at once is one.
func TestRelayWhoseHolderIsBusyIsNotTaken(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "relay.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for { // until no more find room
		conn, err := net.DialTimeout("unix", socket, 100*time.Millisecond)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	if h, err := NewHolder(&pin{}, 1, socket); err == nil {
		h.Close()
		t.Error("a second holder took the socket of one that is busy")
	}
}

// TestWatchdogThatCannotBeReleasedStaysEngaged: the next heartbeat does not release it.
func TestWatchdogThatCannotBeReleasedStaysEngaged(t *testing.T) {
	device := &dog{}
	w, err := newWatchdog(device, 30*time.Second, 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Engage(t.Context()); err != nil {
		t.Fatal(err)
	}
	device.hungry = errors.New("busy")
	if err := w.Release(t.Context()); !errors.Is(err, device.hungry) {
		t.Error(err)
	}
	device.hungry = nil
	fed := device.fed
	if err := w.Beat(); err != nil || device.fed != fed {
		t.Errorf("%v, a heartbeat fed it", err)
	}
	if err := w.Release(t.Context()); err != nil || device.fed != fed+1 {
		t.Errorf("%v, released it is fed %d times, want %d", err, device.fed, fed+1)
	}
}

// TestSwitchIsNotTurnedOnceItIsClosed: what a turn works with is gone then, and is not before one has come to its end.
func TestSwitchIsNotTurnedOnceItIsClosed(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	f := &fake{state: Engaged}
	s := NewSwitch(f, Standing{Engaged: true}, func(context.Context) error { close(began); <-goOn; return nil },
		func(Standing) error { return nil })
	released, closed := make(chan error, 1), make(chan error, 1)
	go func() { released <- s.Release(context.Background(), "root", "") }()
	<-began
	go func() { closed <- s.Close() }()
	select {
	case <-closed:
		t.Error("it was closed in the middle of a turn")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	if err := errors.Join(<-released, <-closed, s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Engage(t.Context(), "root", ""); err == nil || f.state != Inline {
		t.Errorf("%v, %s: it was turned after its end", err, f.state)
	}
	if err := s.Release(t.Context(), "root", ""); err == nil || !strings.Contains(err.Error(), "penstockd is ending") {
		t.Error(err)
	}
}
