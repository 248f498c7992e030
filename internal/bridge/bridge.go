package bridge

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Link-local groups 01-80-C2-00-00-0X that are forwarded, a bit each (IEEE 802.1Q table 8-1). The
// bridge's own mask refuses 0 to 2; a port's takes all but 1, pause, which belongs to one cable.
// BPDUs (0) pass for as long as spanning tree is off.
const (
	bridgeGroups = 0xfff8
	portGroups   = 0xfffd
)

// bridgeAttributes make a bridge that forwards everything to the other port and has netfilter see
// the IP frames.
func bridgeAttributes() []attribute {
	return []attribute{
		{name: "stp_state", number: unix.IFLA_BR_STP_STATE, value: nl.Uint32Attr(0)},
		{name: "vlan_filtering", number: unix.IFLA_BR_VLAN_FILTERING, value: nl.Uint8Attr(0), optional: true},
		{name: "group_fwd_mask", number: unix.IFLA_BR_GROUP_FWD_MASK, value: nl.Uint16Attr(bridgeGroups)},
		{name: "mcast_snooping", number: unix.IFLA_BR_MCAST_SNOOPING, value: nl.Uint8Attr(0), optional: true},
		{name: "mcast_querier", number: unix.IFLA_BR_MCAST_QUERIER, value: nl.Uint8Attr(0), optional: true},
		{name: "nf_call_iptables", number: unix.IFLA_BR_NF_CALL_IPTABLES, value: nl.Uint8Attr(1)},
		{name: "nf_call_ip6tables", number: unix.IFLA_BR_NF_CALL_IP6TABLES, value: nl.Uint8Attr(1)},
		{name: "nf_call_arptables", number: unix.IFLA_BR_NF_CALL_ARPTABLES, value: nl.Uint8Attr(0)},
	}
}

// portAttributes make a port that learns nothing: with learning, one frame that carries a
// device's MAC from the other side would blackhole what waits for a verdict on its way to it.
func portAttributes() []attribute {
	off, on := nl.Uint8Attr(0), nl.Uint8Attr(1)
	return []attribute{
		{name: "learning", number: unix.IFLA_BRPORT_LEARNING, value: off},
		{name: "flood", number: unix.IFLA_BRPORT_UNICAST_FLOOD, value: on},
		{name: "mcast_flood", number: unix.IFLA_BRPORT_MCAST_FLOOD, value: on},
		{name: "bcast_flood", number: unix.IFLA_BRPORT_BCAST_FLOOD, value: on},
		{name: "group_fwd_mask", number: unix.IFLA_BRPORT_GROUP_FWD_MASK, value: nl.Uint16Attr(portGroups)},
		{name: "hairpin", number: unix.IFLA_BRPORT_MODE, value: off},
		{name: "guard", number: unix.IFLA_BRPORT_GUARD, value: off},
		{name: "isolated", number: unix.IFLA_BRPORT_ISOLATED, value: off},
		{name: "locked", number: unix.IFLA_BRPORT_LOCKED, value: off},
		{name: "neigh_suppress", number: unix.IFLA_BRPORT_NEIGH_SUPPRESS, value: off},
		{name: "proxy_arp", number: unix.IFLA_BRPORT_PROXYARP, value: off},
		{name: "proxy_arp_wifi", number: unix.IFLA_BRPORT_PROXYARP_WIFI, value: off},
		{name: "mcast_to_unicast", number: unix.IFLA_BRPORT_MCAST_TO_UCAST, value: off, optional: true},
	}
}

// netfilterSettings say which bridged frames the ip and ip6 hooks see: those under one VLAN tag
// too; not those inside PPPoE, which could not be judged as what they are.
func netfilterSettings() []setting {
	return []setting{
		{"bridge", "bridge-nf-filter-vlan-tagged", "1"},
		{"bridge", "bridge-nf-filter-pppoe-tagged", "0"},
		{"bridge", "bridge-nf-pass-vlan-input-dev", "0"},
	}
}

// MakeBridge creates the bridge, or takes the one that is there, joins the ports to it and brings
// the bridge up. The ports stay down. Every setting is read back, and one that did not take is an
// error.
func (l *Line) MakeBridge() (Undo, error) {
	var undos []Undo
	err := l.Do(func() error {
		for _, step := range []func() (Undo, error){l.setNetfilter, l.createBridge, l.joinPorts, l.raiseBridge} {
			undo, err := step()
			if err != nil {
				return err
			}
			undos = append(undos, undo)
		}
		return nil
	})
	undo := func() error {
		return l.Do(func() error { return unwind(undos) })
	}
	if err != nil {
		if len(undos) != 0 {
			err = errors.Join(err, undo())
		}
		return nil, err
	}
	return undo, nil
}

