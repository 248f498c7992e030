package modbus_test

import (
	"errors"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

const (
	otherSize = "reply does not carry the quantity that was asked for"
	otherEcho = "reply does not repeat the request"
)

func TestAnswers(t *testing.T) {
	const (
		readCoils  = "0001 0000 0006 01 01 0013 0013"
		readTwo    = "0001 0000 0006 01 03 0000 0002"
		writeCoil  = "0001 0000 0006 01 05 0001 ff00"
		echo       = "0001 0000 0006 01 08 0000 a537"
		counter    = "0001 0000 0006 01 08 000b 0000"
		writeTwo   = "0001 0000 000b 01 10 0001 0002 04 000a0102"
		readFile   = "0001 0000 0011 01 14 0e 06 0004 0001 0002 06 0003 0009 0001"
		writeFile  = "0001 0000 000c 01 15 09 06 0004 0007 0001 06af"
		mask       = "0001 0000 0008 01 16 0004 00f2 0025"
		readWrite  = "0001 0000 000d 01 17 0003 0002 000e 0001 02 00ff"
		basic      = "0001 0000 0005 01 2b 0e 01 00"
		individual = "0001 0000 0005 01 2b 0e 04 02"
		vendor     = "0001 0000 0003 01 5a 00"
	)
	for _, row := range []struct{ name, request, response, reason string }{
		{"coils", readCoils, "0001 0000 0006 01 01 03 000000", ""},
		{"exception", readCoils, "0001 0000 0003 01 81 02", ""},
		{"evasion 15: other transaction", readTwo, "0002 0000 0007 01 03 04 00000000", "reply to another transaction"},
		{"evasion 15: other unit", readTwo, "0001 0000 0007 02 03 04 00000000", "reply from another unit"},
		{"evasion 15: other function", readTwo, "0001 0000 0007 01 04 04 00000000", "reply to another function"},
		{"evasion 15: exception to another function", readTwo, "0001 0000 0003 01 84 02", "reply to another function"},
		{"evasion 15: more coils than asked for", readCoils, "0001 0000 0007 01 01 04 00000000", otherSize},
		{"evasion 15: fewer coils than asked for", readCoils, "0001 0000 0005 01 01 02 0000", otherSize},
		{"evasion 15: more registers than asked for", readTwo, "0001 0000 0009 01 03 06 000000000000", otherSize},
		{"registers", readTwo, "0001 0000 0007 01 03 04 00000000", ""},
		{"coil", writeCoil, "0001 0000 0006 01 05 0001 ff00", ""},
		{"coil at another address", writeCoil, "0001 0000 0006 01 05 0002 ff00", otherEcho},
		{"coil with another value", writeCoil, "0001 0000 0006 01 05 0001 0000", otherEcho},
		{"echo", echo, "0001 0000 0006 01 08 0000 a537", ""},
		{"echo of other data", echo, "0001 0000 0006 01 08 0000 a538", otherEcho},
		{"echo of more data", echo, "0001 0000 0008 01 08 0000 a5370000", otherEcho},
		{"counter", counter, "0001 0000 0006 01 08 000b 0017", ""},
		{"another counter", counter, "0001 0000 0006 01 08 000c 0017", otherEcho},
		{"registers written", writeTwo, "0001 0000 0006 01 10 0001 0002", ""},
		{"fewer registers written", writeTwo, "0001 0000 0006 01 10 0001 0001", otherEcho},
		{"other registers written", writeTwo, "0001 0000 0006 01 10 0002 0002", otherEcho},
		{"file records", readFile, "0001 0000 000d 01 14 0a 05 06 00000000 03 06 0000", ""},
		{"file records in another order", readFile, "0001 0000 000d 01 14 0a 03 06 0000 05 06 00000000", otherSize},
		{"fewer file records", readFile, "0001 0000 0009 01 14 06 05 06 00000000", otherSize},
		{"more file records", readFile, "0001 0000 0011 01 14 0e 05 06 00000000 03 06 0000 03 06 0000", otherSize},
		{"file records written", writeFile, "0001 0000 000c 01 15 09 06 0004 0007 0001 06af", ""},
		{"other file records written", writeFile, "0001 0000 000c 01 15 09 06 0004 0007 0001 06ae", otherEcho},
		{"mask", mask, "0001 0000 0008 01 16 0004 00f2 0025", ""},
		{"another mask", mask, "0001 0000 0008 01 16 0004 00f2 0026", otherEcho},
		{"read and write", readWrite, "0001 0000 0007 01 17 04 00000000", ""},
		{"read and write, the quantity written", readWrite, "0001 0000 0005 01 17 02 0000", otherSize},
		{"identification", basic, "0001 0000 000b 01 2b 0e 01 01 00 00 01 00 01 41", ""},
		{"identification of another kind", basic, "0001 0000 000b 01 2b 0e 02 01 00 00 01 00 01 41", otherEcho},
		{"another mei type", basic, "0001 0000 0004 01 2b 0d 00", otherEcho},
		{"one object", individual, "0001 0000 000b 01 2b 0e 04 81 00 00 01 02 01 41", ""},
		{"another object", individual, "0001 0000 000b 01 2b 0e 04 81 00 00 01 01 01 41", otherSize},
		{"two objects", individual, "0001 0000 000c 01 2b 0e 04 81 00 00 02 02 00 02 00", otherSize},
		{"no object", individual, "0001 0000 0008 01 2b 0e 04 81 00 00 00", otherSize},
		{"vendor function", vendor, "0001 0000 0006 01 5a 01020304", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var q modbus.Request
			wire := message(t, row.request)
			if _, err := modbus.ParseRequest(wire, &q); err != nil {
				t.Fatalf("request: %v", err)
			}
			var kept [modbus.MaxBody]byte
			q = q.Clone(&kept)
			clear(wire)
			var r modbus.Response
			if _, err := modbus.ParseResponse(message(t, row.response), &r); err != nil {
				t.Fatalf("response: %v", err)
			}
			err := r.Answers(&q)
			var m *modbus.MalformedError
			if row.reason == "" && err != nil || row.reason != "" && (!errors.As(err, &m) || m.Reason != row.reason) {
				t.Errorf("Answers = %v, want %q", err, row.reason)
			}
		})
	}
}
