package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/queue"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

func compiled(t *testing.T, s site) *policy.Plan {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(s.String()))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile(plant.Appliance)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func macOf(t *testing.T, text string) (mac [6]byte) {
	t.Helper()
	hw, err := net.ParseMAC(text)
	if err != nil || copy(mac[:], hw) != len(mac) {
		t.Fatalf("%s is no MAC address: %v", text, err)
	}
	return mac
}

// TestInvariant05OnlyForbiddenConnectionsAreTold: a slot that the fast path has let go of is no
// denial, and no reason to reset a connection that the new policy permits.
func TestInvariant05OnlyForbiddenConnectionsAreTold(t *testing.T) {
	before := compiled(t, site{conduits: []string{modbusConduit("test", 502)}})
	flow := datapath.Flow{
		Initiator: policy.SideB, Protocol: 6,
		A: datapath.End{MAC: macOf(t, testnet.CellMAC), Address: netip.MustParseAddr(testnet.CellAddress), Port: 502},
		B: datapath.End{MAC: macOf(t, testnet.PlantMAC), Address: netip.MustParseAddr(testnet.PlantAddress), Port: 40000},
	}
	over := &inspect.Ended{Reason: verdict.ReasonNoConduit, Flow: inspect.Flow{Plan: before, Conduit: 1, Initiator: policy.SideB}}
	for _, r := range []struct {
		name string
		plan *policy.Plan
		want bool
	}{
		{"permitted as before", before, true},
		{"another port", compiled(t, site{conduits: []string{modbusConduit("test", 503)}}), false},
		{"not inspected any more", compiled(t, site{conduits: []string{plainConduit("test", "tcp", 502)}}), false},
	} {
		if got := forgotten(r.plan, over, &flow); got != r.want {
			t.Errorf("%s: forgotten %v, want %v", r.name, got, r.want)
		}
	}
	owed := *over
	owed.Reason = verdict.ReasonFunctionNotPermitted
	if forgotten(before, &owed, &flow) {
		t.Error("a connection whose device owes a refusal is not ended")
	}
	flow.Initiator = policy.SideA
	if forgotten(before, over, &flow) {
		t.Error("a connection against the conduit's direction is taken for a permitted one")
	}
}

// TestEvasion08_OnlyConduitsNewToTheLoopAreJoined: a change of a rule does not open the window in
// which connections may be joined in mid-stream.
func TestEvasion08_OnlyConduitsNewToTheLoopAreJoined(t *testing.T) {
	with := func(mode string, keys ...string) *policy.Plan {
		return compiled(t, site{mode: mode, conduits: []string{modbusConduit("test", 502, keys...)}})
	}
	two := compiled(t, site{conduits: []string{modbusConduit("test", 502), modbusConduit("more", 503)}})
	before := with("enforce", "on_outage: closed")
	for _, r := range []struct {
		name        string
		before, now *policy.Plan
		want        bool
	}{
		{"the start", nil, before, true},
		{"another way to deny", before, with("enforce", "on_outage: closed", "on_deny: drop"), false},
		{"no longer enforced", before, with("observe", "on_outage: closed"), false},
		{"begins to be enforced", with("observe", "on_outage: closed"), before, true},
		{"moves to the other queue", before, with("enforce", "on_outage: open"), true},
		{"one more conduit", before, two, true},
		{"one less", two, before, false},
	} {
		if got := holdsMore(r.before, r.now); got != r.want {
			t.Errorf("%s: %v, want %v", r.name, got, r.want)
		}
	}
}

// TestFullQueueIsShown: what the kernel drops in front of the verdict loop is dropped all the same.
func TestFullQueueIsShown(t *testing.T) {
	got, warnings := describeQueue(100, queue.Stats{Packets: 10, Dropped: 2, QueueFull: 5, UserDropped: 3, Depth: 4})
	if want := (api.QueueStatus{Number: 100, Packets: 18, Dropped: 10, Depth: 4}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "queue_full") {
		t.Errorf("warnings %q", warnings)
	}
	if _, warnings := describeQueue(100, queue.Stats{Packets: 10, Dropped: 2}); len(warnings) != 0 {
		t.Errorf("a healthy queue: %q", warnings)
	}
}

// TestInvariant09ResetsThatFailDoNotFillTheLog: with a port down, each segment of a stranger asks
// for resets that cannot be sent.
func TestInvariant09ResetsThatFailDoNotFillTheLog(t *testing.T) {
	var said bytes.Buffer
	i := &inspection{log: slog.New(slog.NewTextHandler(&said, nil))}
	for range 10000 {
		i.complain(errors.New("network is down"))
	}
	if n := strings.Count(said.String(), "\n"); n != 1 {
		t.Errorf("%d lines in the log for 10000 resets that could not be sent", n)
	}
}

// TestStartThatFailsIsNotMended: whoever looks after the line has ended before a start that fails takes
// it back.
func TestStartThatFailsIsNotMended(t *testing.T) {
	d := &daemon{done: make(chan struct{}), failed: make(chan error, 1)}
	var working atomic.Bool
	d.undos = append(d.undos, func() error {
		if working.Load() {
			t.Error("the line is taken back under the eyes of somebody who mends it")
		}
		return nil
	})
	begun := make(chan struct{})
	d.whileUp(func(stop <-chan struct{}) error {
		working.Store(true)
		close(begun)
		<-stop
		time.Sleep(20 * time.Millisecond) // in the middle of a look
		working.Store(false)
		return nil
	})
	<-begun
	if err := d.takeBack(); err != nil {
		t.Error(err)
	}
}

// table is a flow source with one flow under every key.
type table struct {
	flow       inspect.Flow
	generation uint64
}

func (t *table) Flow(uint64) (inspect.Flow, bool) { return t.flow, true }
func (t *table) Generation() uint64               { return t.generation }

// TestInvariant06SweepOfManyConnectionsIsNoOutage: the sweep after a policy change asks the kernel
// for each connection, and 16384 of them take longer than the heartbeat may pause.
func TestInvariant06SweepOfManyConnectionsIsNoOutage(t *testing.T) {
	plan := compiled(t, site{conduits: []string{modbusConduit("test", 502)}})
	flows := &table{flow: inspect.Flow{Plan: plan, Conduit: 1, Initiator: policy.SideB}}
	asked := &pulsing{FlowSource: flows}
	pipeline := inspect.New(inspect.Config{Flows: asked})
	const connections = 100
	for key := range uint64(connections) {
		syn, err := frame.AppendTCP(nil, &frame.TCPPacket{
			Src:   netip.AddrPortFrom(netip.MustParseAddr(testnet.PlantAddress), 40000+uint16(key)),
			Dst:   netip.AddrPortFrom(netip.MustParseAddr(testnet.CellAddress), 502),
			Flags: frame.FlagSYN, Window: 65535,
		})
		if err != nil {
			t.Fatal(err)
		}
		j := pipeline.Judge(&inspect.Packet{Time: time.Now(), Key: key, From: policy.SideB, IP: syn})
		if !j.Verdict.Allows() {
			t.Fatal(j.Verdict)
		}
	}
	beats := 0
	asked.alive = func() { beats++ }
	flows.generation++
	pipeline.Sweep(time.Now(), nil)
	if beats < connections {
		t.Errorf("%d heartbeats while %d connections were looked up", beats, connections)
	}
}
