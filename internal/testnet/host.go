package testnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
)

// HostInterface is the name of every host's one network interface.
const HostInterface = "eth0"

// Host is one device: a namespace with one interface, HostInterface.
type Host struct {
	*bridge.Namespace
	Label     string
	Side      policy.Side
	MAC       net.HardwareAddr
	Addresses []netip.Prefix
}

// newHost makes the namespace; the cable comes later. Addresses are written "198.18.0.10" (the
// prefix is then 24 bits, for IPv6 64) or with a prefix length.
func (l *Lab) newHost(side policy.Side, label, mac string, addresses []string) (*Host, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil, fmt.Errorf("make host %s: %w", label, err)
	}
	h := &Host{Label: label, Side: side, MAC: hw}
	for _, a := range addresses {
		p, err := parsePrefix(a)
		if err != nil {
			return nil, fmt.Errorf("make host %s: %w", label, err)
		}
		h.Addresses = append(h.Addresses, p)
	}
	if h.Namespace, err = l.Namespace(label); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	if err := h.Do(h.quieten); err != nil {
		return nil, fmt.Errorf("make host %s: %w", label, err)
	}
	return h, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.Is4() {
		return netip.PrefixFrom(a, 24), nil
	}
	return netip.PrefixFrom(a, 64), nil
}

// quieten keeps a host from saying anything by itself: no IPv6 unless it has such an address,
// and then neither router solicitations nor duplicate address detection.
func (h *Host) quieten() error {
	settings := [][]string{
		{"0", "accept_ra"},
		{"0", "router_solicitations"},
		{"0", "accept_dad"},
	}
	if !slices.ContainsFunc(h.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		settings = append(settings, []string{"1", "disable_ipv6"})
	}
	for _, s := range settings {
		for _, scope := range []string{"all", "default"} {
			if err := bridge.WriteSysctl(s[0], "ipv6", "conf", scope, s[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// configure gives the interface its hardware and IP addresses and brings it up, and the loopback
// interface with it. It runs inside the host.
func (h *Host) configure() error {
	link, err := netlink.LinkByName(HostInterface)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", HostInterface, h.Label, err)
	}
	if err := netlink.LinkSetHardwareAddr(link, h.MAC); err != nil {
		return fmt.Errorf("set MAC of %s: %w", h.Label, err)
	}
	if err := prepareEnd(HostInterface); err != nil {
		return err
	}
	if lo, err := netlink.LinkByName("lo"); err == nil {
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring up loopback of %s: %w", h.Label, err)
		}
	}
	for _, p := range h.Addresses {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
			return fmt.Errorf("give %s the address %v: %w", h.Label, p, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s of %s: %w", HostInterface, h.Label, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Address returns the host's first address.
func (h *Host) Address() netip.Addr { return h.Addresses[0].Addr() }

// AddNeighbour makes the host know another's MAC address for good, so that it never asks.
func (h *Host) AddNeighbour(other *Host) error {
	if err := h.eachNeighbour(other, netlink.NeighSet); err != nil {
		return fmt.Errorf("teach %s the address of %s: %w", h.Label, other.Label, err)
	}
	return nil
}

// RemoveNeighbour takes back what AddNeighbour did: the host asks as soon as it has something to send.
func (h *Host) RemoveNeighbour(other *Host) error {
	if err := h.eachNeighbour(other, netlink.NeighDel); err != nil {
		return fmt.Errorf("have %s forget the address of %s: %w", h.Label, other.Label, err)
	}
	return nil
}

// eachNeighbour does something with the permanent entry of each of another's addresses.
func (h *Host) eachNeighbour(other *Host, do func(*netlink.Neigh) error) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(HostInterface)
		if err != nil {
			return err
		}
		for _, p := range other.Addresses {
			err := do(&netlink.Neigh{
				LinkIndex:    link.Attrs().Index,
				State:        netlink.NUD_PERMANENT,
				IP:           p.Addr().AsSlice(),
				HardwareAddr: other.MAC,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// KeepNeighbours makes the host remember the MAC addresses of its IPv4 neighbours while its link is lost. Linux
// forgets them by default and asks again as soon as it has something to send; where that question falls into the
// loss, the next one follows a second later (arp_evict_nocarrier, retrans_time_ms: Documentation/networking/ip-sysctl.rst).
func (h *Host) KeepNeighbours() error {
	return h.Do(func() error {
		if err := bridge.WriteSysctl("0", "ipv4", "conf", "all", "arp_evict_nocarrier"); err != nil {
			return fmt.Errorf("have %s keep its neighbours: %w", h.Label, err)
		}
		return nil
	})
}

// AddRoute sends what is for dst to the gateway.
func (h *Host) AddRoute(dst netip.Prefix, gateway netip.Addr) error {
	return h.Do(func() error {
		err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(dst), Gw: gateway.AsSlice()})
		if err != nil {
			return fmt.Errorf("route %v of %s by %v: %w", dst, h.Label, gateway, err)
		}
		return nil
	})
}

// unplug deletes the host's interface, and by that its other end wherever that has gone. The
// kernel would do so too, but later.
func (h *Host) unplug() error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(HostInterface)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find %s of %s: %w", HostInterface, h.Label, err)
		}
		return netlink.LinkDel(link)
	})
}
