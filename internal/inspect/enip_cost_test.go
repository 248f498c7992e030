package inspect

import (
	"testing"
	"unsafe"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
)

// tagPoller repeats a read of a tag on a connection, and its reply.
type tagPoller struct {
	poller
	sequence int // where the sequence count is in both
}

func newTagPoller(t testing.TB, service []byte, reply []byte) *tagPoller {
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	id := d.openExplicit(1, ct.Port(1, 0))
	return &tagPoller{sequence: 44, poller: poller{
		wire: d.wire, question: ct.Unit(enipHandle, id, 1, service), answer: ct.Unit(enipHandle, d.opened[id], 1, reply),
		request: Packet{Time: d.now, Key: testKey, From: policy.SideB},
		reply:   Packet{Time: d.now, Key: testKey, From: policy.SideA},
	}}
}

func (p *tagPoller) again() bool {
	p.question[p.sequence]++
	p.answer[p.sequence]++
	return p.poll()
}

func TestJudgingATagDoesNotAllocate(t *testing.T) {
	for name, service := range map[string][]byte{
		"a read": readSpeed(), "a write": setpoint(5), "a packet": ct.Multiple(readSpeed(), readSpeed(), setpoint(7)),
		"a fragment":   ct.Request(0x53, ct.Symbol("Line3.Setpoint"), ct.U16(0xc4), ct.U16(1), ct.U32(0), ct.U32(7)),
		"an attribute": ct.Request(0x0e, ct.Join(ct.Class(4), ct.Instance(100), ct.Attribute(3))),
	} {
		reply := []byte{service[0] | 0x80, 0, 0, 0}
		p := newTagPoller(t, service, reply)
		if n := testing.AllocsPerRun(1000, func() {
			if !p.again() {
				t.Fatalf("%s: denied: %v", name, p.last)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a request and its reply", name, n)
		}
	}
}

// TestJudgingUnconnectedServicesDoesNotAllocate: the same of what is sent unconnected, nested and by a route, of PCCC,
// and of a Forward Close that the device refuses.
func TestJudgingUnconnectedServicesDoesNotAllocate(t *testing.T) {
	rules := append([]string{`{services: [execute_pccc], pccc: {files: ["N7:0-9"]}}`}, enipRules...)
	tag := []byte{0xcc, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0}
	packet := append([]byte{0x8a, 0, 0, 0}, ct.Packet(tag, []byte{0xcd, 0, 0, 0})...)
	for name, r := range map[string]struct{ service, reply []byte }{
		"a read":            {readSpeed(), tag},
		"a packet":          {ct.Multiple(readSpeed(), setpoint(5)), packet},
		"a packet by a way": {ct.Unconnected(ct.Multiple(readSpeed(), setpoint(5)), ct.Port(1, 0)), packet},
		"a list":            {ct.Request(0x01, ct.Join(ct.Class(1), ct.Instance(1))), []byte{0x81, 0, 8, 0}},
		"PCCC":              {pccc(0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 3, 0), []byte{0xcb, 0, 0, 0, 7, 0x4d, 0, 1, 2, 3, 4, 0x4f, 0, 1, 0, 5, 0}},
		"a close":           {ct.Close(1, ct.Router()), []byte{0xce, 0, 1, 1, 7, 1}},
	} {
		d := newTarget(t, enipPlan(t, policy.DenyException, rules...))
		p := &poller{
			wire: d.wire, question: ct.RR(enipHandle, 7, r.service), answer: ct.RR(enipHandle, 7, r.reply),
			request: Packet{Time: d.now, Key: testKey, From: policy.SideB},
			reply:   Packet{Time: d.now, Key: testKey, From: policy.SideA},
		}
		if n := testing.AllocsPerRun(1000, func() {
			if !p.poll() {
				t.Fatalf("%s: denied: %v", name, p.last)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a request and its reply", name, n)
		}
	}
}

// TestAskingForAClaimDoesNotAllocate: every message is asked what it says of its sender, and few say anything.
func TestAskingForAClaimDoesNotAllocate(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	d.silent = true
	for name, service := range map[string][]byte{
		"a read": readSpeed(), "an attribute": ct.Request(0x0e, ct.Join(ct.Class(4), ct.Instance(100), ct.Attribute(3))),
		"all attributes that are an error": readIdentity(),
	} {
		d.rr(service)
		j := d.device(ct.RR(enipHandle, 7, []byte{service[0] | 0x80, 0, 8, 0}))
		d.mustAllow(name)
		if n := testing.AllocsPerRun(1000, func() {
			for i := range j.Messages {
				if _, ok := j.Messages[i].Claim(); ok {
					t.Errorf("%s claims something", name)
				}
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkJudgeTagPoll(b *testing.B) {
	p := newTagPoller(b, readSpeed(), []byte{0xcc, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0})
	b.ReportAllocs()
	for b.Loop() {
		if !p.again() {
			b.Fatal("denied")
		}
	}
}

// TestAConnectionForServicesIsSmall: each session may have maxConnections of them open, and an identity thousands of
// sessions.
func TestAConnectionForServicesIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(enipConnection{}); size > 160 {
		t.Errorf("%d bytes", size)
	}
}
