package datapath

import (
	"testing"

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
