package modbus

// Request is one message from a client. Slices alias the bytes that were parsed. A field that the
// function does not have, or that has not arrived yet, is zero.
type Request struct {
	Transaction uint16
	Unit        uint8 // 0 is broadcast on a serial line behind a gateway, and the device itself on TCP
	Function    FunctionCode

	// Address and Quantity are what functions 1-6, 15, 16, 22 and 24 name (Quantity only where
	// the message carries one), and what function 23 reads.
	Address, Quantity uint16
	// WriteAddress and WriteQuantity are what function 23 writes.
	WriteAddress, WriteQuantity uint16

	// Values is what functions 5, 6, 15, 16 and 23 write and what function 8 carries: big-endian
	// words, or coils packed from the lowest bit up (15). In a prefix, the whole words so far.
	Values []byte

	SubFunction     uint16 // function 8
	AndMask, OrMask uint16 // function 22
	MEIType         uint8  // function 43
	ReadDeviceID    uint8  // function 43, MEI type 14: 1..4
	ObjectID        uint8  // function 43, MEI type 14

	// Body is everything behind the function code.
	Body []byte
	// Length is the header's length field in bytes, 2..254: the unit and what follows it.
	Length int
	// Seen is how many bytes of this message have arrived, 6+Length once it is complete.
	Seen int
}

// Complete tells whether the whole message has arrived.
func (r *Request) Complete() bool { return r.Length != 0 && r.Seen == lengthPrefix+r.Length }

// ParseRequest reads the request at the beginning of b into r and returns its size in bytes.
//
// The error is ErrNeedMore when b is a proper prefix of a message that may still be lawful, and a
// *MalformedError as soon as it cannot be; the size is then 0. With ErrNeedMore r holds the fields
// that have arrived; with a *MalformedError what it holds is fit for a record of the event only.
func ParseRequest(b []byte, r *Request) (n int, err error) {
	*r = Request{Seen: len(b)}
	if bad := checkHeader(b); bad != nil {
		return 0, bad
	}
	r.Transaction = value16(b, offsetTransaction)
	if len(b) <= offsetUnit {
		return 0, ErrNeedMore
	}
	r.Length = int(b[offsetLength+1])
	r.Unit = b[offsetUnit]
	if len(b) <= offsetFunction {
		return 0, ErrNeedMore
	}
	r.Function = FunctionCode(b[offsetFunction])
	n = lengthPrefix + r.Length
	r.Seen = min(len(b), n)
	r.Body = b[offsetBody:r.Seen:r.Seen]
	if bad := r.parseBody(n - offsetBody); bad != nil {
		return 0, bad
	}
	if len(b) < n {
		return 0, ErrNeedMore
	}
	return n, nil
}

// parseBody reads and judges r.Body, of which want bytes are announced.
func (r *Request) parseBody(want int) *MalformedError {
	switch r.Function {
	case 0:
		return errFunction
	case ReadCoils, ReadDiscreteInputs:
		return r.parseRead(want, maxReadCoils)
	case ReadHoldingRegisters, ReadInputRegisters:
		return r.parseRead(want, maxReadRegisters)
	case WriteSingleCoil, WriteSingleRegister:
		return r.parseWriteSingle(want)
	case ReadExceptionStatus, GetCommEventCounter, GetCommEventLog, ReportServerID:
		return checkBodyLength(want, 0)
	case Diagnostics:
		r.SubFunction = value16(r.Body, 0)
		r.Values = wholeRegisters(from(r.Body, 2))
		return checkDiagnostics(r.Body, want, false)
	case WriteMultipleCoils, WriteMultipleRegisters:
		return r.parseWriteMultiple(want)
	case ReadFileRecord:
		return checkRecordReads(r.Body, want)
	case WriteFileRecord:
		return checkRecordWrites(r.Body, want)
	case MaskWriteRegister:
		r.Address, r.AndMask, r.OrMask = value16(r.Body, 0), value16(r.Body, 2), value16(r.Body, 4)
		return checkBodyLength(want, 6)
	case ReadWriteMultipleRegisters:
		return r.parseReadWrite(want)
	case ReadFIFOQueue:
		r.Address = value16(r.Body, 0)
		return checkBodyLength(want, 2)
	case EncapsulatedInterfaceTransport:
		return r.parseEncapsulated(want)
	}
	if r.Function >= exceptionBit {
		return errFunctionHigh
	}
	return nil // no length of its own: what the header says
}

// The quantities of AP 6: what fits one PDU.
const (
	maxReadCoils              = 2000
	maxReadRegisters          = 125
	maxWriteCoils             = 1968
	maxWriteRegisters         = 123
	maxReadWriteWriteRegister = 121
)

func checkBodyLength(want, defined int) *MalformedError {
	if want != defined {
		return errFunctionLength
	}
	return nil
}

// parseRead reads address and quantity of functions 1-4.
func (r *Request) parseRead(want int, most uint32) *MalformedError {
	if want != 4 {
		return errFunctionLength
	}
	r.Address, r.Quantity = value16(r.Body, 0), value16(r.Body, 2)
	return checkRange(r.Body, 0, 1, most)
}

