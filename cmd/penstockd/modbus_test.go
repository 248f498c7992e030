package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestReadPermittedWriteRefused is the whole way of a frame under the example policy: a third
// party's client reads, writes inside the permitted range, and is refused outside of it.
func TestReadPermittedWriteRefused(t *testing.T) {
	p := lay(t, plant.Options{})
	device, err := plant.StartDevice(t, p.Filler, 502)
	if err != nil {
		t.Fatal(err)
	}
	client, err := plant.Dial(p.HMI, p.Filler, 502, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.ReadRegisters(0, 10, 0); err != nil {
		t.Fatalf("a permitted read: %v", err)
	}
	if err := client.WriteRegister(45, 1200); err != nil {
		t.Fatalf("a permitted write: %v", err)
	}
	if got := device.Register(45); got != 1200 {
		t.Errorf("the device holds %d after a permitted write of 1200", got)
	}
	if err := client.WriteRegister(100, 1); err == nil {
		t.Error("a write outside of the permitted addresses went through")
	}
	if got := device.Writes(); got != 1 {
		t.Errorf("%d writes reached the device, want 1", got)
	}
	_, err = p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Reason == verdict.ReasonAddressNotPermitted && e.Conduit == "hmi-to-filler" &&
			e.Source == "hmi-1" && e.Destination == "filler-plc" && e.Operation == "write_single_register"
	})
	if err != nil {
		t.Error(err)
	}
}

const (
	resetPort = 502  // of a conduit with on_deny: reset
	dropPort  = 1502 // of one with on_deny: drop
	widePort  = 2502 // of one whose rules name more
)

// modbusSite has a conduit for each way of refusing, and one with rules for every function.
func modbusSite() string {
	return site{conduits: []string{
		modbusConduit("resets", resetPort, "on_deny: reset"),
		modbusConduit("drops", dropPort, "on_deny: drop"),
		fmt.Sprintf(`name: wide
from: [hmi-1]
to: [filler-plc]
protocol: modbus
ports: [%d]
on_deny: reset
rules:
  - {functions: [read_coils, 2], units: [1-3], addresses: [0-99]}
  - {functions: [read_holding_registers, read_input_registers], units: [1], addresses: [0-99]}
  - {functions: [write_single_coil], units: [1], addresses: [8-15]}
  - {functions: [write_single_register], units: [1], addresses: [40-49, 60], values: [0-1500]}
  - {functions: [write_multiple_coils], units: [1], addresses: [8-15]}
  - {functions: [16], units: [1], addresses: [40-49], values: [0-1500]}
  - {functions: [mask_write_register], units: [2], addresses: [7]}
  - {functions: [read_write_multiple_registers], units: [1], addresses: [0-49], values: [0-10]}`, widePort),
	}}.String()
}

// requestRow is one request and what becomes of it; no reason is permitted.
type requestRow struct {
	name   string
	unit   byte
	pdu    []byte
	reason verdict.Reason
}

