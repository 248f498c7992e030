package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/testnet"
)

func pass(*Packet) Answer { return Answer{Accept: true, Mark: passedMark} }

func TestPacketThroughQueue(t *testing.T) {
	p := newPath(t)
	queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	marked := countMark(t, p.Box)
	q := open(t, p.Box, Config{})
	got := make(chan Packet, 1)
	run(t, q, func(packet *Packet) Answer {
		c := *packet
		c.Payload, c.HardwareAddress = bytes.Clone(c.Payload), bytes.Clone(c.HardwareAddress)
		got <- c
		return pass(packet)
	})
	before := time.Now()
	send(t, p.dial(t), "hello")
	if text := p.read(t, 15*time.Second); text != "hello" {
		t.Fatalf("the cell received %q", text)
	}
	c := <-got
	if c.Received.Before(before) || c.Received.After(time.Now()) {
		t.Errorf("received at %v, sent at %v", c.Received, before)
	}
	var portA, portB, br int
	must(t, p.In(p.Box, func() error {
		for name, index := range map[string]*int{testnet.PortA: &portA, testnet.PortB: &portB, "br": &br} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			*index = link.Attrs().Index
		}
		return nil
	}))
	want := Packet{ID: 1, Hook: 2, InDevice: uint32(br), OutDevice: uint32(br), InPort: uint32(portB), OutPort: uint32(portA),
		HardwareAddress: p.Plant.MAC, Length: 33, Payload: c.Payload, ChecksumNotVerified: c.ChecksumNotVerified,
		Received: c.Received}
	if fmt.Sprintf("%+v", c) != fmt.Sprintf("%+v", want) {
		t.Errorf("packet\n%+v, want\n%+v", c, want)
	}
	if !bytes.HasSuffix(c.Payload, []byte("hello")) || c.Payload[0] != 0x45 {
		t.Errorf("payload % x", c.Payload)
	}
	if n := marked(); n != 1 {
		t.Errorf("%d packets left with the verdict's mark, want 1", n)
	}
}

func TestEditedPacket(t *testing.T) {
	p := newPath(t)
	queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	q := open(t, p.Box, Config{})
	run(t, q, func(packet *Packet) Answer {
		b := packet.Payload
		copy(b[28:], "HELLO")
		b[26], b[27] = 0, 0 // no UDP checksum
		return Answer{Accept: true, Payload: b}
	})
	send(t, p.dial(t), "hello")
	if text := p.read(t, 15*time.Second); text != "HELLO" {
		t.Errorf("the cell received %q, want the edit", text)
	}
}

// Every packet gets through or not as the handler says, in order, and none is left behind.
func TestInvariant4UnderLoad(t *testing.T) {
	p := newPath(t)
	queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	q := open(t, p.Box, Config{MaxLength: 8192})
	run(t, q, func(packet *Packet) Answer {
		switch text := string(packet.Payload[28:]); {
		case strings.HasSuffix(text, "3"):
			panic("three")
		case strings.HasSuffix(text, "5"):
			return Answer{}
		}
		return pass(packet)
	})
	c := p.dial(t)
	const packets = 5000
	for i := range packets {
		send(t, c, fmt.Sprint(i))
		if i%10 == 3 || i%10 == 5 {
			continue
		}
		if text := p.read(t, 15*time.Second); text != fmt.Sprint(i) {
			t.Fatalf("the cell received %q, want %d", text, i)
		}
	}
	s := eventually(t, q, "every packet answered", func(s Stats) bool { return s.Packets == packets && s.Depth == 0 })
	want := Stats{Packets: packets, Accepted: packets * 8 / 10, Dropped: packets * 2 / 10, Panics: packets / 10}
	if s != want {
		t.Errorf("stats %+v, want %+v", s, want)
	}
}

func TestInvariant6FullQueueStaysClosed(t *testing.T) {
	tests := []struct {
		name     string
		failOpen bool
	}{{"closes", false}, {"opens when told to", true}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPath(t)
			queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
			q := open(t, p.Box, Config{MaxLength: 4, FailOpen: test.failOpen})
			release := make(chan struct{})
			let := sync.OnceFunc(func() { close(release) })
			run(t, q, func(packet *Packet) Answer {
				<-release
				return Answer{}
			})
			t.Cleanup(let)
			c := p.dial(t)
			for range 4 {
				send(t, c, "fills the queue")
			}
			eventually(t, q, "a full queue", func(s Stats) bool { return s.Depth == 4 })
			for range 3 {
				send(t, c, "finds it full")
			}
			if test.failOpen {
				if text := p.read(t, 15*time.Second); text != "finds it full" {
					t.Errorf("the cell received %q", text)
				}
				let()
				return
			}
			eventually(t, q, "drops", func(s Stats) bool { return s.QueueFull == 3 })
			let()
			if text := p.read(t, 100*time.Millisecond); text != "" {
				t.Errorf("%q went through", text)
			}
			eventually(t, q, "an empty queue", func(s Stats) bool { return s.Depth == 0 && s.Dropped == 4 })
		})
	}
}

