package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestAgreesWithPlainEvaluation sends random and mutated frames through the program and holds
// its verdicts to those of policy.Decide, which walks the policy in plain Go and shares nothing
// with the program's tables. PENSTOCK_FRAMES sets how many, PENSTOCK_SEED the seed.
func TestAgreesWithPlainEvaluation(t *testing.T) {
	frames := number("PENSTOCK_FRAMES", 30_000)
	seed := uint64(number("PENSTOCK_SEED", 1))
	reasons := []verdict.Reason{
		verdict.ReasonPermitted, verdict.ReasonNoConduit, verdict.ReasonUnknownSource, verdict.ReasonUnknownDestination,
		verdict.ReasonAddressSpoofed, verdict.ReasonWrongPort, verdict.ReasonFragment, verdict.ReasonEncapsulation,
		verdict.ReasonVLANNotPermitted, verdict.ReasonMalformed, verdict.ReasonSameSide, verdict.ReasonLinkLocal,
		verdict.ReasonIONotOpen,
	}
	for _, row := range []struct {
		name, defaults string
		observed       []string // conduits
		frames         int
		met            []verdict.Reason
	}{
		{"strict", strictDefaults, nil, frames / 2, append(reasons, verdict.ReasonARPSpoofed)},
		{"lax", laxDefaults, nil, frames / 4, append(reasons, verdict.ReasonARPSpoofed)},
		{"partly observed", strictDefaults, []string{"modbus", "opc", "dnp3", "any-udp"}, frames - frames/2 - frames/4, append(reasons, verdict.ReasonARPSpoofed)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Logf("%d frames, seed %d", row.frames, seed)
			plan := agreePlan(t, row.defaults)
			for i := range plan.Conduits {
				if slices.Contains(row.observed, plan.Conduits[i].Name) {
					plan.Conduits[i].Mode = policy.Observe
				}
			}
			seen := agree(t, plan, row.frames, seed)
			t.Logf("reasons: %v", seen.reasons)
			t.Logf("kinds, denied and not: %v", seen.kinds)
			for _, r := range row.met {
				if seen.reasons[r] == 0 {
					t.Errorf("no frame met %v: the generator is blind there", r)
				}
			}
			seen.blind(t)
		})
	}
}

// coverage is what frames met: reasons, and of each kind of frame verdicts.
type coverage struct {
	reasons map[verdict.Reason]int
	kinds   map[string][2]int // denied, not denied
}

func (c *coverage) note(side policy.Side, raw []byte, d *policy.Decision) {
	c.reasons[d.Verdict.Reason]++
	for _, kind := range kindsOf(side, raw) {
		n := c.kinds[kind]
		if d.Verdict.Action == verdict.Deny {
			n[0]++
		} else {
			n[1]++
		}
		c.kinds[kind] = n
	}
}

// blind fails the test for each kind of frame of which all were denied, or none was, where that is not
// what becomes of every such frame.
func (c *coverage) blind(t *testing.T) {
	t.Helper()
	for _, kind := range []string{
		"IPv4", "IPv4 with options", "IPv6", "IPv6 with extension headers", "fragment", "first fragment of UDP", "TCP", "UDP", "ICMP", "ICMPv6",
		"ARP", "ARP probe", "neighbour 133", "neighbour 134", "neighbour 135", "neighbour 136", "802.3", "another EtherType", "one tag", "two tags", "broadcast", "group", "link-local",
	} {
		if n := c.kinds[kind]; n[0] == 0 || n[1] == 0 {
			t.Errorf("of the kind %q frames were denied and not %v times: the generator is blind there", kind, n)
		}
	}
	for _, kind := range []string{"malformed", "three tags", "source route", "SNAP", "neighbour 137", "zero MAC"} {
		if c.kinds[kind][0] == 0 {
			t.Errorf("no frame of the kind %q", kind)
		}
	}
}