func requestRows() []requestRow {
	const (
		function = verdict.ReasonFunctionNotPermitted
		unit     = verdict.ReasonUnitNotPermitted
		address  = verdict.ReasonAddressNotPermitted
		value    = verdict.ReasonValueNotPermitted
	)
	return []requestRow{
		{"FC 1 inside", 1, pdu(1, words(0, 100)), 0},
		{"FC 1 by another permitted unit", 3, pdu(1, words(0, 8)), 0},
		{"FC 1 one address too far", 1, pdu(1, words(0, 101)), address},
		{"FC 1 by a unit that is not permitted", 4, pdu(1, words(0, 8)), unit},
		{"FC 2 inside", 2, pdu(2, words(92, 8)), 0},
		{"FC 2 beyond", 2, pdu(2, words(93, 8)), address},
		{"FC 3 inside", 1, readRegisters(0, 100), 0},
		{"FC 3 by a unit that only coils are permitted", 2, readRegisters(0, 1), unit},
		{"FC 3 across the end", 1, readRegisters(99, 2), address},
		{"FC 4 inside", 1, pdu(4, words(10, 10)), 0},
		{"FC 4 outside", 1, pdu(4, words(1000, 1)), address},
		{"FC 5 on", 1, pdu(5, words(8, 0xff00)), 0},
		{"FC 5 off", 1, pdu(5, words(15, 0)), 0},
		{"FC 5 outside", 1, pdu(5, words(16, 0xff00)), address},
		{"EVASIONS 14 FC 5 with a value that is neither", 1, pdu(5, words(8, 1)), verdict.ReasonMalformed},
		{"FC 6 inside", 1, writeRegister(60, 1500), 0},
		{"FC 6 between two ranges", 1, writeRegister(50, 1), address},
		{"FC 6 value too great", 1, writeRegister(45, 1501), value},
		{"EVASIONS 14 FC 6 by unit 0, which is everybody", 0, writeRegister(45, 1), unit},
		{"FC 15 inside", 1, pdu(15, words(8, 8), []byte{1, 0xaa}), 0},
		{"FC 15 across the end", 1, pdu(15, words(8, 9), []byte{2, 0xaa, 1}), address},
		{"FC 16 inside", 1, writeRegisters(40, 0, 1500), 0},
		{"FC 16 first inside, last outside", 1, writeRegisters(49, 1, 1), address},
		{"FC 16 last value too great", 1, writeRegisters(40, 1, 1501), value},
		{"EVASIONS 14 FC 22 inside", 2, pdu(22, words(7, 0xff00, 0x00ff)), 0},
		{"EVASIONS 14 FC 22 outside", 2, pdu(22, words(8, 0xff00, 0x00ff)), address},
		{"EVASIONS 14 FC 22 by another unit", 1, pdu(22, words(7, 0xff00, 0x00ff)), unit},
		{"EVASIONS 14 FC 23 inside", 1, pdu(23, words(0, 2, 49, 1), []byte{2}, words(10)), 0},
		{"EVASIONS 14 FC 23 writes outside", 1, pdu(23, words(0, 2, 50, 1), []byte{2}, words(10)), address},
		{"FC 23 reads what FC 3 may", 1, pdu(23, words(99, 1, 0, 1), []byte{2}, words(10)), 0},
		{"EVASIONS 14 FC 23 reads outside", 1, pdu(23, words(99, 2, 0, 1), []byte{2}, words(10)), address},
		{"EVASIONS 14 FC 23 value too great", 1, pdu(23, words(0, 2, 0, 1), []byte{2}, words(11)), value},
		{"EVASIONS 11 FC 3 longer than itself around a write", 1, append(readRegisters(0, 1), writeRegisters(100, 1)...), verdict.ReasonMalformed},
		{"EVASIONS 13 FC 8", 1, pdu(8, words(0, 0)), function},
		{"EVASIONS 13 FC 43", 1, pdu(43, []byte{14, 1, 0}), function},
		{"EVASIONS 13 FC 90", 1, pdu(90, []byte{0, 0x10}), function},
		{"EVASIONS 13 FC 0", 1, pdu(0, words(0, 1)), verdict.ReasonMalformed},
		{"EVASIONS 13 FC 0x83 from a client", 1, pdu(0x83, []byte{1}), verdict.ReasonMalformed},
		{"EVASIONS 14 address and quantity over 65536", 1, readRegisters(65535, 2), verdict.ReasonMalformed},
	}
}

// TestInvariant01RequestsByFunctionUnitAddressValue sends each request alone, over a connection
// of its own that has had a lawful exchange before.
func TestInvariant01RequestsByFunctionUnitAddressValue(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	device := startStation(t, p.Filler, widePort)
	lawful := keepTalking(t, p, widePort)
	for i, row := range requestRows() {
		t.Run(row.name, func(t *testing.T) {
			request := mbap(uint16(1000+i), row.unit, row.pdu)
			exchange(t, p, device, widePort, request, row.reason, func(conn net.Conn) error {
				_, err := conn.Write(request)
				return err
			})
		})
	}
	lawful.check(t)
}

