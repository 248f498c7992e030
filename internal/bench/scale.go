package main

import (
	"context"
	"fmt"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/datapath/pktgen"
	"github.com/penstock-ot/penstock/internal/policy/policytest"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// What a large plant has, and a small one.
var (
	largeSite = policytest.Size{Identities: 1000, Conduits: 10000}
	smallSite = policytest.Size{Identities: 20, Conduits: 10}
)

const (
	residentFlows = 100_000
	busyFlows     = 1000
)

// scale compares forwarding under a large policy with many flows alive, over few of them and
// over all of them, and under a small policy; and it changes the large policy under load.
func (b *bench) scale() error {
	large, err := generate(largeSite)
	if err != nil {
		return err
	}
	small, err := generate(smallSite)
	if err != nil {
		return err
	}
	gate, err := b.layAppliance("large", large.text)
	if err != nil {
		return err
	}
	if err := b.settle(gate, large.plain(0), residentFlows); err != nil {
		return err
	}
	few, err := b.overFlows(gate, large, busyFlows, nil)
	if err != nil {
		return err
	}
	all, err := b.overFlows(gate, large, residentFlows, few[0].counter)
	if err != nil {
		return err
	}
	if err := b.againstSize(large, small, few[0]); err != nil {
		return err
	}
	b.report.forwarding(
		fmt.Sprintf("Forwarding, %s identities, %s conduits, %s live flows",
			thousands(float64(largeSite.Identities)), thousands(float64(largeSite.Conduits)), thousands(residentFlows)),
		fmt.Sprintf("Frames spread evenly over %s of the flows.", thousands(busyFlows)), few, few[1])
	b.report.forwarding("… over all of them", "", all, all[1])
	b.report.bar(fmt.Sprintf("10,000 conduits, %s of 100,000 flows: of the bare redirect", thousands(busyFlows)), ratio(few[0], few[1]), atLeast(0.8))
	b.report.bar("… times the bridge with the nftables set", ratio(few[0], few[2]), atLeast(3))
	b.report.bar(fmt.Sprintf("10,000 conduits, all %s flows: of the bare redirect", thousands(residentFlows)), ratio(all[0], all[1]), atLeast(0.65))
	b.report.bar("… times the bridge with the nftables set", ratio(all[0], all[2]), atLeast(3))
	return b.change(gate, large, few[0])
}

// settle makes flows live at an appliance: a frame of each from both of its ends.
func (b *bench) settle(l *line, conversations []conversation, flows int) error {
	there, err := requests(conversations, flows)
	if err != nil {
		return err
	}
	back, err := replies(conversations, flows)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		from    testnet.Place
		traffic pktgen.Traffic
	}{{l.Plant, there}, {l.Cell, back}} {
		g, err := b.generator(way.from, testnet.HostInterface, way.traffic)
		if err != nil {
			return err
		}
		if err := way.from.Do(func() error {
			_, err := g.Send(flows)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// overFlows lets an appliance, the bare redirect and the bridge with the set carry the same
// flows, and returns them in that order.
func (b *bench) overFlows(gate *line, s *site, flows int, counter *pktgen.Counter) ([]*contender, error) {
	traffic, err := requests(s.plain(0), flows)
	if err != nil {
		return nil, err
	}
	penstock, err := b.enter(gate, "Penstock", traffic, counter)
	if err != nil {
		return nil, err
	}
	redirect, err := b.enterNew(b.layRedirect, "bare XDP redirect", traffic)
	if err != nil {
		return nil, err
	}
	set, err := b.enterNew(b.layBurstBridge, fmt.Sprintf("Linux bridge + nftables set of %s", thousands(float64(len(s.conversations)))), traffic)
	if err != nil {
		return nil, err
	}
	if err := addSet(set.line, s.conversations); err != nil {
		return nil, err
	}
	list := []*contender{penstock, redirect, set}
	return list, b.race(list)
}

// againstSize sends the flows of one conduit through a small policy and a large one, with nothing
// else alive at either.
func (b *bench) againstSize(large, small *site, of *contender) error {
	var pair [2]*contender
	for i, s := range []*site{large, small} {
		l, err := b.layAppliance("size", s.text)
		if err != nil {
			return err
		}
		traffic, err := requests(s.plain(1), busyFlows)
		if err != nil {
			return err
		}
		label := fmt.Sprintf("Penstock, %s conduits", thousands(float64(len(s.conversations))))
		if pair[i], err = b.enter(l, label, traffic, nil); err != nil {
			return err
		}
	}
	if err := b.race(pair[:]); err != nil {
		return err
	}
	b.report.forwarding("Forwarding, by size of policy",
		fmt.Sprintf("%s flows of one conduit, nothing else alive.", thousands(busyFlows)), pair[:], pair[1])
	b.report.bar(fmt.Sprintf("cost of a frame with %s conduits, times that with %d",
		thousands(float64(len(large.conversations))), len(small.conversations)), 1/ratio(pair[0], pair[1]), atMost(1.05))
	return nil
}

// changeRate is how many frames a second cross while the policy changes, far below what the
// appliance carries, so that every one that is missing was lost by the change.
const changeRate = 100_000

// change applies the large policy again, with one conduit more, while frames cross.
func (b *bench) change(gate *line, large *site, traffic *contender) error {
	text := large.text + "  - {name: one-more, from: [client-0], to: [device-0], protocol: tcp, ports: [4999]}\n"
	client := api.NewClient(gate.appliance.Socket())
	var took []float64
	var lost, sent uint64
	for round := range b.rounds {
		policy := text
		if round%2 == 1 {
			policy = large.text
		}
		stream := startStream(traffic.generator, traffic.Plant, changeRate)
		received, sentBefore, err := traffic.counts()
		if err != nil {
			return err
		}
		time.Sleep(changeMargin)
		started := time.Now()
		ctx, cancel := context.WithTimeout(b.ctx, readyTimeout)
		_, err = client.Apply(ctx, api.Submission{Name: "change.yaml", Raw: []byte(policy)})
		cancel()
		took = append(took, time.Since(started).Seconds())
		time.Sleep(changeMargin)
		if stopped := stream.stop(); err == nil {
			err = stopped
		}
		if err != nil {
			return fmt.Errorf("change the policy under load: %w", err)
		}
		receivedThen, sentThen, err := traffic.counts()
		if err != nil {
			return err
		}
		sent += sentThen - sentBefore
		lost += (sentThen - sentBefore) - (receivedThen - received)
	}
	s := b.report.section("Policy change under load",
		fmt.Sprintf("%s conduits applied while %s frames/s cross, %d times, from the file's bytes to the answer.",
			thousands(float64(len(large.conversations)+1)), thousands(changeRate), len(took)),
		"seconds, median", "frames sent", "frames lost")
	s.row(fmt.Sprintf("%.3f", median(took)), thousands(float64(sent)), thousands(float64(lost)))
	b.report.bar("seconds to apply the large policy", median(took), atMost(1))
	b.report.bar("… frames lost meanwhile", float64(lost), atMost(0))
	return nil
}

// changeMargin is how long frames cross before and after a change.
const changeMargin = 300 * time.Millisecond
