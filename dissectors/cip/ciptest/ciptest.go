// Package ciptest builds EtherNet/IP and CIP messages for tests: lawful ones, and with other arguments
// ones that are not. Only tests import it.
package ciptest

import "encoding/binary"

var le = binary.LittleEndian

// Join joins bytes.
func Join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// U16 and U32 are little-endian numbers.
func U16(v uint16) []byte { return le.AppendUint16(nil, v) }
func U32(v uint32) []byte { return le.AppendUint32(nil, v) }

// Class, Instance, Attribute, Member and Point are logical segments in their shortest spelling.
func Class(v uint32) []byte     { return Logical(0x20, v, 0) }
func Instance(v uint32) []byte  { return Logical(0x24, v, 0) }
func Member(v uint32) []byte    { return Logical(0x28, v, 0) }
func Point(v uint32) []byte     { return Logical(0x2c, v, 0) }
func Attribute(v uint32) []byte { return Logical(0x30, v, 0) }

// Logical is a padded logical segment of at least 8, 16 or 32 bits (least 0, 1 or 2).
func Logical(kind byte, v uint32, least byte) []byte {
	switch {
	case least <= 0 && v < 1<<8:
		return []byte{kind, byte(v)}
	case least <= 1 && v < 1<<16:
		return append([]byte{kind | 1, 0}, U16(uint16(v))...)
	}
	return append([]byte{kind | 2, 0}, U32(v)...)
}

// PackedLogical is the same without the pad byte.
func PackedLogical(kind byte, v uint32, least byte) []byte {
	b := Logical(kind, v, least)
	if b[0]&3 == 0 {
		return b
	}
	return append(b[:1:1], b[2:]...)
}

// Symbol is an ANSI extended symbol segment.
func Symbol(name string) []byte {
	b := append([]byte{0x91, byte(len(name))}, name...)
	if len(name)%2 != 0 {
		b = append(b, 0)
	}
	return b
}

// ShortSymbol is a symbol segment of up to 31 characters, padded.
func ShortSymbol(name string) []byte {
	b := append([]byte{0x60 | byte(len(name))}, name...)
	if len(name)%2 == 0 {
		b = append(b, 0)
	}
	return b
}

// Port is a hop with a link address of one byte, PortText one with text.
func Port(port, link byte) []byte { return []byte{port, link} }
func PortText(port byte, link string) []byte {
	b := append([]byte{port | 0x10, byte(len(link))}, link...)
	if len(link)%2 != 0 {
		b = append(b, 0)
	}
	return b
}

// Key is an electronic key of format 4 that any device fits.
func Key() []byte { return []byte{0x34, 4, 0, 0, 0, 0, 0, 0, 0, 0} }

// Request is a service with its path and data.
func Request(code byte, path []byte, data ...[]byte) []byte {
	return Join([]byte{code, byte(len(path) / 2)}, path, Join(data...))
}

// ReadTag and WriteDINT are services of the data table.
func ReadTag(path []byte, count uint16) []byte { return Request(0x4c, path, U16(count)) }
func WriteDINT(path []byte, values ...int32) []byte {
	data := Join(U16(0xc4), U16(uint16(len(values))))
	for _, v := range values {
		data = append(data, U32(uint32(v))...)
	}
	return Request(0x4d, path, data)
}

// Router and Manager are the paths of the message router and the connection manager.
func Router() []byte  { return Join(Class(2), Instance(1)) }
func Manager() []byte { return Join(Class(6), Instance(1)) }

// Multiple is a Multiple Service Packet.
func Multiple(services ...[]byte) []byte {
	return Request(0x0a, Router(), Packet(services...))
}

// Packet is the data of one: count, offsets and services.
func Packet(services ...[]byte) []byte {
	b := U16(uint16(len(services)))
	at := 2 + 2*len(services)
	for _, s := range services {
		b = append(b, U16(uint16(at))...)
		at += len(s)
	}
	return append(b, Join(services...)...)
}

// Unconnected is an Unconnected Send of a service by a route.
func Unconnected(service []byte, route ...[]byte) []byte {
	way := Join(route...)
	data := Join([]byte{10, 5}, U16(uint16(len(service))), service)
	if len(service)%2 != 0 {
		data = append(data, 0)
	}
	return Request(0x52, Manager(), data, []byte{byte(len(way) / 2), 0}, way)
}

