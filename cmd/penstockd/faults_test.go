package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

var (
	faultCount = flag.Int("faults", 15, "how many faults and changes TestFaultsInAnyOrder makes")
	faultSeed  = flag.Uint64("fault-seed", 20261125, "of TestFaultsInAnyOrder; 0 takes the clock's")
)

// faults is a line to which things happen in any order.
type faults struct {
	*testing.T
	plant   *plant.Plant
	gate    testnet.Place
	client  *api.Client
	random  *rand.Rand
	engaged bool
	closed  bool // the zone cell
	version int
	opened  atomic.Int64 // connections, or attempts at one

	// intruding is held while the bypass is engaged, when everything passes.
	intruding sync.Mutex
}

// fault is one thing that happens. Those of the line need one on which something of ours stands.
type fault struct {
	name string
	do   func(*faults) error
	line bool
}

func allFaults() []fault {
	return []fault{
		{"kill -9 and a start", (*faults).crash, false},
		{"SIGTERM and a start", (*faults).restart, false},
		{"hang", (*faults).hang, false},
		{"store overwritten", (*faults).breakStore, false},
		{"netfilter rules flushed", func(f *faults) error { return f.gate.Do(flushRules) }, true},
		{"bridge removed", func(f *faults) error { return f.gate.Do(func() error { return deleteLink("penstock0") }) }, true},
		{"program detached", (*faults).detachOne, true},
		{"port set down", (*faults).lowerPort, true},
		{"cable out and in", (*faults).pullCable, false},
		{"policy applied", func(f *faults) error { return f.apply(0) }, false},
		{"policy on trial", func(f *faults) error { return f.apply(time.Second) }, false},
		{"policy rolled back", (*faults).rollback, false},
		{"island closed or opened", (*faults).turnIsland, false},
		{"bypass engaged or released", (*faults).turnBypass, false},
		{"self-test", (*faults).selfTest, false},
	}
}

// TestFaultsInAnyOrder has faults, changes and restarts follow each other as a seed says. However they
// do, nothing that is denied ever passes a conduit that closes, and at the end everything flows, the
// policy is enforced and nothing has leaked. -fault-seed repeats a sequence that failed.
func TestFaultsInAnyOrder(t *testing.T) {
	seed := *faultSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-faults %d -fault-seed %d", *faultCount, seed)
	p := lay(t, plant.Options{Policy: outageSite()})
	f := &faults{T: t, plant: p, gate: openGate(t, p), client: p.Client(), random: rand.New(rand.NewPCG(seed, 0))}
	devices := map[int]*station{}
	for _, port := range []int{openPort, closedPort, plainPort} {
		devices[port] = startStation(t, p.Filler, port)
	}
	pins := f.pins()
	stop := f.intrude(closedPort)
	all := allFaults()
	for n := range *faultCount {
		if n%len(all) == 0 { // each once, then each once more
			f.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		next := all[n%len(all)]
		t.Logf("%3d %s", n, next.name)
		if next.line && f.engaged { // nothing of ours stands there
			if err := f.turnBypass(); err != nil {
				t.Fatalf("%d, %s: %v", n, next.name, err)
			}
		}
		if err := next.do(f); err != nil {
			t.Fatalf("%d, %s: %v", n, next.name, err)
		}
		time.Sleep(time.Duration(f.random.IntN(200)) * time.Millisecond)
		if f.flows("after " + next.name); t.Failed() {
			t.Fatalf("at %d, %s", n, next.name)
		}
	}
	f.settle()
	stop()
	for _, call := range devices[closedPort].all() {
		if bytes.Contains(call.bytes(), intruderWrite) {
			t.Error("a denied write passed a conduit that closes")
		}
	}
	for _, port := range []int{openPort, closedPort} {
		denied := mbap(9, 1, writeRegister(102, 1))
		f.opened.Add(1)
		conn := socketTo(t, p.HMI, p.Filler, port)
		if err := ask(conn, denied, patience); !wasReset(err) {
			t.Errorf("a denied request at the end, port %d: %v, want a reset", port, err)
		}
	}
	if now := f.pins(); now != pins {
		t.Errorf("%d files are pinned, in the beginning it was %d", now, pins)
	}
	f.leaksNothing()
}

// flows waits until reads pass, unless they should not for now.
func (f *faults) flows(when string) {
	f.Helper()
	if f.closed {
		return
	}
	for _, port := range []int{openPort, closedPort, plainPort} {
		err := testnet.WaitFor(fmt.Sprintf("port %d %s", port, when), 15*time.Second, func() (bool, error) {
			f.opened.Add(1)
			conn, err := trySocket(f.plant.HMI, f.plant.Filler, port, time.Second)
			if err != nil {
				return false, nil
			}
			defer conn.Close()
			return ask(conn, mbap(2, 1, readRegisters(0, 1)), time.Second) == nil, nil
		})
		if err != nil {
			f.Error(err)
		}
	}
}

// intruderWrite is what no policy of the test permits.
var intruderWrite = mbap(7, 1, writeRegister(101, 1))

// intrude asks for it in connections of its own until stop is called.
func (f *faults) intrude(port int) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			f.opened.Add(1)
			f.intruding.Lock()
			if conn, err := trySocket(f.plant.HMI, f.plant.Filler, port, 200*time.Millisecond); err == nil {
				_ = ask(conn, intruderWrite, 200*time.Millisecond)
				endNow(conn)
			}
			f.intruding.Unlock()
		}
	}()
	return func() { close(done); <-ended }
}

