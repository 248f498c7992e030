package testnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
)

// Faults say how badly a cable carries frames. Loss, Duplication and Reordering are shares of the
// frames of each direction, from 0 to 1, and are drawn independently.
type Faults struct {
	Seed        uint64
	Loss        float64       // never arrives
	Duplication float64       // arrives twice; of half of these the copy comes late
	Reordering  float64       // comes late
	Late        time.Duration // how late at most; what was sent meanwhile overtakes
}

// FaultyCable carries frames with faults. It is a program and not the kernel's network emulator,
// which many kernels are built without.
type FaultyCable struct {
	faults Faults
	at     *bridge.Namespace
	ends   [2]*socket.Conn
	cancel context.CancelFunc
	done   sync.WaitGroup // the two directions, and what is late
	late   atomic.Int64

	carried, lost, duplicated, reordered atomic.Uint64
}

// mostLate is how many frames may be late at a time; beyond it a frame comes at once.
const mostLate = 1024

const (
	nearEnd = "near" // the end that the host is plugged into
	farEnd  = "far"  // the one that leads to the box
)

// Spoil replaces the cable between the box and the one host of a side by one with faults. The host
// is unplugged for a moment: spoil cables before anything runs. The lab closes it.
func (l *Lab) Spoil(side policy.Side, f Faults) (*FaultyCable, error) {
	seg := l.segments[side]
	if seg == nil || seg.lan != nil {
		return nil, fmt.Errorf("spoil the cable of side %v: there has to be one host", side)
	}
	at, err := l.Namespace(seg.first.Label + "-cable")
	if err != nil {
		return nil, err
	}
	if err := seg.first.Do(func() error { return handOver(HostInterface, farEnd, at) }); err != nil {
		return nil, fmt.Errorf("spoil the cable of %s: %w", seg.first.Label, err)
	}
	if err := cable(at, nearEnd, seg.first.Namespace, HostInterface, 1, 0); err != nil {
		return nil, err
	}
	c := &FaultyCable{faults: f, at: at}
	if err := at.Do(c.open); err != nil {
		return nil, fmt.Errorf("spoil the cable of %s: %w", seg.first.Label, err)
	}
	l.mu.Lock()
	l.faulty = append(l.faulty, c)
	l.mu.Unlock()
	return c, seg.first.Do(seg.first.configure)
}

// open takes both ends and begins to carry. It runs where the ends are.
func (c *FaultyCable) open() error {
	for _, scope := range []string{"all", "default"} {
		if err := bridge.WriteSysctl("1", "ipv6", "conf", scope, "disable_ipv6"); err != nil {
			return err
		}
	}
	for i, name := range []string{nearEnd, farEnd} {
		if err := c.openEnd(i, name); err != nil {
			return errors.Join(fmt.Errorf("open the %s end: %w", name, err), c.closeEnds())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.done.Add(len(c.ends))
	for from := range c.ends {
		go c.carry(ctx, from)
	}
	return nil
}

func (c *FaultyCable) openEnd(i int, name string) error {
	if err := prepareEnd(name); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "cable", nil)
	if err != nil {
		return err
	}
	c.ends[i] = conn
	if err := prepareTap(conn, link.Attrs().Index); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// WaitCarrier waits until both ends are in service: until the kernel knows of a carrier it drops what is
// sent there.
func (c *FaultyCable) WaitCarrier(timeout time.Duration) error {
	return errors.Join(WaitCarrier(c.at, nearEnd, timeout), WaitCarrier(c.at, farEnd, timeout))
}

// carry takes frames in at one end and sends them out at the other.
func (c *FaultyCable) carry(ctx context.Context, from int) {
	defer c.done.Done()
	random := rand.New(rand.NewPCG(c.faults.Seed, uint64(from)))
	buf := make([]byte, 1<<16)
	oob := make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.TpacketAuxdata{}))))
	for {
		n, oobn, _, _, err := c.ends[from].Recvmsg(ctx, buf, oob, 0)
		if errors.Is(err, unix.ENETDOWN) {
			continue // an end went down; it may come back
		}
		if err != nil {
			return
		}
		c.pass(random, from^1, restoreTag(buf[:n], oob[:oobn]))
	}
}

// pass decides about a frame. Each draws as many numbers as every other, so that what becomes of
// the next does not depend on it.
func (c *FaultyCable) pass(random *rand.Rand, to int, frame []byte) {
	f := &c.faults
	lost, twice, late := random.Float64() < f.Loss, random.Float64() < f.Duplication, random.Float64() < f.Reordering
	copyLate, delay := random.Uint32()&1 == 0, time.Duration(random.Float64()*float64(f.Late))
	c.carried.Add(1)
	if lost {
		c.lost.Add(1)
		return
	}
	if late {
		c.reordered.Add(1)
	}
	c.send(to, frame, late, delay)
	if twice {
		c.duplicated.Add(1)
		c.send(to, frame, copyLate, delay)
	}
}

// send sends now or later. A frame that the other end does not take is lost, as on any cable.
func (c *FaultyCable) send(to int, frame []byte, late bool, delay time.Duration) {
	if !late || c.late.Load() >= mostLate {
		_ = write(c.ends[to], frame)
		return
	}
	c.late.Add(1)
	c.done.Add(1)
	time.AfterFunc(delay, func() {
		defer c.done.Done()
		_ = write(c.ends[to], frame)
		c.late.Add(-1)
	})
}

// Counts returns how many frames came in at both ends, and how many of them were lost, sent twice
// and late.
func (c *FaultyCable) Counts() (carried, lost, duplicated, reordered uint64) {
	return c.carried.Load(), c.lost.Load(), c.duplicated.Load(), c.reordered.Load()
}

// Close ends the cable: nothing passes any more.
func (c *FaultyCable) Close() error {
	c.cancel()
	c.done.Wait()
	return c.closeEnds()
}

func (c *FaultyCable) closeEnds() error {
	var errs []error
	for _, conn := range c.ends {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}
