package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/queue"
)

// The stand-in is a process of its own, because what stops the daemon stops all of its threads. It lets
// go what waits in a queue of conduits that open once the queue's verdict loop is silent: XDP leads
// nothing there any more, and what was there before would wait for the loop, while its sender waits
// for longer than the outage has to last. The exit gate lets it out, counted as uninspected, by the
// same heartbeat. Queues of conduits that close it does not have.

// What it is given, by descriptor.
const (
	standInDaemon = 3 + iota // a pipe that nobody writes to, and that ends with the daemon or a moment sooner
	standInStates            // the queues' states
	standInQueues            // of the first lane and, after it, of the others
)

const (
	// What was on its way into a queue as its loop fell silent comes after: so long it is let go again
	// and again.
	standInPatience = 50 * time.Millisecond
	standInPause    = 5 * time.Millisecond
)

// standInCommand is for the daemon alone.
func standInCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stand-in TIMEOUT LANES", Short: "Let go what waits while the daemon hangs (started by run)", Args: cobra.ExactArgs(2), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			timeout, err := time.ParseDuration(args[0])
			lanes, lanesErr := strconv.Atoi(args[1])
			if err := errors.Join(err, lanesErr); err != nil {
				return err
			}
			s, err := newStandIn(timeout, lanes)
			if err != nil {
				return failure{fmt.Errorf("stand in for the verdict loops: %w", err)}
			}
			s.run()
			return nil
		},
	}
}

// standIn is what the process works with. It belongs to one goroutine.
type standIn struct {
	timeout time.Duration
	lanes   int
	beats   *datapath.Beats
	until   []time.Time // by lane: when an outage's packets have all come, zero while there is none
}

func newStandIn(timeout time.Duration, lanes int) (*standIn, error) {
	// It ends with the daemon, and no sooner, whatever a service manager sends to all processes.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	beats, err := datapath.OpenBeats(standInStates, timeout)
	if err != nil {
		return nil, err
	}
	if err := landlock.V5.BestEffort().Restrict(); err != nil { // no file, no port
		return nil, err
	}
	return &standIn{timeout: timeout, lanes: lanes, beats: beats, until: make([]time.Time, lanes)}, nil
}

// run works until the daemon has ended, however it did, or its verdict loops have, on purpose.
func (s *standIn) run() {
	for !daemonEnds(s.look(time.Now())) {
	}
	for _, q := range queuesOf(s.lanes) {
		s.beats.Withdraw(q)
	}
	for ended := time.Now(); time.Since(ended) < standInPatience/2; time.Sleep(standInPause) {
		for lane := range s.lanes {
			s.release(lane)
		}
	}
}

// look lets go what waits where a loop is silent, and returns when to look again.
func (s *standIn) look(now time.Time) time.Duration {
	next := s.timeout / 2 // so that none falls silent twice in between
	for lane := range s.lanes {
		silence := s.beats.Silence(opensOf(lane))
		switch {
		case silence < 0:
			s.until[lane] = time.Time{}
			next = min(next, -silence)
			continue
		case s.until[lane].IsZero():
			s.until[lane] = now.Add(standInPatience)
		}
		if now.Before(s.until[lane]) {
			s.release(lane)
			next = min(next, standInPause)
		}
	}
	return next
}

func opensOf(lane int) datapath.Queue { return datapath.Queue(2*lane + 1) }

// release has nobody to tell of an error: what waits then waits on.
func (s *standIn) release(lane int) {
	_ = queue.ReleaseAll(standInQueues+lane, bridge.QueueNumber(opensOf(lane)))
}

// daemonEnds waits for the daemon's end, and reports whether it came.
func daemonEnds(patience time.Duration) bool {
	wait := int(patience/time.Millisecond) + 1
	n, err := unix.Poll([]unix.PollFd{{Fd: standInDaemon}}, wait) // only its end
	return n > 0 || err != nil && err != unix.EINTR
}

const (
	// standInAgain is how long the daemon waits before it starts another one.
	standInAgain = time.Second
	// standInEnd is how long the daemon's end waits for that of the stand-in, which takes half of standInPatience.
	standInEnd = 500 * time.Millisecond
)

// deputy is the stand-in as the daemon has it.
type deputy struct {
	running atomic.Bool
	over    chan struct{} // closed when the verdict loops have ended
}

// openStandIn starts the stand-in, and another one whenever that ends. Without one the daemon works as
// well, and an outage costs what waits in the queues as it begins.
func (d *daemon) openStandIn() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0) // once confined the daemon cannot
	if err != nil {
		d.warn("no stand-in: %v", err)
		return
	}
	d.background(func() error {
		defer null.Close()
		for told := ""; ; {
			err := d.standIn(null)
			select {
			case <-d.deputy.over:
				return nil
			case <-time.After(standInAgain):
			}
			if text := err.Error(); text != told {
				d.log.Warn("there is no stand-in, and another one is started", "error", err)
				told = text
			}
		}
	})
}

// standIn runs one, until it or the daemon ends, and leaves no process behind that has ended. One that somebody
// stopped goes on when the daemon has ended, and is its next parent's.
func (d *daemon) standIn(null *os.File) error {
	cmd, alive, err := d.startStandIn(null)
	if err != nil {
		return err
	}
	defer alive.Close()
	d.deputy.running.Store(true)
	defer d.deputy.running.Store(false)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return fmt.Errorf("it has ended: %v", err)
	case <-d.deputy.over:
	}
	_ = alive.Close()
	select {
	case <-ended:
	case <-time.After(standInEnd):
	}
	return errors.New("the daemon ends, and so does it")
}

// startStandIn starts one that works until the file is closed, which this process's end does, too.
func (d *daemon) startStandIn(null *os.File) (cmd *exec.Cmd, alive *os.File, err error) {
	cmd = exec.Command("/proc/self/exe", "stand-in", d.settings.HeartbeatTimeout.String(), strconv.Itoa(d.lanes))
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, // what stops the daemon's group is not for it
		// One that somebody stopped would hold the queues of a daemon that was killed: the kernel has it go on.
		Pdeathsig: syscall.SIGCONT,
	}
	end, alive, err := os.Pipe()
	if err != nil {
		return cmd, nil, fmt.Errorf("open a pipe: %w", err)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, end)
	defer func() {
		for _, f := range cmd.ExtraFiles {
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			_ = alive.Close()
		}
	}()
	states, err := d.path.QueueStates()
	if err != nil {
		return cmd, alive, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, states)
	for _, i := range d.inspections {
		if !i.number.Opens() {
			continue
		}
		f, err := i.queue.File()
		if err != nil {
			return cmd, alive, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return cmd, alive, bridge.OnOwnThread(func() error {
		if err := keepOnly(unix.CAP_NET_ADMIN); err != nil {
			return err
		}
		return cmd.Start()
	})
}

// keepOnly takes every capability but one from the calling thread and from what it starts, also where
// that is root's.
func keepOnly(capability uint) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	kept := uint32(1) << (capability % 32)
	data[capability/32] = unix.CapUserData{Effective: kept, Permitted: kept, Inheritable: kept}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}
