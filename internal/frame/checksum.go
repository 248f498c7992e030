package frame

import (
	"encoding/binary"
	"net/netip"
)

// PartialChecksum reports whether a packet's TCP or UDP checksum holds just the sum of the
// pseudo header: the sign of a packet taken on the sending host before its network card filled
// the checksum in. It is the kernel's CHECKSUM_PARTIAL; no such packet is ever on a wire.
func (f *Frame) PartialChecksum() bool {
	at, header := 0, 0
	switch {
	case f.IsTCP:
		at, header = 16, 20+len(f.TCP.Options)
	case f.IsUDP:
		at, header = 6, 8
	default:
		return false
	}
	if f.Fragment || f.Truncated || f.IPHeader == nil {
		return false
	}
	whole := f.transport
	if len(whole) < header {
		return false
	}
	total := addressSum(f.SrcIP) + addressSum(f.DstIP) + uint64(len(whole)) + uint64(f.Protocol)
	return binary.BigEndian.Uint16(whole[at:]) == fold(total)
}

// checkTransport verifies the checksum of a whole TCP segment, UDP datagram or ICMP message.
func (f *Frame) checkTransport(data []byte) {
	if f.Fragment || f.Truncated || !f.ChecksumOK {
		return
	}
	f.ChecksumOK = fold(transportSum(f, data)) == 0xffff
}

// transportSum adds up a transport header and payload, with the pseudo header of RFC 9293 and
// RFC 8200 section 8.1 where the protocol has one.
func transportSum(f *Frame, data []byte) uint64 {
	var total uint64
	if f.Protocol != ProtocolICMP {
		total = addressSum(f.SrcIP) + addressSum(f.DstIP) + uint64(len(data)) + uint64(f.Protocol)
	}
	return sum(total, data)
}

// addressSum adds up the 16-bit words of an address.
func addressSum(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return sum(0, b[:])
	}
	b := a.As16()
	return sum(0, b[:])
}

// sum adds the big-endian 16-bit words of data to a running total that cannot overflow: 64
// bits hold more words than any packet has. An odd last byte counts as the upper half.
func sum(total uint64, data []byte) uint64 {
	for len(data) >= 8 {
		v := binary.BigEndian.Uint64(data)
		total += v>>48 + v>>32&0xffff + v>>16&0xffff + v&0xffff
		data = data[8:]
	}
	for len(data) >= 2 {
		total += uint64(binary.BigEndian.Uint16(data))
		data = data[2:]
	}
	if len(data) == 1 {
		total += uint64(data[0]) << 8
	}
	return total
}

// fold brings a total down to 16 bits in ones' complement.
func fold(total uint64) uint16 {
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
