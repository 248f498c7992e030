package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// Line 36 is TestInvariant06_Evasion36_FloodDoesNotOpenTheGate, and a part of line 35
// TestInvariant01_Evasion35_NothingLeavesWithoutAVerdict.

// TestEvasionsAroundInspection is lines 34, 35 and 37 to 40, as far as one appliance can try them.
func TestEvasionsAroundInspection(t *testing.T) {
	a := layAmbush(t, plant.Options{
		Policy: ambushSite(
			"name: anything\nfrom: [hmi-1]\nto: [pump-rtu]\nprotocol: udp",
			"name: errors\nfrom: [hmi-1]\nto: [filler-plc]\nprotocol: icmp",
		),
		Settings: []string{"adoption_window: 2s"},
	})
	for _, row := range []struct {
		name string
		try  func(*testing.T, *ambush)
	}{
		{"37 reverse adoption", evasion37}, // first: the adoption window is open
		{"34 options that reorder", evasion34},
		{"35 frames that no hook sees", evasion35},
		{"38 one five-tuple, two streams", evasion38},
		{"39 tunnels and what redirects", evasion39},
		{"40 the wrong side", evasion40},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.try(t, a)
			a.lawful(t)
		})
	}
}

// TestEvasion34_MultipathTCP has both ends' kernels ask for Multipath TCP: through an inspected conduit
// they get plain TCP, through a plain one what they asked for.
func TestEvasion34_MultipathTCP(t *testing.T) {
	p := lay(t, plant.Options{Policy: ambushSite()})
	for _, port := range append(ambushPorts(), plainPort) {
		accepted := make(chan *net.TCPConn, 1)
		var listener net.Listener
		if err := p.Filler.Do(func() (err error) {
			var lc net.ListenConfig
			lc.SetMultipathTCP(true)
			listener, err = lc.Listen(t.Context(), "tcp", netAddress(p.Filler, port))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			if conn, err := listener.Accept(); err == nil {
				accepted <- conn.(*net.TCPConn)
			}
		}()
		var conn net.Conn
		if err := p.HMI.Do(func() (err error) {
			dialer := net.Dialer{Timeout: 5 * time.Second}
			dialer.SetMultipathTCP(true)
			conn, err = dialer.Dial("tcp", netAddress(p.Filler, port))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		server := <-accepted
		defer server.Close()
		read := mbap(1, 1, readRegisters(0, 2))
		if _, err := conn.Write(read); err != nil {
			t.Fatal(err)
		}
		mustRead(t, server, read)
		for end, c := range map[string]*net.TCPConn{"client": conn.(*net.TCPConn), "device": server} {
			multipath, err := c.MultipathTCP()
			if err != nil || multipath != (port == plainPort) {
				t.Errorf("port %d, %s: Multipath TCP %v, %v", port, end, multipath, err)
			}
		}
		if port == plainPort {
			continue
		}
		_, _ = conn.Write(forbidden(2))
		_ = server.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		var got bytes.Buffer
		_, _ = got.ReadFrom(server)
		if bytes.Contains(got.Bytes(), forbidden(2)) {
			t.Errorf("port %d: the device received % x", port, got.Bytes())
		}
	}
}

func netAddress(h *testnet.Host, port int) string {
	return (&net.TCPAddr{IP: h.Address().AsSlice(), Port: port}).String()
}

// evasion34 sends options outside of the permit list: on a SYN they arrive as NOPs of the same length,
// on any later segment they end the connection.
func evasion34(t *testing.T, a *ambush) {
	for name, option := range map[string][]byte{
		"Multipath TCP, capable": {30, 4, 0x01, 0x81}, "fast open": {34, 2, 1, 1}, "an experiment": {253, 4, 0xf9, 0x89},
		"MD5": append([]byte{19, 18}, make([]byte, 18)...), "unknown": {99, 4, 1, 2},
	} {
		t.Run(name+" on SYN", func(t *testing.T) {
			for _, port := range ambushPorts() {
				since := a.mark()
				x := a.puppet(port, 9000)
				x.connect(t, option...)
				x.mustAnswer(t, mbap(1, 1, readRegisters(0, 2)))
				for _, f := range a.taps[policy.SideA].FramesFrom(since) {
					syn := len(f.Data) > 54 && f.Data[47]&frame.FlagSYN != 0
					if syn && len(bytes.Trim(f.Data[54:54+len(option)], "\x01\x00")) != 0 {
						t.Errorf("a SYN arrived with % x", f.Data[54:])
					}
				}
				x.push(forbidden(2))
				x.mustRefuse(t, forbidden(2), 2)
			}
		})
	}
	for name, option := range map[string][]byte{
		"Multipath TCP, data sequence": {30, 20, 0x20, 0x05, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 12, 0, 0},
		"Multipath TCP, add address":   {30, 8, 0x30, 1, 198, 18, 0, 21}, "fast open": {34, 2, 1, 1}, "unknown": {99, 4, 1, 2},
	} {
		t.Run(name+" later", func(t *testing.T) {
			since := a.mark()
			a.eachPort(t, func(t *testing.T, x *puppet) {
				x.send(piece{payload: forbidden(1), options: option})
				x.send(piece{payload: mbap(1, 1, readRegisters(0, 2)), options: option})
				x.send(piece{at: 12, payload: forbidden(2)})
				x.neverHas(t, forbidden(1))
				x.neverHas(t, forbidden(2))
			})
			a.neverCarries(t, since, name, option)
		})
	}
}

// evasion35 wraps a denied write on an open connection in every way that would cross a bridge without
// touching its IP hooks.
func evasion35(t *testing.T, a *ambush) {
	a.eachPort(t, func(t *testing.T, x *puppet) {
		since := a.mark()
		ip := x.build(piece{payload: forbidden(1)})[14:]
		tags := func(list ...frame.Tag) []byte { return etherFrame(fillerMAC, hmiMAC, list, ip) }
		wrapped := func(etherType uint16, head ...byte) []byte {
			return ethernet(testnet.CellMAC, hmiMAC, nil, etherType, append(head, ip...))
		}
		length := uint16(len(ip))
		for _, f := range [][]byte{
			tags(frame.Tag{TPID: 0x88a8, TCI: 10}, frame.Tag{TPID: 0x8100, TCI: 10}),
			tags(tag10, tag10), tags(frame.Tag{TPID: 0x9100, TCI: 10}), tags(tag10, tag10, tag10),
			tags(frame.Tag{TPID: 0x8100}, tag10), tags(frame.Tag{TPID: 0x88a8, TCI: 10}),
			wrapped(length+8, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0), // SNAP
			wrapped(length+3, 6, 6, 3),                      // LLC, IP
			wrapped(0x8864, 0x11, 0, 0, 1, byte((length+2)>>8), byte(length+2), 0, 0x21),
			wrapped(0x892f, 0, byte(length), 0, 1, 8, 0), // HSR
			wrapped(0x88e5, 0x2c, 0, 0, 0, 0, 1),         // MACsec
			wrapped(0x8847, 0, 1, 1, 64),                 // MPLS
			wrapped(0x86dd),                              // IPv4 that says it is IPv6
			wrapped(0x88b5),                              // an EtherType for experiments
			// A PRP trailer, which the bridge's hook would cut off.
			append(append(tags(), make([]byte, 20)...), 0, 1, 0xa0, byte(length+6), 0x88, 0xfb),
			etherFrame([6]byte{255, 255, 255, 255, 255, 255}, hmiMAC, nil, ip),
			etherFrame([6]byte{1, 0, 0x5e, 0, 0, 1}, hmiMAC, nil, ip),
		} {
			x.frame(f)
		}
		a.neverCarries(t, since, "a wrapped write", forbiddenBytes())
		x.mustAnswer(t, mbap(2, 1, readRegisters(0, 2)))
		x.push(forbidden(3))
		x.mustRefuse(t, forbidden(3), 2)
	})
}

// TestEvasion35_RacesWithStartAndStop never ceases to send denied writes, on an open connection and
// elsewhere, while the appliance starts, ends, is killed and taken apart.
func TestEvasion35_RacesWithStartAndStop(t *testing.T) {
	a := layAmbush(t, plant.Options{})
	x := a.open(t, ambushReset)
	x.mustAnswer(t, mbap(1, 1, readRegisters(0, 2)))
	since := a.mark()
	var frames [][]byte
	for i := range 20 {
		frames = append(frames, x.build(piece{payload: forbidden(uint16(i))}))
		frames = append(frames, a.puppet(ambushPorts()[i%3], 5).build(piece{payload: forbidden(uint16(i))}))
	}
	quit := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-time.After(200 * time.Microsecond):
				_ = a.taps[policy.SideB].Send(frames[i%len(frames)]) // one that finds no port is as good
			}
		}
	})
	for _, step := range []func() error{a.p.Stop, a.p.Start, a.p.Kill, a.p.Start, a.p.Stop, a.p.Down, a.p.Start, a.p.Stop, a.p.Start} {
		if err := step(); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	close(quit)
	group.Wait()
	a.neverCarries(t, since, "a denied write that raced", forbiddenBytes())
	awaitLine(t, a.p)
	a.lawful(t)
}

