package main

import (
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestWhatTheFastPathIsNotAskedForIsRefused: a connection that was permitted and cannot even be put to the fast path carries
// nothing, and is counted.
func TestWhatTheFastPathIsNotAskedForIsRefused(t *testing.T) {
	testnet.RequireNet(t)
	path, err := datapath.Open(datapath.Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	p := newPinholes(path, newRecorder(path, event.NewBus(0), nil), slog.New(slog.DiscardHandler))
	permitted := inspect.IOConnection{ID: inspect.IOConnectionID{Key: 5, Number: 1}}
	p.Open(permitted)
	if n := p.refused.Load(); n != 1 || p.Lives(permitted.ID) {
		t.Errorf("%d refused, lives %v", n, p.Lives(permitted.ID))
	}
	denied := permitted
	denied.Observed, denied.Denied = true, true
	p.Open(denied)
	if n := p.refused.Load(); n != 1 {
		t.Errorf("%d refused: one of them was not permitted", n)
	}
}

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