// Open is what a Forward Open asks for. Zero fields become lawful ones.
type Open struct {
	Large                bool
	ToTargetID, ToSource uint32
	Serial               uint16
	RPI                  uint32 // microseconds, both directions; 100,000
	Size                 uint16 // both directions; 500
	Types                [2]byte
	Owner                bool
	Class                byte // with the trigger; 0xa3 if 0, and 0 if 0xff
	Multiplier           byte
	Path                 []byte // the message router
}

// Null as a type in Open.Types is a null connection: 0 there means point to point.
const Null = 0xff

// Forward builds the request.
func (o Open) Forward() []byte {
	if o.RPI == 0 {
		o.RPI = 100000
	}
	if o.Size == 0 {
		o.Size = 500
	}
	switch o.Class {
	case 0:
		o.Class = 0xa3
	case 0xff:
		o.Class = 0
	}
	if o.Path == nil {
		o.Path = Router()
	}
	b := Join([]byte{10, 5}, U32(o.ToTargetID), U32(o.ToSource), U16(o.Serial), U16(0x1337), U32(42), []byte{o.Multiplier, 0, 0, 0})
	for i := range 2 {
		b = append(b, U32(o.RPI)...)
		kind := uint32(2)
		switch o.Types[i] {
		case Null:
			kind = 0
		case 1:
			kind = 1
		}
		v := kind << 29
		if o.Owner && i == 0 {
			v |= 1 << 31
		}
		if o.Large {
			b = append(b, U32(v|uint32(o.Size))...)
		} else {
			b = append(b, U16(uint16(v>>16)|o.Size)...)
		}
	}
	b = Join(b, []byte{o.Class, byte(len(o.Path) / 2)}, o.Path)
	if o.Large {
		return Request(0x5b, Manager(), b)
	}
	return Request(0x54, Manager(), b)
}

// Opened is the successful reply to a Forward Open.
func Opened(o Open, toTarget, toSource uint32) []byte {
	code := byte(0xd4)
	if o.Large {
		code = 0xdb
	}
	if o.RPI == 0 {
		o.RPI = 100000
	}
	return Join([]byte{code, 0, 0, 0}, U32(toTarget), U32(toSource), U16(o.Serial), U16(0x1337), U32(42), U32(o.RPI), U32(o.RPI), []byte{0, 0})
}

// Close is a Forward Close of the connection with the serial number.
func Close(serial uint16, path []byte) []byte {
	return Request(0x4e, Manager(), []byte{10, 5}, U16(serial), U16(0x1337), U32(42), []byte{byte(len(path) / 2), 0}, path)
}

// Encapsulate is an encapsulated message.
func Encapsulate(command uint16, session uint32, context uint64, data []byte) []byte {
	b := Join(U16(command), U16(uint16(len(data))), U32(session), U32(0))
	b = le.AppendUint64(b, context)
	return Join(b, U32(0), data)
}

// Item is a common packet format item.
func Item(kind uint16, data []byte) []byte { return Join(U16(kind), U16(uint16(len(data))), data) }

// Items is interface handle, time-out and items.
func Items(items ...[]byte) []byte {
	return Join(U32(0), U16(0), U16(uint16(len(items))), Join(items...))
}

// RR is a SendRRData of a service, or of its reply.
func RR(session uint32, context uint64, service []byte, more ...[]byte) []byte {
	items := append([][]byte{Item(0, nil), Item(0xb2, service)}, more...)
	return Encapsulate(0x6f, session, context, Items(items...))
}

// Unit is a SendUnitData on a connection.
func Unit(session, connection uint32, sequence uint16, service []byte) []byte {
	return Encapsulate(0x70, session, 0, Items(Item(0xa1, U32(connection)), Item(0xb1, Join(U16(sequence), service))))
}

// Register is a request to register a session, and its reply if session is not 0.
func Register(session uint32) []byte { return Encapsulate(0x65, session, 0, []byte{1, 0, 0, 0}) }

// Socket is a Sockaddr Info item's data.
func Socket(port uint16, a, b, c, d byte) []byte {
	return []byte{0, 2, byte(port >> 8), byte(port), a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0}
}
