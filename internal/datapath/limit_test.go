package datapath

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// passes counts how many of n equal frames are forwarded.
func (d *Datapath) passes(t *testing.T, side policy.Side, p packet, n int) (forwarded int) {
	t.Helper()
	for range n {
		if got, _ := d.run(t, side, p.bytes()); got != xdpDrop {
			forwarded++
		}
	}
	return forwarded
}

// TestConduitRate holds a conduit to its frames: the burst at once, then one for each cost in
// time, whoever sends them and on however many flows.
func TestConduitRate(t *testing.T) {
	p := plan()
	p.Conduits[conduitOPC].Limit = policy.Limit{Frames: 1, FrameBurst: 20}
	d := open(t, p)
	if got := d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 10); got != 10 {
		t.Errorf("%d of 10 frames within the burst passed", got)
	}
	before := d.reasons(t)
	if got := d.passes(t, policy.SideB, hmiTCP(40001, 1500, flagSYN), 50); got < 9 || got > 11 {
		t.Errorf("%d of 50 frames passed on another flow, want the burst's other 10", got)
	}
	if got := moved(before, d.reasons(t))[verdict.ReasonRateExceeded]; got < 39 || got > 41 {
		t.Errorf("%d frames were denied for rate_exceeded, want 40", got)
	}
	if got := d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 5); got != 5 {
		t.Errorf("%d of 5 frames of another conduit passed", got)
	}
}

// TestConduitRateRecovers holds that a limit wears off with time.
func TestConduitRateRecovers(t *testing.T) {
	p := plan()
	p.Conduits[conduitOPC].Limit = policy.Limit{Frames: 50, FrameBurst: 2}
	d := open(t, p)
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 10)
	deadline := time.Now().Add(15 * time.Second)
	for d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("nothing passed within fifteen seconds")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestConduitBytes holds a conduit to its bytes: frames of 60 bytes.
func TestConduitBytes(t *testing.T) {
	p := plan()
	p.Conduits[conduitOPC].Limit = policy.Limit{Bytes: 60, ByteBurst: 12000}
	d := open(t, p)
	if got := d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 400); got < 199 || got > 202 {
		t.Errorf("%d frames of 60 bytes passed at once, want 200 in a burst of 12000 bytes", got)
	}
}

// TestStormLimit bounds broadcast and multicast for each port by itself and leaves unicast.
func TestStormLimit(t *testing.T) {
	p := plan()
	p.Broadcast = policy.Limit{Frames: 1, FrameBurst: 5}
	d := open(t, p)
	if got := d.passes(t, policy.SideB, arp(macHMI, broadcast, macHMI, ipHMI, ipPLC), 30); got < 5 || got > 6 {
		t.Errorf("%d of 30 broadcasts of side b passed, want 5", got)
	}
	if got := d.passes(t, policy.SideA, arp(macPLC, broadcast, macPLC, ipPLC, ipHMI), 5); got != 5 {
		t.Errorf("%d of 5 broadcasts of side a passed", got)
	}
	if got := d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 30); got != 30 {
		t.Errorf("%d of 30 unicast frames passed", got)
	}
}

// TestObservedRate holds that an observed conduit is not held to its rate, but told of.
func TestObservedRate(t *testing.T) {
	p := plan()
	p.Conduits[conduitOPC].Limit = policy.Limit{Frames: 1, FrameBurst: 5}
	p.Conduits[conduitOPC].Mode = policy.Observe
	d := open(t, p)
	before := d.reasons(t)
	if got := d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 30); got != 30 {
		t.Errorf("%d of 30 frames passed", got)
	}
	if got := moved(before, d.reasons(t))[verdict.ReasonRateExceeded]; got < 24 {
		t.Errorf("%d frames were counted as over the rate, want 25", got)
	}
}
