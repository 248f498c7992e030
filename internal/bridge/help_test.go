package bridge_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/testnet"
)

const bridgeName = "penstock0"

// layoutIn is a lab's line, in a namespace of its own that the lab removes.
func layoutIn(lab *testnet.Lab) bridge.Layout {
	return bridge.Layout{
		PortA: testnet.PortA, PortB: testnet.PortB,
		Bridge: bridgeName, Namespace: lab.ReserveName("line"),
	}
}

// openLine opens a line as a process inside the lab's box would.
func openLine(t *testing.T, lab *testnet.Lab, layout bridge.Layout) *bridge.Line {
	t.Helper()
	line, err := tryOpen(lab, layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	return line
}

func tryOpen(lab *testnet.Lab, layout bridge.Layout) (line *bridge.Line, err error) {
	err = lab.Box.Do(func() error {
		line, err = bridge.Open(layout)
		return err
	})
	return line, err
}

// bringUp takes every step and returns one Undo for all.
func bringUp(t *testing.T, line *bridge.Line) bridge.Undo {
	t.Helper()
	var undos []bridge.Undo
	steps := []func() (bridge.Undo, error){
		func() (bridge.Undo, error) { _, undo, err := line.TakePorts(); return undo, err },
		line.MakeBridge,
		line.AddRule,
		func() (bridge.Undo, error) { _, undo, err := line.RaisePorts(); return undo, err },
	}
	for _, step := range steps {
		undo, err := step()
		if err != nil {
			t.Fatal(err)
		}
		undos = append(undos, undo)
	}
	return func() error {
		for i := len(undos) - 1; i >= 0; i-- {
			if err := undos[i](); err != nil {
				return err
			}
		}
		return nil
	}
}

func wantState(t *testing.T, line *bridge.Line, want bridge.State) {
	t.Helper()
	got, err := line.State()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the line is %v, want %v", got, want)
	}
}

// awaitCarriers waits until both hosts may send.
func awaitCarriers(t *testing.T, lab *testnet.Lab) {
	t.Helper()
	for _, h := range []*testnet.Host{lab.Cell, lab.Plant} {
		if err := testnet.WaitCarrier(h, testnet.HostInterface, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// tapLine lays a line, brings it up, and opens a tap behind each of its ports.
func tapLine(t *testing.T) (line *bridge.Line, cell, plant *testnet.Tap) {
	t.Helper()
	lab := testnet.New(t)
	line = openLine(t, lab, layoutIn(lab))
	bringUp(t, line)
	awaitCarriers(t, lab)
	return line, openTap(t, lab, lab.Cell, testnet.HostInterface), openTap(t, lab, lab.Plant, testnet.HostInterface)
}

func openTap(t *testing.T, lab *testnet.Lab, p testnet.Place, name string) *testnet.Tap {
	t.Helper()
	tap, err := lab.Tap(p, name)
	if err != nil {
		t.Fatal(err)
	}
	return tap
}

// run runs a program inside a place. Tests check by other programs what the package did.
func run(t *testing.T, p testnet.Place, name string, args ...string) string {
	t.Helper()
	testnet.RequireProgram(t, name)
	// Apart: ip complains of namespaces that others are just making.
	var out, complaints bytes.Buffer
	err := p.Do(func() error {
		cmd := exec.Command(name, args...)
		cmd.Stdout, cmd.Stderr = &out, &complaints
		return cmd.Run()
	})
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &out, &complaints)
	}
	return out.String()
}

// linkJSON is what `ip -details -json link show` says about one interface.
func linkJSON(t *testing.T, p testnet.Place, name string) map[string]any {
	t.Helper()
	var links []map[string]any
	if err := json.Unmarshal([]byte(run(t, p, "ip", "-d", "-j", "link", "show", name)), &links); err != nil {
		t.Fatal(err)
	}
	return links[0]
}

// dig follows keys through nested objects.
func dig(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// frame is an Ethernet II frame padded to the least length.
func frame(dst, src []byte, etherType uint16, body ...byte) []byte {
	f := append(append([]byte{}, dst...), src...)
	f = append(f, byte(etherType>>8), byte(etherType))
	f = append(f, body...)
	if len(f) < 60 {
		f = append(f, bytes.Repeat([]byte{0}, 60-len(f))...)
	}
	return f
}

func mac(last byte) []byte { return []byte{0x02, 0, 0, 0, 0, last} }

// crosses sends a frame into one tap and waits for it, unchanged, at the other.
func crosses(t *testing.T, from, to *testnet.Tap, f []byte) {
	t.Helper()
	if err := from.Send(f); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Await(10*time.Second, func(got []byte) bool { return bytes.Equal(got, f) }); err != nil {
		t.Errorf("frame %x…: %v", f[:16], err)
	}
}

// flow sends numbered frames from one tap to another until it is stopped.
type flow struct {
	sent int
	stop chan struct{}
	done chan error
}

func startFlow(from *testnet.Tap) *flow {
	f := &flow{stop: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-f.stop:
				f.done <- nil
				return
			case <-tick.C:
			}
			if err := from.Send(numbered(f.sent)); err != nil {
				f.done <- err
				return
			}
			f.sent++
		}
	}()
	return f
}

func numbered(n int) []byte {
	return frame(mac(0x20), mac(0x10), 0x88b6, byte(n>>16), byte(n>>8), byte(n))
}

// end stops the flow and checks that every frame arrived, once and in order.
func (f *flow) end(t *testing.T, to *testnet.Tap) {
	t.Helper()
	close(f.stop)
	if err := <-f.done; err != nil {
		t.Fatal(err)
	}
	last := numbered(f.sent - 1)
	if _, err := to.Await(10*time.Second, func(got []byte) bool { return bytes.Equal(got, last) }); err != nil {
		t.Error(err)
	}
	arrived := 0
	for _, got := range to.Frames() {
		if bytes.Equal(got.Data[:14], last[:14]) {
			if !bytes.Equal(got.Data, numbered(arrived)) {
				t.Errorf("frame %d is %x", arrived, got.Data)
				return
			}
			arrived++
		}
	}
	if arrived != f.sent {
		t.Errorf("%d frames arrived of %d", arrived, f.sent)
	}
}

// echoRequest is an ICMP echo request without payload.
func echoRequest(dst, src []byte, from, to [4]byte) []byte {
	ip := []byte{0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0}
	ip = append(append(ip, from[:]...), to[:]...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	icmp := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	return frame(dst, src, 0x0800, append(ip, icmp...)...)
}

// checksum is that of RFC 1071, over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

// wantCrossing checks that the line carries frames both ways.
func wantCrossing(t *testing.T, lab *testnet.Lab) {
	t.Helper()
	cell := openTap(t, lab, lab.Cell, testnet.HostInterface)
	plant := openTap(t, lab, lab.Plant, testnet.HostInterface)
	crosses(t, cell, plant, frame(mac(0x20), mac(0x10), 0x88b5, 1))
	crosses(t, plant, cell, frame(mac(0x10), mac(0x20), 0x88b5, 2))
}

func containsLine(text, want string) bool {
	for _, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == want {
			return true
		}
	}
	return false
}
