package modbus_test

import (
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

func TestNoAllocations(t *testing.T) {
	read := modbus.Selector{Function: modbus.ReadHoldingRegisters}
	for _, g := range goldenRequests {
		b := message(t, g.wire)
		var r modbus.Request
		if n := testing.AllocsPerRun(100, func() {
			for size := range len(b) + 1 {
				modbus.ParseRequest(b[:size], &r)
				useRequest(&r)
				read.Excludes(&r)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", g.name, n)
		}
	}
	for _, row := range badRequests {
		b := message(t, row.wire)
		var r modbus.Request
		if n := testing.AllocsPerRun(100, func() { modbus.ParseRequest(b, &r) }); n != 0 {
			t.Errorf("%s: %v allocations", row.name, n)
		}
	}
	for _, g := range goldenResponses {
		b := message(t, g.wire)
		var r modbus.Response
		var q modbus.Request
		if n := testing.AllocsPerRun(100, func() {
			modbus.ParseResponse(b, &r)
			_ = r.Answers(&q)
		}); n != 0 {
			t.Errorf("response %s: %v allocations", g.name, n)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	for _, row := range []struct{ name, wire string }{
		{"read_holding_registers", "0003 0000 0006 ff 03 006b 0003"},
		{"write_single_register", "0006 0000 0006 01 06 0001 0003"},
		{"write_multiple_registers_123", "0010 0000 00fd 01 10 ff85 007b f6 00.246"},
		{"read_file_record_35", "0014 0000 00f8 01 14 f5 06000100000001.35"},
	} {
		b.Run(row.name, func(b *testing.B) {
			wire := message(b, row.wire)
			var r modbus.Request
			b.ReportAllocs()
			for b.Loop() {
				if _, err := modbus.ParseRequest(wire, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseResponse(b *testing.B) {
	wire := message(b, "0003 0000 0009 ff 03 06 022b 0000 0064")
	var r modbus.Response
	b.ReportAllocs()
	for b.Loop() {
		if _, err := modbus.ParseResponse(wire, &r); err != nil {
			b.Fatal(err)
		}
	}
}
