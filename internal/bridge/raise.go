package bridge

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forwardingTimeout bounds the wait for the bridge to notice a carrier, which the kernel tells it
// at most a second after the fact.
const forwardingTimeout = 3 * time.Second

// RaisePorts brings the ports up, and returns once the bridge forwards between those that have a
// carrier. Offloads are switched off once more first, since some drivers change them when an XDP
// program is attached; the reports tell of those.
func (l *Line) RaisePorts() (reports [2]PortReport, undo Undo, err error) {
	var raised []string
	undo = func() error {
		return l.Do(func() error {
			var errs []error
			for _, name := range raised {
				errs = append(errs, lower(name))
			}
			return errors.Join(errs...)
		})
	}
	err = l.Do(func() error {
		for i, name := range l.layout.ports() {
			if _, reports[i], err = switchOff(name, false); err != nil {
				return err
			}
			did, err := raise(name)
			if err != nil {
				return err
			}
			if did {
				raised = append(raised, name)
			}
		}
		return l.awaitForwarding()
	})
	if err != nil {
		return reports, nil, errors.Join(err, undo())
	}
	return reports, undo, nil
}

// raise brings a port or the bridge up and reports whether it was down.
func raise(name string) (bool, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return false, fmt.Errorf("find %s: %w", name, err)
	}
	if link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return false, nil
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return false, fmt.Errorf("bring up %s: %w", name, err)
	}
	return true, nil
}

// lower takes a port or the bridge down, if there is one.
func lower(name string) error {
	link, err := findLink(name)
	if err != nil || link == nil {
		return err
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("take %s down: %w", name, err)
	}
	return nil
}

// awaitForwarding waits until no port has a carrier that the bridge has not noticed. A port
// without a cable is none to wait for.
func (l *Line) awaitForwarding() error {
	names := l.layout.ports()
	return awaitForwarding(names[:]...)
}

func awaitForwarding(ports ...string) error {
	deadline := time.Now().Add(forwardingTimeout)
	for _, name := range ports {
		for {
			waiting, err := carrierUnnoticed(name)
			if err != nil {
				return err
			}
			if !waiting {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("bring up port %s: the bridge does not forward to it after %v", name, forwardingTimeout)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

func carrierUnnoticed(name string) (bool, error) {
	port, err := netlink.LinkByName(name)
	if err != nil {
		return false, fmt.Errorf("find port %s: %w", name, err)
	}
	if port.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
		return false, nil
	}
	details, err := readLinkDetails(port.Attrs().Index)
	if err != nil {
		return false, err
	}
	const forwarding = 3 // BR_STATE_FORWARDING
	state := details.slaveData[unix.IFLA_BRPORT_STATE].Value
	return len(state) != 1 || state[0] != forwarding, nil
}
