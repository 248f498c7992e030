package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// The numbers in the names of these tests, and of those in the other files called so, are the lines of
// the project's list of evasions. Each goes through the whole appliance: the client is made of frames,
// the device's TCP is the kernel's, and what its application was given is what counts.

// TestEvasionsOfTCP is lines 1 to 7 and 9, on conduits that reset, drop and answer with an exception.
func TestEvasionsOfTCP(t *testing.T) {
	a := layAmbush(t, plant.Options{})
	startStation(t, a.p.Filler, plainPort)
	for _, row := range []struct {
		name string
		try  func(*testing.T, *ambush)
	}{
		{"01 one byte per segment", evasion01},
		{"02 several messages in one segment", evasion02},
		{"03 retransmissions", evasion03},
		{"04 order, gaps, wrapping, keep-alives", evasion04},
		{"05 data on SYN, after FIN, urgent; RST, FIN and SYN where none belongs", evasion05},
		{"06 decoys with a bad checksum", evasion06},
		{"07 fragments, options, tags", evasion07},
		{"09 what follows a denied message", evasion09},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.try(t, a)
			a.lawful(t)
		})
	}
}

func evasion01(t *testing.T, a *ambush) {
	a.eachPort(t, func(t *testing.T, x *puppet) {
		for _, request := range [][]byte{mbap(1, 1, readRegisters(0, 2)), mbap(2, 1, writeRegisters(40, 1, 2))} {
			for i := range request {
				x.push(request[i : i+1])
			}
			x.mustReceive(t, lawfulReply(request))
		}
		for _, b := range forbidden(3) {
			x.push([]byte{b})
		}
		if x.server.Port() != ambushDrop { // in pieces there is no exception
			x.mustReset(t)
		}
		x.neverHas(t, forbidden(3))
	})
}

func evasion02(t *testing.T, a *ambush) {
	read, write, denied := mbap(1, 1, readRegisters(0, 2)), mbap(2, 1, writeRegister(45, 7)), forbidden(3)
	for _, row := range []struct {
		name     string
		messages [][]byte
	}{
		{"allowed, then denied", [][]byte{read, write, denied}},
		{"denied first", [][]byte{denied, read}},
		{"denied in the middle", [][]byte{read, denied, write}},
		{"denied twice", [][]byte{read, denied, denied, write}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a.eachPort(t, func(t *testing.T, x *puppet) {
				x.push(bytes.Join(row.messages, nil))
				if x.server.Port() != ambushException {
					x.mustRefuse(t, denied, 2)
					return
				}
				for _, m := range row.messages {
					if bytes.Equal(m, denied) {
						x.mustReceive(t, mbap(3, 1, []byte{0x86, 2}))
						continue
					}
					x.mustReceive(t, lawfulReply(m))
				}
				x.neverHas(t, denied)
			})
		})
	}
}

func evasion03(t *testing.T, a *ambush) {
	read, denied := mbap(1, 1, readRegisters(0, 2)), forbidden(1)
	t.Run("the same bytes again", func(t *testing.T) {
		a.eachPort(t, func(t *testing.T, x *puppet) {
			x.push(read)
			x.send(piece{at: -len(read), payload: read})
			x.mustReceive(t, lawfulReply(read))
			x.send(piece{at: -len(read), payload: read})
			x.mustAnswer(t, mbap(2, 1, readRegisters(0, 3)))
		})
	})
	t.Run("acknowledged data with other bytes", func(t *testing.T) {
		a.eachPort(t, func(t *testing.T, x *puppet) {
			x.mustAnswer(t, read)
			x.send(piece{at: -len(read), payload: denied})
			x.mustAnswer(t, mbap(2, 1, readRegisters(0, 3)))
			x.neverHas(t, denied)
		})
	})
	for _, row := range []struct {
		name   string
		pieces []piece
	}{
		{"other bytes over the head of a message", []piece{{payload: read[:8]}, {payload: denied}}},
		{"the head again, other bytes behind it", []piece{{payload: read}, {payload: append(bytes.Clone(read[:7]), denied[7:]...)}}},
		{"the whole of a message", []piece{{payload: read}, {payload: denied}}},
		{"its tail", []piece{{payload: read}, {at: 7, payload: denied[7:]}}},
		{"the tail of a denied message first", []piece{{at: 7, payload: denied[7:]}, {payload: read[:7]}, {payload: read}}},
		{"a denied message first, far ahead", []piece{{at: 12, payload: denied}, {payload: read}, {at: 6, payload: append(bytes.Clone(read[6:]), denied...)}}},
		{"one byte of it", []piece{{payload: read}, {at: 11, payload: []byte{9}}, {at: 7, payload: denied[7:]}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a.eachPort(t, func(t *testing.T, x *puppet) {
				for _, p := range row.pieces {
					x.send(p) // without a pause: the device's acknowledgment is behind, or it is not
				}
				x.neverHas(t, denied)
				x.neverHas(t, denied[7:])
			})
		})
	}
}

