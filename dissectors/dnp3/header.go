package dnp3

// Header is an object header (clause 4.2.2.7): which objects a message is about, and their contents
// behind it.
type Header struct {
	Group, Variation uint8
	Qualifier        uint8
	// Start and Stop are the range of points; valid where Ranged.
	Start, Stop uint32
	// Count is how many objects the header announces; of a range, how many points. 0 where it
	// stands for all.
	Count uint64
	// Data is what lies behind the header: the objects, their prefixes, or nothing.
	Data []byte

	seen  int  // bytes of the header without its objects that have arrived
	whole bool // so has everything
	layout
	carries bool // contents come with the objects
}

// The codes in the qualifier octet: the prefix of each object in bits 4..6, the range in bits 0..3.
const (
	rangeStartStop1   = 0x0 // and two and four bytes
	rangeVirtual1     = 0x3 // likewise: addresses of memory, obsolete
	rangeAll          = 0x6
	rangeCount1       = 0x7 // likewise
	rangeVariable     = 0xb
	prefixNone        = 0
	prefixIndex1      = 1 // and two and four bytes
	prefixSize1       = 4 // likewise
	prefixReserved    = 7
	qualifierReserved = 0x80
)

func (h *Header) rangeCode() uint8  { return h.Qualifier & 0x0f }
func (h *Header) prefixCode() uint8 { return h.Qualifier >> 4 & 7 }

// Named, qualified and rangeKnown tell how much of the header has arrived.

// Named tells whether group and variation have arrived.
func (h *Header) Named() bool { return h.seen >= 2 }

func (h *Header) qualified() bool  { return h.seen >= 3 }
func (h *Header) rangeKnown() bool { return h.qualified() && h.seen == h.size() }

// Whole tells whether the header and all its objects have arrived.
func (h *Header) Whole() bool { return h.whole }

// PointsKnown tells whether it is known which points the header names, but for what is listed behind
// it.
func (h *Header) PointsKnown() bool { return h.rangeKnown() }

// Ranged tells whether the header names its points by Start and Stop.
func (h *Header) Ranged() bool { return h.qualified() && h.rangeCode() < rangeVirtual1 }

// Indexed tells whether a point's index comes before each object.
func (h *Header) Indexed() bool {
	return h.qualified() && h.prefixCode() >= prefixIndex1 && h.prefixCode() < prefixSize1
}

// Sized tells whether its size comes before each object.
func (h *Header) Sized() bool { return h.qualified() && h.prefixCode() >= prefixSize1 }

// Carries tells whether the objects' contents come with them.
func (h *Header) Carries() bool { return h.carries }

// Packed tells whether the objects' contents are bits without a byte of their own.
func (h *Header) Packed() bool { return h.form == oneBit || h.form == twoBits }

// size returns the header's size in bytes, without objects.
func (h *Header) size() int {
	switch code := h.rangeCode(); {
	case code < rangeVirtual1:
		return 3 + 2<<code
	case code < rangeAll:
		return 3 + 2<<(code-rangeVirtual1)
	case code == rangeAll:
		return 3
	case code == rangeVariable:
		return 4
	default:
		return 3 + 1<<(code-rangeCount1)
	}
}

// prefixSize returns how many bytes come before each object.
func (h *Header) prefixSize() int {
	switch code := h.prefixCode(); {
	case code == prefixNone:
		return 0
	case code < prefixSize1:
		return 1 << (code - prefixIndex1)
	default:
		return 1 << (code - prefixSize1)
	}
}

// checkQualifier refuses what the standard reserves (table 4-5, and the valid pairs of 4-6).
func (h *Header) checkQualifier() *MalformedError {
	code, prefix := h.rangeCode(), h.prefixCode()
	switch {
	case h.Qualifier&qualifierReserved != 0, prefix == prefixReserved:
		return errQualifier
	case code == rangeVariable:
		if prefix < prefixSize1 {
			return errQualifier
		}
	case code > rangeCount1+2, prefix >= prefixSize1, prefix != prefixNone && code < rangeCount1:
		return errQualifier
	}
	return nil
}

