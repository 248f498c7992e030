package testnet

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
)

// TestFaultyCable sends numbered frames over one: some are missing, some come twice, some late, and
// none changes.
func TestFaultyCable(t *testing.T) {
	lab := New(t)
	faults := Faults{Seed: 7, Loss: 0.1, Duplication: 0.1, Reordering: 0.1, Late: 5 * time.Millisecond}
	cable, err := lab.Spoil(policy.SideA, faults)
	if err != nil {
		t.Fatal(err)
	}
	join(t, lab)
	from, err := lab.Tap(lab.Cell, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	to, err := lab.Tap(lab.Plant, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	const sent = 2000
	header := []byte{0x02, 0, 0, 0, 0, 0x20, 0x02, 0, 0, 0, 0, 0x10, 0x88, 0xb5}
	for i := range sent {
		frame := binary.BigEndian.AppendUint16(bytes.Clone(header), uint16(i))
		if err := from.Send(append(frame, make([]byte, 60)...)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Microsecond)
	}
	carried, lost, duplicated, reordered := cable.Counts()
	arrived := func() int { return len(to.Frames()) }
	if err := WaitFor("the frames", 3*time.Second, func() (bool, error) {
		carried, lost, duplicated, reordered = cable.Counts()
		return carried == sent && arrived() == int(sent-lost+duplicated), nil
	}); err != nil {
		t.Errorf("%v: %d carried, %d lost, %d duplicated, %d arrived", err, carried, lost, duplicated, arrived())
	}
	for what, n := range map[string]uint64{"lost": lost, "duplicated": duplicated, "reordered": reordered} {
		if n < sent/20 || n > sent/5 {
			t.Errorf("%d of %d %s, want about a tenth", n, sent, what)
		}
	}
	seen, overtaken, newest := map[uint16]bool{}, 0, uint16(0)
	for _, f := range to.Frames() {
		if len(f.Data) != len(header)+62 || !bytes.HasPrefix(f.Data, header) {
			t.Fatalf("% x arrived, which nobody sent", f.Data)
		}
		n := binary.BigEndian.Uint16(f.Data[len(header):])
		if n < newest && !seen[n] {
			overtaken++
		}
		seen[n], newest = true, max(newest, n)
	}
	if len(seen) != int(sent-lost) || overtaken == 0 {
		t.Errorf("%d different frames arrived, %d out of order, of %d sent and %d lost", len(seen), overtaken, sent, lost)
	}
}
