package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const ioPolicy = `
api_version: penstock/v1
site: io
mode: enforce
appliances:
  - {name: gate, sides: {a: [cell], b: [plant]}}
defaults: {on_outage: closed}
zones:
  - {name: plant, sl_target: 2, purdue_level: 2}
  - {name: cell, sl_target: 2, purdue_level: 1}
identities:
  - {name: hmi, zone: plant, mac: "02:00:00:00:00:20", ip: [198.18.0.20], vlan: [10, untagged]}
  - {name: plc, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10], vlan: [10, untagged]}
  - {name: rtu, zone: cell, mac: "02:00:00:00:00:11", ip: [198.18.0.11]}
conduits:
  - {name: cyclic, from: [hmi], to: [plc], protocol: enip, on_outage: OUTAGE, mode: MODE, rules: [{services: [forward_open], io: {assemblies: [100]}}]}
  - {name: plain, from: [hmi], to: [rtu], protocol: udp, ports: [2222]}
`

// ioPlan is that policy, with the choices of the conduit given.
func ioPlan(t testing.TB, outage, mode string) *policy.Plan {
	t.Helper()
	return ioPlanOf(t, strings.NewReplacer("OUTAGE", outage, "MODE", mode).Replace(ioPolicy))
}

func ioPlanOf(t testing.TB, text string) *policy.Plan {
	t.Helper()
	p, err := policy.Parse("io.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	withIO(plan)
	return plan
}

// withIO has the conduits of EtherNet/IP carry I/O.
func withIO(plan *policy.Plan) {
	for i := range plan.Conduits {
		if c := &plan.Conduits[i]; c.Protocol == policy.ProtocolENIP {
			c.Inspect, c.IO = true, true
		}
	}
}

const (
	outputID = 0x00650001 // what the originator sends
	inputID  = 0x7a3b0002
	cyclicID = 1 // the conduit
)

var ioGroup = netip4(239, 192, 1, 32)

// ioConnection is class 1 in both directions: a run/idle header and 32 bytes out, 32 bytes in.
func ioConnection() IOConnection {
	return IOConnection{
		Side: policy.SideB, Originator: IOEnd{macHMI, ipHMI}, Target: IOEnd{macPLC, ipPLC},
		Triad:   IOTriad{Serial: 7, Vendor: 0x1337, OriginatorSerial: 42},
		Output:  IODirection{Connection: outputID, Size: 38, Timeout: time.Minute},
		Input:   IODirection{Connection: inputID, Size: 34, Timeout: time.Minute},
		Opening: []byte("as it was opened"), Opened: time.Now(),
	}
}

func multicastConnection(serial uint16, output uint32) IOConnection {
	c := ioConnection()
	c.Triad.Serial, c.Output.Connection, c.Input.Group = serial, output, ioGroup
	return c
}

// ioDatagram is a datagram to port 2222 with one sequenced address item and one data item.
func ioDatagram(connection, sequence uint32, size int) []byte {
	data := binary.LittleEndian.AppendUint16(nil, 2)
	data = append(data, 0x02, 0x80, 8, 0)
	data = binary.LittleEndian.AppendUint32(data, connection)
	data = binary.LittleEndian.AppendUint32(data, sequence)
	data = binary.LittleEndian.AppendUint16(append(data, 0xb1, 0), uint16(size))
	return udpWith(2222, 2222, append(data, make([]byte, size)...))
}

func udpWith(sport, dport uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(data)))
	return append(append(b, 0, 0), data...)
}

func output(sequence uint32) packet { return outputOf(ioDatagram(outputID, sequence, 38)) }
func outputOf(udp []byte) packet    { return ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 0, udp)) }
func input(sequence uint32) packet  { return inputOf(ioDatagram(inputID, sequence, 34)) }
func inputOf(udp []byte) packet     { return ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udp)) }

func inputToGroup(sequence uint32) packet {
	return ether(macPLC, multicastMAC(ioGroup), ipPacket(ipPLC, ioGroup, 17, 0, ioDatagram(inputID, sequence, 34)))
}

// changed is a datagram with other bytes at an offset of its UDP data.
func changed(udp []byte, at int, b ...byte) []byte {
	udp = append([]byte{}, udp...)
	copy(udp[8+at:], b)
	return udp
}

// openIOWith loads a fast path in which the connections are open.
func openIOWith(t testing.TB, p *policy.Plan, connections ...IOConnection) *Datapath {
	t.Helper()
	require(t)
	d := openWith(t, p, Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 10 * time.Second})
	for _, c := range connections {
		d.mustOpenIO(t, c)
	}
	return d
}

