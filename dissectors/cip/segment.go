package cip

import "net/netip"

// Form is how the segments of a path are laid out (V1 C-1.3).
type Form uint8

// The forms. Requests have padded paths; packed ones are in the attributes of some objects.
const (
	Padded Form = iota
	Packed
)

// Parse reads a path of a request: at most one object or tag, with a route before it.
func (p *Path) Parse(b []byte, form Form) error {
	p.reset()
	if bad := p.parse(b, form); bad != nil {
		return bad
	}
	return nil
}

// ParseConnection reads a connection path, which may name several assemblies (V1 3-5.5.1.9).
func (p *Path) ParseConnection(b []byte, form Form) error {
	p.reset()
	p.connection = true
	if bad := p.parse(b, form); bad != nil {
		return bad
	}
	return nil
}

func (p *Path) parse(b []byte, form Form) *MalformedError {
	for len(b) > 0 {
		n, bad := p.segment(b, form)
		if bad != nil {
			return bad
		}
		b = b[n:]
	}
	return p.notePoint()
}

// segment reads one segment and returns its size. The upper three bits are its type (V1 C-1.4).
func (p *Path) segment(b []byte, form Form) (int, *MalformedError) {
	switch b[0] >> 5 {
	case 0:
		return p.portSegment(b)
	case 1:
		return p.logicalSegment(b, form)
	case 2:
		return p.networkSegment(b)
	case 3:
		return p.symbolSegment(b, form)
	case 4:
		return p.dataSegment(b)
	}
	return 0, errSegment // data types have no place in a path
}

// portSegment reads a hop: a port in four bits or, if they are all set, in 16, and a link address of one
// byte or with a length before it (V1 C-1.4.1).
func (p *Path) portSegment(b []byte) (int, *MalformedError) {
	const extendedLink, port = 0x10, 0x0f
	size, at := 1, 1
	if b[0]&extendedLink != 0 {
		if len(b) < 2 {
			return 0, errSegmentEnd
		}
		size, at = int(b[1]), 2
	}
	h := Hop{Port: uint16(b[0] & port)}
	if h.Port == port { // the extended port stands behind the size, and before the link address
		if len(b) < at+2 {
			return 0, errSegmentEnd
		}
		h.Port = value16(b, at)
		at += 2
	}
	n := at + size
	if b[0]&extendedLink != 0 && n%2 != 0 {
		n++
	}
	switch {
	case size == 0 || h.Port == 0:
		return 0, errPort
	case len(b) < n:
		return 0, errSegmentEnd
	case n > at+size && b[n-1] != 0:
		return 0, errPad
	case p.HasClass || p.textLength > 0:
		return 0, errPortLate
	case p.hopCount == MaxHops:
		return 0, ErrHops
	}
	h.setLink(b[at : at+size])
	p.hops[p.hopCount] = h
	p.hopCount++
	return n, nil
}

// setLink reads a link address. One byte is a slot or node; more are the text of an address (V1 C-1.4.1),
// in one spelling only, or a name, which nobody here can resolve.
func (h *Hop) setLink(link []byte) {
	if len(link) == 1 {
		h.Link = link[0]
		return
	}
	a, ok := parseIPv4(link)
	h.Address, h.Other = a, !ok
}

// parseIPv4 reads a dotted address without leading zeros.
func parseIPv4(b []byte) (netip.Addr, bool) {
	var a [4]byte
	i := 0
	for part := range a {
		v, digits := 0, 0
		for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
			if digits > 0 && v == 0 {
				return netip.Addr{}, false
			}
			v = 10*v + int(b[i]-'0')
			digits++
			if v > 255 {
				return netip.Addr{}, false
			}
		}
		if digits == 0 {
			return netip.Addr{}, false
		}
		a[part] = byte(v)
		if part < 3 {
			if i >= len(b) || b[i] != '.' {
				return netip.Addr{}, false
			}
			i++
		}
	}
	return netip.AddrFrom4(a), i == len(b)
}

