package cipio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// The ports of EtherNet/IP (CIP volume 2, 2-2).
const (
	MessagePort = 44818
	IOPort      = 2222
)

// Encapsulation commands.
const (
	commandListServices      = 0x0004
	commandListIdentity      = 0x0063
	commandRegisterSession   = 0x0065
	commandUnregisterSession = 0x0066
	commandSendRRData        = 0x006f
)

// Items of the common packet format.
const (
	itemNull             = 0x0000
	itemIdentity         = 0x000c
	itemUnconnected      = 0x00b2
	itemConnected        = 0x00b1
	itemServices         = 0x0100
	itemSockaddrToTarget = 0x8000
	itemSockaddrToOrigin = 0x8001
	itemSequencedAddress = 0x8002
)

// Services.
const (
	serviceGetAttributesAll = 0x01
	serviceForwardClose     = 0x4e
	serviceForwardOpen      = 0x54
	serviceLargeForwardOpen = 0x5b
	reply                   = 0x80
)

// Status codes: general, and of the connection manager.
const (
	statusConnectionFailure   = 0x01
	statusServiceNotSupported = 0x08
	extendedInUse             = 0x0100
	extendedNotFound          = 0x0107
)

var little = binary.LittleEndian

const headerSize = 24

// message is one message of the encapsulation protocol.
type message struct {
	command uint16
	session uint32
	status  uint32
	context [8]byte
	data    []byte
}

func readMessage(r io.Reader) (message, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return message{}, err
	}
	m := message{
		command: little.Uint16(h[0:]), session: little.Uint32(h[4:]), status: little.Uint32(h[8:]),
		context: [8]byte(h[12:20]), data: make([]byte, little.Uint16(h[2:])),
	}
	_, err := io.ReadFull(r, m.data)
	return m, err
}

func (m *message) bytes() []byte {
	b := little.AppendUint16(nil, m.command)
	b = little.AppendUint16(b, uint16(len(m.data)))
	b = little.AppendUint32(b, m.session)
	b = little.AppendUint32(b, m.status)
	b = append(b, m.context[:]...)
	return append(append(b, 0, 0, 0, 0), m.data...)
}

// item is one item of the common packet format.
type item struct {
	kind uint16
	data []byte
}

var errItems = errors.New("read items of the common packet format: they end early")

func readItems(b []byte) ([]item, error) {
	if len(b) < 2 {
		return nil, errItems
	}
	count := int(little.Uint16(b))
	b = b[2:]
	var items []item
	for range count {
		if len(b) < 4 || len(b) < 4+int(little.Uint16(b[2:])) {
			return nil, errItems
		}
		n := int(little.Uint16(b[2:]))
		items = append(items, item{little.Uint16(b), b[4 : 4+n]})
		b = b[4+n:]
	}
	return items, nil
}

func appendItems(b []byte, items ...item) []byte {
	b = little.AppendUint16(b, uint16(len(items)))
	for _, i := range items {
		b = little.AppendUint16(b, i.kind)
		b = little.AppendUint16(b, uint16(len(i.data)))
		b = append(b, i.data...)
	}
	return b
}

// rrData is the body of SendRRData: interface handle, time-out, items.
func rrData(items ...item) []byte { return appendItems(make([]byte, 6), items...) }

// sockaddr is the body of a Sockaddr Info item; its fields are big-endian (CIP volume 2, 2-6.3.3).
func sockaddr(a netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint16(nil, 2)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	b = append(b, a.Addr().AsSlice()...)
	return append(b, make([]byte, 8)...)
}

func readSockaddr(b []byte) (netip.AddrPort, bool) {
	if len(b) != 16 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), true
}

// triad names a connection to its target.
type triad struct {
	serial, vendor uint16
	originator     uint32
}

// direction is what a Forward Open says of one direction.
type direction struct {
	id        uint32
	interval  time.Duration
	size      uint16
	variable  bool
	multicast bool
}

// forwardOpen is a Forward Open or Large Forward Open.
type forwardOpen struct {
	large      bool
	output     direction // originator to target
	input      direction
	triad      triad
	multiplier uint8 // 4 << multiplier intervals
	transport  uint8
	path       []byte
}

func (f *forwardOpen) timeout(d direction) time.Duration { return d.interval * (4 << f.multiplier) }

// The bits of network connection parameters: those of a Forward Open, which a Large one has in its
// upper half (CIP volume 1, 3-5.5.1.1).
const (
	parameterMulticast = 1 << 13
	parameterPoint     = 2 << 13
	parameterScheduled = 2 << 10
	parameterVariable  = 1 << 9
)

func (d direction) parameters() uint16 {
	p := uint16(parameterPoint | parameterScheduled)
	if d.multicast {
		p = parameterMulticast | parameterScheduled
	}
	if d.variable {
		p |= parameterVariable
	}
	return p
}

func (d direction) appendTo(b []byte, large bool) []byte {
	b = little.AppendUint32(b, uint32(d.interval/time.Microsecond))
	if large {
		return little.AppendUint32(b, uint32(d.parameters())<<16|uint32(d.size))
	}
	return little.AppendUint16(b, d.parameters()|d.size&0x1ff)
}

// request is the whole service, as an unconnected message carries it.
func (f *forwardOpen) request() []byte {
	service := byte(serviceForwardOpen)
	if f.large {
		service = serviceLargeForwardOpen
	}
	b := []byte{service, 2, 0x20, 0x06, 0x24, 0x01, 0x0a, 0xf0}
	b = little.AppendUint32(b, f.output.id)
	b = little.AppendUint32(b, f.input.id)
	b = f.triad.appendTo(b)
	b = append(b, f.multiplier, 0, 0, 0)
	b = f.output.appendTo(b, f.large)
	b = f.input.appendTo(b, f.large)
	return append(append(b, f.transport, byte(len(f.path)/2)), f.path...)
}

func (t triad) appendTo(b []byte) []byte {
	b = little.AppendUint16(b, t.serial)
	b = little.AppendUint16(b, t.vendor)
	return little.AppendUint32(b, t.originator)
}

func readTriad(b []byte) triad {
	return triad{little.Uint16(b), little.Uint16(b[2:]), little.Uint32(b[4:])}
}

// readForwardOpen reads what follows the service's path.
func readForwardOpen(b []byte, large bool) (*forwardOpen, error) {
	half := 6
	if large {
		half = 8
	}
	fixed := 22 + 2*half + 2
	if len(b) < fixed || len(b) != fixed+2*int(b[fixed-1]) {
		return nil, fmt.Errorf("read a Forward Open of %d bytes: that is not its length", len(b))
	}
	f := &forwardOpen{large: large, triad: readTriad(b[10:]), multiplier: b[18], transport: b[fixed-2], path: b[fixed:]}
	f.output, f.input = readDirection(b[22:], large), readDirection(b[22+half:], large)
	f.output.id, f.input.id = little.Uint32(b[2:]), little.Uint32(b[6:])
	return f, nil
}

func readDirection(b []byte, large bool) direction {
	d := direction{interval: time.Duration(little.Uint32(b)) * time.Microsecond}
	parameters := little.Uint16(b[4:])
	d.size = parameters & 0x1ff
	if large {
		d.size, parameters = little.Uint16(b[4:]), little.Uint16(b[6:])
	}
	d.multicast = parameters&(3<<13) == parameterMulticast
	d.variable = parameters&parameterVariable != 0
	return d
}
