package inspect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// enipRules are those that most tests judge by: what the shared example permits, and routes.
var enipRules = []string{
	`{services: [get_attributes_all, get_attribute_single], classes: [identity, 0x04]}`,
	`{services: [read_tag, read_tag_fragmented], tags: ["Line3.*"]}`,
	`{services: [write_tag, write_tag_fragmented], tags: [Line3.Setpoint], values: [0-1500]}`,
	`{services: [forward_open, large_forward_open, forward_close, unconnected_send], route: ["1/0"], io: {assemblies: [100, 150, 151], max_size: 504, min_rpi: 10ms}}`,
	`{commands: [list_identity]}`,
}

func enipPlan(t testing.TB, onDeny policy.OnDeny, rules ...string) *policy.Plan {
	t.Helper()
	if rules == nil {
		rules = enipRules
	}
	text := strings.Replace(fmt.Sprintf(testPolicy, onDeny, strings.Join(rules, ", ")), "protocol: modbus", "protocol: enip", 1)
	p, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

const enipHandle = 0x11223344

// target is an EtherNet/IP device behind a wire. It executes whatever arrives, and notes it.
type target struct {
	*wire
	read     int
	executed [][]byte // outermost services
	// attributes is what it answers to Get_Attributes_All; nil is an error.
	attributes []byte
	opened     map[uint32]uint32 // identifiers: of its connections, to the other direction's
	next       uint32
	silent     bool
}

// judgesService holds the verdict on an unconnected service, in a session of its own.
func judgesService(t testing.TB, plan *policy.Plan, name string, service []byte, want verdict.Reason) {
	t.Helper()
	d := newTarget(t, plan)
	d.client(ct.RR(enipHandle, 7, service))
	if want == verdict.ReasonPermitted {
		d.mustAllow(name)
		return
	}
	d.mustDeny(name, want)
}

// newTarget returns a device with a registered session.
func newTarget(t testing.TB, plan *policy.Plan) *target {
	t.Helper()
	d := &target{wire: connected(t, plan), opened: map[uint32]uint32{}, next: 0x70000}
	d.client(ct.Register(0))
	d.mustAllow("register session")
	d.work()
	d.mustAllow("reply to register session")
	return d
}

// work answers what has arrived since, each message in a segment of its own.
func (d *target) work() {
	d.t.Helper()
	for {
		b := d.got(stream.FromResponder)[d.read:]
		if len(b) < 24 || len(b) < 24+int(binary.LittleEndian.Uint16(b[2:])) {
			return
		}
		n := 24 + int(binary.LittleEndian.Uint16(b[2:]))
		d.read += n
		if reply := d.answer(b[:n]); reply != nil && !d.silent {
			d.device(reply)
		}
	}
}

func (d *target) answer(b []byte) []byte {
	context := binary.LittleEndian.Uint64(b[12:])
	switch binary.LittleEndian.Uint16(b) {
	case 0x65:
		return ct.Register(enipHandle)
	case 0x63:
		return ct.Encapsulate(0x63, 0, context, ct.Join(ct.U16(1), ct.Item(0x0c, make([]byte, 34))))
	case 0x6f:
		return ct.RR(enipHandle, context, d.execute(b[40:]))
	case 0x70:
		id, sequence := binary.LittleEndian.Uint32(b[36:]), binary.LittleEndian.Uint16(b[44:])
		return ct.Unit(enipHandle, d.opened[id], sequence, d.execute(b[46:]))
	}
	return nil
}

// execute acts on a service, and returns its reply.
func (d *target) execute(service []byte) []byte {
	d.executed = append(d.executed, bytes.Clone(service))
	path := service[2 : 2+2*int(service[1])]
	data := service[2+len(path):]
	manager := bytes.HasPrefix(path, ct.Manager())
	switch code := service[0]; {
	case code == 0x52 && manager:
		return d.execute(data[4 : 4+binary.LittleEndian.Uint16(data[2:])])
	case (code == 0x54 || code == 0x5b) && manager:
		d.next++
		toSource := binary.LittleEndian.Uint32(data[6:])
		d.opened[d.next] = toSource
		o := ct.Open{Serial: binary.LittleEndian.Uint16(data[10:]), Large: code == 0x5b}
		return ct.Opened(o, d.next, toSource)
	case code == 0x01 && d.attributes == nil:
		return []byte{0x81, 0, 0x08, 0}
	case code == 0x01:
		return append([]byte{0x81, 0, 0, 0}, d.attributes...)
	case code == 0x4c, code == 0x52:
		return append([]byte{code | 0x80, 0, 0, 0}, 0xc4, 0, 1, 0, 0, 0)
	case code == 0x0a:
		var replies [][]byte
		count := int(binary.LittleEndian.Uint16(data))
		for i := range count {
			from, to := int(binary.LittleEndian.Uint16(data[2+2*i:])), len(data)
			if i+1 < count {
				to = int(binary.LittleEndian.Uint16(data[4+2*i:]))
			}
			replies = append(replies, d.execute(data[from:to]))
		}
		return append([]byte{0x8a, 0, 0, 0}, ct.Packet(replies...)...)
	default:
		return []byte{code | 0x80, 0, 0, 0}
	}
}

// rr sends a service in SendRRData, and lets the device work.
func (d *target) rr(service []byte, items ...[]byte) Judgement {
	d.t.Helper()
	j := d.client(ct.RR(enipHandle, 7, service, items...))
	verdicts := d.noteMessages(j)
	d.work()
	_ = verdicts
	return j
}

func (d *target) noteMessages(j Judgement) []verdict.Verdict {
	var list []verdict.Verdict
	for i := range j.Messages {
		list = append(list, j.Messages[i].Verdict)
	}
	return list
}

// openExplicit opens a connection for services by the route, and returns its identifier.
func (d *target) openExplicit(serial uint16, route ...[]byte) uint32 {
	d.t.Helper()
	o := ct.Open{Serial: serial, ToSource: 0x9000 + uint32(serial), Path: ct.Join(ct.Join(route...), ct.Router())}
	d.client(ct.RR(enipHandle, 1, o.Forward()))
	d.mustAllow("forward open")
	d.work()
	d.mustAllow("reply to forward open")
	return d.next
}

// ran reports whether the device has executed a service that begins so, at whatever depth.
func (d *target) ran(service []byte) bool {
	for _, s := range d.executed {
		if bytes.HasPrefix(s, service) {
			return true
		}
	}
	return false
}

// Services that the tests' rules permit and deny.
func setpoint(v int32) []byte {
	return ct.WriteDINT(ct.Join(ct.Symbol("Line3"), ct.Symbol("Setpoint")), v)
}
func otherTag(v int32) []byte { return ct.WriteDINT(ct.Symbol("Recipe"), v) }
func readSpeed() []byte       { return ct.ReadTag(ct.Symbol("Line3.Speed"), 1) }
func resetIdentity() []byte   { return ct.Request(0x05, ct.Join(ct.Class(1), ct.Instance(1))) }
func readIdentity() []byte    { return ct.Request(0x01, ct.Join(ct.Class(1), ct.Instance(1))) }
