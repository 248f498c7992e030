package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

var (
	macA = [6]byte{2, 0, 0, 0, 0, 0x10}
	macB = [6]byte{2, 0, 0, 0, 0, 0x20}

	plc4 = netip.MustParseAddrPort("198.18.0.10:502")
	hmi4 = netip.MustParseAddrPort("198.18.0.20:49152")
	plc6 = netip.MustParseAddrPort("[2001:db8::10]:502")
	hmi6 = netip.MustParseAddrPort("[2001:db8::20]:49152")
)

// tcpPacket builds a packet from the hmi to the plc, or fails the test.
func tcpPacket(t testing.TB, src, dst netip.AddrPort, payload string) []byte {
	t.Helper()
	b, err := AppendTCP(nil, &TCPPacket{
		Src: src, Dst: dst, Seq: 1000, Ack: 2000, Flags: FlagACK | FlagPSH, Window: 512,
		Options: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, Payload: []byte(payload),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func udpPacket(t testing.TB, src, dst netip.AddrPort, payload string) []byte {
	t.Helper()
	b, err := AppendUDP(nil, src, dst, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withIPv4Options inserts options into an IPv4 packet without any.
func withIPv4Options(packet, options []byte) []byte {
	b := append([]byte{}, packet[:20]...)
	b = append(append(b, options...), packet[20:]...)
	b[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b[:20+len(options)])))
	return b
}

// withExtensions inserts IPv6 extension headers; each names the next one in its first byte.
func withExtensions(packet []byte, first byte, headers ...[]byte) []byte {
	b := append([]byte{}, packet[:40]...)
	b[6] = first
	for _, h := range headers {
		b = append(b, h...)
	}
	b = append(b, packet[40:]...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// fragment turns an IPv4 packet into a fragment with the flags-and-offset word given.
func fragment(packet []byte, word uint16) []byte {
	b := append([]byte{}, packet...)
	binary.BigEndian.PutUint16(b[6:], word)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b[:20])))
	return b
}

func arpPacket(op uint16) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, byte(op)}
	b = append(append(b, macB[:]...), 198, 18, 0, 20)
	return append(append(b, 0, 0, 0, 0, 0, 0), 198, 18, 0, 10)
}

// neighbour builds a neighbour message with one link-layer option.
func neighbour(kind, option byte) []byte {
	b := make([]byte, 40, 72)
	b[0], b[5], b[6], b[7] = 0x60, 32, ProtocolICMPv6, 255
	copy(b[8:], hmi6.Addr().AsSlice())
	copy(b[24:], plc6.Addr().AsSlice())
	b = append(b, kind, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, plc6.Addr().AsSlice()...)
	b = append(b, option, 1)
	b = append(b, macB[:]...)
	f := Frame{SrcIP: hmi6.Addr(), DstIP: plc6.Addr(), Protocol: ProtocolICMPv6}
	binary.BigEndian.PutUint16(b[42:], ^fold(transportSum(&f, b[40:])))
	return b
}