func (d *Datapath) mustOpenIO(t testing.TB, c IOConnection) uint32 {
	t.Helper()
	id, err := d.OpenIO(c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestEvasion33CyclicIO holds each check of a cyclic frame. Before each row the connection is opened
// anew.
func TestEvasion33CyclicIO(t *testing.T) {
	good := ioDatagram(outputID, 2, 38)
	tagged := func(p packet, vid uint32) packet { return p.tagged(0x8100<<16 | vid) }
	// bent is an output of whose IP packet some bytes are others.
	bent := func(at int, v ...byte) sent {
		p := output(1)
		copy(p.body[at:], v)
		return b(p)
	}
	rows := []row{
		{"output", nil, b(output(1)), xdpRedirect, 0},
		{"input", nil, a(input(1)), xdpRedirect, 0},
		{"output goes on", []sent{b(output(1))}, b(output(2)), xdpRedirect, 0},
		{"sequence wraps", []sent{b(output(0xffffffff))}, b(output(0)), xdpRedirect, 0},
		{"loss is no attack", []sent{b(output(1))}, b(output(600)), xdpRedirect, 0},
		{"source port of its own", nil, b(outputOf(append([]byte{0xc0, 0}, good[2:]...))), xdpRedirect, 0},
		{"priority tag", nil, b(tagged(output(1), 0xa000)), xdpRedirect, 0},

		{"two priority tags", nil, b(output(1).tagged(0x8100<<16|0x6000, 0x8100<<16|0xa000)), xdpRedirect, 0},
		{"not to be fragmented", nil, bent(6, 0x40), xdpRedirect, 0},

		{"repeated sequence number", []sent{b(output(2))}, b(output(2)), xdpDrop, verdict.ReasonIOSequence},
		{"old sequence number", []sent{b(output(9))}, b(output(8)), xdpDrop, verdict.ReasonIOSequence},
		{"sequence number that leaps", []sent{b(output(1))}, b(output(1 + 65537)), xdpDrop, verdict.ReasonIOSequence},
		{"a leap does not count", []sent{b(output(1)), b(output(1 + 65537))}, b(output(2)), xdpRedirect, 0},
		{"another identifier", nil, b(outputOf(ioDatagram(outputID+1, 1, 38))), xdpDrop, verdict.ReasonIONotOpen},
		{"the other direction's identifier", nil, b(outputOf(ioDatagram(inputID, 1, 34))), xdpDrop, verdict.ReasonIONotOpen},
		{"too short", nil, b(outputOf(ioDatagram(outputID, 1, 37))), xdpDrop, verdict.ReasonIOSize},
		{"too long", nil, b(outputOf(ioDatagram(outputID, 1, 39))), xdpDrop, verdict.ReasonIOSize},
		{"nothing but a sequence count", nil, b(outputOf(ioDatagram(outputID, 1, 2))), xdpDrop, verdict.ReasonIOSize},
		{"a wrong size takes no number", []sent{b(outputOf(ioDatagram(outputID, 5, 37)))}, b(output(5)), xdpRedirect, 0},
		{"data item that claims less", nil, b(outputOf(changed(good, 16, 30))), xdpDrop, verdict.ReasonMalformed},
		{"data item that claims more", nil, b(outputOf(changed(good, 16, 60))), xdpDrop, verdict.ReasonMalformed},
		{"no data item", nil, b(outputOf(changed(good, 14, 0xb2))), xdpDrop, verdict.ReasonMalformed},
		{"bytes behind the datagram", nil, b(outputOf(append(append([]byte{}, good...), 1, 2))), xdpDrop, verdict.ReasonMalformed},
		{"three items", nil, b(outputOf(changed(good, 0, 3))), xdpDrop, verdict.ReasonIONotOpen},
		{"one item", nil, b(outputOf(changed(good, 0, 1))), xdpDrop, verdict.ReasonIONotOpen},
		{"connected address item", nil, b(outputOf(changed(good, 2, 0xa1, 0, 4, 0))), xdpDrop, verdict.ReasonIONotOpen},
		{"address item of another length", nil, b(outputOf(changed(good, 4, 7))), xdpDrop, verdict.ReasonIONotOpen},
		{"ends in the address item", nil, b(outputOf(udpWith(2222, 2222, good[8:16]))), xdpDrop, verdict.ReasonIONotOpen},
		{"empty", nil, b(outputOf(udpWith(2222, 2222, nil))), xdpDrop, verdict.ReasonIONotOpen},
		{"from another device", nil, a(ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 17, 0, ioDatagram(inputID, 1, 34)))), xdpDrop, verdict.ReasonNoConduit},
		{"from another device, with the target's address", nil, a(ether(macRTU, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, ioDatagram(inputID, 1, 34)))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"from a stranger", nil, b(ether(macOdd, macPLC, ipPacket(ipHMI, ipPLC, 17, 0, good))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"from the wrong side", nil, a(output(1)), xdpDrop, verdict.ReasonWrongPort},
		{"to another device", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipRTU, 17, 0, good))), xdpDrop, verdict.ReasonUnknownDestination},
		{"to a third port", nil, b(outputOf(append([]byte{good[0], good[1], 0x08, 0xaf}, good[4:]...))), xdpDrop, verdict.ReasonNoConduit},
		{"to a group that was not negotiated", nil, a(inputToGroup(1)), xdpDrop, verdict.ReasonUnknownDestination},
		{"in another VLAN", nil, b(tagged(output(1), 10)), xdpDrop, verdict.ReasonIONotOpen},
		{"in a VLAN that is not its sender's", nil, b(tagged(output(1), 11)), xdpDrop, verdict.ReasonVLANNotPermitted},
		{"two tags", nil, b(output(1).tagged(0x88a8<<16|10, 0x8100<<16|10)), xdpDrop, verdict.ReasonIONotOpen},
		{"three tags", nil, b(output(1).tagged(0x8100<<16|10, 0x8100<<16|10, 0x8100<<16|10)), xdpDrop, verdict.ReasonEncapsulation},
		{"a fragment", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 0x2000, good))), xdpDrop, verdict.ReasonFragment},
		{"IP options", nil, b(ether(macHMI, macPLC, withOptions(ipPacket(ipHMI, ipPLC, 17, 0, good), []byte{1, 1, 1, 0}))), xdpDrop, verdict.ReasonIONotOpen},
		{"a source route", nil, b(ether(macHMI, macPLC, withOptions(ipPacket(ipHMI, ipPLC, 17, 0, good), []byte{131, 3, 4, 0}))), xdpDrop, verdict.ReasonEncapsulation},
		{"a header of four words", nil, bent(0, 0x44), xdpDrop, verdict.ReasonMalformed},
		{"another version", nil, bent(0, 0x65), xdpDrop, verdict.ReasonMalformed},
		{"a packet that ends in the datagram", nil, bent(2, 0, 60), xdpDrop, verdict.ReasonMalformed},
		{"a packet longer than its frame", nil, bent(2, 4, 0), xdpDrop, verdict.ReasonMalformed},
		{"a datagram of no length", nil, bent(24, 0, 0), xdpDrop, verdict.ReasonMalformed},
		{"a datagram that ends in the data", nil, bent(24, 0, 60), xdpDrop, verdict.ReasonMalformed},
		{"a datagram longer than its packet", nil, bent(24, 4, 0), xdpDrop, verdict.ReasonMalformed},
		{"to everybody's MAC address", nil, b(ether(macHMI, broadcast, ipPacket(ipHMI, ipPLC, 17, 0, good))), xdpDrop, verdict.ReasonNoConduit},
		{"to a group's MAC address", nil, b(ether(macHMI, multicastMAC(ioGroup), ipPacket(ipHMI, ipPLC, 17, 0, good))), xdpDrop, verdict.ReasonUnknownDestination},
		{"to a group's address", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ioGroup, 17, 0, good))), xdpDrop, verdict.ReasonUnknownDestination},
		{"from a group's MAC address", nil, b(ether([6]byte{3, 0, 0, 0, 0, 0x20}, macPLC, ipPacket(ipHMI, ipPLC, 17, 0, good))), xdpDrop, verdict.ReasonAddressSpoofed},
		{"over UDP-Lite", nil, b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 136, 0, good))), xdpDrop, verdict.ReasonNoConduit},
		{"messages of the conduit are inspected", nil, b(hmiTCP(40000, 44818, flagSYN)), xdpPass, 0},
		{"a plain conduit for the port", nil, b(ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 17, 0, good))), xdpRedirect, 0},
		{"and its reply", []sent{b(ether(macHMI, macRTU, ipPacket(ipHMI, ipRTU, 17, 0, good)))},
			a(ether(macRTU, macHMI, ipPacket(ipRTU, ipHMI, 17, 0, good))), xdpRedirect, 0},
	}
	d := openIOWith(t, ioPlan(t, "closed", "enforce"))
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			d.mustOpenIO(t, ioConnection())
			d.meets(t, r)
		})
	}
	t.Run("in its VLAN", func(t *testing.T) {
		c := ioConnection()
		c.Tags = []Tag{{0x8100, 10}}
		d.mustOpenIO(t, c)
		d.meets(t, row{sent: b(tagged(output(1), 10)), want: xdpRedirect})
		d.meets(t, row{sent: b(output(2)), want: xdpDrop, reason: verdict.ReasonIONotOpen})
	})
	t.Run("variable size", func(t *testing.T) {
		c := ioConnection()
		c.Output.Variable = true
		d.mustOpenIO(t, c)
		d.meets(t, row{sent: b(outputOf(ioDatagram(outputID, 1, 38))), want: xdpRedirect})
		d.meets(t, row{sent: b(outputOf(ioDatagram(outputID, 2, 2))), want: xdpRedirect})
		d.meets(t, row{sent: b(outputOf(ioDatagram(outputID, 3, 39))), want: xdpDrop, reason: verdict.ReasonIOSize})
	})
}

