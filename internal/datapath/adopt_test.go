package datapath

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// boxPorts are the lab's two ports, as AttachXDP wants them.
func boxPorts(t *testing.T, lab *testnet.Lab) (a, b Port) {
	t.Helper()
	err := lab.Box.Do(func() error {
		for name, port := range map[string]*Port{testnet.PortA: &a, testnet.PortB: &b} {
			ifi, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			*port = Port{Name: name, Index: ifi.Index}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func attach(t *testing.T, lab *testnet.Lab, d *Datapath) {
	t.Helper()
	a, b := boxPorts(t, lab)
	err := lab.Box.Do(func() error {
		modes, err := d.AttachXDP(a, b)
		if err != nil {
			return err
		}
		if modes != [2]XDPMode{XDPNative, XDPNative} {
			t.Errorf("XDP runs %v on virtual ports, want native", modes)
		}
		return d.AttachGate(a, b)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// standing returns the programs that stand in the pinned links, by the link's name.
func standing(t *testing.T, dir string) map[string][2]uint32 {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, linksDir))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][2]uint32{}
	for _, e := range entries {
		l, err := link.LoadPinnedLink(filepath.Join(dir, linksDir, e.Name()), nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = [2]uint32{uint32(info.ID), uint32(info.Program)}
		l.Close()
	}
	return found
}

// otherLayout pins a map as a build with another layout would have.
func otherLayout(t *testing.T, dir string, version int) string {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "flows", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	at := layoutDir(dir, version)
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Pin(filepath.Join(at, "flows")); err != nil {
		t.Fatal(err)
	}
	return at
}

// TestAdoption ends a daemon and starts the next: policy, flows and slots are there, the programs
// are exchanged in the links that stand, and maps of an older and of a newer layout go after the
// exchange and not before.
func TestAdoption(t *testing.T) {
	require(t)
	lab := testnet.New(t)
	dir := testnet.PinDir(t)
	config := Config{PinDir: dir, HeartbeatTimeout: time.Hour, Flows: 1024}
	first, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Apply(plan(), 7); err != nil {
		t.Fatal(err)
	}
	attach(t, lab, first)
	first.Beat(QueueOpens)
	first.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 1)
	key, generation := first.keyOf(t, 40000), first.Generation()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	before := standing(t, dir)
	if len(before) != 6 {
		t.Fatalf("%d links stand, want XDP, gate and marker on both ports", len(before))
	}

	older, newer := otherLayout(t, dir, LayoutVersion-1), otherLayout(t, dir, LayoutVersion+1)
	second, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if !second.Adopted() || second.Generation() != generation || second.keyOf(t, 40000) != key {
		t.Errorf("the second daemon found generation %d and slot %#x, want %d and %#x", second.Generation(), second.keyOf(t, 40000), generation, key)
	}
	for _, other := range []string{older, newer} {
		if _, err := os.Stat(other); err != nil {
			t.Errorf("another layout's maps went before its programs: %v", err)
		}
	}
	attach(t, lab, second)
	after := standing(t, dir)
	for name, was := range before {
		is := after[name]
		if is[0] != was[0] {
			t.Errorf("%s: link %d became %d: for a moment no program stood there", name, was[0], is[0])
		}
		if is[1] == was[1] {
			t.Errorf("%s: the old program still stands", name)
		}
	}
	for _, other := range []string{older, newer} {
		if _, err := os.Stat(other); !os.IsNotExist(err) {
			t.Errorf("another layout's maps are left in %s", other)
		}
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left", dir)
	}
	if err := Remove(dir); err != nil {
		t.Errorf("a second Remove: %v", err)
	}
}

// TestPortThatCameBack holds that a link whose port is gone does not keep the program from the
// port that has come in its place.
func TestPortThatCameBack(t *testing.T) {
	require(t)
	dir := testnet.PinDir(t)
	config := Config{PinDir: dir, HeartbeatTimeout: time.Hour, Flows: 1024}
	for range 2 {
		t.Run("port", func(t *testing.T) {
			lab := testnet.New(t)
			d, err := Open(config)
			if err != nil {
				t.Fatal(err)
			}
			attach(t, lab, d)
			if len(standing(t, dir)) != 6 {
				t.Error("not every link stands")
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
}
