package queue

import (
	"encoding/binary"
	"errors"
)

// What linux/netlink.h, linux/netfilter/nfnetlink.h and nfnetlink_queue.h say, as far as used.
// Netlink headers are in host order, everything that nfnetlink_queue puts behind them in
// network order.
const (
	netlinkHeaderLength   = 16
	netfilterHeaderLength = 4
	attributeHeaderLength = 4

	netlinkError = 2

	subsystemQueue      = 3 << 8
	messagePacket       = subsystemQueue
	messageVerdict      = subsystemQueue | 1
	messageConfig       = subsystemQueue | 2
	messageVerdictBatch = subsystemQueue | 3

	attributePacketHeader = 1
	attributeVerdict      = 2
	attributeMark         = 3
	attributeInDevice     = 5
	attributeOutDevice    = 6
	attributeInPort       = 7
	attributeOutPort      = 8
	attributeHardware     = 9
	attributePayload      = 10
	attributeLength       = 13
	attributeInfo         = 14
	attributeVLAN         = 19
	attributeLinkHeader   = 20
	attributeVLANProtocol = 1
	attributeVLANTCI      = 2
	attributeTypeMask     = 0x3fff // without the nested and byte-order flags

	infoChecksumNotReady    = 1
	infoGSO                 = 2
	infoChecksumNotVerified = 4

	familyIPv6 = 10

	// maxPayload is what fits beside its header into an attribute, whose length has 16 bits.
	maxPayload = 0xffff - attributeHeaderLength
)

var (
	errShort     = errors.New("parse queue message: shorter than its header")
	errAttribute = errors.New("parse queue message: an attribute exceeds the message")
	errLength    = errors.New("parse queue message: an attribute has a length that its type cannot have")
	errNoID      = errors.New("parse queue message: no packet id")
)

// netlinkMessage is one message out of a datagram.
type netlinkMessage struct {
	kind     uint16
	sequence uint32
	body     []byte // after the netlink header
}

// nextMessage splits the first message off a datagram. A datagram may carry several, though
// the kernel queues one packet a datagram. If the first is cut short, or its length is none,
// the body is what there is of it and rest is empty; whole tells.
func nextMessage(datagram []byte) (m netlinkMessage, rest []byte, whole bool) {
	if len(datagram) < netlinkHeaderLength {
		return netlinkMessage{}, nil, false
	}
	length := uint64(binary.NativeEndian.Uint32(datagram))
	m.kind = binary.NativeEndian.Uint16(datagram[4:])
	m.sequence = binary.NativeEndian.Uint32(datagram[8:])
	if length < netlinkHeaderLength || length > uint64(len(datagram)) {
		m.body = datagram[netlinkHeaderLength:]
		return m, nil, false
	}
	m.body = datagram[netlinkHeaderLength:length]
	next := align(length)
	if next >= uint64(len(datagram)) {
		return m, nil, true
	}
	return m, datagram[next:], true
}

// align rounds a netlink length up to a multiple of 4.
func align(n uint64) uint64 { return (n + 3) &^ 3 }

// parsePacket reads the body of an NFQNL_MSG_PACKET into p, whose slices then alias it. Even
// when it fails it says whether p.ID is known, for the packet then still needs its verdict.
func parsePacket(body []byte, p *Packet) (identified bool, err error) {
	*p = Packet{}
	if len(body) < netfilterHeaderLength {
		return false, errShort
	}
	p.IPv6 = body[0] == familyIPv6
	rest := body[netfilterHeaderLength:]
	var captured uint32
	for len(rest) > 0 {
		kind, value, next, ok := nextAttribute(rest)
		if !ok {
			return identified, errAttribute
		}
		rest = next
		good := true
		switch kind {
		case attributePacketHeader:
			// A second header does not change whose verdict is owed.
			if good = len(value) >= 7 && !identified; good {
				p.ID = binary.BigEndian.Uint32(value)
				p.Hook = value[6]
				identified = true
			}
		case attributeMark:
			good = read32(value, &p.Mark)
		case attributeInDevice:
			good = read32(value, &p.InDevice)
		case attributeOutDevice:
			good = read32(value, &p.OutDevice)
		case attributeInPort:
			good = read32(value, &p.InPort)
		case attributeOutPort:
			good = read32(value, &p.OutPort)
		case attributeHardware:
			p.HardwareAddress, good = hardwareAddress(value)
		case attributePayload:
			p.Payload = value
		case attributeLength:
			good = read32(value, &captured)
		case attributeInfo:
			var info uint32
			good = read32(value, &info)
			p.GSO = info&infoGSO != 0
			p.ChecksumNotReady = info&infoChecksumNotReady != 0
			p.ChecksumNotVerified = info&infoChecksumNotVerified != 0
		case attributeVLAN:
			p.VLAN, good = parseVLAN(value)
		case attributeLinkHeader:
			p.LinkHeader = value
		}
		if !good && err == nil {
			err = errLength
		}
	}
	p.Length = max(uint32(len(p.Payload)), captured)
	p.Truncated = p.Length > uint32(len(p.Payload))
	if !identified {
		return false, errNoID
	}
	return true, err
}

// nextAttribute splits the first attribute off b, which is not empty.
func nextAttribute(b []byte) (kind uint16, value, rest []byte, ok bool) {
	if len(b) < attributeHeaderLength {
		return 0, nil, nil, false
	}
	length := uint64(binary.NativeEndian.Uint16(b))
	if length < attributeHeaderLength || length > uint64(len(b)) {
		return 0, nil, nil, false
	}
	kind = binary.NativeEndian.Uint16(b[2:]) & attributeTypeMask
	next := min(align(length), uint64(len(b))) // the last one's padding may be missing
	return kind, b[attributeHeaderLength:length:length], b[next:], true
}

func read32(value []byte, into *uint32) bool {
	if len(value) != 4 {
		return false
	}
	*into = binary.BigEndian.Uint32(value)
	return true
}

// hardwareAddress reads struct nfqnl_msg_packet_hw: a length, two bytes of padding, eight bytes.
func hardwareAddress(value []byte) ([]byte, bool) {
	if len(value) < 4 {
		return nil, false
	}
	length := int(binary.BigEndian.Uint16(value))
	if length > len(value)-4 {
		return nil, false
	}
	return value[4 : 4+length : 4+length], true
}

func parseVLAN(nested []byte) (v VLAN, ok bool) {
	for len(nested) > 0 {
		kind, value, rest, ok := nextAttribute(nested)
		if !ok {
			return VLAN{}, false
		}
		nested = rest
		switch kind {
		case attributeVLANProtocol, attributeVLANTCI:
			if len(value) != 2 {
				return VLAN{}, false
			}
			if kind == attributeVLANProtocol {
				v.Protocol = binary.BigEndian.Uint16(value)
			} else {
				v.TCI = binary.BigEndian.Uint16(value)
			}
		}
	}
	return v, true
}

// rejection is what a netlink error message says.
type rejection struct {
	errno    uint32 // 0 acknowledges
	kind     uint16 // the type of the message that it answers
	sequence uint32 // and its sequence number
}

// parseRejection reads the body of an NLMSG_ERROR: an error, negative, and the header of the
// message it answers.
func parseRejection(body []byte) (r rejection, ok bool) {
	if len(body) < 4+netlinkHeaderLength {
		return rejection{}, false
	}
	r.errno = -binary.NativeEndian.Uint32(body)
	r.kind = binary.NativeEndian.Uint16(body[8:])
	r.sequence = binary.NativeEndian.Uint32(body[12:])
	return r, true
}