// TestCyclicFramesGoTheShortWay holds which frames of an open connection do, that the others are judged as ever,
// and that each is counted once, whichever way it goes.
func TestCyclicFramesGoTheShortWay(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"), ioConnection())
	good := ioDatagram(outputID, 9, 38)
	for _, row := range []struct {
		name  string
		frame sent
		short bool
		want  uint32
	}{
		{"output", b(output(1)), true, xdpRedirect},
		{"input", a(input(1)), true, xdpRedirect},
		{"the next", b(output(2)), true, xdpRedirect},
		{"again", b(output(2)), false, xdpDrop},
		{"after some were lost", b(output(7)), true, xdpRedirect},
		{"of another size", b(outputOf(ioDatagram(outputID, 8, 37))), false, xdpDrop},
		{"with a priority tag", b(output(8).tagged(0x8100<<16 | 0xa000)), false, xdpRedirect},
		{"of another connection", b(outputOf(ioDatagram(outputID+1, 9, 38))), false, xdpDrop},
		{"bytes behind the datagram", b(outputOf(append(slices.Clone(good), 1, 2))), false, xdpDrop},
		{"no data item", b(outputOf(changed(good, 14, 0xb2))), false, xdpDrop},
		{"cut off", b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 0, good)[:40])), false, xdpDrop},
		{"a fragment", b(ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 17, 0x2000, good))), false, xdpDrop},
		{"IP options", b(ether(macHMI, macPLC, withOptions(ipPacket(ipHMI, ipPLC, 17, 0, good), []byte{1, 1, 1, 0}))), false, xdpDrop},
		{"from the wrong side", a(output(9)), false, xdpDrop},
		{"and on", b(output(9)), true, xdpRedirect},
	} {
		if got := d.goesItsWay(t, row.name, cyclicID, row.frame.side, row.frame.frame.bytes(), row.short); got != row.want {
			t.Errorf("%s: the program returned %d, want %d", row.name, got, row.want)
		}
	}
	t.Run("not under a limit", func(t *testing.T) {
		d := openIOWith(t, ioPlan(t, "closed", "enforce, limit: {frames: 1000/s}"), ioConnection())
		if got := d.goesItsWay(t, "output", cyclicID, policy.SideB, output(1).bytes(), false); got != xdpRedirect {
			t.Errorf("the program returned %d", got)
		}
	})
	t.Run("not to a group", func(t *testing.T) {
		d := openIOWith(t, ioPlan(t, "closed", "enforce"), multicastConnection(1, outputID))
		if got := d.goesItsWay(t, "input", cyclicID, policy.SideA, inputToGroup(1).bytes(), false); got != xdpRedirect {
			t.Errorf("the program returned %d", got)
		}
	})
}

// TestEvasion33WithoutItsForwardOpen: nothing passes before a connection is open, and nothing after.
func TestEvasion33WithoutItsForwardOpen(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"))
	denied := func(when string) {
		t.Helper()
		for _, s := range []sent{b(output(1)), a(input(1)), a(inputToGroup(1))} {
			if got, _ := d.run(t, s.side, s.frame.bytes()); got != xdpDrop {
				t.Errorf("%s: the program returned %d", when, got)
			}
		}
	}
	denied("before")
	id := d.mustOpenIO(t, ioConnection())
	d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
	d.meets(t, row{sent: a(input(1)), want: xdpRedirect})
	if !d.CloseIO(IOEnd{macPLC, ipPLC}, ioConnection().Triad) || d.CloseIOByID(id, IOClosed) {
		t.Error("the connection is not closed once")
	}
	denied("after")
	d.mustOpenIO(t, multicastConnection(1, outputID))
	d.meets(t, row{sent: a(inputToGroup(1)), want: xdpRedirect})
	d.meets(t, row{sent: a(input(2)), want: xdpDrop, reason: verdict.ReasonIONotOpen})
}

// TestIOCounts holds what a connection says of itself.
func TestIOCounts(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"), ioConnection())
	before, err := d.Conduits()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []sent{b(output(1)), b(output(2)), b(output(7)), b(output(7)), b(outputOf(ioDatagram(outputID, 8, 4))), a(input(1))} {
		d.run(t, s.side, s.frame.bytes())
	}
	list, err := d.ListIO()
	if err != nil || len(list) != 1 {
		t.Fatalf("%d connections, %v", len(list), err)
	}
	out, in := list[0].Output, list[0].Input
	if out.Frames != 3 || out.Lost != 4 || out.Old != 1 || out.Unequal != 1 || out.Bytes != 3*98 || in.Frames != 1 {
		t.Errorf("output %+v, input %+v", out, in)
	}
	if time.Since(out.Seen).Abs() > time.Second || list[0].Conduit != cyclicID {
		t.Errorf("seen %v on conduit %d", out.Seen, list[0].Conduit)
	}
	after, err := d.Conduits()
	if err != nil {
		t.Fatal(err)
	}
	if after[cyclicID].Allowed-before[cyclicID].Allowed != 4 || after[cyclicID].Denied-before[cyclicID].Denied != 2 {
		t.Errorf("the conduit went from %+v to %+v", before[cyclicID], after[cyclicID])
	}
}

