package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/settings"
	"github.com/penstock-ot/penstock/internal/store"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// pinRoot is where the fast path's pins lie, one directory for each appliance.
const pinRoot = "/sys/fs/bpf/penstock"

// pinDir is where an appliance's pins lie. Appliances of one name in different namespaces are
// different appliances; a namespace without a name is told by its number, which it keeps for as
// long as the system runs, as the pins are kept.
func pinDir(s *settings.Settings) string {
	name := pinName(s.Name)
	if s.Netns != "" {
		return filepath.Join(pinRoot, name+"@"+pinName(s.Netns))
	}
	var here unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &here); err != nil {
		return filepath.Join(pinRoot, name)
	}
	return filepath.Join(pinRoot, fmt.Sprintf("%s@%d", name, here.Ino))
}

// pinName writes a name as one that the BPF file system takes, which has no dots, and that leads
// nowhere else: what is in its directory is removed by down.
func pinName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

func removePins(s *settings.Settings) error {
	if err := datapath.Remove(pinDir(s)); err != nil {
		return err
	}
	_ = os.Remove(pinRoot) // only if no other appliance has its pins there
	return nil
}

// loopsTimeout is how long an end waits for what runs in the background to notice.
const loopsTimeout = 5 * time.Second

// flowSweepInterval is how often idle flows leave the fast path's table.
const flowSweepInterval = 2 * time.Second

// daemon is a running appliance. What was started is undone in reverse: by undo where the start
// fails, and by close, which leaves ports, bridge and fast path working, where it ends.
type daemon struct {
	*policies
	settings *settings.Settings
	lanes    int
	log      *slog.Logger
	started  time.Time
	warnings []string

	store    *store.Store
	line     *bridge.Line
	path     *datapath.Datapath
	attached [2]datapath.Port
	modes    atomic.Pointer[[2]datapath.XDPMode] // of the entry programs, nil while there are none
	taken    [2]bridge.PortReport                // empty where they stood already
	injector *bridge.Injector
	bus      *event.Bus
	records  *recorder
	pinholes *pinholes

	inventory *inventory
	counters  *inspect.Counters
	common    *inspect.Common // of the verdict loops
	watch     *watch
	deputy    deputy
	haste     *haste
	ledger    *outage.Ledger
	bypass    *outage.Switch
	lineMu    sync.Mutex    // whoever changes the line once it is up
	missed    chan struct{} // has a value when frames were stopped over something that is gone, see lookNow
	bare      bool          // the bypass is engaged by taking everything of ours off the line

	inspections []*inspection
	observation *observation
	events      *datapath.EventReader
	server      *api.Server

	chosen struct { // between choosing and applying
		candidate candidate
		version   store.Version
	}
	up bool // the line was there already, with our programs on it, of whatever layout

	undos  []bridge.Undo // of the start, for one that fails half-way
	closes []func() error
	group  sync.WaitGroup
	failed chan error
	done   chan struct{}
}

// run is the daemon's life: ordered start, ready, work, stop.
func run(ctx context.Context, s *settings.Settings, log *slog.Logger) error {
	d := &daemon{
		settings: s, lanes: lanesOf(s), log: log, started: time.Now(),
		bus: event.NewBus(0), counters: inspect.NewCounters(), common: inspect.NewCommon(inspect.Limits{}),
		failed: make(chan error, 8), done: make(chan struct{}), missed: make(chan struct{}, 1),
	}
	d.ledger = outage.NewLedger(d.tellFailure)
	d.haste = newHaste(log)
	limitMemory()
	leaveProcessors(d.lanes)
	if err := raisePriority(); err != nil {
		d.warn("%v: under load inspection may be late", err)
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	work, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.start(work); err != nil {
		cancel()
		return errors.Join(err, d.takeBack())
	}
	log.Info("ready", "mode", d.plan.Mode.String(), "policy", d.version.Number)
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)

	err := d.serve(ctx, hangup)
	d.endBypass(err)
	_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
	cancel()
	return errors.Join(err, d.close())
}

// serve works until it is told to end, or something that cannot do without fails.
func (d *daemon) serve(ctx context.Context, hangup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			d.log.Info("stopping: the fast path goes on, conduits do what their outage choice says")
			return nil
		case err := <-d.failed:
			return err
		case <-hangup:
			applied, err := d.Reload(ctx, "SIGHUP")
			switch {
			case err != nil:
				d.log.Error("the policy file was not applied, the policy in force goes on", "error", err)
			case applied.Unchanged:
				d.log.Info("the policy file is in force already", "policy", applied.Version)
			}
		}
	}
}

