package testnet

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// PinDir returns a directory for pins of the test's own, on a BPF file system of its own, which goes with the test.
func PinDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("penstock-test", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the BPF file system: %v", err)
		}
	})
	return filepath.Join(dir, "penstock")
}