// kindsOf names what a frame is, in several respects.
func kindsOf(side policy.Side, raw []byte) (kinds []string) {
	h, _, ok := plainHeader(side, raw)
	add := func(kind string, is bool) {
		if is {
			kinds = append(kinds, kind)
		}
	}
	if add("malformed", !ok); !ok {
		return kinds
	}
	v4, v6 := h.EtherType == 0x0800 && len(h.Tags) <= 2, h.EtherType == 0x86dd && len(h.Tags) <= 2
	network := 14 + 4*len(h.Tags)
	add("IPv4", v4)
	add("IPv4 with options", v4 && raw[network]&15 > 5)
	add("IPv6", v6)
	add("IPv6 with extension headers", v6 && slices.Contains([]byte{0, 43, 44, 60}, raw[network+6]))
	add("fragment", h.Fragment)
	add("first fragment of UDP", h.Fragment && h.FirstPort != 0)
	add("source route", h.SourceRouted)
	for protocol, name := range map[uint8]string{1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"} {
		add(name, (v4 || v6) && h.Protocol == protocol && h.Neighbour.Type == 0)
	}
	add("ARP", h.EtherType == 0x0806 && len(h.Tags) <= 2)
	add("ARP probe", h.EtherType == 0x0806 && len(h.Tags) <= 2 && h.ARP.SenderIP == netip4(0, 0, 0, 0))
	add(fmt.Sprintf("neighbour %d", h.Neighbour.Type), h.Neighbour.Type != 0)
	add("802.3", h.EtherType == 0 && len(h.Tags) <= 2)
	add("SNAP", h.EtherType == 0 && h.LLC == policy.LLCSNAP)
	add("another EtherType", len(h.Tags) <= 2 && !v4 && !v6 && h.EtherType != 0 && h.EtherType != 0x0806)
	add([]string{"no tag", "one tag", "two tags", "three tags"}[len(h.Tags)], true)
	add("broadcast", h.Dst == broadcast)
	linkLocal := h.Dst[0] == 1 && h.Dst[1] == 0x80 && h.Dst[2] == 0xc2
	add("link-local", linkLocal)
	add("group", h.Dst[0]&1 != 0 && h.Dst != broadcast && !linkLocal)
	add("zero MAC", h.Src == [6]byte{} || h.Dst == [6]byte{})
	return kinds
}

// agree sends frames and returns what they met.
func agree(t *testing.T, p *policy.Plan, frames int, seed uint64) *coverage {
	t.Helper()
	require(t)
	d := openWith(t, p, Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, Flows: 64})
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), plan: p}
	seen := &coverage{map[verdict.Reason]int{}, map[string][2]int{}}
	before := d.reasons(t)
	for i := range frames {
		side, raw := g.frame()
		decision := plainVerdict(p, side, raw)
		want, returns := decision.Verdict, returnOf(p, &decision)
		got, out := d.run(t, side, raw)
		if got != xdpDrop {
			d.emptyFlows(t)
		}
		seen.note(side, raw, &decision)
		after := d.reasons(t)
		counted := moved(before, after)
		before = after
		switch {
		case got != returns:
			t.Fatalf("frame %d on side %v: the program returned %d, want %d for %v %v (moved: %v)\n%x",
				i, side, got, returns, want.Action, want.Reason, counted, raw)
		case want.Action == verdict.Deny && want.Reason != verdict.ReasonSameSide && counted[want.Reason] != 1:
			t.Fatalf("frame %d on side %v: denied for %v, want %v\n%x", i, side, counted, want.Reason, raw)
		case got != xdpDrop && !bytes.Equal(raw, out):
			t.Fatalf("frame %d on side %v changed\n in %x\nout %x", i, side, raw, out)
		}
	}
	return seen
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

const (
	strictDefaults = `{on_outage: open, on_deny: reset, unknown_identity: deny, intra_zone: deny, arp: guard, link_local: permit}`
	laxDefaults    = `{on_outage: open, on_deny: reset, unknown_identity: permit, intra_zone: permit, arp: permit, link_local: deny}`
)

