package outage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// The bounds of a vendor's tool.
const (
	execTimeout   = 5 * time.Second
	maxExecOutput = 16 << 10
)

// Exec drives a bypass through a vendor's tool: a program for each thing that it does, given with its
// arguments. No shell reads them.
type Exec struct {
	EngageCommand, ReleaseCommand, StateCommand []string

	// What the output of StateCommand holds in each state. The states are looked for in this order;
	// output that holds none of them is Unknown.
	WhenBlocked, WhenEngaged, WhenInline string
}

// Name implements Driver.
func (e *Exec) Name() string { return "exec" }

// Engage implements Driver.
func (e *Exec) Engage(ctx context.Context) error {
	_, err := e.run(ctx, e.EngageCommand)
	return err
}

// Release implements Driver.
func (e *Exec) Release(ctx context.Context) error {
	_, err := e.run(ctx, e.ReleaseCommand)
	return err
}

// State implements Driver.
func (e *Exec) State(ctx context.Context) (State, error) {
	output, err := e.run(ctx, e.StateCommand)
	if err != nil {
		return Unknown, err
	}
	for _, row := range []struct {
		text  string
		state State
	}{{e.WhenBlocked, Blocked}, {e.WhenEngaged, Engaged}, {e.WhenInline, Inline}} {
		if row.text != "" && strings.Contains(output, row.text) {
			return row.state, nil
		}
	}
	return Unknown, fmt.Errorf("ask %s for the bypass's state: its output %q says none of %q, %q and %q",
		e.StateCommand[0], first(output), e.WhenInline, e.WhenEngaged, e.WhenBlocked)
}

// Close implements Driver.
func (e *Exec) Close() error { return nil }

func (e *Exec) run(ctx context.Context, command []string) (string, error) {
	if len(command) == 0 {
		return "", errors.New("drive the bypass: the settings name no command for this")
	}
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	output := &limited{}
	c.Stdout, c.Stderr = output, output
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	c.WaitDelay = time.Second // a grandchild may hold the pipe
	// What it has started ends with it: a command that goes on could turn the bypass after the next one has.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error {
		if err := syscall.Kill(-c.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
	err := c.Run()
	text := output.String()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it has ended well, and left somebody behind
		return text, nil
	case ctx.Err() != nil:
		return text, fmt.Errorf("run %s: it did not end in time, which is %v at most", strings.Join(command, " "), execTimeout)
	default:
		return text, fmt.Errorf("run %s: %w: %s", strings.Join(command, " "), err, first(text))
	}
}

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

// Write takes everything and keeps what there is room for.
func (l *limited) Write(b []byte) (int, error) {
	if room := maxExecOutput - l.Len(); room > 0 {
		l.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// first is the first line of a text, for a message.
func first(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line[:min(len(line), 200)]
}