// samples are frames of every kind that the decoder tells apart.
func samples(t testing.TB) map[string][]byte {
	ether := func(etherType uint16, payload []byte, tags ...Tag) []byte {
		return PrependEthernet(macA, macB, tags, etherType, payload)
	}
	tcp4, tcp6 := tcpPacket(t, hmi4, plc4, "hello"), tcpPacket(t, hmi6, plc6, "hello")
	return map[string][]byte{
		"tcp over ipv4":       ether(EtherTypeIPv4, tcp4),
		"tcp over ipv6":       ether(EtherTypeIPv6, tcp6),
		"udp over ipv4":       ether(EtherTypeIPv4, udpPacket(t, hmi4, plc4, "odd")),
		"udp over ipv6":       ether(EtherTypeIPv6, udpPacket(t, hmi6, plc6, "even")),
		"one tag":             ether(EtherTypeIPv4, tcp4, Tag{EtherTypeVLAN, 0x600a}),
		"priority tag":        ether(EtherTypeIPv4, tcp4, Tag{EtherTypeVLAN, 0xe000}),
		"QinQ":                ether(EtherTypeIPv4, tcp4, Tag{EtherTypeQinQ, 5}, Tag{EtherTypeVLAN, 6}),
		"8100 twice":          ether(EtherTypeIPv4, tcp4, Tag{EtherTypeVLAN, 5}, Tag{EtherTypeVLAN, 6}),
		"9100":                ether(EtherTypeIPv4, tcp4, Tag{EtherTypeQinQ9100, 7}),
		"link padding":        ether(EtherTypeIPv4, append(append([]byte{}, tcp4...), make([]byte, 6)...)),
		"ipv4 options":        ether(EtherTypeIPv4, withIPv4Options(tcp4, []byte{7, 3, 4, 0})),
		"broken ipv4 options": ether(EtherTypeIPv4, withIPv4Options(tcp4, []byte{7, 99, 4, 0})),
		"extension headers": ether(EtherTypeIPv6, withExtensions(tcp6, headerHopByHop,
			[]byte{headerDestination, 0, 1, 4, 0, 0, 0, 0}, []byte{ProtocolTCP, 0, 1, 4, 0, 0, 0, 0})),
		"ipv6 fragment": ether(EtherTypeIPv6, withExtensions(tcp6, headerFragment,
			[]byte{ProtocolTCP, 0, 0x00, 0x09, 0, 0, 0, 1})),
		"atomic fragment": ether(EtherTypeIPv6, withExtensions(tcp6, headerFragment,
			[]byte{ProtocolTCP, 0, 0, 0, 0, 0, 0, 1})),
		"first fragment": ether(EtherTypeIPv4, fragment(tcp4, 0x2000)),
		"later fragment": ether(EtherTypeIPv4, fragment(tcp4, 0x2001)),
		"arp request":    ether(EtherTypeARP, arpPacket(1)),
		"arp reply":      ether(EtherTypeARP, arpPacket(2), Tag{EtherTypeVLAN, 10}),
		"solicitation":   ether(EtherTypeIPv6, neighbour(neighbourSolicitation, optionSourceLink)),
		"advertisement":  ether(EtherTypeIPv6, neighbour(neighbourAdvertisement, optionTargetLink)),
		"stp":            ether(7, []byte{0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0}),
		"snap ip":        ether(8+uint16(len(tcp4)), append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, tcp4...)),
		"pppoe":          ether(EtherTypePPPoESession, append([]byte{0x11, 0, 0, 1, 0, 9, 0, 0x21}, tcp4...)),
		"hsr":            ether(EtherTypeHSR, tcp4),
		"goose":          ether(0x88b8, []byte{0, 1, 0, 8, 0, 0, 0, 0}),
	}
}

func TestEthernet(t *testing.T) {
	rows := []struct {
		name string
		want func(f *Frame) bool
	}{
		{"tcp over ipv4", func(f *Frame) bool {
			return f.IsTCP && f.IPVersion == 4 && f.SrcIP == hmi4.Addr() && f.DstIP == plc4.Addr() &&
				f.SrcPort == 49152 && f.DstPort == 502 && f.TCP.Seq == 1000 && f.TCP.Ack == 2000 &&
				f.TCP.Flags == FlagACK|FlagPSH && f.TCP.Window == 512 && len(f.TCP.Options) == 12 &&
				string(f.Payload) == "hello" && f.ChecksumOK && f.Src == macB && f.Dst == macA && len(f.Tags) == 0
		}},
		{"tcp over ipv6", func(f *Frame) bool {
			return f.IsTCP && f.IPVersion == 6 && f.ChecksumOK && !f.HasOptions && string(f.Payload) == "hello"
		}},
		{"udp over ipv4", func(f *Frame) bool { return f.IsUDP && f.ChecksumOK && string(f.Payload) == "odd" }},
		{"udp over ipv6", func(f *Frame) bool { return f.IsUDP && f.ChecksumOK && string(f.Payload) == "even" }},
		{"one tag", func(f *Frame) bool {
			id, tagged := f.VLAN()
			return tagged && id == 10 && f.Tags[0].Priority() == 3 && f.EtherType == EtherTypeIPv4 && f.IsTCP
		}},
		{"priority tag", func(f *Frame) bool {
			id, tagged := f.VLAN()
			return tagged && id == 0 && f.Tags[0].Priority() == 7 && f.IsTCP
		}},
		{"QinQ", func(f *Frame) bool {
			return len(f.Tags) == 2 && f.Tags[0] == Tag{EtherTypeQinQ, 5} && f.Tags[1].VLAN() == 6 && f.IsTCP
		}},
		{"8100 twice", func(f *Frame) bool { return len(f.Tags) == 2 && f.Tags[1].VLAN() == 6 && f.IsTCP }},
		{"9100", func(f *Frame) bool { return f.Tags[0].TPID == EtherTypeQinQ9100 && f.IsTCP }},
		{"link padding", func(f *Frame) bool { return string(f.Payload) == "hello" && f.ChecksumOK }},
		{"ipv4 options", func(f *Frame) bool { return f.HasOptions && f.IsTCP && f.ChecksumOK && len(f.IPHeader) == 24 }},
		{"broken ipv4 options", func(f *Frame) bool { return f.HasOptions && f.IsTCP && f.ChecksumOK }},
		{"extension headers", func(f *Frame) bool {
			return f.HasOptions && f.IsTCP && f.ChecksumOK && len(f.IPHeader) == 56 && f.Protocol == ProtocolTCP
		}},
		{"ipv6 fragment", func(f *Frame) bool { return f.Fragment && f.FragmentOffset == 8 && !f.IsTCP }},
		{"atomic fragment", func(f *Frame) bool { return f.Fragment && f.FragmentOffset == 0 && f.DstPort == 502 }},
		{"first fragment", func(f *Frame) bool { return f.Fragment && f.FragmentOffset == 0 && f.DstPort == 502 }},
		{"later fragment", func(f *Frame) bool { return f.Fragment && f.FragmentOffset == 8 && !f.IsTCP && f.DstPort == 0 }},
		{"arp request", func(f *Frame) bool {
			return f.IsARP && f.ARP.Op == 1 && f.ARP.SenderMAC == macB && f.ARP.SenderIP == hmi4.Addr() &&
				f.ARP.TargetIP == plc4.Addr() && f.ARP.TargetMAC == [6]byte{}
		}},
		{"arp reply", func(f *Frame) bool { return f.IsARP && f.ARP.Op == 2 && len(f.Tags) == 1 }},
		{"solicitation", func(f *Frame) bool {
			return f.IsND && f.IsICMP && f.ICMPType == 135 && f.ND.Target == plc6.Addr() &&
				f.ND.HasLinkAddress && f.ND.LinkAddress == macB && f.ChecksumOK
		}},
		{"advertisement", func(f *Frame) bool { return f.IsND && f.ND.HasLinkAddress && f.ND.LinkAddress == macB }},
		{"stp", func(f *Frame) bool {
			return f.LLC && f.DSAP == 0x42 && f.EtherType == 0 && f.Encapsulation == EncapsulationLLC
		}},
		{"snap ip", func(f *Frame) bool {
			return f.LLC && f.Encapsulation == EncapsulationSNAP && f.SNAPType == EtherTypeIPv4 && f.IPVersion == 0
		}},
		{"pppoe", func(f *Frame) bool { return f.Encapsulation == EncapsulationPPPoE && f.IPVersion == 0 }},
		{"hsr", func(f *Frame) bool { return f.Encapsulation == EncapsulationHSR && f.IPVersion == 0 }},
		{"goose", func(f *Frame) bool { return f.EtherType == 0x88b8 && f.Encapsulation == EncapsulationNone }},
	}
	all := samples(t)
	if len(rows) != len(all) {
		t.Errorf("%d rows for %d samples", len(rows), len(all))
	}
	var d Decoder
	var f Frame
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			data := bytes.Clone(all[row.name])
			if err := d.Ethernet(data, &f); err != nil {
				t.Fatal(err)
			}
			if !row.want(&f) {
				t.Errorf("decoded as %+v", f)
			}
			if !bytes.Equal(data, all[row.name]) {
				t.Error("decoding changed the frame")
			}
		})
	}
}