// start takes the appliance up in the order in which no frame crosses undecided: ports down,
// entry programs with a policy, exit gate, bridge, rule, queues and their readers, ports up. The
// rule comes before the heartbeats: where it led packets to the queues of another number of lanes,
// they would meet a loop that judges other flows.
func (d *daemon) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.openLine, d.openStore, d.openBypass, d.choosePolicy, d.openPath, d.takePorts, d.attach, d.makeBridge,
		d.openInventory, d.addRule, d.openQueues, d.awaitInspection, d.observe, d.raisePorts, d.watchLine, d.settleBypass, d.openSocket, d.confine,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// onClose is run by close, and by takeBack, last one first.
func (d *daemon) onClose(f func() error) { d.closes = append(d.closes, f) }

func (d *daemon) openStore(context.Context) error {
	s, err := store.Open(d.settings.StateDir)
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("open the store in %s: %w", d.settings.StateDir, err)
	}
	if err != nil {
		d.warn("running without a store, so nothing is cached: %v", err)
		return nil
	}
	d.store = s
	d.onClose(s.Close)
	for _, n := range s.Notes() {
		d.warn("%s", n)
	}
	return nil
}

func (d *daemon) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	d.warnings = append(d.warnings, w)
	d.log.Warn(w)
}

// tell publishes what a person did.
func (d *daemon) tell(what string) {
	d.bus.Publish(event.Event{Mode: event.ModeEnforce, Verdict: verdict.Deny, Reason: verdict.ReasonNoConduit, Layer: event.LayerPerson, Detail: what})
}

func (d *daemon) choosePolicy(context.Context) error {
	d.policies = &policies{appliance: d.settings.Name, file: d.settings.Policy, store: d.store, log: d.log, tell: d.tell}
	c, v, err := d.policies.start()
	if err != nil {
		return err
	}
	d.chosen.candidate, d.chosen.version = c, v
	return nil
}

func (d *daemon) openLine(context.Context) error {
	line, err := bridge.Open(bridge.Layout{
		PortA: d.settings.PortA, PortB: d.settings.PortB,
		Bridge: d.settings.Bridge, Namespace: d.settings.Netns, Lanes: d.lanes,
	})
	if err != nil {
		return err
	}
	d.line = line
	d.onClose(line.Close)
	if err := claim(line); err != nil {
		return err
	}
	if err := line.SweepTrial(); err != nil {
		return err
	}
	return line.Check()
}

// openPath loads the fast path and puts the policy in force in its maps, before it stands at
// any port, or while the programs of the daemon before still stand there.
func (d *daemon) openPath(context.Context) error {
	if err := bridge.EnsureBPFFS(); err != nil {
		return err
	}
	path, err := datapath.Open(datapath.Config{
		PinDir:           pinDir(d.settings),
		HeartbeatTimeout: d.settings.HeartbeatTimeout,
		AdoptionWindow:   d.settings.AdoptionWindow,
		Lanes:            d.lanes,
		QueueShare:       queueShare(d.settings.QueueLength),
	})
	if err != nil {
		return err
	}
	d.path = path
	path.SetIOJudge(judgeIO)
	d.onClose(d.closePath)
	d.onClose(func() error { d.policies.close(); return nil })
	d.watch = newWatch(path, d.settings.HeartbeatTimeout, d.lanes)
	if path.Adopted() {
		d.log.Info("adopting the fast path that is at work", "generation", path.Generation())
		d.recallNames()
	} else {
		d.undos = append(d.undos, d.removePath)
	}
	d.recallMessages()
	return d.policies.first(path, d.chosen.candidate, d.chosen.version)
}

// recallNames takes up the names that the last records of the daemon before go by.
func (d *daemon) recallNames() {
	hash, number, err := d.path.InForce()
	if err != nil {
		d.warn("what the daemon before told has no names: %v", err)
	} else if plan, ok := d.policies.planOf(hash, number, d.chosen.candidate); ok {
		d.path.Recall(plan, number)
	}
}

// recallMessages takes up what the daemon before had counted. Without it the numbers are right, and begin later.
func (d *daemon) recallMessages() {
	kept, err := d.path.KeptMessages()
	if err != nil {
		d.warn("the counters of messages begin anew: %v", err)
		return
	}
	for i := range d.chosen.candidate.plan.Conduits {
		name := d.chosen.candidate.plan.Conduits[i].Name
		c, m := d.counters.Conduit(name), kept(name)
		c.Allowed.Store(m.Allowed)
		c.Denied.Store(m.Denied)
	}
}

