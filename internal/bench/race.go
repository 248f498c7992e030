package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/datapath/pktgen"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// contender is a line with the traffic that is sent through it, from the plant to the cell.
type contender struct {
	*line
	label     string
	generator *pktgen.Generator
	counter   *pktgen.Counter
	rates     []float64 // frames received a second, one a round
	sent      uint64
	received  uint64
}

// enter adds traffic to a line. The counter is put on the cell's interface, unless one is given
// that another contender put there.
func (b *bench) enter(l *line, label string, t pktgen.Traffic, counter *pktgen.Counter) (*contender, error) {
	c := &contender{line: l, label: label, counter: counter}
	var err error
	if c.generator, err = b.generator(l.Plant, testnet.HostInterface, t); err != nil {
		return nil, err
	}
	if counter == nil {
		c.counter, err = b.counter(l.Cell, testnet.HostInterface)
	}
	return c, err
}

func (b *bench) generator(at testnet.Place, port string, t pktgen.Traffic) (g *pktgen.Generator, err error) {
	err = inPort(at, port, func(index int) error {
		g, err = pktgen.NewGenerator(index, t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("send from %v: %w", at, err)
	}
	b.env.Cleanup(func() { b.complain("close a generator", g.Close()) })
	return g, nil
}

func (b *bench) counter(at testnet.Place, port string) (c *pktgen.Counter, err error) {
	err = inPort(at, port, func(index int) error {
		c, err = pktgen.NewCounter(index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count at %v: %w", at, err)
	}
	b.env.Cleanup(func() { b.complain("close a counter", c.Close()) })
	return c, nil
}

// inPort runs f where the port is, with its index there.
func inPort(at testnet.Place, port string, f func(index int) error) error {
	return at.Do(func() error {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return fmt.Errorf("find %s: %w", port, err)
		}
		return f(link.Attrs().Index)
	})
}

// warmUp is how many frames are sent before those that count; they also tell how many fit into
// the time given.
const warmUp = 100_000

// race lets the contenders take turns, in another order each round, so that whatever else the
// machine does meets all of them.
func (b *bench) race(contenders []*contender) error {
	for round := range b.rounds {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			if err := b.ctx.Err(); err != nil {
				return err
			}
			if err := c.Plant.Do(func() error { return c.run(b.time) }); err != nil {
				return fmt.Errorf("%s: %w", c.label, err)
			}
		}
	}
	return nil
}

// run sends as fast as it goes for about the time given and notes how much arrived. It runs in
// the plant, on a thread that ends with it.
func (c *contender) run(d time.Duration) error {
	if err := hurry(); err != nil {
		return err
	}
	each, err := c.generator.Send(warmUp)
	if err != nil {
		return err
	}
	received, sent, err := c.counts()
	if err != nil {
		return err
	}
	if each, err = c.generator.Send(int(d / max(each, 1))); err != nil {
		return err
	}
	receivedThen, sentThen, err := c.counts()
	if err != nil {
		return err
	}
	received, sent = receivedThen-received, sentThen-sent
	c.received += received
	c.sent += sent
	elapsed := each.Seconds() * float64(sent)
	c.rates = append(c.rates, float64(received)/elapsed)
	return nil
}

func (c *contender) counts() (received, sent uint64, err error) {
	if received, err = c.counter.Received(); err != nil {
		return 0, 0, err
	}
	sent, err = c.generator.Sent()
	return received, sent, err
}

// lost is the part of the frames sent that did not arrive.
func (c *contender) lost() float64 {
	if c.sent == 0 {
		return 0
	}
	return 1 - float64(c.received)/float64(c.sent)
}

// hurry keeps the calling thread on one core and lets nothing else there come before it. The
// whole way of a frame runs on the core that sent it.
func hurry() error {
	if err := pinThread(0, sendingCore()); err != nil {
		return err
	}
	realtime := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &realtime, 0); err != nil {
		return fmt.Errorf("raise the priority: %w", err)
	}
	return nil
}

// ratio is the median over the rounds of one contender's rate by another's in the same round.
func ratio(a, b *contender) float64 {
	list := make([]float64, min(len(a.rates), len(b.rates)))
	for i := range list {
		list[i] = a.rates[i] / b.rates[i]
	}
	return median(list)
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
