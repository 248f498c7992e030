package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/store"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// injection is one way in which things fail.
type injection struct {
	name string
	// harm makes it fail, and waits until what can be done about it has been done: by whoever looks
	// after the daemon, where it ended, and else by the daemon itself.
	harm func(*outages) error
	// before is done once before the first time, nil for nothing.
	before func(*outages) error
	// after is done once after the last time, nil for nothing.
	after func(*outages) error
	// limit is how long an inspected conduit that opens may be silent; 0 is only told.
	limit time.Duration
	// stops says that the fast path may lose frames: a port or its program is gone for a moment, or its table full.
	stops bool
	// beside says that it is not ours that fails, and that nothing is asked of it.
	beside bool
}

// gapLimit is how long a conduit that opens may be silent through anything; a hang is over by the
// heartbeat's time-out and the kernel's least retransmission time is twice that.
const gapLimit = 500 * time.Millisecond

func injections() []injection {
	hang := 100*time.Millisecond + 100*time.Millisecond // the heartbeat's time-out, and as much again
	return []injection{
		{name: "kill -9, and a start", harm: (*outages).crash, limit: gapLimit},
		{name: "SIGTERM, and a start (upgrade)", harm: (*outages).restart, limit: gapLimit},
		{name: "an older layout, and back (downgrade)", before: (*outages).buildOlder, harm: (*outages).downgrade, limit: gapLimit},
		{name: "stopped for half a second (hang)", harm: (*outages).hang, limit: hang},
		{name: "one verdict loop stopped for half a second", harm: (*outages).hangOne, limit: hang},
		{name: "garbage collected for half a second", before: (*outages).useDisturbed, harm: (*outages).litter, after: (*outages).useOurs, limit: hang},
		{name: "clock of the wall an hour ahead, and a day back", before: (*outages).useDisturbed, harm: (*outages).jumpClock, after: (*outages).useOurs, limit: gapLimit},
		{name: "policy file gone, and a reload", harm: (*outages).losePolicy, limit: gapLimit},
		{name: "store's file overwritten, and a crash", harm: (*outages).breakStore, limit: gapLimit},
		{name: "state directory full, and a new policy", harm: (*outages).fillDisk, limit: gapLimit},
		{name: "netfilter rules removed", harm: (*outages).flush, limit: gapLimit},
		{name: "bridge removed", harm: (*outages).removeBridge, limit: gapLimit},
		{name: "port set down", harm: (*outages).lowerPort, limit: gapLimit, stops: true},
		{name: "an entry program removed", harm: (*outages).removeEntry, limit: gapLimit, stops: true},
		{name: "exit gate and markers removed", harm: (*outages).removeGates, limit: gapLimit},
		{name: "policies applied", harm: (*outages).changePolicy, limit: gapLimit},
	}
}

// outages is one line under injections.
type outages struct {
	*bench
	plant   *plant.Plant
	gate    *bridge.Namespace
	device  *plant.Device // behind the conduit that closes
	opens   *probe
	closes  *probe
	plain   *probe
	version int
	older   string // a penstockd of the layout before
	disturb disturb
	hung    int     // how often one verdict loop was stopped
	lowered int     // how often a port was set down
	memory  *memory // nil where there is none to take away
	io      *ioProbe
}

// outages injects each failure over and over into a line that works, and tells what its users noticed.
func (b *bench) outages() error {
	o, stop, err := b.layOutages()
	if err != nil {
		return err
	}
	stop = sync.OnceFunc(stop)
	defer stop()
	s := b.report.section("What its users notice", fmt.Sprintf(
		"Each %d times, at any moment of the probes: a Modbus poll every %v on a conduit that opens and on one that closes, datagrams every %v on a plain one, cyclic I/O every %v, "+
			"and somebody who asks for what is not permitted through the one that closes.", b.injections, pollInterval, plainInterval, ioInterval),
		"failure", "opens: longest gap", "… connections broken", "closes: longest gap", "… connections broken", "denied writes that passed it", "plain: frames lost", "… longest gap", "cyclic I/O: frames lost", "… connections ended")
	for _, i := range append(injections(), exhaustions()...) {
		if strings.HasPrefix(i.name, "out of memory") && o.memory == nil || !strings.Contains(i.name, b.failure) {
			continue
		}
		if err := o.inject(&i, s); err != nil {
			return fmt.Errorf("%s: %w", i.name, err)
		}
	}
	stop()
	if b.failure != "" {
		return nil
	}
	return b.besideOutages(s)
}

