package frame

import (
	"encoding/binary"
	"net/netip"
)

// decodeTransport reads the transport header out of what an IP packet carries, and checks its
// checksum where the packet is whole. A later fragment has no transport header.
func (d *Decoder) decodeTransport(data []byte, f *Frame) error {
	f.Payload, f.transport = data, data
	if f.Fragment && f.FragmentOffset != 0 {
		return nil
	}
	switch f.Protocol {
	case ProtocolTCP:
		return d.decodeTCP(data, f)
	case ProtocolUDP:
		return d.decodeUDP(data, f)
	case ProtocolICMP:
		if f.IPVersion == 4 {
			return d.decodeICMP(data, f)
		}
	case ProtocolICMPv6:
		if f.IPVersion == 6 {
			return d.decodeICMP(data, f)
		}
	}
	return nil
}

// decodeTCP reads a TCP header. gopacket's complaint about an option is no error: a receiver
// stops at an option that it cannot read and takes the segment, so the segment is read here
// too and the options are left to whoever judges them.
func (d *Decoder) decodeTCP(data []byte, f *Frame) error {
	if len(data) < 20 {
		return shortTransport(f)
	}
	header := int(data[12]>>4) * 4
	if header < 20 {
		return ErrTransportHeader
	}
	if len(data) < header {
		return shortTransport(f)
	}
	_ = d.tcp.DecodeFromBytes(data, d.cut)
	f.IsTCP = true
	f.SrcPort, f.DstPort = uint16(d.tcp.SrcPort), uint16(d.tcp.DstPort)
	f.TCP = TCP{
		Seq: d.tcp.Seq, Ack: d.tcp.Ack, Flags: data[13],
		Window: d.tcp.Window, Urgent: d.tcp.Urgent, Options: data[20:header],
	}
	f.Payload = data[header:]
	f.checkTransport(data)
	return nil
}

// decodeUDP reads a UDP header. Bytes after the datagram's own length are not its payload.
func (d *Decoder) decodeUDP(data []byte, f *Frame) error {
	if len(data) < 8 {
		return shortTransport(f)
	}
	length := int(binary.BigEndian.Uint16(data[4:]))
	if length < 8 || (length > len(data) && !f.Truncated && !f.Fragment) {
		return ErrTransportHeader
	}
	_ = d.udp.DecodeFromBytes(data, d.cut)
	f.IsUDP = true
	f.SrcPort, f.DstPort = uint16(d.udp.SrcPort), uint16(d.udp.DstPort)
	datagram := data[:min(length, len(data))]
	f.Payload = datagram[8:]
	if binary.BigEndian.Uint16(data[6:]) == 0 && f.IPVersion == 4 {
		return nil // RFC 768: no checksum. RFC 8200 section 8.1 forbids that over IPv6.
	}
	f.checkTransport(datagram)
	return nil
}

// decodeICMP reads type and code, and for IPv6 the addresses that neighbour discovery claims.
func (d *Decoder) decodeICMP(data []byte, f *Frame) error {
	if len(data) < 4 {
		return shortTransport(f)
	}
	f.IsICMP = true
	f.ICMPType, f.ICMPCode = data[0], data[1]
	f.checkTransport(data)
	if f.IPVersion == 6 {
		if d.icmp6.DecodeFromBytes(data, d.cut) != nil {
			return shortTransport(f)
		}
		f.Payload = d.icmp6.Payload
		return decodeND(f)
	}
	if len(data) < 8 || d.icmp4.DecodeFromBytes(data, d.cut) != nil {
		return shortTransport(f)
	}
	f.Payload = d.icmp4.Payload
	return nil
}

// Neighbour discovery's message types and the one option that its guard reads, RFC 4861.
const (
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	optionSourceLink       = 1
	optionTargetLink       = 2
)

// decodeND reads the target and the link-layer address of a neighbour message.
func decodeND(f *Frame) error {
	wanted := uint8(optionSourceLink)
	switch f.ICMPType {
	case neighbourSolicitation:
	case neighbourAdvertisement:
		wanted = optionTargetLink
	default:
		return nil
	}
	if len(f.Payload) < 20 { // 4 bytes of flags, 16 of target
		return shortTransport(f)
	}
	f.IsND = true
	f.ND.Target = netip.AddrFrom16([16]byte(f.Payload[4:20]))
	for options := f.Payload[20:]; len(options) >= 8; {
		length := int(options[1]) * 8
		if length == 0 || length > len(options) {
			return ErrTransportHeader // RFC 4861 section 4.6: discarded by every receiver
		}
		if options[0] == wanted && !f.ND.HasLinkAddress {
			copy(f.ND.LinkAddress[:], options[2:8])
			f.ND.HasLinkAddress = true
		}
		options = options[length:]
	}
	return nil
}

// shortTransport tells a header cut off by a capture from one that was never whole.
func shortTransport(f *Frame) error {
	if f.Truncated || f.Fragment {
		return ErrTruncated
	}
	return ErrTransportHeader
}
