package bridge

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The ends of a trial's cables: the outer ones are its own, the inner ones are ports of the bridge.
const (
	trialInOuter, trialIn   = "pstrial0", "pstrial1"
	trialOutOuter, trialOut = "pstrial2", "pstrial3"
)

// trialMAC is where a trial's frames go: a locally administered address that the bridge knows at the
// trial's way out, and nowhere else.
var trialMAC = net.HardwareAddr{0x02, 0x50, 0x65, 0x6e, 0x73, 0x74}

// Trial is a second way through the line's bridge, beside the ports: frames go in at one end and come out
// at the other, through the same netfilter rules and into the same queues, and none of them reaches a
// port. It shows whether inspection works before anything depends on it. Its methods are not safe for
// concurrent use.
type Trial struct {
	line    *Line
	in, out int // indices of the bridge's ports
	sockets [2]int
}

// OpenTrial makes a trial. Whatever an earlier one left behind goes first. The caller holds everybody
// else from changing the line until Close.
func (l *Line) OpenTrial() (*Trial, error) {
	t := &Trial{line: l, sockets: [2]int{-1, -1}}
	err := l.Do(func() error {
		if err := removeTrial(); err != nil {
			return err
		}
		br, err := netlink.LinkByName(l.layout.Bridge)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", l.layout.Bridge, err)
		}
		for i, ends := range [][2]string{{trialInOuter, trialIn}, {trialOutOuter, trialOut}} {
			index, err := layTrialCable(br, ends[0], ends[1])
			if err != nil {
				return err
			}
			*[]*int{&t.in, &t.out}[i] = index
			if t.sockets[i], err = openTrialSocket(ends[0], i == 1); err != nil {
				return err
			}
		}
		return errors.Join(pointTo(t.out), awaitForwarding(trialIn, trialOut))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lay a way for a self-test: %w", err), t.Close())
	}
	return t, nil
}

// trialAttributes make a port out of which only comes what is addressed to the trial, and nothing of the
// line's.
func trialAttributes() []attribute {
	off := nl.Uint8Attr(0)
	return []attribute{
		{name: "learning", number: unix.IFLA_BRPORT_LEARNING, value: off},
		{name: "flood", number: unix.IFLA_BRPORT_UNICAST_FLOOD, value: off},
		{name: "mcast_flood", number: unix.IFLA_BRPORT_MCAST_FLOOD, value: off},
		{name: "bcast_flood", number: unix.IFLA_BRPORT_BCAST_FLOOD, value: off},
		{name: "group_fwd_mask", number: unix.IFLA_BRPORT_GROUP_FWD_MASK, value: nl.Uint16Attr(0)},
	}
}

// layTrialCable makes a virtual cable and joins its inner end to the bridge.
func layTrialCable(br netlink.Link, outer, inner string) (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = outer
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: inner}); err != nil {
		return 0, fmt.Errorf("make the cable %s: %w", outer, err)
	}
	for _, name := range []string{outer, inner} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return 0, fmt.Errorf("find %s: %w", name, err)
		}
		if _, err := silence(link); err != nil {
			return 0, err
		}
		if name == inner {
			index = link.Attrs().Index
			if err := netlink.LinkSetMaster(link, br); err != nil {
				return 0, fmt.Errorf("join %s to the bridge: %w", name, err)
			}
			if _, err := hold(link, true, trialAttributes(), func(d linkDetails) map[uint16]syscall.NetlinkRouteAttr { return d.slaveData }); err != nil {
				return 0, err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return 0, fmt.Errorf("bring up %s: %w", name, err)
		}
	}
	return index, nil
}

// pointTo has the bridge send the trial's frames out of one port only.
func pointTo(index int) error {
	err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
		State:        netlink.NUD_NOARP, // static; a permanent entry is an address of the bridge itself
		HardwareAddr: trialMAC,
	})
	if err != nil {
		return fmt.Errorf("point the bridge to the self-test's way out: %w", err)
	}
	return nil
}

func openTrialSocket(name string, receives bool) (int, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return -1, fmt.Errorf("find %s: %w", name, err)
	}
	protocol := uint16(0)
	if receives {
		protocol = networkOrder16(unix.ETH_P_IP)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return -1, fmt.Errorf("open a socket on %s: %w", name, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Protocol: protocol}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind a socket to %s: %w", name, err), unix.Close(fd))
	}
	return fd, nil
}

func networkOrder16(v uint16) uint16 { return v<<8 | v>>8 }

// Ports returns the indices of the ports by which frames come in and go out, for programs.
func (t *Trial) Ports() (in, out int) { return t.in, t.out }

// MAC returns where a frame has to be addressed to.
func (t *Trial) MAC() [6]byte { return [6]byte(trialMAC) }

// Send puts one Ethernet frame in.
func (t *Trial) Send(frame []byte) error {
	if _, err := unix.Write(t.sockets[0], frame); err != nil {
		return fmt.Errorf("send a self-test's frame: %w", err)
	}
	return nil
}

// Receive waits for one frame to come out, nil if none does in time.
func (t *Trial) Receive(patience time.Duration) ([]byte, error) {
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(t.sockets[1], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("wait for a self-test's frame: %w", err)
	}
	buffer := make([]byte, 2048)
	n, err := unix.Read(t.sockets[1], buffer)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("receive a self-test's frame: %w", err)
	}
	return buffer[:n], nil
}

// Close takes the trial down.
func (t *Trial) Close() error {
	var errs []error
	for i, fd := range t.sockets {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
			t.sockets[i] = -1
		}
	}
	return errors.Join(append(errs, t.line.Do(removeTrial))...)
}

// SweepTrial removes what a trial left behind that was cut off.
func (l *Line) SweepTrial() error {
	if l.box == nil {
		return nil
	}
	return l.box.Do(removeTrial)
}

// removeTrial removes a trial's cables, those of one that was cut off, too.
func removeTrial() error {
	var errs []error
	for _, name := range []string{trialInOuter, trialOutOuter} {
		link, err := findLink(name)
		if err == nil && link != nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove the self-test's cable %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
