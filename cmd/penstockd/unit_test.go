package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestTheUnitsCapabilitiesAreEnough starts the daemon with no more rights than its systemd unit leaves
// it: a cold start, work, an outage, an adoption, and down.
func TestTheUnitsCapabilitiesAreEnough(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: outageSite()})
	testnet.RequireProgram(t, "setpriv")
	p.Wrap("setpriv", "--bounding-set", "-all"+capabilities(t), "--no-new-privs")
	start(t, p)
	o := openOutage(t, p)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	for _, port := range []int{openPort, closedPort, plainPort} {
		if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
}

// capabilities reads the unit's bounding set as setpriv takes one: ",+net_admin,+net_raw".
func capabilities(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range unitList(t, "penstockd.service", "CapabilityBoundingSet") {
		b.WriteString(",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	return b.String()
}

// unitList reads a setting of a unit that is a list of words.
func unitList(t *testing.T, unit, setting string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../images", unit))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if list, ok := strings.CutPrefix(strings.TrimSpace(line), setting+"="); ok {
			return strings.Fields(list)
		}
	}
	t.Fatalf("%s has no %s", unit, setting)
	return nil
}

// systemCalls are what a unit's filter lets through, with its groups written out as the systemd that is here has
// them.
func systemCalls(t *testing.T, unit string) []string {
	t.Helper()
	var calls []string
	known := map[string]bool{}
	for todo := unitList(t, unit, "SystemCallFilter"); len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		if known[name] {
			continue
		}
		known[name] = true
		if !strings.HasPrefix(name, "@") {
			calls = append(calls, name)
			continue
		}
		text, err := exec.Command("systemd-analyze", "syscall-filter", name).Output()
		if err != nil {
			t.Fatalf("ask for the group %s: %v", name, err)
		}
		for line := range strings.Lines(string(text)) {
			if word := strings.TrimSpace(line); word != "" && word != name && word[0] != '#' {
				todo = append(todo, word)
			}
		}
	}
	return calls
}

// TestTheUnitsSystemCallsAreEnough has every system call written down that the unit would refuse: from a cold start through
// work, a policy, an outage, an adoption and repairs to the end there is none.
func TestTheUnitsSystemCallsAreEnough(t *testing.T) {
	testnet.RequireProgram(t, "systemd-analyze")
	testnet.RequireProgram(t, "strace")
	refused := filepath.Join(t.TempDir(), "refused") // it is there until the plant is taken down
	p := layStopped(t, plant.Options{Policy: outageSite(), Settings: []string{"outage: {heartbeat_timeout: 2s}"}})
	allowed := "?" + strings.Join(systemCalls(t, "penstockd.service"), ",?")
	p.Wrap("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-A", "-o", refused, "-e", "signal=none", "-e", "trace=!"+allowed)
	start(t, p)
	o := openOutage(t, p)
	defer o.close()
	if _, err := p.Apply(outageSite() + "# another\n"); err != nil {
		t.Error(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	if err := detach(p, "xdp_a_native"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a repair", func() bool { return failureOf(t, p, outage.ProgramRemoved).Count > 0 })
	for _, port := range []int{openPort, closedPort, plainPort} {
		if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
	if strings.Contains(p.Daemon.Output(), "not confined") {
		t.Errorf("the daemon is not confined:\n%s", p.Daemon.Output())
	}
	if err := errors.Join(p.Stop(), p.Down()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(refused)
	if err != nil {
		t.Fatal(err)
	}
	if calls := withoutDetached(string(raw)); calls != "" {
		t.Errorf("the unit would refuse:\n%s", calls[:min(len(calls), 4000)])
	}
}

// withoutDetached leaves out that strace let go of a process while it was in a call, or that it was killed there, before
// strace knew which it is: one that it knows has a name, and one that nobody knows a number.
func withoutDetached(said string) string {
	var calls []string
	for line := range strings.Lines(said) {
		if !strings.Contains(line, "???( <detached ...>") && !strings.Contains(line, "???( <unfinished ...>") {
			calls = append(calls, line)
		}
	}
	return strings.Join(calls, "")
}

// TestTheUnitsAreUnderstood: systemd finds nothing to complain of in them.
func TestTheUnitsAreUnderstood(t *testing.T) {
	testnet.RequireProgram(t, "systemd-analyze")
	for _, unit := range []string{"penstockd.service", "penstock-relay.service"} {
		raw, err := os.ReadFile(filepath.Join("../../images", unit))
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(t.TempDir(), unit) // with a program that is here
		text := strings.ReplaceAll(string(raw), "/usr/local/sbin/penstockd", daemonBinary)
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if said, err := exec.Command("systemd-analyze", "verify", "--man=no", at).CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, said)
		}
	}
}
