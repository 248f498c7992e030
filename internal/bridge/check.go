package bridge

import (
	"fmt"
	"net"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
)

// Check returns an error where the ports or the bridge cannot be used without taking something
// from somebody else: nothing that a person set up is ever removed.
func (l *Line) Check() error {
	places, err := l.places()
	if err != nil {
		return err
	}
	for _, name := range l.layout.ports() {
		if err := l.checkPort(name, places); err != nil {
			return err
		}
	}
	if l.box == nil {
		return nil
	}
	return l.box.Do(func() error { return checkBridge(l.layout) })
}

// places are the namespaces in which a port may be, without repetition.
func (l *Line) places() ([]*Namespace, error) {
	if l.box == nil {
		return []*Namespace{l.home}, nil
	}
	apart, err := l.box.apart(l.home)
	if err != nil || !apart {
		return []*Namespace{l.home}, err
	}
	return []*Namespace{l.home, l.box}, nil
}

// locate returns the place that holds the port.
func (l *Line) locate(name string, places []*Namespace) (*Namespace, error) {
	var found []*Namespace
	var others []string
	for _, place := range places {
		err := place.Do(func() error {
			link, err := findLink(name)
			if err != nil {
				return err
			}
			if link != nil {
				found = append(found, place)
			}
			existing, err := interfaceNames()
			others = append(others, fmt.Sprintf("%v has %s", place, existing))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("find port %s: there is no such interface; %s", name, strings.Join(others, "; "))
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("find port %s: both %v and %v have an interface of that name; rename the one that is not meant", name, found[0], found[1])
}

const noInterfaces = "none"

// isFallbackTunnel knows the interfaces that the kernel puts into every namespace where the modules
// of tunnels are loaded (net.core.fb_tunnels_only_for_init_net). Nobody can delete or move them.
func isFallbackTunnel(name string) bool {
	switch name {
	case "tunl0", "sit0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6tnl0", "ip6gre0", "ip6_vti0":
		return true
	}
	return false
}

// interfaceNames lists those of the calling thread's namespace for a message, without what every
// namespace has.
func interfaceNames() (string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	var all []string
	for _, link := range links {
		if link.Attrs().Flags&net.FlagLoopback == 0 && !isFallbackTunnel(link.Attrs().Name) {
			all = append(all, link.Attrs().Name)
		}
	}
	if len(all) == 0 {
		return noInterfaces, nil
	}
	sort.Strings(all)
	return strings.Join(all, ", "), nil
}

func (l *Line) checkPort(name string, places []*Namespace) error {
	place, err := l.locate(name, places)
	if err != nil {
		return err
	}
	return place.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find port %s: %w", name, err)
		}
		for _, check := range []func(netlink.Link) error{checkKind, checkStacked, checkAddresses} {
			if err := check(link); err != nil {
				return fmt.Errorf("check port %s in %v: %w", name, place, err)
			}
		}
		return l.checkMaster(link, place)
	})
}

func checkKind(link netlink.Link) error {
	switch {
	case link.Attrs().Flags&net.FlagLoopback != 0:
		return fmt.Errorf("it is the loopback interface, and not a port")
	case link.Type() == "bridge":
		return fmt.Errorf("it is a bridge; name one of its ports, or delete it")
	case link.Attrs().EncapType != "ether":
		return fmt.Errorf("it is of type %s, and a port has to be Ethernet", link.Attrs().EncapType)
	}
	return nil
}

// checkAddresses refuses a port that is somebody's way into this machine: it may be the one over
// which the operator is logged in.
func checkAddresses(link netlink.Link) error {
	addresses, err := configuredAddresses(link.Attrs().Index)
	if err != nil {
		return err
	}
	if len(addresses) != 0 {
		return fmt.Errorf("it has the IP address %v; if it is the right port, delete the address first (ip address delete %v dev %s)",
			addresses[0], addresses[0], link.Attrs().Name)
	}
	return nil
}

// checkStacked refuses a port that carries other interfaces, such as VLANs: the kernel deletes
// them when the port moves to another namespace. A virtual port's peer is not stacked on it.
func checkStacked(link netlink.Link) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, other := range links {
		if other.Attrs().ParentIndex == link.Attrs().Index && other.Type() != "veth" && other.Attrs().NetNsID < 0 {
			return fmt.Errorf("it carries the %s interface %s; delete that first", other.Type(), other.Attrs().Name)
		}
	}
	return nil
}

// checkMaster refuses a port that belongs to a bridge, bond or the like that is not the line's.
func (l *Line) checkMaster(port netlink.Link, place *Namespace) error {
	index := port.Attrs().MasterIndex
	if index == 0 {
		return nil
	}
	master, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Errorf("find the interface that port %s belongs to: %w", port.Attrs().Name, err)
	}
	if l.box != nil && master.Type() == "bridge" && master.Attrs().Name == l.layout.Bridge {
		if ours, err := place.Same(l.box); err != nil || ours {
			return err
		}
	}
	return fmt.Errorf("check port %s: it belongs to the %s %s; take it out first (ip link set %s nomaster)",
		port.Attrs().Name, master.Type(), master.Attrs().Name, port.Attrs().Name)
}

// checkBridge refuses an interface of the bridge's name that is none, that has an address, or
// that joins others than the line's ports.
func checkBridge(layout Layout) error {
	br, err := findLink(layout.Bridge)
	if err != nil || br == nil {
		return err
	}
	if br.Type() != "bridge" {
		return fmt.Errorf("check bridge %s: there is an interface of that name, and it is a %s", layout.Bridge, br.Type())
	}
	if err := checkAddresses(br); err != nil {
		return fmt.Errorf("check bridge %s: %w", layout.Bridge, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		if link.Attrs().MasterIndex == br.Attrs().Index && name != layout.PortA && name != layout.PortB {
			return fmt.Errorf("check bridge %s: it also joins %s; take that out first (ip link set %s nomaster)", layout.Bridge, name, name)
		}
	}
	return nil
}
