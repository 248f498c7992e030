package modbus_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

// golden is a lawful message and what has to be read from it. The bytes are written with spaces
// between fields; a dot and a number repeat the byte before it.
type golden struct {
	name, wire, operation, fields string
}

// message turns the notation of golden into bytes.
func message(t testing.TB, wire string) []byte {
	t.Helper()
	var b []byte
	for field := range strings.FieldsSeq(wire) {
		text, times, repeated := strings.Cut(field, ".")
		part, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("read %q: %v", field, err)
		}
		n := 1
		if repeated {
			if err := json.Unmarshal([]byte(times), &n); err != nil {
				t.Fatalf("read %q: %v", field, err)
			}
		}
		for range n {
			b = append(b, part...)
		}
	}
	return b
}

var goldenRequests = []golden{
	{"read coils", "0001 0000 0006 11 01 0013 0013", "read_coils",
		`{"transaction":1,"unit":17,"function":1,"address":19,"quantity":19}`},
	{"read coils, all that fit", "0001 0000 0006 11 01 0000 07d0", "read_coils",
		`{"transaction":1,"unit":17,"function":1,"address":0,"quantity":2000}`},
	{"read coils, the last address", "0001 0000 0006 11 01 ffff 0001", "read_coils",
		`{"transaction":1,"unit":17,"function":1,"address":65535,"quantity":1}`},
	{"read discrete inputs", "0002 0000 0006 01 02 00c4 0016", "read_discrete_inputs",
		`{"transaction":2,"unit":1,"function":2,"address":196,"quantity":22}`},
	{"read holding registers", "0003 0000 0006 ff 03 006b 0003", "read_holding_registers",
		`{"transaction":3,"unit":255,"function":3,"address":107,"quantity":3}`},
	{"read holding registers, up to the last address", "0003 0000 0006 ff 03 ff83 007d", "read_holding_registers",
		`{"transaction":3,"unit":255,"function":3,"address":65411,"quantity":125}`},
	{"read input registers", "0004 0000 0006 00 04 0008 0001", "read_input_registers",
		`{"transaction":4,"unit":0,"function":4,"address":8,"quantity":1}`},
	{"write single coil, on", "0005 0000 0006 01 05 00ac ff00", "write_single_coil",
		`{"transaction":5,"unit":1,"function":5,"address":172,"values":[1]}`},
	{"write single coil, off", "0005 0000 0006 01 05 ffff 0000", "write_single_coil",
		`{"transaction":5,"unit":1,"function":5,"address":65535,"values":[0]}`},
	{"write single register", "0006 0000 0006 01 06 0001 0003", "write_single_register",
		`{"transaction":6,"unit":1,"function":6,"address":1,"values":[3]}`},
	{"read exception status", "0007 0000 0002 01 07", "read_exception_status",
		`{"transaction":7,"unit":1,"function":7}`},
	{"return query data", "0008 0000 0006 01 08 0000 a537", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[42295],"sub_function":0}`},
	{"return query data, all that fits", "0008 0000 00fe 01 08 0000 5a.250", "diagnostics", ""},
	{"restart communications, clear the log", "0008 0000 0006 01 08 0001 ff00", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[65280],"sub_function":1}`},
	{"change delimiter", "0008 0000 0006 01 08 0003 0a00", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[2560],"sub_function":3}`},
	{"force listen only mode", "0008 0000 0006 01 08 0004 0000", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[0],"sub_function":4}`},
	{"clear overrun counter", "0008 0000 0006 01 08 0014 0000", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[0],"sub_function":20}`},
	{"reserved sub-function, two words", "0008 0000 0008 01 08 0015 0003 0000", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[3,0],"sub_function":21}`},
	{"get comm event counter", "000b 0000 0002 01 0b", "get_comm_event_counter",
		`{"transaction":11,"unit":1,"function":11}`},
	{"get comm event log", "000c 0000 0002 01 0c", "get_comm_event_log",
		`{"transaction":12,"unit":1,"function":12}`},
	{"write multiple coils", "000f 0000 0009 01 0f 0013 000a 02 cd01", "write_multiple_coils",
		`{"transaction":15,"unit":1,"function":15,"address":19,"quantity":10,"values":[1,0,1,1,0,0,1,1,1,0]}`},
	{"write multiple coils, all that fit", "000f 0000 00fd 01 0f f850 07b0 f6 00.246", "write_multiple_coils", ""},
	{"write multiple registers", "0010 0000 000b 01 10 0001 0002 04 000a0102", "write_multiple_registers",
		`{"transaction":16,"unit":1,"function":16,"address":1,"quantity":2,"values":[10,258]}`},
	{"write multiple registers, all that fit", "0010 0000 00fd 01 10 ff85 007b f6 00.246", "write_multiple_registers", ""},
	{"report server id", "0011 0000 0002 01 11", "report_server_id",
		`{"transaction":17,"unit":1,"function":17}`},
	{"read file record", "0014 0000 0011 01 14 0e 06 0004 0001 0002 06 0003 0009 0002", "read_file_record",
		`{"transaction":20,"unit":1,"function":20,"records":[{"file":4,"record":1,"length":2},{"file":3,"record":9,"length":2}]}`},
	{"read file record, 35 of one register", "0014 0000 00f8 01 14 f5 06000100000001.35", "read_file_record", ""},
	{"read file record, all that fits the reply", "0014 0000 000a 01 14 07 06 ffff 2694 007c", "read_file_record",
		`{"transaction":20,"unit":1,"function":20,"records":[{"file":65535,"record":9876,"length":124}]}`},
	{"read file record, none", "0014 0000 0003 01 14 00", "read_file_record",
		`{"transaction":20,"unit":1,"function":20}`},
	{"write file record", "0015 0000 0010 01 15 0d 06 0004 0007 0003 06af04be100d", "write_file_record",
		`{"transaction":21,"unit":1,"function":21,"records":[{"file":4,"record":7,"length":3,"values":[1711,1214,4109]}]}`},
	{"write file record, two", "0015 0000 0017 01 15 14 06 0001 270f 0001 aaaa 06 0002 0000 0002 bbbbcccc", "write_file_record",
		`{"transaction":21,"unit":1,"function":21,"records":[{"file":1,"record":9999,"length":1,"values":[43690]},{"file":2,"record":0,"length":2,"values":[48059,52428]}]}`},
	{"mask write register", "0016 0000 0008 01 16 0004 00f2 0025", "mask_write_register",
		`{"transaction":22,"unit":1,"function":22,"address":4,"and_mask":242,"or_mask":37}`},
	{"read and write multiple registers", "0017 0000 0011 01 17 0003 0006 000e 0003 06 00ff00fe00fd", "read_write_multiple_registers",
		`{"transaction":23,"unit":1,"function":23,"address":3,"quantity":6,"values":[255,254,253],"write_address":14,"write_quantity":3}`},
	{"read and write multiple registers, all that fit", "0017 0000 00fd 01 17 ff83 007d ff87 0079 f2 00.242", "read_write_multiple_registers", ""},
	{"read fifo queue", "0018 0000 0004 01 18 04de", "read_fifo_queue",
		`{"transaction":24,"unit":1,"function":24,"address":1246}`},
	{"read device identification", "002b 0000 0005 01 2b 0e 01 00", "read_device_identification",
		`{"transaction":43,"unit":1,"function":43,"mei_type":14,"read_device_id":1,"object_id":0}`},
	{"canopen general reference", "002b 0000 0006 01 2b 0d 010203", "canopen_general_reference",
		`{"transaction":43,"unit":1,"function":43,"mei_type":13,"data":"010203"}`},
	{"reserved mei type", "002b 0000 0003 01 2b 0c", "encapsulated_interface_transport",
		`{"transaction":43,"unit":1,"function":43,"mei_type":12}`},
	{"vendor function, raw", "005a 0000 0005 00 5a 0011 22", "unknown(0x5a)",
		`{"transaction":90,"unit":0,"function":90,"data":"001122"}`},
	{"user-defined function without a body", "0041 0000 0002 01 41", "unknown(0x41)",
		`{"transaction":65,"unit":1,"function":65}`},
	{"reserved function, the longest", "007f 0000 00fe 01 7f 00.252", "unknown(0x7f)", ""},
}

