// Package frame takes Ethernet frames and IP packets apart, checks their checksums, reads
// capture files, and builds the few packets that Penstock sends in somebody's name. It decides
// nothing: what it cannot read is an error or a flag, and whoever asked denies by name.
//
// gopacket's layers do the decoding and stay behind this package, so that another decoder is
// one import away. Nothing is allocated per frame: every slice aliases the input.
package frame

import "net/netip"

// EtherTypes that mean something to the decoder, in host order.
const (
	EtherTypeIPv4           = 0x0800
	EtherTypeARP            = 0x0806
	EtherTypeVLAN           = 0x8100 // IEEE 802.1Q customer tag
	EtherTypeIPv6           = 0x86dd
	EtherTypeMPLS           = 0x8847
	EtherTypeMPLSMulticast  = 0x8848
	EtherTypePPPoEDiscovery = 0x8863
	EtherTypePPPoESession   = 0x8864
	EtherTypeJumboLLC       = 0x8870
	EtherTypeQinQ           = 0x88a8 // IEEE 802.1ad service tag
	EtherTypeMACsec         = 0x88e5
	EtherTypePBB            = 0x88e7 // IEEE 802.1ah, a whole frame inside
	EtherTypeHSR            = 0x892f // IEC 62439-3, a tag that the kernel's IP hooks do not see through
	EtherTypeQinQ9100       = 0x9100 // the pre-standard service tag
)

// IP protocol numbers that the decoder knows.
const (
	ProtocolICMP   = 1
	ProtocolTCP    = 6
	ProtocolUDP    = 17
	ProtocolICMPv6 = 58
)

// TCP flags as they lie in the header's fourteenth byte.
const (
	FlagFIN = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
	FlagURG
)

// Encapsulation names a link format that carries another packet or frame inside, beyond VLAN
// tags. The kernel's bridge hook and the fast path see no IP in it, and neither does the
// decoder: an inspected conduit denies it, and what is inside is not believed.
type Encapsulation uint8

// The encapsulations.
const (
	EncapsulationNone   Encapsulation = iota
	EncapsulationLLC                  // IEEE 802.3 length and 802.2 LLC
	EncapsulationSNAP                 // the same with a SNAP header; Frame.SNAPType is valid
	EncapsulationPPPoE                // RFC 2516, discovery and session
	EncapsulationMPLS                 // RFC 3032
	EncapsulationMACsec               // IEEE 802.1AE
	EncapsulationPBB                  // IEEE 802.1ah
	EncapsulationHSR                  // IEC 62439-3
)

// String returns the encapsulation's name in lower case, "none" for plain Ethernet II.
func (e Encapsulation) String() string {
	switch e {
	case EncapsulationNone:
		return "none"
	case EncapsulationLLC:
		return "llc"
	case EncapsulationSNAP:
		return "snap"
	case EncapsulationPPPoE:
		return "pppoe"
	case EncapsulationMPLS:
		return "mpls"
	case EncapsulationMACsec:
		return "macsec"
	case EncapsulationPBB:
		return "pbb"
	case EncapsulationHSR:
		return "hsr"
	}
	return "unknown"
}

// MaxTags is how many VLAN tags are taken off a frame; more are an error, for no network that
// carries them is one that Penstock is put into.
const MaxTags = 8

// Tag is one VLAN tag.
type Tag struct {
	TPID uint16 // 0x8100, 0x88a8 or 0x9100
	TCI  uint16 // priority, drop eligible and VLAN, as on the wire
}

// VLAN returns the tag's VLAN identifier, 0 for a priority tag.
func (t Tag) VLAN() uint16 { return t.TCI & 0x0fff }

// Priority returns the tag's priority code point, 0 to 7.
func (t Tag) Priority() uint8 { return uint8(t.TCI >> 13) }

