package modbus

// File records (AP 6.14, 6.15): a file holds 10000 records of one register each, numbered 0..9999.
const (
	referenceType = 6
	fileRecords   = 10000

	// recordHeader is reference type, file number, record number and record length.
	recordHeader = 7

	maxRecordReads   = 245 // bytes of sub-requests to read, 35 of them (0xF5)
	maxRecordWrites  = 251 // bytes of sub-requests to write (0xFB)
	maxRecordReplies = 251 // bytes of sub-replies, what a PDU of 253 bytes leaves

	minRecordReply = 4 // length, reference type and one register
	minRecordWrite = recordHeader + 2
)

// Record is one sub-request or sub-reply of a file record function.
type Record struct {
	File   uint16 // 1..65535; 0 in a reply to a read, which does not name it
	Number uint16 // first record, 0..9999; 0 in a reply to a read
	Length uint16 // registers
	Data   []byte // big-endian registers written or read; aliases the message; nil in a request to read
}

// recordForm is which of the three layouts a list of records has.
type recordForm uint8

const (
	recordReads   recordForm = iota // header
	recordWrites                    // header and data; the reply repeats it
	recordReplies                   // length, reference type and data
)

// Records walks through the records of a message:
//
//	for c := request.Records(); c.Next(); {
//		use(c.Record)
//	}
//
// Of a message that has not arrived whole it yields the records that have.
type Records struct {
	Record
	rest []byte
	form recordForm
}

// Next goes to the next record and tells whether there is one.
func (c *Records) Next() bool {
	if c.form == recordReplies {
		return c.nextReply()
	}
	if len(c.rest) < recordHeader {
		return false
	}
	c.Record = Record{File: value16(c.rest, 1), Number: value16(c.rest, 3), Length: value16(c.rest, 5)}
	size := recordHeader
	if c.form == recordWrites {
		size += 2 * int(c.Length)
		if len(c.rest) < size {
			return false
		}
		c.Data = c.rest[recordHeader:size]
	}
	c.rest = c.rest[size:]
	return true
}

func (c *Records) nextReply() bool {
	if len(c.rest) < minRecordReply {
		return false
	}
	size := 1 + int(c.rest[0])
	if size < 2 || len(c.rest) < size {
		return false
	}
	c.Record = Record{Length: uint16(size-2) / 2, Data: c.rest[2:size]}
	c.rest = c.rest[size:]
	return true
}

// checkRecordReads judges a request to read file records; want is the body's length. The sum of
// what is asked for has to fit one reply.
func checkRecordReads(body []byte, want int) *MalformedError {
	list := want - 1
	if list < 0 || list > maxRecordReads || list%recordHeader != 0 {
		return errFunctionLength
	}
	if byteIsNot(body, 0, list) {
		return errByteCount
	}
	room := uint32(maxRecordReplies)
	for off := 1; off < len(body); off += recordHeader {
		low, high := span16(body, off+5)
		low = max(low, 1)
		later := uint32((want-off)/recordHeader-1) * minRecordReply
		if low > high || 2+2*low+later > room {
			return errRecordLength
		}
		if bad := checkRecordHeader(body[off:], low); bad != nil {
			return bad
		}
		room -= 2 + 2*low
	}
	return nil
}

// checkRecordWrites judges a request to write file records, and its reply, which repeats it.
func checkRecordWrites(body []byte, want int) *MalformedError {
	list := want - 1
	if list < 0 || list > maxRecordWrites || !writesFit(list) {
		return errFunctionLength
	}
	if byteIsNot(body, 0, list) {
		return errByteCount
	}
	for off := 1; off < len(body); {
		low, high := span16(body, off+5)
		length, ok := leastRecordLength(want-off, low, high)
		if !ok {
			return errRecordLength
		}
		if bad := checkRecordHeader(body[off:], length); bad != nil {
			return bad
		}
		off += recordHeader + 2*int(length)
	}
	return nil
}

// writesFit tells whether n bytes can be a list of records to write: none, one (7 bytes and 2 for
// each register, an odd number) or several.
func writesFit(n int) bool {
	if n%2 != 0 {
		return n >= minRecordWrite
	}
	return n == 0 || n >= 2*minRecordWrite
}

// leastRecordLength returns the smallest record length in low..high with which the first record
// to write leaves a list that fits, in n bytes.
func leastRecordLength(n int, low, high uint32) (length uint32, ok bool) {
	low = max(low, 1)
	last := (n - recordHeader) / 2 // what a record that is alone has
	if n%2 != 0 && low <= uint32(last) && uint32(last) <= high {
		length, ok = uint32(last), true
	}
	if low <= high && low < uint32(last) && writesFit(n-recordHeader-2*int(low)) {
		return low, true
	}
	return length, ok
}

// checkRecordHeader judges reference type, file and record number of a sub-request for at least
// length registers.
func checkRecordHeader(b []byte, length uint32) *MalformedError {
	if byteIsNot(b, 0, referenceType) {
		return errReferenceType
	}
	if len(b) >= 3 && value16(b, 1) == 0 {
		return errFileNumber
	}
	if number, _ := span16(b, 3); number+length > fileRecords {
		return errRecordNumber
	}
	return nil
}

// checkRecordReplies judges the reply to a read of file records.
func checkRecordReplies(body []byte, want int) *MalformedError {
	list := want - 1
	if list < 0 || list > maxRecordReplies || !repliesFit(list) {
		return errFunctionLength
	}
	if byteIsNot(body, 0, list) {
		return errByteCount
	}
	for off := 1; off < len(body); {
		size := 1 + int(body[off])
		if size < minRecordReply || size%2 != 0 || size > want-off || !repliesFit(want-off-size) {
			return errRecordLength
		}
		if byteIsNot(body, off+1, referenceType) {
			return errReferenceType
		}
		off += size
	}
	return nil
}

// repliesFit tells whether n bytes can be a list of sub-replies, each an even number of 4 or more.
func repliesFit(n int) bool { return n%2 == 0 && n != 2 }
