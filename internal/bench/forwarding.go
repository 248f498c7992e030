package main

import (
	"fmt"

	"github.com/penstock-ot/penstock/internal/datapath/pktgen"
	"github.com/penstock-ot/penstock/internal/policy/policytest"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// forwarding compares what forwards frames, under a policy of an ordinary size.
func (b *bench) forwarding() error {
	const flows = 1000
	s, err := generate(policytest.Size{Identities: 200, Conduits: 1000})
	if err != nil {
		return err
	}
	traffic, err := requests(s.plain(0), flows)
	if err != nil {
		return err
	}
	alone, err := b.layAlone(traffic)
	if err != nil {
		return err
	}
	redirect, err := b.enterNew(b.layRedirect, "bare XDP redirect", traffic)
	if err != nil {
		return err
	}
	gate, err := b.layAppliance("Penstock", s.text)
	if err != nil {
		return err
	}
	penstock, err := b.enter(gate, "Penstock, 1,000 conduits", traffic, nil)
	if err != nil {
		return err
	}
	bridge, err := b.enterNew(b.layBurstBridge, "Linux bridge", traffic)
	if err != nil {
		return err
	}
	set, err := b.enterNew(b.layBurstBridge, "Linux bridge + nftables set of 1,000", traffic)
	if err != nil {
		return err
	}
	if err := addSet(set.line, s.conversations); err != nil {
		return err
	}
	all := []*contender{alone, redirect, penstock, bridge, set}
	if err := b.race(all); err != nil {
		return err
	}
	b.report.forwarding("Forwarding", fmt.Sprintf("64-byte TCP frames of %s flows of plain conduits.", thousands(flows)), all, redirect)
	b.report.bar("forwarding, 1,000 conduits: of the bare redirect", ratio(penstock, redirect), atLeast(0.8))
	b.report.bar("… times the Linux bridge", ratio(penstock, bridge), atLeast(2.5))
	b.report.bar("… times the bridge with the nftables set", ratio(penstock, set), nil)
	return nil
}

// enterNew lays a line and adds traffic to it.
func (b *bench) enterNew(lay func(name string) (*line, error), label string, t pktgen.Traffic) (*contender, error) {
	l, err := lay(label)
	if err != nil {
		return nil, err
	}
	return b.enter(l, label, t, nil)
}

// layAlone is the generator and the counter with one cable between them: what a frame costs
// before anything forwards it.
func (b *bench) layAlone(t pktgen.Traffic) (*contender, error) {
	lab, err := testnet.Build(b.env)
	if err != nil {
		return nil, err
	}
	counter, err := b.counter(lab.Box, testnet.PortB)
	if err != nil {
		return nil, err
	}
	if err := lab.Box.Do(func() error { return raise(testnet.PortB) }); err != nil {
		return nil, err
	}
	if err := testnet.WaitCarrier(lab.Plant, testnet.HostInterface, carrierTimeout); err != nil {
		return nil, err
	}
	return b.enter(&line{Lab: lab, name: "alone"}, "generator and counter alone", t, counter)
}
