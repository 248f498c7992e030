package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
)

// Undelivered counts frames that the fast path redirected to a port and that did not leave by it. The
// verdict counts them as allowed.
type Undelivered struct {
	Refused uint64 // the port was down, or the frame longer than it takes
	Dropped uint64 // the device had no room
}

// delivery is what watches the kernel's side of a redirect. It ends with the daemon.
type delivery struct {
	objects bpf.DeliveryObjects
	links   []link.Link
}

// WatchDelivery begins to count what is redirected to the two ports and does not leave by them. It has
// to be called in the ports' network namespace, and needs a kernel with type information (BTF) and the
// tracepoints of XDP; the fast path does without.
func (d *Datapath) WatchDelivery(a, b Port) error {
	w, err := d.watchDelivery(a, b)
	if err != nil {
		return fmt.Errorf("watch what is redirected: %w", err)
	}
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	if d.delivery != nil {
		return errors.Join(errors.New("watch what is redirected: it is watched already"), w.close())
	}
	d.delivery = w
	return nil
}

func (d *Datapath) watchDelivery(a, b Port) (*delivery, error) {
	spec, err := bpf.LoadDelivery()
	if err != nil {
		return nil, err
	}
	info, err := d.objects.Ports.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.ID()
	var here unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &here); err != nil {
		return nil, fmt.Errorf("tell the network namespace: %w", err)
	}
	for name, value := range map[string]uint32{
		"ports_map": uint32(id), "namespace": uint32(here.Ino),
		"port_a_index": uint32(a.Index), "port_b_index": uint32(b.Index),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	w := &delivery{}
	if err := spec.LoadAndAssign(&w.objects, nil); err != nil {
		return nil, err
	}
	for _, at := range []link.RawTracepointOptions{
		{Name: "xdp_redirect_err", Program: w.objects.RedirectErr},
		{Name: "xdp_devmap_xmit", Program: w.objects.DevmapXmit},
	} {
		l, err := link.AttachRawTracepoint(at)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach to tracepoint %s: %w", at.Name, err), w.close())
		}
		w.links = append(w.links, l)
	}
	return w, nil
}

func (w *delivery) close() error {
	var errs []error
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, w.objects.Close())...)
}

// Undelivered reads what has not left by the port of a side since WatchDelivery. It is false where
// nobody watches, and so nothing is known.
func (d *Datapath) Undelivered(side policy.Side) (u Undelivered, watched bool, err error) {
	d.attachMu.Lock()
	defer d.attachMu.Unlock()
	if d.delivery == nil {
		return u, false, nil
	}
	var perCPU []bpf.DeliveryUndeliveredCounter
	if err := d.delivery.objects.Undelivered.Lookup(uint32(side), &perCPU); err != nil {
		return u, true, fmt.Errorf("read the counters of what did not leave: %w", err)
	}
	for _, c := range perCPU {
		u.Refused += c.Refused
		u.Dropped += c.Dropped
	}
	return u, true, nil
}
