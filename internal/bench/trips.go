package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// The ports of the conduits of tripPolicy.
const (
	inspectedPort = 502
	plainPort     = 4840
)

// tripPolicy permits the hosts of a lab one inspected and one plain conversation. The inspected
// one has the rules that a plant would have, so that the verdict takes what it takes there.
const tripPolicy = `api_version: penstock/v1
site: benchmark
mode: enforce
appliances:
  - {name: line-3-gate, sides: {a: [cell], b: [room]}}
zones:
  - {name: room, sl_target: 2}
  - {name: cell, sl_target: 2}
identities:
  - {name: client, zone: room, mac: "` + testnet.PlantMAC + `", ip: [` + testnet.PlantAddress + `]}
  - {name: device, zone: cell, mac: "` + testnet.CellMAC + `", ip: [` + testnet.CellAddress + `]}
conduits:
  - name: inspected
    from: [client]
    to: [device]
    protocol: modbus
    rules:
      - {functions: [read], units: [1]}
      - {functions: [write_single_register, 16], units: [1], addresses: [40-49, 60], values: [0-1500]}
  - {name: plain, from: [client], to: [device], protocol: tcp, ports: [4840]}
`

// traveller takes the time of round trips through a line.
type traveller struct {
	*line
	label  string
	port   uint16
	helper *testnet.Process // what else has to be pinned: a queue's reader, the daemon
	server *testnet.Process
	start  func() (*testnet.Process, error) // another helper, where that is a queue's reader
	turns  []turn
}

// turn is the result of one turn.
type turn struct {
	p50, p99  time.Duration
	perSecond float64
	resent    uint32
	count     int
}

// travel starts the server and returns the traveller.
func (b *bench) travel(l *line, label string, port uint16, helper *testnet.Process) (*traveller, error) {
	t := &traveller{line: l, label: label, port: port, helper: helper}
	return t, t.serve(b)
}

func (t *traveller) serve(b *bench) (err error) {
	t.server, err = ready(b.peer(t.line, t.Cell, "serve", "-address", t.address()))
	return err
}

// holdsWrites holds that whoever judges this line's messages reads them: what only passes packets is
// quick. The server is another one afterwards, for its connection may have been left without an end.
func (t *traveller) holdsWrites(b *bench) error {
	if err := t.refuses(); err != nil {
		return fmt.Errorf("%s: %w", t.label, err)
	}
	if err := t.server.Stop(); err != nil {
		return err
	}
	return t.serve(b)
}

const readyTimeout = 10 * time.Second

// ready waits until a program that was started says that it is.
func ready(p *testnet.Process, err error) (*testnet.Process, error) {
	if err != nil {
		return nil, err
	}
	return p, p.WaitOutput(peerReady, readyTimeout)
}

func (t *traveller) address() string {
	return netip.AddrPortFrom(t.Cell.Address(), t.port).String()
}

// peer starts this program as a peer.
func (b *bench) peer(l *line, at testnet.Place, args ...string) (*testnet.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return l.Start(at, self, append([]string{peerCommand}, args...)...)
}

// refuses asks for a read, which has to come back, and for a write outside of what tripPolicy permits,
// of which nothing may.
func (t *traveller) refuses() error {
	var conn net.Conn
	err := t.Plant.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", t.address(), readyTimeout)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := exchange(conn, request[:]); err != nil {
		return fmt.Errorf("a permitted read: %w", err)
	}
	if err := exchange(conn, writeOutside[:]); err == nil {
		return errors.New("a write that the policy denies was answered: nobody judges here")
	}
	return nil
}

func exchange(conn net.Conn, out []byte) error {
	const replyTimeout = time.Second
	if err := conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(out); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, len(reply)))
	return err
}

