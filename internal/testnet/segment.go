package testnet

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
)

// segment is the network on one side of the box: one host on a cable, or several on a switch.
type segment struct {
	port  string
	first *Host
	lan   *bridge.Namespace // the switch's, nil while there is one host
}

const (
	switchName   = "switch"
	switchUplink = "uplink"
)

func (l *Lab) firstHost(side policy.Side, port, label, mac string, addresses ...string) (*Host, error) {
	h, err := l.newHost(side, label, mac, addresses)
	if err != nil {
		return nil, err
	}
	more := 0
	if slices.Contains(l.withoutNative, port) {
		more = 1
	}
	if err := cable(l.Box, port, h.Namespace, HostInterface, l.queues, more); err != nil {
		return nil, err
	}
	l.segments[side] = &segment{port: port, first: h}
	return h, h.Do(h.configure)
}

// Host adds a device to a side (policy.SideA is the cell's). The side's second host puts a switch
// between the box and the hosts, for which the first host is unplugged for a moment: add hosts
// before anything runs. The switch learns, floods the rest, and passes link-local groups on.
func (l *Lab) Host(side policy.Side, label, mac string, addresses ...string) (*Host, error) {
	seg := l.segments[side]
	if seg == nil {
		return nil, fmt.Errorf("add host %s: a host lives on side a or b", label)
	}
	if seg.lan == nil {
		if err := l.insertSwitch(seg); err != nil {
			return nil, fmt.Errorf("add a switch for host %s: %w", label, err)
		}
	}
	h, err := l.newHost(side, label, mac, addresses)
	if err != nil {
		return nil, err
	}
	return h, seg.plug(h)
}

func (l *Lab) insertSwitch(seg *segment) error {
	lan, err := l.Namespace(seg.first.Label + "-lan")
	if err != nil {
		return err
	}
	if err := lan.Do(makeSwitch); err != nil {
		return err
	}
	if err := seg.first.Do(func() error { return handOver(HostInterface, switchUplink, lan) }); err != nil {
		return err
	}
	if err := lan.Do(func() error { return joinSwitch(switchUplink) }); err != nil {
		return err
	}
	seg.lan = lan
	return seg.plug(seg.first)
}

// plug joins a host to the segment's switch.
func (s *segment) plug(h *Host) error {
	if err := cable(s.lan, h.Label, h.Namespace, HostInterface, 1, 0); err != nil {
		return err
	}
	if err := s.lan.Do(func() error { return joinSwitch(h.Label) }); err != nil {
		return err
	}
	return h.Do(h.configure)
}

// handOver moves a host's interface to another namespace, where it has another name. Its MAC
// address stays the host's, or a switch would hold it for its own.
func handOver(name, newName string, to *bridge.Namespace) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	if err := netlink.LinkSetHardwareAddr(link, []byte{0x02, 0xff, 0, 0, 0, byte(link.Attrs().Index)}); err != nil {
		return err
	}
	if err := netlink.LinkSetName(link, newName); err != nil {
		return err
	}
	return netlink.LinkSetNsFd(link, to.Fd())
}

func makeSwitch() error {
	for _, scope := range []string{"all", "default"} {
		if err := bridge.WriteSysctl("1", "ipv6", "conf", scope, "disable_ipv6"); err != nil {
			return err
		}
	}
	snooping := false
	br := &netlink.Bridge{LinkAttrs: linkCalled(switchName), MulticastSnooping: &snooping}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("make a switch: %w", err)
	}
	return netlink.LinkSetUp(br)
}

// linkLocalGroups is every group 01:80:c2:00:00:0X but pause, which no bridge may pass.
const linkLocalGroups = 0xfffd

func joinSwitch(port string) error {
	br, err := netlink.LinkByName(switchName)
	if err != nil {
		return fmt.Errorf("find the switch: %w", err)
	}
	link, err := netlink.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find the switch's port %s: %w", port, err)
	}
	if err := prepareEnd(port); err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(link, br); err != nil {
		return fmt.Errorf("join port %s to the switch: %w", port, err)
	}
	if err := netlink.LinkSetBRSlaveGroupFwdMask(link, linkLocalGroups); err != nil {
		return fmt.Errorf("let port %s pass link-local groups: %w", port, err)
	}
	return netlink.LinkSetUp(link)
}
