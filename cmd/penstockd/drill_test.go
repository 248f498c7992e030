package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
)

// serviceManager starts the daemon again, a moment after it has ended, until the test stops it.
func serviceManager(t *testing.T, p *plant.Plant) (stop func() (starts int)) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan int)
	go func() {
		starts := 0
		defer func() { ended <- starts }()
		for {
			select {
			case <-done:
				return
			case <-p.Daemon.Done():
			}
			time.Sleep(100 * time.Millisecond) // RestartSec of images/penstockd.service
			if err := p.Start(); err != nil {
				t.Error(err)
				return
			}
			starts++
		}
	}()
	return func() int { close(done); return <-ended }
}

// runDrill runs penstock bypass test in the box, and returns its exit code and what it wrote.
func runDrill(t *testing.T, p *plant.Plant, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(commandBinary, append([]string{"bypass", "test", "--socket", p.Socket()}, args...)...)
	var out, complaint strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &complaint
	proc, err := p.Lab.StartCommand(p.Box, cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Wait(2 * time.Minute); err != nil {
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), complaint.String()
}

// TestBypassTestOnSite: the guided test stops, kills and ends the daemon, which its service manager
// starts again, measures what the line notices, and leaves a record.
func TestBypassTestOnSite(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	startStation(t, p.Filler, openPort)
	if code, _, said := runDrill(t, p, "", "--yes"); code != 1 || !strings.Contains(said, "too sparse") {
		t.Errorf("on a line without traffic: code %d, %q", code, said)
	}
	lawful := keepTalking(t, p, openPort)
	stop := serviceManager(t, p)
	code, stdout, stderr := runDrill(t, p, "", "--yes", "--json", "--limit", "5s")
	if starts := stop(); code != 0 || starts != 2 {
		t.Fatalf("code %d after %d starts, want 0 after 2: %s%s", code, starts, stdout, stderr)
	}
	lawful.check(t)
	var d outage.Drill
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Steps) != 4 || !d.Passed {
		t.Errorf("it found %+v", d)
	}
	for _, s := range d.Steps {
		t.Logf("%s: longest gap %.1f ms, %d frames in, %d out", s.Name, s.GapMS, s.Received, s.Sent)
		if s.Received < 20 || s.Sent < 20 || s.GapMS <= 0 { // how many more is a question of the machine
			t.Errorf("%s: %+v, want traffic", s.Name, s)
		}
	}
	// A daemon that is stopped shows in a gap as long as its heartbeat's time-out, less the pauses of
	// those that talk.
	if gap := d.Steps[1].GapMS; gap < 50 {
		t.Errorf("a stop of the daemon shows in a gap of %.1f ms, want about the heartbeat's time-out", gap)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	report, err := p.Client().Bypass(ctx)
	if err != nil || report.LastDrill == nil || report.LastDrill.Who == "" || len(report.LastDrill.Steps) != 4 {
		t.Errorf("the daemon keeps %+v (%v)", report.LastDrill, err)
	}
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Layer == event.LayerPerson && strings.HasPrefix(e.Detail, "bypass tested by")
	}); err != nil {
		t.Error(err)
	}
	if out := runIn(t, p, p.Box, commandBinary, "bypass", "status", "--socket", p.Socket()); !strings.Contains(out, ": passed, longest gap ") {
		t.Errorf("penstock bypass status does not tell of the test:\n%s", out)
	}
	polls := keepTalking(t, p, openPort)
	t.Run("a person who agrees to one step", func(t *testing.T) {
		code, stdout, stderr := runDrill(t, p, "y\nn\n\n", "--limit", "5s")
		if n := strings.Count(stdout, "skipped"); n != 2 || code != 0 {
			t.Errorf("code %d, %d steps were skipped, want 0 and 2:\n%s%s", code, n, stdout, stderr)
		}
		if !strings.Contains(stdout, "Not tested: ") {
			t.Errorf("it does not say what it cannot test:\n%s", stdout)
		}
		if r, err := p.Client().Bypass(ctx); err != nil || r.LastDrill == nil || r.LastDrill.Result() != "passed, 2 of 4 steps skipped" {
			t.Errorf("the daemon keeps %+v (%v)", r.LastDrill, err)
		}
	})
	polls.check(t)
	t.Run("a limit that is exceeded", func(t *testing.T) {
		// Through the conduit that closes nothing leaves as long as the daemon is stopped.
		startStation(t, p.Filler, closedPort)
		keepTalking(t, p, closedPort)
		var code int
		var stdout, stderr string
		for range 5 {
			code, stdout, stderr = runDrill(t, p, "y\nn\nn\n", "--limit", "900ms")
			if !strings.Contains(stderr, "too sparse") { // on a machine that is busy with other things
				break
			}
		}
		if code != 1 || !strings.Contains(stdout, "longer than 900ms") {
			t.Errorf("code %d, want 1:\n%s%s", code, stdout, stderr)
		}
	})
}

// isLocked reports whether somebody holds a file or directory alone.
func isLocked(t *testing.T, name string) bool {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(locks), fmt.Sprintf(":%d 0 EOF", info.Sys().(*syscall.Stat_t).Ino))
}

// TestBypassTestThatBreaksOff: a session that ends while the daemon is stopped leaves it going on; and beside a test there
// is no other.
func TestBypassTestThatBreaksOff(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	startStation(t, p.Filler, openPort)
	lawful := keepTalking(t, p, openPort)
	cmd := exec.Command(commandBinary, "bypass", "test", "--socket", p.Socket(), "--yes", "--limit", "5s")
	test, err := p.Lab.StartCommand(p.Box, cmd)
	if err != nil {
		t.Fatal(err)
	}
	stopped := func() bool { return stateOf(p.Daemon.PID()) == 'T' }
	eventually(t, "the test to be the only one", func() bool { return isLocked(t, filepath.Dir(p.Socket())) })
	if code, _, said := runDrill(t, p, "", "--yes"); code != 1 || !strings.Contains(said, "another test is under way") {
		t.Errorf("a second test ended with %d: %s", code, said)
	}
	eventually(t, "the daemon to be stopped", stopped)
	if err := test.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := test.Wait(patience); err == nil {
		t.Error("a test that broke off says that all is well")
	}
	if stopped() {
		t.Error("the daemon is left stopped")
		_ = p.Daemon.Signal(syscall.SIGCONT)
	}
	lawful.check(t)
}