// Frame is what was found in one frame or packet. Slices alias the decoded bytes and are valid
// as long as those. A Frame may be used again; every decoding starts from its zero value.
type Frame struct {
	// The link layer, filled by Decoder.Ethernet only.
	Src, Dst  [6]byte
	Tags      []Tag  // outermost first
	EtherType uint16 // after the tags; 0 where LLC is set
	LLC       bool   // IEEE 802.3: a length stands where an EtherType would
	DSAP      uint8  // where LLC is set
	SNAPType  uint16 // where Encapsulation is EncapsulationSNAP
	// Encapsulation says that the payload is another frame format; nothing in it is decoded.
	Encapsulation Encapsulation
	// LinkPayload is what follows the EtherType or length, link padding included.
	LinkPayload []byte

	// ARP is valid where IsARP is set: Ethernet and IPv4, RFC 826.
	IsARP bool
	ARP   ARP

	// The network layer. IPVersion is 4, 6 or 0 for none.
	IPVersion    uint8
	SrcIP, DstIP netip.Addr
	Protocol     uint8  // after IPv6 extension headers
	IP           []byte // the whole packet as far as it is there, without link padding
	IPHeader     []byte // IPv6 extension headers included
	HasOptions   bool   // IPv4 options, or any IPv6 extension header
	// IPLength is the length in bytes that the packet claims, header included; link padding
	// follows it.
	IPLength int
	// Fragment is set for every fragment, the first included. Only a first fragment's
	// transport header is read, and its checksum cannot be.
	Fragment       bool
	FragmentOffset int // in bytes
	// Truncated says that the packet claims more bytes than were there (a capture cut short).
	Truncated bool
	// ChecksumOK says that every checksum there is was right: the IPv4 header's and that of
	// TCP, UDP or ICMP. It is false where bytes are missing and says only the IPv4
	// header's for fragments.
	ChecksumOK bool

	// The transport layer. Ports are in host order.
	IsTCP, IsUDP       bool
	SrcPort, DstPort   uint16
	TCP                TCP
	ICMPType, ICMPCode uint8 // where IsICMP is set
	IsICMP             bool
	// ND is valid where IsND is set: a neighbour solicitation or advertisement, RFC 4861.
	IsND bool
	ND   ND
	// Payload is what the transport carries, without link padding; for other protocols, what
	// follows the IP header.
	Payload []byte

	transport []byte // from the transport header on, without link padding
}

// TCP holds the fields of a TCP header, in host order.
type TCP struct {
	Seq, Ack       uint32
	Flags          uint8 // FlagFIN to FlagURG; the two ECN flags above them
	Window, Urgent uint16
	Options        []byte // as on the wire, padding included
}

// ARP holds an ARP packet's fields; Op is 1 for a request and 2 for a reply.
type ARP struct {
	Op                 uint16
	SenderMAC          [6]byte
	TargetMAC          [6]byte
	SenderIP, TargetIP netip.Addr
}

// ND holds the fields of an IPv6 neighbour solicitation or advertisement that claim an address.
type ND struct {
	Target netip.Addr
	// LinkAddress is the source (solicitation) or target (advertisement) link-layer address
	// option, valid where HasLinkAddress is set.
	LinkAddress    [6]byte
	HasLinkAddress bool
}

// VLAN returns the VLAN identifier of the outermost tag and whether there is any tag at all.
func (f *Frame) VLAN() (id uint16, tagged bool) {
	if len(f.Tags) == 0 {
		return 0, false
	}
	return f.Tags[0].VLAN(), true
}

// Source returns the sending end of a TCP segment or UDP datagram.
func (f *Frame) Source() netip.AddrPort { return netip.AddrPortFrom(f.SrcIP, f.SrcPort) }

// Destination returns the end that a TCP segment or UDP datagram is sent to.
func (f *Frame) Destination() netip.AddrPort { return netip.AddrPortFrom(f.DstIP, f.DstPort) }

// SegmentLength returns how many sequence numbers a TCP segment takes: one for each byte, and
// one for SYN and FIN each.
func (f *Frame) SegmentLength() uint32 {
	n := uint32(len(f.Payload))
	if f.TCP.Flags&FlagSYN != 0 {
		n++
	}
	if f.TCP.Flags&FlagFIN != 0 {
		n++
	}
	return n
}

// reset empties the frame and keeps the storage of its tags.
func (f *Frame) reset() {
	tags := f.Tags[:0]
	*f = Frame{Tags: tags}
}
