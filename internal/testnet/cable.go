package testnet

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/bridge/ethtool"
)

// indexes are those of the ports at the nearer ends of cables, beyond what namespaces count to.
var indexes atomic.Int32

const firstIndex = 1000

// cable joins two namespaces by a pair of virtual Ethernet ports with so many queues each, both down; the
// farther sends on more of them besides.
// Neither end is ever in the namespace of the caller, where its name could meet another's.
func cable(at *bridge.Namespace, name string, far *bridge.Namespace, farName string, queues, more int) error {
	if err := layCable(at, name, far, farName, queues, more); err != nil || queues == 1 {
		return err
	}
	if err := at.Do(func() error { return queueByCore(name, queues) }); err != nil {
		return err
	}
	return far.Do(func() error { return queueByCore(farName, queues) })
}

func layCable(at *bridge.Namespace, name string, far *bridge.Namespace, farName string, queues, more int) error {
	return at.Do(func() error {
		pair := netlink.NewVeth(linkCalled(name))
		pair.PeerName = farName
		pair.NumTxQueues, pair.NumRxQueues = queues, queues // of the peer, too, unless told else
		pair.PeerNumTxQueues = uint32(queues + more)
		// The kernel takes a port whose peer has the number that it has itself for one that stands alone, and
		// tells of its carrier, also of one that is lost, up to a second late.
		pair.Index = firstIndex + int(indexes.Add(1))
		pair.PeerNamespace = netlink.NsFd(far.Fd())
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("lay a cable from %s to %s: %w", name, farName, err)
		}
		return nil
	})
}

// prepareEnd makes a virtual port behave as a cable's end does, seen from XDP at the other end.
// It runs inside the port's namespace.
func prepareEnd(port string) error {
	eth, err := ethtool.Dial()
	if err != nil {
		return err
	}
	defer eth.Close()
	if _, err := eth.Switch(port, endOffload); err != nil {
		return err
	}
	link, err := netlink.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find port %s: %w", port, err)
	}
	return neverMerge(link)
}

func endOffload(name string) (on, chosen bool) {
	switch {
	case name == "rx-gro":
		// Without it XDP_REDIRECT into the pair drops every frame silently.
		return true, true
	case strings.HasPrefix(name, "tx-checksum-"):
		// XDP forwards a checksum that is still to be computed as it is: wrong.
		return false, true
	case strings.HasPrefix(name, "tx-vlan-"):
		// XDP does not see a tag that travels beside the frame.
		return false, true
	}
	return false, ethtool.Segments(name)
}

// neverMerge keeps receive offload on, for XDP_REDIRECT, while no two segments are small enough
// to be merged by it: a capture shows each frame as it came.
func neverMerge(link netlink.Link) error {
	const leastMergedSize = 1
	if err := netlink.LinkSetGROMaxSize(link, leastMergedSize); err != nil {
		return fmt.Errorf("limit receive offload of %s: %w", link.Attrs().Name, err)
	}
	if err := netlink.LinkSetGROIPv4MaxSize(link, leastMergedSize); err != nil {
		return fmt.Errorf("limit receive offload of %s: %w", link.Attrs().Name, err)
	}
	return nil
}
