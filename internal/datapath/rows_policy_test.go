package datapath

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// rowsPolicy is a policy as a person writes it: DEFAULTS, CONDUIT and VLAN stand for what a
// sheet of rows changes.
const rowsPolicy = `
api_version: penstock/v1
site: rows
mode: enforce
appliances:
  - {name: gate, sides: {a: [cell, line], b: [plant, office, line]}}
defaults: {DEFAULTS}
zones:
  - {name: plant, sl_target: 2, purdue_level: 2}
  - {name: cell, sl_target: 2, purdue_level: 1}
  - {name: office, sl_target: 1, purdue_level: 4}
  - {name: line, sl_target: 1, purdue_level: 1}
identities:
  - {name: hmi, zone: plant, mac: "02:00:00:00:00:20", ip: [198.18.0.20, "2001:2::20"], vlan: VLAN}
  - {name: scada, zone: plant, mac: "02:00:00:00:00:21", ip: [198.18.0.21, "2001:2::21"]}
  - {name: dhcp, zone: plant, mac: "02:00:00:00:00:02", ip: [198.18.0.2]}
  - {name: router, zone: plant, role: router, mac: "02:00:00:00:00:01", ip: [198.18.0.1, "2001:2::1"]}
  - {name: historian, zone: office, via: router, ip: [198.18.64.0/18]}
  - {name: jump, zone: office, via: router, ip: [198.18.64.7]}
  - {name: plc, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10, "2001:2::10"], vlan: VLAN}
  - {name: rtu, zone: cell, mac: "02:00:00:00:00:11", ip: [198.18.0.11, "2001:2::11"]}
  - {name: drive, zone: cell, mac: "02:00:00:00:00:13"}
  - {name: press, zone: line, side: a, mac: "02:00:00:00:00:12", ip: [198.18.0.30, "2001:2::30"]}
  - {name: feeder, zone: line, side: b, mac: "02:00:00:00:00:23", ip: [198.18.0.31, "2001:2::31"]}
conduits:
  - {name: modbus, from: [hmi], to: [plc], protocol: modbus, rules: [{functions: [read]}]CONDUIT}
  - {name: strict, from: [scada], to: [rtu], protocol: modbus, on_outage: closed, rules: [{functions: [read]}]}
  - {name: opc, from: [hmi], to: [plc], protocol: tcp, ports: [102, 1000-2000]}
  - {name: dns, from: [hmi], to: [plc], protocol: udp, ports: [53]}
  - {name: ping, from: [hmi], to: [plc], protocol: icmp, types: [8, 128]}
  - {name: any-udp, from: [hmi], to: [rtu], protocol: udp}
  - {name: any-tcp, from: [hmi], to: [rtu], protocol: tcp}
  - {name: both-ways, from: [rtu], to: [hmi], protocol: tcp, ports: [8080]}
  - {name: vxlan, from: [scada], to: [rtu], protocol: udp, ports: [4789]}
  - {name: pull, from: [historian], to: ["zone:cell"], protocol: tcp, ports: [4840]}
  - {name: remote, from: [jump], to: [plc], protocol: tcp, ports: [22]}
  - name: fieldbus
    from: [scada]
    to: [drive, "group:goose", "group:01:0c:cd:04:00:01"]
    protocol: ethertype
    ethertypes: [0x8892, 0x88b8, 0x88ba, 0x88a4, 0x88ab, 0x88cd, 0x892f, 0x88fb, 0x88f7, 0x88cc, 0x88e3, 0x80e1, 0x88e5, 0x888e]
  - {name: watched, from: [scada], to: [plc], protocol: modbus, mode: observe, rules: [{functions: [read]}]}
  - {name: watched-too, from: [scada], to: [plc], protocol: tcp, ports: [102], mode: observe}
  - {name: upload, from: [plc], to: [scada], protocol: tcp, ports: [8081], limit: {frames: 1/s, burst: 1s}}
  - {name: cyclic, from: [rtu], to: ["group:239.192.0.0/14"], protocol: udp, ports: [2222]}
  - {name: nodes, from: [hmi], to: ["group:ff02::1:2"], protocol: udp, ports: [547]}
  - {name: boot, from: ["zone:cell"], to: [broadcast], protocol: udp, ports: [67]}
  - {name: sntp, from: [router], to: [rtu], protocol: udp, ports: [123]}
  - {name: all-but-sntp, from: [router], to: [rtu], protocol: udp}
  - {name: watched-pieces, from: [press], to: [scada], protocol: udp, ports: [9], mode: observe}
  - {name: drives, from: [drive], to: [hmi], protocol: tcp}
  - {name: drives-datagrams, from: [drive], to: [hmi], protocol: udp}
  - {name: offers, from: [dhcp], to: ["zone:cell", broadcast], protocol: udp, ports: [68]}
`