func (l *Line) setNetfilter() (Undo, error) {
	var was []setting
	undo := func() error {
		for _, s := range was {
			if err := WriteSysctl(s.value, s.family, s.name); err != nil {
				return err
			}
		}
		return nil
	}
	for _, s := range netfilterSettings() {
		value, err := ReadSysctl(s.family, s.name)
		if missing(err) {
			return nil, fmt.Errorf("let netfilter see bridged frames: this kernel has no br_netfilter loaded (modprobe br_netfilter): %w", err)
		}
		if err == nil && value != s.value {
			was = append(was, setting{s.family, s.name, value})
			err = WriteSysctl(s.value, s.family, s.name)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("let netfilter see bridged frames: %w", err), undo())
		}
	}
	return undo, nil
}

func (l *Line) createBridge() (Undo, error) {
	if err := checkBridge(l.layout); err != nil {
		return nil, err
	}
	br, err := findLink(l.layout.Bridge)
	if err != nil {
		return nil, err
	}
	undo := func() error { return nil }
	if br == nil {
		if br, err = addBridge(l.layout.Bridge); err != nil {
			return nil, err
		}
		undo = func() error { return deleteLink(l.layout.Bridge) }
	}
	if _, err := silence(br); err != nil {
		return nil, errors.Join(err, undo())
	}
	if _, err := holdBridge(br); err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

func addBridge(name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("create bridge %s: %w", name, err)
	}
	br, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", name, err)
	}
	return br, nil
}

func deleteLink(name string) error {
	link, err := findLink(name)
	if err != nil || link == nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("delete bridge %s: %w", name, err)
	}
	return nil
}

// holdBridge gives the bridge its attributes and returns the names of those that deviated.
func holdBridge(br netlink.Link) (changed []attribute, err error) {
	return hold(br, false, bridgeAttributes(), func(d linkDetails) map[uint16]syscall.NetlinkRouteAttr { return d.data })
}

// holdPort is holdBridge for a port that has joined.
func holdPort(port netlink.Link) (changed []attribute, err error) {
	return hold(port, true, portAttributes(), func(d linkDetails) map[uint16]syscall.NetlinkRouteAttr { return d.slaveData })
}

// hold writes those attributes that deviate and reads them back: the kernel ignores without a
// word what it does not know.
func hold(link netlink.Link, slave bool, want []attribute, pick func(linkDetails) map[uint16]syscall.NetlinkRouteAttr) ([]attribute, error) {
	name := link.Attrs().Name
	details, err := readLinkDetails(link.Attrs().Index)
	if err != nil {
		return nil, fmt.Errorf("read settings of %s: %w", name, err)
	}
	wrong := deviating(pick(details), want)
	if len(wrong) == 0 {
		return nil, nil
	}
	if err := writeAttributes(link.Attrs().Index, slave, wrong); err != nil {
		return nil, fmt.Errorf("set %s of %s: %w", names(wrong), name, err)
	}
	if details, err = readLinkDetails(link.Attrs().Index); err != nil {
		return nil, fmt.Errorf("read settings of %s back: %w", name, err)
	}
	if still := deviating(pick(details), want); len(still) != 0 {
		return nil, fmt.Errorf("set %s of %s: the kernel did not take it; does it lack CONFIG_BRIDGE_NETFILTER, or is it older than 6.6?", names(still), name)
	}
	return wrong, nil
}

func (l *Line) joinPorts() (Undo, error) {
	var joined []string
	undo := func() error {
		var errs []error
		for _, name := range joined {
			errs = append(errs, leave(name))
		}
		return errors.Join(errs...)
	}
	br, err := netlink.LinkByName(l.layout.Bridge)
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", l.layout.Bridge, err)
	}
	for _, name := range l.layout.ports() {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("find port %s: %w", name, err), undo())
		}
		if port.Attrs().MasterIndex != br.Attrs().Index {
			if err := netlink.LinkSetMaster(port, br); err != nil {
				return nil, errors.Join(fmt.Errorf("join port %s to bridge %s: %w", name, l.layout.Bridge, err), undo())
			}
			joined = append(joined, name)
		}
		if _, err := holdPort(port); err != nil {
			return nil, errors.Join(err, undo())
		}
	}
	return undo, nil
}

func leave(name string) error {
	port, err := findLink(name)
	if err != nil || port == nil {
		return err
	}
	if err := netlink.LinkSetNoMaster(port); err != nil {
		return fmt.Errorf("take port %s out of the bridge: %w", name, err)
	}
	return nil
}

func (l *Line) raiseBridge() (Undo, error) {
	raised, err := raise(l.layout.Bridge)
	if err != nil {
		return nil, err
	}
	return func() error {
		if !raised {
			return nil
		}
		return lower(l.layout.Bridge)
	}, nil
}
