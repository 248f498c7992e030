// Package bridge makes the wire out of two network ports: it moves them into a network namespace
// of their own, takes from them everything that would make a frame leave otherwise than it came,
// joins them by a bridge that neither learns nor speaks, and has netfilter queue what waits for a
// verdict. It speaks netlink only and starts no program.
//
// The steps of a start are methods of Line, to be taken in this order, with the fast path's
// programs attached in between:
//
//	TakePorts  ports into the namespace, down, and prepared
//	           (entry programs and exit gate are attached here)
//	MakeBridge bridge made and ports joined, still down
//	AddRule    what waits for a verdict is queued
//	RaisePorts ports up
//
// A step that returns an error has changed nothing; one that succeeds returns an Undo. Taken in
// reverse, the Undos lead back to exactly what was there before the first step.
package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/policy"
)

// Undo takes one step back.
type Undo func() error

// Line is one appliance's pair of ports and what joins them. Its methods are not safe for
// concurrent use.
type Line struct {
	layout Layout
	home   *Namespace // where the process is, and where Down gives the ports back
	box    *Namespace // where ports and bridge work; nil while it does not exist
	bare   bool       // no rules belong here, see Unruled
	held   string     // the port that HoldDown keeps down, "" if none

	eyes  sync.Mutex // of sight: a start that fails takes the namespace away beside a look
	sight *sight     // what Look keeps open, nil before the first
}

// State is how much of a line there is.
type State uint8

// The states.
const (
	Absent  State = iota // no bridge, no port in the namespace: the steps make it
	Partial              // some of it, as after a crash during a start: the steps complete it
	Up                   // all of it, perhaps in need of repair: Adopt takes it over
)

// String returns the state in a word.
func (s State) String() string {
	return [...]string{"absent", "partial", "up"}[s]
}

// Open returns the line that the layout describes, whether it is there yet or not. It changes
// nothing.
func Open(layout Layout) (*Line, error) {
	if err := layout.Check(); err != nil {
		return nil, err
	}
	home, err := CurrentNamespace()
	if err != nil {
		return nil, err
	}
	l := &Line{layout: layout, home: home}
	l.box, err = OpenNamespace(layout.Namespace)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		home.Close()
		return nil, err
	}
	return l, nil
}

// Close lets go of the line without changing it. A second Close is harmless.
func (l *Line) Close() error {
	err := l.shutEyes()
	if l.box == nil {
		return errors.Join(err, l.home.Close())
	}
	return errors.Join(err, l.box.Close(), l.home.Close())
}

// Layout returns what the line was opened with.
func (l *Line) Layout() Layout { return l.layout }

// Namespace returns the namespace of the ports and the bridge, nil while it does not exist. It is
// the line's to close.
func (l *Line) Namespace() *Namespace { return l.box }

// Do runs f where the ports and the bridge are; see Namespace.Do.
func (l *Line) Do(f func() error) error {
	if l.box == nil {
		return fmt.Errorf("enter network namespace %q: %w", l.layout.Namespace, fs.ErrNotExist)
	}
	return l.box.Do(f)
}

// Index returns the interface index of a side's port inside the line's namespace. It may change
// when the port moves.
func (l *Line) Index(side policy.Side) (index int, err error) {
	err = l.Do(func() error {
		link, err := netlink.LinkByName(l.layout.Port(side))
		if err != nil {
			return fmt.Errorf("find port %s: %w", l.layout.Port(side), err)
		}
		index = link.Attrs().Index
		return nil
	})
	return index, err
}

// State looks how much of the line there is.
func (l *Line) State() (State, error) {
	if l.box == nil {
		return Absent, nil
	}
	apart, err := l.box.apart(l.home)
	if err != nil {
		return Absent, err
	}
	var state State
	err = l.box.Do(func() error {
		br, err := findLink(l.layout.Bridge)
		if err != nil {
			return err
		}
		present, joined := 0, 0
		for _, name := range l.layout.ports() {
			port, err := findLink(name)
			if err != nil {
				return err
			}
			if port == nil {
				continue
			}
			present++
			if br != nil && port.Attrs().MasterIndex == br.Attrs().Index {
				joined++
			}
		}
		state = judgeState(br != nil, apart, present, joined)
		return nil
	})
	return state, err
}

// judgeState: a port that is where it was before the start, in the only namespace, is no trace of
// one.
func judgeState(bridge, apart bool, present, joined int) State {
	switch {
	case bridge && joined == 2:
		return Up
	case bridge || apart && present != 0:
		return Partial
	}
	return Absent
}

// apart reports whether the two are different namespaces.
func (n *Namespace) apart(other *Namespace) (bool, error) {
	same, err := n.Same(other)
	return !same, err
}

// findLink returns the link of that name in the namespace of the calling thread, nil where there
// is none.
func findLink(name string) (netlink.Link, error) { return findLinkBy(netlink.LinkByName, name) }

// findLinkBy is findLink in the namespace that byName looks in.
func findLinkBy(byName func(string) (netlink.Link, error), name string) (netlink.Link, error) {
	link, err := byName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", name, err)
	}
	return link, nil
}