func TestEveryPrefixIsReadWithoutPanicAndNeverAsWhole(t *testing.T) {
	var d Decoder
	var f Frame
	for name, data := range samples(t) {
		for n := range data {
			err := d.Ethernet(bytes.Clone(data[:n]), &f)
			if err == nil && f.IPVersion != 0 && f.IPLength > len(f.LinkPayload) && !f.Truncated {
				t.Errorf("%s: %d of %d bytes pass for the whole packet", name, n, len(data))
			}
			if err == nil && f.Truncated && f.IPVersion != 0 && f.ChecksumOK {
				t.Errorf("%s: %d of %d bytes have a right checksum", name, n, len(data))
			}
			if n > 14 {
				_ = d.IP(bytes.Clone(data[14:n]), &f)
			}
		}
	}
}

func TestEveryBitFlipIsNoticedByAChecksum(t *testing.T) {
	var d Decoder
	var f Frame
	for _, packet := range [][]byte{
		tcpPacket(t, hmi4, plc4, "hello"), tcpPacket(t, hmi6, plc6, "hello"), udpPacket(t, hmi4, plc4, "odd"),
	} {
		for bit := range len(packet) * 8 {
			bad := bytes.Clone(packet)
			bad[bit/8] ^= 0x80 >> (bit % 8)
			err := d.IP(bad, &f)
			// IPv6 has no header checksum: class, flow label, length and hop limit are not
			// covered, and another next header is another protocol.
			// Another version is another format altogether.
			if bit < 4 || (packet[0]>>4 == 6 && bit < 64) {
				continue
			}
			if err == nil && f.ChecksumOK && !f.Truncated {
				t.Errorf("IPv%d: bit %d flipped, no checksum objects", packet[0]>>4, bit)
			}
		}
	}
}

