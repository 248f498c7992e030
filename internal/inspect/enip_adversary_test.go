package inspect

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// vocabulary is what the adversary sends: permitted and denied services in every nesting.
func vocabulary(r *rand.Rand, depth int) []byte {
	leaves := [][]byte{
		readSpeed(), setpoint(5), setpoint(1501), otherTag(1), resetIdentity(), readIdentity(),
		ct.Request(0x10, ct.Join(ct.Class(4), ct.Instance(150), ct.Attribute(3)), []byte{1, 2}),
		ct.Request(0x53, ct.Symbol("Line3.Setpoint"), ct.U16(0xc4), ct.U16(1), ct.U32(0), ct.U32(uint32(r.IntN(3000)))),
		ct.Open{Serial: uint16(r.IntN(4)), Class: []byte{0, 1}[r.IntN(2)], Path: ct.Join(ct.Port(1, byte(r.IntN(2))), ct.Router())}.Forward(),
	}
	if depth > 2 || r.IntN(2) == 0 {
		return leaves[r.IntN(len(leaves))]
	}
	if r.IntN(2) == 0 {
		return ct.Unconnected(vocabulary(r, depth+1), ct.Port(1, byte(r.IntN(4)/3)))
	}
	var list [][]byte
	for range 1 + r.IntN(3) {
		list = append(list, vocabulary(r, depth+1))
	}
	return ct.Multiple(list...)
}

// checkArrived holds that each whole message that the device has got is one that the policy permits, or
// one that reads in place of it, by a reader that knows nothing of sessions.
func checkArrived(t *testing.T, plan *policy.Plan, d *target, exceptions bool) {
	t.Helper()
	b := d.got(stream.FromResponder)
	for len(b) >= 24 {
		n := 24 + int(binary.LittleEndian.Uint16(b[2:]))
		if n > len(b) {
			return
		}
		message := b[:n]
		b = b[n:]
		service, known := []byte(nil), false
		switch {
		case message[0] == 0x6f && n > 40:
			service, known = message[40:], true
		case message[0] == 0x70 && n > 46:
			service, known = message[46:], true
		}
		if !known {
			continue
		}
		var check policy.ENIPCheck
		var w cip.Walk
		plan.CheckENIP(&check, 1, nil, d.now)
		w.Start(service, len(service), nil)
		if v := check.EvalMessage(&w); !v.Allows() && !(exceptions && isNeutral(service)) {
			t.Fatalf("the device has got %x, which is %v", message, v.Reason)
		}
	}
}

// isNeutral reports whether the outermost service, or what an Unconnected Send carries, only reads.
func isNeutral(service []byte) bool {
	var w cip.Walk
	w.Start(service, len(service), nil)
	if !w.Next() {
		return false
	}
	if w.Request.Is(cip.UnconnectedSend, cip.ConnectionManager) && !w.Next() {
		return false
	}
	return w.Request.Code == cip.GetAttributesAll
}

// TestInvariant01_NoDeniedServiceArrives sends random messages, some with bytes changed, in random segments.
func TestInvariant01_NoDeniedServiceArrives(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyException} {
		plan := enipPlan(t, onDeny)
		arrived, refused := 0, 0
		for range 1500 {
			d := newTarget(t, plan)
			for range 4 {
				var stream []byte
				for range 1 + r.IntN(3) {
					message := ct.RR(enipHandle, uint64(r.IntN(3)), vocabulary(r, 0))
					if r.IntN(4) == 0 {
						message[r.IntN(len(message))] = byte(r.IntN(256))
					}
					stream = append(stream, message...)
				}
				for len(stream) > 0 && !d.ended {
					n := len(stream)
					if r.IntN(2) == 0 {
						n = 1 + r.IntN(n)
					}
					if !d.client(stream[:n]).Verdict.Allows() {
						refused++
					}
					stream = stream[n:]
				}
				if d.ended {
					break
				}
			}
			checkArrived(t, plan, d, onDeny == policy.DenyException)
			arrived += len(d.got(1)) - 28
		}
		if arrived < 10000 || refused < 100 {
			t.Errorf("%v: %d bytes arrived, %d segments refused: the adversary tries nothing", onDeny, arrived, refused)
		}
	}
}

