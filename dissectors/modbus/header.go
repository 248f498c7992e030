package modbus

// The MBAP header (TCP 3.1.3): transaction, protocol, length, unit; the function code follows.
const (
	offsetTransaction = 0
	offsetLength      = 4
	offsetUnit        = 6
	offsetFunction    = 7
	offsetBody        = 8

	// lengthPrefix is what the header's length does not count: everything before the unit.
	lengthPrefix = 6

	minLength = 2   // unit and function code
	maxLength = 254 // unit and a PDU of 253 bytes (AP 4.1)

	// MaxMessage is the largest message in bytes, header included (TCP 4.3.2).
	MaxMessage = lengthPrefix + maxLength

	// MaxBody is the largest body in bytes: a PDU without its function code.
	MaxBody = MaxMessage - offsetBody
)

// checkHeader judges as much of the header as has arrived.
func checkHeader(b []byte) *MalformedError {
	if byteIsNot(b, 2, 0) || byteIsNot(b, 3, 0) {
		return errProtocol
	}
	if byteIsNot(b, offsetLength, 0) {
		return errLength
	}
	if len(b) > 5 && (b[5] < minLength || b[5] > maxLength) {
		return errLength
	}
	return nil
}
