package modbus

import "errors"

// ErrNeedMore says that the bytes are a proper prefix of a message that may still be lawful.
var ErrNeedMore = errors.New("parse modbus: more bytes are needed")

// MalformedError says why bytes are no lawful message. The values that this package returns are
// shared: compare or print them, do not change them.
type MalformedError struct {
	// Reason is one phrase, without values from the wire, fit for events and records.
	Reason string
}

// Error returns the reason with the protocol's name before it.
func (e *MalformedError) Error() string { return "malformed modbus: " + e.Reason }

// The errors stand ready made: a flood of malformed messages must not become a flood of garbage
// for the collector.
var (
	errProtocol       = &MalformedError{"protocol identifier is not 0"}
	errLength         = &MalformedError{"length is outside 2..254"}
	errFunction       = &MalformedError{"function code is 0"}
	errFunctionHigh   = &MalformedError{"request with an exception's function code (0x80 and more)"}
	errFunctionLength = &MalformedError{"length is not the length of this function"}
	errByteCount      = &MalformedError{"byte count does not match the length"}
	errQuantity       = &MalformedError{"quantity is outside the range of this function"}
	errAddress        = &MalformedError{"address plus quantity is more than 65536"}
	errCoil           = &MalformedError{"coil value is neither 0x0000 nor 0xff00"}
	errDiagnosticData = &MalformedError{"data is not what this diagnostic sub-function carries"}
	errListenOnly     = &MalformedError{"reply to force listen only mode, which has none"}
	errReferenceType  = &MalformedError{"file reference type is not 6"}
	errFileNumber     = &MalformedError{"file number is 0"}
	errRecordNumber   = &MalformedError{"record number plus length is more than 10000"}
	errRecordLength   = &MalformedError{"record length does not fit the message"}
	errFIFOCount      = &MalformedError{"FIFO count is more than 31 or does not match the byte count"}
	errDeviceIDCode   = &MalformedError{"read device identification code is outside 1..4"}
	errObjects        = &MalformedError{"device identification objects do not fit the length"}
	errException      = &MalformedError{"exception code is 0"}
)

// The errors of Answers: each message is well formed, but one is not the reply to the other.
var (
	errOtherTransaction = &MalformedError{"reply to another transaction"}
	errOtherUnit        = &MalformedError{"reply from another unit"}
	errOtherFunction    = &MalformedError{"reply to another function"}
	errOtherSize        = &MalformedError{"reply does not carry the quantity that was asked for"}
	errOtherEcho        = &MalformedError{"reply does not repeat the request"}
)