// evasion37 has the device begin.
func evasion37(t *testing.T, a *ambush) {
	const hmiPort = 445
	since := a.taps[policy.SideB].Count()
	device := func(from, to uint16, flags byte) {
		segment := frame.TCPPacket{Src: netip.AddrPortFrom(filler4, from), Dst: netip.AddrPortFrom(hmi4, to), Seq: 77, Ack: 88, Flags: flags, Window: 100}
		ip, err := frame.AppendTCP(nil, &segment)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.taps[policy.SideA].Send(etherFrame(hmiMAC, fillerMAC, nil, ip)); err != nil {
			t.Fatal(err)
		}
	}
	attempt := func() {
		for _, port := range append(ambushPorts(), plainPort) {
			device(uint16(port), hmiPort, frame.FlagACK)
			device(uint16(port), hmiPort, pushed)
			device(uint16(port), hmiPort, frame.FlagSYN) // rides the entry, or does not
			device(uint16(port), hmiPort, frame.FlagSYN|frame.FlagPSH)
			device(40001, hmiPort, frame.FlagSYN)
		}
		for _, port := range []uint16{502, 44818, 2222} {
			datagram := ip4(filler4, hmi4, 17, 0, nil, udp(port, hmiPort, 8))
			_ = a.taps[policy.SideA].Send(etherFrame(hmiMAC, fillerMAC, nil, datagram))
		}
	}
	attempt()
	time.Sleep(2200 * time.Millisecond) // the adoption window closes
	attempt()
	time.Sleep(100 * time.Millisecond)
	for _, f := range a.taps[policy.SideB].FramesFrom(since) {
		if len(f.Data) < 54 || f.Data[12] != 8 || binary.BigEndian.Uint16(f.Data[36:]) != hmiPort {
			continue
		}
		if f.Data[23] != 6 || f.Data[47]&(frame.FlagSYN|frame.FlagACK) == frame.FlagSYN {
			t.Errorf("the device opened a conversation: %x", f.Data)
		}
	}
	// Source port 502 on the client's side leads nowhere else, and nobody answers a simultaneous open.
	mark := a.mark()
	x := &puppet{a: a, client: netip.AddrPortFrom(hmi4, 502), server: netip.AddrPortFrom(filler4, 9999), seq: 5}
	x.send(piece{flags: frame.FlagSYN})
	x.send(piece{payload: forbidden(1)})
	a.neverCarries(t, mark, "a connection from port 502 to another", append(words(502), words(9999)...))
	y := a.puppet(ambushReset, 5)
	y.send(piece{flags: frame.FlagSYN})
	before := a.taps[policy.SideB].Count()
	device(ambushReset, y.client.Port(), frame.FlagSYN)
	time.Sleep(100 * time.Millisecond)
	for _, f := range a.taps[policy.SideB].FramesFrom(before) {
		if len(f.Data) > 47 && f.Data[47]&(frame.FlagSYN|frame.FlagACK) == frame.FlagSYN {
			t.Errorf("a SYN of the responder arrived: %x", f.Data)
		}
	}
}