func FuzzENIPSession(f *testing.F) {
	for _, service := range [][]byte{readSpeed(), ct.Multiple(readSpeed(), otherTag(1)), ct.Unconnected(setpoint(5), ct.Port(1, 0))} {
		f.Add(ct.RR(enipHandle, 7, service), ct.RR(enipHandle, 7, []byte{service[0] | 0x80, 0, 0, 0}), uint8(9), false)
	}
	name := ct.Join(ct.U16(1), ct.U16(12), ct.U16(58), []byte{4, 3}, ct.U16(0x30), ct.U32(7), []byte("\x03abc"))
	f.Add(ct.RR(enipHandle, 7, readIdentity()), ct.RR(enipHandle, 7, append([]byte{0x81, 0, 0, 0}, name...)), uint8(0), false)
	f.Add(ct.Encapsulate(0x63, 0, 7, nil), ct.Encapsulate(0x63, 0, 7, ct.Join(ct.U16(1), ct.Item(0x0c, ct.Join(ct.U16(1), ct.Socket(44818, 198, 18, 0, 10), name)))), uint8(0), false)
	open := toSlot(0, 1)
	f.Add(ct.Join(ct.RR(enipHandle, 7, open.Forward()), ct.RR(enipHandle, 7, ct.Close(1, open.Path))), ct.RR(enipHandle, 7, ct.Opened(open, 0x70001, 0x9001)), uint8(70), false)
	f.Add(ct.RR(enipHandle, 7, ct.Multiple(ct.Close(1, open.Path), open.Forward())), ct.RR(enipHandle, 7, append([]byte{0x8a, 0, 0, 0}, ct.Packet(failedOpen(1), ct.Opened(open, 1, 2))...)), uint8(0), true)
	plans := map[bool]*policy.Plan{false: enipPlan(f, policy.DenyReset), true: enipPlan(f, policy.DenyException)}
	f.Fuzz(func(t *testing.T, request, reply []byte, cut uint8, exceptions bool) {
		if len(request) == 0 || len(request) > 1200 || len(reply) == 0 || len(reply) > 1200 {
			return
		}
		d := newTarget(t, plans[exceptions])
		at := min(int(cut), len(request))
		if at > 0 {
			d.client(request[:at])
		}
		if at < len(request) && !d.ended {
			d.client(request[at:])
		}
		checkArrived(t, plans[exceptions], d, exceptions)
		j := d.device(reply)
		for i := range j.Messages {
			m := &j.Messages[i]
			_, _ = json.Marshal(m.Fields())
			_, _, _ = m.Operation(), m.Detail(), m.Changes()
			_, _ = m.Claim()
		}
	})
}

