package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/bridge/ethtool"
	"github.com/penstock-ot/penstock/internal/datapath/pktgen"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// line is one way for frames between a cell and a plant. Each is a lab of its own; all stand for
// as long as they are compared, and take turns.
type line struct {
	*testnet.Lab
	name      string
	appliance *plant.Plant // nil where something else forwards
}

const carrierTimeout = 5 * time.Second

// layAppliance lays a line through a penstockd that enforces the policy.
func (b *bench) layAppliance(name, policy string) (*line, error) {
	lab, err := testnet.Build(b.env, b.lab...)
	if err != nil {
		return nil, err
	}
	p, err := plant.New(b.env, lab, b.daemon, plant.Options{Policy: policy})
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	return b.finish(&line{Lab: lab, name: name, appliance: p})
}

// layCable lays a line without anything in it: one cable from the cell to the plant.
func (b *bench) layCable(name string) (*line, error) {
	lab, err := testnet.Build(b.env, b.lab...)
	if err != nil {
		return nil, err
	}
	if err := lab.JoinHosts(); err != nil {
		return nil, err
	}
	return b.finish(&line{Lab: lab, name: name})
}

// layBridge lays a line through the kernel's bridge as it is by default.
func (b *bench) layBridge(name string) (*line, error) {
	lab, err := testnet.Build(b.env, b.lab...)
	if err != nil {
		return nil, err
	}
	if err := lab.Box.Do(joinPorts); err != nil {
		return nil, err
	}
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		if err := testnet.WaitCarrier(lab.Box, port, carrierTimeout); err != nil {
			return nil, err
		}
	}
	return b.finish(&line{Lab: lab, name: name})
}

// layBurstBridge is layBridge for frames that a generator makes, which a virtual port takes only
// with an XDP program on its other end: here the least there is, which costs the bridge less than
// the alternative, receive offload.
func (b *bench) layBurstBridge(name string) (*line, error) {
	l, err := b.layBridge(name)
	if err != nil {
		return nil, err
	}
	return l, b.attach(l, pktgen.NewPass)
}

// layPolledBridge is layBurstBridge whose far ends poll for their frames as well.
func (b *bench) layPolledBridge(name string) (*line, error) {
	l, err := b.layBurstBridge(name)
	if err != nil {
		return nil, err
	}
	return l, pollFarEnds(l)
}

// layBridgeOfPolledEnds is layBridge between ends that poll for their frames, as the ends of all lines with a
// program do, and as those of drivers do. The bridge's own ports are as they are by default.
func (b *bench) layBridgeOfPolledEnds(name string) (*line, error) {
	l, err := b.layBridge(name)
	if err != nil {
		return nil, err
	}
	return l, pollFarEnds(l)
}

// pollFarEnds has the ports send without segmentation, on which it depends whether a far end polls.
func pollFarEnds(l *line) error {
	return l.Box.Do(func() error {
		eth, err := ethtool.Dial()
		if err != nil {
			return err
		}
		defer eth.Close()
		for _, port := range []string{testnet.PortA, testnet.PortB} {
			if _, err := eth.Switch(port, func(name string) (on, chosen bool) { return false, ethtool.Segments(name) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// layRedirect lays a line through the least XDP program that forwards.
func (b *bench) layRedirect(name string) (*line, error) {
	lab, err := testnet.Build(b.env, b.lab...)
	if err != nil {
		return nil, err
	}
	l := &line{Lab: lab, name: name}
	if err := b.attach(l, pktgen.NewWire); err != nil {
		return nil, err
	}
	if err := lab.Box.Do(func() error { return raise(testnet.PortA, testnet.PortB) }); err != nil {
		return nil, err
	}
	return b.finish(l)
}

// attach puts a pair of programs on the box's ports.
func (b *bench) attach(l *line, programs func(a, b int) (*pktgen.Wire, error)) error {
	return l.Box.Do(func() error {
		a, err := netlink.LinkByName(testnet.PortA)
		if err != nil {
			return fmt.Errorf("find port %s: %w", testnet.PortA, err)
		}
		z, err := netlink.LinkByName(testnet.PortB)
		if err != nil {
			return fmt.Errorf("find port %s: %w", testnet.PortB, err)
		}
		w, err := programs(a.Attrs().Index, z.Attrs().Index)
		if err != nil {
			return err
		}
		b.env.Cleanup(func() {
			if err := w.Close(); err != nil {
				b.env.Logf("take programs off %s: %v", l.name, err)
			}
		})
		return nil
	})
}

// finish waits for the line to carry frames and teaches its hosts each other's addresses, so
// that none asks while time is taken.
func (b *bench) finish(l *line) (*line, error) {
	for _, h := range []*testnet.Host{l.Cell, l.Plant} {
		if err := testnet.WaitCarrier(h, testnet.HostInterface, carrierTimeout); err != nil {
			return nil, err
		}
	}
	return l, errors.Join(l.Cell.AddNeighbour(l.Plant), l.Plant.AddNeighbour(l.Cell))
}

// joinPorts makes a bridge of the box's ports. It runs in the box.
func joinPorts() error {
	if err := silence(); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br"
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("make a bridge: %w", err)
	}
	for _, name := range []string{testnet.PortA, testnet.PortB} {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find port %s: %w", name, err)
		}
		if err := netlink.LinkSetMaster(port, br); err != nil {
			return fmt.Errorf("join port %s to the bridge: %w", name, err)
		}
	}
	return raise(testnet.PortA, testnet.PortB, attrs.Name)
}

func raise(names ...string) error {
	if err := silence(); err != nil {
		return err
	}
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up %s: %w", name, err)
		}
	}
	return nil
}

// silence keeps the box from speaking, and its kernel from looking at what passes.
func silence() error {
	for _, scope := range []string{"all", "default"} {
		if err := bridge.WriteSysctl("1", "ipv6", "conf", scope, "disable_ipv6"); err != nil {
			return err
		}
	}
	return bridge.WriteSysctl("0", "bridge", "bridge-nf-call-iptables")
}
