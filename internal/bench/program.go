package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/dissectors/enip"
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

// messages measures a Modbus request of 12 bytes, two DNP3 requests from their first byte on the link, and
// EtherNet/IP messages from their header to the last service.
func (b *bench) messages(s *section) error {
	modbusPlan, err := compiled(tripPolicy)
	if err != nil {
		return err
	}
	dnp3Plan, err := compiled(dnp3Policy)
	if err != nil {
		return err
	}
	enipPlan, err := compiled(enipPolicy)
	if err != nil {
		return err
	}
	var r modbus.Request
	m := newDNP3Reader(dnp3Plan)
	e := &enipReader{plan: enipPlan}
	read, write := ciptest.ReadTag(ciptest.Symbol("Line3.Speed"), 1), ciptest.WriteDINT(ciptest.Symbol("Line3.Setpoint"), 5)
	tag := ciptest.Unit(7, 5, 3, read)
	packet := ciptest.RR(7, 1, ciptest.Unconnected(ciptest.Multiple(read, read, read, write), ciptest.Port(1, 0)))
	poll := dnp3Request(dnp3.Read, 60, 2, 6, 60, 3, 6, 60, 4, 6, 60, 1, 6)
	control := dnp3Request(dnp3.DirectOperate, 12, 1, 0x17, 1, 3, 3, 1, 100, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, k := range []struct {
		what     string
		parse    func() error
		evaluate func() verdict.Verdict // behind parse, or if reads, parsing as it goes
		reads    bool
	}{
		{"Modbus request of 12 bytes", func() error { _, err := modbus.ParseRequest(request[:], &r); return err },
			func() verdict.Verdict { return modbusPlan.EvalModbus(inspectedConduit, &r) }, false},
		{"DNP3 poll of all classes, one frame", func() error { return m.parse(poll) }, m.evaluate, false},
		{"DNP3 control of one point, one frame", func() error { return m.parse(control) }, m.evaluate, false},
		{"CIP read of a tag on a connection", func() error { return e.parse(tag) }, e.evaluate, true},
		{"CIP packet of four in an Unconnected Send", func() error { return e.parse(packet) }, e.evaluate, true},
	} {
		both := func() verdict.Verdict { _ = k.parse(); return k.evaluate() }
		if k.reads {
			both = k.evaluate
		}
		if err := b.message(s, k.what, k.parse, both); err != nil {
			return err
		}
	}
	return b.gopacketHeader(s)
}

// gopacketHeader measures gopacket's layer over the same request, which decodes the header and leaves
// the PDU as it is.
func (b *bench) gopacketHeader(s *section) error {
	var layer layers.ModbusTCP
	if err := layer.DecodeFromBytes(request[:], gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("decode the request with gopacket: %w", err)
	}
	var times []float64
	var allocated int64
	for range b.rounds {
		one := testing.Benchmark(func(t *testing.B) {
			t.ReportAllocs()
			for t.Loop() {
				_ = layer.DecodeFromBytes(request[:], gopacket.NilDecodeFeedback)
			}
		})
		times = append(times, float64(one.T.Nanoseconds())/float64(one.N))
		allocated = max(allocated, one.AllocedBytesPerOp())
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	s.row("Modbus request of 12 bytes: header alone, gopacket's ModbusTCP layer", fmt.Sprintf("%.1f", median(times)), strconv.FormatInt(allocated, 10))
	return nil
}

const inspectedConduit = 1

// compiled compiles one of the bench's policies.
func compiled(text string) (*policy.Plan, error) {
	p, err := policy.Parse("bench.yaml", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	plan, err := p.Compile(plant.Appliance)
	if err != nil {
		return nil, fmt.Errorf("compile the policy: %w", err)
	}
	return plan, nil
}

// message measures how long a request takes to be parsed, and to be parsed and evaluated.
func (b *bench) message(s *section, what string, parse func() error, evaluated func() verdict.Verdict) error {
	if err := parse(); err != nil {
		return fmt.Errorf("parse the %s: %w", what, err)
	}
	if v := evaluated(); !v.Allows() {
		return fmt.Errorf("evaluate the %s: it is refused: %v", what, v)
	}
	var alone, both []float64
	var allocated int64
	for range b.rounds {
		one := testing.Benchmark(func(t *testing.B) {
			t.ReportAllocs()
			for t.Loop() {
				_ = parse()
			}
		})
		two := testing.Benchmark(func(t *testing.B) {
			t.ReportAllocs()
			for t.Loop() {
				_ = evaluated()
			}
		})
		alone = append(alone, float64(one.T.Nanoseconds())/float64(one.N))
		both = append(both, float64(two.T.Nanoseconds())/float64(two.N))
		allocated = max(allocated, one.AllocedBytesPerOp(), two.AllocedBytesPerOp())
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	s.row(what+": parse", fmt.Sprintf("%.1f", median(alone)), strconv.FormatInt(allocated, 10))
	s.row("… parse and evaluate", fmt.Sprintf("%.1f", median(both)), strconv.FormatInt(allocated, 10))
	if strings.HasPrefix(what, "Modbus") {
		b.report.bar(what+", ns to parse", median(alone), atMost(25))
		b.report.bar("… ns to parse and evaluate", median(both), atMost(200))
	}
	b.report.bar(what+", bytes allocated", float64(allocated), atMost(0))
	return nil
}

// dnp3Policy is tripPolicy for an outstation.
var dnp3Policy = strings.Replace(tripPolicy, `    protocol: modbus
    rules:
      - {functions: [read], units: [1]}
      - {functions: [write_single_register, 16], units: [1], addresses: [40-49, 60], values: [0-1500]}
`, `    protocol: dnp3
    rules:
      - {functions: [read, confirm, write], masters: [1], outstations: [10]}
      - {functions: [direct_operate], masters: [1], outstations: [10], objects: [g12v1], points: [0-3], control_codes: [latch_on, latch_off]}
`, 1)

// enipPolicy is tripPolicy for a controller with tags.
var enipPolicy = strings.Replace(tripPolicy, `    protocol: modbus
    rules:
      - {functions: [read], units: [1]}
      - {functions: [write_single_register, 16], units: [1], addresses: [40-49, 60], values: [0-1500]}
`, `    protocol: enip
    rules:
      - {services: [get_attributes_all, get_attribute_single], classes: [identity]}
      - {services: [read_tag, read_tag_fragmented], tags: ["Line3.*"]}
      - {services: [write_tag], tags: [Line3.Setpoint], values: [0-1500]}
      - {services: [unconnected_send], route: ["1/0"]}
`, 1)

// enipReader reads a message from its header to the last service.
type enipReader struct {
	plan    *policy.Plan
	message enip.Message
	walk    cip.Walk
	check   policy.ENIPCheck
	b       []byte
}

func (r *enipReader) parse(b []byte) error {
	r.b = b
	if err := r.start(); err != nil {
		return err
	}
	for r.walk.Next() {
	}
	return r.walk.Err()
}

// start reads the encapsulation, and finds where the services begin.
func (r *enipReader) start() error {
	if _, err := enip.Parse(r.b, enip.Request, &r.message); err != nil {
		return err
	}
	payload := r.message.Payload
	if r.message.Connected {
		payload = payload[2:]
	}
	r.walk.Start(payload, len(payload), nil)
	return nil
}

// evaluate reads and judges: services are judged one by one as they are found.
func (r *enipReader) evaluate() verdict.Verdict {
	_ = r.start()
	r.plan.CheckENIP(&r.check, inspectedConduit, nil, time.Time{})
	return r.check.EvalMessage(&r.walk)
}

// dnp3Reader reads a request from its link frame to the policy.
type dnp3Reader struct {
	plan    *policy.Plan
	frame   dnp3.Frame
	message dnp3.Message
	request policy.DNP3Request
	data    []byte
}

func newDNP3Reader(plan *policy.Plan) *dnp3Reader {
	r := &dnp3Reader{plan: plan, data: make([]byte, 0, dnp3.MaxData)}
	r.request.Message = &r.message
	return r
}

func (r *dnp3Reader) parse(b []byte) error {
	if _, err := dnp3.ParseFrame(b, &r.frame); err != nil {
		return err
	}
	r.request.Master, r.request.Outstation = r.frame.Source, r.frame.Destination
	r.data = r.frame.AppendData(r.data[:0])
	return dnp3.ParseMessage(r.data[1:], true, false, &r.message)
}

func (r *dnp3Reader) evaluate() verdict.Verdict { return r.plan.EvalDNP3(inspectedConduit, &r.request) }

// dnp3Request returns a request in one frame.
func dnp3Request(function dnp3.FunctionCode, objects ...byte) []byte {
	const fromMaster, whole = 0xc4, 0xc0
	return dnp3.AppendFrame(nil, fromMaster, 10, 1, append([]byte{whole, whole, byte(function)}, objects...))
}