// parse reads the header at the beginning of b, a message of function f, and returns how many bytes
// it takes with its objects, 0 if not all have arrived.
func (h *Header) parse(b []byte, f FunctionCode) (n int, bad *MalformedError) {
	*h = Header{seen: min(len(b), 3)}
	if len(b) < 2 {
		return 0, nil
	}
	h.Group, h.Variation = b[0], b[1]
	h.layout = layoutOf(h.Group, h.Variation)
	h.carries = f.carriesData(h.Group, h.Variation)
	if f.Controls() && h.form == unknownForm && h.Group != GroupAuthentication {
		return 0, errNotControl
	}
	if len(b) < 3 {
		return 0, nil
	}
	h.Qualifier = b[2]
	if bad := h.checkQualifier(); bad != nil {
		return 0, bad
	}
	h.carries = h.carries || h.Sized()
	if h.carries {
		if bad := h.checkContents(); bad != nil {
			return 0, bad
		}
	}
	if len(b) < h.size() {
		return 0, nil
	}
	h.seen = h.size()
	if bad := h.parseRange(b); bad != nil {
		return 0, bad
	}
	size, whole, bad := h.dataSize(b[h.seen:])
	if bad != nil {
		return 0, bad
	}
	if !whole {
		h.Data = b[h.seen:]
		return 0, nil
	}
	h.Data, h.whole = b[h.seen:h.seen+size], true
	return h.seen + size, nil
}

// checkContents refuses objects whose end cannot be known.
func (h *Header) checkContents() *MalformedError {
	switch code := h.rangeCode(); {
	case code == rangeAll:
		return nil // of all, without contents
	case code >= rangeVirtual1 && code < rangeAll:
		return errQualifier
	case h.Packed():
		if h.prefixCode() != prefixNone {
			return errQualifier // packed bits have no place for an index
		}
	case (h.form == unknownForm || h.form == freeForm) && !h.Sized():
		return errUnknownObject
	}
	return nil
}

// parseRange reads the range, all of which is in b.
func (h *Header) parseRange(b []byte) *MalformedError {
	code := h.rangeCode()
	switch {
	case code < rangeAll:
		size := 1 << (code % rangeVirtual1)
		h.Start, h.Stop = valueN(b, 3, size), valueN(b, 3+size, size)
		if h.Start > h.Stop {
			return errBackwards
		}
		h.Count = uint64(h.Stop) - uint64(h.Start) + 1
		if code >= rangeVirtual1 {
			h.Count = 0
		}
	case code == rangeAll:
	case code == rangeVariable:
		h.Count = uint64(b[3])
	default:
		h.Count = uint64(valueN(b, 3, 1<<(code-rangeCount1)))
	}
	return nil
}

// dataSize returns how many of the bytes behind the header are its objects, and whether they have all
// arrived. What cannot fit the longest message is refused before it arrives.
func (h *Header) dataSize(b []byte) (size int, whole bool, bad *MalformedError) {
	if h.rangeCode() == rangeAll {
		return 0, true, nil
	}
	each := uint64(h.prefixSize())
	switch {
	case !h.carries:
	case h.Sized(), h.form == attributeForm:
		return h.walk(b)
	case h.form == oneBit:
		return fits((h.Count+7)/8, b)
	case h.form == twoBits:
		return fits((h.Count+3)/4, b)
	default:
		each += uint64(h.layout.size)
	}
	return fits(h.Count*each, b) // a count of 32 bits by at most 259 bytes
}

func fits(size uint64, b []byte) (int, bool, *MalformedError) {
	if size > MaxMessage {
		return 0, false, errCount
	}
	return int(size), int(size) <= len(b), nil
}