// endNow closes a connection and forgets what was not acknowledged, so that nobody repeats it later.
func endNow(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

func (f *faults) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 20*time.Second)
}

func (f *faults) start() error {
	if err := f.plant.Start(); err != nil {
		return err
	}
	awaitLine(f.T, f.plant)
	return nil
}

func (f *faults) crash() error   { return errors.Join(f.plant.Kill(), f.start()) }
func (f *faults) restart() error { return errors.Join(f.plant.Stop(), f.start()) }

func (f *faults) hang() error {
	if err := f.plant.Daemon.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(time.Duration(f.random.IntN(400)) * time.Millisecond)
	return f.plant.Daemon.Signal(syscall.SIGCONT)
}

// breakStore loses what the store knew: the policy of the file is in force again, no zone is closed and
// the bypass is released.
func (f *faults) breakStore() error {
	if err := f.plant.Kill(); err != nil {
		return err
	}
	path := filepath.Join(f.plant.Directory, "state", "penstock.db")
	if err := os.WriteFile(path, []byte("nothing of use"), 0o600); err != nil {
		return err
	}
	err := f.start()
	if f.engaged {
		f.engaged = false
		f.intruding.Unlock()
	}
	f.closed = false
	return err
}

// detachOne takes a program away and waits until it is back: two of them together are more than one
// gate can make up for.
func (f *faults) detachOne() error {
	pins := []string{"xdp_a_native", "xdp_b_native", "gate_a", "gate_b", "marker_a", "marker_b"}
	before := failureOf(f.T, f.plant, outage.ProgramRemoved).Count
	if err := detach(f.plant, pins[f.random.IntN(len(pins))]); err != nil {
		return err
	}
	return testnet.WaitFor("the program to be back", 10*time.Second, func() (bool, error) {
		now := failureOf(f.T, f.plant, outage.ProgramRemoved)
		return now.Count > before && !now.Active, nil
	})
}

func (f *faults) lowerPort() error {
	port := []string{testnet.PortA, testnet.PortB}[f.random.IntN(2)]
	return f.gate.Do(func() error { return onLink(port, netlink.LinkSetDown) })
}

func (f *faults) pullCable() error {
	host := []*testnet.Host{f.plant.Filler, f.plant.HMI}[f.random.IntN(2)]
	if err := setLink(host, false); err != nil {
		return err
	}
	time.Sleep(time.Duration(f.random.IntN(200)) * time.Millisecond)
	if err := setLink(host, true); err != nil {
		return err
	}
	awaitLine(f.T, f.plant)
	return nil
}

// apply puts a policy in force that differs in a comment; one on trial is not confirmed.
func (f *faults) apply(trial time.Duration) error {
	f.version++
	ctx, cancel := f.within()
	defer cancel()
	_, err := f.client.Apply(ctx, api.Submission{
		Name: "faults.yaml", Raw: fmt.Appendf(nil, "%s# %d\n", outageSite(), f.version), ConfirmWithin: trial,
	})
	return err
}

func (f *faults) rollback() error {
	ctx, cancel := f.within()
	defer cancel()
	_, err := f.client.Rollback(ctx, 0)
	return unlessConflict(err)
}