// run is one turn: a connection of its own, and so many round trips.
func (t *traveller) run(b *bench, cores *unix.CPUSet, trips int, pause time.Duration) error {
	for _, p := range []*testnet.Process{t.helper, t.server} {
		if p == nil {
			continue
		}
		if err := pinProcess(p.PID(), cores); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var out, complaints bytes.Buffer
	ask := exec.Command(self, peerCommand, "ask", "-address", t.address(),
		"-trips", strconv.Itoa(trips), "-pause", pause.String())
	ask.Stdout, ask.Stderr = &out, &complaints
	started, err := t.startPinned(ask, cores)
	if err != nil {
		return err
	}
	if err := started.Wait(turnTimeout); err != nil {
		return fmt.Errorf("%s: %w: %s", t.label, err, complaints.String())
	}
	times, resent, err := readTimes(out.Bytes())
	if err != nil || len(times) == 0 {
		return fmt.Errorf("%s: read %d bytes of times: %w", t.label, out.Len(), err)
	}
	t.turns = append(t.turns, summarise(times, resent))
	return b.ctx.Err()
}

const turnTimeout = time.Minute

// startPinned starts a command in the plant from a thread on the cores, which it inherits.
func (t *traveller) startPinned(command *exec.Cmd, cores *unix.CPUSet) (p *testnet.Process, err error) {
	err = t.Plant.Do(func() error {
		if err := unix.SchedSetaffinity(0, cores); err != nil {
			return fmt.Errorf("choose cores: %w", err)
		}
		p, err = t.StartCommand(here{}, command)
		return err
	})
	return p, err
}

// here is the namespace that the calling thread is in already.
type here struct{}

func (here) Do(f func() error) error { return f() }
func (here) String() string          { return "this namespace" }

func summarise(times []time.Duration, resent uint32) turn {
	var sum time.Duration
	for _, d := range times {
		sum += d
	}
	slices.Sort(times)
	return turn{
		p50: times[len(times)/2], p99: times[len(times)*99/100],
		perSecond: float64(len(times)) / sum.Seconds(), resent: resent, count: len(times),
	}
}

// overall is the median of each number over the turns.
func (t *traveller) overall() (p50, p99, perSecond float64) {
	var a, b, c []float64
	for _, x := range t.turns {
		a, b, c = append(a, microseconds(x.p50)), append(b, microseconds(x.p99)), append(c, x.perSecond)
	}
	return median(a), median(b), median(c)
}

func microseconds(d time.Duration) float64 { return float64(d) / 1e3 }

// compare is the median over the rounds of one traveller's number by another's.
func compare(a, b *traveller, of func(*turn) float64) float64 {
	list := make([]float64, min(len(a.turns), len(b.turns)))
	for i := range list {
		list[i] = of(&a.turns[i]) / of(&b.turns[i])
	}
	return median(list)
}

func p50(t *turn) float64       { return float64(t.p50) }
func p99(t *turn) float64       { return float64(t.p99) }
func perSecond(t *turn) float64 { return t.perSecond }

// roundTrips compares a request and its reply through inspection with what a queue costs at
// least, and with no queue.
func (b *bench) roundTrips() error {
	all, err := b.layTravellers()
	if err != nil {
		return err
	}
	everywhere, err := coreSet()
	if err != nil {
		return err
	}
	if err := all.inspected.settle(); err != nil {
		return err
	}
	var one unix.CPUSet
	one.Set(sendingCore())
	if err := b.takeTurns(all.list(), &one, b.trips, 0); err != nil {
		return err
	}
	b.report.trips("Round trip, everything on one core", all.list(), all.inspected)
	all.beside(b)
	all.besideSuricata(b, "inspected round trip on one core")
	for _, t := range all.list() {
		t.turns = nil
	}
	if err := b.takeTurns(all.list(), &everywhere, b.trips, 0); err != nil {
		return err
	}
	b.report.trips("Round trip, on all cores", all.list(), all.inspected)
	all.besideSuricata(b, "inspected round trip on all cores")
	hasty, err := realTime(all.inspected.helper.PID())
	if hasty {
		b.report.remark("This machine was busy with other things, and the daemon real-time because of that: a round trip takes longer then.")
	}
	return err
}

// calmTimeout is longer than a machine has to be calm for a real-time daemon to be an ordinary one again.
const calmTimeout = 15 * time.Second

// settle waits for a daemon that laying everything out has made real-time to be an ordinary one again. On a
// machine that does something else meanwhile it may stay so.
func (t *traveller) settle() error {
	for until := time.Now().Add(calmTimeout); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if hasty, err := realTime(t.helper.PID()); err != nil || !hasty {
			return err
		}
	}
	return nil
}

func realTime(pid int) (bool, error) {
	a, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		return false, fmt.Errorf("ask for the scheduling of process %d: %w", pid, err)
	}
	return a.Policy == unix.SCHED_RR, nil
}

// travellers are what takes part in roundTrips; nil where it cannot be had.
type travellers struct {
	bridge, plain, inC, inGo, inspected, suricata *traveller
}

func (a *travellers) list() []*traveller {
	return slices.DeleteFunc([]*traveller{a.bridge, a.plain, a.inC, a.inGo, a.inspected, a.suricata},
		func(t *traveller) bool { return t == nil })
}