func evasion04(t *testing.T, a *ambush) {
	first, second, denied := mbap(1, 1, readRegisters(0, 2)), mbap(2, 1, writeRegister(45, 7)), forbidden(3)
	t.Run("out of order", func(t *testing.T) {
		a.eachPort(t, func(t *testing.T, x *puppet) {
			late := piece{at: len(first), payload: second}
			x.send(late)
			x.push(first)
			x.mustReceive(t, lawfulReply(first))
			x.push(second)
			x.mustReceive(t, lawfulReply(second))
			x.send(piece{at: 6, payload: denied[6:]})
			x.send(piece{payload: denied[:6]})
			x.send(piece{at: 6, payload: denied[6:]})
			x.neverHas(t, denied)
		})
	})
	t.Run("a gap that is never filled", func(t *testing.T) {
		a.eachPort(t, func(t *testing.T, x *puppet) {
			x.send(piece{at: 1, payload: denied})
			x.send(piece{at: len(first), payload: denied})
			x.push(first)
			x.mustReceive(t, lawfulReply(first))
			x.push(denied)
			x.mustRefuse(t, denied, 2)
		})
	})
	t.Run("wrapped sequence numbers", func(t *testing.T) {
		for _, port := range ambushPorts() {
			x := a.openAt(t, port, 0xffffffe0)
			for i := range uint16(4) {
				x.mustAnswer(t, mbap(i, 1, readRegisters(0, 2)))
			}
			y := a.openAt(t, port, 0xfffffff8)
			y.push(denied)
			y.mustRefuse(t, denied, 2)
		}
	})
	t.Run("keep-alives and probes", func(t *testing.T) {
		a.eachPort(t, func(t *testing.T, x *puppet) {
			x.send(piece{at: -1, flags: frame.FlagACK})
			x.send(piece{at: -1, flags: frame.FlagACK, payload: []byte{0}})
			x.mustAnswer(t, first)
			x.send(piece{at: -1, payload: append([]byte{0}, denied...)})
			x.sent(denied)
			x.mustRefuse(t, denied, 2)
		})
	})
}