// TestIOCountsWhatPasses: a frame that its conduit's rate limit denies is none of the connection's, and no sign of life to
// whoever waits for it. On an observed conduit it passes, and is.
func TestIOCountsWhatPasses(t *testing.T) {
	for _, r := range []struct {
		mode   string
		want   uint32
		frames uint64
	}{{"enforce", xdpDrop, 1}, {"observe", xdpRedirect, 2}} {
		t.Run(r.mode, func(t *testing.T) {
			d := openIOWith(t, ioPlan(t, "closed", r.mode+", limit: {frames: 1000/s}"), ioConnection())
			d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
			d.idleIO(t, d.io.open[1].keys[0], 30*time.Second)
			d.useUpRate(t, cyclicID)
			d.meets(t, row{sent: b(output(2)), want: r.want, reason: verdict.ReasonRateExceeded})
			list, err := d.ListIO()
			if err != nil || len(list) != 1 {
				t.Fatalf("%d connections, %v", len(list), err)
			}
			if out := list[0].Output; out.Frames != r.frames || (time.Since(out.Seen) < 20*time.Second) != (r.frames == 2) {
				t.Errorf("%d frames passed: %+v", r.frames, out)
			}
		})
	}
}

// idleIO makes a direction look silent for as long.
func (d *Datapath) idleIO(t testing.TB, key bpf.BridgeIoKey, silence time.Duration) {
	t.Helper()
	place := d.io.places[key].number
	var s bpf.BridgeIoState
	if err := d.objects.IoStates.Lookup(place, &s); err != nil {
		t.Fatal(err)
	}
	s.Seen -= uint64(silence)
	if err := d.objects.IoStates.Put(place, s); err != nil {
		t.Fatal(err)
	}
}

// TestIOWatchdogs: when one end has heard nothing for its time-out it has given the connection up,
// and the other end's frames are denied as well. Before the first frame there are ten seconds.
func TestIOWatchdogs(t *testing.T) {
	for _, r := range []struct {
		name    string
		silent  int // output or input
		started bool
		silence time.Duration
		over    bool
	}{
		{"output, within its time", 0, true, time.Second, false},
		{"output, over it", 0, true, 5100 * time.Millisecond, true},
		{"input, over it", 1, true, 5100 * time.Millisecond, true},
		{"output has not begun", 0, false, 6 * time.Second, false},
		{"output never began", 0, false, 10100 * time.Millisecond, true},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := ioConnection()
			c.Output.Timeout, c.Input.Timeout = 5*time.Second, 5*time.Second
			d := openIOWith(t, ioPlan(t, "closed", "enforce"), c)
			if r.started {
				d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
				d.meets(t, row{sent: a(input(1)), want: xdpRedirect})
			}
			e := d.io.open[1]
			d.idleIO(t, e.keys[r.silent], r.silence)
			want, reason := uint32(xdpRedirect), verdict.ReasonNone
			if r.over {
				want, reason = xdpDrop, verdict.ReasonIONotOpen
			}
			ended, err := d.SweepIO()
			if err != nil {
				t.Fatal(err)
			}
			if r.over != (len(ended) == 1 && ended[0].Why == IOTimedOut) {
				t.Errorf("the sweep ended %v", ended)
			}
			d.meets(t, row{sent: b(output(2)), want: want, reason: reason})
			d.meets(t, row{sent: a(input(2)), want: want, reason: reason})
		})
	}
	t.Run("without a sweep", func(t *testing.T) {
		d := openIOWith(t, ioPlan(t, "closed", "enforce"), ioConnection())
		d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
		d.idleIO(t, d.io.open[1].keys[0], 2*time.Minute)
		d.meets(t, row{sent: a(input(1)), want: xdpDrop, reason: verdict.ReasonIONotOpen})
		d.meets(t, row{sent: b(output(2)), want: xdpDrop, reason: verdict.ReasonIONotOpen})
	})
}

// TestIOSweepHoldsUpNobody: who opens and closes connections goes on while a sweep looks through many.
func TestIOSweepHoldsUpNobody(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"))
	for i := range ioQuota {
		c := ioConnection()
		c.Triad.Serial, c.Output.Connection, c.Input.Connection = uint16(i), uint32(2*i+2), uint32(2*i+3)
		d.mustOpenIO(t, c)
	}
	shortest, least := time.Hour, time.Hour // of the sweeps, and of the longest waits during one
	for range 20 {
		swept := make(chan time.Duration)
		go func() {
			began := time.Now()
			if _, err := d.SweepIO(); err != nil {
				t.Error(err)
			}
			swept <- time.Since(began)
		}()
		longest, took := time.Duration(0), time.Duration(0)
		for took == 0 {
			began := time.Now()
			d.IOIsOpen(1)
			longest = max(longest, time.Since(began))
			select {
			case took = <-swept:
			case <-time.After(10 * time.Microsecond): // or the sweep would wait for us
			}
		}
		shortest, least = min(shortest, took), min(least, longest)
	}
	if least > shortest/2 {
		t.Errorf("a sweep takes %v, and who comes to the table meanwhile waits %v", shortest, least)
	}
	t.Logf("a sweep takes %v, and who comes to the table meanwhile waits %v", shortest, least)
}

