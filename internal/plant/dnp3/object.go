package dnp3

import (
	"errors"
	"fmt"
)

// Kind is a group and a variation.
type Kind struct{ Group, Variation uint8 }

func (k Kind) String() string { return fmt.Sprintf("g%dv%d", k.Group, k.Variation) }

// Object is one object of a header, and the index by which it is known there.
type Object struct {
	Index uint32
	Data  []byte // of packed objects one octet, 0 or 1 (of double-bit inputs 0 to 3)
}

// Header is an object header with its objects (IEEE 1815 4.2.2.7).
type Header struct {
	Kind
	Qualifier uint8
	Start     uint32 // where the range is a start and a stop
	Stop      uint32
	Count     uint32 // of objects named, 0 where the qualifier names all
	Objects   []Object
}

// The halves of a qualifier: what stands before each object, and what the range field is.
const (
	prefixNone  = 0
	prefixIndex = 1 // to 3: an index of 1, 2 or 4 octets
	prefixSize  = 4 // to 6: a size of 1, 2 or 4 octets

	// Ranges are a start and a stop (0 to 2, as addresses 3 to 5), all, a count (7 to 9), or free.
	rangeAll   = 6
	rangeCount = 7
	rangeFree  = 11

	// QualifierAll names every object of its kind.
	QualifierAll = 0x06
	// QualifierFree is for objects of any length, such as those of files.
	QualifierFree = 0x5b
)

// widths of the three sizes of a field in octets.
var widths = [3]int{1, 2, 4}

// sizes are the octets of objects of a fixed length (IEEE 1815 annex A).
var sizes = map[Kind]int{
	{1, 2}: 1, {2, 1}: 1, {2, 2}: 7, {2, 3}: 3, {3, 2}: 1, {4, 1}: 1, {4, 2}: 7, {4, 3}: 3,
	{10, 2}: 1, {11, 1}: 1, {11, 2}: 7, {12, 1}: 11, {12, 2}: 11, {13, 1}: 1, {13, 2}: 7,
	{20, 1}: 5, {20, 2}: 3, {20, 5}: 4, {20, 6}: 2,
	{21, 1}: 5, {21, 2}: 3, {21, 5}: 11, {21, 6}: 9, {21, 9}: 4, {21, 10}: 2,
	{22, 1}: 5, {22, 2}: 3, {22, 5}: 11, {22, 6}: 9, {23, 1}: 5, {23, 2}: 3, {23, 5}: 11, {23, 6}: 9,
	{30, 1}: 5, {30, 2}: 3, {30, 3}: 4, {30, 4}: 2, {30, 5}: 5, {30, 6}: 9,
	{32, 1}: 5, {32, 2}: 3, {32, 3}: 11, {32, 4}: 9, {32, 5}: 5, {32, 6}: 9, {32, 7}: 11, {32, 8}: 15,
	{34, 1}: 2, {34, 2}: 4, {34, 3}: 4,
	{40, 1}: 5, {40, 2}: 3, {40, 3}: 5, {40, 4}: 9, {41, 1}: 5, {41, 2}: 3, {41, 3}: 5, {41, 4}: 9,
	{42, 1}: 5, {42, 2}: 3, {42, 3}: 11, {42, 4}: 9, {42, 5}: 5, {42, 6}: 9, {42, 7}: 11, {42, 8}: 15,
	{43, 1}: 5, {43, 2}: 3, {43, 3}: 11, {43, 4}: 9,
	{50, 1}: 6, {50, 2}: 10, {50, 3}: 6, {50, 4}: 11, {51, 1}: 6, {51, 2}: 6, {52, 1}: 2, {52, 2}: 2,

	VendorKind: 2,
}

// VendorKind is an object of no standard, two octets long, that a loose outstation knows.
var VendorKind = Kind{200, 1}

// size returns the octets of an object, 0 where only a prefix can tell. The variation of an octet
// string is its length (IEEE 1815 annex A, groups 110 to 113).
func (k Kind) size() int {
	if k.Group >= 110 && k.Group <= 113 {
		return int(k.Variation)
	}
	return sizes[k]
}

// packed are the bits of objects that share octets.
var packed = map[Kind]int{{1, 1}: 1, {3, 1}: 2, {10, 1}: 1, {12, 3}: 1, {80, 1}: 1}

var (
	errQualifier = errors.New("a qualifier that is not defined")
	errUnsized   = errors.New("objects of a length that is not known")
	errRange     = errors.New("a stop before its start")
)

// cursor reads numbers from a body, least significant octet first.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) number(width int) (v uint32) {
	for i, b := range c.octets(width) {
		v |= uint32(b) << (8 * i)
	}
	return v
}

