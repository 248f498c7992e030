package policy

import (
	"net/netip"
	"testing"

	"github.com/penstock-ot/penstock/internal/verdict"
	"pgregory.net/rapid"
)

// tables answers with a plan's tables alone, look-up by look-up as the fast path does. Decide
// answers without them; that the two agree is what makes either worth believing.
type tables struct{ *Plan }

func (t tables) mac(mac [6]byte) uint32 {
	for _, e := range t.MACs {
		if e.MAC == mac {
			return e.Identity
		}
	}
	return 0
}

// address is the longest-prefix look-up under one holder.
func (t tables) address(holder uint32, a netip.Addr) uint32 {
	best, bits := uint32(0), -1
	for _, e := range t.Addresses {
		if e.Holder == holder && e.Prefix.Contains(a) && e.Prefix.Bits() > bits {
			best, bits = e.Identity, e.Prefix.Bits()
		}
	}
	return best
}

func (t tables) meant(holder uint32, a netip.Addr) uint32 {
	id := t.address(holder, a)
	if id == 0 && len(t.Identities[holder].Addresses) == 0 && t.address(0, a) == 0 {
		return holder
	}
	return id
}

func (t tables) source(h *Header) (uint32, verdict.Reason) {
	isIP, isARP := h.EtherType == etherTypeIPv4 || h.EtherType == etherTypeIPv6, h.EtherType == etherTypeARP
	id := t.mac(h.Src)
	if id == 0 {
		switch {
		case isIP && t.address(0, h.SrcIP) != 0:
			return 0, verdict.ReasonAddressSpoofed
		case isARP && (t.address(0, h.ARP.SenderIP) != 0 || h.ARP.SenderIP.IsUnspecified() && t.address(0, h.ARP.TargetIP) != 0):
			return 0, verdict.ReasonARPSpoofed
		}
		return 0, verdict.ReasonUnknownSource
	}
	who := &t.Identities[id]
	switch {
	case who.Side != h.Side:
		return id, verdict.ReasonWrongPort
	case !who.inVLAN(h.Tags):
		return id, verdict.ReasonVLANNotPermitted
	case isARP && h.ARP.SenderMAC != h.Src:
		return id, verdict.ReasonARPSpoofed
	case isARP && h.ARP.SenderIP.IsUnspecified():
		if owner := t.address(0, h.ARP.TargetIP); owner != 0 && owner != id {
			return id, verdict.ReasonARPSpoofed
		}
		return id, verdict.ReasonNone
	case isARP && t.meant(id, h.ARP.SenderIP) != id:
		return id, verdict.ReasonARPSpoofed
	case !isIP || h.isBooting():
		return id, verdict.ReasonNone
	case isNoSender(h.SrcIP):
		return id, verdict.ReasonAddressSpoofed
	}
	if owner := t.meant(id, h.SrcIP); owner != 0 {
		return owner, verdict.ReasonNone
	}
	if who.Kind == KindRouter && t.address(0, h.SrcIP) == 0 {
		return id, verdict.ReasonUnknownSource
	}
	return id, verdict.ReasonAddressSpoofed
}

func (t tables) destination(h *Header) (uint32, verdict.Reason) {
	isIP := h.EtherType == etherTypeIPv4 || h.EtherType == etherTypeIPv6
	id := t.mac(h.Dst)
	if id == 0 && h.Dst[0]&1 != 0 && isIP {
		if id = t.address(0, h.DstIP); t.Identities[id].Kind != KindGroup {
			id = 0
		}
	}
	who := &t.Identities[id]
	switch {
	case id == 0:
		return 0, verdict.ReasonUnknownDestination
	case who.Side == h.Side:
		return id, verdict.ReasonSameSide
	case (who.Kind == KindDevice || who.Kind == KindRouter) && !who.inVLAN(h.Tags):
		return id, verdict.ReasonVLANNotPermitted
	case isIP && (who.Kind == KindDevice || who.Kind == KindRouter):
		owner := t.meant(id, h.DstIP)
		if owner == 0 && who.Kind == KindRouter && t.address(0, h.DstIP) == 0 {
			return 0, verdict.ReasonUnknownDestination
		}
		if owner == 0 {
			return id, verdict.ReasonUnknownDestination
		}
		id = owner
	}
	return id, verdict.ReasonNone
}

