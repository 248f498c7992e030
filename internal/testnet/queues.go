package testnet

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// QueueForEachCore gives the ports between the box and its first hosts, and those of JoinHosts, a queue for
// each core, as ports of hardware have it: what one core sends waits for no other core to poll the port. With
// the one queue that ports have without it nothing overtakes anything; with several, what one sender
// sends from two cores may.
func QueueForEachCore(l *Lab) { l.queues = runtime.NumCPU() }

// WithoutNativeXDP makes the named ports between the box and its first hosts ones whose driver runs no XDP program,
// as those of hardware may be: a virtual port refuses where its peer sends on more queues than it takes in on.
func WithoutNativeXDP(ports ...string) func(*Lab) {
	return func(l *Lab) { l.withoutNative = ports }
}

// queueByCore has each core send on the queue of its number, which drivers of hardware arrange. It runs inside
// the port's namespace.
func queueByCore(port string, queues int) error {
	sys, err := openSysfs()
	if err != nil {
		return fmt.Errorf("give port %s a queue for each core: %w", port, err)
	}
	defer sys.Close()
	for i := range queues {
		name := fmt.Sprintf("class/net/%s/queues/tx-%d/xps_cpus", port, i)
		if err := writeAt(sys, name, coreMask(i)); err != nil {
			return fmt.Errorf("give port %s a queue for each core: write %s: %w", port, name, err)
		}
	}
	return nil
}

// openSysfs opens the root of a sysfs of the calling thread's network namespace, which is mounted nowhere.
func openSysfs() (*os.File, error) {
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open a sysfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("open a sysfs: %w", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a sysfs: %w", err)
	}
	return os.NewFile(uintptr(root), "sysfs"), nil
}

func writeAt(root *os.File, name, value string) error {
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// coreMask is one core in the kernel's notation of a set: hexadecimal words of 32, the highest first.
func coreMask(core int) string {
	return fmt.Sprintf("%x", 1<<(core%32)) + strings.Repeat(",00000000", core/32)
}
