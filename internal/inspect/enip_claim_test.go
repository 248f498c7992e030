package inspect

import (
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/policy"
)

// claims returns what is claimed in the lines of a judgement.
func claims(j Judgement) (list []identity.Claim) {
	for i := range j.Messages {
		if c, ok := j.Messages[i].Claim(); ok {
			list = append(list, c)
		}
	}
	return list
}

// TestClaimOfACIPDevice: a device says who it is in its reply to ListIdentity and to reads of its Identity
// object, alone, in a packet and on a connection; what comes by a route is another's.
func TestClaimOfACIPDevice(t *testing.T) {
	data := ct.Join(ct.U16(1), ct.U16(12), ct.U16(58), []byte{4, 3}, ct.U16(0x30), ct.U32(0xab12), []byte("\x0b1756-ENBT/A"))
	all := append([]byte{0x81, 0, 0, 0}, data...)
	want := identity.Claim{
		Protocol: "cip", Vendor: "Rockwell Automation", Type: "communications adapter", Product: "1756-ENBT/A", Revision: "4.003", Serial: "0000ab12",
	}
	item := ct.Join(ct.U16(1), ct.Socket(44818, 198, 18, 0, 10), data, []byte{3})
	listed := ct.Encapsulate(0x63, 0, 7, ct.Join(ct.U16(2), ct.Item(0x99, []byte{1}), ct.Item(0x0c, item)))
	failed := ct.Encapsulate(0x63, 0, 7, nil)
	failed[8] = 1
	rr := func(service []byte) []byte { return ct.RR(enipHandle, 7, service) }
	read := readIdentity()
	attribute := ct.Request(0x0e, ct.Join(ct.Class(1), ct.Instance(1), ct.Attribute(7)))
	connection := func(d *target, service, reply []byte, route ...[]byte) ([]byte, []byte) {
		id := d.openExplicit(4, route...)
		return ct.Unit(enipHandle, id, 1, service), ct.Unit(enipHandle, d.opened[id], 1, reply)
	}
	for _, r := range []struct {
		name string
		of   func(d *target) (request, reply []byte)
		want identity.Claim
	}{
		{"list identity", func(*target) ([]byte, []byte) { return ct.Encapsulate(0x63, 0, 7, nil), listed }, want},
		{"list identity that fails", func(*target) ([]byte, []byte) { return ct.Encapsulate(0x63, 0, 7, nil), failed }, identity.Claim{}},
		{"all attributes", func(*target) ([]byte, []byte) { return rr(read), rr(all) }, want},
		{"one attribute", func(*target) ([]byte, []byte) {
			return rr(attribute), rr(append([]byte{0x8e, 0, 0, 0}, "\x04Pump"...))
		}, identity.Claim{Protocol: "cip", Product: "Pump"}},
		{"in a packet", func(*target) ([]byte, []byte) {
			return rr(ct.Multiple(readSpeed(), read)), rr(append([]byte{0x8a, 0, 0, 0}, ct.Packet([]byte{0xcc, 0, 5, 0}, all)...))
		}, want},
		{"on a connection", func(d *target) ([]byte, []byte) { return connection(d, read, all) }, want},
		{"by a route", func(*target) ([]byte, []byte) { return rr(ct.Unconnected(read, ct.Port(1, 0))), rr(all) }, identity.Claim{}},
		{"on a connection by a route", func(d *target) ([]byte, []byte) { return connection(d, read, all, ct.Port(1, 0)) }, identity.Claim{}},
		{"an error", func(*target) ([]byte, []byte) { return rr(read), rr([]byte{0x81, 0, 8, 0}) }, identity.Claim{}},
		{"another object", func(*target) ([]byte, []byte) {
			return rr(ct.Request(0x01, ct.Join(ct.Class(4), ct.Instance(1)))), rr(all)
		}, identity.Claim{}},
	} {
		d := newTarget(t, enipPlan(t, policy.DenyReset))
		request, reply := r.of(d)
		d.silent = true
		if got := claims(d.client(request)); len(got) != 0 {
			t.Errorf("%s: a request claims %+v", r.name, got)
		}
		d.mustAllow(r.name)
		got := claims(d.device(reply))
		d.mustAllow("reply to " + r.name)
		if r.want == (identity.Claim{}) && len(got) == 0 {
			continue
		}
		if len(got) != 1 || got[0] != r.want {
			t.Errorf("%s: %+v, want %+v", r.name, got, r.want)
		}
	}
}

// TestARefusedReadClaimsNothing: what the device answers in place of a refusal is not told of.
func TestARefusedReadClaimsNothing(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyException, `{services: [read_tag], tags: [X]}`))
	d.silent = true
	d.client(ct.RR(enipHandle, 7, ct.Request(0x0e, ct.Join(ct.Class(1), ct.Instance(1), ct.Attribute(7)))))
	d.mustAllow("refused in place")
	if got := claims(d.device(ct.RR(enipHandle, 7, append([]byte{0x81, 0, 0, 0}, make([]byte, 30)...)))); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