// TestLinesOfANestedMessage holds what is told of a message: one line for the encapsulation, one for each
// service.
func TestLinesOfANestedMessage(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	d.silent = true
	service := ct.Unconnected(ct.Multiple(readSpeed(), otherTag(1)), ct.Port(1, 0))
	j := d.client(ct.RR(enipHandle, 7, service))
	want := []string{
		`enip send_rr_data envelope `,
		`cip unconnected_send class connection_manager instance 1 route 1/0 {"service":82,"class":6,"instance":1,"route":["1/0"]}`,
		`cip multiple_service_packet class message_router instance 1 by route 1/0 within unconnected_send {"service":10,"class":2,"instance":1,"route":["1/0"],"within":["unconnected_send"]}`,
		`cip read_tag tag Line3.Speed by route 1/0 within unconnected_send, multiple_service_packet {"service":76,"tag":"Line3.Speed","route":["1/0"],"within":["unconnected_send","multiple_service_packet"],"count":1}`,
		`cip write_tag tag Recipe by route 1/0 within unconnected_send, multiple_service_packet {"service":77,"tag":"Recipe","route":["1/0"],"within":["unconnected_send","multiple_service_packet"],"type":196,"count":1,"data":"01000000"}`,
	}
	if len(j.Messages) != len(want) {
		t.Fatalf("%d lines, want %d", len(j.Messages), len(want))
	}
	for i := range j.Messages {
		m := &j.Messages[i]
		got := m.ProtocolName() + " " + m.Operation() + " "
		if m.Envelope {
			got += "envelope "
		} else {
			fields, err := json.Marshal(m.Fields())
			if err != nil {
				t.Fatal(err)
			}
			got += m.Detail() + " " + string(fields)
		}
		if got != want[i] {
			t.Errorf("line %d:\n%s, want\n%s", i, got, want[i])
		}
		if m.Verdict.Allows() || m.Verdict.Reason != verdict.ReasonTagNotPermitted {
			t.Errorf("line %d: %v, which no part of the message is", i, m.Verdict.Reason)
		}
	}

	d = newTarget(t, enipPlan(t, policy.DenyReset))
	d.silent = true
	d.client(ct.RR(enipHandle, 7, ct.Multiple(readSpeed(), setpoint(5))))
	j = d.device(ct.RR(enipHandle, 7, append([]byte{0x8a, 0, 0x1e, 0}, ct.Packet([]byte{0xcc, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0}, []byte{0xcd, 0, 5, 0})...)))
	var got []string
	for i := range j.Messages {
		m := &j.Messages[i]
		fields, _ := json.Marshal(m.Fields())
		got = append(got, m.ProtocolName()+" "+m.Operation()+" "+string(fields))
	}
	if len(got) != 4 || !strings.Contains(got[1], `multiple_service_packet {"service":10,"class":2,"instance":1,"status":30`) ||
		!strings.Contains(got[2], `read_tag {"service":76,"tag":"Line3.Speed","status":0`) ||
		!strings.Contains(got[3], `write_tag {"service":77,"tag":"Line3.Setpoint","status":5`) {
		t.Errorf("lines of the reply:\n%s", strings.Join(got, "\n"))
	}
}

// TestCountsOfANestedMessage: the encapsulation is not counted beside what it carries.
func TestCountsOfANestedMessage(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	counters := d.pipeline.Counters().Conduit("test")
	before := counters.Allowed.Load()
	d.silent = true
	d.rr(ct.Multiple(readSpeed(), readSpeed()))
	if got := counters.Allowed.Load() - before; got != 3 {
		t.Errorf("%d allowed, want the packet and its two services", got)
	}
}

// TestSafetyAndSecurityAreRecognised: the objects of CIP Safety and CIP Security have names, and so do a
// connection's safety segment, the command that begins DTLS, and the item that carries a message over it.
func TestSafetyAndSecurityAreRecognised(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyReset, `{services: [0x4b, get_attribute_single, forward_open], io: {assemblies: [1, 2], safety: true}}`, `{commands: [start_dtls]}`))
	d.silent = true
	lines := func(message []byte) string {
		t.Helper()
		j := d.client(message)
		d.mustAllow("message")
		var list []string
		for i := range j.Messages {
			m := &j.Messages[i]
			fields, err := json.Marshal(m.Fields())
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, m.Operation()+" "+m.Detail()+" "+string(fields))
		}
		return strings.Join(list, "\n")
	}
	get := func(class uint32) []byte {
		return ct.RR(enipHandle, 7, ct.Request(0x0e, ct.Join(ct.Class(class), ct.Instance(1), ct.Attribute(1))))
	}
	safety := ct.Open{Class: 0xff, Size: 10, Path: ct.Join(ct.Class(4), ct.Point(1), ct.Point(2), []byte{0x50, 0})}
	for want, message := range map[string][]byte{
		"class safety_supervisor instance 1": get(0x39), "class safety_validator instance 1": get(0x3a),
		"class cip_security instance 1": get(0x5d), "class ethernet_ip_security instance 1": get(0x5e),
		"class certificate_management instance 1": get(0x5f), `"safety":true`: ct.RR(enipHandle, 7, safety.Forward()),
		"start_dtls": ct.Encapsulate(0xc8, 0, 7, nil),
	} {
		if got := lines(message); !strings.Contains(got, want) {
			t.Errorf("%s is not among:\n%s", want, got)
		}
	}
	d.client(ct.Encapsulate(0x6f, enipHandle, 7, ct.Items(ct.Item(0, nil), ct.Item(0x8003, readSpeed()))))
	d.mustDeny("a message over DTLS outside of it", verdict.ReasonMalformed)
}

