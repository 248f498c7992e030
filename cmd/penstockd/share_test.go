package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestInvariant06FloodOfOneLeavesTheOthersTheirQueue: hmi-1 sends bursts of lawful-looking segments
// of a thousand connections, each burst more than a queue holds. The polls of engineering, through
// the same queues, lose nothing and wait for no more than hmi-1's share.
func TestInvariant06FloodOfOneLeavesTheOthersTheirQueue(t *testing.T) {
	p := layStopped(t, plant.Options{
		Policy: site{conduits: []string{
			modbusConduit("flood", closedPort),
			strings.Replace(modbusConduit("polls", openPort), "hmi-1", "engineering", 1),
		}}.String(),
		Settings: []string{"queue_length: 32", longHeartbeat},
	})
	engineering, err := p.Lab.Host(policy.SideB, "engineering", "02:00:00:00:00:21", "198.18.0.21")
	if err != nil {
		t.Fatal(err)
	}
	start(t, p)
	for _, pair := range [][2]*testnet.Host{{engineering, p.Filler}, {p.Filler, engineering}} {
		if err := pair[0].AddNeighbour(pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	startStation(t, p.Filler, openPort)
	conns := make([]*net.TCPConn, 4) // in several lanes
	for i := range conns {
		conns[i] = socketTo(t, engineering, p.Filler, openPort)
	}
	// What else a machine is busy with delays polls, too: of a few attempts one has to go undisturbed.
	var troubles []string
	for range 4 {
		if troubles = underFlood(t, p, conns); len(troubles) == 0 {
			break
		}
		t.Log(troubles)
	}
	for _, trouble := range troubles {
		t.Error(trouble)
	}
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Reason == verdict.ReasonQueueFull && e.Layer == event.LayerXDP && e.Source == "hmi-1"
	}); err != nil {
		t.Errorf("nobody is told that hmi-1 has used up its share: %v", err)
	}
	wantWarning(t, p, "as many waiting as one identity may")
	// Whoever was refused has its share again.
	startStation(t, p.Filler, closedPort)
	if err := ask(socketTo(t, p.HMI, p.Filler, closedPort), mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
		t.Errorf("a request of hmi-1 after its flood: %v", err)
	}
}

// underFlood compares polls beside a flood with such before, and says what the flood did to them.
func underFlood(t *testing.T, p *plant.Plant, conns []*net.TCPConn) (troubles []string) {
	t.Helper()
	repeated := make([]uint32, len(conns))
	for i, c := range conns {
		repeated[i] = resent(t, c)
	}
	before := pollAll(t, conns, 200)
	stop := burst(t, p, 128, 2*time.Millisecond)
	during := pollAll(t, conns, 200)
	stop()
	t.Logf("99th percentile of a poll: %v before, %v during the flood", before, during)
	if during > before+25*time.Millisecond {
		troubles = append(troubles, fmt.Sprintf("the 99th percentile of a poll went from %v to %v", before, during))
	}
	for i, c := range conns {
		if n := resent(t, c) - repeated[i]; n != 0 {
			troubles = append(troubles, fmt.Sprintf("connection %d had to repeat %d segments", i, n))
		}
	}
	return troubles
}

// pollAll polls on each connection n times in turn and returns the 99th percentile of the time that
// it took.
func pollAll(t *testing.T, conns []*net.TCPConn, n int) time.Duration {
	t.Helper()
	var times []time.Duration
	for i := range n {
		for _, c := range conns {
			began := time.Now()
			if err := ask(c, mbap(uint16(i), 1, readRegisters(0, 1)), patience); err != nil {
				t.Fatal(err)
			}
			times = append(times, time.Since(began))
		}
		time.Sleep(time.Millisecond)
	}
	slices.Sort(times)
	return times[len(times)*99/100]
}

// resent returns how many segments a connection's client had to repeat.
func resent(t *testing.T, c *net.TCPConn) uint32 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return info.Total_retrans
}

// burst has hmi-1 send n segments of a thousand connections in every interval, until the function
// that it returns is called.
func burst(t *testing.T, p *plant.Plant, n int, interval time.Duration) (stop func()) {
	t.Helper()
	var frames [][]byte
	for port := range uint16(1000) {
		c := newConversation(false, 30000+port, closedPort)
		frames = append(frames, c.frame(t, policy.SideB, frame.FlagSYN, nil))
	}
	tap, err := p.Lab.Tap(p.HMI, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	quit := make(chan struct{})
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		defer group.Done()
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for next := 0; ; {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			for range n {
				_ = tap.Send(frames[next%len(frames)])
				next++
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(quit); group.Wait() })
	t.Cleanup(stop)
	return stop
}