// exchange sends a request by a function of the test's, after a lawful one, and holds the device,
// the client and the events against what should become of it.
func exchange(t *testing.T, p *plant.Plant, device *station, port int, request []byte, reason verdict.Reason, send func(net.Conn) error) {
	t.Helper()
	conn := socketTo(t, p.HMI, p.Filler, port)
	before := mbap(1, 1, readRegisters(0, 1))
	if err := ask(conn, before, patience); err != nil {
		t.Fatalf("the lawful request before: %v", err)
	}
	call := device.callFrom(t, conn)
	sent := send(conn)
	if reason == 0 {
		if sent != nil {
			t.Fatal(sent)
		}
		if err := readReply(conn, request, patience); err != nil {
			t.Errorf("a permitted request: %v", err)
		}
		return
	}
	// A write that meets the reset takes the news from the reads that follow.
	if err := awaitReset(conn, patience); err != nil && !wasReset(sent) {
		t.Errorf("the client of a denied request: %v", err)
	}
	eventually(t, "the device's end to be reset", func() bool { return wasReset(call.end()) })
	neverComplete(t, call, before, request)
	_, err := p.AwaitEvent(patience, func(e *event.Event) bool {
		return e.Reason == reason && e.SourceAddress == conn.LocalAddr().String() && e.Verdict == verdict.Deny
	})
	if err != nil {
		t.Errorf("no event says %v: %v", reason, err)
	}
}

// neverComplete fails unless the device has received what was lawful and of the denied message
// at most a beginning.
func neverComplete(t *testing.T, c *call, lawful, denied []byte) {
	t.Helper()
	got := c.bytes()
	rest, ok := bytes.CutPrefix(got, lawful)
	if !ok {
		t.Errorf("the device received % x, want % x first", got, lawful)
		return
	}
	if len(rest) >= len(denied) || !bytes.HasPrefix(denied, rest) {
		t.Errorf("the device received % x after what was lawful, want at most a beginning of % x", rest, denied)
	}
}

// TestInvariant01ByteByByte is EVASIONS 1: one byte a segment.
func TestInvariant01ByteByByte(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	device := startStation(t, p.Filler, resetPort)
	for _, row := range []requestRow{
		{"permitted read", 1, readRegisters(0, 10), 0},
		{"permitted write", 1, writeRegisters(40, 1, 2, 3), 0},
		{"permitted FC 23", 1, pdu(23, words(45, 2, 49, 1), []byte{2}, words(10)), 0},
		{"denied address", 1, writeRegister(100, 1), verdict.ReasonAddressNotPermitted},
		{"denied last value", 1, writeRegisters(40, 1, 2, 1501), verdict.ReasonValueNotPermitted},
		{"denied unit", 2, readRegisters(0, 1), verdict.ReasonUnitNotPermitted},
		{"denied function", 1, pdu(8, words(0, 0)), verdict.ReasonFunctionNotPermitted},
	} {
		t.Run(row.name, func(t *testing.T) {
			request := mbap(7, row.unit, row.pdu)
			exchange(t, p, device, resetPort, request, row.reason, func(conn net.Conn) error {
				return inSegments(conn, request, 1)
			})
		})
	}
}

