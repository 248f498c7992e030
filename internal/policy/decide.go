package policy

import (
	"net/netip"
	"slices"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// Tag is one VLAN tag.
type Tag struct {
	TPID uint16 // 0x8100, 0x88a8 or 0x9100
	TCI  uint16 // priority, drop eligible and VLAN identifier, as on the wire
}

// Header is what Decide looks at: one frame, from its link layer to its ports. Numbers are in host
// byte order. Addresses of IPv4 are plain, not mapped into IPv6.
type Header struct {
	Src, Dst  [6]byte
	Side      Side   // the port it came in at; SideAny: not known, so no port can be wrong
	Tags      []Tag  // outermost first
	EtherType uint16 // behind the tags; 0 for 802.3 with LLC
	LLC       LLC    // for 802.3 only

	// For IP only; invalid and 0 otherwise.
	SrcIP, DstIP     netip.Addr
	Protocol         uint8 // behind IPv6 extension headers
	Fragment         bool  // any fragment, the first too; then there are no ports
	SourceRouted     bool  // an IPv4 source route, or IPv6 routing with segments left
	SrcPort, DstPort uint16
	FirstPort        uint16 // of a first fragment of UDP: its destination port, which only denies
	ICMPType         uint8

	ARP       ARPHeader       // for ARP only
	Neighbour NeighbourHeader // for neighbour discovery only
}

// LLC is what an 802.3 frame carries (IEEE 802.2).
type LLC uint8

// The kinds. SNAP has another format inside: an EtherType after all (RFC 1042, IEEE 802.1H) or a frame of
// another kind of network (RFC 2684 5.3); so has IP by its own access point, which counts as SNAP here.
const (
	LLCOther  LLC = iota
	LLCBridge     // spanning tree, GVRP, GMRP: service access point 0x42 on both ends
	LLCSNAP
)

// NeighbourHeader is what an ICMPv6 message of neighbour discovery claims (RFC 4861 4). The zero
// Type is no such message.
type NeighbourHeader struct {
	Type   uint8      // 133 to 137
	Target netip.Addr // of a solicitation or advertisement
	// Foreign says that a link-layer address option names another than the frame's sender.
	Foreign bool
}

// Types of neighbour discovery messages.
const (
	neighbourRouterAdvertisement = 134
	neighbourSolicitation        = 135
	neighbourAdvertisement       = 136
	neighbourRedirect            = 137
)

// ARPHeader is the body of an ARP message for Ethernet and IPv4.
type ARPHeader struct {
	SenderMAC [6]byte
	SenderIP  netip.Addr
	TargetIP  netip.Addr
}

// Decision is the verdict on a header, and who and what it is about. Identities and conduits are 0
// as long as they are not known.
type Decision struct {
	verdict.Verdict
	Conduit, Source, Destination uint32
}

// Decide judges a frame as the first of a conversation, in the direction from Src to Dst: what a
// conduit permits, what the guard stops. Replies are for whoever keeps the flows.
//
// It states in plain Go what the fast path does with its tables, and uses none of those tables:
// it walks identities and conduits. The order of reasons is the same. Modes do not matter here: on
// an observed conduit this is what enforcing it would say.
//
// ARP passes between any two identities of this plan, and from one to broadcast: without it no
// permitted conversation could begin, it carries nothing but the sender's own addresses, and the
// guard holds it to those. A probe (sender 0.0.0.0, RFC 5227) claims nothing, and may be for the sender's own
// address or nobody's: asked for another's, that one would give it up. Neighbour discovery is treated
// alike, and may also go to its own groups.
func (p *Plan) Decide(h *Header) Decision {
	if isLinkLocal(h.Dst) {
		if p.LinkLocal == verdict.Allow && h.isLinkControl() {
			return Decision{Verdict: verdict.Permitted}
		}
		return Decision{Verdict: verdict.Denied(verdict.ReasonLinkLocal)}
	}
	d := decision{plan: p, h: h, side: h.Side}
	if reason := d.source(); reason != verdict.ReasonNone {
		return d.deny(reason)
	}
	if d.isNeighbourGroup() {
		if len(h.Tags) > maxTags || h.SourceRouted {
			return d.deny(verdict.ReasonEncapsulation)
		}
		d.Verdict = verdict.Permitted
		return d.Decision
	}
	if reason := d.destination(); reason != verdict.ReasonNone {
		return d.deny(reason)
	}
	return d.conduit()
}

// isLinkLocal knows control traffic that is for the segment, not for a device: the groups of IEEE
// 802.1Q table 8-1, those of MMRP and of MVRP and GVRP, MRP (IEC 62439-2), DLR (ODVA) and PTP (IEEE 1588 annex E).
func isLinkLocal(mac [6]byte) bool {
	switch [3]byte(mac[:3]) {
	case [3]byte{0x01, 0x80, 0xc2}:
		return mac[3] == 0 && mac[4] == 0 && (mac[5] <= 0x0f || mac[5] == 0x20 || mac[5] == 0x21)
	case [3]byte{0x01, 0x15, 0x4e}, [3]byte{0x01, 0x21, 0x6c}, [3]byte{0x01, 0x1b, 0x19}:
		return true
	}
	return false
}

// isLinkControl tells whether a frame is of a protocol that is spoken on the link-local groups: the
// bridges' LLC (spanning tree, GVRP), LLDP, slow protocols, port authentication, MVRP, MMRP, MSRP, connectivity
// faults, EVB, MRP, DLR, redundancy supervision, PTP. Anything else that is sent to such a group is
// for the devices that listen to it.
func (h *Header) isLinkControl() bool {
	switch h.EtherType {
	case 0:
		return h.LLC == LLCBridge
	case 0x88cc, 0x8809, 0x888e, 0x88f5, 0x88f6, 0x22ea, 0x8902, 0x8940, 0x88e3, 0x80e1, 0x88fb, 0x88f7:
		return len(h.Tags) <= maxTags
	}
	return false
}

// maxTags is how many tags are looked through; what is behind more is not read.
const maxTags = 2

// decision is a judgement in progress.
type decision struct {
	Decision
	plan *Plan
	h    *Header
	side Side // where the frame came from
}

func (d *decision) deny(reason verdict.Reason) Decision {
	d.Verdict = verdict.Denied(reason)
	// To the MAC address of somebody known it has to be with an address of theirs.
	if d.Destination == 0 && (reason == verdict.ReasonUnknownSource || reason == verdict.ReasonUnknownDestination) {
		if d.plan.UnknownIdentity == verdict.Allow {
			d.Verdict = verdict.Verdict{Action: verdict.Allow, Reason: reason}
		}
	}
	return d.Decision
}

func (d *decision) isIP() bool {
	return (d.h.EtherType == etherTypeIPv4 || d.h.EtherType == etherTypeIPv6) && len(d.h.Tags) <= maxTags
}

func (d *decision) isARP() bool { return d.h.EtherType == etherTypeARP && len(d.h.Tags) <= maxTags }

// source finds and guards the sender.
func (d *decision) source() verdict.Reason {
	if id := d.lentSource(); id != 0 {
		d.Source = id
		d.settleSide(id)
		return verdict.ReasonNone
	}
	id := d.plan.byMAC(d.h.Src)
	if id == 0 {
		return d.stranger()
	}
	d.Source = id
	who := &d.plan.Identities[id]
	if d.h.Side != SideAny && d.h.Side != who.Side {
		return verdict.ReasonWrongPort
	}
	d.settleSide(id)
	if !who.inVLAN(d.h.Tags) {
		return verdict.ReasonVLANNotPermitted
	}
	switch {
	case d.isARP():
		return d.guardARP(id)
	case d.h.Neighbour.Type != 0:
		return d.guardNeighbour(id)
	case d.isIP():
		return d.guardAddress(id)
	}
	return verdict.ReasonNone
}

func (d *decision) settleSide(source uint32) {
	if d.side == SideAny {
		d.side = d.plan.Identities[source].Side
	}
}

// stranger says what an unknown MAC address is: one that uses somebody's address, or disputes it, is worse.
func (d *decision) stranger() verdict.Reason {
	switch {
	case d.isIP() && d.plan.ownerOf(d.h.SrcIP) != 0:
		return verdict.ReasonAddressSpoofed
	case d.isARP() && (d.plan.ownerOf(d.h.ARP.SenderIP) != 0 || isUnspecified(d.h.ARP.SenderIP) && d.plan.ownerOf(d.h.ARP.TargetIP) != 0):
		return verdict.ReasonARPSpoofed
	case d.misleadsNeighbours():
		return verdict.ReasonARPSpoofed
	}
	return verdict.ReasonUnknownSource
}

// misleadsNeighbours is for a stranger that claims somebody's address by neighbour discovery or disputes it,
// that redirects, or that says it is a router.
func (d *decision) misleadsNeighbours() bool {
	n := &d.h.Neighbour
	return n.Type == neighbourRedirect || n.Type == neighbourRouterAdvertisement ||
		(n.Type == neighbourAdvertisement || d.h.detects()) && d.plan.ownerOf(n.Target) != 0
}

// detects tells whether the frame detects duplicates of an address (RFC 4862 5.4.2).
func (h *Header) detects() bool {
	return h.Neighbour.Type == neighbourSolicitation && isUnspecified(h.SrcIP)
}

// mayProbe tells whether a device may ask if anybody has an address, in order to take it. Asked for
// another's, that one gives it up when it is about to take it (RFC 5227 2.1.1, RFC 4862 5.4.3).
func (p *Plan) mayProbe(id uint32, a netip.Addr) bool {
	owner := p.ownerOf(a)
	return owner == 0 || owner == id
}

// guardARP holds the sender to its own addresses; a router speaks ARP for itself only.
func (d *decision) guardARP(id uint32) verdict.Reason {
	switch {
	case !d.plan.ARPGuard:
		return verdict.ReasonNone
	case d.h.ARP.SenderMAC != d.h.Src:
		return verdict.ReasonARPSpoofed
	case isUnspecified(d.h.ARP.SenderIP):
		if !d.plan.mayProbe(id, d.h.ARP.TargetIP) {
			return verdict.ReasonARPSpoofed
		}
	case d.plan.meantBy(id, d.h.ARP.SenderIP) != id:
		return verdict.ReasonARPSpoofed
	}
	return verdict.ReasonNone
}

// guardNeighbour is for IPv6 what guardARP is for IPv4. Only a router advertises itself as one,
// and nobody redirects.
func (d *decision) guardNeighbour(id uint32) verdict.Reason {
	n := &d.h.Neighbour
	switch {
	case !d.plan.ARPGuard:
		return verdict.ReasonNone
	case n.Foreign, n.Type == neighbourRedirect,
		n.Type == neighbourRouterAdvertisement && d.plan.Identities[id].Kind != KindRouter,
		!isUnspecified(d.h.SrcIP) && !d.plan.mayClaim(id, d.h.SrcIP),
		n.Type == neighbourAdvertisement && !d.plan.mayClaim(id, n.Target),
		d.h.detects() && !d.plan.mayProbe(id, n.Target):
		return verdict.ReasonARPSpoofed
	}
	return verdict.ReasonNone
}

// mayClaim tells whether an address is the identity's own, or a link-local one that is nobody
// else's: policies do not list those, and every interface has one (RFC 4291 2.5.6).
func (p *Plan) mayClaim(id uint32, a netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() && p.ownerOf(a) == 0 {
		return true
	}
	return p.meantBy(id, a) == id
}

// isNeighbourGroup knows the groups that neighbour discovery is sent to: a solicited node, all
// nodes, all routers (RFC 2464 7).
func (d *decision) isNeighbourGroup() bool {
	m := d.h.Dst
	if d.h.Neighbour.Type == 0 || m[0] != 0x33 || m[1] != 0x33 {
		return false
	}
	return m[2] == 0xff || m[2] == 0 && m[3] == 0 && m[4] == 0 && (m[5] == 1 || m[5] == 2)
}

// isBooting knows what a device may send that has no address yet: it asks for one (RFC 2131 4.1,
// RFC 4862 5.4.2), and joins groups (RFC 3376 4.2.13, RFC 3590).
func (h *Header) isBooting() bool {
	if !isUnspecified(h.SrcIP) {
		return false
	}
	if h.SrcIP.Is6() {
		return Transport(h.Protocol) == TransportICMPv6
	}
	return Transport(h.Protocol) == TransportUDP || h.Protocol == protocolIGMP
}

const protocolIGMP = 2

// guardAddress finds who sends among those that the MAC address stands for. The unspecified
// address claims nobody, and is for booting only.
func (d *decision) guardAddress(id uint32) verdict.Reason {
	if d.h.isBooting() {
		return verdict.ReasonNone
	}
	if isNoSender(d.h.SrcIP) {
		return verdict.ReasonAddressSpoofed
	}
	if owner := d.plan.meantBy(id, d.h.SrcIP); owner != 0 {
		d.Source = owner
		return verdict.ReasonNone
	}
	if d.plan.Identities[id].Kind == KindRouter && d.plan.ownerOf(d.h.SrcIP) == 0 {
		return verdict.ReasonUnknownSource
	}
	return verdict.ReasonAddressSpoofed
}

// isNoSender knows addresses that nobody sends from: this network and this host, groups, broadcast
// (RFC 1122 3.2.1.3, RFC 4291 2.5.2, 2.5.3 and 2.7). Stacks take some of these for their own.
func isNoSender(a netip.Addr) bool {
	if a.Is4() {
		first := a.As4()[0]
		return first == 0 || first == 127 || first >= 224
	}
	return a.IsUnspecified() || a.IsLoopback() || a.IsMulticast()
}

func isUnspecified(a netip.Addr) bool { return a.IsValid() && a.IsUnspecified() }

// destination finds the receiver. A device that forwards could carry a frame on to another
// address, so the address has to be one that the MAC stands for.
func (d *decision) destination() verdict.Reason {
	id := d.lentDestination()
	lent := id != 0
	if !lent {
		id = d.plan.byMAC(d.h.Dst)
	}
	if id == 0 && d.h.Dst[0]&1 != 0 && d.isIP() {
		id = d.plan.groupOf(d.h.DstIP)
	}
	if id == 0 {
		return verdict.ReasonUnknownDestination
	}
	who := &d.plan.Identities[id]
	if who.Side == d.side && who.Side != SideAny {
		d.Destination = id
		return verdict.ReasonSameSide
	}
	// Answers pass by the flow, so that the receiver, too, has to live where they would be.
	if !lent && (who.Kind == KindDevice || who.Kind == KindRouter) && !who.inVLAN(d.h.Tags) {
		d.Destination = id
		return verdict.ReasonVLANNotPermitted
	}
	if !lent && d.isIP() && d.h.Neighbour.Type == 0 && (who.Kind == KindDevice || who.Kind == KindRouter) {
		owner := d.plan.meantBy(id, d.h.DstIP)
		if owner == 0 {
			// Only behind a router there may be somebody who is not known.
			if who.Kind != KindRouter || d.plan.ownerOf(d.h.DstIP) != 0 {
				d.Destination = id
			}
			return verdict.ReasonUnknownDestination
		}
		id = owner
	}
	d.Destination = id
	return verdict.ReasonNone
}

// conduit decides between two known identities.
func (d *decision) conduit() Decision {
	switch {
	case len(d.h.Tags) > maxTags, d.h.SourceRouted, d.h.EtherType == 0 && d.h.LLC == LLCSNAP,
		d.h.Fragment && hasToBeNamed(d.h.FirstPort) != verdict.ReasonNone:
		return d.deny(verdict.ReasonEncapsulation)
	case d.isARP(), d.h.Neighbour.Type != 0:
		d.Verdict = verdict.Permitted
		return d.Decision
	}
	id, reason := d.plan.covering(d.Source, d.Destination, d.h)
	if reason != verdict.ReasonNone && isIO(d.h) {
		if back := d.plan.ioCovering(d.Destination, d.Source); back != 0 {
			d.Conduit = back
			return d.deny(verdict.ReasonIONotOpen)
		}
	}
	if reason == verdict.ReasonNoConduit && d.plan.IntraZone == verdict.Allow && d.plan.sameZone(d.Source, d.Destination) {
		switch unnamed := unnamedPort(d.h); {
		case unnamed != verdict.ReasonNone:
			return d.deny(unnamed)
		case misleads(d.h) && d.h.Fragment:
			return d.deny(verdict.ReasonFragment)
		case misleads(d.h):
			return d.deny(verdict.ReasonNoConduit)
		}
		d.Verdict = verdict.Permitted
		return d.Decision
	}
	if reason == verdict.ReasonNoConduit && d.h.Fragment {
		id, reason = d.plan.strayFragment(d.Source, d.Destination, d.h)
	}
	d.Conduit = id
	if reason != verdict.ReasonNone {
		return d.deny(reason)
	}
	if d.plan.Conduits[id].IO && isIO(d.h) {
		return d.deny(verdict.ReasonIONotOpen)
	}
	if !d.plan.Conduits[id].Inspect {
		d.Verdict = verdict.Permitted
		return d.Decision
	}
	if d.h.Fragment {
		return d.deny(verdict.ReasonFragment)
	}
	if !inspectable(d.h.Tags) {
		return d.deny(verdict.ReasonEncapsulation)
	}
	d.Verdict = verdict.Verdict{Action: verdict.Inspect, Reason: verdict.ReasonPermitted}
	return d.Decision
}

// inspectable tells whether the kernel's bridge hook would see the frame's inside: it looks behind
// one 802.1Q tag and no other.
func inspectable(tags []Tag) bool {
	return len(tags) == 0 || len(tags) == 1 && tags[0].TPID == 0x8100
}

// strayFragment judges a fragment where no conduit for the protocol is in its direction. It may belong to an
// answer: where all conduits of the other direction are observed, so is it.
func (p *Plan) strayFragment(source, destination uint32, h *Header) (uint32, verdict.Reason) {
	if _, observed := p.between(destination, source, h); observed != 0 {
		return observed, verdict.ReasonFragment
	}
	return 0, verdict.ReasonNoConduit
}

// between tells whether there is a conduit for the header's protocol, and names the first one where all of
// them are observed.
func (p *Plan) between(source, destination uint32, h *Header) (some bool, observed uint32) {
	transport, _ := service(h)
	enforced := false
	for id := 1; id < len(p.Conduits); id++ {
		c := &p.Conduits[id]
		if !contains(c.From, source) || !contains(c.To, destination) || !c.has(transport) {
			continue
		}
		some, enforced = true, enforced || c.Mode == Enforce
		if observed == 0 {
			observed = uint32(id)
		}
	}
	if enforced {
		return some, 0
	}
	return some, observed
}

func (c *Conduit) has(t Transport) bool {
	return slices.ContainsFunc(c.Services, func(s Service) bool { return s.Transport == t })
}

// covering finds the conduit for a header: an inspected one before a plain one, then the first. A
// fragment shows no ports, so only a conduit for every port covers it, and only if none goes before that for
// some of them. It is denied as one of a conduit only where that and each other for the protocol between
// the two is observed.
func (p *Plan) covering(source, destination uint32, h *Header) (uint32, verdict.Reason) {
	transport, port := service(h)
	best, wide := uint32(0), false
	for id := 1; id < len(p.Conduits); id++ {
		c := &p.Conduits[id]
		if !contains(c.From, source) || !contains(c.To, destination) {
			continue
		}
		for _, s := range c.Services {
			if s.Transport != transport || !h.Fragment && (port < s.Low || port > s.High) {
				continue
			}
			if best == 0 || c.Inspect && !p.Conduits[best].Inspect {
				best, wide = uint32(id), s.Low == 0 && s.High == 0xffff
			}
		}
	}
	if h.Fragment && !wide {
		best = 0
	}
	if best != 0 {
		if unnamed := unnamedPort(h); wide && unnamed != verdict.ReasonNone {
			return 0, unnamed
		}
		return best, verdict.ReasonNone
	}
	if h.Fragment {
		if some, observed := p.between(source, destination, h); some {
			return observed, verdict.ReasonFragment
		}
	}
	if isTunnel(h) {
		return 0, verdict.ReasonEncapsulation
	}
	return 0, verdict.ReasonNoConduit
}

// service returns what a conduit's services are compared with.
func service(h *Header) (Transport, uint16) {
	if h.EtherType != etherTypeIPv4 && h.EtherType != etherTypeIPv6 {
		return TransportEtherType, h.EtherType
	}
	transport := Transport(h.Protocol)
	switch {
	case h.Fragment:
		return transport, 0
	case transport == TransportTCP || transport == TransportUDP:
		return transport, h.DstPort
	case transport == TransportICMP || transport == TransportICMPv6:
		return transport, uint16(h.ICMPType)
	}
	return transport, 0
}

func contains(ids []uint32, id uint32) bool {
	for _, other := range ids {
		if other == id {
			return true
		}
	}
	return false
}

func (p *Plan) sameZone(a, b uint32) bool {
	zone := p.Identities[a].ZoneID
	return zone != 0 && zone == p.Identities[b].ZoneID
}