const agreePolicy = `
api_version: penstock/v1
site: agreement
mode: enforce
appliances:
  - {name: gate, sides: {a: [cell, line], b: [plant, office, line]}}
defaults: DEFAULTS
zones:
  - {name: plant, sl_target: 2, purdue_level: 2}
  - {name: cell, sl_target: 2, purdue_level: 1}
  - {name: office, sl_target: 1, purdue_level: 4}
  - {name: line, sl_target: 1, purdue_level: 1}
identities:
  - {name: hmi, zone: plant, role: hmi, mac: "02:00:00:00:00:20", ip: [198.18.0.20, "2001:2::20"], vlan: [10, 20]}
  - {name: hmi-2, zone: plant, role: hmi, mac: "02:00:00:00:00:21", ip: [198.18.0.21, "2001:2::21"]}
  - {name: free, zone: plant, role: hmi, mac: "02:00:00:00:00:22"}
  - {name: plc, zone: cell, role: plc, mac: "02:00:00:00:00:10", ip: [198.18.0.10, "2001:2::10"], vlan: [10, untagged]}
  - {name: rtu, zone: cell, role: rtu, mac: "02:00:00:00:00:11", ip: [198.18.0.11, 198.18.0.12, "2001:2::11"], vlan: [10, 20, untagged]}
  - {name: router, zone: plant, role: router, mac: "02:00:00:00:00:01", ip: [198.18.0.1]}
  - {name: historian, zone: office, via: router, ip: [198.18.64.0/18]}
  - {name: jump, zone: office, via: router, ip: [198.18.64.7]}
  - {name: press, zone: line, side: a, mac: "02:00:00:00:00:12", ip: [198.18.0.30]}
  - {name: feeder, zone: line, side: b, mac: "02:00:00:00:00:23", ip: [198.18.0.31]}
conduits:
  - {name: modbus, from: [hmi], to: [plc], protocol: modbus, rules: [{functions: [read]}]}
  - {name: modbus-2, from: [hmi-2], to: ["zone:cell"], protocol: modbus, rules: [{functions: [read]}]}
  - {name: dnp3, from: ["zone:plant"], to: [rtu], protocol: dnp3, rules: [{functions: [read]}]}
  - {name: opc, from: [historian, hmi], to: ["zone:cell"], protocol: tcp, ports: [4840, 5000-5100]}
  - {name: jump, from: [jump], to: ["zone:cell"], protocol: tcp, ports: [22]}
  - {name: time, from: [free], to: [rtu], protocol: udp, ports: [123]}
  - {name: all-but-time, from: [free], to: [rtu], protocol: udp}
  - {name: ping, from: [hmi-2, hmi, free], to: ["zone:cell"], protocol: icmp}
  - {name: frames, from: [rtu], to: [hmi-2], protocol: ethertype, ethertypes: [llc, 0x88b5]}
  - {name: any-udp, from: [hmi-2], to: [rtu], protocol: udp}
  - {name: ntp, from: ["zone:cell"], to: [free], protocol: udp, ports: [123]}
  - {name: pn, from: [hmi-2], to: [rtu, "group:profinet_dcp"], protocol: ethertype, ethertypes: [profinet, 0x88b8]}
  - {name: boot, from: ["zone:cell"], to: [broadcast], protocol: udp, ports: [67]}
  - {name: cyclic, from: [hmi], to: [plc, rtu], protocol: enip, rules: [{services: [forward_open]}]}
  - {name: cyclic-too, from: [hmi-2], to: [plc], protocol: enip, ports: ["udp/2000-3000"], rules: [{services: [forward_open]}]}
  - {name: cyclic-in-line, from: [feeder], to: [press], protocol: enip, rules: [{services: [forward_open]}]}
  - {name: cast, from: [rtu], to: ["group:239.192.0.0/14"], protocol: udp, ports: [2000-3000]}
`

func agreePlan(t *testing.T, defaults string) *policy.Plan {
	t.Helper()
	p, err := policy.Parse("agree.yaml", []byte(strings.Replace(agreePolicy, "DEFAULTS", defaults, 1)))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	withIO(plan)
	return plan
}

// returnOf is what the program returns for a decision: on an observed conduit it forwards, whatever
// that is.
func returnOf(p *policy.Plan, d *policy.Decision) uint32 {
	if d.Conduit != 0 && p.Conduits[d.Conduit].Mode != policy.Enforce {
		return xdpRedirect
	}
	switch d.Verdict.Action {
	case verdict.Allow:
		return xdpRedirect
	case verdict.Inspect:
		return xdpPass
	}
	return xdpDrop
}

