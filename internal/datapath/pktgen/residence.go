package pktgen

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// residence keeps a program attached where nothing ever comes by: to the loopback interface of a
// network namespace of its own. For a program that is attached nowhere the kernel patches its
// code before each run and back again afterwards, tens of milliseconds in which nothing is sent.
type residence struct {
	namespace *os.File
	link      link.Link
}

func reside(program *ebpf.Program) (*residence, error) {
	r := &residence{}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread, which is in the namespace, ends with the goroutine.
		runtime.LockOSThread()
		done <- r.enter(program)
	}()
	if err := <-done; err != nil {
		return nil, errors.Join(fmt.Errorf("keep the generator attached: %w", err), r.close())
	}
	return r, nil
}

func (r *residence) enter(program *ebpf.Program) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	if r.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	const loopback = 1 // in every namespace
	r.link, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: loopback, Flags: link.XDPGenericMode})
	return err
}

func (r *residence) close() error {
	if r == nil {
		return nil
	}
	var errs []error
	if r.link != nil {
		errs = append(errs, r.link.Close())
		r.link = nil
	}
	if r.namespace != nil {
		errs = append(errs, r.namespace.Close())
		r.namespace = nil
	}
	return errors.Join(errs...)
}
