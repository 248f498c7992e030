package main

import (
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestInvariant05ApplyUnderLoadLosesNoFrame counts the frames of a plain flow while the policy is
// replaced again and again, each permitting the flow by a conduit at another place of the tables.
func TestInvariant05ApplyUnderLoadLosesNoFrame(t *testing.T) {
	flow := plainConduit("datagrams", "udp", 2222)
	texts := []string{
		site{conduits: []string{flow, modbusConduit("inspected", 502)}}.String(),
		site{conduits: []string{plainConduit("other", "tcp", 4840), modbusConduit("inspected", 502), flow}}.String(),
	}
	p, w := layWire(t, plant.Options{Policy: texts[0]})
	stop, sent := make(chan struct{}), make(chan uint32)
	go func() { sent <- sendNumbered(t, w, stop) }()
	for i := range 40 {
		if _, err := p.Apply(texts[(i+1)%2]); err != nil {
			t.Errorf("apply %d: %v", i, err)
		}
	}
	close(stop)
	total := <-sent
	eventually(t, "the last frame to arrive", func() bool { return w.taps[policy.SideA].Count() >= int(total) })
	for i, f := range w.taps[policy.SideA].Frames() {
		if got := binary.BigEndian.Uint32(f.Data[42:]); got != uint32(i) {
			t.Fatalf("frame %d arrived where %d of %d was due", got, i, total)
		}
	}
	t.Logf("%d frames across 40 changes of policy", total)
}

// sendNumbered sends datagrams with a number in each until stop is closed, and returns how many.
func sendNumbered(t *testing.T, w *wire, stop <-chan struct{}) (total uint32) {
	c := newConversation(false, 40000, 2222)
	for {
		select {
		case <-stop:
			return total
		default:
		}
		for range 8 {
			ip, err := frame.AppendUDP(nil, c.client, c.server, binary.BigEndian.AppendUint32(nil, total))
			if err == nil {
				err = w.sendOne(policy.SideB, etherFrame(fillerMAC, hmiMAC, nil, ip))
			}
			if err != nil {
				t.Error(err)
				return total
			}
			total++
		}
		w.keepUp(policy.SideA, int(total), stop)
		time.Sleep(time.Millisecond)
	}
}

// TestInvariant05FailedApplyLeavesTheOldPolicy sends policies that are wrong.
func TestInvariant05FailedApplyLeavesTheOldPolicy(t *testing.T) {
	text := modbusSite()
	p := lay(t, plant.Options{Policy: text})
	startStation(t, p.Filler, resetPort)
	lawful := keepTalking(t, p, resetPort)
	before, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, text, want string }{
		{"empty", "", "policy.yaml:1:1: "},
		{"no YAML", "\x00\x01", "policy.yaml:1:"},
		{"unknown key", strings.Replace(text, "mode: enforce", "mood: enforce", 1), "policy.yaml:3:1: "},
		{"another appliance's", strings.ReplaceAll(text, plant.Appliance, "line-4-gate"), plant.Appliance},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := p.Apply(row.text)
			var refused *api.Error
			if !errors.As(err, &refused) || refused.Code != api.CodePolicyWrong || !strings.Contains(err.Error(), row.want) {
				t.Errorf("apply answers %v, want a policy that is wrong and %q", err, row.want)
			}
		})
	}
	after, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if after.Policy != before.Policy {
		t.Errorf("the policy in force was %+v and is %+v", before.Policy, after.Policy)
	}
	lawful.check(t)
}

// TestInvariant05LiveConnections: those that the new policy permits go on, under its rules; those
// that it forbids end.
func TestInvariant05LiveConnections(t *testing.T) {
	text := site{conduits: []string{
		modbusConduit("stays", 502, "on_deny: reset"), modbusConduit("goes", 1502, "on_deny: reset"),
		plainConduit("plain-stays", "tcp", 4840), plainConduit("plain-goes", "tcp", 4841),
	}}.String()
	p := lay(t, plant.Options{Policy: text})
	ports := []int{502, 1502, 4840, 4841}
	devices, conns := map[int]*station{}, map[int]net.Conn{}
	for _, port := range ports {
		devices[port] = startStation(t, p.Filler, port)
		conns[port] = socketTo(t, p.HMI, p.Filler, port)
		if err := ask(conns[port], mbap(1, 1, writeRegister(40, 1)), patience); err != nil {
			t.Fatalf("port %d before: %v", port, err)
		}
	}
	call := devices[1502].callFrom(t, conns[1502])
	next := site{conduits: []string{
		plainConduit("first", "udp", 9), plainConduit("plain-stays", "tcp", 4840),
		"name: stays\nfrom: [hmi-1]\nto: [filler-plc]\nprotocol: modbus\non_deny: reset\nrules: [{functions: [read]}]",
	}}.String()
	if _, err := p.Apply(next); err != nil {
		t.Fatal(err)
	}
	if err := awaitReset(conns[1502], patience); err != nil {
		t.Errorf("the client of a forbidden connection: %v", err)
	}
	eventually(t, "the device's end to be reset", func() bool { return wasReset(call.end()) })
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Reason == verdict.ReasonNoConduit && e.Conduit == "goes" && e.SourceAddress == conns[1502].LocalAddr().String()
	}); err != nil {
		t.Errorf("the forbidden connection: %v", err)
	}
	for _, port := range []int{502, 4840} {
		if err := ask(conns[port], mbap(2, 1, readRegisters(0, 4)), patience); err != nil {
			t.Errorf("port %d, permitted by both: %v", port, err)
		}
	}
	if err := ask(conns[4841], mbap(2, 1, readRegisters(0, 4)), time.Second); err == nil {
		t.Error("a plain connection that is forbidden now goes on")
	}
	if got, want := len(devices[4841].all()[0].bytes()), 12; got != want {
		t.Errorf("the device of a plain connection that is forbidden received %d bytes, want %d", got, want)
	}
	if err := ask(conns[502], mbap(3, 1, writeRegister(40, 1)), patience); !wasReset(err) {
		t.Errorf("a write that the new rules forbid, on a connection from before: %v, want a reset", err)
	}
}

// TestInvariant05TrialThatNobodyConfirmsIsRolledBack: by itself, and live connections are judged
// by the policy that came back.
func TestInvariant05TrialThatNobodyConfirmsIsRolledBack(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, resetPort)
	conn := socketTo(t, p.HMI, p.Filler, resetPort)
	write100 := mbap(1, 1, writeRegister(100, 1))
	file := filepath.Join(p.Directory, "trial.yaml")
	write(t, file, strings.ReplaceAll(modbusSite(), "addresses: [40-49], values", "addresses: [40-49, 100], values"))
	if status, _, stderr := penstock(t, p, "policy", "apply", file, "--confirm-within", "3s"); status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	if err := ask(conn, write100, patience); err != nil {
		t.Errorf("a write that the trial permits: %v", err)
	}
	eventually(t, "the policy before to come back", func() bool {
		status, err := p.Status()
		return err == nil && status.Policy.Version == 1
	})
	if err := ask(conn, write100, patience); !wasReset(err) {
		t.Errorf("a write after the trial: %v, want a reset", err)
	}
}
