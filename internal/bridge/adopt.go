package bridge

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Adopt takes over a line that is Up, as the daemon finds it after a restart: it verifies every
// setting, repairs those that somebody changed, and returns what it repaired, in words. Frames
// flow all the while: nothing that is right is touched, and no port is taken down. (An offload
// that somebody switched on is switched off again, for which some drivers restart their link.)
//
// The entry programs and the exit gate have to be attached before: a port that is down is
// brought up.
func (l *Line) Adopt() (repaired []string, err error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	if state != Up {
		return nil, fmt.Errorf("adopt the line: it is %v, and has to be made by the steps", state)
	}
	apart, err := l.box.apart(l.home)
	if err != nil {
		return nil, err
	}
	err = l.box.Do(func() error {
		if apart {
			if err := silenceNamespace(); err != nil {
				return err
			}
		}
		for _, repair := range []func(*[]string) error{
			repairNetfilter, l.repairBridge, l.repairPorts, l.repairRules, l.repairUp,
		} {
			if err := repair(&repaired); err != nil {
				return err
			}
		}
		return l.awaitForwarding()
	})
	if err != nil {
		err = fmt.Errorf("adopt the line: %w", err)
	}
	return repaired, err
}

func repairNetfilter(repaired *[]string) error {
	for _, s := range netfilterSettings() {
		did, err := ensureSysctl(s.value, s.family, s.name)
		if err != nil {
			return err
		}
		if did {
			*repaired = append(*repaired, s.name)
		}
	}
	return nil
}

func (l *Line) repairBridge(repaired *[]string) error {
	br, err := netlink.LinkByName(l.layout.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", l.layout.Bridge, err)
	}
	return repairLink(br, holdBridge, repaired)
}

// repairLink repairs what bridge and ports have in common.
func repairLink(link netlink.Link, hold func(netlink.Link) ([]attribute, error), repaired *[]string) error {
	name := link.Attrs().Name
	silenced, err := silence(link)
	if err != nil {
		return err
	}
	held, err := hold(link)
	if err != nil {
		return err
	}
	for _, what := range silenced {
		*repaired = append(*repaired, fmt.Sprintf("%s of %s", what, name))
	}
	for _, a := range held {
		*repaired = append(*repaired, fmt.Sprintf("%s of %s", a.name, name))
	}
	return nil
}

func (l *Line) repairPorts(repaired *[]string) error {
	for _, name := range l.layout.ports() {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find port %s: %w", name, err)
		}
		if err := repairLink(port, holdPort, repaired); err != nil {
			return err
		}
		if port.Attrs().RawFlags&unix.IFF_PROMISC == 0 {
			if err := netlink.SetPromiscOn(port); err != nil {
				return fmt.Errorf("make port %s promiscuous: %w", name, err)
			}
			*repaired = append(*repaired, "promiscuous mode of "+name)
		}
		_, report, err := switchOff(name, false)
		if err != nil {
			return err
		}
		for _, offload := range report.SwitchedOff {
			*repaired = append(*repaired, fmt.Sprintf("%s of %s", offload, name))
		}
	}
	return nil
}

func (l *Line) repairRules(repaired *[]string) error {
	if l.bare {
		return nil
	}
	present, err := l.ruleset().present()
	if err != nil || present {
		return err
	}
	if err := l.ruleset().replace(); err != nil {
		return err
	}
	*repaired = append(*repaired, "netfilter rules")
	return nil
}

// repairUp comes last: a port that is brought up meets everything else in place.
func (l *Line) repairUp(repaired *[]string) error {
	names := l.layout.ports()
	for _, name := range []string{l.layout.Bridge, names[0], names[1]} {
		if name == l.held {
			continue
		}
		did, err := raise(name)
		if err != nil {
			return err
		}
		if did {
			*repaired = append(*repaired, name+" up")
		}
	}
	return nil
}

// Down takes the line apart, whatever of it there is, and gives the ports to the namespace that
// the process is in: down, with the settings that an interface has by default, since nothing is
// remembered of what they had. Pause and EEE stay off. The line's namespace goes, unless
// somebody put other interfaces there. A second Down does nothing.
func (l *Line) Down() error {
	if l.box == nil {
		return nil
	}
	if err := l.SweepTrial(); err != nil {
		return err
	}
	apart, err := l.box.apart(l.home)
	if err != nil {
		return err
	}
	state, err := l.State()
	if err != nil {
		return err
	}
	taken, err := l.portsTaken()
	if err != nil {
		return err
	}
	var errs []error
	if state != Absent || taken {
		errs = append(errs, l.box.Do(l.dismantle))
		for _, name := range l.layout.ports() {
			errs = append(errs, l.giveBack(name, apart))
		}
	} else {
		errs = append(errs, l.RemoveRule())
	}
	if err := errors.Join(errs...); err != nil || !apart {
		return err
	}
	return l.removeBox()
}

// portsTaken reports whether a port is as TakePorts leaves it: promiscuous, and silent in every way.
// In the only namespace that is all there is of a start that ended before there was a bridge.
func (l *Line) portsTaken() (taken bool, err error) {
	err = l.box.Do(func() error {
		for _, name := range l.layout.ports() {
			port, err := findLink(name)
			if err != nil {
				return err
			}
			const both = unix.IFF_PROMISC | unix.IFF_NOARP
			if port == nil || port.Attrs().RawFlags&both != both {
				continue
			}
			silent, err := isSilent(name)
			if err != nil {
				return err
			}
			taken = taken || silent
		}
		return nil
	})
	return taken, err
}

// dismantle takes the ports down first: nothing passes while the rest goes.
func (l *Line) dismantle() error {
	var errs []error
	for _, name := range l.layout.ports() {
		errs = append(errs, lower(name))
	}
	errs = append(errs, removeRules(), checkBridge(l.layout))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take the line apart: %w", err)
	}
	return deleteLink(l.layout.Bridge)
}

// giveBack makes a port, if it is in the line's namespace, an ordinary one and moves it home.
func (l *Line) giveBack(name string, apart bool) error {
	here := false
	err := l.box.Do(func() error {
		port, err := findLink(name)
		if err != nil || port == nil {
			return err
		}
		here = true
		return errors.Join(
			netlink.SetPromiscOff(port),
			netlink.LinkSetARPOn(port),
			switchDefaults(port),
		)
	})
	if err != nil {
		return fmt.Errorf("give port %s back: %w", name, err)
	}
	if !here {
		return nil
	}
	if apart {
		if err := movePort(name, l.box, l.home); err != nil {
			return fmt.Errorf("give port %s back: %w", name, err)
		}
	}
	return l.home.Do(func() error {
		defaults, err := readSettings("default")
		if err != nil {
			return err
		}
		return writeSettings(name, defaults)
	})
}

// removeBox removes the line's namespace if nothing is left in it but what every namespace has.
func (l *Line) removeBox() error {
	err := l.box.Do(func() error {
		left, err := interfaceNames()
		if err != nil {
			return err
		}
		if left != noInterfaces {
			return fmt.Errorf("remove %v: it still has %s, which is not the line's", l.box, left)
		}
		return nil
	})
	if err != nil {
		return err
	}
	box := l.box
	l.box = nil
	return errors.Join(l.shutEyes(), box.Remove())
}