func (b *bench) layOutages() (o *outages, stop func(), err error) {
	l, err := testnet.Build(b.env)
	if err != nil {
		return nil, nil, err
	}
	p, err := plant.New(b.env, l, b.daemon, plant.Options{Policy: outagePolicy})
	if err != nil {
		return nil, nil, err
	}
	// A device that forgets its neighbours is silent for longer than the appliance that took its link.
	if err := errors.Join(l.Cell.KeepNeighbours(), l.Plant.KeepNeighbours()); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(b.layState(p), p.Start()); err != nil {
		return nil, nil, err
	}
	o = &outages{bench: b, plant: p}
	if o.memory, err = b.layMemory(); err != nil {
		b.report.remark("Out of memory is missing: %v.", err)
	}
	if o.gate, err = o.plant.Gate(); err != nil {
		return nil, nil, err
	}
	b.env.Cleanup(func() { o.gate.Close() })
	done, err := o.probe(l)
	if err != nil {
		return nil, nil, err
	}
	go intrude(l.Plant, l.Cell, closesPort, done)
	return o, func() { close(done); time.Sleep(100 * time.Millisecond) }, nil
}

// probe begins the traffic of a line, which ends when done is closed.
func (o *outages) probe(l *testnet.Lab) (done chan struct{}, err error) {
	o.opens, o.closes, o.plain = &probe{}, &probe{}, &probe{}
	for _, port := range []int{opensPort, closesPort} {
		if o.device, err = plant.StartDevice(o.env, l.Cell, port); err != nil {
			return nil, err
		}
	}
	if o.io, err = o.layIO(l); err != nil {
		return nil, err
	}
	done = make(chan struct{})
	go o.opens.poll(l.Plant, l.Cell, opensPort, done)
	go o.closes.poll(l.Plant, l.Cell, closesPort, done)
	if err := o.plain.stream(l.Plant, l.Cell, datagramPort, done); err != nil {
		close(done)
		return nil, err
	}
	time.Sleep(time.Second)
	return done, nil
}

// besideOutages tells the same of what else could stand there: the bare bridge, to which nothing is
// done and of which a port is set down, and Suricata, whose reader fails.
func (b *bench) besideOutages(s *section) error {
	bridge, err := b.layBridge("bare bridge")
	if err != nil {
		return err
	}
	nothing := injection{name: "beside it: the bare bridge, and nothing fails", harm: func(*outages) error { return nil }, beside: true}
	lower := injection{name: "beside it: the bare bridge, a port set down for 20 ms", beside: true, harm: func(*outages) error {
		return lowerFor(20*time.Millisecond, bridge.Box, testnet.PortA)
	}}
	forget := lower
	forget.name += ", before devices that forget their neighbours"
	forget.before = func(*outages) error {
		defer time.Sleep(settling)
		return errors.Join(bridge.Cell.RemoveNeighbour(bridge.Plant), bridge.Plant.RemoveNeighbour(bridge.Cell))
	}
	if err := b.besideOutage(bridge.Lab, s, nothing, lower, forget); err != nil {
		return err
	}
	t, err := b.laySuricata()
	if err != nil || t == nil {
		return err
	}
	hang := injection{name: "beside it: Suricata inline, stopped for half a second", beside: true, harm: func(*outages) error {
		return hang(t.helper)
	}}
	kill := injection{name: "beside it: Suricata inline, kill -9, and a start after 100 ms", beside: true, harm: func(*outages) error {
		if err := t.helper.Kill(); err != nil {
			return err
		}
		time.Sleep(restartPause)
		t.helper, err = t.start()
		return err
	}}
	if err := t.server.Stop(); err != nil { // the probes have one of their own at that port
		return err
	}
	return b.besideOutage(t.Lab, s, hang, kill)
}

// lowerFor sets a port down for a while, and waits for as long as the device behind it does before it asks once more
// who is there.
func lowerFor(length time.Duration, box *bridge.Namespace, port string) error {
	err := box.Do(func() error {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(link); err != nil {
			return err
		}
		time.Sleep(length)
		return netlink.LinkSetUp(link)
	})
	time.Sleep(time.Second)
	return err
}

// restartPause is how long a service manager waits before it starts what ended: RestartSec of our own unit,
// and the default of systemd.
const restartPause = 100 * time.Millisecond

// besideOutage probes a line that is not ours. What is denied elsewhere passes here, and is not tried.
func (b *bench) besideOutage(l *testnet.Lab, s *section, injections ...injection) error {
	o := &outages{bench: b}
	done, err := o.probe(l)
	if err != nil {
		return err
	}
	defer close(done)
	for _, i := range injections {
		if err := o.inject(&i, s); err != nil {
			return fmt.Errorf("%s: %w", i.name, err)
		}
	}
	return nil
}

// settling is how long the line is left alone between two injections at least.
const settling = 500 * time.Millisecond

