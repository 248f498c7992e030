package modbus_test

import (
	"errors"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

// bad is a message that is not lawful, the reason, and how many of its bytes are enough to know.
type bad struct {
	name, wire, reason string
	at                 int
}

const (
	reasonProtocol  = "protocol identifier is not 0"
	reasonLength    = "length is outside 2..254"
	reasonFixed     = "length is not the length of this function"
	reasonCount     = "byte count does not match the length"
	reasonQuantity  = "quantity is outside the range of this function"
	reasonAddress   = "address plus quantity is more than 65536"
	reasonCoil      = "coil value is neither 0x0000 nor 0xff00"
	reasonSub       = "data is not what this diagnostic sub-function carries"
	reasonReference = "file reference type is not 6"
	reasonFile      = "file number is 0"
	reasonRecord    = "record number plus length is more than 10000"
	reasonRecords   = "record length does not fit the message"
	reasonObjects   = "device identification objects do not fit the length"
)

var badRequests = []bad{
	{"evasion 11: read with a write in its tail", "0001 0000 0017 01 03 0000 0001 0002 0000 000b 01 10 0001 0002 04 000a0102", reasonFixed, 8},
	{"evasion 11: read with two bytes too many", "0001 0000 0008 01 03 0000 0001 0000", reasonFixed, 8},
	{"evasion 11: read with a byte too few", "0001 0000 0005 01 03 0000 00", reasonFixed, 8},
	{"evasion 12: protocol 1", "0001 0001 0006 01 06 0001 0003", reasonProtocol, 4},
	{"evasion 12: protocol 256", "0001 0100 0006 01 06 0001 0003", reasonProtocol, 3},
	{"evasion 12: garbage", "474554202f20485454502f312e310d0a", reasonProtocol, 3},
	{"evasion 12: length 0", "0001 0000 0000 01 06 0001 0003", reasonLength, 6},
	{"evasion 12: length 1", "0001 0000 0001 01 06 0001 0003", reasonLength, 6},
	{"evasion 12: length 255", "0001 0000 00ff 01 06 0001 0003", reasonLength, 6},
	{"evasion 12: length 256", "0001 0000 0100 01 06 0001 0003", reasonLength, 5},
	{"evasion 12: length 65535", "0001 0000 ffff 01 06 0001 0003", reasonLength, 5},
	{"evasion 13: function 0", "0001 0000 0006 01 00 0001 0003", "function code is 0", 8},
	{"evasion 13: function 0x80", "0001 0000 0006 01 80 0001 0003", "request with an exception's function code (0x80 and more)", 8},
	{"evasion 13: function 0x86", "0001 0000 0003 01 86 01", "request with an exception's function code (0x80 and more)", 8},
	{"evasion 13: function 0xff", "0001 0000 0006 01 ff 0001 0003", "request with an exception's function code (0x80 and more)", 8},
	{"evasion 14: coil value 1", "0001 0000 0006 01 05 0001 0001", reasonCoil, 12},
	{"evasion 14: coil value 0xff01", "0001 0000 0006 01 05 0001 ff01", reasonCoil, 12},
	{"evasion 14: coil value 0x0100", "0001 0000 0006 01 05 0001 0100", reasonCoil, 11},
	{"evasion 14: address and quantity over 65536", "0001 0000 0006 01 03 ffff 0002", reasonAddress, 12},
	{"evasion 14: seen with half the quantity", "0001 0000 0006 01 01 fff0 0100", reasonAddress, 11},
	{"evasion 14: a write's length is enough", "0001 0000 000b 01 10 ffff 0002 04 00000000", reasonAddress, 10},
	{"evasion 14: coils over the end", "0001 0000 0009 01 0f fff8 0009 02 0000", reasonAddress, 10},
	{"evasion 14: file number 0", "0001 0000 000a 01 14 07 06 0000 0000 0001", reasonFile, 12},
	{"evasion 14: record 10000", "0001 0000 000a 01 14 07 06 0001 2710 0001", reasonRecord, 14},
	{"evasion 14: records over the end", "0001 0000 000a 01 14 07 06 0001 270f 0002", reasonRecord, 16},
	{"evasion 14: written records over the end", "0001 0000 000e 01 15 0b 06 0001 270f 0002 00000000", reasonRecord, 14},
	{"evasion 16: a serial frame in TCP", "01 03 0000 0001 840a", reasonLength, 6},

	{"read coils, quantity 0", "0001 0000 0006 01 01 0001 0000", reasonQuantity, 12},
	{"read coils, quantity 2001", "0001 0000 0006 01 01 0001 07d1", reasonQuantity, 12},
	{"read coils, quantity 2048", "0001 0000 0006 01 01 0001 0800", reasonQuantity, 11},
	{"read discrete inputs, quantity 2001", "0001 0000 0006 01 02 0001 07d1", reasonQuantity, 12},
	{"read holding registers, quantity 126", "0001 0000 0006 01 03 0001 007e", reasonQuantity, 12},
	{"read holding registers, quantity 256", "0001 0000 0006 01 03 0001 0100", reasonQuantity, 11},
	{"read input registers, quantity 0", "0001 0000 0006 01 04 0001 0000", reasonQuantity, 12},
	{"write single register, too long", "0001 0000 0008 01 06 0001 0003 0000", reasonFixed, 8},
	{"read exception status, too long", "0001 0000 0003 01 07 00", reasonFixed, 8},
	{"diagnostics without data", "0001 0000 0004 01 08 0000", reasonFixed, 8},
	{"diagnostics with half a word", "0001 0000 0007 01 08 0000 000000", reasonFixed, 8},
	{"restart communications, two words", "0001 0000 0008 01 08 0001 0000 0000", reasonFixed, 10},
	{"restart communications, other data", "0001 0000 0006 01 08 0001 0001", reasonSub, 12},
	{"change delimiter, other data", "0001 0000 0006 01 08 0003 0a0a", reasonSub, 12},
	{"force listen only mode, other data", "0001 0000 0006 01 08 0004 0100", reasonSub, 11},
	{"return bus message count, other data", "0001 0000 0006 01 08 000b 0001", reasonSub, 12},
	{"get comm event counter, too long", "0001 0000 0003 01 0b 00", reasonFixed, 8},
	{"get comm event log, too long", "0001 0000 0003 01 0c 00", reasonFixed, 8},
	{"report server id, too long", "0001 0000 0003 01 11 00", reasonFixed, 8},
	{"write multiple coils, no values", "0001 0000 0007 01 0f 0001 0000 00", reasonFixed, 8},
	{"write multiple coils, 1969", "0001 0000 00fd 01 0f 0001 07b1 f6 00.246", reasonQuantity, 12},
	{"write multiple coils, 247 bytes", "0001 0000 00fe 01 0f 0001 07b8 f7 00.247", reasonFixed, 8},
	{"write multiple coils, too many for the bytes", "0001 0000 0008 01 0f 0001 0009 01 00", reasonQuantity, 12},
	{"write multiple coils, too few for the bytes", "0001 0000 0009 01 0f 0001 0008 02 0000", reasonQuantity, 12},
	{"write multiple coils, other byte count", "0001 0000 0009 01 0f 0001 0009 01 0000", reasonCount, 13},
	{"write multiple registers, no values", "0001 0000 0007 01 10 0001 0000 00", reasonFixed, 8},
	{"write multiple registers, half a value", "0001 0000 0008 01 10 0001 0001 01 00", reasonFixed, 8},
	{"write multiple registers, 124", "0001 0000 00ff 01 10 0001 007c f8 00.248", reasonLength, 6},
	{"write multiple registers, quantity less than the values", "0001 0000 000b 01 10 0001 0001 02 00000000", reasonQuantity, 12},
	{"write multiple registers, quantity more than the values", "0001 0000 000b 01 10 0001 0003 06 00000000", reasonQuantity, 12},
	{"write multiple registers, other byte count", "0001 0000 000b 01 10 0001 0002 02 00000000", reasonCount, 13},
	{"read file record, half a sub-request", "0001 0000 0006 01 14 03 060001", reasonFixed, 8},
	{"read file record, 36 sub-requests", "0001 0000 00fe 01 14 fb 00.251", reasonFixed, 8},
	{"read file record, other byte count", "0001 0000 000a 01 14 0e 06 0001 0001 0001", reasonCount, 9},
	{"read file record, reference type 5", "0001 0000 000a 01 14 07 05 0001 0001 0001", reasonReference, 10},
	{"read file record, length 0", "0001 0000 000a 01 14 07 06 0001 0001 0000", reasonRecords, 16},
	{"read file record, more than a reply holds", "0001 0000 000a 01 14 07 06 0001 0001 007d", reasonRecords, 16},
	{"read file record, leaving no room for the next", "0001 0000 0011 01 14 0e 06 0001 0001 007b 06 0001 0001 0001", reasonRecords, 16},
	{"write file record, too short", "0001 0000 000a 01 15 07 06 0001 0001 0000", reasonFixed, 8},
	{"write file record, even and too short for two", "0001 0000 000d 01 15 0a 06 0001 0001 0001 000000", reasonFixed, 8},
	{"write file record, other byte count", "0001 0000 000c 01 15 0b 06 0001 0001 0001 0000", reasonCount, 9},
	{"write file record, longer than the message", "0001 0000 000c 01 15 09 06 0001 0001 0002 0000", reasonRecords, 16},
	{"write file record, shorter than the message", "0001 0000 000e 01 15 0b 06 0001 0001 0001 00000000", reasonRecords, 16},
	{"write file record, length over 255", "0001 0000 000c 01 15 09 06 0001 0001 0100 0000", reasonRecords, 15},
	{"mask write register, too short", "0001 0000 0006 01 16 0001 0000", reasonFixed, 8},
	{"read and write, reading 0", "0001 0000 000d 01 17 0000 0000 0000 0001 02 0000", reasonQuantity, 12},
	{"read and write, reading 126", "0001 0000 000d 01 17 0000 007e 0000 0001 02 0000", reasonQuantity, 12},
	{"read and write, read over the end", "0001 0000 000d 01 17 ffff 0002 0000 0001 02 0000", reasonAddress, 12},
	{"read and write, write over the end", "0001 0000 000f 01 17 0000 0001 ffff 0002 04 00000000", reasonAddress, 14},
	{"read and write, writing 122", "0001 0000 00ff 01 17 0000 0001 0000 007a f4 00.244", reasonLength, 6},
	{"read and write, nothing written", "0001 0000 000b 01 17 0000 0001 0000 0000 00", reasonFixed, 8},
	{"read and write, other quantity", "0001 0000 000d 01 17 0000 0001 0000 0002 02 0000", reasonQuantity, 16},
	{"read and write, other byte count", "0001 0000 000d 01 17 0000 0001 0000 0001 04 0000", reasonCount, 17},
	{"read fifo queue, too long", "0001 0000 0005 01 18 0000 00", reasonFixed, 8},
	{"encapsulated without a type", "0001 0000 0002 01 2b", reasonFixed, 8},
	{"read device identification, too long", "0001 0000 0006 01 2b 0e 01 00 00", reasonFixed, 9},
	{"read device identification, code 0", "0001 0000 0005 01 2b 0e 00 00", "read device identification code is outside 1..4", 10},
	{"read device identification, code 5", "0001 0000 0005 01 2b 0e 05 00", "read device identification code is outside 1..4", 10},
}

var badResponses = []bad{
	{"protocol 1", "0001 0001 0003 01 83 01", reasonProtocol, 4},
	{"function 0", "0001 0000 0003 01 00 01", "function code is 0", 8},
	{"exception to function 0", "0001 0000 0003 01 80 01", "function code is 0", 8},
	{"exception with two bytes", "0001 0000 0004 01 81 0600", reasonFixed, 8},
	{"exception without a code", "0001 0000 0002 01 81", reasonFixed, 8},
	{"exception 0", "0001 0000 0003 01 81 00", "exception code is 0", 9},
	{"read coils, nothing", "0001 0000 0003 01 01 00", reasonFixed, 8},
	{"read coils, 251 bytes", "0001 0000 00fe 01 01 fb 00.251", reasonFixed, 8},
	{"read coils, other byte count", "0001 0000 0004 01 01 02 00", reasonCount, 9},
	{"read holding registers, half a register", "0001 0000 0004 01 03 01 00", reasonFixed, 8},
	{"read holding registers, other byte count", "0001 0000 0005 01 03 04 0000", reasonCount, 9},
	{"write single coil, value 1", "0001 0000 0006 01 05 0001 0001", reasonCoil, 12},
	{"write single register, too long", "0001 0000 0008 01 06 0001 0001 0001", reasonFixed, 8},
	{"read exception status, too long", "0001 0000 0004 01 07 0000", reasonFixed, 8},
	{"force listen only mode", "0001 0000 0006 01 08 0004 0000", "reply to force listen only mode, which has none", 10},
	{"clear counters, other data", "0001 0000 0006 01 08 000a 0001", reasonSub, 12},
	{"get comm event counter, too short", "0001 0000 0004 01 0b 0000", reasonFixed, 8},
	{"get comm event log, too short", "0001 0000 0008 01 0c 05 0000000000", reasonFixed, 8},
	{"get comm event log, 65 events", "0001 0000 004a 01 0c 47 00.71", reasonFixed, 8},
	{"write multiple coils, quantity 1969", "0001 0000 0006 01 0f 0000 07b1", reasonQuantity, 12},
	{"write multiple registers, quantity 124", "0001 0000 0006 01 10 0000 007c", reasonQuantity, 12},
	{"write multiple registers, over the end", "0001 0000 0006 01 10 ffff 0002", reasonAddress, 12},
	{"report server id, nothing", "0001 0000 0003 01 11 00", reasonFixed, 8},
	{"read file record, odd list", "0001 0000 0008 01 14 05 04 06 000000", reasonFixed, 8},
	{"read file record, odd record", "0001 0000 0009 01 14 06 04 06 0000 0000", reasonRecords, 10},
	{"read file record, record too long", "0001 0000 0007 01 14 04 05 06 0000", reasonRecords, 10},
	{"read file record, reference type 7", "0001 0000 0007 01 14 04 03 07 0000", reasonReference, 11},
	{"write file record, file 0", "0001 0000 000c 01 15 09 06 0000 0001 0001 0000", reasonFile, 12},
	{"mask write register, too long", "0001 0000 0009 01 16 0001 0001 0001 00", reasonFixed, 8},
	{"read fifo queue, 32 registers", "0001 0000 0046 01 18 0042 0020 00.64", reasonFixed, 8},
	{"read fifo queue, other byte count", "0001 0000 0008 01 18 0006 0001 0000", reasonCount, 10},
	{"read fifo queue, other FIFO count", "0001 0000 0008 01 18 0004 0002 0000", "FIFO count is more than 31 or does not match the byte count", 12},
	{"read device identification, no header", "0001 0000 0005 01 2b 0e 01 00", reasonFixed, 9},
	{"read device identification, code 5", "0001 0000 0008 01 2b 0e 05 01 00 00 00", "read device identification code is outside 1..4", 10},
	{"read device identification, bytes left over", "0001 0000 000c 01 2b 0e 01 00 4d b7 00 00000000", reasonObjects, 14},
	{"read device identification, too many objects", "0001 0000 000b 01 2b 0e 01 01 00 00 02 00 01 41", reasonObjects, 14},
	{"read device identification, object too long", "0001 0000 000b 01 2b 0e 01 01 00 00 01 00 02 41", reasonObjects, 16},
	{"read device identification, object too short", "0001 0000 000b 01 2b 0e 01 01 00 00 01 00 00 41", reasonObjects, 16},
}

func TestMalformedRequests(t *testing.T) { testMalformed(t, parseRequest, badRequests) }

func TestMalformedResponses(t *testing.T) { testMalformed(t, parseResponse, badResponses) }

func testMalformed(t *testing.T, parse parser, rows []bad) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := message(t, row.wire)
			for n := row.at; n <= len(b); n++ {
				_, err := parse(b[:n])
				var m *modbus.MalformedError
				if !errors.As(err, &m) {
					t.Fatalf("first %d bytes: %v, want malformed: %s", n, err, row.reason)
				}
				if n == row.at && m.Reason != row.reason {
					t.Errorf("first %d bytes: %q, want %q", n, m.Reason, row.reason)
				}
			}
			if _, err := parse(b[:row.at-1]); err != modbus.ErrNeedMore {
				t.Errorf("first %d bytes: %v, want ErrNeedMore", row.at-1, err)
			}
			checkEarliest(t, parse, b)
		})
	}
}