// TestIOThatIsOpenedWhileASweepLooks: what a sweep has found to be over is another connection by the time it
// comes to it, in the same places, and stays.
func TestIOThatIsOpenedWhileASweepLooks(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"), ioConnection())
	d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
	d.idleIO(t, d.io.open[1].keys[0], 2*time.Minute)
	looks := d.io.looks()
	now, err := d.readClock()
	if err != nil || len(looks) != 1 || !d.gaveUp(&looks[0], now) {
		t.Fatalf("%d connections, of which the first is not over: %v", len(looks), err)
	}
	again := d.mustOpenIO(t, ioConnection())
	d.settleIO(&looks[0], now)
	if !d.IOIsOpen(again) {
		t.Error("the sweep has ended what was opened meanwhile")
	}
	d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
	// A frame that has come meanwhile is a sign of life.
	d.idleIO(t, d.io.open[again].keys[0], 2*time.Minute)
	looks = d.io.looks()
	if err := d.objects.IoStates.Put(looks[0].places[0], bpf.BridgeIoState{Seen: now.jiffies(), Timeout: uint64(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if d.settleIO(&looks[0], now); !d.IOIsOpen(again) {
		t.Error("the sweep has ended what lives")
	}
}

// TestIOSharedGroup: a target sends to a group once for all that listen, for as long as one does.
func TestIOSharedGroup(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"), multicastConnection(1, outputID), multicastConnection(2, outputID+1))
	d.meets(t, row{sent: a(inputToGroup(1)), want: xdpRedirect})
	d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
	d.idleIO(t, d.io.open[1].keys[0], 2*time.Minute)
	if ended, err := d.SweepIO(); err != nil || len(ended) != 1 {
		t.Fatalf("ended %v, %v", ended, err)
	}
	d.meets(t, row{sent: a(inputToGroup(2)), want: xdpRedirect})
	d.CloseIO(IOEnd{macPLC, ipPLC}, IOTriad{Serial: 2, Vendor: 0x1337, OriginatorSerial: 42})
	if got, _ := d.run(t, policy.SideA, inputToGroup(3).bytes()); got != xdpDrop {
		t.Errorf("nobody listens, and the program returned %d", got)
	}
}

// TestEvasion33GroupOfAnotherDevice: a device that says it sends to another's group, under that one's identifier, is not
// let through, as long as the other's connection is open; under another identifier, or in another network, it is.
func TestEvasion33GroupOfAnotherDevice(t *testing.T) {
	text := strings.NewReplacer("OUTAGE", "closed", "MODE", "enforce", "to: [plc], protocol: enip", "to: [plc, rtu], protocol: enip",
		"  - {name: plain, from: [hmi], to: [rtu], protocol: udp, ports: [2222]}\n", "").Replace(ioPolicy)
	d := openIOWith(t, ioPlanOf(t, text))
	id := d.mustOpenIO(t, multicastConnection(1, outputID))
	thief := multicastConnection(2, outputID+1)
	thief.Target = IOEnd{macRTU, ipRTU}
	stolen := a(ether(macRTU, multicastMAC(ioGroup), ipPacket(ipRTU, ioGroup, 17, 0, ioDatagram(inputID, 1, 34))))
	if _, err := d.OpenIO(thief); !errors.Is(err, ErrIOGroup) {
		t.Errorf("%v, want %v", err, ErrIOGroup)
	}
	if got, _ := d.run(t, stolen.side, stolen.frame.bytes()); got != xdpDrop {
		t.Errorf("a frame in the other's name: the program returned %d", got)
	}
	d.meets(t, row{sent: a(inputToGroup(1)), want: xdpRedirect})
	other := thief
	other.Input.Connection++
	d.mustOpenIO(t, other)
	d.mustOpenIO(t, multicastConnection(3, outputID+2)) // one more that listens to the first
	d.CloseIOByID(id, IOClosed)
	if _, err := d.OpenIO(thief); !errors.Is(err, ErrIOGroup) {
		t.Errorf("%v, want %v", err, ErrIOGroup)
	}
	d.CloseIO(IOEnd{macPLC, ipPLC}, multicastConnection(3, 0).Triad)
	d.mustOpenIO(t, thief)
	d.meets(t, row{sent: stolen, want: xdpRedirect})
}

// TestIOSessionLoss: a connection is over when the TCP conversation that opened it is reset or both ends have
// closed it. One that may outlive its session is over with a reset alone, and a policy that no longer says so
// holds for what is open.
func TestIOSessionLoss(t *testing.T) {
	fromHMI, fromPLC := b(hmiTCP(40000, 44818, flagFIN|flagACK)), a(plcTCP(44818, 40000, flagFIN|flagACK))
	hmiReset, plcReset := b(hmiTCP(40000, 44818, flagRST)), a(plcTCP(44818, 40000, flagRST))
	for _, r := range []struct {
		name        string
		end         []closing
		over, lasts bool // whether it is, and whether one is not that may outlive its session
	}{
		{"reset by the originator", []closing{{hmiReset, mark.Resets}}, true, false},
		{"reset by the target", []closing{{plcReset, mark.Resets}}, true, false},
		{"closed by the originator", []closing{{fromHMI, 0}, {fromPLC, mark.Closed}}, true, true},
		{"closed by the target", []closing{{fromPLC, 0}, {fromHMI, mark.Closed}}, true, true},
		{"closed by one end", []closing{{fromPLC, 0}, {fromPLC, 0}}, false, true},
		{"resets and FIN that no receiver would believe", []closing{{hmiReset, 0}, {plcReset, 0}, {fromHMI, 0}, {fromPLC, 0}}, false, true},
	} {
		for _, outlives := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, outlives %v", r.name, outlives), func(t *testing.T) {
				plan := ioPlan(t, "closed", "enforce")
				d := openIOWith(t, plan)
				d.SetIOJudge(func(*policy.Plan, uint32, *IOConnection) (bool, bool) { return true, outlives })
				over := r.over && !(outlives && r.lasts)
				d.losesSession(t, r.end, over)
				if over || !r.over {
					return
				}
				d.SetIOJudge(func(*policy.Plan, uint32, *IOConnection) (bool, bool) { return true, false })
				if _, err := d.Apply(plan, 2); err != nil {
					t.Fatal(err)
				}
				if ended, err := d.SweepIO(); err != nil || len(ended) != 1 || ended[0].Why != IOSessionOver {
					t.Errorf("under a policy that does not let it outlive its session: ended %v, %v", ended, err)
				}
			})
		}
	}
}

// TestAnEndIsNotOfTheNextConnection: a client that resets its connection and begins another from the same port has both
// frames under way before either has a verdict, and I/O that is opened over the second is not over.
func TestAnEndIsNotOfTheNextConnection(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"))
	syn, reset := hmiTCP(40000, 44818, flagSYN), hmiTCP(40000, 44818, flagRST)
	d.leaves(t, policy.SideB, syn, mark.Opens)
	first, second := d.marked(t, policy.SideB, reset), d.marked(t, policy.SideB, syn)
	d.verdict(t, first, mark.Resets)
	d.verdict(t, second, mark.Opens)
	session, ok := d.FlowByKey(mark.Key(second))
	if !ok {
		t.Fatal("no flow")
	}
	c := ioConnection()
	c.Session = &session
	d.mustOpenIO(t, c)
	if ended, err := d.SweepIO(); err != nil || len(ended) != 0 {
		t.Errorf("ended %v, %v", ended, err)
	}
	d.leaves(t, policy.SideB, reset, mark.Resets)
	if ended, err := d.SweepIO(); err != nil || len(ended) != 1 {
		t.Errorf("its own reset ended %v, %v", ended, err)
	}
}

// closing is a frame that leaves, and what its verdict says that its conversation has come to.
type closing struct {
	sent
	stage uint32
}

