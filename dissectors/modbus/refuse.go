package modbus

// Unassigned is the function code that a neutralised request carries where nothing better fits:
// neither public, nor user-defined (AP 5: 65..72 and 100..110), nor reserved (AP annex A).
const Unassigned FunctionCode = 0x70

// ExceptionLength is the size of every exception reply in bytes, header included (AP 7).
const ExceptionLength = offsetBody + 1

// The two requests of fixed length that no device acts on.
var (
	// A read of two registers at the last address ends behind the address space, so every device
	// answers with an exception (AP 6.3). Servers know the function, and find its end.
	impossibleRead = [5]byte{byte(ReadHoldingRegisters), 0xff, 0xff, 0, 2}
	// The register becomes (register AND 0xFFFF) OR (0 AND 0x0000), which is itself (AP 6.16).
	identityMask = [7]byte{byte(MaskWriteRegister), 0xff, 0xff, 0xff, 0xff, 0, 0}
)

// Neutralise overwrites one whole lawful request with another of the same length that changes
// nothing and that a device answers with an exception. The header stays as it is. It returns the
// function that the request has now; where it returns false the bytes are untouched.
//
// What is not fixed by its length becomes the unassigned function, with zeros behind it: servers
// that take the body for further requests (see [FunctionCode.SelfDelimiting]) find no function
// there, wherever they begin to read. A request for that very function is not neutralised, for
// whoever sends it may know a device that acts on it.
func Neutralise(message []byte) (now FunctionCode, ok bool) {
	var r Request
	if n, err := ParseRequest(message, &r); err != nil || n != len(message) {
		return 0, false
	}
	pdu := message[offsetFunction:]
	switch {
	case len(pdu) == len(impossibleRead):
		copy(pdu, impossibleRead[:])
	case r.Function == MaskWriteRegister:
		copy(pdu, identityMask[:])
	case r.Function == Unassigned:
		return 0, false
	default:
		clear(pdu)
		pdu[0] = byte(Unassigned)
	}
	return FunctionCode(pdu[0]), true
}

// WriteException makes a reply of ExceptionLength bytes, or a prefix of it, the exception e to a
// request of function f. Its header, which names transaction and unit, stays as it is.
func WriteException(reply []byte, f FunctionCode, e ExceptionCode) {
	if len(reply) > offsetFunction {
		reply[offsetFunction] = byte(f) | exceptionBit
	}
	if len(reply) > offsetBody {
		reply[offsetBody] = byte(e)
	}
}
