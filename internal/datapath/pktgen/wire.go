package pktgen

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Wire is a pair of programs on two ports, such as one that redirects what comes in at either
// port out of the other without a look at it.
type Wire struct {
	devices  *ebpf.Map
	programs []*ebpf.Program
	links    []link.Link
}

// NewWire joins the interfaces with the indexes given.
func NewWire(a, b int) (*Wire, error) {
	w := &Wire{}
	var err error
	if w.devices, err = devices(a, b); err != nil {
		return nil, err
	}
	for i, port := range []int{a, b} {
		if err := w.add(port, redirect(w.devices, int32(1-i))); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// NewPass puts a program on each port that passes every frame on to the kernel. A virtual port
// takes redirected frames only with some XDP program on its other end.
func NewPass(a, b int) (*Wire, error) {
	w := &Wire{}
	for _, port := range []int{a, b} {
		if err := w.add(port, answer("pass", xdpPass)); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

func (w *Wire) add(port int, code asm.Instructions) error {
	program, err := load("wire", code)
	if err != nil {
		return err
	}
	w.programs = append(w.programs, program)
	l, err := attach(program, port)
	if err != nil {
		return err
	}
	w.links = append(w.links, l)
	return nil
}

// Close takes the programs off the ports. A second Close is harmless.
func (w *Wire) Close() error {
	var errs []error
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	for _, p := range w.programs {
		errs = append(errs, p.Close())
	}
	w.links, w.programs = nil, nil
	return errors.Join(append(errs, w.devices.Close())...)
}
