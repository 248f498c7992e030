package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// daemonBinary is the penstockd under test and commandBinary the penstock that asks it, built once
// for all tests of the package; logixBinary is a third party's EtherNet/IP client and server.
var daemonBinary, commandBinary, logixBinary string

// buildDirectory is where they are.
var buildDirectory string

// disturbedBinary is a penstockd that can be disturbed, built for the first test that wants it.
var disturbedBinary = sync.OnceValues(func() (string, error) { return plant.BuildDisturbed(buildDirectory, buildFlags()...) })

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if address := os.Getenv(stationVariable); address != "" {
		fmt.Fprintln(os.Stderr, serveStation(address))
		return 1
	}
	dir, err := os.MkdirTemp("", "penstockd-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the build:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	buildDirectory = dir
	for name, binary := range map[string]*string{"penstockd": &daemonBinary, "penstock": &commandBinary} {
		if *binary, err = plant.Build(dir, "github.com/penstock-ot/penstock/cmd/"+name, buildFlags()...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if logixBinary, err = plant.Build(dir, "github.com/penstock-ot/penstock/internal/plant/logix"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Where the programs are built with the race detector, what it finds in them is kept.
	found := filepath.Join(dir, "race")
	if err := os.Setenv("GORACE", "log_path="+found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return max(m.Run(), showRaces(found))
}

// showRaces prints what the race detector wrote down, and returns 1 if that is anything.
func showRaces(prefix string) int {
	files, _ := filepath.Glob(prefix + ".*")
	for _, file := range files {
		raw, _ := os.ReadFile(file)
		fmt.Fprintf(os.Stderr, "%s\n", raw)
	}
	return min(len(files), 1)
}

// examplePolicy is the policy that the documentation shows.
func examplePolicy(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../configs/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// site is a small policy for the plant: hmi-1 and engineering on side b, filler-plc and pump-rtu
// on side a. What differs from test to test is filled in.
type site struct {
	mode     string   // enforce, if empty
	unknown  string   // unknown_identity: deny, if empty
	vlan     string   // of hmi-1 and filler-plc: untagged, if empty
	conduits []string // each as YAML, from the name on, indented by nothing
}

func (s site) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, `api_version: penstock/v1
site: test
mode: %s
appliances:
  - name: %s
    sides: {a: [cell, annexe], b: [room]}
defaults:
  unknown_identity: %s
zones:
  - {name: cell, sl_target: 2}
  - {name: room, sl_target: 2}
  - {name: annexe, sl_target: 2}
identities:
  - {name: hmi-1, zone: room, mac: %q, ip: [%s, "2001:2::20"], vlan: %s}
  - {name: filler-plc, zone: cell, mac: %q, ip: [%s, "2001:2::10"], vlan: %s}
  - {name: engineering, zone: room, mac: "02:00:00:00:00:21", ip: [198.18.0.21]}
  - {name: pump-rtu, zone: annexe, mac: "02:00:00:00:00:11", ip: [198.18.0.11]}
conduits:
`, or(s.mode, "enforce"), plant.Appliance, or(s.unknown, "deny"),
		testnet.PlantMAC, testnet.PlantAddress, or(s.vlan, "untagged"),
		testnet.CellMAC, testnet.CellAddress, or(s.vlan, "untagged"))
	for _, c := range s.conduits {
		lines := strings.Split(strings.TrimSpace(c), "\n")
		fmt.Fprintf(&b, "  - %s\n", strings.Join(lines, "\n    "))
	}
	return b.String()
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// modbusConduit is an inspected conduit from hmi-1 to filler-plc on a port of its own, with keys
// of its own, which permits what most tests need: reads, and writes of 0 to 1500 to 40-49.
func modbusConduit(name string, port int, keys ...string) string {
	lines := append([]string{
		"name: " + name, "from: [hmi-1]", "to: [filler-plc]", "protocol: modbus",
		fmt.Sprintf("ports: [%d]", port),
	}, keys...)
	return strings.Join(append(lines,
		"rules:",
		"  - {functions: [read], units: [1]}",
		"  - {functions: [write], units: [1], addresses: [40-49], values: [0-1500]}",
	), "\n")
}

// plainConduit is decided by address and port alone.
func plainConduit(name, protocol string, port int) string {
	return fmt.Sprintf("name: %s\nfrom: [hmi-1]\nto: [filler-plc]\nprotocol: %s\nports: [%d]", name, protocol, port)
}

// lay lays a plant and starts the appliance.
func lay(t *testing.T, o plant.Options) *plant.Plant {
	t.Helper()
	p := layStopped(t, o)
	start(t, p)
	return p
}

// layDisturbed lays a plant and starts a daemon that can be disturbed.
func layDisturbed(t *testing.T, o plant.Options) (*plant.Plant, *plant.Disturbance) {
	t.Helper()
	p := layStopped(t, o)
	built, err := disturbedBinary()
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.Disturb()
	if err != nil {
		t.Fatal(err)
	}
	p.Use(built)
	start(t, p)
	return p, d
}

func start(t *testing.T, p *plant.Plant) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, p)
}

// patience is how long a test waits for what has to come, where the time that it takes is not what is
// tested: a machine may be busy with other things.
const patience = 10 * time.Second

// longHeartbeat is a setting for tests that have each frame arrive which they send, once, or nothing be counted:
// a busy machine may take the processor from a verdict loop for as long as the heartbeat that is set otherwise
// may be old, and in an outage a frame is lost, or passes.
const longHeartbeat = "outage: {heartbeat_timeout: 5s}"

// awaitLine waits until the ends' own ports are in service, and those of the appliance between them:
// the kernel tells each up to a second late that the line is, and a bridge forwards to none before.
func awaitLine(t *testing.T, p *plant.Plant) {
	t.Helper()
	awaitEnds(t, p)
	gate, err := p.Gate()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		if err := testnet.WaitCarrier(gate, port, patience); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitEnds is awaitLine for a line whose middle is not the appliance.
func awaitEnds(t *testing.T, p *plant.Plant) {
	t.Helper()
	for _, h := range []*testnet.Host{p.Filler, p.HMI} {
		if err := testnet.WaitCarrier(h, testnet.HostInterface, patience); err != nil {
			t.Fatal(err)
		}
	}
}

// layStopped lays a plant whose appliance has not been started. What the test leaves behind of
// the appliance fails it.
func layStopped(t *testing.T, o plant.Options, options ...func(*testnet.Lab)) *plant.Plant {
	t.Helper()
	testnet.RequireNet(t)
	testnet.CheckLeaks(t)
	lab := testnet.New(t, options...)
	if o.Policy == "" {
		o.Policy = examplePolicy(t)
	}
	p, err := plant.New(t, lab, daemonBinary, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { explain(t, p) })
	return p
}

// explain shows, of a test that failed, what the daemon says.
func explain(t *testing.T, p *plant.Plant) {
	if !t.Failed() || p.Daemon == nil {
		return
	}
	t.Log(p.Daemon.Output())
	events, err := p.Events()
	if err != nil {
		t.Log(err)
	}
	for _, e := range events[max(0, len(events)-40):] {
		raw, _ := e.MarshalJSON()
		t.Logf("%s", raw)
	}
}

// eventually polls for a condition that has to come to hold.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	err := testnet.WaitFor(what, patience, func() (bool, error) { return condition(), nil })
	if err != nil {
		t.Error(err)
	}
}

// runIn runs a program to its end and returns what it wrote.
func runIn(t *testing.T, p *plant.Plant, at testnet.Place, name string, args ...string) string {
	t.Helper()
	testnet.RequireProgram(t, name)
	proc, err := p.Lab.Start(at, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Wait(3 * patience); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, proc.Output())
	}
	return proc.Output()
}

// pinsOf returns what is pinned of a plant's appliance, which has a namespace of its own.
func pinsOf(p *plant.Plant) string {
	return filepath.Join(pinRoot, plant.Appliance+"@"+p.Netns)
}
