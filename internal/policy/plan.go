package policy

import (
	"net/netip"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// Mode is how far a policy or a conduit goes. Modes are ordered: the lower of two is the
// ceiling, so a conduit's effective mode is the smaller of its own and the policy's.
type Mode uint8

// The modes, in the order in which a plant walks through them.
const (
	Discover Mode = iota + 1 // everything is forwarded, what is seen is recorded
	Observe                  // everything is forwarded, verdicts are recorded as would-be
	Enforce                  // verdicts hold
)

// Side is one of the appliance's two ports.
type Side uint8

// The sides. SideAny stands for destinations that live on both, such as broadcast.
const (
	SideAny Side = iota
	SideA
	SideB
)

// Other returns the opposite side; SideAny stays.
func (s Side) Other() Side {
	switch s {
	case SideA:
		return SideB
	case SideB:
		return SideA
	}
	return SideAny
}

// OnOutage is what a conduit does while inspection is not possible.
type OnOutage uint8

// The outage choices. The zero value closes.
const (
	OutageClosed OnOutage = iota
	OutageOpen
)

// OnDeny is how a denied operation is refused.
type OnDeny uint8

// The refusals. The zero value drops.
const (
	DenyDrop      OnDeny = iota // suppress, and end the stream
	DenyReset                   // a valid RST to both ends
	DenyException               // the protocol's own refusal
)

// OnJoin is what becomes of a connection that was open before its inspection began, until a message
// boundary in it is known.
type OnJoin uint8

// The choices for connections joined in mid-stream. The zero value resets.
const (
	JoinReset  OnJoin = iota // it ends, by a valid RST to both ends
	JoinResync               // it goes on from the first segment that is whole messages
)

// Protocol is a conduit's protocol as the policy names it.
type Protocol uint8

// The protocols.
const (
	ProtocolModbus Protocol = iota + 1
	ProtocolDNP3
	ProtocolENIP
	ProtocolTCP
	ProtocolUDP
	ProtocolICMP
	ProtocolEtherType
)

// Transport is the key under which the fast path files a conduit: an IP protocol number
// (6, 17, 1, 58 …) or TransportEtherType, where the "port" is the EtherType itself.
type Transport uint16

// The transports that conduits compile to.
const (
	TransportICMP      Transport = 1
	TransportTCP       Transport = 6
	TransportUDP       Transport = 17
	TransportICMPv6    Transport = 58
	TransportEtherType Transport = 256
)

// Plan is a checked policy, compiled for one appliance: what the fast path is filled from and
// what the slow path evaluates against. It is immutable once compiled and safe for concurrent
// use. Identifiers are indices into its slices; index 0 of Identities and of Conduits is
// reserved for "none", so that the zero value of an id never names anything.
type Plan struct {
	Site      string
	Appliance string
	Hash      string // SHA-256 of the policy's bytes, lower-case hex
	Mode      Mode

	UnknownIdentity verdict.Action // Deny or Allow, for frames from or to nobody known
	IntraZone       verdict.Action // Deny or Allow, between identities of one zone
	ARPGuard        bool
	LinkLocal       verdict.Action

	// Broadcast and Multicast bound what floods, Control what is permitted on link-local groups, for
	// each port by itself.
	Broadcast, Multicast, Control Limit

	Identities []Identity
	Conduits   []Conduit

	// What the fast path holds. Pairs is sorted by (From, To, Transport); each pair owns the
	// Ranges [First, First+Count), sorted by Low, never overlapping.
	MACs      []MACEntry
	Addresses []AddressEntry
	Pairs     []Pair
	Ranges    []Range

	// loan is empty but for plans that judge captures, see Lend.
	loan loan
}

// Class is an equivalence class: identities that every selector of the policy treats alike.
// Class 0 holds nobody and matches no pair.
type Class uint32

// IdentityKind tells a device from the pseudo-identities that stand for destinations.
type IdentityKind uint8

// The kinds.
const (
	KindDevice    IdentityKind = iota
	KindRouter                 // a device with other identities behind it (named by a via)
	KindBehind                 // reached through a router, known by address only
	KindBroadcast              // ff:ff:ff:ff:ff:ff
	KindGroup                  // a multicast MAC address or an IP group
)

// Identity is one device, or one pseudo-identity that stands for a destination.
type Identity struct {
	Name string
	Zone string
	Kind IdentityKind
	Side Side // where it lives; SideAny for broadcast and groups
	MAC  [6]byte
	// MACLast is the last address of a group that is a block of MAC addresses, MAC the first.
	MACLast [6]byte
	Class   Class
	Via     uint32 // the router's id, for KindBehind

	// ZoneID numbers the zones from 1, for the intra_zone decision; 0 for pseudo-identities.
	ZoneID uint16

	// Addresses are its own; empty means not tied to any, and then it may use each address
	// that belongs to no other identity.
	Addresses []netip.Prefix

	// VLANs are the tags on which it may be seen; Untagged says that it may be seen without.
	VLANs    []uint16
	Untagged bool
}

// Conduit is one permitted communication, as compiled.
type Conduit struct {
	Name     string
	Protocol Protocol
	Mode     Mode // effective: never above the plan's
	OnOutage OnOutage
	OnDeny   OnDeny
	OnJoin   OnJoin

	// Assurance is what IEC 62443 asks a conduit to state; for people, no verdict rests on it.
	Assurance Assurance

	// Inspect says that its messages are judged by the slow path. A protocol without messages
	// is enforced by address and port only and has Inspect false.
	Inspect bool

	// IO says that its datagrams to IOPort are cyclic I/O, which the fast path lets through on
	// connections that a permitted Forward Open has opened, and on no others.
	IO bool

	Modbus []ModbusRule // for ProtocolModbus
	DNP3   []DNP3Rule   // for ProtocolDNP3
	ENIP   []ENIPRule   // for ProtocolENIP

	// Limit bounds what the fast path lets through of all its flows together, both directions.
	Limit Limit

	// Selectors, resolved: identity ids, in the order of the policy.
	From, To []uint32
	// Services lists transport and port ranges that the conduit covers.
	Services []Service
}

// Assurance is what a conduit states of its targets.
type Assurance struct {
	SLTarget   SecurityLevel
	Essential  bool
	SecondPath string
	Waiver     *Waiver // nil if none
}

// IOPort is the UDP port of cyclic I/O of EtherNet/IP (CIP volume 2, 2-2).
const IOPort = 2222

// Limit is a rate limit. A measure whose rate is 0 is not limited.
type Limit struct {
	Frames, FrameBurst uint64 // a second; at once
	Bytes, ByteBurst   uint64 // of whole frames, a second; at once
}

// IsZero reports whether nothing is limited.
func (l Limit) IsZero() bool { return l.Frames == 0 && l.Bytes == 0 }

// Service is one transport and an inclusive range of destination ports (or ICMP types, or
// EtherTypes) of a conduit.
type Service struct {
	Transport Transport
	Low, High uint16
}

// MACEntry tells whose a MAC address is.
type MACEntry struct {
	MAC      [6]byte
	Identity uint32
}

// AddressEntry says that frames carrying the Holder's MAC may use the addresses of Prefix, and
// that those addresses then mean Identity (the holder itself, or one behind it where the
// holder is a router). Holder 0 lists every owned address once, whoever owns it: that is
// where an address claimed by an identity without addresses of its own is looked up. The
// longest prefix wins.
type AddressEntry struct {
	Holder   uint32
	Prefix   netip.Prefix
	Identity uint32
}

// Pair files the port ranges that members of From may reach on members of To.
type Pair struct {
	From, To     Class
	Transport    Transport
	First, Count uint32
}

// Range maps an inclusive range of ports to the conduit that covers it.
type Range struct {
	Low, High uint16
	Conduit   uint32
}
