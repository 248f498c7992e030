package bridge

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Report says how far the ports can be made a wire.
type Report struct {
	Ports   [2]PortReport // a, b
	Remarks []string      // sentences for the operator; none is an error
}

// portState is a port as it was before TakePorts.
type portState struct {
	name         string
	place        *Namespace
	up           bool
	promiscuous  bool
	answeringARP bool
	settings     []setting
	offloads     portOffloads
}

// TakePorts checks the ports, creates the line's namespace if there is none, moves the ports there
// and prepares them: down, promiscuous, silent, and with every offload off that would change
// frames. Their MTU stays. Ports that are there already are prepared in place.
//
// A port's own qdiscs, and settings below /proc/sys/net that are neither default nor changed
// here, do not survive a move to another namespace and back.
func (l *Line) TakePorts() (Report, Undo, error) {
	var report Report
	if err := l.Check(); err != nil {
		return report, nil, err
	}
	undoNamespace, err := l.ensureBox()
	if err != nil {
		return report, nil, err
	}
	undos := []Undo{undoNamespace}
	for i, name := range l.layout.ports() {
		var undo Undo
		report.Ports[i], undo, err = l.takePort(name)
		if err != nil {
			return report, nil, errors.Join(err, unwind(undos))
		}
		undos = append(undos, undo)
	}
	report.remark()
	return report, func() error { return unwind(undos) }, nil
}

// unwind takes steps back, last first, and goes on past errors.
func unwind(undos []Undo) error {
	var errs []error
	for i := len(undos) - 1; i >= 0; i-- {
		errs = append(errs, undos[i]())
	}
	return errors.Join(errs...)
}

func (r *Report) remark() {
	a, b := r.Ports[0], r.Ports[1]
	if a.MTU != b.MTU {
		r.Remarks = append(r.Remarks, fmt.Sprintf(
			"port %s has an MTU of %d and port %s of %d: longer frames than the lesser are lost", a.Port, a.MTU, b.Port, b.MTU))
	}
	for _, p := range r.Ports {
		if len(p.StillOn) != 0 {
			r.Remarks = append(r.Remarks, fmt.Sprintf("the driver of port %s does not switch off %v", p.Port, p.StillOn))
		}
	}
}

func (l *Line) ensureBox() (Undo, error) {
	if l.box != nil {
		return func() error { return nil }, nil
	}
	box, _, err := EnsureNamespace(l.layout.Namespace)
	if err != nil {
		return nil, err
	}
	l.box = box
	undo := func() error {
		l.box = nil
		return errors.Join(l.shutEyes(), box.Remove())
	}
	if err := box.Do(silenceNamespace); err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

func (l *Line) takePort(name string) (PortReport, Undo, error) {
	var report PortReport
	places, err := l.places()
	if err != nil {
		return report, nil, err
	}
	place, err := l.locate(name, places)
	if err != nil {
		return report, nil, err
	}
	was := portState{name: name, place: place}
	undo := func() error { return l.putBack(was) }
	if err := place.Do(func() error { return was.read() }); err != nil {
		return report, nil, err
	}
	if err := movePort(name, place, l.box); err != nil {
		return report, nil, errors.Join(err, undo())
	}
	err = l.box.Do(func() (err error) {
		was.offloads, report, err = preparePort(name)
		return err
	})
	if err != nil {
		return report, nil, errors.Join(fmt.Errorf("prepare port %s: %w", name, err), undo())
	}
	return report, undo, nil
}

func (s *portState) read() error {
	link, err := netlink.LinkByName(s.name)
	if err != nil {
		return fmt.Errorf("read port %s: %w", s.name, err)
	}
	s.up = link.Attrs().Flags&net.FlagUp != 0
	s.promiscuous = link.Attrs().RawFlags&unix.IFF_PROMISC != 0
	s.answeringARP = link.Attrs().RawFlags&unix.IFF_NOARP == 0
	s.settings, err = readSettings(s.name)
	return err
}

// movePort takes a port down, and from one namespace to another where they differ.
func movePort(name string, from, to *Namespace) error {
	apart, err := from.apart(to)
	if err != nil {
		return err
	}
	return from.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find port %s: %w", name, err)
		}
		if err := netlink.LinkSetDown(link); err != nil {
			return fmt.Errorf("take port %s down: %w", name, err)
		}
		if !apart {
			return nil
		}
		if err := netlink.LinkSetNsFd(link, to.Fd()); err != nil {
			return fmt.Errorf("move port %s to %v: %w", name, to, err)
		}
		return nil
	})
}

// preparePort makes a port that is down a silent end of a wire.
func preparePort(name string) (was portOffloads, report PortReport, err error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return was, report, err
	}
	if _, err := silence(link); err != nil {
		return was, report, err
	}
	if err := netlink.SetPromiscOn(link); err != nil {
		return was, report, fmt.Errorf("make promiscuous: %w", err)
	}
	was, report, err = switchOff(name, true)
	report.MTU = link.Attrs().MTU
	return was, report, err
}

// putBack makes a port what it was, where it was. It may be anywhere between.
func (l *Line) putBack(was portState) error {
	places := []*Namespace{was.place, l.box}
	if same, err := was.place.Same(l.box); err != nil || same {
		places = places[:1]
	}
	place, err := l.locate(was.name, places)
	if err != nil {
		return fmt.Errorf("put port back: %w", err)
	}
	if err := place.Do(func() error { return was.answerARP() }); err != nil {
		return fmt.Errorf("put port %s back: %w", was.name, err)
	}
	if err := movePort(was.name, place, was.place); err != nil {
		return fmt.Errorf("put port back: %w", err)
	}
	if err := was.place.Do(was.restore); err != nil {
		return fmt.Errorf("put port %s back: %w", was.name, err)
	}
	return nil
}

// answerARP takes the port down and gives ARP back to it, if it had that. It comes before the port
// moves: for a port without ARP the kernel begins, in its new namespace, with other settings.
func (s *portState) answerARP() error {
	if err := lower(s.name); err != nil || !s.answeringARP {
		return err
	}
	link, err := netlink.LinkByName(s.name)
	if err != nil {
		return err
	}
	return netlink.LinkSetARPOn(link)
}

func (s *portState) restore() error {
	link, err := netlink.LinkByName(s.name)
	if err != nil {
		return err
	}
	errs := []error{switchBack(s.name, s.offloads)}
	if !s.promiscuous {
		errs = append(errs, netlink.SetPromiscOff(link))
	}
	errs = append(errs, writeSettings(s.name, s.settings))
	if s.up {
		errs = append(errs, netlink.LinkSetUp(link))
	}
	return errors.Join(errs...)
}