// walk measures objects that say their own size.
func (h *Header) walk(b []byte) (size int, whole bool, bad *MalformedError) {
	least := h.prefixSize()
	if h.form == attributeForm && !h.Sized() {
		least += attributeHeader
	}
	if h.Count*uint64(least) > MaxMessage {
		return 0, false, errCount
	}
	for range h.Count {
		n, bad := h.objectSize(b[size:])
		if bad != nil {
			return 0, false, bad
		}
		if n == 0 || n > len(b)-size {
			return 0, false, nil
		}
		size += n
	}
	return size, true, nil
}

// attributeHeader is a device attribute's type and length.
const attributeHeader = 2

// objectSize returns the size of the object at the beginning of b, its prefix included, 0 while that
// has not arrived.
func (h *Header) objectSize(b []byte) (int, *MalformedError) {
	prefix := h.prefixSize()
	if !h.Sized() {
		if len(b) < prefix+attributeHeader {
			return 0, nil
		}
		return prefix + attributeHeader + int(b[prefix+1]), nil
	}
	if len(b) < prefix {
		return 0, nil
	}
	size := uint64(valueN(b, 0, prefix))
	if size > MaxMessage {
		return 0, errCount
	}
	if h.form == fixedForm && size != uint64(h.layout.size) {
		return 0, errObjectSize
	}
	total := prefix + int(size)
	if h.Group == GroupFile && total <= len(b) {
		if bad := checkFile(h.Variation, b[prefix:total]); bad != nil {
			return 0, bad
		}
	}
	return total, nil
}

// Objects returns a cursor over the header's objects: those that come with an index or contents. What
// is named by a range alone, or by no index at all, has none.
func (h *Header) Objects() Objects {
	o := Objects{header: *h, rest: h.Data, Index: h.Start}
	if !h.PointsKnown() || h.Count == 0 || !h.carries && !h.Indexed() {
		return Objects{}
	}
	o.left = h.Count
	return o
}

// Objects walks through objects: call Next, then read the fields.
type Objects struct {
	// Index is the object's point, valid where the header is Indexed or Ranged.
	Index uint32
	// Data is the object's contents without its prefix, empty for packed bits.
	Data []byte
	// Bits is the value of a packed object: one bit or two.
	Bits uint8

	header Header // no pointer, which would put whatever it points to on the heap
	rest   []byte
	left   uint64
	at     uint64 // objects taken
}

// Next reads the next object. Of a message that has not arrived whole it gives those that have.
func (o *Objects) Next() bool {
	h := &o.header
	if o.left == 0 {
		return false
	}
	o.left--
	if o.at > 0 && h.Ranged() {
		o.Index++
	}
	at := o.at
	o.at++
	switch h.form {
	case oneBit, twoBits:
		return o.bits(at)
	}
	size := h.prefixSize()
	switch {
	case !h.carries:
	case h.Sized(), h.form == attributeForm:
		n, bad := h.objectSize(o.rest)
		if bad != nil || n == 0 {
			return o.end()
		}
		size = n
	default:
		size += int(h.layout.size)
	}
	if size == 0 || size > len(o.rest) {
		return o.end()
	}
	prefix := h.prefixSize()
	if h.Indexed() {
		o.Index = valueN(o.rest, 0, prefix)
	}
	o.Data, o.rest = o.rest[prefix:size], o.rest[size:]
	return true
}

func (o *Objects) end() bool {
	o.left = 0
	return false
}

// bits reads a packed object.
func (o *Objects) bits(at uint64) bool {
	h := &o.header
	if !h.carries {
		return o.indexOnly()
	}
	width := uint64(1)
	if h.form == twoBits {
		width = 2
	}
	if at*width/8 >= uint64(len(o.rest)) {
		return o.end()
	}
	o.Bits = o.rest[at*width/8] >> (at * width % 8) & (1<<width - 1)
	return true
}

// indexOnly reads the index of an object that is only named.
func (o *Objects) indexOnly() bool {
	prefix := o.header.prefixSize()
	if len(o.rest) < prefix {
		return o.end()
	}
	o.Index, o.rest = valueN(o.rest, 0, prefix), o.rest[prefix:]
	return true
}