func evasion38(t *testing.T, a *ambush) {
	read := mbap(1, 1, readRegisters(0, 2))
	a.eachPort(t, func(t *testing.T, x *puppet) {
		since := a.mark()
		for _, denied := range [][]byte{forbidden(1)} {
			// Its head without a tag, its tail in a VLAN, and the reverse.
			x.send(piece{at: 100, payload: denied[:7], tags: []frame.Tag{tag10}})
			x.send(piece{at: 107, payload: denied[7:]})
			x.send(piece{payload: denied, tags: []frame.Tag{tag10}})
			x.send(piece{payload: denied, tags: []frame.Tag{{TPID: 0x8100, TCI: 3 << 13}}})
		}
		// A permitted message in the VLAN moves the stream without a tag nowhere.
		x.send(piece{payload: read, tags: []frame.Tag{tag10}})
		a.neverCarries(t, since, "a denied write in a VLAN", forbiddenBytes())
		x.neverHas(t, forbidden(1))
	})
	a.onPorts(t, []int{ambushReset, ambushException}, func(t *testing.T, x *puppet) {
		x.send(piece{payload: read, tags: []frame.Tag{tag10}})
		x.push(forbidden(2)) // where the permitted one was, in the other stream
		x.mustRefuse(t, forbidden(2), 2)
	})
	a.eachPort(t, func(t *testing.T, x *puppet) {
		since := a.mark()
		ip := x.build(piece{payload: forbidden(1)})[14:]
		for _, macs := range [][2][6]byte{
			{fillerMAC, strangerMAC}, {fillerMAC, {2, 0, 0, 0, 0, 0x21}}, {pumpMAC, hmiMAC}, {strangerMAC, hmiMAC}, {hmiMAC, hmiMAC},
		} {
			x.frame(etherFrame(macs[0], macs[1], nil, ip))
		}
		a.neverCarries(t, since, "the tuple between other MACs", forbiddenBytes())
		x.mustAnswer(t, read)
	})
}

