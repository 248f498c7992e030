package cip

import (
	"bytes"
	"net/netip"
	"strconv"
)

// The limits of a path.
const (
	MaxHops   = 16  // port segments
	MaxTag    = 256 // bytes of a tag in its one form
	MaxPoints = 8   // assemblies of a connection path
	// MaxParents is how many objects one may lie in.
	MaxParents = 3
)

// Hop is one step of a route: a port of a device, and the link address behind it (V1 C-1.4.1).
type Hop struct {
	Port uint16
	// Link is the link address where it is one byte; Address where it is text that is an IPv4
	// address. Text that is neither is Other: no rule can name it.
	Link    uint8
	Address netip.Addr
	Other   bool
}

// String writes "1/0" or "2/198.18.0.9".
func (h Hop) String() string {
	port := strconv.Itoa(int(h.Port)) + "/"
	switch {
	case h.Other:
		return port + "?"
	case h.Address.IsValid():
		return port + h.Address.String()
	}
	return port + strconv.Itoa(int(h.Link))
}

// Key is an electronic key (V1 C-1.4.2.1): the target opens a connection only if it is such a device.
type Key struct {
	Vendor, DeviceType, ProductCode uint16
	Major, Minor                    uint8
}

// Object is an instance of a class.
type Object struct {
	Class    uint32 `json:"class"`
	Instance uint32 `json:"instance"`
}

// Path is what an EPATH names, whatever its spelling. The zero Path names nothing.
type Path struct {
	Class, Instance, Attribute            uint32
	HasClass, HasInstance, HasAttribute   bool
	HasKey, Safety                        bool
	ElectronicKey                         Key
	ConfigData                            []byte // of a simple data segment: the configuration that a Forward Open carries; see Part
	hops                                  [MaxHops]Hop
	hopCount                              int
	parents                               [MaxParents]Object
	parentCount                           int
	points                                [MaxPoints]uint32
	pointCount                            int
	text                                  [MaxTag]byte
	textLength, tagLength                 int
	foreign, indexed, connection, counted bool
}

// Hops returns the route that the path begins with.
func (p *Path) Hops() []Hop { return p.hops[:p.hopCount] }

// Parents returns the objects in which the one that is named lies, the outermost first. A request seldom
// has one.
func (p *Path) Parents() []Object { return p.parents[:p.parentCount] }

// Tag returns the tag in its one form, such as Program:Main.Line[3,4].Speed, as it is spelt in upper and
// lower case; nil if the path names none. It aliases the path. Beside a class it is the scope of the
// instance, such as a program.
func (p *Path) Tag() []byte {
	if p.tagLength == 0 {
		return nil
	}
	return p.text[:p.tagLength]
}

// Member returns what is named inside an instance: elements and members such as [3].Speed.
func (p *Path) Member() []byte { return p.text[p.tagLength:p.textLength] }

// HasPart tells whether a request names some of what its path does by a data segment behind it, as Omron controllers
// take it (see Part): which, is theirs to say, and no element's.
func (p *Path) HasPart() bool { return !p.connection && p.ConfigData != nil }

// Part returns which bytes of a tag a request names: how many, from an offset on. That is the data segment of Omron's NJ
// and NX controllers, of three words.
func (p *Path) Part() (offset uint32, size uint16, ok bool) {
	if !p.HasPart() || len(p.ConfigData) != 6 {
		return 0, 0, false
	}
	return value32(p.ConfigData, 0), value16(p.ConfigData, 4), true
}

// HasName tells whether the path has a symbol: a tag's name, or one inside what an instance names.
func (p *Path) HasName() bool { return p.tagLength > 0 || bytes.IndexByte(p.Member(), '.') >= 0 }

// Points returns the assemblies of a connection path: instances of the assembly class and connection
// points, in the order of the wire.
func (p *Path) Points() []uint32 { return p.points[:p.pointCount] }

// AssembliesOnly tells whether everything that a connection path names lies in the assembly class.
func (p *Path) AssembliesOnly() bool {
	return p.HasClass && p.Class == ClassAssembly && !p.foreign && p.textLength == 0
}

// RouterOnly tells whether a connection path names the message router, and nothing beside it or in it that
// a device could connect to instead.
func (p *Path) RouterOnly() bool {
	return p.HasClass && p.Class == ClassMessageRouter && (!p.HasInstance || p.Instance == 1) &&
		!p.HasAttribute && !p.foreign && p.pointCount == 0 && p.textLength == 0
}

