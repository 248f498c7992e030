package enip

// value16 returns the little-endian 16-bit field at off, or 0 while part of it is missing.
func value16(b []byte, off int) uint16 {
	if len(b) < off+2 {
		return 0
	}
	return uint16(b[off]) | uint16(b[off+1])<<8
}

// value32 returns the little-endian 32-bit field at off, or 0 while part of it is missing.
func value32(b []byte, off int) uint32 {
	if len(b) < off+4 {
		return 0
	}
	return uint32(b[off]) | uint32(b[off+1])<<8 | uint32(b[off+2])<<16 | uint32(b[off+3])<<24
}

// byteIsNot tells whether the byte at off has arrived and differs from want.
func byteIsNot(b []byte, off int, want byte) bool { return len(b) > off && b[off] != want }

// from returns what has arrived beginning with off.
func from(b []byte, off int) []byte {
	if len(b) <= off {
		return nil
	}
	return b[off:]
}
