package main

import (
	"bytes"
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
)

// framesSite has one conduit of each kind between devices that are untagged, or in a VLAN.
func framesSite(vlan string) string {
	return site{vlan: vlan, conduits: []string{
		modbusConduit("inspected", 502),
		plainConduit("plain", "tcp", 4840),
		plainConduit("datagrams", "udp", 2222),
		"name: cyclic\nfrom: [hmi-1]\nto: [filler-plc, \"group:profinet_dcp\"]\nprotocol: ethertype\nethertypes: [profinet]",
	}}.String()
}

const pushed = frame.FlagPSH | frame.FlagACK

// TestInvariant02LawfulFramesLeaveAsTheyCame sends frames from bare ends and compares what arrives
// byte for byte.
func TestInvariant02LawfulFramesLeaveAsTheyCame(t *testing.T) {
	p, w := layWire(t, plant.Options{Policy: framesSite("untagged"), Settings: []string{longHeartbeat}})
	t.Run("untagged", func(t *testing.T) { asTheyCame(t, w) })
	if _, err := p.Apply(framesSite("10")); err != nil {
		t.Fatal(err)
	}
	// The one connection that is still open, untagged, is none that this policy permits.
	for side, tap := range w.taps {
		if _, err := tap.Await(patience, func(b []byte) bool { return isReset(b, 40003) }); err != nil {
			t.Errorf("side %v was not told that the connection ended: %v", side, err)
		}
	}
	w.settle() // whatever else comes with it
	t.Run("VLAN 10, priority 5", func(t *testing.T) {
		asTheyCame(t, w, frame.Tag{TPID: 0x8100, TCI: 5<<13 | 10})
	})
}

func asTheyCame(t *testing.T, w *wire, tags ...frame.Tag) {
	request, reply := mbap(1, 1, readRegisters(0, 2)), mbap(1, 1, []byte{3, 4, 0, 1, 0, 2})
	for _, family := range []struct {
		name string
		v6   bool
	}{{"IPv4", false}, {"IPv6", true}} {
		t.Run("inspected "+family.name, func(t *testing.T) {
			c := newConversation(family.v6, 40000, 502, tags...)
			c.open(t, w)
			w.passes(t, policy.SideB, c.frame(t, policy.SideB, pushed, request))
			w.passes(t, policy.SideA, c.frame(t, policy.SideA, frame.FlagACK, nil))
			w.passes(t, policy.SideA, c.frame(t, policy.SideA, pushed, reply[:3]))
			w.passes(t, policy.SideA, c.frame(t, policy.SideA, pushed, reply[3:]))
			w.passes(t, policy.SideB, c.frame(t, policy.SideB, pushed, request[:9]))
			w.passes(t, policy.SideB, c.frame(t, policy.SideB, pushed, request[9:]))
			w.passes(t, policy.SideA, c.frame(t, policy.SideA, pushed, reply))
			w.passes(t, policy.SideB, c.frame(t, policy.SideB, frame.FlagFIN|frame.FlagACK, nil))
			w.passes(t, policy.SideA, c.frame(t, policy.SideA, frame.FlagFIN|frame.FlagACK, nil))
			w.passes(t, policy.SideB, c.frame(t, policy.SideB, frame.FlagACK, nil))
		})
		t.Run("plain TCP "+family.name, func(t *testing.T) {
			c := newConversation(family.v6, 40001, 4840, tags...)
			c.open(t, w)
			w.passes(t, policy.SideB, c.frame(t, policy.SideB, pushed, bytes.Repeat([]byte{0xa5}, 1300)))
			w.passes(t, policy.SideA, append(c.frame(t, policy.SideA, pushed, []byte("short")), 0xee, 0xee, 0xee, 0xee, 0xee))
		})
	}
	t.Run("plain UDP without a checksum", func(t *testing.T) {
		c := newConversation(false, 40002, 2222, tags...)
		ip, err := frame.AppendUDP(nil, c.client, c.server, []byte("cyclic data"))
		if err != nil {
			t.Fatal(err)
		}
		w.passes(t, policy.SideB, etherFrame(fillerMAC, hmiMAC, tags, ip))
		ip[26], ip[27] = 0, 0
		w.passes(t, policy.SideB, etherFrame(fillerMAC, hmiMAC, tags, serviceClass(ip)))
	})
	t.Run("EtherType", func(t *testing.T) {
		w.passes(t, policy.SideB, ethernet("02:00:00:00:00:10", hmiMAC, tags, 0x8892, []byte{0x80, 0, 1, 2, 3}))
		w.passes(t, policy.SideB, ethernet("02:00:00:00:00:10", hmiMAC, tags, 0x8892, make([]byte, 1400)))
		w.passes(t, policy.SideB, ethernet("01:0e:cf:00:00:00", hmiMAC, tags, 0x8892, []byte{0xfe, 0xfe, 5, 0}))
		w.stops(t, policy.SideA, ethernet("02:00:00:00:00:20", fillerMAC, tags, 0x8892, []byte{0x80, 0, 1, 2, 3}))
	})
	t.Run("link-local", func(t *testing.T) {
		for _, from := range []policy.Side{policy.SideA, policy.SideB} {
			w.passes(t, from, ethernet("01:80:c2:00:00:0e", [6]byte{2, 9, 9, 9, 9, 9}, tags, 0x88cc, []byte{2, 7, 4, 0, 0, 0}))
			w.passes(t, from, ethernet("01:80:c2:00:00:00", [6]byte{2, 9, 9, 9, 9, 9}, tags, 38, append([]byte{0x42, 0x42, 3}, make([]byte, 35)...)))
			w.passes(t, from, ethernet("01:15:4e:00:00:01", [6]byte{2, 9, 9, 9, 9, 9}, tags, 0x88e3, make([]byte, 40)))
		}
	})
	t.Run("named exceptions", func(t *testing.T) { exceptions(t, w, request, tags) })
}

// exceptions are those that the invariant names: the padding of inspected frames, and options of
// a SYN that would let the receiver read another stream than the one that was judged (EVASIONS 34).
func exceptions(t *testing.T, w *wire, request []byte, tags []frame.Tag) {
	c := newConversation(false, 40003, 502, tags...)
	multipath := []byte{2, 4, 5, 0xb4, 1, 1, 30, 4, 0x01, 0x81}
	neutral := []byte{2, 4, 5, 0xb4, 1, 1, 1, 1, 1, 1}
	before := *c
	w.passesAs(t, policy.SideB,
		c.frameWith(t, policy.SideB, frame.FlagSYN, multipath, nil),
		before.frameWith(t, policy.SideB, frame.FlagSYN, neutral, nil))
	w.passes(t, policy.SideA, c.frame(t, policy.SideA, frame.FlagSYN|frame.FlagACK, nil))
	w.passes(t, policy.SideB, c.frame(t, policy.SideB, frame.FlagACK, nil))
	segment := c.frame(t, policy.SideB, pushed, request)
	w.passesAs(t, policy.SideB, append(append([]byte{}, segment...), 0, 0, 0, 0, 0, 0), segment)
}
