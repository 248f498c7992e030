package frame

import (
	"encoding/binary"
	"net/netip"
)

// IPv6 next-header values of extension headers, RFC 8200 and the IANA list.
const (
	headerHopByHop    = 0
	headerRouting     = 43
	headerFragment    = 44
	headerAH          = 51
	headerDestination = 60
	headerMobility    = 135
	headerHIP         = 139
	headerShim6       = 140
)

// decodeIP decodes an IP packet that must be of the version given.
func (d *Decoder) decodeIP(data []byte, f *Frame, version uint8) error {
	if len(data) == 0 {
		return ErrTruncated
	}
	if data[0]>>4 != version {
		return ErrVersion
	}
	switch version {
	case 4:
		return d.decodeIPv4(data, f)
	case 6:
		return d.decodeIPv6(data, f)
	}
	return ErrVersion
}

// decodeIPv4 reads an IPv4 header. A total length of 0 is an error here; gopacket takes it for
// the mark of a capture made before segmentation offload, and no receiver does.
func (d *Decoder) decodeIPv4(data []byte, f *Frame) error {
	f.IPVersion = 4
	if len(data) < 20 {
		return ErrTruncated
	}
	header := int(data[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(data[2:]))
	if header < 20 || total < header {
		return ErrIPHeader
	}
	if len(data) < header {
		return ErrTruncated
	}
	// The error that is left is one in the options: the fields before them are read, and
	// whoever carries options is told by HasOptions.
	_ = d.ip4.DecodeFromBytes(data, d.cut)
	f.SrcIP = netip.AddrFrom4([4]byte(d.ip4.SrcIP))
	f.DstIP = netip.AddrFrom4([4]byte(d.ip4.DstIP))
	f.Protocol = uint8(d.ip4.Protocol)
	f.IPHeader = data[:header]
	f.HasOptions = header > 20
	f.IPLength = total
	f.FragmentOffset = int(d.ip4.FragOffset) * 8
	f.Fragment = f.FragmentOffset != 0 || binary.BigEndian.Uint16(data[6:])&0x2000 != 0
	f.ChecksumOK = fold(sum(0, f.IPHeader)) == 0xffff
	f.IP = clip(data, total, f)
	return d.decodeTransport(f.IP[header:], f)
}

// decodeIPv6 reads an IPv6 header and walks its extension headers. gopacket's layer is not
// used: it builds a value for every hop-by-hop option, which a sender can make thousands of.
func (d *Decoder) decodeIPv6(data []byte, f *Frame) error {
	f.IPVersion = 6
	if len(data) < 40 {
		return ErrTruncated
	}
	f.SrcIP = netip.AddrFrom16([16]byte(data[8:24]))
	f.DstIP = netip.AddrFrom16([16]byte(data[24:40]))
	f.Protocol = data[6]
	f.IPLength = 40 + int(binary.BigEndian.Uint16(data[4:]))
	f.ChecksumOK = true // there is none in the header
	data = clip(data, f.IPLength, f)
	f.IP = data
	offset := 40
	for isExtension(f.Protocol) && !(f.Fragment && f.FragmentOffset != 0) {
		f.HasOptions = true
		rest := data[offset:]
		if len(rest) < 8 {
			f.IPHeader = data[:offset]
			return ErrTruncated
		}
		length := extensionLength(f.Protocol, rest)
		if f.Protocol == headerFragment {
			// An atomic fragment (offset 0, no more) is whole, yet hosts treat it by
			// the rules of fragments (RFC 6946), so it counts as one.
			f.Fragment = true
			f.FragmentOffset = int(binary.BigEndian.Uint16(rest[2:]) &^ 7)
		}
		if len(rest) < length {
			f.IPHeader = data[:offset]
			return ErrTruncated
		}
		f.Protocol = rest[0]
		offset += length
	}
	f.IPHeader = data[:offset]
	return d.decodeTransport(data[offset:], f)
}

// clip cuts link padding off, or notes that bytes are missing.
func clip(data []byte, length int, f *Frame) []byte {
	if len(data) < length {
		f.Truncated = true
		f.ChecksumOK = false
		return data
	}
	return data[:length]
}

// isExtension reports whether a next-header value is an extension header. ESP is not: what
// follows it cannot be read, and its own number stays in Protocol.
func isExtension(next uint8) bool {
	switch next {
	case headerHopByHop, headerRouting, headerFragment, headerAH, headerDestination,
		headerMobility, headerHIP, headerShim6:
		return true
	}
	return false
}

// extensionLength returns the length in bytes of an extension header of at least 8 bytes.
func extensionLength(next uint8, header []byte) int {
	switch next {
	case headerFragment:
		return 8
	case headerAH: // RFC 4302 counts in words of 4 bytes, minus 2
		return max(8, (int(header[1])+2)*4)
	}
	return (int(header[1]) + 1) * 8
}
