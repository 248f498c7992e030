package bridge_test

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

func TestInjectorSendsMarkedFramesToOneSide(t *testing.T) {
	line, cell, plant := tapLine(t)
	injector, err := line.OpenInjector()
	if err != nil {
		t.Fatal(err)
	}
	defer injector.Close()
	run(t, line.Namespace(), "nft", "table netdev watch { chain a { type filter hook egress device pa priority 0; meta mark 0x70000000 counter; }; chain b { type filter hook egress device pb priority 0; meta mark 0x70000000 counter; }; }")
	for side, taps := range map[policy.Side][2]*testnet.Tap{policy.SideA: {cell, plant}, policy.SideB: {plant, cell}} {
		for name, f := range map[string][]byte{
			"least":   frame(mac(0x10), mac(0x20), 0x0800, byte(side)),
			"tagged":  tagged(frame(mac(0x10), mac(0x20), 0x0800, byte(side))),
			"longest": frame(mac(0x10), mac(0x20), 0x0800, bytes.Repeat([]byte{byte(side)}, 1500)...),
		} {
			if err := injector.Send(side, f); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := taps[0].Await(10*time.Second, func(got []byte) bool { return bytes.Equal(got, f) }); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, other := range taps[1].Frames() {
				if bytes.Equal(other.Data, f) {
					t.Errorf("%s: it is on the other side too", name)
				}
			}
		}
		if got, err := unix.GetsockoptInt(injector.Socket(side), unix.SOL_SOCKET, unix.SO_MARK); err != nil || got != mark.Own {
			t.Errorf("side %d has mark %#x, %v", side, got, err)
		}
	}
	counts := run(t, line.Namespace(), "nft", "list", "table", "netdev", "watch")
	if n := bytes.Count([]byte(counts), []byte("packets 3 ")); n != 2 {
		t.Errorf("3 marked frames wanted on each port:\n%s", counts)
	}
}

func TestInjectorReceivesNothing(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	bringUp(t, line)
	awaitCarriers(t, lab)
	injector, err := line.OpenInjector()
	if err != nil {
		t.Fatal(err)
	}
	wantCrossing(t, lab)
	for _, side := range []policy.Side{policy.SideA, policy.SideB} {
		n, _, err := unix.Recvfrom(injector.Socket(side), make([]byte, 64), unix.MSG_DONTWAIT)
		if err != unix.EAGAIN {
			t.Errorf("side %d received %d bytes, %v", side, n, err)
		}
	}
	if err := injector.Send(policy.SideAny, udp4(1)); err == nil {
		t.Error("a frame was sent to any side")
	}
	for range 2 {
		if err := injector.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := injector.Send(policy.SideA, udp4(1)); err == nil {
		t.Error("a frame was sent after Close")
	}
}
