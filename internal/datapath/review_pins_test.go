package datapath

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestOpenWithSomePinsMissing: a removal was cut off. Whatever it left, the next start begins anew,
// and the fast path has its slots, each of them once.
func TestOpenWithSomePinsMissing(t *testing.T) {
	require(t)
	for _, gone := range []string{"control", "free_slots", "slots", "flows", "macs"} {
		t.Run(gone, func(t *testing.T) {
			config := Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour}
			first := openWith(t, plan(), config)
			for port := range uint16(4) {
				if got, _ := first.run(t, policy.SideB, hmiTCP(40000+port, 502, flagSYN).bytes()); got != xdpPass {
					t.Fatalf("the program returned %d", got)
				}
			}
			if err := os.Remove(filepath.Join(layoutDir(config.PinDir, LayoutVersion), gone)); err != nil {
				t.Fatal(err)
			}
			d := openWith(t, plan(), config)
			if d.Adopted() {
				t.Error("what is left was adopted")
			}
			for port := range uint16(8) {
				if got, _ := d.run(t, policy.SideB, hmiTCP(40000+port, 502, flagSYN).bytes()); got != xdpPass {
					t.Errorf("flow %d: the program returned %d", port, got)
				}
			}
			d.noSlotTwice(t)
		})
	}
}

// TestOpenThatFailsLeavesNoPins: not even a directory.
func TestOpenThatFailsLeavesNoPins(t *testing.T) {
	require(t)
	config := Config{PinDir: testnet.PinDir(t), Flows: 1 << 31}
	if d, err := Open(config); err == nil {
		d.Close()
		t.Fatal("a table of such a size was made")
	}
	if _, err := os.Lstat(config.PinDir); !os.IsNotExist(err) {
		t.Errorf("the pin directory is left: %v", err)
	}
}