// plainVerdict is the verdict on a frame of no flow, without the program.
func plainVerdict(p *policy.Plan, side policy.Side, raw []byte) policy.Decision {
	h, flags, ok := plainHeader(side, raw)
	if !ok {
		return policy.Decision{Verdict: verdict.Denied(verdict.ReasonMalformed)}
	}
	d := p.Decide(&h)
	if d.Conduit != 0 && d.Verdict.Action != verdict.Deny && h.Protocol == 6 && !h.Fragment &&
		flags&(flagSYN|flagACK) == flagSYN|flagACK {
		d.Verdict = verdict.Denied(verdict.ReasonTCPState) // the second step of a handshake
	}
	return d
}

// generator makes frames that meet the policy's names more often than chance would.
type generator struct {
	*rand.Rand
	plan *policy.Plan
}

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) mac() [6]byte {
	switch g.IntN(12) {
	case 0:
		if g.IntN(8) == 0 {
			return [6]byte{}
		}
		return [6]byte{2, 0, 0, 0, 0, byte(g.Uint32())}
	case 1:
		return broadcast
	case 2:
		return pick(g, [6]byte{1, 0x0e, 0xcf, 0, 0, 0}, [6]byte{1, 0, 0x5e, 0x40, 1, 1}, [6]byte{0x33, 0x33, 0, 0, 0, 1})
	case 3:
		return [6]byte{1, 0x80, 0xc2, 0, 0, byte(g.IntN(64))}
	}
	return g.plan.MACs[g.IntN(len(g.plan.MACs))].MAC
}

func (g *generator) ip4() netip.Addr {
	switch g.IntN(10) {
	case 0:
		return netip4(198, 18, byte(g.IntN(128)), byte(g.IntN(256)))
	case 1:
		return pick(g, netip4(0, 0, 0, 0), netip4(255, 255, 255, 255), netip4(239, 192, 1, 1), netip4(224, 0, 0, 1))
	}
	return pick(g, ipHMI, ipHMI, ipPLC, ipPLC, ipRTU, ipRouter, ipFar, netip4(198, 18, 64, 7), netip4(198, 18, 0, 21), netip4(198, 18, 0, 12), netip4(198, 18, 0, 99))
}

func (g *generator) ip6() netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0, 2, 15: pick(g, byte(0x20), 0x10, 0x11, 0x21, 0x99)})
}

func (g *generator) port() uint16 {
	return pick(g, uint16(502), 502, 20000, 4840, 5000, 5100, 5101, 4999, 22, 123, 67, 2222, 44818, 2000, 4789, 1701, 68, 546, 53, uint16(g.Uint32()))
}

func (g *generator) tags() []uint32 {
	n := 0
	if g.IntN(3) == 0 {
		n = 1 + g.IntN(3)
	}
	var tags []uint32
	for range n {
		tags = append(tags, pick(g, uint32(0x8100), 0x8100, 0x88a8, 0x9100)<<16|pick(g, uint32(10), 10, 10, 0, 20, 11, 0xe00a, g.Uint32()&0xffff))
	}
	return tags
}

func (g *generator) transport() (uint8, []byte) {
	switch g.IntN(8) {
	case 0, 1:
		return 17, udpDatagram(g.port(), g.port())
	case 2:
		return pick(g, uint8(1), 58), icmpEcho(pick(g, byte(8), 0, 5, 9, 3, 2, 128, byte(g.Uint32())), uint16(g.Uint32()))
	case 3:
		return pick(g, uint8(g.Uint32()), 4, 41, 47, 50, 2), make([]byte, 24)
	}
	return 6, tcpSegment(g.port(), g.port(), pick(g, byte(flagSYN), flagSYN, flagSYN|flagACK, flagACK, flagRST, flagFIN|flagACK, 0))
}

func (g *generator) frame() (policy.Side, []byte) {
	p := packet{src: g.mac(), dst: g.mac(), tags: g.tags()}
	side := sideOf(p.src)
	if g.IntN(6) == 0 {
		side = side.Other()
	}
	if g.IntN(4) > 0 {
		g.matched(&p, &side)
	} else {
		g.unmatched(&p)
	}
	raw := p.bytes()
	switch g.IntN(8) {
	case 0: // flipped bits
		for range 1 + g.IntN(4) {
			raw[g.IntN(len(raw))] ^= 1 << g.IntN(8)
		}
	case 1: // cut short
		raw = raw[:14+g.IntN(len(raw)-13)]
	}
	return side, raw
}