func evasion39(t *testing.T, a *ambush) {
	since, clientSince := a.mark(), a.taps[policy.SideB].Count()
	inner := a.puppet(ambushReset, 1).build(piece{payload: forbidden(1)})[14:]
	quoted := func(mtu uint16, kind, code byte) []byte {
		b := append([]byte{kind, code, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, inner[:28]...)
		return append(b, forbiddenBytes()...)
	}
	to6 := func(b []byte) []byte { return ip6(hmi6, filler6, 58, nil, append(b, forbiddenBytes()...)) }
	for _, ip := range [][]byte{
		ip4(hmi4, pump4, 47, 0, nil, append([]byte{0, 0, 8, 0}, inner...)),                               // GRE
		ip4(hmi4, pump4, 4, 0, nil, inner),                                                               // IPIP
		ip4(hmi4, pump4, 41, 0, nil, ip6(hmi6, filler6, 6, nil, append(tcp(1, 502, 2), inner...))),       // 6in4
		ip4(hmi4, pump4, 17, 0, nil, append(udp(41000, 4789, 0), inner...)),                              // VXLAN
		ip4(hmi4, filler4, 1, 0, nil, quoted(0, 5, 1)),                                                   // redirect
		ip4(hmi4, filler4, 1, 0, nil, quoted(68, 3, 4)),                                                  // a tiny MTU
		ip4(hmi4, filler4, 1, 0, nil, append([]byte{9, 0, 0, 0, 1, 2, 0, 9}, forbiddenBytes()...)),       // router advertisement
		to6([]byte{134, 0, 0, 0, 64, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0}),                                   // the same of IPv6
		to6(append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 32)...)),                               // redirect
		to6(append([]byte{2, 0, 0, 0, 0, 0, 0, 68}, ip6(filler6, hmi6, 6, nil, tcp(502, 41000, 16))...)), // packet too big
	} {
		destination := fillerMAC
		if bytes.Equal(ip[16:20], pump4.AsSlice()) && ip[0]>>4 == 4 {
			destination = pumpMAC
		}
		a.puppet(ambushReset, 0).frame(etherFrame(destination, hmiMAC, nil, ip))
	}
	// A DHCP server where none may be, on either side.
	for side, host := range map[policy.Side][6]byte{policy.SideA: fillerMAC, policy.SideB: hmiMAC} {
		from := filler4
		if side == policy.SideB {
			from = hmi4
		}
		offer := ip4(from, stranger4, 17, 0, nil, append(udp(67, 68, 0), forbiddenBytes()...))
		_ = a.taps[side].Send(etherFrame([6]byte{255, 255, 255, 255, 255, 255}, host, nil, offer))
	}
	a.neverCarries(t, since, "what tunnels or redirects", forbiddenBytes())
	for _, f := range a.taps[policy.SideB].FramesFrom(clientSince) {
		if bytes.Contains(f.Data, forbiddenBytes()) {
			t.Errorf("the device's offer of an address arrived: %x", f.Data)
		}
	}
}

