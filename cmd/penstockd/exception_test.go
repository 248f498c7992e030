package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// deniedCall is an operation that the example policy denies, by a third party's client.
type deniedCall struct {
	name   string
	call   func(*modbus.ModbusClient) error
	want   error
	reason verdict.Reason
}

func deniedCalls() []deniedCall {
	return []deniedCall{
		{"register outside", func(c *modbus.ModbusClient) error { return c.WriteRegister(100, 1) },
			modbus.ErrIllegalDataAddress, verdict.ReasonAddressNotPermitted},
		{"registers across the end", func(c *modbus.ModbusClient) error { return c.WriteRegisters(48, []uint16{1, 1, 1}) },
			modbus.ErrIllegalDataAddress, verdict.ReasonAddressNotPermitted},
		{"value too great", func(c *modbus.ModbusClient) error { return c.WriteRegister(46, 1501) },
			modbus.ErrIllegalDataValue, verdict.ReasonValueNotPermitted},
		{"last value too great", func(c *modbus.ModbusClient) error { return c.WriteRegisters(46, []uint16{1, 1501}) },
			modbus.ErrIllegalDataValue, verdict.ReasonValueNotPermitted},
		{"coil", func(c *modbus.ModbusClient) error { return c.WriteCoil(1, true) },
			modbus.ErrIllegalFunction, verdict.ReasonFunctionNotPermitted},
		{"coils", func(c *modbus.ModbusClient) error { return c.WriteCoils(1, []bool{true, true}) },
			modbus.ErrIllegalFunction, verdict.ReasonFunctionNotPermitted},
		{"read from another unit", func(c *modbus.ModbusClient) error {
			if err := c.SetUnitId(2); err != nil {
				return err
			}
			_, err := c.ReadRegisters(0, 1, modbus.HOLDING_REGISTER)
			return errors.Join(err, c.SetUnitId(1))
		}, modbus.ErrIllegalFunction, verdict.ReasonUnitNotPermitted},
	}
}

// tryDenied has each denied call answered by its exception on one connection, which reads and
// writes between them.
func tryDenied(t *testing.T, p *plant.Plant) {
	t.Helper()
	client, err := plant.Dial(p.HMI, p.Filler, 502, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i, row := range deniedCalls() {
		if err := row.call(client); !errors.Is(err, row.want) {
			t.Fatalf("%s: %v, want %v", row.name, err, row.want)
		}
		if err := client.WriteRegister(45, uint16(i)); err != nil {
			t.Fatalf("a permitted write after %s: %v", row.name, err)
		}
		if got, err := client.ReadRegister(45, modbus.HOLDING_REGISTER); err != nil || got != uint16(i) {
			t.Fatalf("a read after %s: %d, %v", row.name, got, err)
		}
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Reason == row.reason }); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		time.Sleep(150 * time.Millisecond) // the example policy permits ten writes a second
	}
}

func TestInvariant01ExceptionOnALiveConnection(t *testing.T) {
	p := lay(t, plant.Options{})
	device, err := plant.StartDevice(t, p.Filler, 502)
	if err != nil {
		t.Fatal(err)
	}
	tryDenied(t, p)
	if got, want := device.Writes(), len(deniedCalls()); got != want {
		t.Errorf("%d writes reached the device, want %d", got, want)
	}
	for _, register := range []uint16{46, 47, 48, 49, 50, 100} {
		if got := device.Register(register); got != 0 {
			t.Errorf("register %d holds %d", register, got)
		}
	}
}