var goldenResponses = []golden{
	{"read coils", "0001 0000 0006 11 01 03 cd6b05", "read_coils",
		`{"transaction":1,"unit":17,"function":1,"values":[1,0,1,1,0,0,1,1,1,1,0,1,0,1,1,0,1,0,1,0,0,0,0,0]}`},
	{"read discrete inputs, all that fit", "0001 0000 00fd 11 02 fa 00.250", "read_discrete_inputs", ""},
	{"read holding registers", "0003 0000 0009 ff 03 06 022b 0000 0064", "read_holding_registers",
		`{"transaction":3,"unit":255,"function":3,"values":[555,0,100]}`},
	{"read input registers, all that fit", "0004 0000 00fd ff 04 fa 00.250", "read_input_registers", ""},
	{"write single coil", "0005 0000 0006 01 05 00ac ff00", "write_single_coil",
		`{"transaction":5,"unit":1,"function":5,"address":172,"values":[1]}`},
	{"write single register", "0006 0000 0006 01 06 0001 0003", "write_single_register",
		`{"transaction":6,"unit":1,"function":6,"address":1,"values":[3]}`},
	{"read exception status", "0007 0000 0003 01 07 6d", "read_exception_status",
		`{"transaction":7,"unit":1,"function":7,"data":"6d"}`},
	{"return query data", "0008 0000 0006 01 08 0000 a537", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[42295],"sub_function":0}`},
	{"return diagnostic register", "0008 0000 0006 01 08 0002 1234", "diagnostics",
		`{"transaction":8,"unit":1,"function":8,"values":[4660],"sub_function":2}`},
	{"get comm event counter", "000b 0000 0006 01 0b ffff 0108", "get_comm_event_counter",
		`{"transaction":11,"unit":1,"function":11,"data":"ffff0108"}`},
	{"get comm event log", "000c 0000 000b 01 0c 08 0000 0108 0121 2000", "get_comm_event_log",
		`{"transaction":12,"unit":1,"function":12,"data":"080000010801212000"}`},
	{"write multiple coils", "000f 0000 0006 01 0f 0013 000a", "write_multiple_coils",
		`{"transaction":15,"unit":1,"function":15,"address":19,"quantity":10}`},
	{"write multiple registers", "0010 0000 0006 01 10 0001 0002", "write_multiple_registers",
		`{"transaction":16,"unit":1,"function":16,"address":1,"quantity":2}`},
	{"report server id", "0011 0000 0005 01 11 02 b4ff", "report_server_id",
		`{"transaction":17,"unit":1,"function":17,"data":"02b4ff"}`},
	{"read file record", "0014 0000 000f 01 14 0c 05 06 0dfe0020 05 06 33cd0040", "read_file_record",
		`{"transaction":20,"unit":1,"function":20,"records":[{"length":2,"values":[3582,32]},{"length":2,"values":[13261,64]}]}`},
	{"read file record, all that fits", "0014 0000 00fd 01 14 fa f9 06 00.248", "read_file_record", ""},
	{"write file record", "0015 0000 0010 01 15 0d 06 0004 0007 0003 06af04be100d", "write_file_record",
		`{"transaction":21,"unit":1,"function":21,"records":[{"file":4,"record":7,"length":3,"values":[1711,1214,4109]}]}`},
	{"mask write register", "0016 0000 0008 01 16 0004 00f2 0025", "mask_write_register",
		`{"transaction":22,"unit":1,"function":22,"address":4,"and_mask":242,"or_mask":37}`},
	{"read and write multiple registers", "0017 0000 0005 01 17 02 00fe", "read_write_multiple_registers",
		`{"transaction":23,"unit":1,"function":23,"values":[254]}`},
	{"read fifo queue", "0018 0000 000a 01 18 0006 0002 01b8 1284", "read_fifo_queue",
		`{"transaction":24,"unit":1,"function":24,"quantity":2,"values":[440,4740]}`},
	{"read fifo queue, empty", "0018 0000 0006 01 18 0002 0000", "read_fifo_queue",
		`{"transaction":24,"unit":1,"function":24,"quantity":0}`},
	{"read device identification", "002b 0000 000d 01 2b 0e 01 01 00 00 02 00 01 41 01 00", "read_device_identification",
		`{"transaction":43,"unit":1,"function":43,"mei_type":14,"read_device_id":1,"objects":[{"id":0,"value":"A"},{"id":1,"value":""}]}`},
	{"canopen general reference", "002b 0000 0004 01 2b 0d 01", "canopen_general_reference",
		`{"transaction":43,"unit":1,"function":43,"mei_type":13,"data":"01"}`},
	{"exception", "0003 0000 0003 ff 83 02", "read_holding_registers",
		`{"transaction":3,"unit":255,"function":3,"exception":2}`},
	{"exception to function 43", "002b 0000 0003 01 ab 01", "encapsulated_interface_transport",
		`{"transaction":43,"unit":1,"function":43,"exception":1}`},
	{"exception to a vendor function", "005a 0000 0003 00 da 01", "unknown(0x5a)",
		`{"transaction":90,"unit":0,"function":90,"exception":1}`},
	{"vendor function, raw", "005a 0000 0004 00 5a 0011", "unknown(0x5a)",
		`{"transaction":90,"unit":0,"function":90,"data":"0011"}`},
}

func TestGoldenRequests(t *testing.T) {
	for _, g := range goldenRequests {
		t.Run(g.name, func(t *testing.T) {
			b := message(t, g.wire)
			var r modbus.Request
			n, err := modbus.ParseRequest(b, &r)
			if n != len(b) || err != nil {
				t.Fatalf("ParseRequest = %d, %v; want %d, nil", n, err, len(b))
			}
			if !r.Complete() {
				t.Errorf("Complete = false, Seen = %d, Length = %d", r.Seen, r.Length)
			}
			compare(t, g, r.Operation(), r.Fields())
		})
	}
}

func TestGoldenResponses(t *testing.T) {
	for _, g := range goldenResponses {
		t.Run(g.name, func(t *testing.T) {
			b := message(t, g.wire)
			var r modbus.Response
			n, err := modbus.ParseResponse(b, &r)
			if n != len(b) || err != nil {
				t.Fatalf("ParseResponse = %d, %v; want %d, nil", n, err, len(b))
			}
			if !r.Complete() {
				t.Errorf("Complete = false, Seen = %d, Length = %d", r.Seen, r.Length)
			}
			compare(t, g, r.Operation(), r.Fields())
		})
	}
}

// compare checks operation and fields; a golden with long values leaves its fields out.
func compare(t *testing.T, g golden, operation string, fields modbus.Fields) {
	t.Helper()
	if operation != g.operation {
		t.Errorf("Operation = %s, want %s", operation, g.operation)
	}
	got, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if g.fields != "" && string(got) != g.fields {
		t.Errorf("Fields =\n%s, want\n%s", got, g.fields)
	}
}

func TestFieldsAnsweringCutsPadding(t *testing.T) {
	var q modbus.Request
	var r modbus.Response
	if _, err := modbus.ParseRequest(message(t, "0001 0000 0006 11 01 0013 000a"), &q); err != nil {
		t.Fatal(err)
	}
	if _, err := modbus.ParseResponse(message(t, "0001 0000 0005 11 01 02 cd6b"), &r); err != nil {
		t.Fatal(err)
	}
	if got := len(r.FieldsAnswering(&q).Values); got != 10 {
		t.Errorf("%d values, want the 10 that were asked for", got)
	}
	if got := len(r.Fields().Values); got != 16 {
		t.Errorf("%d values without the request, want 16", got)
	}
}