func evasion05(t *testing.T, a *ambush) {
	read, denied := mbap(1, 1, readRegisters(0, 2)), forbidden(2)
	t.Run("data on SYN", func(t *testing.T) {
		// The device takes data on SYN, from anybody and for every listener (tcp_fastopen in the
		// kernel's ip-sysctl). That it does is shown where nobody inspects.
		const anybody = "1539" // 0x603
		if err := a.p.Filler.Do(func() error { return bridge.WriteSysctl(anybody, "ipv4", "tcp_fastopen") }); err != nil {
			t.Fatal(err)
		}
		since := a.mark()
		for _, port := range append(ambushPorts(), plainPort) {
			x := a.puppet(port, 7000)
			x.send(piece{flags: frame.FlagSYN, payload: denied})
			x.seq++
			if port == plainPort {
				if !x.await(patience, func() bool { return len(x.in) > 0 || x.ack != 0 }) {
					t.Error("the device answers no SYN with data: nothing is tried")
				}
				since = a.mark()
				continue
			}
			a.neverCarries(t, since, "data on SYN", forbiddenBytes())
			x.seq--
			x.connect(t)
			x.mustAnswer(t, read)
			x.neverHas(t, denied)
		}
	})
	t.Run("data after FIN", func(t *testing.T) {
		a.eachPort(t, func(t *testing.T, x *puppet) {
			x.send(piece{flags: frame.FlagFIN | frame.FlagACK})
			x.send(piece{payload: denied})
			x.send(piece{at: 1, payload: denied})
			x.neverHas(t, denied)
		})
	})
	for _, row := range []struct {
		name  string
		stray piece
	}{
		{"RST outside the window", piece{at: 1 << 20, flags: frame.FlagRST}},
		{"RST in the window, not exact", piece{at: 100, flags: frame.FlagRST | frame.FlagACK}},
		{"RST behind the window", piece{at: -100, flags: frame.FlagRST}},
		{"FIN outside the window", piece{at: 1 << 20, flags: frame.FlagFIN | frame.FlagACK}},
		{"FIN behind a gap", piece{at: 30, flags: frame.FlagFIN | frame.FlagACK}},
		{"SYN inside a live connection", piece{at: 5000, flags: frame.FlagSYN}},
		{"SYN with data inside a live connection", piece{at: 5000, flags: frame.FlagSYN, payload: denied}},
		{"data without ACK", piece{flags: frame.FlagPSH, payload: denied}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a.eachPort(t, func(t *testing.T, x *puppet) {
				x.send(row.stray)
				x.mustAnswer(t, read)
				x.push(denied)
				x.mustRefuse(t, denied, 2)
			})
		})
	}
	t.Run("urgent data", func(t *testing.T) {
		a.eachPort(t, func(t *testing.T, x *puppet) {
			// The byte before the urgent pointer is not in line for the application (RFC 6093).
			with := append(bytes.Clone(denied[:9]), 0)
			with = append(with, denied[9:]...)
			x.send(piece{flags: pushed | frame.FlagURG, urgent: 10, payload: with})
			x.neverHas(t, denied)
			x.neverHas(t, with)
		})
	})
}

func evasion06(t *testing.T, a *ambush) {
	read, denied := mbap(1, 1, readRegisters(0, 2)), forbidden(2)
	for name, at := range map[string]int{"of TCP": 36, "of IP": 10} {
		t.Run(name, func(t *testing.T) {
			a.eachPort(t, func(t *testing.T, x *puppet) {
				spoil := func(ip []byte) { ip[at] ^= 0x55 }
				x.send(piece{payload: read, edit: spoil}) // an inspector that takes it is out of step
				x.mustAnswer(t, mbap(5, 1, readRegisters(0, 3)))
				x.send(piece{payload: read, edit: spoil})
				x.push(denied)
				x.mustRefuse(t, denied, 2)
			})
		})
	}
}

// fragment cuts a piece out of an IPv4 packet. from and to are places in its body, from a multiple of
// 8; pieces of several packets may overlap.
func fragment(ip []byte, from, to int) []byte {
	body := ip[20:]
	last := to >= len(body)
	to = min(to, len(body))
	b := append(bytes.Clone(ip[:20]), body[from:to]...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	offset := uint16(from / 8)
	if !last {
		offset |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], offset)
	return serviceClass(b) // the header's checksum, anew
}

