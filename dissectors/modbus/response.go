package modbus

// Response is one message from a server. Slices alias the bytes that were parsed. A field that the
// function does not have, or that has not arrived yet, is zero.
type Response struct {
	Transaction uint16
	Unit        uint8
	Function    FunctionCode // without the exception bit
	Exception   ExceptionCode

	// Address and Quantity are repeated by functions 5, 6, 15, 16 and 22 (Quantity by 15 and 16).
	Address, Quantity uint16

	// Values is what was read by functions 1-4, 23 and 24, what functions 5 and 6 repeat and what
	// function 8 carries: big-endian words, or coils packed from the lowest bit up (1 and 2).
	Values []byte

	SubFunction     uint16 // function 8
	AndMask, OrMask uint16 // function 22, repeated
	MEIType         uint8  // function 43
	ReadDeviceID    uint8  // function 43, MEI type 14, repeated

	// Body is everything behind the function code.
	Body []byte
	// Length is the header's length field in bytes, 2..254: the unit and what follows it.
	Length int
	// Seen is how many bytes of this message have arrived, 6+Length once it is complete.
	Seen int
}

// Complete tells whether the whole message has arrived.
func (r *Response) Complete() bool { return r.Length != 0 && r.Seen == lengthPrefix+r.Length }

// ParseResponse reads the response at the beginning of b into r and returns its size in bytes,
// with the same errors as ParseRequest. Whether it answers a request is for Answers to say.
func ParseResponse(b []byte, r *Response) (n int, err error) {
	*r = Response{Seen: len(b)}
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
	n = lengthPrefix + r.Length
	r.Seen = min(len(b), n)
	r.Body = b[offsetBody:r.Seen:r.Seen]
	if bad := r.parseFunction(b[offsetFunction], n-offsetBody); bad != nil {
		return 0, bad
	}
	if len(b) < n {
		return 0, ErrNeedMore
	}
	return n, nil
}

// parseFunction tells exceptions from other replies.
func (r *Response) parseFunction(code byte, want int) *MalformedError {
	r.Function = FunctionCode(code &^ exceptionBit)
	if r.Function == 0 {
		return errFunction
	}
	if code < exceptionBit {
		return r.parseBody(want)
	}
	if want != 1 {
		return errFunctionLength
	}
	if len(r.Body) > 0 {
		r.Exception = ExceptionCode(r.Body[0])
		if r.Exception == 0 {
			return errException
		}
	}
	return nil
}

// parseBody reads and judges r.Body, of which want bytes are announced.
func (r *Response) parseBody(want int) *MalformedError {
	switch r.Function {
	case ReadCoils, ReadDiscreteInputs:
		r.Values = from(r.Body, 1)
		return checkCounted(r.Body, want, 1, maxReadCoils/8)
	case ReadHoldingRegisters, ReadInputRegisters, ReadWriteMultipleRegisters:
		return r.parseRegisters(want)
	case WriteSingleCoil, WriteSingleRegister:
		return r.parseWriteSingle(want)
	case ReadExceptionStatus:
		return checkBodyLength(want, 1)
	case Diagnostics:
		r.SubFunction = value16(r.Body, 0)
		r.Values = wholeRegisters(from(r.Body, 2))
		return checkDiagnostics(r.Body, want, true)
	case GetCommEventCounter: // status and count
		return checkBodyLength(want, 4)
	case GetCommEventLog: // status, two counts and up to 64 events (AP 6.10)
		return checkCounted(r.Body, want, 6, 6+64)
	case WriteMultipleCoils:
		return r.parseWriteMultiple(want, maxWriteCoils)
	case WriteMultipleRegisters:
		return r.parseWriteMultiple(want, maxWriteRegisters)
	case ReportServerID: // device specific
		return checkCounted(r.Body, want, 1, maxLength-3)
	case ReadFileRecord:
		return checkRecordReplies(r.Body, want)
	case WriteFileRecord:
		return checkRecordWrites(r.Body, want)
	case MaskWriteRegister:
		r.Address, r.AndMask, r.OrMask = value16(r.Body, 0), value16(r.Body, 2), value16(r.Body, 4)
		return checkBodyLength(want, 6)
	case ReadFIFOQueue:
		r.Values = wholeRegisters(from(r.Body, 4))
		return checkFIFO(r.Body, want)
	case EncapsulatedInterfaceTransport:
		return r.parseEncapsulated(want)
	}
	return nil // no length of its own: what the header says
}

