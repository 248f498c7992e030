package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/penstock-ot/penstock/internal/policy"
)

// plainHeader reads a frame as the fast path documents that it does, in plain Go and without any
// of its code. It is false for a frame that ends early or contradicts itself.
func plainHeader(side policy.Side, b []byte) (h policy.Header, tcpFlags byte, ok bool) {
	h.Side = side
	if len(b) < 14 {
		return h, 0, false
	}
	h.Dst, h.Src = [6]byte(b[0:6]), [6]byte(b[6:12])
	kind, rest := binary.BigEndian.Uint16(b[12:]), b[14:]
	isTag := func() bool { return kind == 0x8100 || kind == 0x88a8 || kind == 0x9100 }
	for isTag() && len(h.Tags) < 2 {
		if len(rest) < 4 {
			return h, 0, false
		}
		h.Tags = append(h.Tags, policy.Tag{TPID: kind, TCI: binary.BigEndian.Uint16(rest)})
		kind, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	if isTag() { // what is behind a third tag is not read
		h.Tags = append(h.Tags, policy.Tag{TPID: kind})
		return h, 0, true
	}
	if kind < 0x600 {
		if int(kind) > len(rest) {
			return h, 0, false
		}
		h.LLC = plainLLC(rest, int(kind))
		return h, 0, true
	}
	h.EtherType = kind
	switch kind {
	case 0x0806:
		return h, 0, plainARP(&h, rest)
	case 0x0800:
		tcpFlags, ok = plainIPv4(&h, rest)
		return h, tcpFlags, ok
	case 0x86dd:
		tcpFlags, ok = plainIPv6(&h, rest)
		return h, tcpFlags, ok
	}
	return h, 0, true
}

// plainLLC reads what an 802.3 frame of so many bytes carries: bridges' own if all of it is right, another
// format if the destination's access point leads to one.
func plainLLC(b []byte, length int) policy.LLC {
	if length >= 3 && bytes.HasPrefix(b, []byte{0x42, 0x42, 3}) {
		return policy.LLCBridge
	}
	if len(b) >= 3 && (b[0] == 6 || b[0] == 7) {
		return policy.LLCSNAP
	}
	if len(b) >= 6 && (b[0] == 0xaa || b[0] == 0xab) && slices.Contains([]string{"\x00\x00\x00", "\x00\x00\xf8", "\x00\x80\xc2"}, string(b[3:6])) {
		return policy.LLCSNAP
	}
	return policy.LLCOther
}

func plainARP(h *policy.Header, b []byte) bool {
	if len(b) < 28 || string(b[:6]) != "\x00\x01\x08\x00\x06\x04" {
		return false
	}
	h.ARP = policy.ARPHeader{
		SenderMAC: [6]byte(b[8:14]), SenderIP: netip.AddrFrom4([4]byte(b[14:18])),
		TargetIP: netip.AddrFrom4([4]byte(b[24:28])),
	}
	return true
}

func plainIPv4(h *policy.Header, b []byte) (tcpFlags byte, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[0]&15 < 5 {
		return 0, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total < header || total > len(b) {
		return 0, false
	}
	h.SrcIP, h.DstIP = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	h.Protocol = b[9]
	if header > len(b) {
		return 0, false
	}
	var lawful bool
	if h.SourceRouted, lawful = plainOptions(b[20:header]); !lawful {
		return 0, false
	}
	if h.Fragment = binary.BigEndian.Uint16(b[6:])&0x3fff != 0; h.Fragment {
		at := int(binary.BigEndian.Uint16(b[6:])&0x1fff) * 8
		if at == 0 {
			h.FirstPort = plainFirstPort(h.Protocol, b[header:total])
		}
		return 0, at == 0 || at+total-header < 1<<16
	}
	return plainPorts(h, b[header:total])
}

// plainOptions looks for a source route among the options of an IPv4 header (RFC 791 3.1).
func plainOptions(b []byte) (sourceRoute, ok bool) {
	for len(b) > 0 && b[0] != 0 {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return sourceRoute, false
		}
		sourceRoute = sourceRoute || b[0] == 131 || b[0] == 137
		b = b[b[1]:]
	}
	return sourceRoute, true
}

func plainIPv6(h *policy.Header, b []byte) (tcpFlags byte, ok bool) {
	if len(b) < 40 || b[0]>>4 != 6 || int(binary.BigEndian.Uint16(b[4:]))+40 > len(b) {
		return 0, false
	}
	h.SrcIP = netip.AddrFrom16([16]byte(b[8:24]))
	h.DstIP = netip.AddrFrom16([16]byte(b[24:40]))
	if h.SrcIP.Is4In6() || h.DstIP.Is4In6() {
		return 0, false
	}
	next, rest := b[6], b[40:40+int(binary.BigEndian.Uint16(b[4:]))]
	for range 8 {
		if next == 44 {
			h.Fragment = true
			if len(rest) < 8 {
				return 0, false
			}
			h.Protocol = rest[0]
			at := int(binary.BigEndian.Uint16(rest[2:]) &^ 7)
			if at == 0 {
				h.FirstPort = plainFirstPort(h.Protocol, rest[8:])
			}
			return 0, at == 0 || at+len(rest)-8 < 1<<16
		}
		if next != 0 && next != 43 && next != 60 {
			break
		}
		if len(rest) < 8 || len(rest) < 8+int(rest[1])*8 {
			return 0, false
		}
		h.SourceRouted = h.SourceRouted || next == 43 && rest[3] != 0
		next, rest = rest[0], rest[8+int(rest[1])*8:]
	}
	h.Protocol = next
	if tcpFlags, ok = plainPorts(h, rest); ok && next == 58 {
		ok = plainNeighbour(h, b[7], rest)
	}
	return tcpFlags, ok
}

// plainNeighbour reads neighbour discovery (RFC 4861 4).
func plainNeighbour(h *policy.Header, hopLimit byte, b []byte) bool {
	kind := b[0]
	if kind < 133 || kind > 137 {
		return true
	}
	if hopLimit != 255 || b[1] != 0 {
		return false
	}
	fixed := map[byte]int{133: 8, 134: 16, 135: 24, 136: 24, 137: 40}[kind]
	if len(b) < fixed {
		return false
	}
	h.Neighbour.Type = kind
	if fixed == 24 {
		h.Neighbour.Target = netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	}
	options := b[fixed:]
	for i := 0; len(options) >= 8; i++ {
		length := int(options[1]) * 8
		if length == 0 || i == 8 {
			return false
		}
		if (options[0] == 1 || options[0] == 2) && [6]byte(options[2:8]) != h.Src {
			h.Neighbour.Foreign = true
		}
		if length > len(options) {
			return false
		}
		options = options[length:]
	}
	return true
}

// plainFirstPort is the destination port of a datagram whose beginning this is, if it shows.
func plainFirstPort(protocol uint8, b []byte) uint16 {
	if protocol != 17 || len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint16(b[2:])
}

func plainPorts(h *policy.Header, b []byte) (tcpFlags byte, ok bool) {
	switch h.Protocol {
	case 6:
		if len(b) < 20 || b[12]>>4 < 5 || int(b[12]>>4)*4 > len(b) {
			return 0, false
		}
		tcpFlags = b[13]
	case 17:
		if len(b) < 8 {
			return 0, false
		}
		if n := int(binary.BigEndian.Uint16(b[4:])); n < 8 || n > len(b) {
			return 0, false
		}
	case 1, 58:
		if len(b) < 8 {
			return 0, false
		}
		h.ICMPType = b[0]
		h.SrcPort = binary.BigEndian.Uint16(b[4:]) // the identifier, which tells conversations apart
		h.DstPort = h.SrcPort
		return 0, (h.Protocol == 58) != h.SrcIP.Is6() || plainMTU(h.Protocol, b)
	default:
		return 0, true
	}
	h.SrcPort, h.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	return tcpFlags, true
}

// plainMTU is false for an ICMP error that asks for absurdly small packets.
func plainMTU(protocol uint8, b []byte) bool {
	if protocol == 1 && b[0] == 3 && b[1] == 4 {
		mtu := binary.BigEndian.Uint16(b[6:])
		return mtu == 0 || mtu >= 552
	}
	return protocol != 58 || b[0] != 2 || binary.BigEndian.Uint32(b[4:]) >= 1280
}