// matched is a frame between two devices with their own addresses, mostly from the right side.
func (g *generator) matched(p *packet, side *policy.Side) {
	type device struct {
		mac byte
		ip  netip.Addr
	}
	plant := []device{{0x20, ipHMI}, {0x20, netip.MustParseAddr("2001:2::20")}, {0x21, netip4(198, 18, 0, 21)}, {0x21, ip6SCADA}, {0x22, netip4(198, 18, 0, 50)}, {0x01, ipFar}, {0x01, netip4(198, 18, 64, 7)}}
	cell := []device{{0x10, ipPLC}, {0x10, netip.MustParseAddr("2001:2::10")}, {0x11, ipRTU}, {0x11, ip6RTU}, {0x11, netip4(198, 18, 0, 12)}}
	from, to := pick(g, plant...), pick(g, cell...)
	if g.IntN(12) == 0 {
		from, to = device{0x23, netip4(198, 18, 0, 31)}, device{0x12, netip4(198, 18, 0, 30)}
	}
	*side = policy.SideB
	if g.IntN(3) == 0 {
		from, to, *side = to, from, policy.SideA
	}
	if g.IntN(16) == 0 {
		*side = side.Other()
	}
	p.src, p.dst = [6]byte{2, 0, 0, 0, 0, from.mac}, [6]byte{2, 0, 0, 0, 0, to.mac}
	switch {
	case g.IntN(6) == 0: // whatever was drawn
	case from.mac == 0x20 || to.mac == 0x20: // who lives in VLANs alone
		p.tags = pick(g, []uint32{0x8100<<16 | 10}, []uint32{0x8100<<16 | 10}, []uint32{0x88a8<<16 | 10, 0x8100<<16 | 10})
	default:
		p.tags = nil
	}
	if four := from.ip.Is4(); four != to.ip.Is4() {
		for _, other := range append(plant, cell...) {
			if other.mac == to.mac && other.ip.Is4() == four {
				to.ip = other.ip
			}
		}
		if four != to.ip.Is4() { // who has none
			to.ip = g.ip6()
		}
	}
	if g.IntN(12) == 0 {
		from.ip = pick(g, ipOdd, ipHMI, ipPLC)
		to.ip = pick(g, ipRTU, ipPLC)
	}
	if g.IntN(12) == 0 {
		p.dst, to.ip = pick(g, broadcast, [6]byte{1, 0, 0x5e, 0x40, 1, 1}), pick(g, netip4(255, 255, 255, 255), netip4(239, 192, 1, 1))
		if from.ip.Is6() {
			from.ip = ipPLC
		}
	}
	switch g.IntN(8) {
	case 0:
		if from.ip.Is4() && to.ip.Is4() {
			*p = arp(p.src, pick(g, broadcast, p.dst), pick(g, p.src, p.src, macOdd), pick(g, from.ip, from.ip, ipOdd, netip4(0, 0, 0, 0)), to.ip).tagged(p.tags...)
			return
		}
		fallthrough
	case 1:
		if g.IntN(6) == 0 {
			g.neighbour(p)
			return
		}
		p.ethertype = pick(g, uint16(0x8892), 0x88b8, 0x88b5, 0x8100, 0x0842, 0x8864, 0x8847, 0x8808, 100, 46)
		return
	}
	protocol, body := g.transport()
	fragment := uint16(0)
	if g.IntN(6) == 0 {
		fragment = pick(g, uint16(0x2000), 0x2000, 0x2001, 0x4000, 100, 0x1fff)
	}
	ip := ether(p.src, p.dst, ipPacket(from.ip, to.ip, protocol, fragment, body))
	p.ethertype, p.body = ip.ethertype, ip.body
	for from.ip.Is6() && g.IntN(3) == 0 && len(p.body) < 200 {
		p.body = withExtension(p.body, pick(g, byte(0), 43, 44, 60))
		p.body[43] = pick(g, byte(0), 0, 0, 1)
	}
	if from.ip.Is4() && g.IntN(6) == 0 {
		p.body = withOptions(p.body, pick(g, []byte{1, 1, 1, 0}, []byte{148, 4, 0, 0}, []byte{7, 7, 4, 0, 0, 0, 0, 0},
			[]byte{1, 131, 7, 4, 1, 2, 3, 4}, []byte{1, 1, 137, 3, 4, 0, 0, 0}, []byte{1, 68, 1, 9}, []byte{9, 3, 131, 9}))
	}
}

