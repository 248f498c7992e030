package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestInvariant06NothingThatWaitsIsLostOnAConduitThatOpens: through hangs, kills, restarts and upgrades a poll
// that waited for its verdict is answered before its sender could repeat it, which Linux does after 200 ms
// at the earliest.
func TestInvariant06NothingThatWaitsIsLostOnAConduitThatOpens(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	o := openOutage(t, p)
	const most = 200 * time.Millisecond // the heartbeat's time-out, and 100 ms
	for _, row := range []struct {
		name string
		harm func() error
	}{
		{"hang", func() error {
			if err := p.Daemon.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
			time.Sleep(400 * time.Millisecond)
			return p.Daemon.Signal(syscall.SIGCONT)
		}},
		{"kill", func() error {
			if err := p.Kill(); err != nil {
				return err
			}
			time.Sleep(400 * time.Millisecond)
			return nil
		}},
		{"SIGTERM", func() error {
			if err := p.Start(); err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
			return p.Stop()
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var longest time.Duration
			for range 5 { // a machine that is busy is late by itself
				if p.Daemon == nil && row.name != "SIGTERM" {
					start(t, p)
					time.Sleep(300 * time.Millisecond)
				}
				ended := make(chan error, 1)
				go func() { ended <- row.harm() }()
				gap, err := longestGap(o.conns[openPort], ended)
				if err != nil {
					t.Fatal(err)
				}
				if longest == 0 || gap < longest {
					longest = gap
				}
				if gap < most {
					break
				}
			}
			if longest >= most {
				t.Errorf("no poll in %v at best, want less than %v", longest, most)
			}
			t.Logf("the longest gap was %v", longest)
		})
	}
}

// longestGap polls over a connection until ended has a value, and returns the longest time between two
// answers.
func longestGap(conn net.Conn, ended <-chan error) (longest time.Duration, err error) {
	for last := time.Now(); ; {
		select {
		case err := <-ended:
			return longest, err
		case <-time.After(5 * time.Millisecond):
		}
		if err := ask(conn, mbap(2, 1, readRegisters(0, 2)), 5*time.Second); err != nil {
			return longest, err
		}
		longest, last = max(longest, time.Since(last)), time.Now()
	}
}

// ignores reports whether a process ignores the signals, by its status. What started it may have had it ignore
// others.
func ignores(t *testing.T, status []byte, signals ...syscall.Signal) bool {
	t.Helper()
	const says = "SigIgn:\t"
	_, rest, _ := bytes.Cut(status, []byte(says))
	word, _, _ := bytes.Cut(rest, []byte("\n"))
	mask, err := strconv.ParseUint(string(word), 16, 64)
	if err != nil {
		t.Fatalf("the status's line %q: %v", says, err)
	}
	for _, signal := range signals {
		if mask>>(signal-1)&1 == 0 {
			return false
		}
	}
	return true
}

// TestTheStandIn: it holds no right but that over netfilter, opens no file, is started again when it ends,
// which the status tells of meanwhile, and ends soon after the daemon, however that does.
func TestTheStandIn(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	first := standInOf(t, p)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", first))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"CapPrm:\t0000000000001000", "CapEff:\t0000000000001000", "NoNewPrivs:\t1"} {
		if !bytes.Contains(status, []byte(line)) {
			t.Errorf("the stand-in's status lacks %q", line)
		}
	}
	eventually(t, "it to have begun, and to ignore what is sent to all processes", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", first))
		return err == nil && ignores(t, status, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	})
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if again := standInOf(t, p); again != first {
		t.Error("what a service manager sends to all processes ended the stand-in before the daemon")
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended := first
	eventually(t, "the status to tell that there is none", func() bool {
		status, err := p.Status()
		if err == nil && strings.Contains(strings.Join(status.Warnings, "\n"), "stand-in") {
			return true
		}
		if next := childOf(p.Daemon.PID()); next != 0 && next != ended { // this machine has missed the second that it lasts
			ended = next
			_ = syscall.Kill(next, syscall.SIGKILL)
		}
		return false
	})
	if len(buildFlags()) > 0 {
		return // a daemon with a loader cannot start another one once it is confined
	}
	eventually(t, "another one", func() bool {
		second := childOf(p.Daemon.PID())
		status, err := p.Status()
		return second != 0 && second != ended && err == nil && !strings.Contains(strings.Join(status.Warnings, "\n"), "stand-in")
	})
	for _, end := range []func() error{p.Kill, p.Stop} {
		running := standInOf(t, p)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stand-in to end", func() bool { return hasEnded(running) })
		start(t, p)
	}
}

// TestTheStandInIsNoBurden: a daemon that ends in order leaves none behind, not even one that nobody has waited for; and
// one that somebody stopped does not keep the queues from the next daemon, when the one before was killed.
func TestTheStandInIsNoBurden(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	running := standInOf(t, p)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", running)); err == nil {
		t.Errorf("the stand-in is still there:\n%s", state)
	}
	start(t, p)
	stopped := standInOf(t, p)
	if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	start(t, p)
	if took := time.Since(began); took > inspectionTimeout/2 {
		t.Errorf("the next daemon was ready after %v", took)
	}
	eventually(t, "the stopped one to end", func() bool { return hasEnded(stopped) })
}

// hasEnded reports whether a process has ended, of which init may take its time to notice.
func hasEnded(pid int) bool {
	state := stateOf(pid)
	return state == 0 || state == 'Z'
}

// stateOf is the letter of a process's state, see proc_pid_stat(5), 0 where there is no such process.
func stateOf(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return stat[bytes.LastIndexByte(stat, ')')+2]
}

func standInOf(t *testing.T, p *plant.Plant) int {
	t.Helper()
	var pid int
	err := testnet.WaitFor("the stand-in", 5*time.Second, func() (bool, error) {
		pid = childOf(p.Daemon.PID())
		return pid != 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// childOf finds the stand-in among a process's children, 0 if there is none.
func childOf(pid int) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(raw)) {
			command, err := os.ReadFile(fmt.Sprintf("/proc/%s/cmdline", field))
			if child, parseErr := strconv.Atoi(field); err == nil && parseErr == nil && bytes.Contains(command, []byte("stand-in")) {
				return child
			}
		}
	}
	return 0
}
