package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// TCPPacket describes a TCP segment in its IP packet, for AppendTCP.
type TCPPacket struct {
	Src, Dst       netip.AddrPort // both IPv4 or both IPv6
	Seq, Ack       uint32
	Flags          uint8
	Window, Urgent uint16
	Options        []byte // up to 40 bytes; padded with end-of-list to a multiple of 4
	Payload        []byte
	TTL            uint8  // 0 means 64
	ID             uint16 // IPv4 identification
}

// errFamily says that addresses are missing or of two families.
var errFamily = errors.New("build packet: source and destination must be of one IP version")

// AppendTCP appends a whole IP packet with one TCP segment to b, checksums right, and returns
// the longer slice.
func AppendTCP(b []byte, p *TCPPacket) ([]byte, error) {
	if len(p.Options) > 40 {
		return b, fmt.Errorf("build packet: %d bytes of TCP options, 40 is the most", len(p.Options))
	}
	header := 20 + (len(p.Options)+3)&^3
	b, err := appendIP(b, p.Src.Addr(), p.Dst.Addr(), ProtocolTCP, p.TTL, p.ID, header+len(p.Payload))
	if err != nil {
		return b, err
	}
	at := len(b)
	b = append(b, make([]byte, header)...)
	b = append(b, p.Payload...)
	tcp := b[at:]
	binary.BigEndian.PutUint16(tcp, p.Src.Port())
	binary.BigEndian.PutUint16(tcp[2:], p.Dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], p.Seq)
	binary.BigEndian.PutUint32(tcp[8:], p.Ack)
	tcp[12] = uint8(header/4) << 4
	tcp[13] = p.Flags
	binary.BigEndian.PutUint16(tcp[14:], p.Window)
	binary.BigEndian.PutUint16(tcp[18:], p.Urgent)
	copy(tcp[20:], p.Options)
	f := Frame{SrcIP: p.Src.Addr(), DstIP: p.Dst.Addr(), Protocol: ProtocolTCP}
	binary.BigEndian.PutUint16(tcp[16:], ^fold(transportSum(&f, tcp)))
	return b, nil
}

// AppendUDP appends a whole IP packet with one UDP datagram to b and returns the longer slice.
func AppendUDP(b []byte, src, dst netip.AddrPort, payload []byte) ([]byte, error) {
	b, err := appendIP(b, src.Addr(), dst.Addr(), ProtocolUDP, 0, 0, 8+len(payload))
	if err != nil {
		return b, err
	}
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(b, 0, 0)
	b = append(b, payload...)
	f := Frame{SrcIP: src.Addr(), DstIP: dst.Addr(), Protocol: ProtocolUDP}
	checksum := ^fold(transportSum(&f, b[at:]))
	if checksum == 0 {
		checksum = 0xffff // RFC 768: 0 would mean that there is none
	}
	binary.BigEndian.PutUint16(b[at+6:], checksum)
	return b, nil
}

// appendIP appends an IP header for a payload of the length given.
func appendIP(b []byte, src, dst netip.Addr, protocol, ttl uint8, id uint16, length int) ([]byte, error) {
	if ttl == 0 {
		ttl = 64
	}
	switch {
	case src.Is4() && dst.Is4():
		if 20+length > 0xffff {
			return b, fmt.Errorf("build packet: %d bytes do not fit an IPv4 packet", 20+length)
		}
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+length))
		b = binary.BigEndian.AppendUint16(b, id)
		b = append(b, 0x40, 0, ttl, protocol, 0, 0) // don't fragment
		b = append(b, src.AsSlice()...)
		b = append(b, dst.AsSlice()...)
		binary.BigEndian.PutUint16(b[at+10:], ^fold(sum(0, b[at:])))
		return b, nil
	case src.Is6() && dst.Is6():
		if length > 0xffff {
			return b, fmt.Errorf("build packet: %d bytes do not fit an IPv6 packet", length)
		}
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(length))
		b = append(b, protocol, ttl)
		b = append(b, src.AsSlice()...)
		return append(b, dst.AsSlice()...), nil
	}
	return b, errFamily
}

// PrependEthernet returns a new frame that carries an IP packet (or any payload) under an
// Ethernet header with the tags given, outermost first. Nothing is padded: the driver does.
func PrependEthernet(dst, src [6]byte, tags []Tag, etherType uint16, payload []byte) []byte {
	b := make([]byte, 0, 14+4*len(tags)+len(payload))
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(b, t.TPID)
		b = binary.BigEndian.AppendUint16(b, t.TCI)
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	return append(b, payload...)
}
