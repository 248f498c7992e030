package dnp3

// crcTable is the CRC of IEEE 1815 clause 9.2.4.2 byte by byte: the polynomial 0x3d65, reflected.
var crcTable = newCRCTable()

func newCRCTable() (table [256]uint16) {
	const reflected = 0xa6bc
	for i := range table {
		crc := uint16(i)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ reflected
			} else {
				crc >>= 1
			}
		}
		table[i] = crc
	}
	return table
}

// crc returns the CRC of b as it is sent, low byte first.
func crc(b []byte) uint16 {
	var sum uint16
	for _, v := range b {
		sum = sum>>8 ^ crcTable[byte(sum)^v]
	}
	return ^sum
}

// crcMatches compares the CRC behind b[:n] as far as it has arrived.
func crcMatches(b []byte, n int) bool {
	if len(b) <= n {
		return true
	}
	want := crc(b[:n])
	return b[n] == byte(want) && (len(b) == n+1 || b[n+1] == byte(want>>8))
}

// putCRC writes the CRC of b[:n] behind it.
func putCRC(b []byte, n int) {
	sum := crc(b[:n])
	b[n], b[n+1] = byte(sum), byte(sum>>8)
}