func evasion07(t *testing.T, a *ambush) {
	read, denied := mbap(1, 1, readRegisters(0, 2)), forbidden(1)
	for name, tags := range map[string][]frame.Tag{
		"untagged": nil, "in a VLAN": {tag10}, "with a priority tag": {{TPID: 0x8100, TCI: 5 << 13}},
		"in QinQ": {{TPID: 0x88a8, TCI: 10}, {TPID: 0x8100, TCI: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			a.eachPort(t, func(t *testing.T, x *puppet) {
				since := a.mark()
				harmful, harmless := x.build(piece{payload: denied})[14:], x.build(piece{payload: read})[14:]
				for _, packets := range [][][]byte{
					{fragment(harmful, 0, 8), fragment(harmful, 8, 99)},    // tiny: not even its flags
					{fragment(harmful, 0, 24), fragment(harmful, 24, 99)},  // cut in the message
					{fragment(harmless, 0, 99), fragment(harmful, 24, 99)}, // over the end of another
					{fragment(harmful, 24, 99), fragment(harmless, 0, 32), fragment(harmful, 0, 24)},
					{optioned(harmful, 0x94, 4, 0, 0)},                // router alert
					{optioned(harmful, 131, 7, 4, 198, 18, 0, 11, 0)}, // a source route
					{optioned(harmful, 1, 1, 1, 0)},
				} {
					for _, ip := range packets {
						x.frame(etherFrame(fillerMAC, hmiMAC, tags, ip))
					}
				}
				a.neverCarries(t, since, "a denied write "+name, forbiddenBytes())
				x.neverHas(t, denied)
			})
		})
	}
	t.Run("fragmented datagrams", func(t *testing.T) {
		since := a.mark()
		ip := ip4(hmi4, filler4, 17, 0, nil, append(udp(41000, 502, 0), forbidden(1)...))
		a.puppet(502, 0).frame(etherFrame(fillerMAC, hmiMAC, nil, fragment(ip, 0, 8)))
		a.puppet(502, 0).frame(etherFrame(fillerMAC, hmiMAC, nil, fragment(ip, 8, 99)))
		a.neverCarries(t, since, "a fragmented datagram", forbiddenBytes())
	})
	t.Run("IPv6 with extension headers and fragments", func(t *testing.T) {
		since := a.mark()
		segment := append(tcp(41000, 502, pushed), forbidden(1)...)
		for _, extensions := range [][]byte{{0}, {43}, {44}, {60}, {0, 60, 44}, {51}, {0, 0, 0, 0}} {
			ip := ip6(hmi6, filler6, 6, extensions, segment)
			for _, tags := range [][]frame.Tag{nil, {tag10}} {
				a.puppet(502, 0).frame(etherFrame(fillerMAC, hmiMAC, tags, ip))
			}
		}
		a.neverCarries(t, since, "IPv6 with extension headers", forbiddenBytes())
	})
}

