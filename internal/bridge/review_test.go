package bridge_test

import (
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestDownAfterPortsWereOnlyTaken: a start that was killed before there was a bridge has silenced
// the ports already. In the host's namespace nothing else tells of it.
func TestDownAfterPortsWereOnlyTaken(t *testing.T) {
	testnet.RequireNet(t)
	lab := testnet.New(t)
	layout := layoutIn(lab)
	layout.Namespace = ""
	before := run(t, lab.Box, "sysctl", "-a", "--pattern", "net.*conf.(pa|pb)")
	line := openLine(t, lab, layout)
	if _, _, err := line.TakePorts(); err != nil {
		t.Fatal(err)
	}
	if err := openLine(t, lab, layout).Down(); err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		if out := run(t, lab.Box, "ip", "-details", "-oneline", "link", "show", port); strings.Contains(out, "NOARP") || strings.Contains(out, "promiscuity 1") {
			t.Errorf("port %s was not given back: %s", port, out)
		}
	}
	if after := run(t, lab.Box, "sysctl", "-a", "--pattern", "net.*conf.(pa|pb)"); after != before {
		for line := range strings.Lines(after) {
			if !strings.Contains(before, line) {
				t.Errorf("a setting that it did not have: %s", line)
			}
		}
	}
}

// TestDownWithFallbackTunnels: where tunnel modules are loaded, the kernel puts their fallback
// interfaces into each new namespace, and nobody can delete them.
func TestDownWithFallbackTunnels(t *testing.T) {
	testnet.RequireNet(t)
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	bringUp(t, line)
	err := line.Do(func() error {
		run(t, here{}, "ip", "link", "add", "tunl0", "type", "veth", "peer", "name", "sit0")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := line.Down(); err != nil {
		t.Error(err)
	}
}

// here is the place of the calling thread.
type here struct{}

func (here) String() string          { return "here" }
func (here) Do(f func() error) error { return f() }
