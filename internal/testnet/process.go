package testnet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long Stop waits after SIGTERM before it sends SIGKILL.
const stopGrace = 2 * time.Second

// Process is a program running inside a namespace, with the mounts that everything else has.
// Methods are safe for concurrent use.
type Process struct {
	cmd    *exec.Cmd
	output output
	done   chan struct{} // closed when it has ended and err is set
	err    error
}

// Start runs a program inside a namespace or on a host. The program leads a process group of its
// own; the group ends when the program or the lab does.
func (l *Lab) Start(p Place, name string, args ...string) (*Process, error) {
	return l.StartCommand(p, exec.Command(name, args...))
}

// StartCommand is Start for a command with environment, directory or input of its own. Where the
// command's Stdout or Stderr is set, that output does not show in Output.
func (l *Lab) StartCommand(p Place, cmd *exec.Cmd) (*Process, error) {
	proc := &Process{cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &proc.output
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &proc.output
	}
	// No Pdeathsig: it would come when the thread ends that starts the program.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = stopGrace

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("start %s: the lab is closed", cmd.Path)
	}
	if err := p.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s in %v: %w", cmd.Path, p, err)
	}
	l.processes = append(l.processes, proc)
	go proc.reap()
	return proc, nil
}

// reap waits for the program and then ends what is left of its group: as long as the program is
// not collected, its process id, which names the group, can be nobody else's.
func (p *Process) reap() {
	for {
		err := unix.Waitid(unix.P_PID, p.PID(), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	_ = unix.Kill(-p.PID(), unix.SIGKILL) // ESRCH: the program was alone
	p.err = p.cmd.Wait()
	close(p.done)
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns what the program has written so far, both streams in order of arrival.
func (p *Process) Output() string { return p.output.String() }

// Signal sends a signal to the program alone.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end and returns how it ended: nil for status 0, else
// *exec.ExitError or that it still runs.
func (p *Process) Wait(timeout time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("wait for %s: still running after %v; it wrote:\n%s", p.cmd.Path, timeout, p.Output())
	}
}

// WaitOutput waits until the program has written the text.
func (p *Process) WaitOutput(text string, timeout time.Duration) error {
	deadline := time.After(timeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if strings.Contains(p.Output(), text) {
			return nil
		}
		select {
		case <-p.done:
			if strings.Contains(p.Output(), text) {
				return nil
			}
			return fmt.Errorf("wait for %q from %s: it ended (%v); it wrote:\n%s", text, p.cmd.Path, p.err, p.Output())
		case <-deadline:
			return fmt.Errorf("wait for %q from %s: not within %v; it wrote:\n%s", text, p.cmd.Path, timeout, p.Output())
		case <-tick.C:
		}
	}
}

// Stop ends the program and its group: SIGTERM to the program, and SIGKILL to what remains. How
// the program ended is not an error here. A second Stop is harmless.
func (p *Process) Stop() error { return p.StopWithin(stopGrace) }

// StopWithin is Stop for a program that has work to do before it ends, and may take so long over it.
func (p *Process) StopWithin(grace time.Duration) error {
	if err := p.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
	}
	return p.Kill()
}

// Kill ends the program as a crash would, and its group after it.
func (p *Process) Kill() error {
	if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(2 * stopGrace):
		return fmt.Errorf("kill %s: process %d has not ended", p.cmd.Path, p.PID())
	}
}

// output collects what a program writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