// The types of logical segments (V1 C-1.4.2).
const (
	logicalClass     = 0
	logicalInstance  = 1
	logicalMember    = 2
	logicalPoint     = 3
	logicalAttribute = 4
	logicalSpecial   = 5
)

// logicalSegment reads a number of 8, 16 or 32 bits. In a padded path a byte stands before those of more
// than 8 bits, so that they begin at an even place.
func (p *Path) logicalSegment(b []byte, form Form) (int, *MalformedError) {
	kind, format := b[0]>>2&7, b[0]&3
	if kind == logicalSpecial {
		return p.keySegment(b)
	}
	at := 1
	if format != 0 && form == Padded {
		at = 2
	}
	size := 1 << format
	switch {
	case format == 3 || kind > logicalSpecial:
		return 0, errSegment
	case len(b) < at+size:
		return 0, errSegmentEnd
	case at == 2 && b[1] != 0:
		return 0, errPad
	}
	v := uint32(b[at])
	switch format {
	case 1:
		v = uint32(value16(b, at))
	case 2:
		v = value32(b, at)
	}
	return at + size, p.logical(kind, v)
}

// logical files a number. A request names one object; a connection path may name several, one after
// another.
func (p *Path) logical(kind uint8, v uint32) *MalformedError {
	if v > 0xffff && (kind == logicalClass || kind == logicalAttribute) {
		return errWide
	}
	switch kind {
	case logicalClass:
		return p.class(v)
	case logicalInstance:
		switch {
		case p.HasInstance:
			return errTwice
		case !p.HasClass || p.HasAttribute || p.pointCount > 0 && !p.connection:
			return errOrder
		}
		p.Instance, p.HasInstance = v, true
		return nil
	case logicalAttribute:
		switch {
		case p.HasAttribute:
			return errTwice
		case !p.HasClass:
			return errOrder
		}
		p.Attribute, p.HasAttribute = v, true
		return nil
	case logicalMember:
		return p.index(v)
	}
	switch {
	case !p.HasClass || p.HasAttribute && !p.connection:
		return errOrder
	case !p.connection && (p.HasInstance || p.pointCount > 0): // a point is an instance, too, and which is meant nobody says
		return errTwice
	}
	if bad := p.notePoint(); bad != nil {
		return bad
	}
	return p.point(v)
}

// class begins an object. In a connection path another may have come before.
func (p *Path) class(v uint32) *MalformedError {
	switch {
	case p.HasClass && !p.HasAttribute && !p.HasInstance && p.pointCount == 0:
		return errTwice // a class with nothing in it
	case p.textLength > p.tagLength:
		return errOrder
	}
	p.indexed = false
	if !p.HasClass {
		if p.tagLength > 0 && standsAlone(v) && !p.connection {
			return errNested
		}
		p.Class, p.HasClass = v, true
		return nil
	}
	if !p.connection {
		return p.inner(v)
	}
	if bad := p.notePoint(); bad != nil {
		return bad
	}
	p.foreign = p.foreign || v != p.Class
	p.Instance, p.Attribute, p.HasInstance, p.HasAttribute, p.counted = 0, 0, false, false, false
	return nil
}

// inner begins an object inside the one before: controllers keep the tags and routines of a program so.
// It makes no sense with the objects that stand alone, and a device that reads only the first or only the last
// class would take a request for one of them.
func (p *Path) inner(v uint32) *MalformedError {
	switch {
	case !p.HasInstance || p.HasAttribute || p.pointCount > 0:
		return errTwice
	case p.parentCount == MaxParents:
		return ErrParents
	case standsAlone(p.Class) || standsAlone(v):
		return errNested
	}
	p.parents[p.parentCount] = Object{p.Class, p.Instance}
	p.parentCount++
	p.Class, p.Instance, p.HasInstance = v, 0, false
	return nil
}

