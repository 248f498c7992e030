package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Trial is our programs on the ports of a self-test, which are none of the line's. They are gone when it
// is closed, or when the daemon ends.
type Trial struct{ links []link.Link }

// AttachTrial puts the self-test's entry program and the marker on its way in, and the exit gate on its
// way out; the ports are given by index. Where the programs of the line last ran in the kernel's generic hook,
// so does this one. Called in their network namespace.
func (d *Datapath) AttachTrial(in, out int) (*Trial, error) {
	t := &Trial{}
	var mode link.XDPAttachFlags // as the kernel chooses
	if d.isGeneric() {
		mode = link.XDPGenericMode
	}
	for _, attach := range []func() (link.Link, error){
		func() (link.Link, error) {
			return link.AttachXDP(link.XDPOptions{Program: d.objects.Trial, Interface: in, Flags: mode})
		},
		func() (link.Link, error) {
			return link.AttachTCX(link.TCXOptions{Program: d.objects.Marker, Attach: ebpf.AttachTCXIngress, Interface: in})
		},
		func() (link.Link, error) {
			return link.AttachTCX(link.TCXOptions{Program: d.objects.ExitGate, Attach: ebpf.AttachTCXEgress, Interface: out})
		},
	} {
		l, err := attach()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("put programs on the self-test's ports: %w", err), t.Close())
		}
		t.links = append(t.links, l)
	}
	return t, nil
}

// Close takes the programs off.
func (t *Trial) Close() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	t.links = nil
	return errors.Join(errs...)
}
