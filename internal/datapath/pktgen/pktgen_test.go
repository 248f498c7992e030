package pktgen

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// inPort runs f where the port is, with its index there.
func inPort(t *testing.T, at testnet.Place, name string, f func(index int) error) {
	t.Helper()
	err := at.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		return f(link.Attrs().Index)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// templates are n frames that differ in their last byte.
func templates(n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = bytes.Repeat([]byte{0xab}, FrameLength)
		binary.BigEndian.PutUint16(list[i][12:], 0x88b5)
		list[i][FrameLength-1] = byte(i)
	}
	return list
}

func TestEveryFrameIsRedirectedAndCounted(t *testing.T) {
	lab := testnet.New(t)
	var wire *Wire
	var counter *Counter
	var generator *Generator
	var a int
	inPort(t, lab.Box, testnet.PortA, func(index int) error { a = index; return nil })
	inPort(t, lab.Box, testnet.PortB, func(index int) (err error) { wire, err = NewWire(a, index); return err })
	inPort(t, lab.Cell, testnet.HostInterface, func(index int) (err error) { counter, err = NewCounter(index); return err })
	inPort(t, lab.Plant, testnet.HostInterface, func(index int) (err error) {
		generator, err = NewGenerator(index, Traffic{Templates: templates(3), Flows: 300, PortOffset: 34})
		return err
	})
	t.Cleanup(func() {
		for _, close := range []func() error{generator.Close, counter.Close, wire.Close, wire.Close} {
			if err := close(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := testnet.WaitCarrier(lab.Cell, testnet.HostInterface, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	const frames = 10_000
	var each time.Duration
	if err := lab.Plant.Do(func() (err error) { each, err = generator.Send(frames); return err }); err != nil {
		t.Fatal(err)
	}
	if each <= 0 {
		t.Errorf("a frame took %v", each)
	}
	sent, err := generator.Sent()
	if err != nil || sent < frames {
		t.Fatalf("sent %d frames of %d: %v", sent, frames, err)
	}
	received, err := counter.Received()
	if err != nil || received != sent {
		t.Errorf("received %d frames of %d: %v", received, sent, err)
	}
}

func TestFlowsAreSentEvenly(t *testing.T) {
	lab := testnet.New(t)
	const kinds, flows, firstPort = 3, 30, 1000
	var generator *Generator
	var a int
	inPort(t, lab.Box, testnet.PortA, func(index int) error { a = index; return nil })
	inPort(t, lab.Box, testnet.PortB, func(index int) error {
		pass, err := NewPass(a, index)
		if err == nil {
			t.Cleanup(func() { pass.Close() })
		}
		return err
	})
	inPort(t, lab.Plant, testnet.HostInterface, func(index int) (err error) {
		generator, err = NewGenerator(index, Traffic{Templates: templates(kinds), Flows: flows, PortOffset: 34, FirstPort: firstPort})
		return err
	})
	t.Cleanup(func() { generator.Close() })
	tap, err := lab.Tap(lab.Box, testnet.PortB)
	if err != nil {
		t.Fatal(err)
	}
	if err := testnet.WaitCarrier(lab.Box, testnet.PortB, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := lab.Plant.Do(func() error { _, err := generator.Send(flows); return err }); err != nil {
		t.Fatal(err)
	}
	seen := map[[2]int]int{}
	err = testnet.WaitFor("the frames", 5*time.Second, func() (bool, error) { return len(tap.Frames()) >= flows, nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tap.Frames()[:flows] {
		if len(f.Data) != FrameLength {
			t.Fatalf("a frame of %d bytes", len(f.Data))
		}
		seen[[2]int{int(f.Data[FrameLength-1]), int(binary.BigEndian.Uint16(f.Data[34:])) - firstPort}]++
	}
	for kind := range kinds {
		for port := range flows / kinds {
			if n := seen[[2]int{kind, port}]; n != 1 {
				t.Errorf("template %d with port %d was sent %d times", kind, port, n)
			}
		}
	}
}

func TestTrafficIsChecked(t *testing.T) {
	for name, traffic := range map[string]Traffic{
		"no template":             {Flows: 1},
		"fewer flows":             {Templates: templates(2), Flows: 1},
		"port beyond the frame":   {Templates: templates(1), Flows: 1, PortOffset: FrameLength - 1},
		"port before the frame":   {Templates: templates(1), Flows: 1, PortOffset: -1},
		"more flows than numbers": {Templates: templates(1), Flows: 70000},
	} {
		t.Run(name, func(t *testing.T) {
			if g, err := NewGenerator(1, traffic); err == nil {
				g.Close()
				t.Error("no error")
			}
		})
	}
}

func TestStrideMeetsEveryFlow(t *testing.T) {
	for _, n := range []int{1, 2, 7919, 1000, 2 * 7919, 100000} {
		seen := make([]bool, n)
		at := 0
		for range n {
			if seen[at] {
				t.Fatalf("%d flows: flow %d comes twice", n, at)
			}
			seen[at] = true
			at = (at + stride(n)) % n
		}
	}
}
