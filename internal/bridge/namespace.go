package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 keeps named network namespaces: a shared mount point with one
// file a name, onto which the namespace is bound.
const namespaceDir = "/run/netns"

// threadNetNS shows the calling thread's network namespace. /proc/self would show that of the
// process's first thread.
const threadNetNS = "/proc/thread-self/ns/net"

// Namespace is a handle on a network namespace. A named one persists: it outlives the process
// and `ip netns` lists it. Methods are safe for concurrent use, except Close and Remove against the
// others.
type Namespace struct {
	name string
	file *os.File
}

// CurrentNamespace returns the network namespace that the process is in. It has no name here,
// whatever others call it, and Remove leaves it alone.
func CurrentNamespace() (*Namespace, error) {
	f, err := os.Open(threadNetNS)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of this process: %w", err)
	}
	return &Namespace{file: f}, nil
}

// NewUnnamedNamespace makes a namespace that ends with its last descriptor, socket and process.
func NewUnnamedNamespace() (n *Namespace, err error) {
	err = OnOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		n, err = CurrentNamespace()
		return err
	})
	return n, err
}

// OpenNamespace opens the named network namespace; "" is the one that the process is in. The
// error matches fs.ErrNotExist when there is none of that name.
func OpenNamespace(name string) (*Namespace, error) {
	if name == "" {
		return CurrentNamespace()
	}
	if err := checkNamespaceName(name); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(namespaceDir, name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace %q: %w", name, err)
	}
	// A file without a namespace bound on it is what a half-made or half-removed one leaves.
	if _, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil {
		f.Close()
		return nil, fmt.Errorf("open network namespace %q: nothing is bound on %s: %w", name, f.Name(), fs.ErrNotExist)
	}
	return &Namespace{name: name, file: f}, nil
}

// EnsureNamespace opens the named network namespace and creates it when there is none, in which
// case created is true. A new namespace holds a loopback interface that is down, and nothing
// else.
func EnsureNamespace(name string) (n *Namespace, created bool, err error) {
	n, err = OpenNamespace(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, false, err
	}
	if err := createNamespace(name); err != nil {
		return nil, false, fmt.Errorf("create network namespace %q: %w", name, err)
	}
	n, err = OpenNamespace(name)
	return n, err == nil, err
}

// NamespaceNames lists the named network namespaces, half-made ones too.
func NamespaceNames() ([]string, error) {
	entries, err := os.ReadDir(namespaceDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Name returns the name that the namespace was opened by; "" for the process's own.
func (n *Namespace) Name() string { return n.name }

// String returns the namespace as messages call it.
func (n *Namespace) String() string {
	if n.name == "" {
		return "this network namespace"
	}
	return fmt.Sprintf("network namespace %q", n.name)
}

// Fd returns a descriptor of the namespace, valid until Close.
func (n *Namespace) Fd() int { return int(n.file.Fd()) }

// Same reports whether both are the same namespace, whatever their names.
func (n *Namespace) Same(other *Namespace) (bool, error) {
	a, err := namespaceID(n)
	if err != nil {
		return false, err
	}
	b, err := namespaceID(other)
	return a == b, err
}

// Do runs f on a thread of its own inside the namespace and returns f's error. Sockets that f
// opens and processes that it starts belong to the namespace for good; goroutines that it starts
// do not. The mount namespace is the process's: /proc/sys/net follows, /sys/class/net does not.
func (n *Namespace) Do(f func() error) error {
	return OnOwnThread(func() error {
		if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %v: %w", n, err)
		}
		return f()
	})
}

// Close lets go of the handle; the namespace stays when it has a name. A second Close is
// harmless.
func (n *Namespace) Close() error {
	if err := n.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close %v: %w", n, err)
	}
	return nil
}

// Remove takes the name away and closes the handle. The kernel ends the namespace, virtual
// links included, when the last process and descriptor in it are gone; physical ports left inside
// fall back to the first namespace of the system. Removing what has no name, or has gone
// already, does nothing.
func (n *Namespace) Remove() error {
	if n.name == "" {
		return n.Close()
	}
	return errors.Join(n.Close(), removeNamespaceName(filepath.Join(namespaceDir, n.name)))
}

func removeNamespaceName(path string) error {
	// EINVAL: nothing is mounted there.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

func checkNamespaceName(name string) error {
	if strings.ContainsAny(name, "/\x00") || name == "." || name == ".." || len(name) > unix.NAME_MAX {
		return fmt.Errorf("open network namespace %q: not a name: it may hold no slash and at most %d bytes", name, unix.NAME_MAX)
	}
	return nil
}

// createNamespace lays the namespace where `ip netns` looks for it.
func createNamespace(name string) error {
	if err := shareNamespaceDir(); err != nil {
		return err
	}
	path := filepath.Join(namespaceDir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0)
	if err != nil {
		return err
	}
	f.Close()
	err = OnOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount(threadNetNS, path, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind on %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, removeNamespaceName(path))
	}
	return nil
}

// shareNamespaceDir makes namespaceDir a shared mount point. Without it a namespace that was
// removed stays mounted, and alive, in every mount namespace that was copied before.
func shareNamespaceDir() error {
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(namespaceDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	// iproute2 takes the same lock around the same steps, or two of us stack two mounts.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", namespaceDir, err)
	}
	err = unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err != unix.EINVAL { // EINVAL: not a mount point yet
		return os.NewSyscallError("share "+namespaceDir, err)
	}
	if err := unix.Mount(namespaceDir, namespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s on itself: %w", namespaceDir, err)
	}
	err = unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	return os.NewSyscallError("share "+namespaceDir, err)
}

// namespaceID is what tells two namespaces apart: the device and inode that show them.
func namespaceID(n *Namespace) (id [2]uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.Fd(), &st); err != nil {
		return id, fmt.Errorf("identify %v: %w", n, err)
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, nil
}
