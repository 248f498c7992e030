package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// connectionsVariable is how many inspected connections TestInvariant08InspectedConnectionsAtOnce
// opens; the long run has 10000.
const connectionsVariable = "PENSTOCK_CONNECTIONS"

const (
	fewConnections = 1000
	mostMemory     = 200 << 20 // of the daemon, with all connections open
	pollPause      = 2 * time.Second
)

// adversary is the identity that misbehaves, beside those that poll.
const (
	adversaryMAC     = "02:00:00:00:00:66"
	adversaryAddress = "198.18.0.66"
	silentAddress    = "198.18.0.67" // one that its own stack does not know
)

func crowdedSite(clients int) string {
	var identities, names strings.Builder
	for i := range clients {
		fmt.Fprintf(&identities, "  - {name: client-%d, zone: room, mac: %q, ip: [198.18.0.%d]}\n", i, clientMAC(i), 100+i)
		fmt.Fprintf(&names, "client-%d, ", i)
	}
	return fmt.Sprintf(`api_version: penstock/v1
site: crowd
mode: enforce
appliances:
  - {name: %s, sides: {a: [cell], b: [room]}}
zones:
  - {name: cell, sl_target: 2}
  - {name: room, sl_target: 2}
identities:
%s  - {name: adversary, zone: room, mac: %q, ip: [%s, %s]}
  - {name: hmi-1, zone: room, mac: %q, ip: [%s]}
  - {name: filler-plc, zone: cell, mac: %q, ip: [%s]}
conduits:
  - name: polls
    from: [%sadversary, hmi-1]
    to: [filler-plc]
    protocol: modbus
    on_deny: reset
    rules: [{functions: [read], units: [1]}]
`, plant.Appliance, identities.String(), adversaryMAC, adversaryAddress, silentAddress, testnet.PlantMAC, testnet.PlantAddress,
		testnet.CellMAC, testnet.CellAddress, names.String())
}

func clientMAC(i int) string { return fmt.Sprintf("02:00:00:00:01:%02x", i) }

// TestInvariant08InspectedConnectionsAtOnce opens many inspected connections from several clients,
// all of which poll. Beside them one identity sends garbage, floods halves of messages, and
// acknowledges nothing. Nobody else loses a poll or waits, and the daemon's memory is bounded.
func TestInvariant08InspectedConnectionsAtOnce(t *testing.T) {
	total := fewConnections
	if text := os.Getenv(connectionsVariable); text != "" {
		var err error
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", connectionsVariable, err)
		}
	}
	const clients = 3
	p := layStopped(t, plant.Options{Policy: crowdedSite(clients)})
	var hosts []*testnet.Host
	for i := range clients {
		hosts = append(hosts, roomHost(t, p, fmt.Sprintf("client%d", i), clientMAC(i), fmt.Sprintf("198.18.0.%d", 100+i)))
	}
	hostile := roomHost(t, p, "adversary", adversaryMAC, adversaryAddress)
	silent := &testnet.Host{Label: "adversary", MAC: hostile.MAC, Addresses: []netip.Prefix{netip.MustParsePrefix(silentAddress + "/24")}}
	if err := p.Filler.AddNeighbour(silent); err != nil {
		t.Fatal(err)
	}
	start(t, p)
	startStationProcess(t, p, openPort)

	c := &crowd{quit: make(chan struct{})}
	began := time.Now()
	for _, h := range hosts {
		c.open(t, h, p.Filler, (total+clients-1)/clients)
	}
	t.Cleanup(c.end)
	t.Logf("%d connections opened in %v", len(c.conns), time.Since(began).Round(time.Millisecond))
	probe := socketTo(t, p.HMI, p.Filler, openPort)
	// A machine that is busy with other things may delay the daemon's first moments.
	before := outageOf(t, p)
	c.poll()
	began = time.Now()
	// What else a machine is busy with delays polls, too: of a few attempts one has to go undisturbed.
	var troubles []string
	for range 3 {
		if troubles = besideAdversary(t, p, hostile, probe); len(troubles) == 0 {
			break
		}
		t.Log(troubles)
	}
	for _, trouble := range troubles {
		t.Error(trouble)
	}
	time.Sleep(2*pollPause - time.Since(began)) // each has polled meanwhile
	eventually(t, "each to have polled twice", func() bool { return int(c.polls.Load()) >= 2*len(c.conns) || c.failed.Load() > 0 })
	c.end()

	t.Logf("%d polls", c.polls.Load())
	if n := c.failed.Load(); n > 0 {
		t.Errorf("%d polls of %d failed, the first by %v", n, c.polls.Load(), c.first)
	}
	if int(c.polls.Load()) < 2*len(c.conns) {
		t.Errorf("%d polls on %d connections", c.polls.Load(), len(c.conns))
	}
	if s := outageOf(t, p); s.UninspectedFrames != before.UninspectedFrames || s.UninspectedSeconds != before.UninspectedSeconds {
		t.Errorf("the outage is told as %+v, before the crowd polled as %+v", s, before)
	}
	now, most := memoryOf(t, p.Daemon.PID())
	t.Logf("resident memory of the daemon: %d KiB, at most %d KiB", now>>10, most>>10)
	if len(buildFlags()) == 0 && most > mostMemory {
		t.Errorf("the daemon took %d MiB of memory, want at most %d", most>>20, mostMemory>>20)
	}
}