// optioned puts options into an IPv4 packet.
func optioned(ip []byte, options ...byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	b := append(bytes.Clone(ip[:20]), options...)
	b = append(b, ip[20:]...)
	b[0] = 0x45 + byte(len(options)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	var sum uint32
	for i := 0; i < 20+len(options); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return b
}

func evasion09(t *testing.T, a *ambush) {
	for _, cut := range []int{1, 7, 8, 10, 11} {
		t.Run(fmt.Sprintf("after %d bytes", cut), func(t *testing.T) {
			a.eachPort(t, func(t *testing.T, x *puppet) {
				denied := forbidden(9)
				x.push(denied[:cut])
				x.send(piece{payload: denied[cut:]})
				x.take()
				for _, rest := range [][]byte{
					denied[cut:], mbap(0xbee5, 1, readRegisters(0, 1)), append(bytes.Clone(denied[cut:]), forbidden(10)...),
				} {
					x.send(piece{payload: rest})
					x.send(piece{at: len(denied) - cut, payload: rest})
				}
				x.neverHas(t, denied)
			})
		})
	}
}

// TestEvasion08_ConnectionsFromBefore opens connections through a bare bridge, and starts to enforce in
// the middle of a message.
func TestEvasion08_ConnectionsFromBefore(t *testing.T) {
	site := ambushSite()
	for _, join := range []string{"resync", "reset"} {
		t.Run("on_join "+join, func(t *testing.T) {
			a := prepareAmbush(t, plant.Options{Policy: replaceAll(t, site, "protocol: modbus", "protocol: modbus\n    on_join: "+join)})
			layBridge(t, a.p.Lab)
			awaitEnds(t, a.p)
			denied := forbidden(2)
			var idle, halfway []*puppet
			for _, port := range ambushPorts() {
				x, y := a.open(t, port), a.open(t, port)
				x.mustAnswer(t, mbap(1, 1, readRegisters(0, 1)))
				y.push(denied[:8])
				idle, halfway = append(idle, x), append(halfway, y)
			}
			time.Sleep(50 * time.Millisecond)
			runIn(t, a.p, a.p.Box, "ip", "link", "del", "bridge0")
			start(t, a.p)
			for i, x := range idle {
				if join == "reset" {
					x.push(mbap(2, 1, readRegisters(0, 2)))
					x.mustReset(t)
				} else {
					x.mustAnswer(t, mbap(2, 1, readRegisters(0, 2)))
					x.push(denied)
					x.mustRefuse(t, denied, 2)
				}
				for range 6 {
					halfway[i].send(piece{payload: denied[8:]})
				}
				halfway[i].send(piece{payload: append(bytes.Clone(denied[8:]), mbap(3, 1, readRegisters(0, 2))...)})
				halfway[i].neverHas(t, denied)
			}
			a.lawful(t)
		})
	}
	t.Run("observed, then enforced", func(t *testing.T) {
		a := layAmbush(t, plant.Options{Policy: replaceAll(t, site, "mode: enforce", "mode: observe")})
		denied := forbidden(2)
		var halfway []*puppet
		for _, port := range ambushPorts() {
			y := a.open(t, port)
			y.push(denied[:8])
			halfway = append(halfway, y)
		}
		time.Sleep(50 * time.Millisecond)
		apply(t, a.p, site)
		for _, y := range halfway {
			for range 6 {
				y.send(piece{payload: denied[8:]})
			}
			y.neverHas(t, denied)
		}
		a.lawful(t)
	})
}

func replaceAll(t *testing.T, text, old, new string) string {
	t.Helper()
	out := string(bytes.ReplaceAll([]byte(text), []byte(old), []byte(new)))
	if out == text {
		t.Fatalf("no %q in %s", old, text)
	}
	return out
}

const mutePort = 505

// TestEvasion10_LimitsReachedOnPurpose fills the table of requests of a connection, and the share of
// connections of an identity.
func TestEvasion10_LimitsReachedOnPurpose(t *testing.T) {
	a := layAmbush(t, plant.Options{Policy: ambushSite(modbusConduit("mute", mutePort, "on_deny: reset"))})
	t.Run("600 unanswered requests", func(t *testing.T) {
		device := startMute(t, a.p.Filler, mutePort)
		x := a.open(t, mutePort)
		for i := range 15 {
			var b []byte
			for n := range 40 {
				b = append(b, mbap(uint16(40*i+n), 1, readRegisters(0, 1))...)
			}
			if i < 12 {
				x.push(b)
				continue
			}
			x.send(piece{payload: b}) // 40 requests that find no room
		}
		wantReason(t, a.p, verdict.ReasonTableFull)
		x.push(forbidden(1))
		x.mustReset(t)
		eventually(t, "the device to read what came", func() bool { return len(device.callOf(t, x.client.String()).bytes()) >= 480*12 })
		if got := device.callOf(t, x.client.String()).bytes(); len(got) != 480*12 || bytes.Contains(got, forbiddenBytes()) {
			t.Errorf("the device received %d bytes, want 480 requests", len(got))
		}
		a.lawful(t)
	})
	t.Run("5000 half-open connections", func(t *testing.T) {
		x := a.open(t, ambushReset)
		for range 5000 {
			y := a.puppet(ambushReset, 1)
			y.send(piece{flags: frame.FlagSYN})
		}
		since := a.mark()
		x.mustAnswerInTime(t, mbap(1, 1, readRegisters(0, 2))) // what is open stays, and is inspected
		for range 50 {
			y := a.puppet(ambushReset, 1)
			y.send(piece{flags: frame.FlagSYN})
			y.seq++
			y.send(piece{payload: forbidden(1)})
		}
		x.push(forbidden(2))
		x.mustReset(t)
		x.neverHas(t, forbidden(2))
		a.neverCarries(t, since, "a denied write", forbiddenBytes())
		wantReason(t, a.p, verdict.ReasonTableFull)
	})
}

func wantReason(t *testing.T, p *plant.Plant, reason verdict.Reason) {
	t.Helper()
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Reason == reason && e.Verdict == verdict.Deny }); err != nil {
		t.Errorf("no event says %v: %v", reason, err)
	}
}