// conduit finds the range by halving, as the fast path does.
func (t tables) conduit(source, destination uint32, h *Header) (id uint32, paired bool) {
	transport, port := service(h)
	for _, p := range t.Pairs {
		if p.From != t.Identities[source].Class || p.To != t.Identities[destination].Class || p.Transport != transport {
			continue
		}
		low, high := p.First, p.First+p.Count
		for low < high {
			middle := (low + high) / 2
			switch r := t.Ranges[middle]; {
			case port < r.Low:
				high = middle
			case port > r.High:
				low = middle + 1
			case h.Fragment && (r.Low != 0 || r.High != 0xffff):
				return 0, true
			default:
				return r.Conduit, true
			}
		}
		return 0, true
	}
	return 0, false
}

// wide tells whether a conduit names no port of UDP.
func (t tables) wide(id uint32) bool {
	for _, s := range t.Conduits[id].Services {
		if s == (Service{TransportUDP, 0, 0xffff}) {
			return true
		}
	}
	return false
}

func (t tables) decide(h *Header) Decision {
	if isLinkLocal(h.Dst) && !h.isLinkControl() {
		return Decision{Verdict: verdict.Denied(verdict.ReasonLinkLocal)}
	}
	if isLinkLocal(h.Dst) {
		return Decision{Verdict: verdict.Permitted}
	}
	var d Decision
	var reason verdict.Reason
	if d.Source, reason = t.source(h); reason != verdict.ReasonNone {
		d.Verdict = verdict.Denied(reason)
		return d
	}
	if d.Destination, reason = t.destination(h); reason != verdict.ReasonNone {
		d.Verdict = verdict.Denied(reason)
		return d
	}
	if h.LLC == LLCSNAP || h.Fragment && hasToBeNamed(h.FirstPort) != verdict.ReasonNone {
		d.Verdict = verdict.Denied(verdict.ReasonEncapsulation)
		return d
	}
	if h.EtherType == etherTypeARP {
		d.Verdict = verdict.Permitted
		return d
	}
	id, paired := t.conduit(d.Source, d.Destination, h)
	unnamed := unnamedPort(h)
	switch {
	case id == 0 && h.Fragment && paired:
		d.Verdict = verdict.Denied(verdict.ReasonFragment)
		return d
	case id == 0 && isTunnel(h):
		d.Verdict = verdict.Denied(verdict.ReasonEncapsulation)
		return d
	case t.wide(id) && unnamed != verdict.ReasonNone:
		d.Verdict = verdict.Denied(unnamed)
		return d
	case id == 0:
		d.Verdict = verdict.Denied(verdict.ReasonNoConduit)
		return d
	}
	d.Conduit = id
	switch {
	case !t.Conduits[id].Inspect:
		d.Verdict = verdict.Permitted
	case h.Fragment:
		d.Verdict = verdict.Denied(verdict.ReasonFragment)
	case !inspectable(h.Tags):
		d.Verdict = verdict.Denied(verdict.ReasonEncapsulation)
	default:
		d.Verdict = verdict.Verdict{Action: verdict.Inspect, Reason: verdict.ReasonPermitted}
	}
	return d
}

