package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

var lossyTime = flag.Duration("lossy", 5*time.Second, "how long TestLossyLine goes on")

// The ports of lossySite, a server behind each.
const (
	exceptionPort = 502 // of a conduit with on_deny: exception, to a Go server
	libmodbusPort = 503 // the same, to libmodbus
	resetsPort    = 504 // of one with on_deny: reset, to a Go server
)

func lossySite() string {
	return site{conduits: []string{
		modbusConduit("excepts", exceptionPort, "on_deny: exception"),
		modbusConduit("libmodbus", libmodbusPort, "on_deny: exception"),
		modbusConduit("resets", resetsPort, "on_deny: reset"),
	}}.String()
}

// lossyLine is a plant with faulty cables on both sides of an appliance or of a bare bridge.
type lossyLine struct {
	*testnet.Lab
	cables    []*testnet.FaultyCable
	devices   map[int]*plant.Device
	libmodbus *testnet.Process
	poller    *testnet.Process
}

// spoil replaces the cables of a lab by such as lose, repeat and reorder one frame in a hundred each.
func spoil(t *testing.T, lab *testnet.Lab) *lossyLine {
	t.Helper()
	l := &lossyLine{Lab: lab, devices: map[int]*plant.Device{}}
	for side, seed := range map[policy.Side]uint64{policy.SideA: 20261125, policy.SideB: 52116202} {
		c, err := lab.Spoil(side, testnet.Faults{
			Seed: seed, Loss: 0.01, Duplication: 0.01, Reordering: 0.01, Late: 5 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		l.cables = append(l.cables, c)
	}
	return l
}

// serve starts the servers and what polls them all the time.
func (l *lossyLine) serve(t *testing.T) {
	t.Helper()
	testnet.RequireProgram(t, "mbpoll")
	if err := errors.Join(l.Cell.AddNeighbour(l.Plant), l.Plant.AddNeighbour(l.Cell)); err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{exceptionPort, resetsPort} {
		device, err := plant.StartDevice(t, l.Cell, port)
		if err != nil {
			t.Fatal(err)
		}
		l.devices[port] = device
	}
	l.libmodbus = startLibmodbus(t, l.Lab, l.Cell, libmodbusPort)
	var err error
	l.poller, err = l.Start(l.Plant, "mbpoll", "-m", "tcp", "-a", "1", "-0", "-r", "0", "-c", "10", "-l", "50", "-o", "10",
		"-p", fmt.Sprint(exceptionPort), l.Cell.Address().String())
	if err != nil {
		t.Fatal(err)
	}
}

// counts adds up what the cables did.
func (l *lossyLine) counts() (sum [4]uint64) {
	for _, c := range l.cables {
		var n [4]uint64
		n[0], n[1], n[2], n[3] = c.Counts()
		for i := range sum {
			sum[i] += n[i]
		}
	}
	return sum
}

// step is one transaction of a client.
type step struct {
	name string
	do   func(*modbus.ModbusClient) (string, error)
	// denied is the exception that refuses it on a conduit with exceptions, nil if it is permitted.
	denied error
}

// nextStep draws a transaction. Whatever is denied writes where no permitted one reads, so that what
// a bare bridge lets through changes no later answer.
func nextStep(random *rand.Rand, client int) step {
	own, value := uint16(40+client), uint16(random.IntN(1501))
	wrote := func(err error) (string, error) { return "written", err }
	switch n := random.IntN(20); {
	case n < 7:
		return step{name: "read", do: func(c *modbus.ModbusClient) (string, error) {
			got, err := c.ReadRegister(own, modbus.HOLDING_REGISTER)
			return fmt.Sprint(got), err
		}}
	case n < 9:
		return step{name: "read many", do: func(c *modbus.ModbusClient) (string, error) {
			got, err := c.ReadRegisters(120, 125, modbus.INPUT_REGISTER)
			return fmt.Sprint(len(got)), err
		}}
	case n < 13:
		return step{name: "write", do: func(c *modbus.ModbusClient) (string, error) {
			return wrote(c.WriteRegister(own, value))
		}}
	case n < 15:
		return step{name: "write registers", do: func(c *modbus.ModbusClient) (string, error) {
			return wrote(c.WriteRegisters(own, []uint16{value}))
		}}
	case n < 17:
		return step{name: "write coil", do: func(c *modbus.ModbusClient) (string, error) {
			return wrote(c.WriteCoil(own, value&1 == 1))
		}}
	case n == 17:
		return step{name: "denied address", denied: modbus.ErrIllegalDataAddress, do: func(c *modbus.ModbusClient) (string, error) {
			return wrote(c.WriteRegister(100+own, value))
		}}
	case n == 18 && value < 300: // seldom: libmodbus takes half a second over what it does not know
		return step{name: "denied addresses", denied: modbus.ErrIllegalDataAddress, do: func(c *modbus.ModbusClient) (string, error) {
			return wrote(c.WriteRegisters(100+own, []uint16{value, value}))
		}}
	}
	return step{name: "denied value", denied: modbus.ErrIllegalDataValue, do: func(c *modbus.ModbusClient) (string, error) {
		return wrote(c.WriteRegister(49, 1501+value))
	}}
}

// lossyClient is a third party's client, which connects anew after a reset as people's do.
type lossyClient struct {
	line   *lossyLine
	port   int
	number int
	client *modbus.ModbusClient
}

const lossyTimeout = 30 * time.Second

// outcome carries a transaction out and says how it ended, in words.
func (c *lossyClient) outcome(s step) string {
	if c.client == nil {
		client, err := plant.Dial(c.line.Plant, c.line.Cell, c.port, lossyTimeout)
		if err != nil {
			return err.Error()
		}
		c.client = client
	}
	got, err := s.do(c.client)
	var exception modbus.Error
	switch {
	case err == nil:
		return got
	case wasReset(err):
		c.close()
		return "reset"
	case errors.As(err, &exception):
		return string(exception)
	}
	c.close()
	return err.Error()
}

func (c *lossyClient) close() {
	if c.client != nil {
		c.client.Close()
		c.client = nil
	}
}

// wanted is how a transaction has to end through the appliance, given how it ended through the bridge.
func (c *lossyClient) wanted(s step, bridged string) string {
	switch {
	case s.denied == nil:
		return bridged
	case c.port == resetsPort:
		return "reset"
	}
	return s.denied.Error()
}

// TestLossyLine has third parties' clients and servers talk over two lines with equally bad cables,
// one with an appliance and one with a bare bridge in the middle: each transaction ends as it does
// through the bridge, or is refused as its conduit says, and no denied one reaches a server.
func TestLossyLine(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: lossySite()})
	gated := spoil(t, p.Lab)
	bridged := spoil(t, testnet.New(t))
	start(t, p)
	layBridge(t, bridged.Lab)
	for _, l := range []*lossyLine{gated, bridged} {
		l.serve(t)
	}
	var pairs []*lossyPair
	for number, port := range []int{exceptionPort, exceptionPort, exceptionPort, resetsPort, resetsPort, libmodbusPort} {
		pairs = append(pairs, &lossyPair{
			gated:   &lossyClient{line: gated, port: port, number: number},
			bridged: &lossyClient{line: bridged, port: port, number: number},
			random:  rand.New(rand.NewPCG(uint64(number), 7)),
		})
	}
	for end := time.Now().Add(*lossyTime); time.Now().Before(end) && !t.Failed(); {
		var group sync.WaitGroup
		for _, x := range pairs {
			group.Go(func() { x.round(t) })
		}
		group.Wait()
	}
	checkLossy(t, p, gated, bridged, pairs)
}

