package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/plant/dnp3"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Ports of DNP3 conduits, one for each way of refusing and one whose rules name more.
const (
	resetDNP3  = 20000
	dropDNP3   = 20001
	refuseDNP3 = 20002
	fileDNP3   = 20003
)

var dnp3Ports = []int{resetDNP3, dropDNP3, refuseDNP3, fileDNP3}

// dnp3Ways lists the ports by what their conduits do with what is denied.
var dnp3Ways = []struct {
	onDeny string
	port   int
}{{"reset", resetDNP3}, {"drop", dropDNP3}, {"exception", refuseDNP3}}

// dnp3Conduit is one from hmi-1 to filler-plc on a port of TCP and UDP.
func dnp3Conduit(name string, port int, onDeny string, rules ...string) string {
	return fmt.Sprintf("name: %s\nfrom: [hmi-1]\nto: [filler-plc]\nprotocol: dnp3\nports: [tcp/%d, udp/%d]\non_deny: %s\nrules:\n  - %s",
		name, port, port, onDeny, strings.Join(rules, "\n  - "))
}

// dnp3Site has a conduit with the peers' rules for each way of refusing, and one for files.
func dnp3Site() string {
	var conduits []string
	for _, way := range dnp3Ways {
		conduits = append(conduits, dnp3Conduit(way.onDeny+"s", way.port, way.onDeny, dnp3.Rules()...))
	}
	files := append(dnp3.Rules(),
		"{functions: [open_file, close_file, get_file_info, delete_file, read, write], masters: [1], outstations: [10], objects: [g70]}",
		"{functions: [direct_operate, direct_operate_nr], masters: [1], objects: [g12v1, g41v2], points: [0-3]}",
		"{functions: [immed_freeze, freeze_clear, assign_class, record_current_time, cold_restart, warm_restart], masters: [1]}",
		"{functions: [write], masters: [1], objects: [g50v3]}")
	return site{conduits: append(conduits, dnp3Conduit("files", fileDNP3, "reset", files...))}.String()
}

// layDNP3 lays a plant with an outstation, which serves every port and need not be strict.
func layDNP3(t *testing.T, policy string, c dnp3.Config) (*plant.Plant, *dnp3.Outstation) {
	t.Helper()
	p := lay(t, plant.Options{Policy: policy, Settings: []string{longHeartbeat}})
	o, err := plant.StartOutstation(t, p.Filler, c, dnp3Ports...)
	if err != nil {
		t.Fatal(err)
	}
	return p, o
}

