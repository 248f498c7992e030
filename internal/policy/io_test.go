package policy

import (
	"net/netip"
	"testing"

	"github.com/penstock-ot/penstock/internal/verdict"
)

const ioText = `
api_version: penstock/v1
site: io
mode: enforce
appliances:
  - {name: gate, sides: {a: [cell, line], b: [plant, line]}}
defaults: {intra_zone: permit}
zones:
  - {name: plant, sl_target: 2}
  - {name: cell, sl_target: 2}
  - {name: line, sl_target: 2}
identities:
  - {name: scanner, zone: plant, mac: "02:00:00:00:00:20", ip: [198.18.0.20]}
  - {name: adapter, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10]}
  - {name: press, zone: line, side: a, mac: "02:00:00:00:00:12", ip: [198.18.0.12]}
  - {name: feeder, zone: line, side: b, mac: "02:00:00:00:00:22", ip: [198.18.0.22]}
  - {name: other, zone: plant, mac: "02:00:00:00:00:21", ip: [198.18.0.21]}
conduits:
  - {name: cyclic, from: [scanner], to: [adapter], protocol: enip, rules: [{services: [forward_open], io: {assemblies: [100]}}]}
  - {name: in-line, from: [feeder], to: [press], protocol: enip, rules: [{services: [forward_open], io: {assemblies: [100]}}]}
  - {name: datagrams, from: [other], to: [adapter], protocol: udp, ports: [2222]}
`

func ioPlan(t *testing.T) *Plan {
	t.Helper()
	p, err := Parse("io.yaml", []byte(ioText))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan.Conduits {
		if c := &plan.Conduits[i]; c.Protocol == ProtocolENIP {
			c.Inspect, c.IO = true, true
		}
	}
	return plan
}

// TestDecideIO: a datagram to the port of cyclic I/O has no permission of its own on a conduit of
// EtherNet/IP, in neither direction, not even within one zone.
func TestDecideIO(t *testing.T) {
	plan := ioPlan(t)
	// The last byte of a MAC address shows the same digits as that of the IP address.
	host := func(last byte) (mac [6]byte, ip netip.Addr) {
		return [6]byte{2, 0, 0, 0, 0, last}, netip.AddrFrom4([4]byte{198, 18, 0, last>>4*10 + last&0x0f})
	}
	for _, r := range []struct {
		name     string
		from, to byte
		port     uint16
		fragment bool
		reason   verdict.Reason
		conduit  string
		opens    bool
	}{
		{"output", 0x20, 0x10, 2222, false, verdict.ReasonIONotOpen, "cyclic", true},
		{"input", 0x10, 0x20, 2222, false, verdict.ReasonIONotOpen, "cyclic", false},
		{"within a zone, output", 0x22, 0x12, 2222, false, verdict.ReasonIONotOpen, "in-line", true},
		{"within a zone, input", 0x12, 0x22, 2222, false, verdict.ReasonIONotOpen, "in-line", false},
		{"within a zone, another port", 0x12, 0x22, 2223, false, verdict.ReasonPermitted, "", false},
		{"a fragment", 0x20, 0x10, 2222, true, verdict.ReasonFragment, "", false},
		{"a plain conduit", 0x21, 0x10, 2222, false, verdict.ReasonPermitted, "datagrams", false},
		{"against a plain conduit", 0x10, 0x21, 2222, false, verdict.ReasonNoConduit, "", false},
	} {
		t.Run(r.name, func(t *testing.T) {
			h := &Header{EtherType: etherTypeIPv4, Protocol: 17, SrcPort: 2222, DstPort: r.port, Fragment: r.fragment}
			h.Src, h.SrcIP = host(r.from)
			h.Dst, h.DstIP = host(r.to)
			d := plan.Decide(h)
			if d.Reason != r.reason || plan.Conduits[d.Conduit].Name != r.conduit {
				t.Errorf("decided %v on conduit %q", d.Reason, plan.Conduits[d.Conduit].Name)
			}
			if o, ok := plan.DecideIO(h); ok != r.opens || ok && (o.Conduit != d.Conduit || o.Source != d.Source || o.Destination != d.Destination) {
				t.Errorf("a connection may be opened: %v, by %+v", ok, o)
			}
		})
	}
}

// TestAdviceOnIO: a conduit to a group by which a device may send to the port of cyclic I/O is right, and may
// not be what its owner wants.
func TestAdviceOnIO(t *testing.T) {
	for _, r := range []struct {
		conduit string
		want    int
	}{
		{`{name: group, from: [adapter], to: ["group:cip_io"], protocol: udp, ports: [2222]}`, 1},
		{`{name: group, from: ["zone:cell"], to: ["group:239.192.0.0/24"], protocol: udp}`, 1},
		{`{name: group, from: [scanner], to: ["group:cip_io"], protocol: udp, ports: [2222]}`, 0},
		{`{name: group, from: [adapter], to: ["group:cip_io"], protocol: udp, ports: [2221]}`, 0},
		{`{name: group, from: [adapter], to: ["group:mdns"], protocol: udp, ports: [5353]}`, 0},
	} {
		p, err := Parse("io.yaml", []byte(ioText+"  - "+r.conduit+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Advice(); len(got) != r.want {
			t.Errorf("%s: %q, want %d sentences", r.conduit, got, r.want)
		}
	}
}
