package bridge

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setting is one of an interface's settings below /proc/sys/net/FAMILY/conf/INTERFACE.
type setting struct{ family, name, value string }

// silences keep the host from speaking through an interface, and from listening to it. In this
// order: an interface must not make itself an address while the next setting is written.
func silences() []setting {
	return []setting{
		{"ipv6", "addr_gen_mode", "1"}, // none: no link-local address by itself
		{"ipv6", "disable_ipv6", "1"},  // no neighbour discovery, no MLD report, no input
		{"ipv4", "arp_ignore", "8"},    // answer for no address of this host, wherever it is
		{"ipv4", "arp_announce", "2"},
		{"ipv4", "proxy_arp", "0"},
		{"ipv4", "forwarding", "0"},
		// No route leads out by the interface, so none that comes in is believed, even when it is
		// addressed to the interface's MAC and to another address of this host.
		{"ipv4", "rp_filter", "1"},
	}
}

// silence applies them to the interface, and switches ARP off in its flags; it returns the
// names of what it had to change.
func silence(link netlink.Link) (changed []string, err error) {
	name := link.Attrs().Name
	for _, s := range silences() {
		did, err := ensureSysctl(s.value, s.family, "conf", name, s.name)
		if missing(err) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return changed, fmt.Errorf("silence %s: %w", name, err)
		}
		if did {
			changed = append(changed, s.name)
		}
	}
	if link.Attrs().RawFlags&unix.IFF_NOARP == 0 {
		if err := netlink.LinkSetARPOff(link); err != nil {
			return changed, fmt.Errorf("switch ARP of %s off: %w", name, err)
		}
		changed = append(changed, "arp")
	}
	return changed, nil
}

// isSilent reports whether every setting of an interface is what silence makes it.
func isSilent(name string) (bool, error) {
	for _, s := range silences() {
		value, err := ReadSysctl(s.family, "conf", name, s.name)
		if missing(err) {
			continue
		}
		if err != nil || value != s.value {
			return false, err
		}
	}
	return true, nil
}

// readSettings returns the values of what silence changes, as they are at some interface, or in
// "default" as a new interface gets them.
func readSettings(name string) ([]setting, error) {
	var found []setting
	for _, s := range silences() {
		value, err := ReadSysctl(s.family, "conf", name, s.name)
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, setting{s.family, s.name, value})
	}
	return found, nil
}

// writeSettings gives an interface other values again, last first.
func writeSettings(name string, values []setting) error {
	for i := len(values) - 1; i >= 0; i-- {
		s := values[i]
		if _, err := ensureSysctl(s.value, s.family, "conf", name, s.name); err != nil {
			return fmt.Errorf("give %s its settings back: %w", name, err)
		}
	}
	return nil
}

// silenceNamespace sets for every interface to come what silence sets for one. Only for a
// namespace that is the line's alone.
func silenceNamespace() error {
	for _, scope := range []string{"all", "default"} {
		for _, s := range silences() {
			if scope == "all" && s.name == "addr_gen_mode" {
				continue // has no effect there, and some kernels refuse it
			}
			if _, err := ensureSysctl(s.value, s.family, "conf", scope, s.name); err != nil && !missing(err) {
				return fmt.Errorf("silence the namespace: %w", err)
			}
		}
	}
	return nil
}
