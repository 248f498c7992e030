package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/penstock-ot/penstock/internal/policy"
)

// Port is one of the two interfaces, as the network namespace of the calling thread knows it.
type Port struct {
	Name  string
	Index int
}

// XDPMode is how XDP runs on a port.
type XDPMode string

// The modes: in the driver, or in the kernel's generic hook where the driver has none.
const (
	XDPNative  XDPMode = "native"
	XDPGeneric XDPMode = "generic"
)

// portLink is one attachment, pinned so that it outlives the daemon.
type portLink struct {
	link.Link
	pin string
}

// AttachXDP puts the entry programs on the ports: a on side a, b on side b. Ports that already
// carry ours, from a daemon before, get the new program in place. It has to be called in the
// ports' network namespace, with a policy applied; on failure what it attached stays, for DetachAll. Open I/O
// connections of another layout's maps are taken over before.
//
// Where one driver runs no XDP, both ports run it in the kernel's generic hook: such a driver takes no frame
// that another driver's XDP redirects to it.
func (d *Datapath) AttachXDP(a, b Port) (modes [2]XDPMode, err error) {
	if err := d.setPorts(a, b); err != nil {
		return modes, err
	}
	d.takeOver(a, b)
	places := d.entries(a, b)
	for i, at := range places {
		if modes[i], err = d.attachXDP(at.port, at.program, at.pin); err != nil {
			return modes, err
		}
		if i == 0 {
			d.holdIO(policy.SideA)
		}
	}
	for i, at := range places {
		if modes[i] == XDPGeneric || !slices.Contains(modes[:], XDPGeneric) {
			continue
		}
		// Without a program nothing that comes in is forwarded: the port is closed for the moment.
		if err := d.forget(at.pin); err != nil {
			return modes, err
		}
		if modes[i], err = d.attachXDP(at.port, at.program, at.pin); err != nil {
			return modes, err
		}
	}
	return modes, nil
}

// RefusedNative is what the driver said when it was found to run no program of ours on the port; nil if it
// runs one or was not asked.
func (d *Datapath) RefusedNative(port Port) error {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	return d.refused[port.Index]
}

// goGeneric has all that is attached from now on run in the generic hook. The error is what the driver said,
// nil where a daemon before asked it.
func (d *Datapath) goGeneric(port Port, refused error) {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	d.generic = true
	if refused != nil {
		d.refused[port.Index] = refused
	}
}

func (d *Datapath) isGeneric() bool {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	return d.generic
}

// place is where one of our programs belongs.
type place struct {
	port    Port
	program *ebpf.Program
	attach  ebpf.AttachType // of tcx
	pin     string          // of XDP, its mode follows
}

// entries are the places of the entry programs, side a first.
func (d *Datapath) entries(a, b Port) []place {
	return []place{
		{port: a, program: d.objects.PortA, pin: "xdp_a"},
		{port: b, program: d.objects.PortB, pin: "xdp_b"},
	}
}

// gates are the places of exit gate and marker. The gate comes first: without the marker nothing
// that waits for a verdict gets one, and with the gate nothing of that leaves.
func (d *Datapath) gates(a, b Port) []place {
	return []place{
		{a, d.objects.ExitGate, ebpf.AttachTCXEgress, "gate_a"},
		{b, d.objects.ExitGate, ebpf.AttachTCXEgress, "gate_b"},
		{a, d.objects.Marker, ebpf.AttachTCXIngress, "marker_a"},
		{b, d.objects.Marker, ebpf.AttachTCXIngress, "marker_b"},
	}
}

// AttachGate puts the marker at the ingress and the exit gate at the egress of both ports.
// Called in the ports' network namespace, after AttachXDP and before the ports forward.
func (d *Datapath) AttachGate(a, b Port) error {
	for _, at := range d.gates(a, b) {
		if err := d.attachTCX(at.port, at.program, at.attach, at.pin); err != nil {
			return err
		}
	}
	return d.settlePredecessors()
}

// Stands reports whether programs of a daemon before, of whatever layout, decide what comes in at both
// ports, so that they can be replaced with no moment without a program.
func (d *Datapath) Stands(a, b Port) bool {
	return d.standsOn(a, "xdp_a") && d.standsOn(b, "xdp_b")
}

func (d *Datapath) standsOn(port Port, pin string) bool {
	for _, mode := range []XDPMode{XDPNative, XDPGeneric} {
		l, err := link.LoadPinnedLink(d.linkPath(pin+"_"+string(mode)), nil)
		if err != nil {
			continue
		}
		index := linkIndex(l)
		l.Close()
		if index == port.Index {
			return true
		}
	}
	return false
}