// TestExceptionForARate: what is over the rate is busy, the rest of the writes arrive, and nobody
// has to connect again.
func TestExceptionForARate(t *testing.T) {
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
	done, busy := 0, 0
	for i := range 60 {
		switch err := client.WriteRegister(45, uint16(i)); {
		case err == nil:
			done++
		case errors.Is(err, modbus.ErrServerDeviceBusy):
			busy++
		default:
			t.Fatal(err)
		}
	}
	if done < 10 || busy == 0 || device.Writes() != done {
		t.Errorf("%d done, %d busy, %d reached the device", done, busy, device.Writes())
	}
	time.Sleep(1100 * time.Millisecond)
	if err := client.WriteRegister(45, 7); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

// TestInvariant01ExceptionsAmongPipelinedRequests is EVASIONS 2 and 14: everything in one segment.
func TestInvariant01ExceptionsAmongPipelinedRequests(t *testing.T) {
	p := lay(t, plant.Options{})
	device, err := plant.StartDevice(t, p.Filler, 502)
	if err != nil {
		t.Fatal(err)
	}
	type exchange struct{ request, reply []byte }
	read := func(transaction uint16) exchange {
		request := mbap(transaction, 1, readRegisters(45, 1))
		return exchange{request, lawfulReply(request)}
	}
	refused := func(transaction uint16, unit byte, p []byte, code byte) exchange {
		return exchange{mbap(transaction, unit, p), mbap(transaction, unit, []byte{p[0] | 0x80, code})}
	}
	exchanges := []exchange{
		read(1),
		refused(2, 1, writeRegister(100, 1), 2),
		read(3),
		refused(4, 1, writeRegisters(100, 1, 2), 2),
		refused(5, 1, pdu(22, words(45, 0, 7)), 1),
		refused(6, 1, pdu(8, words(4, 0)), 1),
		refused(7, 1, pdu(23, words(0, 2, 50, 1), []byte{2}, words(10)), 1),
		read(8),
		refused(8, 2, readRegisters(0, 1), 1),
		refused(9, 0, writeRegister(45, 1), 1),
		refused(10, 1, pdu(43, []byte{13, 0, 0}), 1),
		refused(11, 1, pdu(90, []byte{0, 1}), 1),
		refused(12, 1, pdu(5, words(0, 0xff00)), 1),
		read(13),
	}
	var requests, replies []byte
	for _, e := range exchanges {
		requests, replies = append(requests, e.request...), append(replies, e.reply...)
	}
	conn := socketTo(t, p.HMI, p.Filler, 502)
	for range 3 {
		if _, err := conn.Write(requests); err != nil {
			t.Fatal(err)
		}
		mustRead(t, conn, replies)
	}
	for _, e := range exchanges { // and each alone
		if _, err := conn.Write(e.request); err != nil {
			t.Fatal(err)
		}
		mustRead(t, conn, e.reply)
	}
	if got := device.Writes(); got != 0 {
		t.Errorf("%d writes reached the device", got)
	}
}

// mustRead reads what has to come next on a connection.
func mustRead(t *testing.T, conn net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read % x, %v; want % x", got[:n], err, want)
	}
}

// TestExceptionFallsBackToReset: a device that answers the neutralised request with registers, and
// a denied request of which a part has left.
func TestExceptionFallsBackToReset(t *testing.T) {
	p := lay(t, plant.Options{})
	device := startStation(t, p.Filler, 502)
	lawful := keepTalking(t, p, 502)
	for _, row := range []struct {
		name  string
		piece int
	}{
		{"a device with all registers", 12},
		{"a request in pieces", 11},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := socketTo(t, p.HMI, p.Filler, 502)
			before := mbap(1, 1, readRegisters(0, 1))
			if err := ask(conn, before, patience); err != nil {
				t.Fatal(err)
			}
			call := device.callFrom(t, conn)
			denied := mbap(2, 1, writeRegister(45, 1501))
			sent := inSegments(conn, denied, row.piece)
			if err := awaitReset(conn, patience); err != nil && !wasReset(sent) {
				t.Error(err)
			}
			eventually(t, "the device's end to be reset", func() bool { return wasReset(call.end()) })
			if bytes.Contains(call.bytes(), denied) {
				t.Error("the device received the denied request")
			}
		})
	}
	lawful.check(t)
}

// startLibmodbus compiles and starts a libmodbus server on a host, or skips.
func startLibmodbus(t *testing.T, lab *testnet.Lab, h *testnet.Host, port int) *testnet.Process {
	t.Helper()
	testnet.RequireProgram(t, "gcc")
	testnet.RequireFile(t, "/usr/include/modbus/modbus.h", "libmodbus-dev")
	binary := filepath.Join(t.TempDir(), "libmodbus_server")
	compile := exec.Command("gcc", "-I/usr/include/modbus", "-o", binary, "testdata/libmodbus_server.c", "-lmodbus")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compile the libmodbus server: %v\n%s", err, out)
	}
	server, err := lab.Start(h, binary, h.Address().String(), fmt.Sprint(port))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.WaitOutput("listening", 3*patience); err != nil {
		t.Fatal(err)
	}
	return server
}

// executed returns the writes that a libmodbus server executed.
func executed(server *testnet.Process) (list []string) {
	for _, line := range strings.Split(server.Output(), "\n") {
		if strings.HasPrefix(line, "executes") {
			list = append(list, line)
		}
	}
	return list
}

// mustOnlyWrite45 fails if a libmodbus server executed anything but writes to register 45.
func mustOnlyWrite45(t *testing.T, server *testnet.Process) {
	t.Helper()
	for _, line := range executed(server) {
		if !strings.HasSuffix(line, "function 6 at 45") {
			t.Errorf("libmodbus %s", line)
		}
	}
}

func TestInvariant01ExceptionFromLibmodbus(t *testing.T) {
	p := lay(t, plant.Options{})
	server := startLibmodbus(t, p.Lab, p.Filler, 502)
	tryDenied(t, p)
	mustOnlyWrite45(t, server)
	want := len(deniedCalls())
	eventually(t, "libmodbus to say what it executed", func() bool { return len(executed(server)) >= want })
	if got := len(executed(server)); got != want {
		t.Errorf("libmodbus executed %d writes, want %d", got, want)
	}
}