// neighbour is a neighbour discovery message, mostly of somebody known.
func (g *generator) neighbour(p *packet) {
	local := netip.MustParseAddr("fe80::1")
	d := discovery(byte(133+g.IntN(5)), pick(g, byte(255), 255, 255, 64), p.src,
		pick(g, p.dst, [6]byte{0x33, 0x33, 0xff, 0, 0, 1}, [6]byte{0x33, 0x33, 0, 0, 0, 1}, [6]byte{0x33, 0x33, 0, 0, 0, 9}),
		pick(g, g.ip6(), local, netip.IPv6Unspecified()), pick(g, g.ip6(), local), pick(g, byte(0), 1, 2, 5), pick(g, p.src, p.src, g.mac()))
	p.dst, p.ethertype, p.body = d.dst, d.ethertype, d.body
}

func (g *generator) unmatched(p *packet) {
	switch g.IntN(7) {
	case 6:
		g.neighbour(p)
	case 0:
		*p = arp(p.src, p.dst, pick(g, p.src, g.mac()), g.ip4(), g.ip4()).tagged(p.tags...)
	case 1:
		if g.IntN(4) == 0 { // what a link-local group is for
			p.dst = pick(g, [6]byte{1, 0x80, 0xc2, 0, 0, 0xe}, [6]byte{1, 0x80, 0xc2, 0, 0, 0x20}, [6]byte{1, 0x80, 0xc2})
			p.ethertype = pick(g, uint16(0x88cc), 0x8809, 0x88f6, 0x8808)
			return
		}
		p.ethertype = pick(g, uint16(g.Uint32()), 0x88cc, 0x88e3, 0x892f, 0x88e5, 0x9200, 0x8870)
		p.body = make([]byte, g.IntN(60))
		if g.IntN(2) == 0 {
			p.ethertype = uint16(g.IntN(60))
			p.body = append(pick(g, []byte{0x42, 0x42, 3}, []byte{0x42, 0x42, 0x7f}, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0},
				[]byte{0xaa, 0xaa, 3, 0, 0, 0xf8, 8, 0}, []byte{0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0},
				[]byte{0xaa, 0, 0x13, 0, 0x80, 0xc2, 0, 7}, []byte{6, 6, 3, 0x45}, []byte{0xab, 0xaa, 3, 0, 0, 0, 8, 0}), make([]byte, 52)...)
		}
	case 2:
		protocol, body := g.transport()
		ip := ether(p.src, p.dst, ipPacket(g.ip6(), g.ip6(), protocol, 0, body))
		p.ethertype, p.body = ip.ethertype, ip.body
	default:
		protocol, body := g.transport()
		ip := ether(p.src, p.dst, ipPacket(g.ip4(), g.ip4(), protocol, pick(g, uint16(0), 0, 0, 0x2000), body))
		p.ethertype, p.body = ip.ethertype, ip.body
	}
}

// withOptions puts options, a multiple of four bytes, between an IPv4 header and its body.
func withOptions(ip []byte, options []byte) []byte {
	out := append(append(append([]byte{}, ip[:20]...), options...), ip[20:]...)
	out[0] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(out[2:], binary.BigEndian.Uint16(ip[2:])+uint16(len(options)))
	return out
}

// withExtension puts one extension header of eight bytes between an IPv6 header and its body.
func withExtension(ip []byte, kind byte) []byte {
	out := append([]byte{}, ip[:40]...)
	out[6] = kind
	binary.BigEndian.PutUint16(out[4:], binary.BigEndian.Uint16(ip[4:])+8)
	out = append(out, ip[6], 0, 0, 0, 0, 0, 0, 0)
	return append(out, ip[40:]...)
}