// Owner tells who gives the services at the path their meaning.
func (p *Path) Owner() Owner {
	if !p.HasClass {
		if p.tagLength > 0 {
			return Tags
		}
		return AnyOwner
	}
	switch p.Class {
	case ClassConnectionManager:
		return ConnectionManager
	case ClassPCCC:
		return PCCC
	case ClassSymbol:
		return Tags
	case ClassTemplate:
		return Template
	case ClassFile:
		return File
	}
	return AnyOwner
}

// Equal tells whether two paths name the same, but for upper and lower case of tags.
func (p *Path) Equal(q *Path) bool {
	if p.Class != q.Class || p.Instance != q.Instance || p.Attribute != q.Attribute ||
		p.HasClass != q.HasClass || p.HasInstance != q.HasInstance || p.HasAttribute != q.HasAttribute ||
		p.HasKey != q.HasKey || p.ElectronicKey != q.ElectronicKey || p.Safety != q.Safety ||
		p.parentCount != q.parentCount || p.foreign != q.foreign || p.hopCount != q.hopCount || p.pointCount != q.pointCount ||
		p.textLength != q.textLength || p.tagLength != q.tagLength || string(p.ConfigData) != string(q.ConfigData) {
		return false
	}
	for i, h := range p.Hops() {
		if h != q.hops[i] {
			return false
		}
	}
	for i, v := range p.Points() {
		if v != q.points[i] {
			return false
		}
	}
	for i, v := range p.Parents() {
		if v != q.parents[i] {
			return false
		}
	}
	return EqualFold(p.text[:p.textLength], q.text[:q.textLength])
}

// EqualFold compares tags as controllers do: without regard to the case of the letters A to Z.
func EqualFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if Lower(a[i]) != Lower(b[i]) {
			return false
		}
	}
	return true
}

// Lower returns a letter's lower case, and everything else as it is.
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// String writes the path for people: "class identity instance 1 attribute 7", "tag Line3.Speed".
func (p *Path) String() string { return string(p.AppendText(nil)) }

// AppendText appends what String returns.
func (p *Path) AppendText(b []byte) []byte {
	word := func(text string) {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, text...)
	}
	if p.hopCount > 0 {
		word("route ")
		b = AppendRoute(b, p.Hops())
	}
	if p.tagLength > 0 {
		word("tag ")
		b = append(b, p.Tag()...)
	}
	for _, o := range p.Parents() {
		word("class ")
		b = append(b, ClassName(o.Class)...)
		b = append(b, " instance "...)
		b = strconv.AppendUint(b, uint64(o.Instance), 10)
	}
	if p.HasClass {
		word("class ")
		b = append(b, ClassName(p.Class)...)
	}
	if p.HasInstance {
		word("instance ")
		b = strconv.AppendUint(b, uint64(p.Instance), 10)
	}
	b = append(b, p.Member()...)
	if offset, size, ok := p.Part(); ok {
		word("bytes ")
		b = strconv.AppendUint(b, uint64(size), 10)
		b = append(b, " from "...)
		b = strconv.AppendUint(b, uint64(offset), 10)
	}
	if p.HasAttribute {
		word("attribute ")
		b = strconv.AppendUint(b, uint64(p.Attribute), 10)
	}
	for i, v := range p.Points() {
		if i == 0 {
			word("points ")
		} else {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return b
}

// AppendRoute appends hops as a policy writes them: 1/0,2/198.18.0.9.
func AppendRoute(b []byte, hops []Hop) []byte {
	for i, h := range hops {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, h.String()...)
	}
	return b
}

// reset clears p, but for what its counts do not count.
func (p *Path) reset() {
	p.Class, p.Instance, p.Attribute = 0, 0, 0
	p.HasClass, p.HasInstance, p.HasAttribute, p.HasKey, p.Safety = false, false, false, false, false
	p.ElectronicKey, p.ConfigData = Key{}, nil
	p.hopCount, p.parentCount, p.pointCount, p.textLength, p.tagLength = 0, 0, 0, 0, 0
	p.foreign, p.indexed, p.connection, p.counted = false, false, false, false
}