// losesSession opens a connection over a session, ends that, and checks whether the connection is over.
func (d *Datapath) losesSession(t *testing.T, end []closing, over bool) {
	t.Helper()
	d.run(t, policy.SideB, hmiTCP(40000, 44818, flagSYN).bytes())
	session, ok := d.FlowByKey(d.keyOf(t, 40000))
	if !ok {
		t.Fatal("no flow")
	}
	c := ioConnection()
	c.Session = &session
	d.mustOpenIO(t, c)
	if ended, err := d.SweepIO(); err != nil || len(ended) != 0 {
		t.Fatalf("ended %v, %v", ended, err)
	}
	for _, s := range end {
		d.leaves(t, s.side, s.frame, s.stage)
	}
	ended, err := d.SweepIO()
	if err != nil || over != (len(ended) == 1 && ended[0].Why == IOSessionOver) {
		t.Errorf("ended %v, %v", ended, err)
	}
	if over {
		d.meets(t, row{sent: b(output(1)), want: xdpDrop, reason: verdict.ReasonIONotOpen})
	} else {
		d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
	}
}

// TestIOPolicyChange: a policy that permits a connection keeps it and its place in the sequence, one
// that does not ends it with the flip.
func TestIOPolicyChange(t *testing.T) {
	plan := ioPlan(t, "closed", "enforce")
	without := ioPlanOf(t, strings.ReplaceAll(strings.NewReplacer("OUTAGE", "closed", "MODE", "enforce").Replace(ioPolicy),
		"to: [plc], protocol: enip", "to: [rtu], protocol: enip, ports: [44818]"))
	permits := func(*policy.Plan, uint32, *IOConnection) (bool, bool) { return true, false }
	for _, r := range []struct {
		name  string
		plan  *policy.Plan
		judge IOJudge
		stays bool
	}{
		{"the same", plan, nil, true},
		{"the rules permit it", plan, permits, true},
		{"no conduit", without, permits, false},
		{"the rules do not permit it", plan, func(_ *policy.Plan, conduit uint32, c *IOConnection) (bool, bool) {
			return conduit != cyclicID || string(c.Opening) != "as it was opened", false
		}, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			d := openIOWith(t, plan, ioConnection())
			d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
			d.SetIOJudge(r.judge)
			for i := range uint32(3) {
				if _, err := d.Apply(r.plan, uint64(2+i)); err != nil {
					t.Fatal(err)
				}
				if r.stays {
					d.meets(t, row{sent: b(output(2 + i)), want: xdpRedirect})
				} else if got, _ := d.run(t, policy.SideB, output(2+i).bytes()); got != xdpDrop {
					t.Errorf("the program returned %d", got)
				}
			}
			ended, err := d.SweepIO()
			if err != nil || r.stays == (len(ended) == 1 && ended[0].Why == IOForbidden) {
				t.Errorf("ended %v, %v", ended, err)
			}
			if r.stays {
				d.meets(t, row{sent: b(output(4)), want: xdpDrop, reason: verdict.ReasonIOSequence})
			} else if _, err := d.OpenIO(ioConnection()); !errors.Is(err, ErrIONotPermitted) {
				t.Errorf("opened anew: %v", err)
			}
		})
	}
}

// TestIOFailedApply leaves connections as they are.
func TestIOFailedApply(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"), ioConnection())
	d.faults = func(s step, _ *ebpf.MapSpec, _ *ebpf.Map) error {
		if s == stepInstall {
			return errors.New("on purpose")
		}
		return nil
	}
	if _, err := d.Apply(ioPlan(t, "closed", "observe"), 2); err == nil {
		t.Fatal("the policy was applied")
	}
	d.meets(t, row{sent: b(output(1)), want: xdpRedirect})
}

