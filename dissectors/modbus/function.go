package modbus

import "fmt"

// FunctionCode is a Modbus function code without the exception bit: 1..127 on the wire.
type FunctionCode uint8

// The public function codes (AP 5.1).
const (
	ReadCoils                      FunctionCode = 1
	ReadDiscreteInputs             FunctionCode = 2
	ReadHoldingRegisters           FunctionCode = 3
	ReadInputRegisters             FunctionCode = 4
	WriteSingleCoil                FunctionCode = 5
	WriteSingleRegister            FunctionCode = 6
	ReadExceptionStatus            FunctionCode = 7
	Diagnostics                    FunctionCode = 8
	GetCommEventCounter            FunctionCode = 11
	GetCommEventLog                FunctionCode = 12
	WriteMultipleCoils             FunctionCode = 15
	WriteMultipleRegisters         FunctionCode = 16
	ReportServerID                 FunctionCode = 17
	ReadFileRecord                 FunctionCode = 20
	WriteFileRecord                FunctionCode = 21
	MaskWriteRegister              FunctionCode = 22
	ReadWriteMultipleRegisters     FunctionCode = 23
	ReadFIFOQueue                  FunctionCode = 24
	EncapsulatedInterfaceTransport FunctionCode = 43
)

// exceptionBit in a reply's function code says that it is an exception (AP 4.1).
const exceptionBit = 0x80

// functionNames are the specification's names in snake_case; a gap is not a public function.
var functionNames = [...]string{
	ReadCoils:                      "read_coils",
	ReadDiscreteInputs:             "read_discrete_inputs",
	ReadHoldingRegisters:           "read_holding_registers",
	ReadInputRegisters:             "read_input_registers",
	WriteSingleCoil:                "write_single_coil",
	WriteSingleRegister:            "write_single_register",
	ReadExceptionStatus:            "read_exception_status",
	Diagnostics:                    "diagnostics",
	GetCommEventCounter:            "get_comm_event_counter",
	GetCommEventLog:                "get_comm_event_log",
	WriteMultipleCoils:             "write_multiple_coils",
	WriteMultipleRegisters:         "write_multiple_registers",
	ReportServerID:                 "report_server_id",
	ReadFileRecord:                 "read_file_record",
	WriteFileRecord:                "write_file_record",
	MaskWriteRegister:              "mask_write_register",
	ReadWriteMultipleRegisters:     "read_write_multiple_registers",
	ReadFIFOQueue:                  "read_fifo_queue",
	EncapsulatedInterfaceTransport: "encapsulated_interface_transport",
}

// Public tells whether the specification defines the function, so that its messages are parsed;
// all others are carried raw.
func (f FunctionCode) Public() bool {
	return int(f) < len(functionNames) && functionNames[f] != ""
}

// String returns the specification's name in snake_case, or unknown(0x5b).
func (f FunctionCode) String() string {
	if f.Public() {
		return functionNames[f]
	}
	return fmt.Sprintf("unknown(0x%02x)", uint8(f))
}

// Flushes tells whether there are servers that do not know the function, frame requests by function
// code, and throw away what has come with the request and while they slept over it, before they
// answer (all of libmodbus). A message that comes in pieces around that moment loses its head, and
// its tail is read as a request.
func (f FunctionCode) Flushes() bool {
	switch f {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters,
		WriteSingleCoil, WriteSingleRegister, WriteMultipleCoils, WriteMultipleRegisters,
		ReportServerID, MaskWriteRegister, ReadWriteMultipleRegisters:
		return false
	}
	return true
}

// SelfDelimiting tells whether servers that frame requests by function code, and ignore the
// header's length, find the same end as everybody else. Where it is false, such a server (all of
// libmodbus) takes the body for the beginning of another message. It flushes what has arrived with
// the first bytes, so the trick needs a sender that pauses inside the message: a request that is
// not self-delimiting is safe when it is forwarded whole, and not safe in pieces.
func (f FunctionCode) SelfDelimiting() bool {
	switch f {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters,
		WriteSingleCoil, WriteSingleRegister, ReadExceptionStatus,
		GetCommEventCounter, GetCommEventLog, WriteMultipleCoils, WriteMultipleRegisters,
		ReportServerID, MaskWriteRegister, ReadWriteMultipleRegisters:
		return true
	}
	return false
}