func TestInvariant01ExceptionFromLibmodbusToMbpoll(t *testing.T) {
	p := lay(t, plant.Options{})
	server := startLibmodbus(t, p.Lab, p.Filler, 502)
	testnet.RequireProgram(t, "mbpoll")
	filler := p.Filler.Address().String()
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"a permitted read", []string{"-r", "0", "-c", "10", filler}, ""},
		{"register outside", []string{"-r", "100", filler, "1"}, "Illegal data address"},
		{"registers across the end", []string{"-r", "48", filler, "1", "1", "1"}, "Illegal data address"},
		{"value too great", []string{"-r", "45", filler, "1501"}, "Illegal data value"},
		{"coil", []string{"-t", "0", "-r", "1", filler, "1"}, "Illegal function"},
		{"another permitted read", []string{"-r", "0", "-c", "10", filler}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := append([]string{"-m", "tcp", "-a", "1", "-0", "-1", "-o", "5"}, row.args...)
			client, err := p.Lab.Start(p.HMI, "mbpoll", args...)
			if err != nil {
				t.Fatal(err)
			}
			err = client.Wait(20 * time.Second)
			if (err == nil) != (row.want == "") || !strings.Contains(client.Output(), row.want) {
				t.Errorf("%v, want %q\n%s", err, row.want, client.Output())
			}
		})
	}
	mustOnlyWrite45(t, server)
}

// hidingWrite is a permitted write whose values read as a write to register 100: its head, and the
// values.
func hidingWrite(transaction uint16) (head, hidden []byte) {
	hidden = mbap(9, 1, writeRegister(100, 1))
	var values []uint16
	for i := 0; i < len(hidden); i += 2 {
		values = append(values, binary.BigEndian.Uint16(hidden[i:]))
	}
	whole := mbap(transaction, 1, writeRegisters(40, values...))
	return whole[:len(whole)-len(hidden)], hidden
}

// sendAround sends a request and the head of a write, and the rest of that a second later: libmodbus
// sleeps over a function that it does not know for half of one, and flushes what has come by then.
func sendAround(conn net.Conn, request, head, hidden []byte) error {
	for _, piece := range [][]byte{request, head} {
		if _, err := conn.Write(piece); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(800 * time.Millisecond)
	_, err := conn.Write(hidden)
	return err
}

// TestInvariant01WriteHiddenBehindAnException is EVASIONS 11 turned against the refusal itself: a
// denied request leaves with a function that libmodbus does not know, and the second piece of a
// permitted write, its values, would be read as a request.
func TestInvariant01WriteHiddenBehindAnException(t *testing.T) {
	p := lay(t, plant.Options{})
	server := startLibmodbus(t, p.Lab, p.Filler, 502)
	whole := 0
	for tries := 0; whole == 0 && tries < 4; tries++ {
		whole = hideBehindAnException(t, p)
	}
	if whole == 0 {
		t.Error("the permitted write never came whole")
	}
	eventually(t, "libmodbus to say what it executed", func() bool { return len(executed(server)) > 0 })
	if got := executed(server); len(got) != whole || got[0] != "executes function 16 at 40" {
		t.Errorf("libmodbus %v", got)
	}
}

// hideBehindAnException returns how many of the permitted writes, one, came whole in the end, with the
// connection in step: libmodbus gives a request up whose second piece comes half a second after the
// first one, which on a busy machine it may.
func hideBehindAnException(t *testing.T, p *plant.Plant) int {
	t.Helper()
	head, hidden := hidingWrite(3)
	conn := socketTo(t, p.HMI, p.Filler, 502)
	defer conn.Close()
	if err := sendAround(conn, mbap(2, 1, writeRegisters(100, 1, 2)), head, hidden); err != nil {
		t.Fatal(err)
	}
	mustRead(t, conn, mbap(2, 1, []byte{0x90, 2}))
	want := lawfulReply(append(head, hidden...))
	got := make([]byte, len(want))
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(conn, got); errors.Is(err, io.EOF) && n == 0 {
		t.Log("libmodbus gave the write up")
		return 0
	} else if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read % x, %v; want % x", got[:n], err, want)
	}
	return 1
}

// TestInvariant01WriteHiddenBehindAPermittedRequest is the same behind a permitted request for a
// function that libmodbus does not know, on conduits of any kind.
func TestInvariant01WriteHiddenBehindAPermittedRequest(t *testing.T) {
	for _, onDeny := range []string{"exception", "reset", "drop"} {
		t.Run(onDeny, func(t *testing.T) {
			p := lay(t, plant.Options{Policy: strings.ReplaceAll(examplePolicy(t), "on_deny: exception", "on_deny: "+onDeny)})
			server := startLibmodbus(t, p.Lab, p.Filler, 502)
			head, hidden := hidingWrite(3)
			conn := socketTo(t, p.HMI, p.Filler, 502)
			_ = sendAround(conn, mbap(2, 1, pdu(24, words(0))), head, hidden) // ends early in a reset
			_, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Reason == verdict.ReasonMalformed })
			if err != nil {
				t.Error(err)
			}
			time.Sleep(500 * time.Millisecond)
			if got := executed(server); len(got) != 0 {
				t.Errorf("libmodbus %v", got)
			}
		})
	}
}
