package modbus

import "encoding/hex"

// Fields is a message as people and other programs read it. A field that the function does not
// have is absent. Making it allocates: it is for lists of messages, not for the line.
type Fields struct {
	Transaction uint16       `json:"transaction"`
	Unit        uint8        `json:"unit"`
	Function    FunctionCode `json:"function"` // as a number, without the exception bit
	Address     *uint16      `json:"address,omitempty"`
	Quantity    *uint16      `json:"quantity,omitempty"`
	// Values are numbers throughout: registers and words 0..65535, coils and inputs 0 or 1.
	Values        []uint16       `json:"values,omitempty"`
	WriteAddress  *uint16        `json:"write_address,omitempty"`
	WriteQuantity *uint16        `json:"write_quantity,omitempty"`
	AndMask       *uint16        `json:"and_mask,omitempty"`
	OrMask        *uint16        `json:"or_mask,omitempty"`
	SubFunction   *uint16        `json:"sub_function,omitempty"`
	MEIType       *uint8         `json:"mei_type,omitempty"`
	ReadDeviceID  *uint8         `json:"read_device_id,omitempty"`
	ObjectID      *uint8         `json:"object_id,omitempty"`
	Records       []RecordFields `json:"records,omitempty"`
	Objects       []ObjectFields `json:"objects,omitempty"`
	Data          string         `json:"data,omitempty"` // hexadecimal, of a body that is not parsed further
	Exception     ExceptionCode  `json:"exception,omitempty"`
}

// RecordFields is a file record in Fields. A reply to a read does not name file and number.
type RecordFields struct {
	File   *uint16  `json:"file,omitempty"`
	Number *uint16  `json:"record,omitempty"`
	Length uint16   `json:"length"`
	Values []uint16 `json:"values,omitempty"`
}

// ObjectFields is an entry of a device identification in Fields.
type ObjectFields struct {
	ID    uint8  `json:"id"`
	Value string `json:"value"`
}

// Fields returns the fields of a complete request.
func (r *Request) Fields() Fields {
	f := Fields{Transaction: r.Transaction, Unit: r.Unit, Function: r.Function}
	switch r.Function {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters:
		f.Address, f.Quantity = new(r.Address), new(r.Quantity)
	case WriteSingleCoil, WriteSingleRegister:
		f.Address, f.Values = new(r.Address), r.written()
	case WriteMultipleCoils, WriteMultipleRegisters:
		f.Address, f.Quantity, f.Values = new(r.Address), new(r.Quantity), r.written()
	case ReadWriteMultipleRegisters:
		f.Address, f.Quantity = new(r.Address), new(r.Quantity)
		f.WriteAddress, f.WriteQuantity, f.Values = new(r.WriteAddress), new(r.WriteQuantity), r.written()
	case MaskWriteRegister:
		f.Address, f.AndMask, f.OrMask = new(r.Address), new(r.AndMask), new(r.OrMask)
	case ReadFIFOQueue:
		f.Address = new(r.Address)
	case Diagnostics:
		f.SubFunction, f.Values = new(r.SubFunction), registers(r.Values)
	case ReadFileRecord, WriteFileRecord:
		f.Records = recordFields(r.Records())
	case EncapsulatedInterfaceTransport:
		f.MEIType = new(r.MEIType)
		if r.MEIType == MEIReadDeviceIdentification {
			f.ReadDeviceID, f.ObjectID = new(r.ReadDeviceID), new(r.ObjectID)
		} else {
			f.Data = hex.EncodeToString(from(r.Body, 1))
		}
	default:
		f.Data = hex.EncodeToString(r.Body)
	}
	return f
}

// Fields returns the fields of a complete response. Of coils and inputs it gives every bit of every
// byte, the padding too; see FieldsAnswering.
func (r *Response) Fields() Fields { return r.FieldsAnswering(nil) }

// FieldsAnswering is Fields where the request is known (or nil), which tells how many coils or
// inputs were asked for.
func (r *Response) FieldsAnswering(q *Request) Fields {
	f := Fields{Transaction: r.Transaction, Unit: r.Unit, Function: r.Function, Exception: r.Exception}
	if r.Exception != 0 {
		return f
	}
	switch r.Function {
	case ReadCoils, ReadDiscreteInputs:
		n := 8 * len(r.Values)
		if q != nil && q.Function == r.Function {
			n = min(n, int(q.Quantity))
		}
		f.Values = coils(r.Values, n)
	case ReadHoldingRegisters, ReadInputRegisters, ReadWriteMultipleRegisters:
		f.Values = registers(r.Values)
	case ReadFIFOQueue: // the only reply that counts registers on the wire (AP 6.18)
		f.Quantity, f.Values = new(uint16(len(r.Values)/2)), registers(r.Values)
	case WriteSingleCoil:
		f.Address, f.Values = new(r.Address), []uint16{uint16(r.Values[0] & 1)}
	case WriteSingleRegister:
		f.Address, f.Values = new(r.Address), registers(r.Values)
	case WriteMultipleCoils, WriteMultipleRegisters:
		f.Address, f.Quantity = new(r.Address), new(r.Quantity)
	case MaskWriteRegister:
		f.Address, f.AndMask, f.OrMask = new(r.Address), new(r.AndMask), new(r.OrMask)
	case Diagnostics:
		f.SubFunction, f.Values = new(r.SubFunction), registers(r.Values)
	case ReadFileRecord, WriteFileRecord:
		f.Records = recordFields(r.Records())
	case EncapsulatedInterfaceTransport:
		f.MEIType = new(r.MEIType)
		if r.MEIType == MEIReadDeviceIdentification {
			f.ReadDeviceID, f.Objects = new(r.ReadDeviceID), objectFields(r.Objects())
		} else {
			f.Data = hex.EncodeToString(from(r.Body, 1))
		}
	default:
		f.Data = hex.EncodeToString(r.Body)
	}
	return f
}

func (r *Request) written() []uint16 {
	list := make([]uint16, r.WrittenCount())
	for i := range list {
		list[i], _ = r.Written(i)
	}
	return list
}

func registers(b []byte) []uint16 {
	list := make([]uint16, len(b)/2)
	for i := range list {
		list[i] = register(b, i)
	}
	return list
}

func coils(b []byte, n int) []uint16 {
	list := make([]uint16, n)
	for i := range list {
		list[i] = coil(b, i)
	}
	return list
}

func recordFields(c Records) []RecordFields {
	var list []RecordFields
	for c.Next() {
		f := RecordFields{Length: c.Length, Values: registers(c.Data)}
		if c.form != recordReplies {
			f.File, f.Number = new(c.File), new(c.Number)
		}
		list = append(list, f)
	}
	return list
}

func objectFields(c Objects) []ObjectFields {
	var list []ObjectFields
	for c.Next() {
		list = append(list, ObjectFields{ID: c.ID, Value: string(c.Value)})
	}
	return list
}
