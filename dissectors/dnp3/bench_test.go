package dnp3_test

import (
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

func TestNoAllocations(t *testing.T) {
	storage := make([]byte, 0, dnp3.MaxMessage)
	var editor dnp3.Editor
	for _, set := range []struct {
		response bool
		golden   []golden
	}{{false, goldenRequests}, {true, goldenResponses}} {
		for _, g := range set.golden {
			b := dnp3.AppendFrame(nil, 0xc4, 10, 1, append([]byte{0xc0}, message(t, g.wire)...))
			var f dnp3.Frame
			var m dnp3.Message
			if n := testing.AllocsPerRun(100, func() {
				for size := range len(b) + 1 {
					_, _ = dnp3.ParseFrame(b[:size], &f)
					if data := f.AppendData(storage); len(data) > 1 {
						_ = dnp3.ParseMessage(data[1:], size == len(b), set.response, &m)
						use(&m)
					}
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations", g.name, n)
			}
			if n := testing.AllocsPerRun(100, func() { editor.Neutralise(b, true) }); n != 0 {
				t.Errorf("%s: %v allocations to neutralise", g.name, n)
			}
		}
	}
	for _, row := range badMessages {
		b := message(t, row.wire)
		var m dnp3.Message
		if n := testing.AllocsPerRun(100, func() { _ = dnp3.ParseMessage(b, true, row.response, &m) }); n != 0 {
			t.Errorf("%s: %v allocations", row.name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, row := range []struct {
		name, wire string
		response   bool
	}{
		{"read_classes", "c0 01 3c0206 3c0306 3c0406 3c0106", false},
		{"direct_operate", "c5 05 0c01 17 01 03 03 01 64000000 00000000 00", false},
		{"response_of_40_analogs", "c0 81 0000 1e01 00 00 27 01.200", true},
	} {
		b.Run(row.name, func(b *testing.B) {
			wire := dnp3.AppendFrame(nil, 0xc4, 10, 1, append([]byte{0xc0}, message(b, row.wire)...))
			storage := make([]byte, 0, dnp3.MaxMessage)
			var f dnp3.Frame
			var m dnp3.Message
			b.ReportAllocs()
			for b.Loop() {
				if _, err := dnp3.ParseFrame(wire, &f); err != nil {
					b.Fatal(err)
				}
				if err := dnp3.ParseMessage(f.AppendData(storage)[1:], true, row.response, &m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
