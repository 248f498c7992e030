package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/plant"
)

// The ports of conduits that only some of the tests below use.
const (
	diagnosticsPort = 506 // permits function 8 and 43 as the group diagnostics does
	hostilePort     = 507 // of a device whose replies a test writes
)

// TestEvasionsOfModbus is lines 11 to 16.
func TestEvasionsOfModbus(t *testing.T) {
	a := layAmbush(t, plant.Options{Policy: ambushSite(
		modbusConduit("hostile", hostilePort, "on_deny: reset"),
		fmt.Sprintf(`name: diagnostics
from: [hmi-1]
to: [filler-plc]
protocol: modbus
ports: [%d]
rules:
  - {functions: [diagnostics], units: [1]}`, diagnosticsPort),
	)})
	for _, row := range []struct {
		name string
		try  func(*testing.T, *ambush)
	}{
		{"11 a length longer than the function's own", evasion11},
		{"12 headers that are none, then a write", evasion12},
		{"13 function codes, sub-functions and MEI types", evasion13},
		{"14 writes in disguise, and ranges", evasion14},
		{"15 replies that answer nothing", evasion15},
		{"16 other transports and framings", evasion16},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.try(t, a)
			a.lawful(t)
		})
	}
}

// stopAll is stopEach for messages whole and in two segments.
func (a *ambush) stopAll(t *testing.T, ports []int, messages map[string][]byte) {
	t.Helper()
	a.stopEach(t, ports, messages, 8, -1, 0)
}

// stopEach sends each message to each port, cut at each of the places given, which count from its end
// where they are not positive, on a connection of its own. It wants the device to have none of them.
func (a *ambush) stopEach(t *testing.T, ports []int, messages map[string][]byte, cuts ...int) {
	t.Helper()
	type sent struct {
		*puppet
		name    string
		message []byte
	}
	var all []sent
	for name, m := range messages {
		for _, port := range ports {
			for _, cut := range cuts {
				if cut = min(cut, len(m)); cut <= 0 {
					cut += len(m)
				}
				x := a.open(t, port)
				x.push(m[:cut])
				x.push(m[cut:])
				all = append(all, sent{x, name, m})
			}
		}
	}
	time.Sleep(100 * time.Millisecond)
	for _, x := range all {
		// A reset may overtake the last of the handshake, and then the device knows of no connection.
		call := a.devices[int(x.server.Port())].find(x.client.String())
		if call != nil && (bytes.Contains(call.bytes(), x.message) || bytes.Contains(call.bytes(), forbiddenBytes())) {
			t.Errorf("%s, port %d: the device received % x", x.name, x.server.Port(), call.bytes())
		}
		if x.server.Port() != ambushDrop && !x.await(patience, func() bool { return x.reset || len(x.in) > 0 }) {
			t.Errorf("%s, port %d: neither reset nor refused", x.name, x.server.Port())
		}
	}
}

func evasion11(t *testing.T, a *ambush) {
	hidden := forbidden(2)
	long := func(p []byte) []byte { return mbap(1, 1, append(p, hidden...)) }
	a.stopAll(t, ambushPorts(), map[string][]byte{
		"a read around a write":              long(readRegisters(0, 1)),
		"a permitted write around a write":   long(writeRegister(45, 1)),
		"permitted registers around a write": long(writeRegisters(40, 1, 2)),
		"a byte count around a write":        mbap(1, 1, append(append(pdu(16, words(40, 1)), 14, 0, 1), hidden...)),
		"a read of 24 hidden bytes":          mbap(1, 1, append(readRegisters(0, 1), mbap(2, 1, writeRegisters(0xbee5, 0xf00d))...)),
	})
	t.Run("to a server that ignores the length", func(t *testing.T) {
		for _, onDeny := range []string{"reset", "exception"} {
			p := lay(t, plant.Options{Policy: site{conduits: []string{modbusConduit("only", 502, "on_deny: "+onDeny)}}.String()})
			server := startLibmodbus(t, p.Lab, p.Filler, 502)
			for _, cut := range []int{12, 13, 24, 99} {
				conn := socketTo(t, p.HMI, p.Filler, 502)
				if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
					t.Fatal(err)
				}
				m := mbap(2, 1, append(readRegisters(0, 1), mbap(3, 1, writeRegister(100, 1))...))
				_, first := conn.Write(m[:min(cut, len(m))])
				time.Sleep(20 * time.Millisecond)
				_, second := conn.Write(m[min(cut, len(m)):])
				if err := awaitReset(conn, patience); err != nil && !wasReset(first) && !wasReset(second) {
					t.Errorf("%s, cut at %d: %v", onDeny, cut, err)
				}
				conn.Close()
			}
			if got := executed(server); len(got) != 0 {
				t.Errorf("%s: libmodbus %v", onDeny, got)
			}
		}
	})
}

