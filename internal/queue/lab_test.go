package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/testnet"
)

const testQueue = 100

// passedMark is what test handlers mark accepted packets with.
const passedMark = 0x60000007

// path is a lab whose box joins its ports by a bridge, with IP packets on their way through
// the kernel's bridge hook. Rules are added by queueRule.
type path struct {
	*testnet.Lab
	cell net.PacketConn // UDP, at the cell
}

func newPath(t testing.TB) *path {
	t.Helper()
	p := &path{Lab: testnet.New(t)}
	must(t, p.In(p.Box, joinPorts))
	must(t, testnet.WaitFor("the box's ports to have a carrier", 15*time.Second, func() (up bool, err error) {
		return up, p.In(p.Box, func() error {
			up, err = portsUp()
			return err
		})
	}))
	must(t, p.In(p.Cell, func() (err error) {
		p.cell, err = net.ListenPacket("udp4", testnet.CellAddress+":502")
		return err
	}))
	t.Cleanup(func() { p.cell.Close() })
	must(t, p.Plant.AddNeighbour(p.Cell))
	must(t, p.Cell.AddNeighbour(p.Plant))
	return p
}

// joinPorts makes a bridge of the box's ports. It runs in the box.
func joinPorts() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br"
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	for _, name := range []string{testnet.PortA, testnet.PortB} {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := errors.Join(netlink.LinkSetMaster(port, br), netlink.LinkSetUp(port)); err != nil {
			return err
		}
	}
	return errors.Join(netlink.LinkSetUp(br), bridge.WriteSysctl("1", "bridge", "bridge-nf-call-iptables"))
}

// portsUp reports whether the bridge forwards between the ports. It runs in the box.
func portsUp() (bool, error) {
	for _, name := range []string{testnet.PortA, testnet.PortB} {
		port, err := netlink.LinkByName(name)
		if err != nil || port.Attrs().OperState != netlink.OperUp {
			return false, err
		}
	}
	return true, nil
}

// queueRule sends what passes a hook of the box into the test queue.
func queueRule(t testing.TB, box *bridge.Namespace, family nftables.TableFamily, hook *nftables.ChainHook) {
	t.Helper()
	addRule(t, box, family, hook, nftables.ChainPriorityFilter,
		&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &xt.Unknown{testQueue, 0, 1, 0, 0, 0}})
}

// countMark counts what leaves the box with passedMark; the function returned reads the count.
func countMark(t testing.TB, box *bridge.Namespace) func() uint64 {
	t.Helper()
	chain := addRule(t, box, nftables.TableFamilyIPv4, nftables.ChainHookPostrouting, nftables.ChainPriorityFilter,
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{passedMark & 0xff, 0, 0, passedMark >> 24}},
		&expr.Counter{})
	return func() uint64 {
		t.Helper()
		c, err := nftables.New(nftables.WithNetNSFd(box.Fd()))
		must(t, err)
		rules, err := c.GetRules(chain.Table, chain)
		must(t, err)
		return rules[0].Exprs[2].(*expr.Counter).Packets
	}
}

func addRule(t testing.TB, box *bridge.Namespace, family nftables.TableFamily, hook *nftables.ChainHook,
	priority *nftables.ChainPriority, exprs ...expr.Any) *nftables.Chain {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(box.Fd()))
	must(t, err)
	table := c.AddTable(&nftables.Table{Family: family, Name: fmt.Sprintf("test-%d", *hook)})
	chain := c.AddChain(&nftables.Chain{Name: "test", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: priority})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	must(t, c.Flush())
	return chain
}

// open opens a queue in the box; it is closed with the test.
func open(t testing.TB, box *bridge.Namespace, config Config) *Queue {
	t.Helper()
	config.Number = testQueue
	var q *Queue
	must(t, box.Do(func() (err error) {
		q, err = Open(config)
		return err
	}))
	t.Cleanup(func() { q.Close() })
	return q
}

// start runs a queue in the background and returns when packets are queued.
func start(q *Queue, handle Handler) (ended chan error) {
	ended = make(chan error, 1)
	started := make(chan struct{})
	first := sync.OnceFunc(func() { close(started) })
	beat := q.config.Beat
	q.config.Beat = func(now time.Time) {
		first()
		beat(now)
	}
	go func() { ended <- q.Run(context.Background(), handle) }()
	<-started
	return ended
}

// run is start until the test ends or the queue is closed.
func run(t testing.TB, q *Queue, handle Handler) {
	t.Helper()
	ended := start(q, handle)
	t.Cleanup(func() {
		q.Close()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// dial opens a UDP socket at the plant, to the cell.
func (p *path) dial(t testing.TB) net.Conn {
	t.Helper()
	var c net.Conn
	must(t, p.In(p.Plant, func() (err error) {
		c, err = net.Dial("udp4", testnet.CellAddress+":502")
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// read returns the next datagram at the cell, "" if there is none within the time.
func (p *path) read(t testing.TB, wait time.Duration) string {
	t.Helper()
	must(t, p.cell.SetReadDeadline(time.Now().Add(wait)))
	var buf [65536]byte
	n, _, err := p.cell.ReadFrom(buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	must(t, err)
	return string(buf[:n])
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	must(t, err)
}

// eventually waits until the queue's stats are as wanted.
func eventually(t testing.TB, q *Queue, what string, want func(Stats) bool) Stats {
	t.Helper()
	var s Stats
	err := testnet.WaitFor(what, 15*time.Second, func() (bool, error) {
		var err error
		s, err = q.Stats()
		return want(s), err
	})
	if err != nil {
		t.Fatalf("%v; stats %+v", err, s)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
