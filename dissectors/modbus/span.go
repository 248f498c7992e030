package modbus

// addressSpace is the number of coils, inputs or registers that a 16-bit address can name.
const addressSpace = 65536

// span16 returns the smallest and the largest value that the 16-bit field at off may have once all
// of it has arrived. One check written with it judges whole messages and prefixes alike.
func span16(b []byte, off int) (low, high uint32) {
	switch {
	case len(b) >= off+2:
		v := uint32(b[off])<<8 | uint32(b[off+1])
		return v, v
	case len(b) == off+1:
		return uint32(b[off]) << 8, uint32(b[off])<<8 | 0xff
	}
	return 0, 0xffff
}

// value16 returns the 16-bit field at off, or 0 while part of it is missing.
func value16(b []byte, off int) uint16 {
	if len(b) < off+2 {
		return 0
	}
	return uint16(b[off])<<8 | uint16(b[off+1])
}

// byteIsNot tells whether the byte at off has arrived and differs from want.
func byteIsNot(b []byte, off, want int) bool { return len(b) > off && int(b[off]) != want }

// from returns what has arrived beginning with off.
func from(b []byte, off int) []byte {
	if len(b) <= off {
		return nil
	}
	return b[off:]
}

// wholeRegisters cuts a half register off the end, which only a prefix can have.
func wholeRegisters(b []byte) []byte { return b[:len(b)&^1] }

// checkRange judges the address at off and the quantity behind it, of which lowest..highest are
// lawful (and agree with the length).
func checkRange(b []byte, off int, lowest, highest uint32) *MalformedError {
	address, _ := span16(b, off)
	low, high := span16(b, off+2)
	if low < lowest {
		low = lowest
	}
	if low > high || low > highest {
		return errQuantity
	}
	if address+low > addressSpace {
		return errAddress
	}
	return nil
}

// checkCoilValue judges the value at off of a write_single_coil: AP 6.5 lets it be 0x0000 or
// 0xFF00 only, and servers differ in what they make of any other.
func checkCoilValue(b []byte, off int) *MalformedError {
	if byteIsNot(b, off, 0x00) && byteIsNot(b, off, 0xff) || byteIsNot(b, off+1, 0x00) {
		return errCoil
	}
	return nil
}