// TestIOSurvivesTheDaemon: another daemon finds what is open, in the middle of its sequence.
func TestIOSurvivesTheDaemon(t *testing.T) {
	require(t)
	config := Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 10 * time.Second}
	plan := ioPlan(t, "closed", "enforce")
	first, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.setPorts(Port{"lo", 1}, Port{"lo", 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Apply(plan, 1); err != nil {
		t.Fatal(err)
	}
	kept := multicastConnection(1, outputID)
	session := Flow{Initiator: policy.SideB, Protocol: 6, A: End{macPLC, ipPLC, 44818}, B: End{macHMI, ipHMI, 40000}}
	kept.Session, kept.Tags, kept.Output.Variable = &session, []Tag{{0x8100, 10}}, true
	first.mustOpenIO(t, kept)
	frame := output(1).tagged(0x8100<<16 | 10)
	if got, _ := first.run(t, policy.SideB, frame.bytes()); got != xdpRedirect {
		t.Fatalf("the program returned %d", got)
	}
	half := first.io.open[1].keys[0]
	half.Connection++ // what a daemon left that ended while it opened another
	if err := first.objects.IoHalves.Put(&half, bpf.BridgeIoHalf{Place: 9}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	d := openWith(t, nil, config)
	list, err := d.ListIO()
	if err != nil || len(list) != 1 {
		t.Fatalf("%d connections, %v", len(list), err)
	}
	got := list[0].IOConnection
	if got.Originator != kept.Originator || got.Target != kept.Target || got.Triad != kept.Triad || got.Side != kept.Side ||
		got.Output != kept.Output || got.Input != kept.Input || string(got.Opening) != string(kept.Opening) ||
		len(got.Tags) != 1 || got.Tags[0] != kept.Tags[0] || got.Opened.Sub(kept.Opened).Abs() > time.Second ||
		got.Session == nil || got.Session.B != session.B || got.Session.A != session.A {
		t.Errorf("found    %+v\nwas open %+v", got, kept)
	}
	if d.objects.IoHalves.Lookup(&half, new(bpf.BridgeIoHalf)) == nil {
		t.Error("a half of no connection is still there")
	}
	passes := func(sequence uint32, want uint32) {
		t.Helper()
		if got, _ := d.run(t, policy.SideB, output(sequence).tagged(0x8100<<16|10).bytes()); got != want {
			t.Errorf("frame %d: the program returned %d, want %d", sequence, got, want)
		}
	}
	passes(2, xdpRedirect) // under the policy before
	if _, err := d.Apply(plan, 1); err != nil {
		t.Fatal(err)
	}
	passes(3, xdpRedirect)
	passes(3, xdpDrop)
	d.mustOpenIO(t, ioConnection())
	if !d.CloseIO(kept.Target, kept.Triad) {
		t.Error("the connection cannot be closed")
	}
	passes(4, xdpDrop)
}

// TestIOAdoption: what was opened unread passes in an outage where the conduit opens, and where it also
// lets connections live on it is adopted afterwards. A start by itself adopts nothing.
func TestIOAdoption(t *testing.T) {
	for _, r := range []struct {
		name, outage, join string
		window, outOfUse   bool
		want               uint32
		stays              bool // after it, and after the window
	}{
		{"no outage", "open", "resync", false, false, xdpDrop, false},
		{"an outage", "open", "resync", false, true, xdpRedirect, true},
		{"an outage, connections do not live on", "open", "reset", false, true, xdpRedirect, false},
		{"after an outage", "open", "resync", true, false, xdpRedirect, true},
		{"after an outage, connections do not live on", "open", "reset", true, false, xdpDrop, false},
		{"an outage of a conduit that closes", "closed", "resync", false, true, xdpDrop, false},
		{"after an outage of a conduit that closes", "closed", "resync", true, false, xdpDrop, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			require(t)
			d := openWith(t, ioPlan(t, r.outage, "enforce, on_join: "+r.join), Config{
				PinDir: testnet.PinDir(t), HeartbeatTimeout: 10 * time.Second, AdoptionWindow: time.Hour,
			})
			d.adoptsIO(r.window)
			if r.outOfUse {
				d.Rest(QueueOpens)
				d.Rest(QueueCloses)
			}
			for _, s := range []sent{b(output(1)), a(input(1))} {
				if got, _ := d.run(t, s.side, s.frame.bytes()); got != r.want {
					t.Errorf("unread: the program returned %d, want %d", got, r.want)
				}
			}
			if _, err := d.SweepIO(); err != nil {
				t.Fatal(err)
			}
			d.Beat(QueueOpens)
			d.adoptsIO(false)
			want := uint32(xdpDrop)
			if r.stays {
				want = xdpRedirect
			}
			for _, s := range []sent{b(output(2)), a(input(2))} {
				if got, _ := d.run(t, s.side, s.frame.bytes()); got != want {
					t.Errorf("afterwards: the program returned %d, want %d", got, want)
				}
			}
			if got, _ := d.run(t, policy.SideB, outputOf(ioDatagram(outputID, 3, 39)).bytes()); got != xdpDrop {
				t.Errorf("of another size: the program returned %d", got)
			}
			if _, err := d.Apply(ioPlan(t, "closed", "enforce"), 2); err != nil {
				t.Fatal(err)
			}
			if got, _ := d.run(t, policy.SideB, output(4).bytes()); got != xdpDrop {
				t.Errorf("under a policy that closes: the program returned %d", got)
			}
		})
	}
}

// TestIOAdoptionGoesByTheLastFrame: of what passes unread under one identifier what comes last is adopted. A device that has
// opened its connection anew meanwhile may use that again.
func TestIOAdoptionGoesByTheLastFrame(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "open", "enforce, on_join: resync"))
	d.Rest(QueueOpens)
	d.meets(t, row{sent: b(output(7)), want: xdpRedirect, reason: verdict.ReasonOutageOpen})
	d.meets(t, row{sent: b(outputOf(ioDatagram(outputID, 1, 40))), want: xdpRedirect, reason: verdict.ReasonOutageOpen})
	if _, err := d.SweepIO(); err != nil {
		t.Fatal(err)
	}
	d.Beat(QueueOpens)
	d.meets(t, row{sent: b(outputOf(ioDatagram(outputID, 2, 40))), want: xdpRedirect})
	d.meets(t, row{sent: b(output(3)), want: xdpDrop, reason: verdict.ReasonIOSize})
}

// TestIOAdoptionOfWhatWasOpenBefore: a connection whose ends gave it up in an outage, and opened it anew under the same
// identifiers, is adopted although the one before has not been swept away.
func TestIOAdoptionOfWhatWasOpenBefore(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "open", "enforce, on_join: resync"), ioConnection())
	for _, s := range []sent{b(output(7)), a(input(7))} {
		d.meets(t, row{sent: s, want: xdpRedirect})
	}
	for _, key := range d.io.open[1].keys {
		d.idleIO(t, key, 2*time.Minute)
	}
	d.Rest(QueueOpens)
	for _, s := range []sent{b(output(1)), a(input(1))} {
		d.meets(t, row{sent: s, want: xdpRedirect, reason: verdict.ReasonOutageOpen})
	}
	d.Beat(QueueOpens)
	if ended, err := d.SweepIO(); err != nil || len(ended) != 1 || ended[0].Why != IOTimedOut {
		t.Fatalf("ended %v, %v", ended, err)
	}
	for _, s := range []sent{b(output(2)), a(input(2))} {
		d.meets(t, row{sent: s, want: xdpRedirect})
	}
}

// TestIORateInAnOutage: a rate limit holds for I/O that passes unread, too.
func TestIORateInAnOutage(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "open", "enforce, limit: {frames: 1000/s}"))
	d.Rest(QueueOpens)
	d.meets(t, row{sent: b(output(1)), want: xdpRedirect, reason: verdict.ReasonOutageOpen})
	d.useUpRate(t, cyclicID)
	d.meets(t, row{sent: b(output(2)), want: xdpDrop, reason: verdict.ReasonRateExceeded})
	d.meets(t, row{sent: a(input(1)), want: xdpDrop, reason: verdict.ReasonRateExceeded})
}

// useUpRate has a conduit's rate limit deny everything for an hour.
func (d *Datapath) useUpRate(t *testing.T, conduit uint32) {
	t.Helper()
	due := monotonic() + uint64(time.Hour)
	if err := d.objects.Buckets.Put(d.Generation()&1*maxConduits+conduit, bpf.BridgeBucket{Frames: due, Bytes: due}); err != nil {
		t.Fatal(err)
	}
}

// adoptsIO begins or ends the time in which I/O is adopted.
func (d *Datapath) adoptsIO(now bool) {
	d.control.setIOAdoptUntil(0)
	if now {
		d.control.setIOAdoptUntil(monotonic() + uint64(time.Hour))
	}
}

