package cip

// DataType is the type of a tag's elements (V1 C-6.1).
type DataType uint16

// The elementary types, and the mark of a structure, whose template a handle names.
const (
	BOOL      DataType = 0xc1
	SINT      DataType = 0xc2
	INT       DataType = 0xc3
	DINT      DataType = 0xc4
	LINT      DataType = 0xc5
	USINT     DataType = 0xc6
	UINT      DataType = 0xc7
	UDINT     DataType = 0xc8
	ULINT     DataType = 0xc9
	REAL      DataType = 0xca
	LREAL     DataType = 0xcb
	BYTE      DataType = 0xd1
	WORD      DataType = 0xd2
	DWORD     DataType = 0xd3
	LWORD     DataType = 0xd4
	Structure DataType = 0x02a0
)

// Size returns how many bytes an element has, 0 if the type does not say.
func (t DataType) Size() int {
	switch t {
	case BOOL, SINT, USINT, BYTE:
		return 1
	case INT, UINT, WORD:
		return 2
	case DINT, UDINT, REAL, DWORD:
		return 4
	case LINT, ULINT, LREAL, LWORD:
		return 8
	}
	return 0
}

// TagAccess is what a tag service says behind its path. A field that the service does not have, or that
// has not arrived yet, is zero.
type TagAccess struct {
	Type   DataType // written
	Handle uint16   // of a structure
	Count  uint16   // of elements, from the one that the path names; of a fragment, of the whole transfer
	Offset uint32   // of a fragment, in bytes
	// Known says that all of the above has arrived.
	Known bool
	// Written are the bytes that are written, as far as they have arrived.
	Written []byte
	// OrMask and AndMask are what ReadModifyWriteTag applies.
	OrMask, AndMask []byte
}

// TagAccess returns what a service of the data table is about.
func (r *Request) TagAccess() TagAccess {
	var a TagAccess
	b := r.Data
	switch r.Code {
	case ReadTag:
		a.Count, a.Known = value16(b, 0), len(b) >= 2
	case ReadTagFragmented:
		a.Count, a.Offset, a.Known = value16(b, 0), value32(b, 2), len(b) >= 6
	case WriteTag, WriteTagFragmented:
		a.readWrite(b, r.Code == WriteTagFragmented)
		if size := uint64(a.Type.Size()); size > 0 && !r.writesPart() { // see repeatsItself and isPadded
			all := size * uint64(a.Count)
			a.Written = a.Written[:min(uint64(len(a.Written)), all-min(uint64(a.Offset), all))]
		}
	case ReadModifyWriteTag:
		a.readMasks(b)
	}
	return a
}

func (a *TagAccess) readWrite(b []byte, fragmented bool) {
	at := 2
	a.Type = DataType(value16(b, 0))
	if a.Type == Structure {
		a.Handle = value16(b, at)
		at += 2
	}
	a.Count = value16(b, at)
	at += 2
	if fragmented {
		a.Offset = value32(b, at)
		at += 4
	}
	a.Known = len(b) >= at
	a.Written = from(b, at)
}

// writesPart tells whether the service writes to the bytes of a tag that its path names. Their number is the path's then,
// and the count says nothing: clients exist that leave it at 1 (aphyt).
func (r *Request) writesPart() bool {
	_, _, ok := r.Path.Part()
	return ok && r.Code == WriteTag
}

func (a *TagAccess) readMasks(b []byte) {
	size := int(value16(b, 0))
	a.Count = 1
	if a.Known = len(b) == 2+2*size; a.Known {
		a.OrMask, a.AndMask = b[2:2+size], b[2+size:]
	}
}

// checkTagData judges the data of the data table's services.
func (r *Request) checkTagData() *MalformedError {
	switch r.Code {
	case ReadTag:
		return r.checkRead(2)
	case ReadTagFragmented:
		return r.checkRead(6)
	case WriteTag:
		return r.checkWrite(false)
	case WriteTagFragmented:
		return r.checkWrite(true)
	case ReadModifyWriteTag:
		if r.DataLength < 4 || len(r.Data) >= 2 && r.DataLength != 2+2*int(value16(r.Data, 0)) {
			return errMask
		}
	}
	return nil
}

func (r *Request) checkRead(length int) *MalformedError {
	if r.DataLength != length {
		return errServiceData
	}
	return checkCount(r.Data, 0)
}

func checkCount(b []byte, at int) *MalformedError {
	if len(b) >= at+2 && value16(b, at) == 0 {
		return errCount
	}
	return nil
}

// checkWrite judges type, count and length of what is written: a receiver that goes by the count and one
// that goes by the length write the same.
func (r *Request) checkWrite(fragmented bool) *MalformedError {
	fixed := 4
	if fragmented {
		fixed += 4
	}
	if r.DataLength <= fixed {
		return errServiceData
	}
	if len(r.Data) < 2 {
		return nil
	}
	t := DataType(value16(r.Data, 0))
	at := 2
	if t == Structure {
		fixed += 2
		at += 2
	}
	if r.DataLength <= fixed {
		return errServiceData
	}
	if bad := checkCount(r.Data, at); bad != nil {
		return bad
	}
	if len(r.Data) < fixed || t.Size() == 0 {
		return nil
	}
	all := uint64(t.Size()) * uint64(value16(r.Data, at))
	written := uint64(r.DataLength - fixed)
	if r.writesPart() {
		if _, size, _ := r.Path.Part(); written != uint64(size) || written%uint64(t.Size()) != 0 {
			return errWritten
		}
		return nil
	}
	end := written
	if fragmented {
		end += uint64(value32(r.Data, at+2))
	}
	switch {
	case end == all, fragmented && end < all:
		return nil
	case end == all+1 && t.Size() == 1 && r.isPadded(written), !fragmented && r.repeatsItself(written, all):
		return nil
	}
	return errWritten
}

// isPadded tells whether elements of one byte that are written end with a 0 that makes an even number of them: a widely
// used client library (libplctag) fills its writes up so. While that has not arrived it may be.
func (r *Request) isPadded(written uint64) bool {
	return written%2 == 0 && !byteIsNot(r.Data, r.DataLength-1, 0)
}

// repeatsItself tells whether the bytes behind what is written are two of a sequence count and the request
// once more: a widely used client library (pycomm3) sends its unfragmented writes so. While not all have
// arrived they may be.
func (r *Request) repeatsItself(written, all uint64) bool {
	const sequence = 2
	once := (r.Length - sequence) / 2
	if r.Depth > 0 || written < all || int(written-all) != sequence+once || r.Length != 2*once+sequence {
		return false
	}
	head := r.Length - r.DataLength // code and path are known, and stand before the data
	again := from(r.Data, once-head+sequence)
	for i := min(r.repeated, len(again)); i < len(again); i++ {
		switch v := again[i]; {
		case i < head && v != r.head[i], i >= head && v != r.Data[i-head]:
			return false
		}
	}
	r.repeated = len(again)
	return true
}
