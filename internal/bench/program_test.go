package main

import (
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

// What is measured of DNP3 is a permitted request, and it allocates nothing.
func TestDNP3RequestsThatAreMeasured(t *testing.T) {
	plan, err := compiled(dnp3Policy)
	if err != nil {
		t.Fatal(err)
	}
	m := newDNP3Reader(plan)
	b := dnp3Request(dnp3.DirectOperate, 12, 1, 0x17, 1, 3, 3, 1, 100, 0, 0, 0, 0, 0, 0, 0, 0)
	if err := m.parse(b); err != nil || !m.evaluate().Allows() {
		t.Fatalf("%v, %v", err, m.evaluate())
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.parse(b), m.evaluate() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if b[len(b)-1]++; m.parse(b) == nil {
		t.Error("a wrong CRC was taken")
	}
}