// rest leaves the line alone for a while, and until its polls are answered again: a sender doubles the time to its next
// repetition, and would meet the next injection with it. One that has to dial anew is answered by then, too.
func (o *outages) rest(d time.Duration) error {
	began := time.Now()
	for time.Since(began) < d || o.opens.silentSince(began) || o.closes.silentSince(began) {
		if time.Since(began) > d+2*probePatience {
			return fmt.Errorf("polls are not answered %v after an injection", time.Since(began).Round(time.Second))
		}
		select {
		case <-o.ctx.Done():
			return o.ctx.Err()
		case <-time.After(pollInterval):
		}
	}
	return nil
}

func (o *outages) inject(i *injection, s *section) error {
	var worst [3]tally
	var ioLost, ioEnded int
	if i.before != nil {
		if err := i.before(o); err != nil {
			return err
		}
	}
	writes := o.device.Writes()
	for n := range o.injections {
		for _, p := range []*probe{o.opens, o.closes, o.plain} {
			p.take()
		}
		o.io.take()
		if err := i.harm(o); err != nil {
			return fmt.Errorf("injection %d: %w", n+1, err)
		}
		if err := o.rest(settling + time.Duration(n)*7*time.Millisecond); err != nil { // at another moment each time
			return fmt.Errorf("injection %d: %w", n+1, err)
		}
		for k, p := range []*probe{o.opens, o.closes, o.plain} {
			t := p.take()
			worst[k].longest = max(worst[k].longest, t.longest)
			worst[k].broken += t.broken
			worst[k].lost += t.lost
		}
		lost, ended := o.io.take()
		ioLost, ioEnded = ioLost+lost, ioEnded+ended
	}
	if i.beside {
		s.row(i.name, milliseconds(worst[0].longest), fmt.Sprint(worst[0].broken), milliseconds(worst[1].longest), fmt.Sprint(worst[1].broken),
			"", fmt.Sprint(worst[2].lost), milliseconds(worst[2].longest), fmt.Sprint(ioLost), fmt.Sprint(ioEnded))
		return nil
	}
	passed := o.device.Writes() - writes
	if i.after != nil {
		if err := i.after(o); err != nil {
			return err
		}
	}
	s.row(i.name, milliseconds(worst[0].longest), fmt.Sprint(worst[0].broken), milliseconds(worst[1].longest), fmt.Sprint(worst[1].broken),
		fmt.Sprint(passed), fmt.Sprint(worst[2].lost), milliseconds(worst[2].longest), fmt.Sprint(ioLost), fmt.Sprint(ioEnded))
	if i.limit > 0 {
		o.report.bar(i.name+": longest gap of a conduit that opens, ms", float64(worst[0].longest.Milliseconds()), atMost(float64(i.limit.Milliseconds())))
	}
	o.report.bar(i.name+": connections broken on it", float64(worst[0].broken), atMost(0))
	o.report.bar(i.name+": denied writes through a conduit that closes", float64(passed), atMost(0))
	if !i.stops {
		o.report.bar(i.name+": plain frames lost", float64(worst[2].lost), atMost(0))
		o.report.bar(i.name+": cyclic I/O frames lost", float64(ioLost), atMost(0))
	}
	o.report.bar(i.name+": cyclic I/O connections ended", float64(ioEnded), atMost(0))
	return nil
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

func (o *outages) crash() error {
	return errors.Join(o.plant.Kill(), o.plant.Start())
}

func (o *outages) restart() error {
	return errors.Join(o.plant.Stop(), o.plant.Start())
}

func (o *outages) buildOlder() (err error) {
	o.older, err = plant.BuildLayout(o.dir, datapath.LayoutVersion-1)
	return err
}

// downgrade has a daemon of another layout take over, in whose maps conversations begin anew, and one
// of this build after it.
func (o *outages) downgrade() error {
	o.plant.Use(o.older)
	err := errors.Join(o.restart(), o.rest(settling)) // its users notice this one, too
	o.plant.Use(o.daemon)
	return errors.Join(err, o.restart())
}

func (o *outages) hang() error { return hang(o.plant.Daemon) }

const hangTime = 500 * time.Millisecond

// hang stops a program for half a second.
func hang(p *testnet.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(hangTime)
	return p.Signal(syscall.SIGCONT)
}

// hangOne stops one verdict loop for half a second, another one each time, with the daemon's other threads
// at work for as long as they need nothing of that one.
func (o *outages) hangOne() error {
	loops, err := verdictLoops(o.plant.Daemon.PID())
	if err != nil {
		return err
	}
	o.hung++
	return holdThread(loops[o.hung%len(loops)], hangTime)
}

// verdictLoops returns the threads of a daemon that wait for packets: those in recvmmsg(2).
func verdictLoops(pid int) (threads []int, err error) {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			call, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, task.Name()))
			if id, numberErr := strconv.Atoi(task.Name()); err == nil && numberErr == nil && strings.HasPrefix(string(call), fmt.Sprintf("%d ", unix.SYS_RECVMMSG)) {
				threads = append(threads, id)
			}
		}
		if len(threads) > 0 {
			return threads, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.New("no thread of the daemon waits for packets")
		}
	}
}

