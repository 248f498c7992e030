package stream

import (
	"bytes"
	"errors"
	"testing"
)

func TestEditSYNOptions(t *testing.T) {
	for _, tt := range []struct {
		name     string
		in, want []byte
	}{
		{"none", nil, nil},
		{"all that are permitted", optionsUsual, optionsUsual},
		{"Multipath TCP (30)", []byte{2, 4, 5, 0xb4, 30, 4, 0, 1}, []byte{2, 4, 5, 0xb4, 1, 1, 1, 1}},
		{"fast open (34) between others", []byte{3, 3, 7, 34, 6, 1, 2, 3, 4, 1, 4, 2}, []byte{3, 3, 7, 1, 1, 1, 1, 1, 1, 1, 4, 2}},
		{"an unknown option of two bytes", []byte{77, 2, 1, 1}, []byte{1, 1, 1, 1}},
		{"authentication (29) last", []byte{1, 29, 3, 9}, []byte{1, 1, 1, 1}},
		{"an option hidden behind the end of the list", []byte{1, 0, 30, 2}, []byte{1, 0, 0, 0}},
		{"experimental (253, 254)", []byte{253, 4, 1, 2, 254, 4, 1, 2}, []byte{1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := bytes.Clone(tt.in)
			n, err := EditSYNOptions(got)
			if err != nil || !bytes.Equal(got, tt.want) || n != differences(tt.in, tt.want) {
				t.Fatalf("%x, %d, %v; want %x", got, n, err, tt.want)
			}
			if again, _ := EditSYNOptions(got); again != 0 {
				t.Fatalf("a second edit changed %d bytes", again)
			}
			if !permittedOptions(got) {
				t.Fatal("what is left is not permitted later")
			}
		})
	}
}

func differences(a, b []byte) int {
	n := 0
	for k := range a {
		if a[k] != b[k] {
			n++
		}
	}
	return n
}

func TestMalformedOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []byte
	}{
		{"a kind without length", []byte{1, 1, 1, 8}},
		{"length 0", []byte{30, 0, 1, 1}},
		{"length 1", []byte{30, 1, 1, 1}},
		{"over the end", []byte{30, 5, 1, 1}},
		{"segment size of three bytes", []byte{2, 3, 1, 1}},
		{"window scale of four bytes", []byte{3, 4, 1, 1}},
		{"SACK-permitted of three bytes", []byte{4, 3, 1, 1}},
		{"SACK without a block", []byte{5, 2, 1, 1}},
		{"SACK with half a block", []byte{5, 6, 0, 0, 0, 0, 1, 1}},
		{"timestamps of eight bytes", []byte{8, 8, 0, 0, 0, 0, 0, 0}},
		{"malformed behind one to overwrite", []byte{30, 2, 8, 9}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := bytes.Clone(tt.in)
			if n, err := EditSYNOptions(got); n != 0 || !errors.Is(err, ErrOptions) || !bytes.Equal(got, tt.in) {
				t.Fatalf("%x, %d, %v", got, n, err)
			}
			if permittedOptions(tt.in) {
				t.Fatal("permitted on a later segment")
			}
		})
	}
}

func TestPermittedOptions(t *testing.T) {
	sack := append([]byte{1, 1, 5, 10}, make([]byte, 8)...)
	for _, tt := range []struct {
		name string
		in   []byte
		want bool
	}{
		{"none", nil, true},
		{"timestamps", optionsTimestamp, true},
		{"SACK", sack, true},
		{"end of list and padding", []byte{1, 0, 0, 0}, true},
		{"end of list and something else", []byte{1, 0, 30, 2}, false},
		{"Multipath TCP (30)", optionsMultipath, false},
		{"fast open (34)", []byte{34, 2, 1, 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := permittedOptions(tt.in); got != tt.want {
				t.Fatalf("%v", got)
			}
		})
	}
}