func TestEvasion32_UDPIsAnotherThing(t *testing.T) {
	w := newWire(t, enipPlan(t, policy.DenyReset))
	send := func(d stream.Direction, b []byte) verdict.Verdict { return w.datagram(d, string(b)).Verdict }
	list := ct.Encapsulate(0x63, 0, 7, nil)
	if v := send(stream.FromInitiator, list); !v.Allows() {
		t.Errorf("list identity: %v", v.Reason)
	}
	if v := send(stream.FromResponder, ct.Encapsulate(0x63, 0, 8, ct.Join(ct.U16(1), ct.Item(0xc, make([]byte, 34))))); v.Allows() {
		t.Error("a reply to nobody passes")
	}
	if v := send(stream.FromResponder, ct.Encapsulate(0x63, 0, 7, ct.Join(ct.U16(1), ct.Item(0xc, make([]byte, 34))))); !v.Allows() {
		t.Errorf("its reply: %v", v.Reason)
	}
	for name, b := range map[string][]byte{
		"register": ct.Register(0), "service": ct.RR(enipHandle, 7, readSpeed()), "list services": ct.Encapsulate(4, 0, 7, nil),
		"two in a datagram": ct.Join(list, ct.RR(enipHandle, 7, readSpeed())), "half": list[:20],
	} {
		if v := send(stream.FromInitiator, b); v.Allows() {
			t.Errorf("%s passes over UDP", name)
		}
	}
}

// TestDenialBehindMoreThanIsRecorded: a packet holds more services than are recorded, and the denied one among
// the last is told and counted all the same.
func TestDenialBehindMoreThanIsRecorded(t *testing.T) {
	for n := 55; n < 75; n++ {
		d := newTarget(t, enipPlan(t, policy.DenyReset))
		counters := d.pipeline.Counters().Conduit("test")
		before := counters.Denied.Load()
		var list [][]byte
		for range n {
			list = append(list, readSpeed())
		}
		j := d.client(ct.RR(enipHandle, 7, ct.Multiple(append(list, otherTag(1))...)))
		d.mustDeny("packet", verdict.ReasonTagNotPermitted)
		if got := counters.Denied.Load() - before; got != uint64(n+2) {
			t.Errorf("%d services: %d denied, want all and the packet", n+1, got)
		}
		last := &j.Messages[len(j.Messages)-1]
		if last.Operation() != "write_tag" || last.Detail() != "tag Recipe within multiple_service_packet" {
			t.Errorf("%d services: the last line is %s %s", n+1, last.Operation(), last.Detail())
		}
		if len(j.Messages)+j.Unrecorded != n+3 {
			t.Errorf("%d services: %d lines and %d unrecorded", n+1, len(j.Messages), j.Unrecorded)
		}
	}
	// Many small messages, the last of which is malformed.
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	var segment []byte
	for range 40 {
		segment = append(segment, ct.RR(enipHandle, 7, readSpeed())...)
	}
	j := d.client(append(segment, ct.RR(enipHandle+1, 7, readSpeed())...))
	d.mustDeny("segment", verdict.ReasonMalformed)
	if last := &j.Messages[len(j.Messages)-1]; last.Detail() != "session handle is not the session's" {
		t.Errorf("the last line is %s %q", last.Operation(), last.Detail())
	}
}
