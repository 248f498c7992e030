package cipio

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a node's one for cyclic frames. It blocks, and is none of the runtime's: its poller waits
// for a socket to be writable, too, and the kernel would wake it wherever it lets go of a frame that
// was sent, which may be anywhere on the frame's way.
type socket int

// openSocket listens on all addresses: what is sent to a group is for this socket, too.
func openSocket() (socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: IOPort}))
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return socket(fd), nil
}

// wake ends the call that waits for a frame, and each that comes after. The socket has no peer, of which
// the kernel complains; it wakes the caller all the same.
func (s socket) wake() { _ = unix.Shutdown(int(s), unix.SHUT_RD) }

func (s socket) close() { _ = unix.Close(int(s)) }

// receive waits for a frame. It returns nothing for one that it cannot read, and after wake.
func (s socket) receive(buf, oob []byte) (b []byte, from netip.Addr, at time.Time) {
	size, more, _, sender, err := unix.Recvmsg(int(s), buf, oob, 0)
	peer, ok := sender.(*unix.SockaddrInet4)
	if err != nil || !ok {
		return nil, from, at
	}
	return buf[:size], netip.AddrFrom4(peer.Addr), received(oob[:more])
}

// received is when the kernel took a frame in: how late this program reads it is not the line's
// doing.
func received(oob []byte) time.Time {
	const header = unix.SizeofCmsghdr
	if len(oob) < header+16 || little.Uint32(oob[8:]) != unix.SOL_SOCKET || little.Uint32(oob[12:]) != unix.SCM_TIMESTAMPNS {
		return time.Now()
	}
	return time.Unix(int64(little.Uint64(oob[header:])), int64(little.Uint64(oob[header+8:])))
}

// send sends a frame or fails at once, past the runtime: see producers.
func (s socket) send(b []byte, to *unix.RawSockaddrInet4) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
	if errno != 0 {
		return errno
	}
	return nil
}

// multicastFrom has groups reached by an interface, and no further than its segment.
func (s socket) multicastFrom(on *net.Interface) error {
	return errors.Join(
		unix.SetsockoptIPMreqn(int(s), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(on.Index)}),
		unix.SetsockoptInt(int(s), unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 1),
		unix.SetsockoptInt(int(s), unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0))
}

// join has what is sent to a group delivered.
func (s socket) join(on *net.Interface, group netip.Addr) error {
	m := unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(on.Index)}
	if err := unix.SetsockoptIPMreqn(int(s), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &m); err != nil {
		return fmt.Errorf("join group %v: %w", group, err)
	}
	return nil
}
