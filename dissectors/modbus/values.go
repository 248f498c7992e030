package modbus

// Range is a run of coils, inputs or registers.
type Range struct {
	Address  uint16
	Quantity uint16 // at least 1; Address+Quantity is at most 65536
}

// Last returns the last address in the range.
func (g Range) Last() uint16 { return g.Address + g.Quantity - 1 }

// ReadRange returns what the request reads by address: functions 1-4, 23 (which also writes) and
// 24, whose address names a queue and counts as one register. File records have no address.
//
// Of a prefix it is what is certain so far, which the final range contains; false means that there
// is none yet, of a complete request that there is none. So is WriteRange. Neither is to be used
// after a MalformedError.
func (r *Request) ReadRange() (Range, bool) {
	switch r.Function {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters,
		ReadWriteMultipleRegisters:
		return Range{r.Address, max(r.Quantity, 1)}, len(r.Body) >= 2
	case ReadFIFOQueue:
		return Range{r.Address, 1}, len(r.Body) >= 2
	}
	return Range{}, false
}

// WriteRange returns what the request writes by address: functions 5, 6, 15, 16, 22 and 23.
func (r *Request) WriteRange() (Range, bool) {
	switch r.Function {
	case WriteSingleCoil, WriteSingleRegister, WriteMultipleCoils, WriteMultipleRegisters,
		MaskWriteRegister:
		return Range{r.Address, max(r.Quantity, 1)}, len(r.Body) >= 2
	case ReadWriteMultipleRegisters:
		return Range{r.WriteAddress, max(r.WriteQuantity, 1)}, len(r.Body) >= 6
	}
	return Range{}, false
}

// WrittenCount returns how many values Written can give: those of functions 5, 6, 15, 16, 22 and
// 23, in a prefix those that have arrived. What function 21 writes is in Records.
func (r *Request) WrittenCount() int {
	switch r.Function {
	case WriteSingleCoil, WriteSingleRegister, WriteMultipleRegisters, ReadWriteMultipleRegisters:
		return len(r.Values) / 2
	case WriteMultipleCoils:
		return min(int(r.Quantity), 8*len(r.Values))
	case MaskWriteRegister:
		return len(r.Body) / 6
	}
	return 0
}

// Written returns the bounds of the i-th value written, 0 <= i < WrittenCount(), the one at the
// i-th address of WriteRange. They are equal but for a mask write, whose result depends on what
// the register holds: it is never less than the bits set nor more than those and the bits kept
// (AP 6.16). A coil is 0 or 1.
func (r *Request) Written(i int) (least, most uint16) {
	switch r.Function {
	case MaskWriteRegister:
		least = r.OrMask &^ r.AndMask
		return least, least | r.AndMask
	case WriteMultipleCoils:
		least = coil(r.Values, i)
	case WriteSingleCoil:
		least = uint16(r.Values[0] & 1)
	default:
		least = register(r.Values, i)
	}
	return least, least
}

func register(b []byte, i int) uint16 { return uint16(b[2*i])<<8 | uint16(b[2*i+1]) }

func coil(b []byte, i int) uint16 { return uint16(b[i/8] >> (i % 8) & 1) }