func evasion12(t *testing.T, a *ambush) {
	read, write := mbap(1, 1, readRegisters(0, 1)), forbidden(2)
	length := func(n uint16) []byte {
		b := bytes.Clone(read)
		binary.BigEndian.PutUint16(b[4:], n)
		return append(b, write...)
	}
	protocol := append(bytes.Clone(read), write...)
	protocol[3] = 1
	a.stopAll(t, ambushPorts(), map[string][]byte{
		"protocol 1, then a write":  protocol,
		"garbage, then a write":     append([]byte("garbage!"), write...),
		"zeros, then a write":       append(make([]byte, 12), write...),
		"one byte, then a write":    append([]byte{0}, write...),
		"length 0, then a write":    length(0),
		"length 1, then a write":    length(1),
		"length 2, then a write":    length(2),
		"length 255, then a write":  length(255),
		"length 256, then a write":  length(256),
		"length 65535, then writes": append(length(65535), write...),
	})
}

func evasion13(t *testing.T, a *ambush) {
	permitted := []byte{1, 2, 3, 4, 5, 6, 15, 16, 20, 21, 22, 23, 24}
	messages := map[string][]byte{}
	for code := range 256 {
		if !slices.Contains(permitted, byte(code)) {
			messages[fmt.Sprintf("function %d", code)] = mbap(1, 1, pdu(byte(code), forbiddenBytes()))
		}
	}
	for name, p := range map[string][]byte{
		"FC 8 restart communications": pdu(8, words(1, 0)), "FC 8 force listen only": pdu(8, words(4, 0)),
		"FC 8 clear counters": pdu(8, words(10, 0)), "FC 8 reserved": pdu(8, words(5, 0)),
		"FC 43 MEI 13": pdu(43, []byte{13, 0, 0}), "FC 43 MEI 14": pdu(43, []byte{14, 1, 0}),
		"FC 90 stop": pdu(90, []byte{0, 0x41, 0xff, 0}), "FC 7": {7}, "FC 11": {11}, "FC 12": {12}, "FC 17": {17},
	} {
		messages[name] = mbap(1, 1, p)
	}
	a.stopEach(t, []int{ambushReset, ambushException}, messages, 0)

	device := startAs(t, &station{answer: func(request []byte) []byte {
		if request[7] == 8 {
			return request
		}
		return mbap(binary.BigEndian.Uint16(request), request[6], pdu(43, []byte{14, 1, 1, 0, 0, 1, 0, 1, 'p'}))
	}}, a.p.Filler, diagnosticsPort)
	for _, row := range []struct {
		name      string
		p         []byte
		permitted bool
	}{
		{"FC 8 echo", pdu(8, words(0, 0xa537)), true},
		{"FC 8 a counter", pdu(8, words(11, 0)), true},
		{"FC 8 restart communications", pdu(8, words(1, 0)), false},
		{"FC 8 force listen only", pdu(8, words(4, 0)), false},
		{"FC 8 clear counters", pdu(8, words(10, 0)), false},
		{"FC 43 MEI 14", pdu(43, []byte{14, 1, 0}), true},
		{"FC 43 MEI 13", pdu(43, []byte{13, 1, 0}), false},
	} {
		x := a.open(t, diagnosticsPort)
		request := mbap(5, 1, row.p)
		x.push(request)
		if row.permitted {
			x.mustReceive(t, device.answer(request))
			continue
		}
		x.mustReset(t)
		if call := device.find(x.client.String()); call != nil && len(call.bytes()) != 0 {
			t.Errorf("%s: the device received % x", row.name, call.bytes())
		}
	}
}

func evasion14(t *testing.T, a *ambush) {
	far := uint16(0xbee5)
	messages := map[string][]byte{
		"FC 22 outside":                mbap(1, 1, pdu(22, words(far, 0, 0xf00d))),
		"FC 22 keeps bits, so any":     mbap(1, 1, pdu(22, words(45, 0xff00, 7))),
		"FC 23 writes outside":         mbap(1, 1, pdu(23, words(0, 1, far, 1), []byte{2}, words(0xf00d))),
		"FC 23 value":                  mbap(1, 1, pdu(23, words(0, 1, 45, 1), []byte{2}, words(1501))),
		"FC 5 neither on nor off":      mbap(1, 1, pdu(5, words(45, 1))),
		"FC 5 outside":                 mbap(1, 1, pdu(5, words(far, 0xff00))),
		"FC 15 outside":                mbap(1, 1, pdu(15, words(far, 8), []byte{1, 0xff})),
		"unit 0":                       mbap(1, 0, writeRegister(45, 1)),
		"unit 255":                     mbap(1, 255, writeRegister(45, 1)),
		"address and quantity too far": mbap(1, 1, readRegisters(65535, 2)),
		"a write over the end":         mbap(1, 1, writeRegisters(65535, 1, 2)),
		"quantity 0":                   mbap(1, 1, readRegisters(0, 0)),
		"quantity 126":                 mbap(1, 1, readRegisters(0, 126)),
		"FC 21 a file":                 mbap(1, 1, pdu(21, []byte{9, 6}, words(4, 7, 1, 0xf00d))),
		"FC 20 reference type":         mbap(1, 1, pdu(20, []byte{7, 5}, words(4, 7, 1))),
		"FC 20 record over the end":    mbap(1, 1, pdu(20, []byte{7, 6}, words(4, 10000, 1))),
		"FC 20 file 0":                 mbap(1, 1, pdu(20, []byte{7, 6}, words(0, 0, 1))),
		"FC 20 a byte count that lies": mbap(1, 1, pdu(20, []byte{14, 6}, words(4, 7, 1))),
		"FC 16 a byte count that lies": mbap(1, 1, pdu(16, words(45, 2), []byte{2}, words(1))),
		"FC 16 value of the last":      mbap(1, 1, writeRegisters(45, 1, 1501)),
	}
	a.stopAll(t, []int{ambushReset, ambushException}, messages)
}

