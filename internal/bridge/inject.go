package bridge

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
)

// Injector puts frames of ours on the wire, such as the resets that end a refused connection.
// They carry mark.Own, by which the exit gate lets them leave. Its sockets receive nothing. Methods are
// safe for concurrent use, except Close.
type Injector struct {
	sockets [2]int // a, b
	names   [2]string
}

// OpenInjector opens a sender on both ports, which have to be in the line's namespace.
func (l *Line) OpenInjector() (*Injector, error) {
	i := &Injector{sockets: [2]int{-1, -1}, names: l.layout.ports()}
	err := l.Do(func() error {
		for n, name := range i.names {
			fd, err := openSender(name)
			if err != nil {
				return fmt.Errorf("open a sender on port %s: %w", name, err)
			}
			i.sockets[n] = fd
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func openSender(name string) (fd int, err error) {
	port, err := netlink.LinkByName(name)
	if err != nil {
		return -1, err
	}
	// Protocol 0, here and in bind: a packet socket that is told of no protocol gets no frames.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark.Own)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: port.Attrs().Index})
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// Send puts one Ethernet frame, from the destination address on and without the frame check
// sequence, on the wire of a side. It does not wait: a frame for which the port has no room is
// lost, with an error.
func (i *Injector) Send(side policy.Side, frame []byte) error {
	n := 0
	switch side {
	case policy.SideA:
	case policy.SideB:
		n = 1
	default:
		return fmt.Errorf("send a frame: side %d is neither a nor b", side)
	}
	for {
		_, err := unix.Write(i.sockets[n], frame)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("send %d bytes on port %s: %w", len(frame), i.names[n], err)
		}
	}
}

// Close closes both senders. A second Close is harmless.
func (i *Injector) Close() error {
	var errs []error
	for n, fd := range i.sockets {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
			i.sockets[n] = -1
		}
	}
	return errors.Join(errs...)
}