// unlessConflict forgives a request that the state of things does not permit, such as a rollback
// where there is nothing to go back to.
func unlessConflict(err error) error {
	var refused *api.Error
	if errors.As(err, &refused) && refused.Code == api.CodeConflict {
		return nil
	}
	return err
}

func (f *faults) turnIsland() error {
	ctx, cancel := f.within()
	defer cancel()
	turn := f.client.OpenZone
	if !f.closed {
		turn = func(ctx context.Context, zone string) (api.Island, error) { return f.client.CloseZone(ctx, zone, 0) }
	}
	_, err := turn(ctx, "cell")
	if err == nil {
		f.closed = !f.closed
	}
	return err
}

func (f *faults) turnBypass() error {
	ctx, cancel := f.within()
	defer cancel()
	if !f.engaged {
		f.intruding.Lock()
		f.engaged = true
		_, err := f.client.EngageBypass(ctx, "faults")
		return err
	}
	// Its self-test fails while the line is being mended.
	err := testnet.WaitFor("the bypass to be released", 15*time.Second, func() (bool, error) {
		_, err := f.client.ReleaseBypass(ctx, "faults")
		return err == nil, nil
	})
	if err == nil {
		f.engaged = false
		f.intruding.Unlock()
	}
	return err
}

func (f *faults) selfTest() error {
	return testnet.WaitFor("a self-test to pass", 15*time.Second, func() (bool, error) {
		ctx, cancel := f.within()
		defer cancel()
		return f.client.SelfTest(ctx) == nil, nil
	})
}

// settle opens what is closed and releases the bypass.
func (f *faults) settle() {
	f.Helper()
	if f.closed {
		if err := f.turnIsland(); err != nil {
			f.Error(err)
		}
	}
	if f.engaged {
		if err := f.turnBypass(); err != nil {
			f.Error(err)
		}
	}
	f.flows("at the end")
	status, err := f.plant.Status()
	if err != nil || status.Outage.State != api.StateInspecting || len(status.Islands) > 0 {
		f.Errorf("at the end the status says %+v, islands %v (%v)", status.Outage, status.Islands, err)
	}
}

// pins counts what is pinned for the appliance.
func (f *faults) pins() (n int) {
	f.Helper()
	err := filepath.WalkDir(pinsOf(f.plant), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		f.Error(err)
	}
	return n
}

// leaksNothing drills one daemon with all that needs no other, and compares what it holds.
func (f *faults) leaksNothing() {
	f.Helper()
	const rounds = 4
	drill := func() {
		f.Helper()
		for _, do := range []func(*faults) error{
			(*faults).selfTest, func(f *faults) error { return f.gate.Do(flushRules) }, func(f *faults) error { return f.apply(0) },
			(*faults).turnIsland, (*faults).turnIsland, (*faults).detachOne, (*faults).turnBypass, (*faults).turnBypass, (*faults).lowerPort,
		} {
			if err := do(f); err != nil {
				f.Fatal(err)
			}
		}
		f.flows("after a drill")
	}
	drill() // what is opened once and kept
	before := f.held("fd")
	for range rounds {
		drill()
	}
	err := testnet.WaitFor("the daemon to hold no more files than before", 5*time.Second, func() (bool, error) {
		return f.held("fd") <= before, nil
	})
	if err != nil {
		f.Errorf("%v: %d, they were %d", err, f.held("fd"), before)
	}
	// Threads come and are kept as the runtime needs them: a bound, not a count.
	if threads := f.held("task"); threads > 64 {
		f.Errorf("the daemon has %d threads", threads)
	}
	f.Logf("%d files, %d threads", before, f.held("task"))
	flows := 0
	ctx, cancel := f.within()
	defer cancel()
	if err := f.client.Flows(ctx, func(api.Flow) error { flows++; return nil }); err != nil {
		f.Error(err)
	}
	if opened := f.opened.Load(); int64(flows) > opened {
		f.Errorf("%d live flows, of %d connections that were ever tried", flows, opened)
	} else {
		f.Logf("%d live flows, of %d connections", flows, opened)
	}
}

// held counts what the daemon's process holds: "fd" for files, "task" for threads.
func (f *faults) held(what string) int {
	f.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", f.plant.Daemon.PID(), what))
	if err != nil {
		f.Fatal(err)
	}
	return len(entries)
}
