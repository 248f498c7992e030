package frame

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestAppendTCPIsWhatTheDecoderReads(t *testing.T) {
	var d Decoder
	var f Frame
	rows := []struct {
		name     string
		src, dst netip.AddrPort
		options  []byte
		payload  string
	}{
		{"ipv4 reset", hmi4, plc4, nil, ""},
		{"ipv4 odd payload", hmi4, plc4, nil, "abc"},
		{"ipv4 options to be padded", hmi4, plc4, []byte{2, 4, 5, 0xb4, 3, 3, 7}, "abcd"},
		{"ipv6", hmi6, plc6, []byte{1, 1, 1, 1}, "abcde"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b, err := AppendTCP([]byte("before"), &TCPPacket{
				Src: row.src, Dst: row.dst, Seq: 0xfffffff0, Ack: 7, Flags: FlagRST | FlagACK,
				Window: 9, Urgent: 3, Options: row.options, Payload: []byte(row.payload),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := d.IP(b[len("before"):], &f); err != nil {
				t.Fatal(err)
			}
			if !f.ChecksumOK || f.TCP.Seq != 0xfffffff0 || f.TCP.Ack != 7 || f.TCP.Flags != FlagRST|FlagACK ||
				f.TCP.Window != 9 || f.TCP.Urgent != 3 || string(f.Payload) != row.payload ||
				!bytes.HasPrefix(f.TCP.Options, row.options) || f.SrcIP != row.src.Addr() || f.DstPort != row.dst.Port() {
				t.Errorf("read back as %+v", f)
			}
		})
	}
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	for name, p := range map[string]TCPPacket{
		"no addresses":     {},
		"mixed families":   {Src: hmi4, Dst: plc6},
		"too many options": {Src: hmi4, Dst: plc4, Options: make([]byte, 41)},
		"too long":         {Src: hmi4, Dst: plc4, Payload: make([]byte, 65536)},
		"too long for v6":  {Src: hmi6, Dst: plc6, Payload: make([]byte, 65536)},
	} {
		if _, err := AppendTCP(nil, &p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSetTCPPayload(t *testing.T) {
	var d Decoder
	var f Frame
	packet := tcpPacket(t, hmi4, plc4, "hello")
	if err := SetTCPPayload(packet, []byte("HELLO")); err != nil {
		t.Fatal(err)
	}
	if err := d.IP(packet, &f); err != nil || !f.ChecksumOK || string(f.Payload) != "HELLO" || f.TCP.Seq != 1000 {
		t.Errorf("edited to %+v, %v", f, err)
	}
	if err := SetTCPPayload(packet, []byte("longer than it was")); err == nil {
		t.Error("a payload of another length was taken")
	}
	if err := SetTCPPayload(udpPacket(t, hmi4, plc4, "hello"), []byte("HELLO")); err == nil {
		t.Error("a datagram was edited")
	}
	if err := SetTCPPayload(fragment(tcpPacket(t, hmi4, plc4, "hello"), 0x2000), []byte("HELLO")); err == nil {
		t.Error("a fragment was edited")
	}
}

func TestPartialChecksum(t *testing.T) {
	var d Decoder
	var f Frame
	packet := tcpPacket(t, hmi4, plc4, "hello")
	if err := d.IP(packet, &f); err != nil || f.PartialChecksum() {
		t.Fatalf("a filled checksum counts as partial (%v)", err)
	}
	total := addressSum(hmi4.Addr()) + addressSum(plc4.Addr()) + uint64(len(packet)-20) + ProtocolTCP
	packet[36], packet[37] = byte(fold(total)>>8), byte(fold(total))
	if err := d.IP(packet, &f); err != nil || f.ChecksumOK || !f.PartialChecksum() {
		t.Errorf("not known as partial: ok %v, %v", f.ChecksumOK, err)
	}
}
