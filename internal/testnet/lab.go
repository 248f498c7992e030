// Package testnet lays plants in network namespaces: a cell and a plant with a box between them,
// joined by virtual cables, in which programs, sockets and single frames can be tried. Tests,
// the demonstration and the benchmark share it; it needs root.
//
// Everything that it makes carries the name pstest-PID-N-…, is removed when its owner ends, and
// uses no address outside 198.18.0.0/15 (RFC 2544, benchmarking) unless told to.
package testnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"testing"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
)

// Env is what a Lab needs of its owner. Cleanup functions run last first. *testing.T, *testing.B
// and *testing.F are Envs, and so may any program's own type be.
type Env interface {
	Logf(format string, args ...any)
	Cleanup(func())
}

// Place is somewhere that code can run: a namespace or a Host.
type Place interface {
	Do(func() error) error
	String() string
}

// The box's ports as a Lab makes them: PortA leads to the cell, PortB to the plant.
const (
	PortA = "pa"
	PortB = "pb"
)

// The devices that every Lab begins with.
const (
	CellMAC      = "02:00:00:00:00:10"
	CellAddress  = "198.18.0.10"
	PlantMAC     = "02:00:00:00:00:20"
	PlantAddress = "198.18.0.20"
)

// Lab is a cell, a box and a plant. The box holds the ports PortA and PortB, which are down and
// which nothing joins yet. Methods are safe for concurrent use, except Host.
type Lab struct {
	Cell  *Host // behind PortA
	Plant *Host // behind PortB
	Box   *bridge.Namespace

	env      Env
	prefix   string
	queues   int // of a port between the box and a first host
	segments map[policy.Side]*segment

	withoutNative []string // those ports whose driver runs no XDP

	mu        sync.Mutex
	closed    bool
	hosts     []*Host
	made      []*bridge.Namespace
	reserved  []string
	processes []*Process
	taps      []*Tap
	faulty    []*FaultyCable
}

// New builds a lab for a test. It skips or fails by RequireNet where the machine cannot have
// one, and fails the test for whatever the lab cannot take down again. Options are those of Build.
func New(t testing.TB, options ...func(*Lab)) *Lab {
	t.Helper()
	RequireNet(t)
	lab, err := build(t, options...)
	if lab != nil {
		t.Cleanup(func() {
			if err := lab.Close(); err != nil {
				t.Errorf("take the lab down: %v", err)
			}
		})
	}
	if err != nil {
		t.Fatalf("build the lab: %v", err)
	}
	return lab
}

// Build builds a lab outside of tests; options are those of this package, such as QueueForEachCore. The
// lab closes in env's cleanup, also when Build fails.
func Build(env Env, options ...func(*Lab)) (*Lab, error) {
	lab, err := build(env, options...)
	if lab != nil {
		env.Cleanup(func() {
			if err := lab.Close(); err != nil {
				env.Logf("take the lab down: %v", err)
			}
		})
	}
	return lab, err
}

// build returns the lab also with an error, so that what it made can be removed.
func build(env Env, options ...func(*Lab)) (*Lab, error) {
	if err := removeStale(); err != nil {
		return nil, err
	}
	lab := &Lab{env: env, queues: 1, segments: make(map[policy.Side]*segment)}
	for _, option := range options {
		option(lab)
	}
	if err := lab.makeBox(); err != nil {
		return lab, err
	}
	var err error
	if lab.Cell, err = lab.firstHost(policy.SideA, PortA, "cell", CellMAC, CellAddress); err != nil {
		return lab, err
	}
	if lab.Plant, err = lab.firstHost(policy.SideB, PortB, "plant", PlantMAC, PlantAddress); err != nil {
		return lab, err
	}
	return lab, nil
}

// makeBox makes the box's namespace and, by its name, decides the lab's prefix: the first number
// that is free, since a process may have several labs at a time.
func (l *Lab) makeBox() error {
	for n := 0; ; n++ {
		l.prefix = fmt.Sprintf("%s%d-%d-", namePrefix, os.Getpid(), n)
		ns, created, err := bridge.EnsureNamespace(l.prefix + "box")
		if err != nil {
			return err
		}
		if !created {
			ns.Close()
			continue
		}
		l.Box = ns
		l.made = append(l.made, ns)
		return nil
	}
}

// JoinHosts lays one cable from the cell to the plant in place of the two that lead to the box, which
// has no ports then. It comes before hosts are added.
func (l *Lab) JoinHosts() error {
	for _, h := range []*Host{l.Cell, l.Plant} {
		if err := h.unplug(); err != nil {
			return err
		}
	}
	if err := cable(l.Cell.Namespace, HostInterface, l.Plant.Namespace, HostInterface, l.queues, 0); err != nil {
		return err
	}
	for _, h := range []*Host{l.Cell, l.Plant} {
		if err := h.Do(h.configure); err != nil {
			return err
		}
	}
	return nil
}

// Namespace makes one more namespace, called after the lab and the suffix.
func (l *Lab) Namespace(suffix string) (*bridge.Namespace, error) {
	ns, created, err := bridge.EnsureNamespace(l.prefix + suffix)
	if err != nil {
		return nil, err
	}
	if !created {
		ns.Close()
		return nil, fmt.Errorf("make namespace %s: %w", l.prefix+suffix, fs.ErrExist)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = append(l.made, ns)
	return ns, nil
}

// ReserveName returns a name for a namespace that somebody else may create, such as the daemon
// under test. The lab removes it in the end if it is there.
func (l *Lab) ReserveName(suffix string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved = append(l.reserved, l.prefix+suffix)
	return l.prefix + suffix
}

// In runs f inside a namespace or on a host; see bridge.Namespace.Do.
func (l *Lab) In(p Place, f func() error) error { return p.Do(f) }

// Close ends processes and captures and removes namespaces. A second Close is harmless.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	for i := len(l.processes) - 1; i >= 0; i-- {
		errs = append(errs, l.processes[i].Stop())
	}
	for _, t := range l.taps {
		errs = append(errs, t.Close())
	}
	for _, c := range l.faulty {
		errs = append(errs, c.Close())
	}
	errs = append(errs, l.strangers()...)
	for _, h := range l.hosts {
		errs = append(errs, h.unplug())
	}
	for i := len(l.made) - 1; i >= 0; i-- {
		errs = append(errs, l.made[i].Remove())
	}
	for _, name := range l.reserved {
		errs = append(errs, removeNamed(name))
	}
	return errors.Join(errs...)
}

// removeNamed removes a namespace that may not be there.
func removeNamed(name string) error {
	ns, err := bridge.OpenNamespace(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return ns.Remove()
}