// TestTablesAgreeWithDecide holds the tables against the plain evaluation: rows first, then
// headers drawn from what is near the policy's own addresses, ports and tags.
func TestTablesAgreeWithDecide(t *testing.T) {
	plan := mustCompile(t, decideBase)
	look := tables{plan}
	for _, row := range decideRows() {
		if row.h.Side == SideAny || len(row.h.Tags) > maxTags {
			continue // nothing of the wire has no port, and three tags are not looked through
		}
		if got, want := look.decide(row.h), plan.Decide(row.h); got != want {
			t.Errorf("%s: tables say %+v, Decide says %+v", row.name, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := drawHeader(t, plan)
		if got, want := look.decide(h), plan.Decide(h); got != want {
			t.Fatalf("%+v: tables say %+v, Decide says %+v", h, got, want)
		}
	})
}

func drawHeader(t *rapid.T, plan *Plan) *Header {
	macs := [][6]byte{mac(0x99), {1, 0, 0x5e, 0x40, 1, 1}, {1, 0, 0x5e, 1, 1, 1}, {0x33, 0x33, 0, 0, 0, 1}}
	addresses := []netip.Addr{netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("198.19.0.5"), netip.MustParseAddr("2001:db8::5"),
		netip.MustParseAddr("239.193.0.1"), netip.MustParseAddr("239.1.1.1")}
	for _, e := range plan.MACs {
		macs = append(macs, e.MAC)
	}
	for _, e := range plan.Addresses {
		addresses = append(addresses, e.Prefix.Addr(), e.Prefix.Addr().Next())
	}
	ports := []uint16{0, 25, 67, 68, 443, 502, 503, 2222, 4789, 8000, 8040, 65535}
	h := &Header{
		Side:      rapid.SampledFrom([]Side{SideA, SideB}).Draw(t, "side"),
		Src:       rapid.SampledFrom(macs).Draw(t, "source"),
		Dst:       rapid.SampledFrom(macs).Draw(t, "destination"),
		EtherType: rapid.SampledFrom([]uint16{etherTypeIPv4, etherTypeIPv4, etherTypeIPv6, etherTypeARP, 0x8892, 0}).Draw(t, "ethertype"),
		Tags:      rapid.SampledFrom([][]Tag{nil, nil, {dot1q}, {{0x8100, 20}}, {{0x88a8, 10}}, {dot1q, dot1q}, {dot1q, {0x8100, 20}}, {{0x8100, 0}, dot1q}}).Draw(t, "tags"),
	}
	// Most frames carry what their sender owns; the rest anything.
	address := func(of [6]byte, label string) netip.Addr {
		if who := plan.byMAC(of); who != 0 && len(plan.Identities[who].Addresses) > 0 && rapid.Bool().Draw(t, label+" own") {
			return rapid.SampledFrom(plan.Identities[who].Addresses).Draw(t, label).Addr()
		}
		return rapid.SampledFrom(addresses).Draw(t, label)
	}
	switch h.EtherType {
	case 0:
		h.LLC = rapid.SampledFrom([]LLC{LLCOther, LLCBridge, LLCSNAP}).Draw(t, "llc")
	case etherTypeARP:
		h.ARP = ARPHeader{SenderMAC: h.Src, SenderIP: address(h.Src, "sender"), TargetIP: address(h.Dst, "target")}
		if rapid.IntRange(0, 4).Draw(t, "foreign") == 0 {
			h.ARP.SenderMAC = mac(0x10)
		}
	case etherTypeIPv4, etherTypeIPv6:
		h.SrcIP, h.DstIP = address(h.Src, "from"), address(h.Dst, "to")
		h.Protocol = rapid.SampledFrom([]uint8{6, 6, 17, 1, 47}).Draw(t, "protocol")
		h.Fragment = rapid.IntRange(0, 5).Draw(t, "fragment") == 0
		if !h.Fragment {
			h.DstPort = rapid.SampledFrom(ports).Draw(t, "port")
			h.ICMPType = rapid.SampledFrom([]uint8{0, 5, 8}).Draw(t, "type")
		} else if h.Protocol == uint8(TransportUDP) {
			h.FirstPort = rapid.SampledFrom(ports).Draw(t, "first port")
		}
	}
	return h
}
