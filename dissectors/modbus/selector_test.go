package modbus_test

import (
	"slices"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

func TestParseFunction(t *testing.T) {
	for _, row := range []struct{ text, canonical string }{
		{"read_holding_registers", "read_holding_registers"},
		{"3", "read_holding_registers"},
		{"0x10", "write_multiple_registers"},
		{"90", "90"},
		{"0x5a", "90"},
		{"127", "127"},
		{"diagnostics", "diagnostics"},
		{"8/0", "diagnostics/return_query_data"},
		{"diagnostics/force_listen_only_mode", "diagnostics/force_listen_only_mode"},
		{"8/0x15", "diagnostics/21"},
		{"43", "encapsulated_interface_transport"},
		{"43/14", "read_device_identification"},
		{"read_device_identification", "read_device_identification"},
		{"encapsulated_interface_transport/13", "canopen_general_reference"},
		{"canopen_general_reference", "canopen_general_reference"},
		{"43/200", "encapsulated_interface_transport/200"},
		{"", ""}, {"0", ""}, {"128", ""}, {"256", ""}, {"-1", ""}, {"3 ", ""}, {"Read_Coils", ""},
		{"read", ""}, {"unknown(0x5a)", ""}, {"3/1", ""}, {"8/", ""}, {"8/65536", ""}, {"8/nothing", ""},
		{"43/256", ""}, {"43/", ""}, {"read_device_identification/14", ""}, {"0x", ""}, {"0x0x1", ""},
	} {
		t.Run(row.text, func(t *testing.T) {
			s, err := modbus.ParseFunction(row.text)
			if (err != nil) != (row.canonical == "") {
				t.Fatalf("ParseFunction: %v", err)
			}
			if err != nil {
				return
			}
			if s.String() != row.canonical {
				t.Errorf("String = %s, want %s", s, row.canonical)
			}
			if again, err := modbus.ParseFunction(s.String()); err != nil || again != s {
				t.Errorf("ParseFunction(%s) = %v, %v; want %v", s, again, err, s)
			}
		})
	}
}

func TestParseFunctionReadsEveryPublicName(t *testing.T) {
	public := 0
	for code := modbus.FunctionCode(1); code < 0x80; code++ {
		if !code.Public() {
			continue
		}
		public++
		if s, err := modbus.ParseFunction(code.String()); err != nil || s.Function != code {
			t.Errorf("ParseFunction(%s) = %v, %v", code, s, err)
		}
	}
	if public != 19 {
		t.Errorf("%d public functions, want 19", public)
	}
}

// TestGroups states for one request of each kind which groups name it.
func TestGroups(t *testing.T) {
	for _, row := range []struct {
		name, wire string
		groups     []string
	}{
		{"read coils", "0001 0000 0006 01 01 0000 0001", []string{"read"}},
		{"read discrete inputs", "0001 0000 0006 01 02 0000 0001", []string{"read"}},
		{"read holding registers", "0001 0000 0006 01 03 0000 0001", []string{"read"}},
		{"read input registers", "0001 0000 0006 01 04 0000 0001", []string{"read"}},
		{"write single coil", "0001 0000 0006 01 05 0000 ff00", []string{"write"}},
		{"write single register", "0001 0000 0006 01 06 0000 0001", []string{"write"}},
		{"read exception status", "0001 0000 0002 01 07", []string{"read", "diagnostics"}},
		{"return query data", "0001 0000 0006 01 08 0000 0000", []string{"diagnostics", "8", "8/0"}},
		{"restart communications", "0001 0000 0006 01 08 0001 0000", []string{"8/1"}},
		{"return diagnostic register", "0001 0000 0006 01 08 0002 0000", []string{"diagnostics", "8"}},
		{"change delimiter", "0001 0000 0006 01 08 0003 0a00", nil},
		{"force listen only mode", "0001 0000 0006 01 08 0004 0000", nil},
		{"clear counters", "0001 0000 0006 01 08 000a 0000", nil},
		{"return bus message count", "0001 0000 0006 01 08 000b 0000", []string{"diagnostics", "8"}},
		{"return overrun count", "0001 0000 0006 01 08 0012 0000", []string{"diagnostics", "8"}},
		{"reserved sub-function", "0001 0000 0006 01 08 0013 0000", nil},
		{"clear overrun counter", "0001 0000 0006 01 08 0014 0000", nil},
		{"get comm event counter", "0001 0000 0002 01 0b", []string{"read", "diagnostics"}},
		{"get comm event log", "0001 0000 0002 01 0c", []string{"read", "diagnostics"}},
		{"write multiple coils", "0001 0000 0008 01 0f 0000 0001 01 00", []string{"write"}},
		{"write multiple registers", "0001 0000 0009 01 10 0000 0001 02 0000", []string{"write"}},
		{"report server id", "0001 0000 0002 01 11", []string{"read", "diagnostics"}},
		{"read file record", "0001 0000 000a 01 14 07 06 0001 0000 0001", []string{"read"}},
		{"write file record", "0001 0000 000c 01 15 09 06 0001 0000 0001 0000", []string{"write"}},
		{"evasion 14: mask write register", "0001 0000 0008 01 16 0000 0000 0000", []string{"write"}},
		{"evasion 14: read and write", "0001 0000 000d 01 17 0000 0001 0000 0001 02 0000", []string{"write"}},
		{"read fifo queue", "0001 0000 0004 01 18 0000", []string{"read"}},
		{"evasion 13: canopen general reference", "0001 0000 0003 01 2b 0d", []string{"43/13"}},
		{"evasion 13: read device identification", "0001 0000 0005 01 2b 0e 01 00", []string{"read", "diagnostics", "43"}},
		{"evasion 13: vendor function", "0001 0000 0003 01 5a 00", []string{"90"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := message(t, row.wire)
			var r modbus.Request
			for _, text := range []string{"read", "write", "diagnostics", "8", "8/0", "8/1", "43", "43/13", "90"} {
				list, err := modbus.ParseFunctions(text)
				if err != nil {
					t.Fatal(err)
				}
				want := slices.Contains(row.groups, text)
				for n := range len(b) + 1 {
					modbus.ParseRequest(b[:n], &r)
					named := slices.ContainsFunc(list, func(s modbus.Selector) bool { return !s.Excludes(&r) })
					if want && !named {
						t.Errorf("%s excludes the first %d bytes", text, n)
					}
					if !want && named && n == len(b) {
						t.Errorf("%s does not exclude it", text)
					}
				}
			}
		})
	}
}

func TestParseFunctionsRefusesWhatParseFunctionRefuses(t *testing.T) {
	if list, err := modbus.ParseFunctions("reads"); err == nil {
		t.Errorf("ParseFunctions(reads) = %v", list)
	}
}