// inSegments sends b so that each n bytes are a segment: nothing is put together while each
// write waits until the one before has left.
func inSegments(conn net.Conn, b []byte, n int) error {
	for len(b) > 0 {
		n = min(n, len(b))
		if _, err := conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// TestInvariant01OneRequestOverManySegments sends the longest request in pieces of every size
// that a terminal server might make.
func TestInvariant01OneRequestOverManySegments(t *testing.T) {
	p := lay(t, plant.Options{Policy: strings.ReplaceAll(modbusSite(), "addresses: [40-49], values", "addresses: [40-299], values")})
	device := startStation(t, p.Filler, resetPort)
	lawful := make([]uint16, 123)
	denied := make([]uint16, 123)
	denied[122] = 1501
	for _, n := range []int{3, 7, 8, 12, 13, 100, 252} {
		for _, row := range []requestRow{
			{"permitted", 1, writeRegisters(40, lawful...), 0},
			{"denied by its last value", 1, writeRegisters(40, denied...), verdict.ReasonValueNotPermitted},
		} {
			t.Run(fmt.Sprintf("%s, %d bytes each", row.name, n), func(t *testing.T) {
				request := mbap(9, row.unit, row.pdu)
				exchange(t, p, device, resetPort, request, row.reason, func(conn net.Conn) error {
					return inSegments(conn, request, n)
				})
			})
		}
	}
}

// TestInvariant01SeveralRequestsInOneSegment is EVASIONS 2.
func TestInvariant01SeveralRequestsInOneSegment(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	device := startStation(t, p.Filler, resetPort)
	read := mbap(2, 1, readRegisters(0, 2))
	write := mbap(3, 1, writeRegister(45, 7))
	denied := mbap(4, 1, writeRegister(100, 1))
	other := mbap(5, 1, writeRegisters(40, 9999))
	for _, row := range []struct {
		name     string
		requests [][]byte
		lawful   int // how many of them come before a denied one
		reason   verdict.Reason
	}{
		{"all permitted", [][]byte{read, write, mbap(6, 1, readRegisters(4, 4))}, 3, 0},
		{"denied first", [][]byte{denied, read}, 0, verdict.ReasonAddressNotPermitted},
		{"denied last", [][]byte{read, write, denied}, 2, verdict.ReasonAddressNotPermitted},
		{"denied in the middle", [][]byte{read, other, write}, 1, verdict.ReasonValueNotPermitted},
		{"nothing but denied", [][]byte{denied, other}, 0, verdict.ReasonAddressNotPermitted},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := socketTo(t, p.HMI, p.Filler, resetPort)
			first := mbap(1, 1, readRegisters(0, 1))
			if err := ask(conn, first, patience); err != nil {
				t.Fatal(err)
			}
			call := device.callFrom(t, conn)
			if _, err := conn.Write(bytes.Join(row.requests, nil)); err != nil {
				t.Fatal(err)
			}
			if row.reason == 0 {
				for _, r := range row.requests {
					if err := readReply(conn, r, patience); err != nil {
						t.Error(err)
					}
				}
				return
			}
			if err := awaitReset(conn, patience); err != nil {
				t.Error(err)
			}
			eventually(t, "the device's end to be reset", func() bool { return wasReset(call.end()) })
			// The segment is held whole: what is lawful in it may have left or not.
			got, ok := bytes.CutPrefix(call.bytes(), first)
			lawful := bytes.Join(row.requests[:row.lawful], nil)
			whole := bytes.Join(row.requests[:row.lawful+1], nil)
			if !ok || len(got) >= len(whole) || !bytes.HasPrefix(whole, got) {
				t.Errorf("the device received % x, want at most % x and a beginning of the denied request", got, lawful)
			}
			_, err := p.AwaitEvent(patience, func(e *event.Event) bool {
				return e.Reason == row.reason && e.SourceAddress == conn.LocalAddr().String()
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOnDenyReset ends both ends, and at once.
func TestOnDenyReset(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	device := startStation(t, p.Filler, resetPort)
	lawful := keepTalking(t, p, resetPort)
	took := time.Duration(math.MaxInt64)
	for range 3 { // of which a busy machine may delay some
		conn := socketTo(t, p.HMI, p.Filler, resetPort)
		if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
			t.Fatal(err)
		}
		call := device.callFrom(t, conn)
		began := time.Now()
		if _, err := conn.Write(mbap(2, 1, writeRegister(100, 1))); err != nil {
			t.Fatal(err)
		}
		if err := awaitReset(conn, patience); err != nil {
			t.Errorf("the client: %v", err)
		}
		eventually(t, "the device's end to be reset", func() bool { return wasReset(call.end()) })
		took = min(took, time.Since(began))
	}
	if took > time.Second {
		t.Errorf("the ends were reset after %v at best, want at once", took)
	}
	lawful.check(t)
}

// TestOnDenyDrop suppresses the request: nobody is told, the device never gets it, however often
// it is repeated, and what follows it does not complete it (EVASIONS 9).
func TestOnDenyDrop(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	device := startStation(t, p.Filler, dropPort)
	lawful := keepTalking(t, p, dropPort)
	conn := socketTo(t, p.HMI, p.Filler, dropPort)
	first := mbap(1, 1, readRegisters(0, 1))
	if err := ask(conn, first, patience); err != nil {
		t.Fatal(err)
	}
	call := device.callFrom(t, conn)
	denied := mbap(2, 1, writeRegister(100, 1))
	if _, err := conn.Write(denied); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if _, err := conn.Write(mbap(3, 1, readRegisters(0, 1))); err != nil {
		t.Fatal(err)
	}
	if err := awaitReset(conn, 1500*time.Millisecond); err == nil || !strings.Contains(err.Error(), "no reset") {
		t.Errorf("the client: %v, want silence", err)
	}
	if err := call.end(); err != nil {
		t.Errorf("the device's end: %v, want silence", err)
	}
	neverComplete(t, call, first, denied)
	lawful.check(t)
}

// talker is lawful traffic that goes on beside a test.
type talker struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err and asked are set
	err    error
	asked  int
}

// keepTalking has hmi-1 read every few milliseconds until check.
func keepTalking(t *testing.T, p *plant.Plant, port int) *talker {
	t.Helper()
	conn := socketTo(t, p.HMI, p.Filler, port)
	ctx, cancel := context.WithCancel(context.Background())
	k := &talker{cancel: cancel, done: make(chan struct{})}
	t.Cleanup(func() { cancel(); <-k.done })
	go func() {
		defer close(k.done)
		k.talk(ctx, conn)
	}()
	return k
}

func (k *talker) talk(ctx context.Context, conn net.Conn) {
	for ; ctx.Err() == nil; k.asked++ {
		if k.err = ask(conn, mbap(uint16(k.asked), 1, readRegisters(0, 10)), 5*time.Second); k.err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// check ends the traffic and fails the test if a request of it was lost.
func (k *talker) check(t *testing.T) {
	t.Helper()
	k.cancel()
	<-k.done
	if k.err != nil || k.asked == 0 {
		t.Errorf("lawful traffic on another connection stopped after %d requests: %v", k.asked, k.err)
	}
}

// TestTenThousandLawfulTransactions: none refused, none lost.
func TestTenThousandLawfulTransactions(t *testing.T) {
	const clients, each = 5, 2000
	p := lay(t, plant.Options{Policy: modbusSite(), Settings: []string{longHeartbeat}})
	device, err := plant.StartDevice(t, p.Filler, resetPort)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for n := range clients {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := transact(p, n, each); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if got, want := device.Writes(), clients*each/2; got != want {
		t.Errorf("%d writes reached the device, want %d", got, want)
	}
	// The clients have their replies before what they acknowledge them with has its verdict.
	eventually(t, "every queue to be empty", func() bool { return queued(t, p) == 0 })
	const messages = 2 * clients * each
	eventually(t, "every message to be counted", func() bool { return conduitOf(t, p, "resets").Allowed >= messages })
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range status.Conduits {
		if c.Denied != 0 {
			t.Errorf("conduit %s denied %d", c.Name, c.Denied)
		}
		if c.Name == "resets" && c.Allowed != messages {
			t.Errorf("conduit %s allowed %d messages, want %d", c.Name, c.Allowed, messages)
		}
	}
	for _, q := range status.Queues {
		if q.Dropped != 0 {
			t.Errorf("queue %d dropped %d", q.Number, q.Dropped)
		}
	}
	if status.Outage.UninspectedFrames != 0 {
		t.Errorf("%d frames passed uninspected", status.Outage.UninspectedFrames)
	}
}

// queued returns the packets that wait in any of the queues.
func queued(t *testing.T, p *plant.Plant) (packets uint64) {
	t.Helper()
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range status.Queues {
		packets += q.Depth
	}
	return packets
}

// transact writes and reads back by a third party's client, each of them in registers of its own.
func transact(p *plant.Plant, client, transactions int) error {
	c, err := plant.Dial(p.HMI, p.Filler, resetPort, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	register := uint16(40 + client)
	for i := range transactions / 2 {
		value := uint16(i % 1500)
		if err := c.WriteRegister(register, value); err != nil {
			return fmt.Errorf("write %d by client %d: %w", i, client, err)
		}
		got, err := c.ReadRegister(register, 0)
		if err != nil {
			return fmt.Errorf("read %d by client %d: %w", i, client, err)
		}
		if got != value {
			return fmt.Errorf("read %d by client %d: register %d holds %d, want %d", i, client, register, got, value)
		}
	}
	return nil
}