// Messages that do not fit into the socket's buffer are packets dropped, counted, and no reason
// to stop.
func TestReceiveBufferTooSmall(t *testing.T) {
	p := newPath(t)
	queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	q := open(t, p.Box, Config{})
	must(t, unix.SetsockoptInt(q.socket.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	release := make(chan struct{})
	run(t, q, func(packet *Packet) Answer {
		<-release
		return pass(packet)
	})
	c := p.dial(t)
	for range 50 {
		send(t, c, "a flood")
	}
	eventually(t, q, "undeliverable packets", func(s Stats) bool { return s.UserDropped > 10 })
	close(release)
	eventually(t, q, "an empty queue", func(s Stats) bool { return s.Depth == 0 })
	for p.read(t, 50*time.Millisecond) != "" {
	}
	send(t, c, "afterwards")
	if text := p.read(t, 15*time.Second); text != "afterwards" {
		t.Errorf("the cell received %q after the flood", text)
	}
	s := eventually(t, q, "an empty queue", func(s Stats) bool { return s.Depth == 0 })
	if s.Lost != uint64(s.UserDropped) || s.Packets+s.Lost != 51 {
		t.Errorf("stats %+v: want Lost = UserDropped and 51 packets in all", s)
	}
}

func TestInvariant6HeartbeatIsTheLoops(t *testing.T) {
	p := newPath(t)
	queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	var last, longest atomic.Int64
	q := open(t, p.Box, Config{Beat: func(time.Time) {
		now := time.Now().UnixNano()
		if before := last.Swap(now); before != 0 {
			longest.Store(max(longest.Load(), now-before))
		}
	}})
	release := make(chan struct{})
	run(t, q, func(packet *Packet) Answer {
		<-release
		return pass(packet)
	})
	// 20 ms is promised; a test machine may be busy with something else, in one of a few whiles more with
	// the loop than with what it is compared to.
	var pause, late time.Duration
	for range 5 {
		longest.Store(0)
		late = lateness(300 * time.Millisecond)
		if pause = time.Duration(longest.Load()); pause > 0 && pause <= 60*time.Millisecond+late {
			break
		}
	}
	if pause == 0 || pause > 60*time.Millisecond+late {
		t.Errorf("an idle queue beat only after %v, while this machine was at most %v late", pause, late)
	}
	send(t, p.dial(t), "hangs the handler")
	eventually(t, q, "a waiting packet", func(s Stats) bool { return s.Depth == 1 })
	time.Sleep(30 * time.Millisecond)
	before := last.Load()
	time.Sleep(100 * time.Millisecond)
	if last.Load() != before {
		t.Error("a hung handler's queue beat")
	}
	close(release)
	if text := p.read(t, 15*time.Second); text == "" {
		t.Error("the packet got no verdict")
	}
}

// lateness sleeps again and again, as long as a loop waits, and returns by how much the machine woke it
// too late at most.
func lateness(during time.Duration) (most time.Duration) {
	for begun := time.Now(); time.Since(begun) < during; {
		slept := time.Now()
		wait := unix.Timespec{Nsec: idleWait * 1000}
		_ = unix.Nanosleep(&wait, nil) // a signal ends it early, which is not late
		most = max(most, time.Since(slept)-idleWait*time.Microsecond)
	}
	return most
}

func TestCloseWithHungHandler(t *testing.T) {
	p := newPath(t)
	queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	q := open(t, p.Box, Config{})
	entered, release := make(chan struct{}), make(chan struct{})
	ended := start(q, func(packet *Packet) Answer {
		close(entered)
		<-release
		return pass(packet)
	})
	send(t, p.dial(t), "hangs the handler")
	<-entered
	if err := q.Close(); err == nil || !strings.Contains(err.Error(), "has not returned") {
		t.Errorf("Close = %v, want that a handler has not returned", err)
	}
	// The kernel holds nothing any more, and another reader may have the queue.
	again := open(t, p.Box, Config{})
	must(t, again.Close())
	close(release)
	must(t, <-ended)
	must(t, q.Close())
	if text := p.read(t, 100*time.Millisecond); text != "" {
		t.Errorf("%q went through though its queue was closed", text)
	}
}

func TestOpenErrors(t *testing.T) {
	p := newPath(t)
	q := open(t, p.Box, Config{})
	must(t, p.Box.Do(func() error {
		other, err := Open(Config{Number: testQueue})
		if err == nil {
			other.Close()
			t.Error("two readers have one queue")
		}
		return nil
	}))
	// Another namespace has its own queues.
	must(t, open(t, p.Cell.Namespace, Config{}).Close())

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, q.Run(ctx, pass))
	if err := q.Run(ctx, pass); err == nil {
		t.Error("a queue was run twice")
	}
	if _, err := q.Stats(); err == nil {
		t.Error("the queue is bound after Run")
	}
	must(t, q.Close())
	must(t, q.Close())
	if _, err := q.Stats(); !errors.Is(err, ErrClosed) {
		t.Errorf("Stats = %v, want ErrClosed", err)
	}
	closed := open(t, p.Box, Config{})
	must(t, closed.Close())
	if err := closed.Run(context.Background(), pass); !errors.Is(err, ErrClosed) {
		t.Errorf("Run = %v, want ErrClosed", err)
	}
}

// A queue is opened while packets for it are passing, again and again: binding is not confused
// by them, they get their verdicts, and nothing is left of a closed queue.
func TestOpenAndCloseUnderTraffic(t *testing.T) {
	testnet.CheckLeaks(t)
	p := newPath(t)
	queueRule(t, p.Box, nftables.TableFamilyIPv4, nftables.ChainHookForward)
	c := p.dial(t)
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.Write([]byte("traffic"))
			}
		}
	})
	defer sender.Wait()
	defer close(stop)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 20 {
		q := open(t, p.Box, Config{})
		ended := start(q, pass)
		eventually(t, q, "packets", func(s Stats) bool { return s.Accepted > 10 })
		must(t, q.Close())
		must(t, <-ended)
	}
	err := testnet.WaitFor("goroutines to end", 10*time.Second, func() (bool, error) {
		return runtime.NumGoroutine() <= goroutines, nil
	})
	if err != nil {
		t.Errorf("%d goroutines, %d before: %v", runtime.NumGoroutine(), goroutines, err)
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d open files, %d before", n, files)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// What a host sends to itself comes in segments larger than any link's, and than any message can
// carry, with checksums that nobody has computed. The reader says so, and the bytes arrive.
func TestLargeLocalPackets(t *testing.T) {
	p := newPath(t)
	must(t, p.In(p.Box, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	}))
	queueRule(t, p.Box, nftables.TableFamilyIPv6, nftables.ChainHookOutput)
	q := open(t, p.Box, Config{})
	var large, notReady, truncated, wrong atomic.Uint64
	count := func(c *atomic.Uint64, is bool) {
		if is {
			c.Add(1)
		}
	}
	run(t, q, func(packet *Packet) Answer {
		count(&large, packet.GSO)
		count(&notReady, packet.ChecksumNotReady)
		count(&truncated, packet.Truncated)
		count(&wrong, !packet.IPv6 || packet.Payload[0]>>4 != 6 || packet.Truncated != (packet.Length > maxPayload))
		return pass(packet)
	})
	want := make([]byte, 4<<20)
	for i := range len(want) / 4 {
		binary.BigEndian.PutUint32(want[4*i:], uint32(i))
	}
	var got []byte
	must(t, p.In(p.Box, func() (err error) {
		got, err = throughLoopback(want)
		return err
	}))
	if !bytes.Equal(got, want) {
		t.Errorf("received %d bytes, not the %d that were sent", len(got), len(want))
	}
	if large.Load() == 0 || notReady.Load() == 0 || truncated.Load() == 0 || wrong.Load() != 0 {
		t.Errorf("large %d, checksum not ready %d, truncated %d, wrong %d",
			large.Load(), notReady.Load(), truncated.Load(), wrong.Load())
	}
	s := eventually(t, q, "an empty queue", func(s Stats) bool { return s.Depth == 0 })
	if s.Unparseable != 0 || s.Refused != 0 || s.Lost != 0 {
		t.Errorf("stats %+v", s)
	}
}

// throughLoopback sends bytes over a TCP connection from this namespace to itself.
func throughLoopback(b []byte) ([]byte, error) {
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	client, err := net.Dial("tcp6", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := listener.Accept()
	if err != nil {
		client.Close()
		return nil, err
	}
	defer server.Close()
	go func() {
		client.Write(b)
		client.Close()
	}()
	return io.ReadAll(server)
}

// TestForgedMessageIsRefused: whoever may administer the network could write to the queue's socket, and
// have a packet of its own making judged in place of one that waits. The kernel takes no such message.
func TestForgedMessageIsRefused(t *testing.T) {
	p := newPath(t)
	q := open(t, p.Box, Config{})
	address, err := unix.Getsockname(q.socket.fd)
	must(t, err)
	must(t, p.In(p.Box, func() error {
		forger, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer unix.Close(forger)
		if err := unix.Sendto(forger, plain(1), 0, address); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a forged message: %v, want %v", err, unix.ECONNREFUSED)
		}
		return nil
	}))
}
