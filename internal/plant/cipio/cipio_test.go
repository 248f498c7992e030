package cipio

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// pair is an adapter and a station of scanners on one segment, with nothing between them.
func pair(t *testing.T) (*Adapter, *Station) {
	t.Helper()
	testnet.CheckLeaks(t)
	lab := testnet.New(t)
	device, err := lab.Host(policy.SideB, "device", "02:00:00:00:00:31", "198.18.0.31")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*testnet.Host{device, lab.Plant} {
		if err := testnet.WaitCarrier(h, testnet.HostInterface, 15*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	a, err := StartAdapter(device, device.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	s, err := NewStation(lab.Plant, lab.Plant.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return a, s
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if err := testnet.WaitFor(what, 15*time.Second, func() (bool, error) { return condition(), nil }); err != nil {
		t.Fatal(err)
	}
}

// TestConnection holds adapter and scanner to each other: connections of each kind carry frames both
// ways and end by a Forward Close, and by the watchdog of either end.
func TestConnection(t *testing.T) {
	a, s := pair(t)
	c, err := s.Connect(a.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Identity(); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"point to point": {}, "large": {Large: true, Output: 600}, "multicast": {Multicast: true},
	} {
		t.Run(name, func(t *testing.T) {
			before := a.Received().Frames
			io, err := c.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			await(t, "frames both ways", func() bool { return io.Received().Frames > 20 && a.Received().Frames > before+20 })
			if got := io.Received(); got.Lost+got.Old+got.Unequal != 0 || len(got.Delays) != got.Frames {
				t.Errorf("received %+v", got)
			}
			if got := a.Received(); got.Lost+got.Old+got.Unequal != 0 || len(got.Delays) != got.Frames {
				t.Errorf("the adapter received %d, lost %d, old %d, unequal %d", got.Frames, got.Lost, got.Old, got.Unequal)
			}
			if err := io.Close(); err != nil {
				t.Fatal(err)
			}
			if a.Connections() != 0 {
				t.Error("the connection is open after its Forward Close")
			}
			await(t, "silence", io.Expired)
		})
	}
	before := a.Received().Frames
	io, err := c.Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a frame", func() bool { return a.Received().Frames > before && io.Received().Frames > 0 })
	io.Silence()
	await(t, "the adapter's watchdog", func() bool { return a.Connections() == 0 })
	var refused *StatusError
	if err := io.Close(); !errors.As(err, &refused) || refused.General != statusConnectionFailure {
		t.Errorf("closing what is over: %v", err)
	}
}

// TestWatchdog: frames that come after it has run off do not undo that, whoever asks only then.
func TestWatchdog(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	const timeout = 320 * time.Millisecond
	c := &consumer{timeout: timeout, seen: noon}
	for i, row := range []struct {
		came, asked time.Duration
		expired     bool
	}{
		{5 * time.Second, 5*time.Second + timeout, false},
		{5*time.Second + timeout, 5*time.Second + timeout, false},
		{6 * time.Second, 6 * time.Second, true},
		{6*time.Second + time.Millisecond, 6*time.Second + 2*time.Millisecond, true},
	} {
		c.take(noon.Add(row.came), netip.Addr{}, uint32(i), nil, false)
		if got := c.expired(noon.Add(row.asked)); got != row.expired {
			t.Errorf("frame %d: expired %v, want %v", i, got, row.expired)
		}
	}
}

// TestForwardOpen holds the bytes of a Forward Open to those of another scanner.
func TestForwardOpen(t *testing.T) {
	f := &forwardOpen{
		triad:      triad{serial: 0x6ad4, vendor: 0x3333, originator: 0x1337},
		multiplier: 3, transport: 1,
		output: direction{interval: 50 * time.Millisecond, size: 38},
		input:  direction{id: 0x3058092e, interval: 50 * time.Millisecond, size: 34},
		path:   []byte{0x34, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 4, 0x24, 0x97, 0x2c, 0x96, 0x2c, 0x64},
	}
	want := []byte{
		0x54, 2, 0x20, 6, 0x24, 1, 0x0a, 0xf0, 0, 0, 0, 0, 0x2e, 0x09, 0x58, 0x30, 0xd4, 0x6a, 0x33, 0x33, 0x37, 0x13, 0, 0,
		3, 0, 0, 0, 0x50, 0xc3, 0, 0, 0x26, 0x48, 0x50, 0xc3, 0, 0, 0x22, 0x48, 1, 9,
	}
	got := f.request()
	if !bytes.Equal(got[:len(want)], want) || !bytes.Equal(got[len(want):], f.path) {
		t.Errorf("written % x", got)
	}
	read, err := readForwardOpen(got[6:], false)
	if err != nil {
		t.Fatal(err)
	}
	if read.output != f.output || read.input != f.input || read.triad != f.triad || read.multiplier != 3 {
		t.Errorf("read %+v", read)
	}
}

// TestKeepTo holds that a node sends on the core that it was told, and goes on sending.
func TestKeepTo(t *testing.T) {
	a, s := pair(t)
	c, err := s.Connect(a.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io, err := c.Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for core := range 1024 {
		if !may.IsSet(core) {
			continue
		}
		if err := errors.Join(a.KeepTo(core), s.KeepTo(core)); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*node{a.node, s.node} {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(n.thread, &set); err != nil {
				t.Fatal(err)
			}
			if set.Count() != 1 || !set.IsSet(core) {
				t.Errorf("a producer is kept to %v, want core %d", set, core)
			}
		}
		before, sent := io.Received().Frames, io.Sent()
		await(t, "frames both ways", func() bool { return io.Received().Frames > before+10 && io.Sent() > sent+10 })
	}
	if err := s.KeepTo(1023); err == nil {
		t.Error("a station is kept to a core that is not there")
	}
}