// evasion15 has the device lie. What its client is given is what counts.
func evasion15(t *testing.T, a *ambush) {
	var script func(request []byte) []byte
	startAs(t, &station{answer: func(request []byte) []byte { return script(request) }}, a.p.Filler, hostilePort)
	read := mbap(0x1234, 1, readRegisters(0, 2))
	lawful := lawfulReply(read)
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(lawful)
		b[at] = to
		return b
	}
	for _, row := range []struct {
		name      string
		replies   []byte // in one write
		permitted int    // how many of the bytes may come, at most
	}{
		{"the same reply twice", append(bytes.Clone(lawful), lawful...), 2*len(lawful) - 1},
		{"another transaction", changed(1, 0x35), len(lawful) - 1},
		{"another unit", changed(6, 2), len(lawful) - 1},
		{"another function", changed(7, 4), len(lawful) - 1},
		{"a byte count that lies", changed(8, 2), len(lawful) - 1},
		{"fewer registers than asked for", mbap(0x1234, 1, []byte{3, 2, 0, 1}), 10},
		{"more registers than asked for", mbap(0x1234, 1, []byte{3, 6, 0, 1, 0, 2, 0, 3}), 14},
		{"an exception of another function", mbap(0x1234, 1, []byte{0x84, 2}), 8},
		{"an exception without a code", mbap(0x1234, 1, []byte{0x83}), 7},
		{"bytes behind an exception", mbap(0x1234, 1, []byte{0x83, 2, 0}), 9},
		{"another protocol", changed(3, 1), len(lawful) - 1},
		{"a request of its own", mbap(0x1234, 1, writeRegister(0xbee5, 0xf00d)), 11},
	} {
		t.Run(row.name, func(t *testing.T) {
			script = func([]byte) []byte { return row.replies }
			x := a.open(t, hostilePort)
			x.push(read)
			x.mustReset(t)
			if len(x.in) > row.permitted {
				t.Errorf("the client received % x, of which at most %d bytes are lawful", x.in, row.permitted)
			}
		})
	}
	t.Run("a write that is answered with another value", func(t *testing.T) {
		script = func(request []byte) []byte { return mbap(0x1234, 1, writeRegister(45, 8)) }
		x := a.open(t, hostilePort)
		x.push(mbap(0x1234, 1, writeRegister(45, 7)))
		x.mustReset(t)
		if len(x.in) >= 12 {
			t.Errorf("the client received % x", x.in)
		}
	})
	t.Run("a lawful one still passes", func(t *testing.T) {
		script = lawfulReply
		x := a.open(t, hostilePort)
		x.mustAnswer(t, read)
	})
}

func evasion16(t *testing.T, a *ambush) {
	since := a.mark()
	for _, port := range ambushPorts() {
		datagram := ip4(hmi4, filler4, 17, 0, nil, append(udp(41000, uint16(port), 0), forbidden(1)...))
		binary.BigEndian.PutUint16(datagram[24:], uint16(len(datagram)-20))
		a.puppet(port, 0).frame(etherFrame(fillerMAC, hmiMAC, nil, serviceClass(datagram)))
	}
	a.neverCarries(t, since, "Modbus over UDP", forbiddenBytes())
	rtu := func(p []byte) []byte {
		b := append([]byte{1}, p...)
		return binary.LittleEndian.AppendUint16(b, crc16(b))
	}
	a.stopAll(t, ambushPorts(), map[string][]byte{
		"RTU in TCP, a write":            rtu(writeRegister(0xbee5, 0xf00d)),
		"RTU in TCP, a permitted read":   rtu(readRegisters(0, 2)),
		"ASCII in TCP":                   []byte(":0106BEE5F00D40\r\n"),
		"RTU behind a header of its own": mbap(1, 1, append(writeRegister(45, 7), 0x12, 0x34)),
	})
}

// crc16 is the check of RTU frames (Modbus over serial line V1.02, appendix B).
func crc16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, x := range b {
		crc ^= uint16(x)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= 0xa001
			}
		}
	}
	return crc
}