// besideAdversary compares the polls of a probe beside one that misbehaves with such before, and says
// what became of them.
func besideAdversary(t *testing.T, p *plant.Plant, hostile *testnet.Host, probe *net.TCPConn) (troubles []string) {
	t.Helper()
	repeated := resent(t, probe)
	quiet := pollAll(t, []*net.TCPConn{probe}, 1000)
	stop := misbehave(t, p, hostile)
	crowded := pollAll(t, []*net.TCPConn{probe}, 3000)
	stop()
	t.Logf("99th percentile of the probe %v, %v beside the adversary", quiet, crowded)
	if n := resent(t, probe) - repeated; n > 0 {
		troubles = append(troubles, fmt.Sprintf("the probe had to repeat %d segments", n))
	}
	if crowded > quiet+50*time.Millisecond {
		troubles = append(troubles, fmt.Sprintf("the 99th percentile of a poll went from %v to %v", quiet, crowded))
	}
	return troubles
}

// stationVariable makes the test binary a station that serves on this address, in a process of its
// own: the files of both ends of so many connections are more than one process may have open.
const stationVariable = "PENSTOCK_TEST_STATION"

func serveStation(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	(&station{listener: l}).accept()
	return nil
}

func startStationProcess(t *testing.T, p *plant.Plant, port int) {
	t.Helper()
	t.Setenv(stationVariable, fmt.Sprintf("%s:%d", p.Filler.Address(), port))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Lab.Start(p.Filler, self)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitOutput("serving", 3*patience); err != nil {
		t.Fatal(err)
	}
}

// crowd is many connections that poll.
type crowd struct {
	conns         []*net.TCPConn
	quit          chan struct{}
	once          sync.Once
	group         sync.WaitGroup
	polls, failed atomic.Int64
	mu            sync.Mutex
	first         error
}