// beside compares with the faster one of the queues that judge nothing.
func (a *travellers) beside(b *bench) {
	faster := a.inGo
	if a.inC != nil {
		c, _, _ := a.inC.overall()
		g, _, _ := a.inGo.overall()
		if c < g {
			faster = a.inC
		}
	}
	b.report.bar("inspected round trip on one core, median, times the faster no-op queue ("+faster.label+")",
		compare(a.inspected, faster, p50), atMost(1.15))
	b.report.bar("… 99th percentile, times the same", compare(a.inspected, faster, p99), atMost(1.15))
}

// besideSuricata compares with Suricata, where it can be had.
func (a *travellers) besideSuricata(b *bench, what string) {
	if a.suricata == nil {
		return
	}
	b.report.bar(what+", median, times Suricata's", compare(a.inspected, a.suricata, p50), atMost(1))
	b.report.bar("… 99th percentile, times Suricata's", compare(a.inspected, a.suricata, p99), atMost(1))
	b.report.bar("… transactions a second, of Suricata's", compare(a.inspected, a.suricata, perSecond), atLeast(1))
}

func (b *bench) layTravellers() (*travellers, error) {
	all := &travellers{}
	direct, err := b.layBridge("bridge")
	if err != nil {
		return nil, err
	}
	if all.bridge, err = b.travel(direct, "Linux bridge, no queue", plainPort, nil); err != nil {
		return nil, err
	}
	gate, err := b.layAppliance("penstock", tripPolicy)
	if err != nil {
		return nil, err
	}
	if all.plain, err = b.travel(gate, "Penstock, plain conduit", plainPort, gate.appliance.Daemon); err != nil {
		return nil, err
	}
	if all.inspected, err = b.travel(gate, "Penstock, inspected", inspectedPort, gate.appliance.Daemon); err != nil {
		return nil, err
	}
	if err := all.inspected.holdsWrites(b); err != nil {
		return nil, err
	}
	if all.inGo, err = b.layReader("no-op queue, Go blocking read", func(l *line) (*testnet.Process, error) {
		return ready(b.peer(l, l.Box, "read"))
	}); err != nil {
		return nil, err
	}
	if all.suricata, err = b.laySuricata(); err != nil {
		return nil, err
	}
	program, err := b.buildNoop()
	if err != nil {
		b.report.remark("The queue reader in C is missing: %v.", err)
		return all, nil
	}
	all.inC, err = b.layReader("no-op queue, C", func(l *line) (*testnet.Process, error) {
		return ready(l.Start(l.Box, program, strconv.Itoa(noopQueue), strconv.Itoa(mark.Permitted)))
	})
	return all, err
}

// layReader lays a bridge whose packets wait for a reader, which start starts and waits for.
func (b *bench) layReader(label string, start func(*line) (*testnet.Process, error)) (*traveller, error) {
	l, err := b.layBridge(label)
	if err != nil {
		return nil, err
	}
	reader, err := start(l)
	if err != nil {
		return nil, err
	}
	if err := addQueue(l); err != nil {
		return nil, err
	}
	t, err := b.travel(l, label, inspectedPort, reader)
	if err == nil {
		t.start = func() (*testnet.Process, error) { return start(l) }
	}
	return t, err
}

// buildNoop compiles the reader in C.
func (b *bench) buildNoop() (string, error) {
	if _, err := exec.LookPath("gcc"); err != nil {
		return "", errors.New("it needs gcc")
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	source := filepath.Join(string(bytes.TrimSpace(root)), "internal/bench/noop/noop.c")
	out := filepath.Join(b.dir, "noop")
	if text, err := exec.Command("gcc", "-O2", "-o", out, source, "-lnetfilter_queue").CombinedOutput(); err != nil {
		return "", fmt.Errorf("it needs libnetfilter_queue (libnetfilter-queue-dev): %w: %s", err, bytes.TrimSpace(text))
	}
	return out, nil
}

// takeTurns lets the travellers take turns, in another order each round.
func (b *bench) takeTurns(all []*traveller, cores *unix.CPUSet, trips int, pause time.Duration) error {
	for round := range b.rounds {
		for i := range all {
			t := all[(i+round)%len(all)]
			if err := t.run(b, cores, trips, pause); err != nil {
				return err
			}
		}
	}
	return nil
}

// coreSet is every core that this process may use.
func coreSet() (set unix.CPUSet, err error) {
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return set, fmt.Errorf("ask for this process's cores: %w", err)
	}
	return set, nil
}
