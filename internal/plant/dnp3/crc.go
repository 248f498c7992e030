package dnp3

// crcTable is for x^16+x^13+x^12+x^11+x^10+x^8+x^6+x^5+x^2+1, least significant bit first
// (IEEE 1815 9.2.4.3 and annex E).
var crcTable = makeCRCTable(0xa6bc)

func makeCRCTable(reflected uint16) (table [256]uint16) {
	for i := range table {
		c := uint16(i)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ reflected
			} else {
				c >>= 1
			}
		}
		table[i] = c
	}
	return table
}

// checksum is what follows a block on the wire, least significant octet first.
func checksum(block []byte) uint16 {
	var c uint16
	for _, b := range block {
		c = c>>8 ^ crcTable[byte(c)^b]
	}
	return ^c
}

func appendChecked(b, block []byte) []byte {
	c := checksum(block)
	return append(append(b, block...), byte(c), byte(c>>8))
}

// rightly reports whether the last two octets are the checksum of those before.
func rightly(block []byte) bool {
	n := len(block) - 2
	c := checksum(block[:n])
	return block[n] == byte(c) && block[n+1] == byte(c>>8)
}
