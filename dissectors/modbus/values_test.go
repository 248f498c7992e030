package modbus_test

import (
	"slices"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

func TestRangesAndValues(t *testing.T) {
	type span struct{ least, most uint16 }
	none := modbus.Range{}
	for _, row := range []struct {
		name, wire  string
		read, write modbus.Range
		values      []span
	}{
		{"read coils", "0001 0000 0006 01 01 0013 0025", modbus.Range{Address: 19, Quantity: 37}, none, nil},
		{"read registers to the end", "0001 0000 0006 01 03 fffe 0002", modbus.Range{Address: 65534, Quantity: 2}, none, nil},
		{"write coil on", "0001 0000 0006 01 05 0007 ff00", none, modbus.Range{Address: 7, Quantity: 1}, []span{{1, 1}}},
		{"write coil off", "0001 0000 0006 01 05 0007 0000", none, modbus.Range{Address: 7, Quantity: 1}, []span{{0, 0}}},
		{"write register", "0001 0000 0006 01 06 0007 8001", none, modbus.Range{Address: 7, Quantity: 1}, []span{{0x8001, 0x8001}}},
		{"write coils without padding", "0001 0000 0009 01 0f 0010 0009 02 05ff", none, modbus.Range{Address: 16, Quantity: 9},
			[]span{{1, 1}, {0, 0}, {1, 1}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {1, 1}}},
		{"write registers", "0001 0000 000b 01 10 0010 0002 04 01020304", none, modbus.Range{Address: 16, Quantity: 2},
			[]span{{0x0102, 0x0102}, {0x0304, 0x0304}}},
		{"mask", "0001 0000 0008 01 16 0004 00f2 0025", none, modbus.Range{Address: 4, Quantity: 1}, []span{{0x0005, 0x00f7}}},
		{"mask that keeps nothing", "0001 0000 0008 01 16 0004 0000 1234", none, modbus.Range{Address: 4, Quantity: 1}, []span{{0x1234, 0x1234}}},
		{"mask that keeps all", "0001 0000 0008 01 16 0004 ffff 1234", none, modbus.Range{Address: 4, Quantity: 1}, []span{{0, 0xffff}}},
		{"read and write", "0001 0000 000d 01 17 0003 0006 000e 0001 02 00ff", modbus.Range{Address: 3, Quantity: 6},
			modbus.Range{Address: 14, Quantity: 1}, []span{{0x00ff, 0x00ff}}},
		{"read fifo queue", "0001 0000 0004 01 18 04de", modbus.Range{Address: 1246, Quantity: 1}, none, nil},
		{"write file record", "0001 0000 000c 01 15 09 06 0001 0000 0001 0000", none, none, nil},
		{"report server id", "0001 0000 0002 01 11", none, none, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var r modbus.Request
			if _, err := modbus.ParseRequest(message(t, row.wire), &r); err != nil {
				t.Fatal(err)
			}
			read, reads := r.ReadRange()
			if reads != (row.read != none) || reads && read != row.read {
				t.Errorf("ReadRange = %v, %v; want %v", read, reads, row.read)
			}
			write, writes := r.WriteRange()
			if writes != (row.write != none) || writes && write != row.write {
				t.Errorf("WriteRange = %v, %v; want %v", write, writes, row.write)
			}
			var values []span
			for i := range r.WrittenCount() {
				least, most := r.Written(i)
				values = append(values, span{least, most})
			}
			if !slices.Equal(values, row.values) {
				t.Errorf("values %v, want %v", values, row.values)
			}
		})
	}
}

func TestLast(t *testing.T) {
	for _, row := range []struct {
		g    modbus.Range
		last uint16
	}{
		{modbus.Range{Address: 0, Quantity: 1}, 0},
		{modbus.Range{Address: 40, Quantity: 10}, 49},
		{modbus.Range{Address: 65535, Quantity: 1}, 65535},
		{modbus.Range{Address: 63536, Quantity: 2000}, 65535},
	} {
		if got := row.g.Last(); got != row.last {
			t.Errorf("%v: Last = %d, want %d", row.g, got, row.last)
		}
	}
}

// TestSelfDelimiting names the functions whose end a server finds without the header's length:
// those that libmodbus knows, and those without a body.
func TestSelfDelimiting(t *testing.T) {
	for code := modbus.FunctionCode(1); code < 0x80; code++ {
		var want bool
		switch code {
		case 1, 2, 3, 4, 5, 6, 7, 11, 12, 15, 16, 17, 22, 23:
			want = true
		}
		if code.SelfDelimiting() != want {
			t.Errorf("%s: SelfDelimiting = %v", code, code.SelfDelimiting())
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		modbus.FunctionCode(0x5b).String():            "unknown(0x5b)",
		modbus.FunctionCode(0).String():               "unknown(0x00)",
		modbus.ExceptionCode(0).String():              "none",
		modbus.IllegalFunction.String():               "illegal_function",
		modbus.ExceptionCode(7).String():              "unknown(0x07)",
		modbus.ExceptionCode(200).String():            "unknown(0xc8)",
		modbus.SubFunctionName(4):                     "force_listen_only_mode",
		modbus.SubFunctionName(0x13):                  "unknown(0x0013)",
		(&modbus.MalformedError{Reason: "x"}).Error(): "malformed modbus: x",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
