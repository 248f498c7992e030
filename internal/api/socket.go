package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where the daemon listens, and its clients look for it, unless told otherwise.
const DefaultSocket = "/run/penstock/penstock.sock"

// The permissions are the whole of access control: who may open the socket may change the policy.
const (
	socketMode    = 0o660
	directoryMode = 0o750
)

// Listen opens the socket and creates its directory where there is none. A socket that
// nobody listens on any more is replaced; one that somebody does listen on, and a file that
// is no socket, are left alone and are errors.
func Listen(path string) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if err := makeDirectory(dir); err != nil {
		return nil, err
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	// The mode is set on the socket before it has a name, so that there is no moment at which
	// a lax umask lets everybody in.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) })
		return errors.Join(controlErr, err)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// A strict umask took the group's bits away; here they are given back.
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("set mode of %s: %w", path, err), l.Close())
	}
	return l.(*net.UnixListener), nil
}

func makeDirectory(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, directoryMode); err != nil {
		return fmt.Errorf("create socket directory: %w", err)
	}
	if err := os.Chmod(dir, directoryMode); err != nil {
		return fmt.Errorf("create socket directory: %w", err)
	}
	return nil
}

// clearStale removes a socket that a daemon left behind. Only "connection refused" says that
// nobody listens: a daemon whose backlog is full, or that does not answer, is still one.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen on %s: there is a file that is no socket: move it away or set another socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on %s: another penstockd listens there: end that one first, or set another socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of an ended penstockd: %w", err)
	}
	return nil
}

// peer is who opened a connection, as the kernel tells it. It stands in the place of the
// connection's remote address, which a local socket does not have.
type peer struct {
	pid      int32
	uid, gid uint32
	unknown  bool // the kernel did not say
}

// Network returns "unix".
func (p peer) Network() string { return "unix" }

// String tells the peer for the server's own messages.
func (p peer) String() string {
	if p.unknown {
		return "unknown peer"
	}
	return fmt.Sprintf("pid %d uid %d", p.pid, p.uid)
}

// who names the peer for records: "root (uid 0)", or "uid 1003" where the uid has no name.
func (p peer) who() string {
	uid := strconv.FormatUint(uint64(p.uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, uid)
	}
	return "uid " + uid
}

// peerOf asks the kernel who is at the other end. The answer is as of the connect.
func peerOf(c *net.UnixConn) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("ask who is connected: %w", err)
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return peer{}, fmt.Errorf("ask who is connected: %w", err)
	}
	return peer{pid: cred.Pid, uid: cred.Uid, gid: cred.Gid}, nil
}

// identifying accepts connections whose remote address is their peer.
type identifying struct{ *net.UnixListener }

func (l identifying) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	p, err := peerOf(c)
	if err != nil {
		p = peer{unknown: true}
	}
	return identified{c, p}, nil
}

type identified struct {
	*net.UnixConn
	peer peer
}

func (c identified) RemoteAddr() net.Addr { return c.peer }

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	p, ok := c.RemoteAddr().(peer)
	if !ok || p.unknown {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, p)
}

func peerFrom(ctx context.Context) (peer, bool) {
	p, ok := ctx.Value(peerKey{}).(peer)
	return p, ok
}