// keepMessages writes down what was counted of messages, for the daemon after this one.
func (d *daemon) keepMessages() error {
	return d.path.KeepMessages(func(conduit string) datapath.Messages {
		c := d.counters.Conduit(conduit)
		return datapath.Messages{Allowed: c.Allowed.Load(), Denied: c.Denied.Load()}
	})
}

// removePath undoes openPath. Over a line that was up before, under programs of another layout or
// under none any more, ours stay: without them the bridge would forward whatever comes.
func (d *daemon) removePath() error {
	state, err := d.line.State()
	if err != nil || state == bridge.Up {
		return err
	}
	return removePins(d.settings)
}

// closePath lets go of the fast path when nobody works with it any more: whoever touched its
// memory afterwards would take the process down, and with it the verdicts of its last moments.
func (d *daemon) closePath() error {
	ended := make(chan struct{})
	go func() {
		d.group.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return errors.Join(d.keepMessages(), d.path.Close())
	case <-time.After(loopsTimeout):
		return fmt.Errorf("close the fast path: something still works with it after %v", loopsTimeout)
	}
}

// coldStart reports whether there is no line yet.
func (d *daemon) coldStart() (bool, error) {
	state, err := d.line.State()
	return state != bridge.Up, err
}

func (d *daemon) takePorts(context.Context) error {
	state, err := d.line.State()
	if err != nil {
		return err
	}
	if state == bridge.Up {
		ports, err := d.ports()
		if err != nil {
			return err
		}
		// Where the bypass is the bare bridge, nothing of ours stands there on purpose, and frames pass meanwhile.
		if d.up = d.bare || d.path.Stands(ports[0], ports[1]); d.up {
			return nil
		}
	}
	report, undo, err := d.line.TakePorts()
	if err != nil {
		return err
	}
	d.undos = append(d.undos, undo)
	for _, r := range report.Remarks {
		d.warn("%s", r)
	}
	d.taken = report.Ports
	return claim(d.line) // the namespace may be new
}

// attach puts the programs on the ports. They stand there before the bridge is, and before the
// ports come up.
func (d *daemon) attach(context.Context) error {
	ports, err := d.ports()
	if err != nil {
		return err
	}
	d.attached = ports
	if err := d.line.Do(func() error { return d.path.WatchDelivery(ports[0], ports[1]) }); err != nil {
		d.warn("frames that a port does not take are not counted: %v", err)
	}
	if d.bare {
		d.line.Unruled(true)
		return nil
	}
	return d.line.Do(func() error {
		modes, err := d.path.AttachXDP(ports[0], ports[1])
		if err != nil {
			return err
		}
		if err := tagsSeen(modes, d.taken); err != nil {
			return err
		}
		d.modes.Store(&modes)
		d.warnGeneric(modes)
		if err := d.path.AttachGate(ports[0], ports[1]); err != nil {
			return err
		}
		d.tellInherited()
		return nil
	})
}

// tagsSeen refuses ports on which VLANs would not be judged: where the driver takes tags out of frames, generic
// XDP sees none, and the frames that it forwards leave with theirs.
func tagsSeen(modes [2]datapath.XDPMode, ports [2]bridge.PortReport) error {
	for i, port := range ports {
		if modes[i] == datapath.XDPGeneric && port.HidesTags() {
			return fmt.Errorf("a driver does not run XDP, and that of port %s keeps taking VLAN tags out of frames (%s), so that the kernel's generic XDP sees none: use ports whose drivers run XDP, or let `ethtool -K %s rxvlan off`",
				port.Port, strings.Join(port.StillOn, ", "), port.Port)
		}
	}
	return nil
}

// warnGeneric tells that a port's driver does not run XDP.
func (d *daemon) warnGeneric(modes [2]datapath.XDPMode) {
	if modes != [2]datapath.XDPMode{datapath.XDPGeneric, datapath.XDPGeneric} {
		return
	}
	const slower = "both ports run it in the kernel's generic hook, where each frame costs more"
	told := false
	for _, port := range d.attached {
		if err := d.path.RefusedNative(port); err != nil {
			d.warn("the driver of port %s does not run XDP (%v): %s", port.Name, err, slower)
			told = true
		}
	}
	if !told { // a daemon before put the programs there, and has told why
		d.warn("a driver does not run XDP: %s", slower)
	}
}