func evasion40(t *testing.T, a *ambush) {
	read := mbap(1, 1, readRegisters(0, 2))
	a.eachPort(t, func(t *testing.T, x *puppet) {
		since := a.taps[policy.SideB].Count()
		// The client's own frames from the device's side: a bridge that learns would blackhole it.
		for range 3 {
			if err := a.taps[policy.SideA].Send(x.build(piece{payload: forbidden(1)})); err != nil {
				t.Fatal(err)
			}
		}
		x.mustAnswer(t, read)
		// And frames of the device from the client's side.
		x.frame(etherFrame(hmiMAC, fillerMAC, nil, x.build(piece{payload: forbidden(1)})[14:]))
		x.mustAnswer(t, mbap(2, 1, readRegisters(0, 2)))
		for _, f := range a.taps[policy.SideB].FramesFrom(since) {
			if bytes.Contains(f.Data, forbiddenBytes()) {
				t.Errorf("a frame with the client's own MAC came back to it: %x", f.Data)
			}
		}
		x.send(piece{flags: frame.FlagPSH, payload: forbidden(3)}) // data without ACK
		x.push(forbidden(4))
		x.mustRefuse(t, forbidden(4), 2)
	})
}

// TestEvasion41_RepetitionsOfANeutralisedRequest repeats the original of a refused request in every cut,
// then without a daemon, on a conduit that opens.
func TestEvasion41_RepetitionsOfANeutralisedRequest(t *testing.T) {
	a := layAmbush(t, plant.Options{Policy: replaceAll(t, ambushSite(), "on_deny: exception", "on_deny: exception\n    on_outage: open")})
	since := a.mark()
	denied := forbidden(0x0102)
	x := a.open(t, ambushException)
	x.mustAnswer(t, mbap(1, 1, readRegisters(0, 2)))
	x.push(denied)
	x.send(piece{at: -12, payload: denied}) // before the device's acknowledgment, or behind it
	x.mustReceive(t, mbap(0x0102, 1, []byte{0x86, 2}))
	for from := range denied {
		x.send(piece{at: from - 12, payload: denied[from:]})
	}
	x.send(piece{at: -24, payload: append(mbap(1, 1, readRegisters(0, 2)), denied...)})
	x.mustAnswer(t, mbap(3, 1, readRegisters(0, 2)))
	a.neverCarries(t, since, "the original of a refused request", denied)
	a.neverCarries(t, since, "the original of a refused request", forbiddenBytes())
	if err := a.p.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5500 * time.Millisecond) // the heartbeat's time-out
	// Frames pass now as they come; the device has the neutralised request already, and its TCP takes no other.
	x.send(piece{at: -24, payload: denied})
	x.mustAnswer(t, mbap(4, 1, readRegisters(0, 2)))
	x.neverHas(t, denied)
	start(t, a.p)
	x.send(piece{at: -12, payload: denied})
	x.mustAnswer(t, mbap(5, 1, readRegisters(0, 2)))
	x.neverHas(t, denied)
	a.lawful(t)
}