// rowsZoneWide has identities of one zone speak as they like.
const rowsZoneWide = "on_outage: open, intra_zone: permit"

const rowsDefaults = "on_outage: open, unknown_identity: deny, intra_zone: deny, arp: guard, link_local: permit"

// sheet is rows under one variant of the policy, and with the fast path brought into some state.
type sheet struct {
	name    string
	replace []string // pairs for the policy's text
	prepare func(*Datapath)
	rows    []row
}

func (s sheet) plan(t *testing.T) *policy.Plan {
	t.Helper()
	pairs := append(append([]string{}, s.replace...), "DEFAULTS", rowsDefaults, "CONDUIT", "", "VLAN", "[untagged, 10, 20]")
	p, err := policy.Parse("rows.yaml", []byte(strings.NewReplacer(pairs...).Replace(rowsPolicy)))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestVerdictSheets holds the fast path's answer to single frames under a policy in YAML.
func TestVerdictSheets(t *testing.T) {
	d := open(t, nil)
	for i, s := range sheets() {
		t.Run(s.name, func(t *testing.T) {
			if _, err := d.Apply(s.plan(t), uint64(i+1)); err != nil {
				t.Fatal(err)
			}
			d.control.setAdoptUntil(monotonic() + uint64(time.Hour))
			d.Beat(QueueCloses)
			d.Beat(QueueOpens)
			if s.prepare != nil {
				s.prepare(d)
			}
			for _, r := range s.rows {
				t.Run(r.name, func(t *testing.T) { d.meets(t, r) })
			}
		})
	}
}

// meets sends a row's frames and holds the last one's verdict, reason and bytes to the row.
func (d *Datapath) meets(t *testing.T, r row) {
	t.Helper()
	d.emptyFlows(t)
	for _, s := range r.before {
		if s.wait != 0 {
			d.seenEarlier(t, s.wait)
			continue
		}
		d.run(t, s.side, s.frame.bytes())
	}
	before := d.reasons(t)
	in := r.frame.bytes()
	got, out := d.run(t, r.side, in)
	counted := moved(before, d.reasons(t))
	if got != r.want {
		t.Errorf("the program returned %d, want %d (reasons that moved: %v)", got, r.want, counted)
	}
	if got != xdpDrop && !bytes.Equal(in, out) {
		t.Errorf("the frame changed:\n in %x\nout %x", in, out)
	}
	want := map[verdict.Reason]uint64{}
	if r.reason != 0 {
		want[r.reason] = 1
	}
	if len(counted) != len(want) || counted[r.reason] != want[r.reason] {
		t.Errorf("told as %v, want %v", counted, r.reason)
	}
}

// after is no frame: every flow's last one was so long ago.
func after(d time.Duration) sent { return sent{wait: d} }

// seenEarlier moves the time that every flow was last seen into the past.
func (d *Datapath) seenEarlier(t *testing.T, by time.Duration) {
	t.Helper()
	d.changeFlows(t, func(e *entry) { e.flow.Seen -= uint32(by >> seenShift) })
}

// More devices of the sheets.
var (
	macSCADA  = [6]byte{2, 0, 0, 0, 0, 0x21}
	macDHCP   = [6]byte{2, 0, 0, 0, 0, 0x02}
	macDrive  = [6]byte{2, 0, 0, 0, 0, 0x13}
	macPress  = [6]byte{2, 0, 0, 0, 0, 0x12}
	macFeeder = [6]byte{2, 0, 0, 0, 0, 0x23}
	ipSCADA   = netip4(198, 18, 0, 21)
	ipDHCP    = netip4(198, 18, 0, 2)
	ipPress   = netip4(198, 18, 0, 30)
	ipFeeder  = netip4(198, 18, 0, 31)
	ipJump    = netip4(198, 18, 64, 7)
	ipNone    = netip4(0, 0, 0, 0)
	ipAll     = netip4(255, 255, 255, 255)
	ip6HMI    = netip.MustParseAddr("2001:2::20")
	ip6SCADA  = netip.MustParseAddr("2001:2::21")
	ip6PLC    = netip.MustParseAddr("2001:2::10")
	ip6All    = netip.MustParseAddr("ff02::1")
	ip6RTU    = netip.MustParseAddr("2001:2::11")
)

// hmi6 is an IPv6 packet of hmi to plc.
func hmi6(protocol uint8, body []byte) packet {
	return ether(macHMI, macPLC, ipPacket(ip6HMI, ip6PLC, protocol, 0, body))
}

// hmi4 is an IPv4 packet of hmi to plc.
func hmi4(protocol uint8, fragment uint16, body []byte) packet {
	return ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, protocol, fragment, body))
}

