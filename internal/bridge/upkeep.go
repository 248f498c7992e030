package bridge

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/policy"
)

// Condition is what a look at a line found that should be up.
type Condition struct {
	// Broken says what is not where it belongs, in words; empty is nothing. Repair mends it.
	Broken []string
	// Present and Carrier are by port, a first: whether there is such an interface, and whether it has
	// a link. A port that is held down has none.
	Present, Carrier [2]bool
}

// Look is a look at what somebody with rights could have taken away: the bridge, a port's place in it,
// a port that was set down, the netfilter rules. It changes nothing, and is cheap enough to be taken
// ten times a second; single settings are Adopt's to compare.
func (l *Line) Look() (c Condition, err error) {
	l.eyes.Lock()
	defer l.eyes.Unlock()
	if l.sight == nil {
		err := l.Do(func() (err error) {
			l.sight, err = openSight()
			return err
		})
		if err != nil {
			return c, err
		}
	}
	if err := l.look(l.sight, &c); err != nil {
		// Should its sockets be of no use any more, the next look has others.
		return c, errors.Join(err, l.closeSight())
	}
	return c, nil
}

// shutEyes closes what Look keeps open: it holds the namespace.
func (l *Line) shutEyes() error {
	l.eyes.Lock()
	defer l.eyes.Unlock()
	return l.closeSight()
}

func (l *Line) closeSight() error {
	if l.sight == nil {
		return nil
	}
	s := l.sight
	l.sight = nil
	return s.close()
}

func (l *Line) look(s *sight, c *Condition) error {
	br, err := s.link(l.layout.Bridge)
	if err != nil {
		return err
	}
	if br == nil {
		c.Broken = append(c.Broken, "bridge "+l.layout.Bridge)
	}
	for i, name := range l.layout.ports() {
		port, err := s.link(name)
		if err != nil {
			return err
		}
		if port == nil {
			continue
		}
		c.Present[i] = true
		c.Carrier[i] = port.RawFlags&unix.IFF_LOWER_UP != 0
		if br != nil && port.MasterIndex != br.Index {
			c.Broken = append(c.Broken, fmt.Sprintf("place of %s in the bridge", name))
		}
		if port.RawFlags&unix.IFF_UP == 0 && l.held != name {
			c.Broken = append(c.Broken, name+" up")
		}
	}
	if br != nil && br.RawFlags&unix.IFF_UP == 0 {
		c.Broken = append(c.Broken, l.layout.Bridge+" up")
	}
	if l.bare {
		return nil
	}
	stand, err := s.rulesStand(l)
	if err == nil && !stand {
		c.Broken = append(c.Broken, "netfilter rules")
	}
	return err
}

// Repair mends a line that should be up, the bridge included, and returns what it mended, in words.
// The entry programs and the exit gate have to stand on the ports: the bridge may be there, and a
// port come up, before everything else is in place.
func (l *Line) Repair() (repaired []string, err error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	if state != Up {
		if _, err := l.MakeBridge(); err != nil {
			return nil, err
		}
		repaired = append(repaired, "bridge "+l.layout.Bridge)
	}
	more, err := l.Adopt()
	return append(repaired, more...), err
}

// HoldDown takes a side's port down and keeps Repair and Adopt from bringing it up again, so that what
// is connected to it sees that the line is interrupted. One port can be held at a time: with both
// down nobody would notice that a link is back.
func (l *Line) HoldDown(side policy.Side) error {
	name := l.layout.Port(side)
	if l.held != "" && l.held != name {
		return fmt.Errorf("hold port %s down: %s is held down already", name, l.held)
	}
	l.held = name
	return l.Do(func() error { return lower(name) })
}

// LetUp brings the port that is held down up again. The entry programs have to stand on it.
func (l *Line) LetUp() error {
	if l.held == "" {
		return nil
	}
	name := l.held
	l.held = ""
	return l.Do(func() error {
		_, err := raise(name)
		return err
	})
}

// Unruled says whether the line is a bare bridge, on which no netfilter rules belong: Look and Repair do
// without them then, and those that AddRule adds for a self-test leave alone what has no mark.
func (l *Line) Unruled(bare bool) { l.bare = bare }

// Held returns the side whose port is held down, SideAny if none is.
func (l *Line) Held() policy.Side {
	switch l.held {
	case l.layout.PortA:
		return policy.SideA
	case l.layout.PortB:
		return policy.SideB
	}
	return policy.SideAny
}

// Changes tells of changes of links in the line's namespace until done is closed: a value may stand
// for several, and one that finds no reader is not repeated. Look says what changed.
func (l *Line) Changes(done <-chan struct{}) (<-chan struct{}, error) {
	changes := make(chan struct{}, 1)
	updates := make(chan netlink.LinkUpdate, 64)
	err := l.Do(func() error { return netlink.LinkSubscribe(updates, done) })
	if err != nil {
		return nil, errors.Join(errors.New("watch the ports' links"), err)
	}
	go func() {
		for range updates {
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}
