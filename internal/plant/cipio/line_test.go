package cipio

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// linePolicy permits I/O, and leaves the messages unread: what opens a connection is told to the
// fast path by the adapter, before it replies, as the slow path would.
const linePolicy = `
api_version: penstock/v1
site: io
mode: enforce
appliances:
  - {name: ` + plant.Appliance + `, sides: {a: [cell], b: [room]}}
zones:
  - {name: cell, sl_target: 2}
  - {name: room, sl_target: 2}
identities:
  - {name: scanner, zone: room, mac: "` + testnet.PlantMAC + `", ip: [` + testnet.PlantAddress + `]}
  - {name: adapter, zone: cell, mac: "` + testnet.CellMAC + `", ip: [` + testnet.CellAddress + `]}
conduits:
  - {name: NAME, from: [scanner], to: [adapter], protocol: enip, ports: [udp/2222], rules: [{services: [forward_open], io: {assemblies: [100-150]}}]}
  - {name: messages, from: [scanner], to: [adapter], protocol: tcp, ports: [44818]}
`

func compile(t *testing.T, text string) *policy.Plan {
	t.Helper()
	p, err := policy.Parse("io.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile(plant.Appliance)
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan.Conduits {
		if c := &plan.Conduits[i]; c.Protocol == policy.ProtocolENIP {
			c.IO = true
		}
	}
	return plan
}

func planCalled(t *testing.T, name string) *policy.Plan {
	return compile(t, strings.Replace(linePolicy, "NAME", name, 1))
}

// gate is a fast path between two ports, without a slow path behind it.
type gate struct {
	*testnet.Lab
	path    *datapath.Datapath
	adapter *Adapter
	station *Station
	ends    [2]datapath.IOEnd // of the scanner, of the adapter
	opened  atomic.Int64
}

func layGate(t *testing.T) *gate {
	t.Helper()
	testnet.CheckLeaks(t)
	g := &gate{Lab: testnet.New(t)}
	path, err := datapath.Open(datapath.Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	g.path = path
	t.Cleanup(func() { _ = path.Close() })
	if _, err := path.Apply(planCalled(t, "cyclic"), 1); err != nil {
		t.Fatal(err)
	}
	if err := g.Box.Do(g.attach); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*testnet.Host{g.Cell, g.Plant} {
		if err := testnet.WaitCarrier(h, testnet.HostInterface, 15*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Cell.AddNeighbour(g.Plant); err != nil {
		t.Fatal(err)
	}
	if err := g.Plant.AddNeighbour(g.Cell); err != nil {
		t.Fatal(err)
	}
	for i, h := range []*testnet.Host{g.Plant, g.Cell} {
		g.ends[i] = datapath.IOEnd{MAC: [6]byte(h.MAC), Address: h.Address()}
	}
	if g.adapter, err = StartAdapter(g.Cell, g.Cell.Address()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.adapter.Close)
	g.adapter.Watch(func(o Opening) { g.open(t, o) }, g.close)
	return g
}

// withStation adds the scanners' end.
func (g *gate) withStation(t *testing.T) *Scanner {
	t.Helper()
	var err error
	if g.station, err = NewStation(g.Plant, g.Plant.Address()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.station.Close)
	c, err := g.station.Connect(g.Cell.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (g *gate) attach() error {
	var ports [2]datapath.Port
	for i, name := range []string{testnet.PortA, testnet.PortB} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		ports[i] = datapath.Port{Name: name, Index: link.Attrs().Index}
	}
	if _, err := g.path.AttachXDP(ports[0], ports[1]); err != nil {
		return err
	}
	for _, p := range ports {
		link, err := netlink.LinkByIndex(p.Index)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open tells the fast path of a connection, as the slow path does on seeing its reply.
func (g *gate) open(t *testing.T, o Opening) {
	_, err := g.path.OpenIO(datapath.IOConnection{
		Side: policy.SideB, Originator: g.ends[0], Target: g.ends[1],
		Triad:  datapath.IOTriad{Serial: o.Serial, Vendor: o.Vendor, OriginatorSerial: o.OriginatorSerial},
		Output: datapath.IODirection{Connection: o.OutputID, Size: o.OutputSize, Timeout: o.OutputTimeout},
		Input:  datapath.IODirection{Connection: o.InputID, Size: o.InputSize, Timeout: o.InputTimeout, Group: o.Group},
		Opened: time.Now(),
	})
	if err != nil {
		t.Errorf("open a connection: %v", err)
		return
	}
	g.opened.Add(1)
}

func (g *gate) close(o Opening) {
	g.path.CloseIO(g.ends[1], datapath.IOTriad{Serial: o.Serial, Vendor: o.Vendor, OriginatorSerial: o.OriginatorSerial})
}

// denied is how many frames were denied for a reason.
func (g *gate) denied(t *testing.T, r verdict.Reason) uint64 {
	t.Helper()
	counts, err := g.path.Reasons()
	if err != nil {
		t.Fatal(err)
	}
	return counts[r].Frames
}

// TestThroughTheFastPath opens connections of each kind through the fast path alone.
func TestThroughTheFastPath(t *testing.T) {
	g := layGate(t)
	c := g.withStation(t)
	for name, o := range map[string]Options{
		"point to point": {}, "large": {Large: true, Output: 1000, Input: 600}, "multicast": {Multicast: true},
	} {
		t.Run(name, func(t *testing.T) {
			before := g.adapter.Received().Frames
			io, err := c.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			await(t, "frames both ways", func() bool { return io.Received().Frames > 20 && g.adapter.Received().Frames > before+20 })
			if err := io.Close(); err != nil {
				t.Fatal(err)
			}
			for _, got := range []Count{io.Received(), g.adapter.Received()} {
				if got.Lost+got.Old+got.Unequal != 0 {
					t.Errorf("lost %d, old %d, unequal %d", got.Lost, got.Old, got.Unequal)
				}
			}
		})
	}
	for _, r := range []verdict.Reason{verdict.ReasonIOSize, verdict.ReasonIOSequence, verdict.ReasonMalformed} {
		if n := g.denied(t, r); n != 0 {
			t.Errorf("%d frames were denied as %v", n, r)
		}
	}
}

// TestEvasion33OnTheLine: forged frames between the scanner's and the adapter's addresses, sent while
// a connection is open, never reach the adapter, and its own go on.
func TestEvasion33OnTheLine(t *testing.T) {
	g := layGate(t)
	wire, err := g.Tap(g.Cell, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	attacker, err := g.Tap(g.Plant, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	mark := []byte("forged frame")
	send := func(udp []byte) {
		t.Helper()
		ip, err := frame.AppendUDP(nil, netip.AddrPortFrom(g.Plant.Address(), IOPort), netip.AddrPortFrom(g.Cell.Address(), IOPort), udp)
		if err != nil {
			t.Fatal(err)
		}
		if err := attacker.Send(frame.PrependEthernet(g.ends[1].MAC, g.ends[0].MAC, nil, 0x0800, ip)); err != nil {
			t.Fatal(err)
		}
	}
	forged := func(id, sequence uint32, size int) []byte {
		b := Frame(id, sequence, uint16(size))
		copy(b[len(b)-len(mark):], mark)
		return b
	}
	arrived := func() (n int) {
		for _, f := range wire.Frames() {
			if strings.Contains(string(f.Data), string(mark)) {
				n++
			}
		}
		return n
	}
	send(forged(0x00650001, 1, 38)) // before any Forward Open
	c := g.withStation(t)
	io, err := c.Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "frames both ways", func() bool { return io.Received().Frames > 5 && g.adapter.Received().Frames > 5 })
	output, input := io.Identifiers()
	late := uint32(io.Sent()) + 1<<17
	for _, b := range [][]byte{
		forged(output+1, late, 38), forged(input, late, 38), forged(output, late, 37), forged(output, late, 60),
		forged(output, 1, 38), forged(output, uint32(io.Sent()), 38), forged(output, late, 38),
	} {
		send(b)
	}
	await(t, "the forged frames to be denied", func() bool {
		return g.denied(t, verdict.ReasonIONotOpen)+g.denied(t, verdict.ReasonIOSize)+g.denied(t, verdict.ReasonIOSequence) >= 8
	})
	before := g.adapter.Received().Frames
	await(t, "lawful frames to go on", func() bool { return g.adapter.Received().Frames > before+20 })
	if err := io.Close(); err != nil {
		t.Fatal(err)
	}
	denied := g.denied(t, verdict.ReasonIONotOpen)
	send(forged(output, uint32(io.Sent())+1, 38)) // after its Forward Close
	await(t, "the frame after the end to be denied", func() bool { return g.denied(t, verdict.ReasonIONotOpen) > denied })
	if n := arrived(); n != 0 {
		t.Errorf("%d forged frames reached the adapter's port", n)
	}
	if got := g.adapter.Received(); got.Lost+got.Old+got.Unequal != 0 {
		t.Errorf("lost %d, old %d, unequal %d", got.Lost, got.Old, got.Unequal)
	}
}

// TestThirtyTwoConnections has 32 of them at 2 ms while the policy changes again and again, and none
// may lose a frame.
func TestThirtyTwoConnections(t *testing.T) {
	g := layGate(t)
	c := g.withStation(t)
	var list []*Connection
	for range 32 {
		io, err := c.Open(Options{Interval: 2 * time.Millisecond, Multiplier: 7})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, io)
	}
	plans := []*policy.Plan{planCalled(t, "cyclic"), planCalled(t, "renamed")}
	end := time.Now().Add(3 * time.Second)
	applied := 0
	for time.Now().Before(end) {
		applied++
		if _, err := g.path.Apply(plans[applied%2], uint64(applied+1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	status, err := g.path.ListIO()
	if err != nil {
		t.Fatal(err)
	}
	if len(status) != len(list) {
		t.Errorf("%d connections are open, want %d", len(status), len(list))
	}
	for _, s := range status {
		for _, n := range []datapath.IOCount{s.Output, s.Input} {
			if n.Frames < 100 || n.Lost+n.Old+n.Unequal != 0 {
				t.Errorf("connection %d: %+v", s.ID, n)
			}
		}
	}
	sum := g.adapter.Received()
	for _, io := range list {
		sum.Add(io.Received())
	}
	if sum.Lost+sum.Old+sum.Unequal != 0 {
		t.Errorf("lost %d of %d frames, old %d, unequal %d", sum.Lost, sum.Frames, sum.Old, sum.Unequal)
	}
	t.Logf("%d frames across %d changes of policy", sum.Frames, applied)
	if _, err := g.path.Apply(compile(t, strings.Replace(strings.Replace(linePolicy, "NAME", "cyclic", 1), "[udp/2222]", "[44819]", 1)), 9999); err != nil {
		t.Fatal(err)
	}
	// What had passed before may still lie in the adapter's socket. The watchdogs would stop it after a second.
	forbidden := time.Now()
	for last := -1; ; {
		received := g.adapter.Received().Frames
		if received == last {
			break
		}
		if time.Since(forbidden) > 900*time.Millisecond {
			t.Error("a policy that forbids them lets frames pass")
			break
		}
		last = received
		time.Sleep(50 * time.Millisecond)
	}
}

// TestAnotherScanner drives the adapter through the fast path with the scanner of a library that
// others wrote.
func TestAnotherScanner(t *testing.T) {
	testnet.RequireNet(t)
	modules := InstallScanner(t)
	g := layGate(t)
	script := filepath.Join(modules, "scan.js")
	if err := os.WriteFile(script, []byte(ScannerScript), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := g.Start(g.Plant, "node", script, fmt.Sprint(g.Cell.Address()), fmt.Sprint(g.Plant.Address()))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitOutput("connected", 60*time.Second); err != nil {
		t.Fatalf("%v\n%s", err, p.Output())
	}
	before := g.adapter.Received().Frames
	await(t, "its frames", func() bool { return g.adapter.Received().Frames > before+50 })
	got := g.adapter.Received()
	if got.Lost+got.Old+got.Unequal != 0 || strings.Contains(p.Output(), "disconnected") {
		t.Errorf("lost %d, old %d, unequal %d\n%s", got.Lost, got.Old, got.Unequal, p.Output())
	}
	if n := g.opened.Load(); n != 1 {
		t.Errorf("it opened %d connections", n)
	}
}