func (c *cursor) octets(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.b) {
		c.err = errors.Join(c.err, errTruncated)
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

// ParseHeaders reads object headers; those of a READ have no objects behind them, but for the size
// and the contents of free-format ones. With an error come the headers before it.
func ParseHeaders(body []byte, function Function) (headers []Header, err error) {
	for c := (cursor{b: body}); len(c.b) > 0; {
		h := Header{Kind: Kind{uint8(c.number(1)), uint8(c.number(1))}, Qualifier: uint8(c.number(1))}
		c.rangeField(&h)
		if c.err == nil && h.carries(function) {
			c.objects(&h, function.namesOnly())
		}
		if c.err != nil {
			return headers, fmt.Errorf("read %v, qualifier 0x%02x: %w", h.Kind, h.Qualifier, c.err)
		}
		headers = append(headers, h)
	}
	return headers, nil
}

func (h *Header) prefix() int    { return int(h.Qualifier >> 4) }
func (h *Header) rangeCode() int { return int(h.Qualifier & 0x0f) }

// namesOnly tells the functions whose headers name objects and bring none.
func (f Function) namesOnly() bool {
	switch f {
	case Read, ImmediateFreeze, ImmediateFreezeNR, FreezeClear, FreezeClearNR, FreezeAtTime, FreezeAtTimeNR,
		AssignClass, EnableUnsolicited, DisableUnsolicited:
		return true
	}
	return false
}

// carries reports whether anything stands behind the header.
func (h *Header) carries(function Function) bool {
	switch {
	case h.rangeCode() == rangeAll:
		return false
	case h.prefix() != prefixNone:
		return true // indices, or sizes with what they are of
	case function.namesOnly():
		return h.Group == 50 && function != Read // when to freeze
	}
	return h.Group != 60
}

func (c *cursor) rangeField(h *Header) {
	switch code := h.rangeCode(); {
	case code < rangeAll:
		width := widths[code%3]
		h.Start, h.Stop = c.number(width), c.number(width)
		if h.Stop < h.Start && c.err == nil {
			c.err = errRange
		}
		h.Count = h.Stop - h.Start + 1
	case code == rangeAll:
	case code < rangeCount+3:
		h.Count = c.number(widths[code-rangeCount])
	case code == rangeFree:
		h.Count = c.number(1)
	default:
		c.err = errQualifier
	}
	if h.prefix() > prefixSize+2 {
		c.err = errQualifier
	}
}

// objects reads what stands behind a header. The octets that are there bound it, not the count.
func (c *cursor) objects(h *Header, namesOnly bool) {
	if bits := packed[h.Kind]; bits > 0 && h.prefix() == prefixNone {
		c.packedObjects(h, bits)
		return
	}
	for i := uint32(0); i < h.Count && c.err == nil; i++ {
		o := Object{Index: h.Start + i}
		size, known := h.Kind.size(), false
		switch p := h.prefix(); {
		case p >= prefixSize:
			size, known = int(c.number(widths[p-prefixSize])), true
		case p >= prefixIndex:
			o.Index = c.number(widths[p-prefixIndex])
			if namesOnly {
				size, known = 0, true
			}
		}
		if packed[h.Kind] > 0 && !known {
			size = 1
		}
		if size == 0 && !known {
			c.err = errors.Join(c.err, errUnsized)
			return
		}
		o.Data = c.octets(size)
		h.Objects = append(h.Objects, o)
	}
}

func (c *cursor) packedObjects(h *Header, bits int) {
	octets := c.octets(int((uint64(h.Count)*uint64(bits) + 7) / 8))
	if c.err != nil {
		return
	}
	for i := range h.Count {
		at := int(i) * bits
		v := octets[at/8] >> (at % 8) & (1<<bits - 1)
		h.Objects = append(h.Objects, Object{Index: h.Start + i, Data: []byte{v}})
	}
}

// Spell writes objects of one kind under any qualifier that an encoder could choose: the range
// field counts them, or runs from the first one's index on, and each has the prefix asked for.
func Spell(kind Kind, qualifier uint8, objects ...Object) []byte {
	b := []byte{kind.Group, kind.Variation, qualifier}
	code, prefix := int(qualifier&0x0f), int(qualifier>>4)
	switch {
	case code < rangeAll && len(objects) > 0:
		b = appendNumber(b, objects[0].Index, widths[code%3])
		b = appendNumber(b, objects[0].Index+uint32(len(objects)-1), widths[code%3])
	case code >= rangeCount && code < rangeCount+3:
		b = appendNumber(b, uint32(len(objects)), widths[code-rangeCount])
	case code == rangeFree:
		b = appendNumber(b, uint32(len(objects)), 1)
	}
	for _, o := range objects {
		switch {
		case prefix >= prefixSize && prefix < prefixSize+3:
			b = appendNumber(b, uint32(len(o.Data)), widths[prefix-prefixSize])
		case prefix >= prefixIndex && prefix < prefixSize:
			b = appendNumber(b, o.Index, widths[prefix-prefixIndex])
		}
		b = append(b, o.Data...)
	}
	return b
}

func appendNumber(b []byte, v uint32, width int) []byte {
	for i := range width {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

// All names every object of a kind.
func All(group, variation uint8) []byte { return []byte{group, variation, QualifierAll} }

// Range names the objects from start to stop, in the shortest way.
func Range(group, variation uint8, start, stop uint16) []byte {
	if stop < 256 {
		return []byte{group, variation, 0x00, byte(start), byte(stop)}
	}
	return appendNumber(appendNumber([]byte{group, variation, 0x01}, uint32(start), 2), uint32(stop), 2)
}

// Class names the events of class 1, 2 or 3, or for class 0 what is static.
func Class(class uint8) []byte { return All(60, class+1) }
