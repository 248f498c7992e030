package modbus_test

import (
	"bytes"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

func TestNeutralise(t *testing.T) {
	rows := []struct {
		name      string
		function  byte
		body      []byte
		want      modbus.FunctionCode
		wantBody  []byte
		untouched bool
	}{
		{"a read", 3, words(100, 2), 3, words(0xffff, 2), false},
		{"a coil", 5, words(1, 0xff00), 3, words(0xffff, 2), false},
		{"a register", 6, words(1, 7), 3, words(0xffff, 2), false},
		{"a diagnostic of one word", 8, words(4, 0), 3, words(0xffff, 2), false},
		{"a vendor's function of four bytes", 90, []byte{1, 2, 3, 4}, 3, words(0xffff, 2), false},
		{"the unassigned function of four bytes", 0x70, []byte{1, 2, 3, 4}, 3, words(0xffff, 2), false},
		{"mask write", 22, words(4, 0xf2, 0x25), 22, words(0xffff, 0xffff, 0), false},
		{"no body", 17, nil, 0x70, nil, false},
		{"FIFO", 24, words(0x4de), 0x70, make([]byte, 2), false},
		{"identification", 43, []byte{14, 1, 0}, 0x70, make([]byte, 3), false},
		{"registers", 16, append(words(1, 2), 4, 0, 6, 1, 6), 0x70, make([]byte, 9), false},
		{"read and write", 23, append(words(3, 6, 14, 1), 2, 0, 0xff), 0x70, make([]byte, 11), false},
		{"a diagnostic of two words", 8, words(0, 1, 2), 0x70, make([]byte, 6), false},
		{"the unassigned function of another length", 0x70, []byte{1, 2, 3}, 0, nil, true},
		{"quantity 0 is malformed", 3, words(0, 0), 0, nil, true},
		{"function 0 is malformed", 0, words(0, 1), 0, nil, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := frame(0x1234, 9, row.function, row.body)
			before := bytes.Clone(b)
			now, ok := modbus.Neutralise(b)
			if row.untouched {
				if ok || !bytes.Equal(b, before) {
					t.Fatalf("became % x", b)
				}
				return
			}
			if want := frame(0x1234, 9, byte(row.want), row.wantBody); !ok || now != row.want || !bytes.Equal(b, want) {
				t.Errorf("% x (%v, %v), want % x", b, now, ok, want)
			}
		})
	}
}

// TestNeutraliseWholeRequestsOnly: every golden keeps its length and header, and no prefix of it,
// nor it with more behind, is touched.
func TestNeutraliseWholeRequestsOnly(t *testing.T) {
	for _, g := range goldenRequests {
		whole := message(t, g.wire)
		for n := range len(whole) + 2 {
			b := append(bytes.Clone(whole), 0)[:n]
			before := bytes.Clone(b)
			now, ok := modbus.Neutralise(b)
			if n != len(whole) {
				if ok || !bytes.Equal(b, before) {
					t.Errorf("%s: %d of %d bytes became % x", g.name, n, len(whole), b)
				}
				continue
			}
			var r modbus.Request
			size, err := modbus.ParseRequest(b, &r)
			impossible := err != nil // the read ends behind the address space
			if !ok || !bytes.Equal(b[:7], before[:7]) || !impossible && (size != n || r.Function != now) {
				t.Errorf("%s: became % x (%v)", g.name, b, err)
			}
		}
	}
}

func TestWriteException(t *testing.T) {
	for n := range modbus.ExceptionLength + 1 {
		reply := []byte{1, 2, 0, 0, 0, 3, 9, 0x83, 2}[:n]
		modbus.WriteException(reply, modbus.WriteMultipleRegisters, modbus.IllegalFunction)
		if want := []byte{1, 2, 0, 0, 0, 3, 9, 0x90, 1}[:n]; !bytes.Equal(reply, want) {
			t.Errorf("% x, want % x", reply, want)
		}
	}
}