// TestIOAdoptionWindow: a daemon that takes over after an outage adopts I/O for a while, one that takes
// over in time or finds nothing does not; the end of a bypass is as the end of an outage.
func TestIOAdoptionWindow(t *testing.T) {
	require(t)
	config := Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 5 * time.Second, AdoptionWindow: time.Hour}
	adopts := func(d *Datapath) bool { return d.control.block.IoAdoptUntil > monotonic() }
	begin := func() *Datapath {
		t.Helper()
		d, err := Open(config)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := begin()
	if adopts(d) {
		t.Error("a first start adopts I/O")
	}
	if _, err := d.Apply(ioPlan(t, "open", "enforce"), 1); err != nil {
		t.Fatal(err)
	}
	d.Beat(QueueOpens)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = begin()
	if adopts(d) {
		t.Error("a start in time adopts I/O")
	}
	d.Rest(QueueOpens)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = begin()
	defer d.Close()
	if !adopts(d) {
		t.Error("a start after an outage does not adopt I/O")
	}
	d.adoptsIO(false)
	if err := d.Forget(time.Minute); err != nil {
		t.Fatal(err)
	}
	if !adopts(d) {
		t.Error("the end of a bypass does not adopt I/O")
	}
}

// TestIOObserved: on an observed conduit everything passes, and what would be denied is counted.
func TestIOObserved(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "observe"), ioConnection())
	for _, r := range []row{
		{sent: b(output(1)), want: xdpRedirect},
		{sent: b(output(1)), want: xdpRedirect, reason: verdict.ReasonIOSequence},
		{sent: b(outputOf(ioDatagram(outputID, 2, 1))), want: xdpRedirect, reason: verdict.ReasonIOSize},
		{sent: b(outputOf(ioDatagram(1, 2, 1))), want: xdpRedirect, reason: verdict.ReasonIONotOpen},
	} {
		d.meets(t, r)
	}
}

// TestIOTableFull: the table takes so many, and of one originator a part; what ends leaves room.
func TestIOTableFull(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"))
	at := func(i int) IOConnection {
		c := ioConnection()
		c.Triad.Serial, c.Output.Connection, c.Input.Connection = uint16(i), uint32(2*i+2), uint32(2*i+3)
		return c
	}
	for i := range ioQuota {
		d.mustOpenIO(t, at(i))
	}
	_, err := d.OpenIO(at(ioQuota))
	if open, refused := d.CountIO(); !errors.Is(err, ErrIOQuota) || open != ioQuota || refused != 1 {
		t.Errorf("one more than the quota: %v, %d open, %d refused", err, open, refused)
	}
	d.CloseIO(IOEnd{macPLC, ipPLC}, at(3).Triad)
	d.mustOpenIO(t, at(ioQuota))
	d.io.free = d.io.free[:1]
	d.CloseIO(IOEnd{macPLC, ipPLC}, at(4).Triad)
	d.io.free = d.io.free[:1]
	if _, err := d.OpenIO(at(4)); !errors.Is(err, ErrIOFull) {
		t.Errorf("without a place: %v", err)
	}
}

// TestIOShareOfWhoAnswers: a device that sends under any number of identifiers in an outage uses up its own share of the
// table, and not that of who opens connections to it.
func TestIOShareOfWhoAnswers(t *testing.T) {
	require(t)
	config := Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 10 * time.Second}
	plan := ioPlan(t, "open", "enforce")
	first, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Apply(plan, 1); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(ioQuota) {
		if err := first.adoptInput(0x10000 + i); err != nil {
			t.Fatalf("adopted %d: %v", i, err)
		}
	}
	holds := func(d *Datapath, when string) {
		t.Helper()
		if err := d.adoptInput(0x20000); !errors.Is(err, ErrIOQuota) {
			t.Errorf("%s: one more of the device: %v", when, err)
		}
		d.CloseIOByID(d.mustOpenIO(t, ioConnection()), IOClosed)
	}
	holds(first, "at first")
	if _, err := first.Apply(plan, 2); err != nil {
		t.Fatal(err)
	}
	holds(first, "under the next policy")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	holds(openWith(t, plan, config), "under the next daemon")
}

// adoptInput adopts what the PLC sends the HMI under an identifier.
func (d *Datapath) adoptInput(connection uint32) error {
	key := bpf.BridgeIoKey{
		SourceMac: macPLC, DestinationMac: macHMI, Source: networkWord(ipPLC), Destination: networkWord(ipHMI),
		Connection: connection, Side: uint8(policy.SideA),
	}
	return d.adoptOne(&key, &bpf.BridgeIoCandidate{Size: 34, Reverse: 1})
}

// TestIOShareOfADevice: a device has one share, however many addresses it uses.
func TestIOShareOfADevice(t *testing.T) {
	text := strings.NewReplacer("OUTAGE", "closed", "MODE", "enforce", "ip: [198.18.0.20], ", "").Replace(ioPolicy)
	d := openIOWith(t, ioPlanOf(t, text))
	for i := range ioQuota + 1 {
		c := ioConnection()
		c.Triad.Serial, c.Output.Connection, c.Input.Connection = uint16(i), uint32(2*i+2), uint32(2*i+3)
		c.Originator.Address = netip4(198, 18, byte(1+i/250), byte(1+i%250))
		_, err := d.OpenIO(c)
		if (i < ioQuota && err != nil) || (i == ioQuota && !errors.Is(err, ErrIOQuota)) {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
}

// TestIOWrong refuses what no Forward Open means.
func TestIOWrong(t *testing.T) {
	d := openIOWith(t, ioPlan(t, "closed", "enforce"))
	for name, change := range map[string]func(*IOConnection){
		"no side":             func(c *IOConnection) { c.Side = policy.SideAny },
		"IPv6":                func(c *IOConnection) { c.Target.Address = netip.MustParseAddr("2001:2::1") },
		"sends to a group":    func(c *IOConnection) { c.Output.Group = ioGroup },
		"no group":            func(c *IOConnection) { c.Input.Group = ipRTU },
		"nothing":             func(c *IOConnection) { c.Output.Timeout, c.Input.Timeout = 0, 0 },
		"what opened it":      func(c *IOConnection) { c.Opening = make([]byte, IOOpeningMax+1) },
		"not permitted":       func(c *IOConnection) { c.Target = IOEnd{macRTU, ipRTU} },
		"the other direction": func(c *IOConnection) { c.Side, c.Originator, c.Target = policy.SideA, c.Target, c.Originator },
	} {
		c := ioConnection()
		change(&c)
		if _, err := d.OpenIO(c); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if n := countIO(t, d.objects.IoHalves) + countIO(t, d.objects.IoConnections); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

func countIO(t *testing.T, m *ebpf.Map) (n int) {
	t.Helper()
	var key any
	for {
		next, err := m.NextKeyBytes(key)
		if err != nil {
			t.Fatal(err)
		}
		if next == nil {
			return n
		}
		key = next
		n++
	}
}