// tellInherited says what came of the maps of another build. What of them could not be taken over is in the
// warnings of the status.
func (d *daemon) tellInherited() {
	for _, i := range d.path.Inherited() {
		d.log.Info("the fast path of another layout was replaced", "layout", i.Layout, "io", i.IO)
		for _, what := range i.Lacking {
			d.warn("%s", what)
		}
		if i.LostIO > 0 {
			d.bus.Publish(event.Event{
				Mode: event.ModeEnforce, Layer: event.LayerXDP, Verdict: verdict.Deny, Reason: verdict.ReasonIONotOpen,
				Protocol: policy.ProtocolENIP.String(), Policy: d.version.Number,
				Detail: fmt.Sprintf("%d I/O connections of %s could not be taken over", i.LostIO, i.Layout),
			})
		}
	}
}

func (d *daemon) ports() (ports [2]datapath.Port, err error) {
	for i, side := range []policy.Side{policy.SideA, policy.SideB} {
		ports[i].Name = d.line.Layout().Port(side)
		if ports[i].Index, err = d.line.Index(side); err != nil {
			return ports, err
		}
	}
	return ports, nil
}

func (d *daemon) makeBridge(context.Context) error {
	if d.up {
		return nil
	}
	undo, err := d.line.MakeBridge()
	if err != nil {
		return err
	}
	d.undos = append(d.undos, undo)
	return nil
}

func (d *daemon) addRule(context.Context) error {
	if d.bare {
		return nil
	}
	undo, err := d.line.AddRule()
	if err != nil {
		return err
	}
	if !d.up {
		d.undos = append(d.undos, undo)
	}
	return nil
}

func (d *daemon) raisePorts(context.Context) error {
	if d.up {
		repaired, err := d.line.Adopt()
		for _, r := range repaired {
			d.warn("somebody changed what is ours, and it was repaired: %s", r)
		}
		if err == nil && d.bare {
			d.taken, _, err = d.line.RaisePorts() // they are up: what their drivers do to frames the release has to know
		}
		return err
	}
	reports, undo, err := d.line.RaisePorts()
	if err != nil {
		return err
	}
	for _, r := range reports {
		if len(r.StillOn) > 0 {
			d.warn("port %s keeps %s on: frames may be merged or lose their tags", r.Port, strings.Join(r.StillOn, ", "))
		}
	}
	d.undos = append(d.undos, undo)
	return nil
}

// watchLine begins the upkeep of what stands in the kernel.
func (d *daemon) watchLine(context.Context) error {
	wanted, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		d.warn("the service manager's watchdog is not fed: %v", err)
	}
	d.whileUp(func(stop <-chan struct{}) error { return d.keepAlive(stop, wanted) })
	d.whileUp(d.keepUp)
	d.whileUp(d.watchFiles)
	return nil
}

// whileUp has work go on beside the daemon that changes the line: until the daemon ends, or until a start
// that fails begins to take back what it made, which nobody may mend meanwhile. Stop is closed for either.
func (d *daemon) whileUp(work func(stop <-chan struct{}) error) {
	stop, ended := make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	d.background(func() error {
		defer close(ended)
		return work(stop)
	})
	d.onClose(func() error { end(); return nil })
	d.undos = append(d.undos, func() error {
		end()
		<-ended
		return nil
	})
}

// openSocket lets people in, last of all.
func (d *daemon) openSocket(context.Context) error {
	l, err := api.Listen(d.settings.Socket)
	if err != nil {
		return err
	}
	d.server = api.Serve(l, d, d.log)
	d.onClose(d.server.Close)
	return nil
}

// close ends the daemon and leaves the appliance working: programs, maps, bridge and rule stay.
func (d *daemon) close() error {
	close(d.done)
	var errs []error
	for i := len(d.closes) - 1; i >= 0; i-- {
		errs = append(errs, d.closes[i]())
	}
	d.closes = nil
	return errors.Join(errs...)
}

// takeBack undoes a start that failed half-way: what it made goes, what was there stays.
func (d *daemon) takeBack() error {
	var errs []error
	for i := len(d.undos) - 1; i >= 0; i-- {
		errs = append(errs, d.undos[i]())
	}
	return errors.Join(append(errs, d.close())...)
}

// down takes the appliance apart, whatever of it is there, and gives the ports back.
func down(_ context.Context, s *settings.Settings, log *slog.Logger) error {
	line, err := bridge.Open(bridge.Layout{PortA: s.PortA, PortB: s.PortB, Bridge: s.Bridge, Namespace: s.Netns})
	if err != nil {
		return err
	}
	defer line.Close()
	if err := claim(line); err != nil {
		return err
	}
	// The programs go last: as long as there is a bridge, nothing crosses it undecided.
	if err := line.Down(); err != nil {
		return err
	}
	if err := removePins(s); err != nil {
		return err
	}
	log.Info("down: the ports are given back")
	return nil
}
