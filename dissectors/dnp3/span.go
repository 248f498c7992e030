package dnp3

// value16 returns the 16-bit field at off, or 0 while part of it is missing.
func value16(b []byte, off int) uint16 {
	if len(b) < off+2 {
		return 0
	}
	return uint16(b[off]) | uint16(b[off+1])<<8
}

// value32 is value16 for 32 bits.
func value32(b []byte, off int) uint32 {
	if len(b) < off+4 {
		return 0
	}
	return uint32(b[off]) | uint32(b[off+1])<<8 | uint32(b[off+2])<<16 | uint32(b[off+3])<<24
}

// valueN returns the number of size bytes, 1, 2 or 4, at off; all of it has to be there.
func valueN(b []byte, off, size int) uint32 {
	switch size {
	case 1:
		return uint32(b[off])
	case 2:
		return uint32(value16(b, off))
	}
	return value32(b, off)
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