// standsAlone tells whether services of the class carry others, or have codes that say something else to a tag:
// 0x4e closes a connection, and writes bits of a tag. Beside such an object a path of a request names nothing.
func standsAlone(class uint32) bool {
	return class == ClassMessageRouter || class == ClassConnectionManager || class == ClassPCCC || class == ClassFile
}

// notePoint counts the instance of an assembly among the points of a connection path, once.
func (p *Path) notePoint() *MalformedError {
	if !p.connection || !p.HasInstance || p.Class != ClassAssembly || p.foreign || p.counted {
		return nil
	}
	p.counted = true
	return p.point(p.Instance)
}

func (p *Path) point(v uint32) *MalformedError {
	if p.pointCount == MaxPoints {
		return ErrPoints
	}
	p.points[p.pointCount] = v
	p.pointCount++
	return nil
}

// keySegment reads an electronic key of format 4.
func (p *Path) keySegment(b []byte) (int, *MalformedError) {
	const size = 10
	switch {
	case b[0] != 0x34 || len(b) > 1 && b[1] != 4:
		return 0, errKey
	case len(b) < size:
		return 0, errSegmentEnd
	case p.HasKey:
		return 0, errTwice
	case p.HasClass || p.textLength > 0:
		return 0, errOrder
	}
	p.HasKey = true
	p.ElectronicKey = Key{value16(b, 2), value16(b, 4), value16(b, 6), b[8], b[9]}
	return size, nil
}

// networkSegment reads a schedule, tag or production inhibit time, which say nothing of what is named, or
// the safety segment, which says that the connection is one of CIP Safety (V1 C-1.4.3, V5).
func (p *Path) networkSegment(b []byte) (int, *MalformedError) {
	const extended, safety, inhibitMicroseconds = 0x10, 0x50, 0x51
	size := 2
	if len(b) < size {
		return 0, errSegmentEnd
	}
	switch {
	case b[0]&extended == 0 && (b[0] == 0x41 || b[0] == 0x42 || b[0] == 0x43):
	case b[0] == safety, b[0] == inhibitMicroseconds:
		size += 2 * int(b[1])
		p.Safety = p.Safety || b[0] == safety
	default:
		return 0, errSegment
	}
	if len(b) < size {
		return 0, errSegmentEnd
	}
	return size, nil
}

// symbolSegment reads a symbol of up to 31 characters (V1 C-1.4.4).
func (p *Path) symbolSegment(b []byte, form Form) (int, *MalformedError) {
	size := int(b[0] & 0x1f)
	if size == 0 {
		return 0, errSegment // double-byte characters and numeric symbols
	}
	n := 1 + size
	if form == Padded && n%2 != 0 {
		n++
	}
	switch {
	case len(b) < n:
		return 0, errSegmentEnd
	case n > 1+size && b[n-1] != 0:
		return 0, errPad
	}
	return n, p.symbol(b[1 : 1+size])
}

// dataSegment reads an ANSI extended symbol, or simple data: the configuration in a Forward Open (V1
// C-1.4.5).
func (p *Path) dataSegment(b []byte) (int, *MalformedError) {
	const simple, symbol = 0x80, 0x91
	if len(b) < 2 {
		return 0, errSegmentEnd
	}
	size := int(b[1])
	switch b[0] {
	case simple:
		n := 2 + 2*size
		switch {
		case len(b) < n:
			return 0, errSegmentEnd
		case p.ConfigData != nil:
			return 0, errTwice
		}
		p.ConfigData = b[2:n:n]
		return n, nil
	case symbol:
		n := 2 + size + size%2
		switch {
		case len(b) < n:
			return 0, errSegmentEnd
		case size%2 != 0 && b[n-1] != 0:
			return 0, errPad
		}
		return n, p.symbol(b[2 : 2+size])
	}
	return 0, errSegment
}