// open opens n connections from a host.
func (c *crowd) open(t *testing.T, from, to *testnet.Host, n int) {
	t.Helper()
	err := from.Do(func() error {
		for range n {
			conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", to.Address(), openPort), 5*time.Second)
			if err != nil {
				return fmt.Errorf("connection %d: %w", len(c.conns), err)
			}
			c.conns = append(c.conns, conn.(*net.TCPConn))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// poll has each connection poll again and again, spread over the pause between two polls.
func (c *crowd) poll() {
	for i, conn := range c.conns {
		c.group.Go(func() {
			wait := time.Duration(i) * pollPause / time.Duration(len(c.conns))
			for transaction := uint16(0); ; transaction++ {
				select {
				case <-c.quit:
					return
				case <-time.After(wait):
				}
				wait = pollPause
				c.polls.Add(1)
				if err := ask(conn, mbap(transaction, 1, readRegisters(0, 1)), 10*time.Second); err != nil {
					c.failed.Add(1)
					c.mu.Lock()
					if c.first == nil {
						c.first = err
					}
					c.mu.Unlock()
					return
				}
			}
		})
	}
}

func (c *crowd) end() {
	c.once.Do(func() {
		close(c.quit)
		c.group.Wait()
		for _, conn := range c.conns {
			conn.Close()
		}
	})
}

// roomHost adds a host of the room that knows the device, and that the device knows.
func roomHost(t *testing.T, p *plant.Plant, name, mac, address string) *testnet.Host {
	t.Helper()
	h, err := p.Lab.Host(policy.SideB, name, mac, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddNeighbour(p.Filler); err != nil {
		t.Fatal(err)
	}
	if err := p.Filler.AddNeighbour(h); err != nil {
		t.Fatal(err)
	}
	return h
}

// misbehave has a host send garbage and halves of messages over connections that it opens for that,
// and over others requests whose replies it never acknowledges. Its own stack takes no part in those.
func misbehave(t *testing.T, p *plant.Plant, h *testnet.Host) (stop func()) {
	t.Helper()
	quit := make(chan struct{})
	var group sync.WaitGroup
	for _, payload := range [][]byte{
		slices.Repeat([]byte{0xa5}, 1400), mbap(1, 1, readRegisters(0, 1))[:7],
	} {
		group.Go(func() {
			var open []net.Conn
			defer func() {
				for _, c := range open {
					c.Close()
				}
			}()
			for {
				select {
				case <-quit:
					return
				case <-time.After(2 * time.Millisecond):
				}
				conn, err := trySocket(h, p.Filler, openPort, time.Second)
				if err != nil {
					continue
				}
				_, _ = conn.Write(payload)
				if open = append(open, conn); len(open) > 500 {
					open[0].Close()
					open = open[1:]
				}
			}
		})
	}
	tap, err := p.Lab.Tap(h, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	group.Go(func() { withhold(t, tap, quit) })
	stop = sync.OnceFunc(func() { close(quit); group.Wait() })
	t.Cleanup(stop)
	return stop
}

// withhold opens connections by frames of its own,
// asks, and acknowledges no reply. It has an address of the identity's that the host's own stack, which
// would reset them, does not know.
func withhold(t *testing.T, tap *testnet.Tap, quit <-chan struct{}) {
	const first, ports = 2000, 500
	client, device := netip.MustParseAddr(silentAddress), netip.MustParseAddr(testnet.CellAddress)
	mac := macOf(t, adversaryMAC)
	send := func(port uint16, seq, ack uint32, flags uint8, payload []byte) {
		ip, err := frame.AppendTCP(nil, &frame.TCPPacket{
			Src: netip.AddrPortFrom(client, port), Dst: netip.AddrPortFrom(device, openPort),
			Seq: seq, Ack: ack, Flags: flags, Window: 65535, Payload: payload, TTL: 64,
		})
		if err == nil {
			_ = tap.Send(etherFrame(fillerMAC, mac, nil, ip))
		}
	}
	requests := []byte{}
	for i := range uint16(20) {
		requests = append(requests, mbap(i, 1, readRegisters(0, 125))...)
	}
	for next := uint16(0); ; next = (next + 1) % ports {
		select {
		case <-quit:
			return
		case <-time.After(2 * time.Millisecond):
		}
		send(first+next, 1000, 0, frame.FlagSYN, nil)
		frames := tap.Frames()
		tap.Clear()
		for _, f := range frames {
			if b := f.Data; len(b) >= 54 && b[12] == 8 && b[13] == 0 && b[23] == 6 && b[47]&(frame.FlagSYN|frame.FlagACK) == frame.FlagSYN|frame.FlagACK {
				port := binary.BigEndian.Uint16(b[36:])
				if netip.AddrFrom4([4]byte(b[30:34])) != client {
					continue // of a socket
				}
				server := binary.BigEndian.Uint32(b[38:]) + 1
				send(port, 1001, server, frame.FlagACK, nil)
				send(port, 1001, server, frame.FlagACK|frame.FlagPSH, requests)
			}
		}
	}
}

// memoryOf returns how much memory of a process is resident, and the most that ever was, in bytes.
func memoryOf(t *testing.T, pid int) (now, most uint64) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			now = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			most = kib << 10
		}
	}
	if now == 0 || most == 0 {
		t.Fatalf("no memory in\n%s", raw)
	}
	return now, most
}