func (d *Datapath) setPorts(a, b Port) error {
	for side, port := range map[uint32]Port{1: a, 2: b} {
		if err := d.objects.Ports.Put(side, uint32(port.Index)); err != nil {
			return fmt.Errorf("enter port %s for redirection: %w", port.Name, err)
		}
	}
	return nil
}

func (d *Datapath) attachXDP(port Port, program *ebpf.Program, pin string) (XDPMode, error) {
	mode, found, err := d.replaceXDP(port, program, pin)
	if found || err != nil {
		if mode == XDPGeneric {
			d.goGeneric(port, nil)
		}
		return mode, err
	}
	var native error
	if !d.isGeneric() {
		var l link.Link
		l, native = link.AttachXDP(link.XDPOptions{Program: program, Interface: port.Index, Flags: link.XDPDriverMode})
		if native == nil {
			return XDPNative, d.keep(l, pin+"_"+string(XDPNative))
		}
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: port.Index, Flags: link.XDPGenericMode})
	if err != nil {
		if native != nil {
			err = fmt.Errorf("%w (in the driver: %w)", err, native)
		}
		return XDPGeneric, fmt.Errorf("attach XDP to port %s: %w: is another XDP program on it? ip link show %s tells", port.Name, err, port.Name)
	}
	d.goGeneric(port, native)
	return XDPGeneric, d.keep(l, pin+"_"+string(XDPGeneric))
}

// replaceXDP looks for our link from before. The pin's name says the mode, which the kernel
// does not tell of a link.
func (d *Datapath) replaceXDP(port Port, program *ebpf.Program, pin string) (XDPMode, bool, error) {
	for _, mode := range []XDPMode{XDPNative, XDPGeneric} {
		found, err := d.replace(port, program, pin+"_"+string(mode))
		if found || err != nil {
			return mode, found, err
		}
	}
	return "", false, nil
}

func (d *Datapath) attachTCX(port Port, program *ebpf.Program, attach ebpf.AttachType, pin string) error {
	if found, err := d.replace(port, program, pin); found || err != nil {
		return err
	}
	// First in the row: a program before the gate could let a frame out past it.
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: port.Index, Program: program, Attach: attach, Anchor: link.Head(),
	})
	if err != nil {
		return fmt.Errorf("attach %s to port %s: %w: the kernel has to be 6.6 or newer", pin, port.Name, err)
	}
	return d.keep(l, pin)
}

// replace puts program into the pinned link of that name, if it still stands on the port. A
// link whose port is gone, or is another one by now, is forgotten.
func (d *Datapath) replace(port Port, program *ebpf.Program, pin string) (bool, error) {
	path := d.linkPath(pin)
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the pinned link %s: %w", path, err)
	}
	if linkIndex(l) != port.Index {
		return false, errors.Join(l.Unpin(), l.Close())
	}
	if err := l.Update(program); err != nil {
		l.Close()
		return false, fmt.Errorf("replace the program of %s on port %s: %w", pin, port.Name, err)
	}
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	d.links = append(d.links, &portLink{Link: l, pin: path})
	return true, nil
}

// linkIndex is the interface that a link stands on; 0 when that interface is gone.
func linkIndex(l link.Link) int {
	info, err := l.Info()
	if err != nil {
		return 0
	}
	if x := info.XDP(); x != nil {
		return int(x.Ifindex)
	}
	if x := info.TCX(); x != nil {
		return int(x.Ifindex)
	}
	return 0
}

func (d *Datapath) keep(l link.Link, pin string) error {
	path := d.linkPath(pin)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return errors.Join(fmt.Errorf("make the directory for links: %w", err), l.Close())
	}
	if err := l.Pin(path); err != nil {
		return errors.Join(fmt.Errorf("pin the link %s: %w", path, err), l.Close())
	}
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	d.links = append(d.links, &portLink{Link: l, pin: path})
	return nil
}

func (d *Datapath) linkPath(pin string) string {
	return filepath.Join(d.config.PinDir, linksDir, pin)
}

// detachAll removes the pinned links of a directory, and with them the programs from the ports.
// XDP goes last: as long as it stands, nothing passes undecided.
func detachAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the pinned links in %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries { // sorted by name: gate, marker, xdp
		path := filepath.Join(dir, e.Name())
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("open the pinned link %s: %w", path, err))
			continue
		}
		errs = append(errs, l.Unpin(), l.Close())
	}
	return errors.Join(errs...)
}