// holdThread stops a single thread for a while, as a debugger does: a signal would stop all of them.
func holdThread(id int, length time.Duration) error {
	runtime.LockOSThread() // which is the tracer
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(id); err != nil {
		return fmt.Errorf("trace thread %d: %w", id, err)
	}
	var status unix.WaitStatus
	err := unix.PtraceInterrupt(id)
	if err == nil {
		_, err = unix.Wait4(id, &status, unix.WALL, nil)
	}
	if err == nil {
		time.Sleep(length)
	}
	return errors.Join(err, unix.PtraceDetach(id))
}

// losePolicy takes the policy's file away and asks for it, then crashes: what is cached goes on.
func (o *outages) losePolicy() error {
	if err := os.Remove(o.plant.PolicyFile()); err != nil {
		return err
	}
	err := errors.Join(o.plant.Daemon.Signal(syscall.SIGHUP), o.crash())
	return errors.Join(err, o.plant.WritePolicy(outagePolicy))
}

// breakStore overwrites the store while nobody holds it.
func (o *outages) breakStore() error {
	if err := o.plant.Kill(); err != nil {
		return err
	}
	file := filepath.Join(o.state(), store.FileName)
	return errors.Join(os.WriteFile(file, []byte("nothing of use"), 0o600), o.plant.Start(), removeAsides(o.state()))
}

// removeAsides removes what a start set aside, or the file system would be full of it.
func removeAsides(dir string) error {
	asides, err := filepath.Glob(filepath.Join(dir, store.FileName+".corrupt-*"))
	for _, a := range asides {
		err = errors.Join(err, os.Remove(a))
	}
	return err
}

// fillDisk fills the file system that the state lies on, and applies policies.
func (o *outages) fillDisk() error {
	filler := filepath.Join(o.state(), "filler")
	if err := os.WriteFile(filler, make([]byte, stateBytes), 0o600); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("fill the state directory: %w", err)
	}
	for range 3 {
		_, _ = o.plant.Apply(o.nextPolicy()) // may be refused
	}
	return os.Remove(filler)
}

func (o *outages) state() string { return filepath.Join(o.plant.Directory, "state") }

// stateBytes is how large the file system of the state is.
const stateBytes = 8 << 20

// layState gives the state a file system of its own, small enough to be filled.
func (b *bench) layState(p *plant.Plant) error {
	dir := filepath.Join(p.Directory, "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("penstock-bench", dir, "tmpfs", 0, fmt.Sprintf("size=%d", stateBytes)); err != nil {
		return fmt.Errorf("mount a file system for the state: %w", err)
	}
	b.env.Cleanup(func() { b.complain("unmount the state", unix.Unmount(dir, unix.MNT_DETACH)) })
	return nil
}

func (o *outages) nextPolicy() string {
	o.version++
	return fmt.Sprintf("%s# %d\n", outagePolicy, o.version)
}

func (o *outages) changePolicy() error {
	for range 5 {
		if _, err := o.plant.Apply(o.nextPolicy()); err != nil {
			return err
		}
	}
	return nil
}

func (o *outages) flush() error {
	return o.gate.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.FlushRuleset()
		return conn.Flush()
	})
}

func (o *outages) onLink(name string, do func(netlink.Link) error) error {
	return o.gate.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return do(link)
	})
}

func (o *outages) removeBridge() error { return o.onLink("penstock0", netlink.LinkDel) }

// lowerPort sets a port down, another one each time.
func (o *outages) lowerPort() error {
	ports := []string{testnet.PortA, testnet.PortB}
	o.lowered++
	return o.onLink(ports[o.lowered%len(ports)], netlink.LinkSetDown)
}

func (o *outages) removeEntry() error { return o.detach("xdp_b_native") }

func (o *outages) removeGates() error {
	return errors.Join(o.detach("gate_a"), o.detach("gate_b"), o.detach("marker_a"), o.detach("marker_b"))
}

// detach takes a program off its port.
func (o *outages) detach(pin string) error {
	return datapath.Detach(filepath.Join("/sys/fs/bpf/penstock", plant.Appliance+"@"+o.plant.Netns), pin)
}
