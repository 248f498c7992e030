package plant

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// NarrowQueues leaves the netfilter sockets of a process room for a message or two, as a kernel that is short of
// memory may, until widen is called. It takes the rights of root.
func NarrowQueues(pid int) (widen func() error, err error) {
	sockets, err := netfilterSockets(pid)
	if err != nil {
		return nil, err
	}
	rooms := make([]int, len(sockets))
	for i, fd := range sockets { // all of them first: two may be of one socket
		if rooms[i], err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
			return nil, errors.Join(fmt.Errorf("look at a queue's socket: %w", err), closeAll(sockets))
		}
		rooms[i] /= 2 // which the kernel has doubled, and doubles again
	}
	for _, fd := range sockets {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil { // the kernel makes it its least
			return nil, errors.Join(fmt.Errorf("narrow a queue's socket: %w", err), closeAll(sockets))
		}
	}
	return func() error {
		var errs []error
		for i, fd := range sockets {
			errs = append(errs, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rooms[i]))
		}
		return errors.Join(append(errs, closeAll(sockets))...)
	}, nil
}

// netfilterSockets takes descriptors of the sockets by which a process speaks to netfilter (pidfd_getfd(2)).
func netfilterSockets(pid int) (sockets []int, err error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open a descriptor of process %d: %w", pid, err)
	}
	defer unix.Close(process)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		domain, domainErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		protocol, protocolErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if domainErr != nil || protocolErr != nil || domain != unix.AF_NETLINK || protocol != unix.NETLINK_NETFILTER {
			unix.Close(fd)
			continue
		}
		sockets = append(sockets, fd)
	}
	if len(sockets) == 0 {
		return nil, fmt.Errorf("process %d has no socket of netfilter", pid)
	}
	return sockets, nil
}

func closeAll(sockets []int) error {
	var errs []error
	for _, fd := range sockets {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
