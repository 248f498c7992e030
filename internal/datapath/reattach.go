package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/penstock-ot/penstock/bpf"
)

// Reattach puts our programs back on the ports that somebody took them off, and returns which, in
// words; it costs a system call for each program that is in its place. Called in the ports' network
// namespace, after AttachGate. A port without its entry program is closed by the exit gate, and one
// without its gate lets nothing out that the entry program did not redirect: neither is a way past.
func (d *Datapath) Reattach(a, b Port) (repaired []string, err error) {
	for _, at := range d.entries(a, b) {
		if d.stands(at) {
			continue
		}
		if err := d.forget(at.pin); err != nil {
			return repaired, err
		}
		if _, err := d.attachXDP(at.port, at.program, at.pin); err != nil {
			return repaired, err
		}
		repaired = append(repaired, "entry program of "+at.port.Name)
	}
	for _, at := range d.gates(a, b) {
		if d.stands(at) {
			continue
		}
		if err := d.forget(at.pin); err != nil {
			return repaired, err
		}
		if err := d.attachTCX(at.port, at.program, at.attach, at.pin); err != nil {
			return repaired, err
		}
		what, _, _ := strings.Cut(at.pin, "_")
		repaired = append(repaired, fmt.Sprintf("%s of %s", map[string]string{"gate": "exit gate", "marker": "marker"}[what], at.port.Name))
	}
	return repaired, nil
}

// Attached reports whether all our programs are where Reattach would put them, with a few system calls
// that need no namespace.
func (d *Datapath) Attached(a, b Port) bool {
	for _, at := range append(d.entries(a, b), d.gates(a, b)...) {
		if !d.stands(at) {
			return false
		}
	}
	return true
}

// stands reports whether a program of ours is where it belongs.
func (d *Datapath) stands(at place) bool {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	return slices.ContainsFunc(d.links, func(l *portLink) bool {
		return l.isOf(at.pin) && linkIndex(l.Link) == at.port.Index
	})
}

// forget lets go of the links that a pin's name stands for: they hold no port any more.
func (d *Datapath) forget(pin string) error {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	var errs []error
	d.links = slices.DeleteFunc(d.links, func(l *portLink) bool {
		if !l.isOf(pin) {
			return false
		}
		if err := l.Unpin(); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unpin the link %s: %w", l.pin, err))
		}
		errs = append(errs, l.Close())
		return true
	})
	return errors.Join(errs...)
}

// isOf reports whether the link's pin is the one named, with or without the mode of XDP.
func (l *portLink) isOf(pin string) bool {
	name := filepath.Base(l.pin)
	return name == pin || strings.HasPrefix(name, pin+"_")
}

// Detach takes one of our programs off its port, as anybody with rights could: by the name of its pin
// below dir, such as gate_a or xdp_b_native. It is for trying what happens then.
func Detach(dir, pin string) error {
	l, err := link.LoadPinnedLink(filepath.Join(dir, linksDir, pin), nil)
	if err != nil {
		return fmt.Errorf("open the pinned link %s: %w", pin, err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		return fmt.Errorf("detach %s: %w", pin, err)
	}
	return nil
}

// DetachAll takes all our programs off the ports, gates first: as long as an entry program stands, what
// it denies does not pass. Those that a daemon before left pinned go, too.
func (d *Datapath) DetachAll() error {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	errs := []error{detachAll(filepath.Join(d.config.PinDir, linksDir))}
	for _, l := range d.links {
		errs = append(errs, l.Close())
	}
	d.links = nil
	return errors.Join(errs...)
}

// Forget drops what is known of conversations, and lets those that are alive be joined in mid-stream for
// the window, as after a start. No entry program may stand on the ports meanwhile.
func (d *Datapath) Forget(window time.Duration) error {
	var all []bpf.BridgeFlowChoice
	d.flowTable.each(func(e *entry) bool {
		all = append(all, bpf.BridgeFlowChoice{At: e.at, Version: e.flow.Version})
		return true
	})
	if _, err := d.remove(all, true); err != nil {
		return err
	}
	d.control.setAdoptUntil(monotonic() + uint64(window))
	d.control.setIOAdoptUntil(monotonic() + uint64(window))
	return d.correctCounts(map[uint32]uint32{}, 0)
}
