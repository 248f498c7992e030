package datapath

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/internal/policy"
)

// BenchmarkFrame is the cost of one frame in the kernel, by BPF_PROG_TEST_RUN: the program
// alone, without the driver and the redirect itself.
func BenchmarkFrame(b *testing.B) {
	for _, c := range []struct {
		name  string
		frame packet
	}{
		{"live flow", hmiTCP(40000, 102, flagACK)},
		{"inspected flow", hmiTCP(40000, 502, flagACK)},
		{"EtherType, no flow", packet{src: macHMI, dst: macPLC, ethertype: 0x8892}},
		{"denied, no conduit", hmiTCP(40000, 80, flagACK)},
		{"denied, unknown source", packet{src: macOdd, dst: macPLC, ethertype: 0x8892}},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := open(b, plan())
			d.run(b, policy.SideB, c.frame.bytes())
			b.ResetTimer()
			options := &ebpf.RunOptions{Data: c.frame.bytes(), Repeat: uint32(max(b.N, 1000))}
			if _, err := d.objects.PortB.Run(options); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkFrameAfterOtherWork is the cost of one frame whose code and data other work has pushed out of a core's
// own caches, as it does between two cyclic frames: the median, and what one in a hundred costs at least.
func BenchmarkFrameAfterOtherWork(b *testing.B) {
	var sequence uint32
	cyclic := func(b *testing.B) *Datapath { return openIOWith(b, ioPlan(b, "closed", "enforce"), ioConnection()) }
	for _, c := range []struct {
		name  string
		open  func(*testing.B) *Datapath
		frame func() []byte
	}{
		{"not decided by anything", cyclic, func() []byte { return []byte(strings.Repeat("\xff", 60)) }},
		{"live flow", func(b *testing.B) *Datapath {
			d := open(b, plan())
			d.run(b, policy.SideB, hmiTCP(40000, 102, flagSYN).bytes())
			return d
		}, hmiTCP(40000, 102, flagACK).bytes},
		{"cyclic I/O", cyclic, func() []byte { sequence++; return output(sequence).bytes() }},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := c.open(b)
			work := make([]byte, 4<<20)
			costs := make([]time.Duration, 0, b.N)
			for b.Loop() {
				for i := 0; i < len(work); i += 64 {
					work[i]++
				}
				_, cost, err := d.objects.PortB.Benchmark(c.frame(), 1, nil)
				if err != nil {
					b.Fatal(err)
				}
				costs = append(costs, cost)
			}
			slices.Sort(costs)
			b.ReportMetric(float64(costs[len(costs)/2]), "ns/median")
			b.ReportMetric(float64(costs[len(costs)*99/100]), "ns/99th")
		})
	}
}
