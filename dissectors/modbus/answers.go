package modbus

import "bytes"

// Answers tells whether the response, well formed and complete, is a lawful reply to q: nil, or a
// *MalformedError that says what differs. An exception answers every request of its function. q
// has to own its bytes (see Clone) where other bytes have been parsed in between.
func (r *Response) Answers(q *Request) error {
	if bad := r.answers(q); bad != nil {
		return bad
	}
	return nil
}

func (r *Response) answers(q *Request) *MalformedError {
	switch {
	case r.Transaction != q.Transaction:
		return errOtherTransaction
	case r.Unit != q.Unit:
		return errOtherUnit
	case r.Function != q.Function:
		return errOtherFunction
	case r.Exception != 0:
		return nil
	}
	switch r.Function {
	case ReadCoils, ReadDiscreteInputs:
		return sameSize(len(r.Values), (int(q.Quantity)+7)/8)
	case ReadHoldingRegisters, ReadInputRegisters, ReadWriteMultipleRegisters:
		return sameSize(len(r.Values), 2*int(q.Quantity))
	case WriteSingleCoil, WriteSingleRegister, WriteFileRecord, MaskWriteRegister:
		return sameEcho(bytes.Equal(r.Body, q.Body))
	case WriteMultipleCoils, WriteMultipleRegisters:
		return sameEcho(r.Address == q.Address && r.Quantity == q.Quantity)
	case Diagnostics:
		return r.answersDiagnostics(q)
	case ReadFileRecord:
		return r.answersRecords(q)
	case EncapsulatedInterfaceTransport:
		return r.answersEncapsulated(q)
	}
	return nil // nothing in the reply depends on the request
}

func sameSize(got, want int) *MalformedError {
	if got != want {
		return errOtherSize
	}
	return nil
}

func sameEcho(same bool) *MalformedError {
	if !same {
		return errOtherEcho
	}
	return nil
}

// answersDiagnostics compares the sub-function and, where the reply is an echo, the data.
func (r *Response) answersDiagnostics(q *Request) *MalformedError {
	sub := r.SubFunction
	echo := publicSubFunction(sub) && (sub == ReturnQueryData || !readOnlySubFunction(sub))
	return sameEcho(sub == q.SubFunction && (!echo || bytes.Equal(r.Body, q.Body)))
}

// answersRecords compares the number and the lengths of the file records read.
func (r *Response) answersRecords(q *Request) *MalformedError {
	got, asked := r.Records(), q.Records()
	for asked.Next() {
		if !got.Next() || got.Length != asked.Length {
			return errOtherSize
		}
	}
	if got.Next() {
		return errOtherSize
	}
	return nil
}

// answersEncapsulated compares the MEI type and, of a device identification, its code; a read of
// one object has one object in its reply, that one.
func (r *Response) answersEncapsulated(q *Request) *MalformedError {
	if r.MEIType != q.MEIType || r.ReadDeviceID != q.ReadDeviceID {
		return errOtherEcho
	}
	if r.MEIType != MEIReadDeviceIdentification || q.ReadDeviceID != individualAccess {
		return nil
	}
	objects := r.Objects()
	if !objects.Next() || objects.ID != q.ObjectID || objects.Next() {
		return errOtherSize
	}
	return nil
}