// lossyPair is the same client on both lines.
type lossyPair struct {
	gated, bridged      *lossyClient
	random              *rand.Rand
	transactions, wrote int // of those that wrote, the permitted ones
	denied              int
}

const lossyRound = 40 // transactions, after which both lines are compared

func (x *lossyPair) round(t *testing.T) {
	steps := make([]step, lossyRound)
	for i := range steps {
		steps[i] = nextStep(x.random, x.gated.number)
		x.transactions++
		switch {
		case steps[i].denied != nil:
			x.denied++
		case strings.HasPrefix(steps[i].name, "write"):
			x.wrote++
		}
	}
	var got, through [lossyRound]string
	var group sync.WaitGroup
	for client, outcomes := range map[*lossyClient]*[lossyRound]string{x.gated: &got, x.bridged: &through} {
		group.Go(func() {
			for i, s := range steps {
				outcomes[i] = client.outcome(s)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	group.Wait()
	for i, s := range steps {
		if want := x.gated.wanted(s, through[i]); got[i] != want {
			t.Errorf("port %d, client %d, %s: %q, want %q; through the bridge %q", x.gated.port, x.gated.number, s.name, got[i], want, through[i])
		}
		if s.denied != nil && through[i] != "written" {
			t.Errorf("port %d, client %d, %s: %q through the bridge", x.gated.port, x.gated.number, s.name, through[i])
		}
	}
}

// checkLossy looks at what the servers hold, at the pollers, and at what the appliance says of itself.
func checkLossy(t *testing.T, p *plant.Plant, gated, bridged *lossyLine, pairs []*lossyPair) {
	t.Helper()
	transactions, denied, wrote := 0, 0, map[int]int{}
	for _, x := range pairs {
		x.gated.close()
		x.bridged.close()
		transactions, denied = transactions+x.transactions, denied+x.denied
		wrote[x.gated.port] += x.wrote
	}
	for port, device := range gated.devices {
		if got := device.Writes(); got != wrote[port] {
			t.Errorf("port %d: %d writes reached the server, %d were permitted", port, got, wrote[port])
		}
		for register := uint16(0); register < plant.RegisterCount; register++ {
			want := uint16(0)
			if register >= 40 && register < 49 {
				want = bridged.devices[port].Register(register)
			}
			if got := device.Register(register); got != want {
				t.Errorf("port %d: register %d holds %d, want %d", port, register, got, want)
			}
		}
	}
	eventually(t, "libmodbus to say what it executed", func() bool { return len(executed(gated.libmodbus)) >= wrote[libmodbusPort] })
	if got := len(executed(gated.libmodbus)); got != wrote[libmodbusPort] {
		t.Errorf("libmodbus executed %d writes, %d were permitted", got, wrote[libmodbusPort])
	}
	for what, l := range map[string]*lossyLine{"appliance": gated, "bridge": bridged} {
		polls := strings.Count(l.poller.Output(), "Polling slave")
		if strings.Contains(l.poller.Output(), "failed") || polls == 0 {
			t.Errorf("%s: mbpoll polled %d times:\n%s", what, polls, tail(l.poller.Output()))
		}
		n := l.counts()
		t.Logf("%s: %d polls by mbpoll; of %d frames %d lost, %d duplicated, %d late", what, polls, n[0], n[1], n[2], n[3])
	}
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if status.Outage.UninspectedFrames != 0 {
		t.Errorf("%d frames passed uninspected", status.Outage.UninspectedFrames)
	}
	t.Logf("%d transactions on each line, %d of them denied", transactions, denied)
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// layBridge joins a lab's box by the kernel's bridge as it is by default.
func layBridge(t *testing.T, lab *testnet.Lab) {
	t.Helper()
	for _, args := range [][]string{
		{"link", "add", "name", "bridge0", "type", "bridge"},
		{"link", "set", testnet.PortA, "master", "bridge0"},
		{"link", "set", testnet.PortB, "master", "bridge0"},
		{"link", "set", testnet.PortA, "up"},
		{"link", "set", testnet.PortB, "up"},
		{"link", "set", "bridge0", "up"},
	} {
		testnet.RequireProgram(t, "ip")
		proc, err := lab.Start(lab.Box, "ip", args...)
		if err != nil {
			t.Fatal(err)
		}
		if err := proc.Wait(3 * patience); err != nil {
			t.Fatalf("%v\n%s", err, proc.Output())
		}
	}
	for _, port := range []string{testnet.PortA, testnet.PortB} {
		if err := testnet.WaitCarrier(lab.Box, port, patience); err != nil {
			t.Fatal(err)
		}
	}
}