func TestIPErrors(t *testing.T) {
	edit := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	tcp4, tcp6 := tcpPacket(t, hmi4, plc4, "hello"), tcpPacket(t, hmi6, plc6, "hello")
	rows := []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, ErrTruncated},
		{"version 5", edit(tcp4, 0, 0x55), ErrVersion},
		{"header length 4 words", edit(tcp4, 0, 0x44), ErrIPHeader},
		{"total length 0", edit(tcp4, 2, 0, 0), ErrIPHeader},
		{"total length below the header", edit(tcp4, 2, 0, 19), ErrIPHeader},
		{"total length inside the TCP header", edit(tcp4, 2, 0, 30), ErrTransportHeader},
		{"data offset 4", edit(tcp4, 32, 0x40), ErrTransportHeader},
		{"data offset past the packet", edit(tcp4, 32, 0xf0), ErrTransportHeader},
		{"ipv6 payload length 0", edit(tcp6, 4, 0, 0), ErrTransportHeader},
		{"extension header past the packet", edit(edit(tcp6, 6, headerDestination), 41, 0xff), ErrTruncated},
		{"udp length 7", edit(udpPacket(t, hmi4, plc4, "x"), 24, 0, 7), ErrTransportHeader},
		{"udp length past the packet", edit(udpPacket(t, hmi4, plc4, "x"), 24, 0, 10), ErrTransportHeader},
		{"option of length 0 in neighbour discovery", edit(neighbour(135, 1), 65, 0), ErrTransportHeader},
	}
	var d Decoder
	var f Frame
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if err := d.IP(row.data, &f); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

func TestEthernetErrors(t *testing.T) {
	tcp4 := tcpPacket(t, hmi4, plc4, "hello")
	arp := arpPacket(1)
	wide := bytes.Clone(arp)
	wide[4] = 200 // twice 200 wraps in eight bits
	tags := make([]Tag, MaxTags+1)
	for i := range tags {
		tags[i].TPID = EtherTypeVLAN
	}
	rows := []struct {
		name string
		data []byte
		want error
	}{
		{"13 bytes", make([]byte, 13), ErrTruncated},
		{"too many tags", PrependEthernet(macA, macB, tags, EtherTypeIPv4, tcp4), ErrTags},
		{"IPv4 under the IPv6 EtherType", PrependEthernet(macA, macB, nil, EtherTypeIPv6, tcp4), ErrVersion},
		{"arp with wide addresses", PrependEthernet(macA, macB, nil, EtherTypeARP, wide), ErrARP},
		{"arp cut short", PrependEthernet(macA, macB, nil, EtherTypeARP, arp[:27]), ErrTruncated},
		{"tag cut short", PrependEthernet(macA, macB, nil, EtherTypeVLAN, []byte{0, 1, 8}), ErrTruncated},
	}
	var d Decoder
	var f Frame
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if err := d.Ethernet(row.data, &f); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

func TestDecodingDoesNotAllocate(t *testing.T) {
	var d Decoder
	var f Frame
	for name, data := range samples(t) {
		if name == "broken ipv4 options" {
			continue // gopacket words an error for those
		}
		if n := testing.AllocsPerRun(100, func() { _ = d.Ethernet(data, &f) }); n != 0 {
			t.Errorf("%s: %v allocations a frame", name, n)
		}
	}
}

func TestUDPWithoutChecksum(t *testing.T) {
	var d Decoder
	var f Frame
	for _, row := range []struct {
		name   string
		packet []byte
		at     int
		want   bool
	}{
		{"is lawful over IPv4", udpPacket(t, hmi4, plc4, "x"), 26, true},
		{"is not over IPv6", udpPacket(t, hmi6, plc6, "x"), 46, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.packet[row.at], row.packet[row.at+1] = 0, 0
			if err := d.IP(row.packet, &f); err != nil || f.ChecksumOK != row.want {
				t.Errorf("got %v, %v", f.ChecksumOK, err)
			}
		})
	}
}

func FuzzEthernet(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Decoder
		var got Frame
		before := bytes.Clone(data)
		_ = d.Ethernet(data, &got)
		_ = got.PartialChecksum()
		_ = d.IP(data, &got)
		if !bytes.Equal(before, data) {
			t.Fatal("decoding changed the frame")
		}
		if f, _, err := tcpOf(data); err == nil {
			if err := SetTCPPayload(data, bytes.Clone(f.Payload)); err != nil {
				t.Fatal(err)
			}
			if err := d.IP(data, &got); err != nil || (!got.ChecksumOK && !badHeader(&got)) {
				t.Fatalf("after an edit: checksum %v, %v", got.ChecksumOK, err)
			}
		}
	})
}

// badHeader reports whether an IPv4 header's own checksum is wrong, which no edit repairs.
func badHeader(f *Frame) bool {
	return f.IPVersion == 4 && fold(sum(0, f.IPHeader)) != 0xffff
}

func BenchmarkIP(b *testing.B) {
	var d Decoder
	var f Frame
	packet := tcpPacket(b, hmi4, plc4, "0123456789ab")
	b.ReportAllocs()
	for b.Loop() {
		_ = d.IP(packet, &f)
	}
}
