package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestTheDaemonIsConfined: what runs under the daemon's rules can read no file that its work does not
// need, and its work goes on: policies, the store, and repairs of everything that stands in the kernel.
func TestTheDaemonIsConfined(t *testing.T) {
	if _, err := llsys.LandlockGetABIVersion(); err != nil {
		testnet.Require(t, fmt.Errorf("needs a kernel with Landlock: %w", err))
	}
	p := lay(t, plant.Options{Policy: outageSite()})
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Daemon.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "NoNewPrivs:\t1") {
		t.Error("the daemon may still gain privileges, which a process under Landlock may not")
	}
	o := openOutage(t, p)
	defer o.close()
	if _, err := p.Apply(outageSite() + "# another\n"); err != nil {
		t.Errorf("apply: %v", err)
	}
	gate := openGate(t, p)
	if err := gate.Do(func() error { return deleteLink("penstock0") }); err != nil {
		t.Fatal(err)
	}
	if err := detach(p, "xdp_a_native"); err != nil {
		t.Fatal(err)
	}
	mended := func(class outage.Class) bool {
		f := failureOf(t, p, class)
		return f.Count > 0 && !f.Active
	}
	eventually(t, "both to be mended", func() bool { return mended(outage.BridgeRemoved) && mended(outage.ProgramRemoved) })
	for _, port := range []int{openPort, closedPort, plainPort} {
		if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
	var failing []outage.Failure
	if testnet.WaitFor("", patience, func() (bool, error) {
		status, err := p.Status()
		failing = slices.DeleteFunc(status.Outage.Failures, func(f outage.Failure) bool { return !f.Active })
		return len(failing) == 0, err
	}) != nil {
		t.Errorf("failing under confinement: %+v", failing)
	}

	elsewhere := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(elsewhere, []byte(outageSite()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(p.PolicyFile()), os.Symlink(elsewhere, p.PolicyFile())); err != nil {
		t.Fatal(err)
	}
	if err := p.Daemon.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a file elsewhere to be out of reach", func() bool {
		return strings.Contains(failureOf(t, p, outage.PolicyInvalid).Detail, "permission denied")
	})
}

// TestAPolicyBehindALinkIsReadAgain: rules of Landlock go by what a path leads to.
func TestAPolicyBehindALinkIsReadAgain(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: outageSite()})
	elsewhere := filepath.Join(t.TempDir(), "line.yaml")
	write(t, elsewhere, outageSite())
	if err := errors.Join(os.Remove(p.PolicyFile()), os.Symlink(elsewhere, p.PolicyFile())); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	write(t, elsewhere, outageSite()+"# another\n")
	if err := p.Daemon.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file to be applied", func() bool {
		s, err := p.Status()
		return err == nil && s.Policy.Version == 2
	})
}
