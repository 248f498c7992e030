package main

import (
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// quietTime is how long a silence is listened to: PENSTOCK_SILENCE in seconds, or three. The kernel's
// own first words, such as duplicate address detection, router solicitations and multicast reports,
// fall within that; make soak listens for a minute.
func quietTime() time.Duration {
	if n, err := strconv.Atoi(os.Getenv("PENSTOCK_SILENCE")); err == nil {
		return time.Duration(n) * time.Second
	}
	return 3 * time.Second
}

// TestInvariant03ItIsNotThere listens on both far ends while the appliance starts, works, ends,
// starts again and is taken apart: it sends nothing of its own.
func TestInvariant03ItIsNotThere(t *testing.T) {
	for _, row := range []struct {
		name string
		here bool
	}{{"in a namespace of its own", false}, {"in the daemon's namespace", true}} {
		t.Run(row.name, func(t *testing.T) {
			p := layStopped(t, plant.Options{Policy: framesSite("untagged"), Here: row.here})
			w := tapEnds(t, p)
			// The box is on another network, as a real one is.
			runIn(t, p, p.Box, "ip", "link", "add", "office", "type", "veth", "peer", "name", "elsewhere")
			runIn(t, p, p.Box, "ip", "address", "add", "198.18.0.99/24", "dev", "office")
			runIn(t, p, p.Box, "ip", "link", "set", "office", "up")
			runIn(t, p, p.Box, "ip", "link", "set", "elsewhere", "up")
			start(t, p)
			time.Sleep(quietTime())
			w.silent(t, "from the start on")
			unanswered(t, w)
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			unanswered(t, w)
			start(t, p)
			time.Sleep(time.Second)
			w.silent(t, "across a restart")
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := p.Down(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			w.silent(t, "while it was taken apart")
		})
	}
}

// silent fails the test for every frame that came to either end, and forgets them.
func (w *wire) silent(t *testing.T, when string) {
	t.Helper()
	for side, tap := range w.taps {
		for _, f := range tap.Frames() {
			t.Errorf("%s, side %v got a frame that nobody sent: %x", when, side, f.Data)
		}
		tap.Clear()
	}
}

// unanswered asks, from both sides, for every address that the box might answer for.
func unanswered(t *testing.T, w *wire) {
	t.Helper()
	for _, address := range []string{"198.18.0.99", "127.0.0.1", "198.18.0.1", "0.0.0.0"} {
		for side, sender := range map[policy.Side][2]string{
			policy.SideA: {testnet.CellMAC, testnet.CellAddress}, policy.SideB: {testnet.PlantMAC, testnet.PlantAddress},
		} {
			if err := w.taps[side].Send(arpRequest(t, sender[0], sender[1], address)); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(300 * time.Millisecond)
	for side, tap := range w.taps {
		for _, f := range tap.Frames() {
			// What the other end asked passes; an answer is what may not be.
			if len(f.Data) >= 22 && f.Data[12] == 8 && f.Data[13] == 6 && f.Data[21] == 1 {
				continue
			}
			t.Errorf("side %v got an answer: %x", side, f.Data)
		}
		tap.Clear()
	}
}

func arpRequest(t *testing.T, mac, sender, target string) []byte {
	t.Helper()
	src := hmiMAC
	if mac == testnet.CellMAC {
		src = fillerMAC
	}
	from, to := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, src[:]...), from[:]...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), to[:]...)
	return ethernet("ff:ff:ff:ff:ff:ff", src, nil, 0x0806, b)
}