// parseWriteSingle reads address and value of functions 5 and 6.
func (r *Request) parseWriteSingle(want int) *MalformedError {
	if want != 4 {
		return errFunctionLength
	}
	r.Address, r.Values = value16(r.Body, 0), wholeRegisters(from(r.Body, 2))
	if r.Function == WriteSingleCoil {
		return checkCoilValue(r.Body, 2)
	}
	return nil
}

// parseWriteMultiple reads functions 15 and 16. The announced length alone says how many bytes are
// written, so an address or quantity that contradicts it is refused before any value arrives.
func (r *Request) parseWriteMultiple(want int) *MalformedError {
	const fixed = 5 // address, quantity, byte count
	least, most, ok := writeQuantities(r.Function, want-fixed)
	if !ok {
		return errFunctionLength
	}
	r.Address, r.Quantity = value16(r.Body, 0), value16(r.Body, 2)
	r.Values = from(r.Body, fixed)
	if r.Function == WriteMultipleRegisters {
		r.Values = wholeRegisters(r.Values)
	}
	if bad := checkRange(r.Body, 0, least, most); bad != nil {
		return bad
	}
	if byteIsNot(r.Body, 4, want-fixed) {
		return errByteCount
	}
	return nil
}

// writeQuantities returns the least and most coils or registers that n bytes of values can be.
func writeQuantities(f FunctionCode, n int) (least, most uint32, ok bool) {
	if n < 1 {
		return 0, 0, false
	}
	if f == WriteMultipleCoils {
		return uint32(8*n - 7), min(uint32(8*n), maxWriteCoils), n <= maxWriteCoils/8
	}
	return uint32(n / 2), uint32(n / 2), n%2 == 0 && n <= 2*maxWriteRegisters
}

// parseReadWrite reads function 23: what to read, what to write, the values.
func (r *Request) parseReadWrite(want int) *MalformedError {
	const fixed = 9 // two addresses and quantities, byte count
	values := want - fixed
	if values < 2 || values%2 != 0 || values > 2*maxReadWriteWriteRegister {
		return errFunctionLength
	}
	r.Address, r.Quantity = value16(r.Body, 0), value16(r.Body, 2)
	r.WriteAddress, r.WriteQuantity = value16(r.Body, 4), value16(r.Body, 6)
	r.Values = wholeRegisters(from(r.Body, fixed))
	if bad := checkRange(r.Body, 0, 1, maxReadRegisters); bad != nil {
		return bad
	}
	if bad := checkRange(r.Body, 4, uint32(values/2), uint32(values/2)); bad != nil {
		return bad
	}
	if byteIsNot(r.Body, 8, values) {
		return errByteCount
	}
	return nil
}

// parseEncapsulated reads function 43 (AP 6.19). MEI types other than 14 are carried raw.
func (r *Request) parseEncapsulated(want int) *MalformedError {
	if want < 1 {
		return errFunctionLength
	}
	if len(r.Body) == 0 {
		return nil
	}
	r.MEIType = r.Body[0]
	if r.MEIType != MEIReadDeviceIdentification {
		return nil
	}
	if want != 3 {
		return errFunctionLength
	}
	if len(r.Body) > 1 {
		r.ReadDeviceID = r.Body[1]
		if r.ReadDeviceID < 1 || r.ReadDeviceID > individualAccess {
			return errDeviceIDCode
		}
	}
	if len(r.Body) > 2 {
		r.ObjectID = r.Body[2]
	}
	return nil
}

// Records returns a cursor over the records of functions 20 and 21; it is empty for all others.
func (r *Request) Records() Records {
	switch r.Function {
	case ReadFileRecord:
		return Records{rest: from(r.Body, 1), form: recordReads}
	case WriteFileRecord:
		return Records{rest: from(r.Body, 1), form: recordWrites}
	}
	return Records{}
}

// Clone returns the request with its slices in buf, so that it outlives the bytes it was parsed
// from, for instance to be compared with its reply.
func (r *Request) Clone(buf *[MaxBody]byte) Request {
	c := *r
	n := copy(buf[:], r.Body)
	c.Body = buf[:n:n]
	if len(r.Values) > 0 {
		// Values are the end of the body, but for half a register at the end of a prefix.
		start := cap(r.Body) - cap(r.Values)
		c.Values = c.Body[start : start+len(r.Values)]
	}
	return c
}

// Operation returns the name of what is requested: the function's, but for function 43, whose
// MEI types 13 and 14 have names of their own.
func (r *Request) Operation() string { return operation(r.Function, r.MEIType, true) }

func operation(f FunctionCode, mei uint8, named bool) string {
	if f == EncapsulatedInterfaceTransport && named {
		switch mei {
		case MEICANopenGeneralReference:
			return "canopen_general_reference"
		case MEIReadDeviceIdentification:
			return "read_device_identification"
		}
	}
	return f.String()
}
