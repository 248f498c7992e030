package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/bridge/ethtool"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// leaveChecksums has a host leave checksums to its card.
func leaveChecksums(t *testing.T, h *testnet.Host) {
	t.Helper()
	const checksums = "tx-checksum-"
	err := h.Do(func() error {
		eth, err := ethtool.Dial()
		if err != nil {
			return err
		}
		defer eth.Close()
		_, err = eth.Switch(testnet.HostInterface, func(name string) (on, chosen bool) {
			return true, strings.HasPrefix(name, checksums)
		})
		if err != nil {
			return err
		}
		f, err := eth.Features(testnet.HostInterface)
		if err == nil && !f.Active[checksums+"ip-generic"] {
			t.Error("the host writes its checksums itself: nothing is tried")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnfinishedChecksumsAreInspected: what a sender leaves to its card, and a virtual cable hands on
// without, is not taken for a wrong checksum. It is judged, and leaves with a right one: the device's
// own stack takes it. Packets longer than a frame do not come as far on a virtual cable, whose kernel
// cuts them in front of an XDP program; internal/queue tries these.
func TestUnfinishedChecksumsAreInspected(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	device := startStation(t, p.Filler, openPort)
	for _, h := range []*testnet.Host{p.HMI, p.Filler} {
		leaveChecksums(t, h)
	}
	conn := askMany(t, p, openPort)
	call := device.callFrom(t, conn)
	before := len(call.bytes())
	all := slices.Concat(append(many(), mbap(999, 1, writeRegister(100, 1)))...)
	if err := ask(conn, all, patience); !wasReset(err) {
		t.Errorf("requests and a denied one: %v, want a reset", err)
	}
	if got := call.bytes()[before:]; len(got) >= len(all) || !bytes.HasPrefix(all, got) {
		t.Errorf("the device received %d bytes, want a part of the %d that were sent, without the end", len(got), len(all))
	}
}
