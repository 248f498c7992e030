package main

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/bridge/ethtool"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestFastPathWithoutNativeXDP: where a driver runs no XDP, frames cross and are denied as elsewhere: short and
// jumbo, with tags and without, past inspection and through it.
func TestFastPathWithoutNativeXDP(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: fastPathSite(), Settings: []string{longHeartbeat}},
		testnet.WithoutNativeXDP(testnet.PortA, testnet.PortB))
	fastPathOnTheLine(t, p)
	wantGeneric(t, p, testnet.PortA)
}

// wantGeneric holds that XDP runs in the generic hook of both ports, and that the daemon says whose driver, the
// first that refused, is why.
func wantGeneric(t *testing.T, p *plant.Plant, refused string) {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range s.Ports {
		if port.XDP != "generic" {
			t.Errorf("XDP runs %s on port %s: nothing is tried", port.XDP, port.Name)
		}
	}
	want := "the driver of port " + refused + " does not run XDP (" // and what it said
	if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
		t.Errorf("no warning begins %q: %q", want, s.Warnings)
	}
}

// leaveSegments has a host leave segments to its card, and their checksums.
func leaveSegments(t *testing.T, h *testnet.Host) {
	t.Helper()
	leaveChecksums(t, h)
	err := h.Do(func() error {
		eth, err := ethtool.Dial()
		if err != nil {
			return err
		}
		defer eth.Close()
		_, err = eth.Switch(testnet.HostInterface, func(name string) (on, chosen bool) { return true, ethtool.Segments(name) })
		if err != nil {
			return err
		}
		f, err := eth.Features(testnet.HostInterface)
		if err == nil && !f.Active["tx-tcp-segmentation"] {
			t.Error("the host cuts its segments itself: nothing is tried")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// many are lawful requests, longer than two frames together.
func many() (requests [][]byte) {
	for i := range uint16(300) {
		requests = append(requests, mbap(i, 1, readRegisters(0, 1)))
	}
	return requests
}

// TestConnectionsWithoutNativeXDP: hosts talk through a line of which one port's driver runs no XDP, as from a wire and as
// over a virtual cable that hands on what the sender left to its card. What is denied is cut off, also after a
// bypass whose self-test passed.
func TestConnectionsWithoutNativeXDP(t *testing.T) {
	for _, row := range []struct {
		name  string
		leave func(*testing.T, *testnet.Host)
		ports []int
	}{
		{"as from a wire", func(*testing.T, *testnet.Host) {}, []int{plainPort, closedPort, openPort}},
		{"unfinished checksums", leaveChecksums, []int{plainPort, closedPort, openPort}},
		{"segments longer than a frame", leaveSegments, []int{closedPort, openPort}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := layStopped(t, plant.Options{Policy: outageSite()}, testnet.WithoutNativeXDP(testnet.PortB))
			start(t, p)
			wantGeneric(t, p, testnet.PortB)
			for _, h := range []*testnet.Host{p.HMI, p.Filler} {
				row.leave(t, h)
			}
			for _, port := range row.ports {
				startStation(t, p.Filler, port)
				converseAtLength(t, p, port)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := p.Client().EngageBypass(ctx, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Client().ReleaseBypass(ctx, ""); err != nil {
				t.Fatal(err)
			}
			for _, port := range row.ports {
				converseAtLength(t, p, port)
			}
		})
	}
}

// askMany asks many things at once, over a connection on which no segment was repeated. A sender repeats one whose
// acknowledgment is a few milliseconds late, which those of a busy machine are: of a few connections one has to do
// without.
func askMany(t *testing.T, p *plant.Plant, port int) *net.TCPConn {
	t.Helper()
	for range 4 {
		conn := socketTo(t, p.HMI, p.Filler, port)
		requests := many()
		if _, err := conn.Write(slices.Concat(requests...)); err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			if err := readReply(conn, r, patience); err != nil {
				t.Fatalf("port %d: %v", port, err)
			}
		}
		n := resent(t, conn)
		if n == 0 {
			return conn
		}
		t.Logf("port %d: the client had to repeat %d segments", port, n)
	}
	t.Fatalf("port %d: the client had to repeat segments on each connection", port)
	return nil
}

// converseAtLength asks many things at once, and, of a conduit that is inspected, then what is denied.
func converseAtLength(t *testing.T, p *plant.Plant, port int) {
	t.Helper()
	conn := askMany(t, p, port)
	if port == plainPort {
		return
	}
	if err := ask(conn, mbap(999, 1, writeRegister(100, 1)), patience); !wasReset(err) {
		t.Errorf("port %d: what is denied: %v, want a reset", port, err)
	}
}

// TestLongSegmentsWithoutNativeXDPAreTold: a redirect does not cut what a virtual cable hands on uncut. That it
// does not arrive shows.
func TestLongSegmentsWithoutNativeXDPAreTold(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: outageSite()}, testnet.WithoutNativeXDP(testnet.PortB))
	start(t, p)
	startStation(t, p.Filler, plainPort)
	leaveSegments(t, p.HMI)
	conn := socketTo(t, p.HMI, p.Filler, plainPort)
	if _, err := conn.Write(slices.Concat(many()...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port that did not take a segment shows it", func() bool {
		s, err := p.Status()
		return err == nil && s.Ports[0].Undelivered != nil && *s.Ports[0].Undelivered > 0 &&
			slices.ContainsFunc(s.Warnings, func(w string) bool {
				return strings.Contains(w, "port "+testnet.PortA) && strings.Contains(w, "did not leave")
			})
	})
}

// TestTagsThatGenericXDPDoesNotSee: a line on which VLANs would not be judged is refused, with what to do.
func TestTagsThatGenericXDPDoesNotSee(t *testing.T) {
	const native, generic = datapath.XDPNative, datapath.XDPGeneric
	for _, row := range []struct {
		name    string
		mode    datapath.XDPMode
		stillOn []string
		refused bool
	}{
		{"tags taken out", generic, []string{"rx-gro-hw", "rx-vlan-hw-parse"}, true},
		{"service tags taken out", generic, []string{"rx-vlan-stag-hw-parse"}, true},
		{"VLANs filtered", generic, []string{"rx-vlan-filter", "tx-vlan-hw-insert"}, false},
		{"nothing left on", generic, nil, false},
		{"XDP in the driver", native, []string{"rx-vlan-hw-parse"}, false},
	} {
		ports := [2]bridge.PortReport{{Port: "pa"}, {Port: "pb", StillOn: row.stillOn}}
		err := tagsSeen([2]datapath.XDPMode{row.mode, row.mode}, ports)
		if (err != nil) != row.refused {
			t.Errorf("%s: %v", row.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "ethtool -K pb rxvlan off") {
			t.Errorf("%s: %q does not say what to do", row.name, err)
		}
	}
}