// master connects one to a port; it is closed with the test. Datagrams may be lost, and then a master
// says it again, as those in the field do.
func master(t *testing.T, p *plant.Plant, network string, port int, c dnp3.MasterConfig) *dnp3.Master {
	t.Helper()
	switch {
	case network == "udp":
		c.Retries = 3
	case c.Timeout == 0:
		c.Timeout = patience
	}
	m, err := plant.DialOutstation(network, p.HMI, p.Filler, port, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// poller is a master that polls beside a test.
type poller struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err and polls are set
	err    error
	polls  int
}

// keepPolling has master 2 read everything every few milliseconds until check.
func keepPolling(t *testing.T, p *plant.Plant, network string, port int) *poller {
	t.Helper()
	m := master(t, p, network, port, dnp3.MasterConfig{Address: 2, Timeout: 5 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	k := &poller{cancel: cancel, done: make(chan struct{})}
	t.Cleanup(func() { cancel(); <-k.done })
	go func() {
		defer close(k.done)
		for ; ctx.Err() == nil && k.err == nil; k.polls++ {
			_, k.err = m.Integrity()
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return k
}

// check ends the polls and fails the test if one of them was lost.
func (k *poller) check(t *testing.T) {
	t.Helper()
	k.cancel()
	<-k.done
	if k.err != nil || k.polls == 0 {
		t.Errorf("polls on another connection stopped after %d: %v", k.polls, k.err)
	}
}

// denials returns the events of what was denied so far, of those that match.
func denials(t *testing.T, p *plant.Plant, match func(*event.Event) bool) (list []event.Event) {
	t.Helper()
	events, err := p.Events()
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if events[i].Verdict == verdict.Deny && match(&events[i]) {
			list = append(list, events[i])
		}
	}
	return list
}

// TestDNP3IsInspected: the evasions would find an open door otherwise.
func TestDNP3IsInspected(t *testing.T) {
	p, _ := layDNP3(t, dnp3Site(), dnp3.Config{})
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range status.Conduits {
		if c.State != api.StateInspecting {
			t.Errorf("conduit %s is %v", c.Name, c.State)
		}
	}
}

// TestInvariant01DNP3Evasions is EVASIONS 17 to 24 against the outstation that executes whatever it
// can make sense of, while others poll it and hear from it unasked.
func TestInvariant01DNP3Evasions(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		for _, way := range dnp3Ways {
			t.Run(network+" "+way.onDeny, func(t *testing.T) { tryEvasions(t, network, way.port) })
		}
	}
}

func tryEvasions(t *testing.T, network string, port int) {
	p, o := layDNP3(t, dnp3Site(), dnp3.Config{
		Points: 40, Unsolicited: true, Personality: dnp3.Loose(), Files: map[string][]byte{"x": []byte("x")},
	})
	listener := master(t, p, network, port, dnp3.MasterConfig{})
	if network == "tcp" {
		eventually(t, "the null response", func() bool { return len(listener.Unsolicited()) > 0 })
	}
	if err := listener.Begin(); err != nil {
		t.Fatal(err)
	}
	lawful := keepPolling(t, p, network, port)
	for i, e := range dnp3.Evasions() {
		if e.Stream && network == "udp" {
			continue
		}
		t.Run("EVASIONS "+e.Name, func(t *testing.T) {
			tryEvasion(t, p, o, network, port, e)
			o.Update(30, i%40, float64(i))
			eventually(t, "an event to be confirmed", func() bool { return o.Unconfirmed(1) == 0 })
		})
	}
	lawful.check(t)
	if err := listener.Err(); err != nil {
		t.Errorf("the connection that unsolicited responses came on: %v", err)
	}
}

// tryEvasion sends one from a connection that has polled before, and operates afterwards.
func tryEvasion(t *testing.T, p *plant.Plant, o *dnp3.Outstation, network string, port int, e dnp3.Evasion) {
	t.Helper()
	before := len(o.Executed())
	attacker := master(t, p, network, port, dnp3.MasterConfig{Address: dnp3.Attacker})
	defer attacker.Close()
	if _, err := attacker.Read(dnp3.Range(1, 0, 0, 3)); err != nil {
		t.Fatalf("the poll before: %v", err)
	}
	for _, part := range e.Parts {
		if _, err := attacker.Conn().Write(part); err != nil && !wasReset(err) && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if !e.Permitted {
		from := attacker.Conn().LocalAddr().String()
		awaitDenial(t, p, from)
	}
	after := master(t, p, network, port, dnp3.MasterConfig{Address: 4})
	defer after.Close()
	if err := after.SelectOperate(dnp3.Controls(dnp3.Latch(2, true))); err != nil {
		t.Errorf("a control after: %v", err)
	}
	executed := o.Executed()[before:]
	if slices.ContainsFunc(executed, dnp3.Beyond) {
		t.Errorf("the outstation executed %v", executed)
	}
	if e.Permitted && len(executed) != 1 {
		t.Errorf("the outstation executed %v, want no more than what came after", executed)
	}
}

// awaitDenial waits for the event of a denial among the latest: a source address is used once.
func awaitDenial(t *testing.T, p *plant.Plant, from string) {
	t.Helper()
	client := api.NewClient(p.Socket())
	err := testnet.WaitFor("the event of a denial", patience, func() (found bool, err error) {
		err = client.Events(t.Context(), api.EventQuery{Limit: 100}, func(e event.Event) error {
			found = found || e.SourceAddress == from && e.Verdict == verdict.Deny
			return nil
		})
		return found, err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDNP3SessionsHold is what permitted masters do all day, on conduits of each kind: nothing of
// it is denied.
func TestDNP3SessionsHold(t *testing.T) {
	p, o := layDNP3(t, dnp3Site(), dnp3.Config{
		Points: 100, FragmentSize: 900, Unsolicited: true, KeepAlive: 5 * time.Millisecond,
		Files: map[string][]byte{"a.cfg": bytes.Repeat([]byte("settings "), 200)},
	})
	for _, network := range []string{"tcp", "udp"} {
		for _, way := range dnp3Ways {
			t.Run(network+" "+way.onDeny, func(t *testing.T) { holdSession(t, p, o, network, way.port) })
		}
		t.Run(network+" files and the rest", func(t *testing.T) { transferFiles(t, p, o, network) })
	}
	if list := denials(t, p, func(*event.Event) bool { return true }); len(list) > 0 {
		t.Errorf("%d denials, the first %+v", len(list), list[0])
	}
	if o.Alive() == 0 {
		t.Error("no link status reached the outstation")
	}
}

func holdSession(t *testing.T, p *plant.Plant, o *dnp3.Outstation, network string, port int) {
	m := master(t, p, network, port, dnp3.MasterConfig{})
	defer m.Close()
	lawful := keepPolling(t, p, network, port)
	if err := m.Begin(); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		o.Update(30, i, float64(i))
		o.Update(1, i, float64(i&1))
		controls := dnp3.Controls(dnp3.Latch(uint32(i%4), i&1 == 0), dnp3.Latch(uint32((i+1)%4), true))
		if err := m.SelectOperate(controls); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Integrity(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.KeepAlive(), m.SetTime(time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "events to be confirmed", func() bool { return o.Unconfirmed(1) == 0 })
	if err := errors.Join(m.ResetLink(), m.Disable(), m.Enable()); err != nil {
		t.Fatal(err)
	}
	if len(m.Unsolicited()) == 0 {
		t.Error("nothing came unasked")
	}
	lawful.check(t)
}

// transferFiles does what only the rules of one conduit permit.
func transferFiles(t *testing.T, p *plant.Plant, o *dnp3.Outstation, network string) {
	m := master(t, p, network, fileDNP3, dnp3.MasterConfig{})
	defer m.Close()
	contents, err := m.ReadFile("a.cfg")
	if err != nil || len(contents) != 1800 {
		t.Fatalf("read %d octets, %v", len(contents), err)
	}
	length := 1000
	if network == "udp" {
		length = 200 // requests over UDP are one datagram each
	}
	if err := m.WriteFile("b.cfg", contents[:length]); err != nil {
		t.Fatal(err)
	}
	if _, err := m.FileInfo("b.cfg"); err != nil {
		t.Fatal(err)
	}
	if err := m.DeleteFile("b.cfg"); err != nil {
		t.Fatal(err)
	}
	for _, control := range [][]byte{dnp3.ControlsAs(0x17, dnp3.Latch(1, true)), dnp3.AnalogOutput(2, -5)} {
		if err := m.Control(dnp3.DirectOperate, control); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.Control(dnp3.DirectOperateNR, dnp3.Controls(dnp3.Latch(3, true))), m.SetTimeLAN(time.Now())); err != nil {
		t.Fatal(err)
	}
	for function, body := range map[dnp3.Function][]byte{
		dnp3.ImmediateFreeze: dnp3.All(20, 0), dnp3.FreezeClear: dnp3.Range(20, 0, 1, 3),
		dnp3.AssignClass: append(dnp3.Class(1), dnp3.All(30, 0)...), dnp3.WarmRestart: nil,
	} {
		if _, err := m.Do(function, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Begin(); err != nil { // after the restart
		t.Fatal(err)
	}
	if o.Value(40, 2) != -5 || o.Value(10, 3) != 1 {
		t.Errorf("executed %v", o.Executed())
	}
}

// TestDNP3Refusals refuses as each conduit says, to a master of each outstation that a session
// goes on for, and nothing is executed.
func TestDNP3Refusals(t *testing.T) {
	for name, personality := range dnp3.Personalities() {
		t.Run(name, func(t *testing.T) {
			p, o := layDNP3(t, dnp3Site(), dnp3.Config{Personality: personality})
			for _, way := range dnp3Ways {
				t.Run(way.onDeny, func(t *testing.T) { refuseControls(t, p, o, way.onDeny, way.port) })
			}
		})
	}
}

func refuseControls(t *testing.T, p *plant.Plant, o *dnp3.Outstation, onDeny string, port int) {
	timeout := patience
	if onDeny == "drop" { // which is what is waited for
		timeout = 400 * time.Millisecond
	}
	lawful := keepPolling(t, p, "tcp", port)
	var m *dnp3.Master
	for i, row := range []struct {
		function dnp3.Function
		controls []byte
	}{
		{dnp3.DirectOperate, dnp3.Controls(dnp3.Latch(7, true))},
		{dnp3.Select, dnp3.Controls(dnp3.Latch(7, true))},
		{dnp3.Operate, dnp3.Controls(dnp3.Latch(7, true))},
		{dnp3.DirectOperate, dnp3.ControlsAs(0x17, dnp3.Latch(1, true), dnp3.Latch(2, true))},
		{dnp3.DirectOperate, dnp3.AnalogOutput(1, 5)},
		{dnp3.DirectOperateNR, dnp3.Controls(dnp3.Latch(7, true))},
		{dnp3.ColdRestart, nil},
	} {
		if m == nil {
			m = master(t, p, "tcp", port, dnp3.MasterConfig{Timeout: timeout})
		}
		before := len(o.Executed())
		began := time.Now()
		err := m.Control(row.function, row.controls)
		var refusal *dnp3.Refusal
		switch {
		case row.function == dnp3.DirectOperateNR && err == nil:
		case onDeny == "exception" && errors.As(err, &refusal):
		case onDeny == "drop" && errors.Is(err, dnp3.ErrTimeout):
		case onDeny == "reset" && err != nil && !errors.Is(err, dnp3.ErrTimeout):
		default:
			t.Errorf("row %d, %v: %v after %v", i, row.function, err, time.Since(began))
		}
		if onDeny == "reset" || onDeny == "drop" { // a connection that was refused is over, or may be out of step
			m.Close()
			m = master(t, p, "tcp", port, dnp3.MasterConfig{Timeout: patience})
		}
		if _, err := m.Read(dnp3.Range(1, 0, 0, 3)); err != nil {
			t.Errorf("row %d, %v: a read after: %v", i, row.function, err)
		}
		if got := o.Executed()[before:]; len(got) != 0 {
			t.Errorf("row %d, %v: executed %v", i, row.function, got)
		}
		if err := m.SelectOperate(dnp3.Controls(dnp3.Latch(2, true))); err != nil {
			t.Errorf("row %d, %v: a permitted control after: %v", i, row.function, err)
		}
		if onDeny == "drop" { // the next has less time
			m.Close()
			m = nil
		}
	}
	lawful.check(t)
}

// TestDNP3RefusalsOverUDP: there is no connection to end, so that the master goes on with the one
// socket that it has.
func TestDNP3RefusalsOverUDP(t *testing.T) {
	p, o := layDNP3(t, dnp3Site(), dnp3.Config{})
	for _, way := range dnp3Ways {
		t.Run(way.onDeny, func(t *testing.T) {
			m, err := plant.DialOutstation("udp", p.HMI, p.Filler, way.port, dnp3.MasterConfig{Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			for i := range 2 {
				before := len(o.Executed())
				err := m.Control(dnp3.DirectOperate, dnp3.Controls(dnp3.Latch(7, true)))
				var refusal *dnp3.Refusal
				if exception := way.onDeny == "exception"; exception != errors.As(err, &refusal) || !exception && !errors.Is(err, dnp3.ErrTimeout) {
					t.Errorf("attempt %d: %v", i, err)
				}
				if got := o.Executed()[before:]; len(got) != 0 {
					t.Errorf("attempt %d: executed %v", i, got)
				}
				if err := m.SelectOperate(dnp3.Controls(dnp3.Latch(2, true))); err != nil {
					t.Errorf("attempt %d: a permitted control after: %v", i, err)
				}
			}
		})
	}
}

// TestDNP3NoMasterLoops: a master that is refused the clearing of the restart indication would try
// again at once, thousands of times a second, as long as replies show the indication. Here it polls,
// and connects again when it is cut off.
func TestDNP3NoMasterLoops(t *testing.T) {
	var conduits []string
	for _, way := range dnp3Ways {
		conduits = append(conduits, dnp3Conduit(way.onDeny+"s", way.port, way.onDeny,
			"{functions: [read, confirm, enable_unsolicited, disable_unsolicited]}"))
	}
	for name, personality := range dnp3.Personalities() {
		t.Run(name, func(t *testing.T) {
			p, o := layDNP3(t, site{conduits: conduits}.String(), dnp3.Config{Personality: personality})
			var wait sync.WaitGroup
			for i, way := range dnp3Ways {
				wait.Go(func() { pollEagerly(t, p, way.onDeny, way.port, uint16(1+i)) })
			}
			wait.Wait()
			if got := o.Executed(); len(got) != 0 || !o.Restarted() {
				t.Errorf("executed %v", got)
			}
		})
	}
}

// pollEagerly polls for a while as an eager master, and counts how often it tries to clear the
// restart indication.
func pollEagerly(t *testing.T, p *plant.Plant, onDeny string, port int, address uint16) {
	const (
		watched   = 2 * time.Second
		reconnect = 200 * time.Millisecond
		timeout   = 300 * time.Millisecond
		attempts  = 20 // as many as reconnecting and waiting for replies leave time for, and some
		most      = 5  // whiles, on a machine that is too busy for a poll in one
	)
	tries, polls, whiles := 0, 0, 0
	for end := time.Now(); ; time.Sleep(reconnect) {
		if !time.Now().Before(end) {
			if whiles == most || tries > 0 && polls > 0 {
				break
			}
			whiles++
			end = time.Now().Add(watched)
		}
		m, err := plant.DialOutstation("tcp", p.HMI, p.Filler, port, dnp3.MasterConfig{
			Address: address, Eager: true, Limit: 1 << 20, Timeout: timeout,
		})
		if err != nil {
			t.Errorf("%s: %v", onDeny, err)
			return
		}
		for err == nil && time.Now().Before(end) {
			if _, err = m.Read(dnp3.Class(0)); err == nil {
				polls++
			}
			time.Sleep(20 * time.Millisecond)
		}
		m.Close()
		tries += m.RestartClears()
	}
	t.Logf("%s: %d attempts, %d polls", onDeny, tries, polls)
	if tries == 0 || tries > attempts*whiles || polls == 0 {
		t.Errorf("%s: %d attempts and %d polls in %d times %v", onDeny, tries, polls, whiles, watched)
	}
}
