package outage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// A relay on a line of the gpio character device keeps its position only for as long as a process
// holds the line: when that ends, the kernel may let it fall back. So the line belongs to a process
// of its own, which does nothing else and outlives the daemon; the daemon asks it over a local
// socket. One request is one line (state, engage or release), and so is its answer: the state, or
// "error " and why.

// relayTimeout bounds a request to the process that holds the relay.
const relayTimeout = 2 * time.Second

// Output is a line that drives a relay.
type Output interface {
	Value() (int, error)
	SetValue(int) error
}

// Holder holds a relay and answers on its socket.
type Holder struct {
	output   Output
	engaged  int // the line's value that leads frames past the appliance
	listener net.Listener
}

// NewHolder drives the output to engaged, since nothing has shown yet that inspection works, and
// listens on the socket, which only its owner may use. engaged is the line's value, 0 or 1, that leads
// frames past the appliance.
func NewHolder(output Output, engaged int, socket string) (*Holder, error) {
	if err := removeStale(socket); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for the daemon: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("keep others from the relay's socket: %w", err), l.Close())
	}
	// Only now is it sure that nobody else holds it.
	if err := output.SetValue(engaged); err != nil {
		return nil, errors.Join(fmt.Errorf("drive the relay: %w", err), l.Close())
	}
	return &Holder{output: output, engaged: engaged, listener: l}, nil
}

// removeStale removes the socket of a holder that is gone.
func removeStale(socket string) error {
	info, err := os.Lstat(socket)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the relay's socket: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("listen on %s: it is something else than a socket", socket)
	}
	conn, err := net.DialTimeout("unix", socket, relayTimeout)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("listen on %s: another process holds the relay already", socket)
	case !errors.Is(err, syscall.ECONNREFUSED): // one that is busy is one, too
		return fmt.Errorf("listen on %s: another process may hold the relay already: %w", socket, err)
	}
	return os.Remove(socket)
}

// relayPause is how long Serve waits where the kernel has no connection to give, such as for want of memory.
const relayPause = 100 * time.Millisecond

// Serve answers until Close, one request at a time. No other error ends it: with its process the relay would fall, and
// the daemon tells that nobody answers.
func (h *Holder) Serve() {
	for {
		conn, err := h.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(relayPause)
		default:
			h.answer(conn)
		}
	}
}

// Close ends Serve. The output stays as it is.
func (h *Holder) Close() error { return h.listener.Close() }

func (h *Holder) answer(conn net.Conn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(relayTimeout)); err != nil {
		return
	}
	request, err := bufio.NewReader(io.LimitReader(conn, 64)).ReadString('\n')
	if err != nil {
		return
	}
	state, err := h.carryOut(strings.TrimSpace(request))
	if err != nil {
		fmt.Fprintf(conn, "error %v\n", err)
		return
	}
	fmt.Fprintln(conn, state)
}

func (h *Holder) carryOut(request string) (State, error) {
	switch request {
	case "state":
	case "engage":
		if err := h.output.SetValue(h.engaged); err != nil {
			return Unknown, err
		}
	case "release":
		if err := h.output.SetValue(1 - h.engaged); err != nil {
			return Unknown, err
		}
	default:
		return Unknown, fmt.Errorf("there is no request %q", request)
	}
	value, err := h.output.Value()
	if err != nil {
		return Unknown, err
	}
	if value == h.engaged {
		return Engaged, nil
	}
	return Inline, nil
}

// GPIO drives a relay through the process that holds it.
type GPIO struct{ Socket string }

// Name implements Driver.
func (g *GPIO) Name() string { return "gpio" }

// Engage implements Driver.
func (g *GPIO) Engage(ctx context.Context) error { return g.bring(ctx, "engage", Engaged) }

// Release implements Driver.
func (g *GPIO) Release(ctx context.Context) error { return g.bring(ctx, "release", Inline) }

// State implements Driver.
func (g *GPIO) State(ctx context.Context) (State, error) { return g.ask(ctx, "state") }

// Close implements Driver.
func (g *GPIO) Close() error { return nil }

func (g *GPIO) bring(ctx context.Context, request string, want State) error {
	state, err := g.ask(ctx, request)
	if err == nil && state != want {
		err = fmt.Errorf("%s the relay: it is %s", request, state)
	}
	return err
}

func (g *GPIO) ask(ctx context.Context, request string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", g.Socket)
	if err != nil {
		return Unknown, fmt.Errorf("reach the process that holds the relay: %w: is penstock-relay running?", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Unknown, err
	}
	if _, err := fmt.Fprintln(conn, request); err != nil {
		return Unknown, fmt.Errorf("ask the process that holds the relay: %w", err)
	}
	answer, err := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	if err != nil {
		return Unknown, fmt.Errorf("ask the process that holds the relay: %w", err)
	}
	answer = strings.TrimSpace(answer)
	if why, failed := strings.CutPrefix(answer, "error "); failed {
		return Unknown, fmt.Errorf("%s the relay: %s", request, why)
	}
	switch s := State(answer); s {
	case Engaged, Inline:
		return s, nil
	}
	return Unknown, fmt.Errorf("ask the process that holds the relay: it answers %q", answer)
}