// checkCounted judges a body that is a byte count and least..most bytes.
func checkCounted(body []byte, want, least, most int) *MalformedError {
	count := want - 1
	if count < least || count > most {
		return errFunctionLength
	}
	if byteIsNot(body, 0, count) {
		return errByteCount
	}
	return nil
}

// parseRegisters reads the reply to functions 3, 4 and 23.
func (r *Response) parseRegisters(want int) *MalformedError {
	if want%2 == 0 { // one byte for the count, two for each register
		return errFunctionLength
	}
	r.Values = wholeRegisters(from(r.Body, 1))
	return checkCounted(r.Body, want, 2, 2*maxReadRegisters)
}

// parseWriteSingle reads the reply to functions 5 and 6, which repeats the request.
func (r *Response) parseWriteSingle(want int) *MalformedError {
	if want != 4 {
		return errFunctionLength
	}
	r.Address, r.Values = value16(r.Body, 0), wholeRegisters(from(r.Body, 2))
	if r.Function == WriteSingleCoil {
		return checkCoilValue(r.Body, 2)
	}
	return nil
}

// parseWriteMultiple reads the reply to functions 15 and 16: address and quantity.
func (r *Response) parseWriteMultiple(want int, most uint32) *MalformedError {
	if want != 4 {
		return errFunctionLength
	}
	r.Address, r.Quantity = value16(r.Body, 0), value16(r.Body, 2)
	return checkRange(r.Body, 0, 1, most)
}

// checkFIFO judges the reply to function 24 (AP 6.18): a byte count of two bytes, the number of
// queued registers and these.
func checkFIFO(body []byte, want int) *MalformedError {
	const fixed, most = 4, 31
	queued := want - fixed
	if queued < 0 || queued%2 != 0 || queued > 2*most {
		return errFunctionLength
	}
	if byteIsNot(body, 0, 0) || byteIsNot(body, 1, queued+2) {
		return errByteCount
	}
	if byteIsNot(body, 2, 0) || byteIsNot(body, 3, queued/2) {
		return errFIFOCount
	}
	return nil
}

// parseEncapsulated reads the reply to function 43. MEI types other than 14 are carried raw.
func (r *Response) parseEncapsulated(want int) *MalformedError {
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
	if len(r.Body) > 1 {
		r.ReadDeviceID = r.Body[1]
	}
	return checkIdentification(r.Body, want)
}

// Records returns a cursor over the records in replies to functions 20 and 21; it is empty for all
// others and for exceptions.
func (r *Response) Records() Records {
	if r.Exception == 0 {
		switch r.Function {
		case ReadFileRecord:
			return Records{rest: from(r.Body, 1), form: recordReplies}
		case WriteFileRecord:
			return Records{rest: from(r.Body, 1), form: recordWrites}
		}
	}
	return Records{}
}

// Objects returns a cursor over the objects of a device identification; it is empty for all other
// replies.
func (r *Response) Objects() Objects {
	if r.MEIType != MEIReadDeviceIdentification {
		return Objects{}
	}
	return Objects{rest: from(r.Body, identificationHeader)}
}

// Operation returns the name of what is answered, as Request.Operation does; an exception to
// function 43 does not say which MEI type it refuses.
func (r *Response) Operation() string {
	return operation(r.Function, r.MEIType, r.Exception == 0)
}
