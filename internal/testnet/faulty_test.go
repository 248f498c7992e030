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
	if err := cable.WaitCarrier(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	from, err := lab.Tap(lab.Cell, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	to, err := lab.Tap(lab.Plant, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	// The cables beside this one hold 256 frames each, and a busy machine may take long to fetch them: none
	// of what the test counts is lost there if no more than a batch is under way.
	const sent, batch = 2000, 50
	await := func(sent uint64) {
		t.Helper()
		if err := WaitFor("the frames", 10*time.Second, func() (bool, error) {
			carried, lost, duplicated, _ := cable.Counts()
			return carried == sent && to.Count() == int(sent-lost+duplicated), nil
		}); err != nil {
			carried, lost, duplicated, _ := cable.Counts()
			t.Fatalf("%v: of %d frames %d carried, %d lost, %d duplicated, %d arrived", err, sent, carried, lost, duplicated, to.Count())
		}
	}
	header := []byte{0x02, 0, 0, 0, 0, 0x20, 0x02, 0, 0, 0, 0, 0x10, 0x88, 0xb5}
	for i := range sent {
		frame := binary.BigEndian.AppendUint16(bytes.Clone(header), uint16(i))
		if err := from.Send(append(frame, make([]byte, 60)...)); err != nil {
			t.Fatal(err)
		}
		if (i+1)%batch == 0 {
			await(uint64(i + 1))
		}
	}
	_, lost, duplicated, reordered := cable.Counts()
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
