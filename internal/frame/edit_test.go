package frame

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestSetUDPPayload(t *testing.T) {
	for _, ends := range [][2]string{{"198.18.0.20:49152", "198.18.0.10:20000"}, {"[2001:db8::1]:5", "[2001:db8::2]:6"}} {
		ip, err := AppendUDP(nil, netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1]), []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		padded := append(ip, 0, 0, 0) // of the link
		if err := SetUDPPayload(padded, []byte("world")); err != nil {
			t.Fatal(err)
		}
		var d Decoder
		var f Frame
		if err := d.IP(padded, &f); err != nil || !f.ChecksumOK || !bytes.Equal(f.Payload, []byte("world")) {
			t.Errorf("%q, checksum right: %v, %v", f.Payload, f.ChecksumOK, err)
		}
		if err := SetUDPPayload(padded, []byte("longer than it")); err == nil {
			t.Error("a longer payload was taken")
		}
	}
	tcp, err := AppendTCP(nil, &TCPPacket{Src: netip.MustParseAddrPort("1.2.3.4:5"), Dst: netip.MustParseAddrPort("1.2.3.4:6")})
	if err != nil {
		t.Fatal(err)
	}
	if err := SetUDPPayload(tcp, nil); err == nil {
		t.Error("a TCP segment was taken for a datagram")
	}
}
