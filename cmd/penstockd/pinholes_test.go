package main

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/internal/datapath"
)

// TestOpeningIsReadBack: what is pinned of a Forward Open is what was written, at its longest too, and a
// part of it is nothing.
func TestOpeningIsReadBack(t *testing.T) {
	long := make([]cip.Hop, cip.MaxHops)
	for i := range long {
		long[i] = cip.Hop{Port: 0x1234, Address: netip.MustParseAddr("198.18.0.9")}
	}
	request := make([]byte, 8+42+510)
	for _, route := range [][]cip.Hop{nil, {{Port: 1, Link: 3}}, {{Port: 2, Other: true}, {Port: 1}}, long} {
		b := appendOpening(nil, route, request)
		if len(b) > datapath.IOOpeningMax {
			t.Errorf("%d hops take %d bytes", len(route), len(b))
		}
		gotRoute, got, ok := readOpening(b)
		if !ok || !reflect.DeepEqual(gotRoute, route) || !reflect.DeepEqual(got, request) {
			t.Errorf("%v is read back as %v (%v)", route, gotRoute, ok)
		}
		for n := range len(b) - len(request) + 1 {
			if _, _, ok := readOpening(b[:n]); ok {
				t.Errorf("the first %d bytes are read", n)
			}
		}
	}
}