// rtu4 is an IPv4 packet of hmi to rtu.
func rtu4(protocol uint8, fragment uint16, body []byte) packet {
	return ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, protocol, fragment, body))
}

// extended puts extension headers, outermost first, into an IPv6 packet.
func extended(p packet, kinds ...byte) packet {
	for i := len(kinds) - 1; i >= 0; i-- {
		p.body = withExtension(p.body, kinds[i])
	}
	return p
}

// optioned puts options into an IPv4 packet.
func optioned(p packet, options ...byte) packet {
	p.body = withOptions(p.body, options)
	return p
}

// edited changes one byte of what stands behind the Ethernet header.
func edited(p packet, at int, to byte) packet {
	p.body = append([]byte{}, p.body...)
	p.body[at] = to
	return p
}

// trailed puts bytes behind the packet.
func trailed(p packet, tail ...byte) packet {
	p.body = append(append([]byte{}, p.body...), tail...)
	return p
}

// bpdu is a frame of the bridges' own LLC, as spanning tree and GVRP are.
func bpdu(dst [6]byte) packet {
	return packet{src: macOdd, dst: dst, ethertype: 38, body: append([]byte{0x42, 0x42, 3}, make([]byte, 43)...)}
}

// snap is a frame whose LLC carries an EtherType after all, here of IP.
func snap(src, dst [6]byte, oui ...byte) packet {
	body := append(append([]byte{0xaa, 0xaa, 3}, oui...), 8, 0)
	return packet{src: src, dst: dst, ethertype: 46, body: append(body, make([]byte, 38)...)}
}

// scadaPLC is a packet under two conduits that are observed by themselves.
func scadaPLC(protocol uint8, fragment uint16, body []byte) packet {
	return ether(macSCADA, macPLC, ipPacket(ipSCADA, ipPLC, protocol, fragment, body))
}

// raw is a frame of some EtherType with a body of n bytes, padded by nobody.
func raw(src, dst [6]byte, etherType uint16, n int) packet {
	p := packet{src: src, dst: dst, ethertype: etherType, body: make([]byte, n), short: true}
	for i := range p.body {
		p.body[i] = byte(i + 1)
	}
	return p
}
