package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// program tells what one frame and one message cost by themselves: the entry program in the
// kernel by BPF_PROG_TEST_RUN, the parser and the policy in Go.
func (b *bench) program() error {
	s := b.report.section("One frame, one message", "Medians of the rounds.", "what", "ns", "bytes allocated")
	if err := b.frames(s); err != nil {
		return err
	}
	return b.messages(s)
}

// frames runs the entry program's own benchmark.
func (b *bench) frames(s *section) error {
	const name = "BenchmarkFrame"
	cmd := exec.CommandContext(b.ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchtime", "300000x",
		"-count", strconv.Itoa(b.rounds), "github.com/penstock-ot/penstock/internal/datapath")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w\n%s", name, err, text)
	}
	times := map[string][]float64{}
	var order []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		label, ns, ok := benchmarkLine(lines.Text(), name)
		if !ok {
			continue
		}
		if times[label] == nil {
			order = append(order, label)
		}
		times[label] = append(times[label], ns)
	}
	if len(order) == 0 {
		return fmt.Errorf("run %s: it told no times:\n%s", name, text)
	}
	for _, label := range order {
		s.row("XDP program: "+label, fmt.Sprintf("%.0f", median(times[label])), "")
	}
	return nil
}

// benchmarkLine reads a line as go test writes it: name/label-cores, count, ns, "ns/op", ….
func benchmarkLine(line, name string) (label string, ns float64, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[3] != "ns/op" {
		return "", 0, false
	}
	label, found := strings.CutPrefix(fields[0], name+"/")
	if !found {
		return "", 0, false
	}
	if at := strings.LastIndexByte(label, '-'); at > 0 {
		label = label[:at]
	}
	ns, err := strconv.ParseFloat(fields[2], 64)
	return strings.ReplaceAll(label, "_", " "), ns, err == nil
}

// messages measures a Modbus request of 12 bytes, and what gopacket's layer takes to decode the header of
// the same one; that leaves the PDU as it is.
func (b *bench) messages(s *section) error {
	p, err := policy.Parse("trips.yaml", []byte(tripPolicy))
	if err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	plan, err := p.Compile(plant.Appliance)
	if err != nil {
		return fmt.Errorf("compile the policy: %w", err)
	}
	const inspectedConduit = 1
	var r modbus.Request
	if _, err := modbus.ParseRequest(request[:], &r); err != nil {
		return fmt.Errorf("parse the request: %w", err)
	}
	if v := plan.EvalModbus(inspectedConduit, &r); v.Action != verdict.Inspect && !v.Allows() {
		return fmt.Errorf("evaluate the request: it is refused: %v", v)
	}
	var parse, both, peer []float64
	var allocated, peerAllocated int64
	var layer layers.ModbusTCP
	for range b.rounds {
		one := testing.Benchmark(func(t *testing.B) {
			t.ReportAllocs()
			for t.Loop() {
				_, _ = modbus.ParseRequest(request[:], &r)
			}
		})
		two := testing.Benchmark(func(t *testing.B) {
			t.ReportAllocs()
			for t.Loop() {
				_, _ = modbus.ParseRequest(request[:], &r)
				_ = plan.EvalModbus(inspectedConduit, &r)
			}
		})
		three := testing.Benchmark(func(t *testing.B) {
			t.ReportAllocs()
			for t.Loop() {
				_ = layer.DecodeFromBytes(request[:], gopacket.NilDecodeFeedback)
			}
		})
		peer = append(peer, float64(three.T.Nanoseconds())/float64(three.N))
		peerAllocated = max(peerAllocated, three.AllocedBytesPerOp())
		parse = append(parse, float64(one.T.Nanoseconds())/float64(one.N))
		both = append(both, float64(two.T.Nanoseconds())/float64(two.N))
		allocated = max(allocated, one.AllocedBytesPerOp(), two.AllocedBytesPerOp())
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	s.row("Modbus request of 12 bytes: parse", fmt.Sprintf("%.1f", median(parse)), strconv.FormatInt(allocated, 10))
	s.row("… parse and evaluate", fmt.Sprintf("%.1f", median(both)), strconv.FormatInt(allocated, 10))
	s.row("… header alone, gopacket's ModbusTCP layer", fmt.Sprintf("%.1f", median(peer)), strconv.FormatInt(peerAllocated, 10))
	b.report.bar("Modbus request of 12 bytes, ns to parse", median(parse), atMost(25))
	b.report.bar("… ns to parse and evaluate", median(both), atMost(200))
	b.report.bar("… bytes allocated", float64(allocated), atMost(0))
	return nil
}
