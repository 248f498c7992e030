package queue

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePacket(t *testing.T) {
	mac := []byte{0, 6, 0, 0, 2, 0, 0, 0, 0, 0x10, 0, 0}
	ip := []byte{0x45, 0, 0, 20}
	tests := []struct {
		name       string
		body       []byte
		want       Packet
		identified bool
		err        error
	}{
		{
			name: "everything",
			body: packetBody(2, header(7), number(attributeMark, 0x5800_0003),
				number(attributeInDevice, 4), number(attributeOutDevice, 5),
				number(attributeInPort, 2), number(attributeOutPort, 3),
				attr{attributeHardware, mac},
				attr{attributeVLAN | 0x8000, attributes(
					attr{attributeVLANProtocol, []byte{0x81, 0}}, attr{attributeVLANTCI, []byte{0x20, 5}})},
				attr{attributeLinkHeader, []byte{1, 2}},
				number(attributeInfo, 7), number(attributeLength, 9000), attr{attributePayload, ip}),
			want: Packet{ID: 7, Mark: 0x5800_0003, Hook: 2, InDevice: 4, OutDevice: 5, InPort: 2, OutPort: 3,
				HardwareAddress: []byte{2, 0, 0, 0, 0, 0x10}, VLAN: VLAN{0x8100, 0x2005}, LinkHeader: []byte{1, 2},
				GSO: true, ChecksumNotReady: true, ChecksumNotVerified: true, Length: 9000, Truncated: true, Payload: ip},
			identified: true,
		},
		{
			name:       "least",
			body:       packetBody(10, header(1)),
			want:       Packet{ID: 1, Hook: 2, IPv6: true},
			identified: true,
		},
		{
			name:       "captured length of the whole packet",
			body:       packetBody(2, header(1), number(attributeLength, 4), attr{attributePayload, ip}),
			want:       Packet{ID: 1, Hook: 2, Payload: ip, Length: 4},
			identified: true,
		},
		{
			name:       "attribute of a kernel to come",
			body:       packetBody(2, attr{99, []byte{1}}, header(1), attr{0x3fff, nil}),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
		},
		{
			name:       "checksum not ready alone",
			body:       packetBody(2, header(1), number(attributeInfo, 1)),
			want:       Packet{ID: 1, Hook: 2, ChecksumNotReady: true},
			identified: true,
		},
		{name: "empty", err: errShort},
		{name: "no attributes", body: packetBody(2), err: errNoID},
		{name: "payload only", body: packetBody(2, payload(40)), err: errNoID},
		{name: "short packet header", body: packetBody(2, attr{attributePacketHeader, make([]byte, 6)}), err: errNoID},
		{
			name:       "second packet header",
			body:       packetBody(2, header(1), header(2)),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errLength,
		},
		{
			name:       "mark too short",
			body:       packetBody(2, attr{attributeMark, []byte{1}}, header(1)),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errLength,
		},
		{
			name:       "hardware address longer than its attribute",
			body:       packetBody(2, header(1), attr{attributeHardware, []byte{0, 9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}}),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errLength,
		},
		{
			name:       "hardware address cut",
			body:       packetBody(2, header(1), attr{attributeHardware, []byte{0}}),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errLength,
		},
		{
			name:       "VLAN attribute within exceeds",
			body:       packetBody(2, header(1), attr{attributeVLAN, []byte{9, 0, 1, 0}}),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errLength,
		},
		{
			name:       "VLAN identifier of three bytes",
			body:       packetBody(2, header(1), attr{attributeVLAN, attributes(attr{attributeVLANTCI, []byte{1, 2, 3}})}),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errLength,
		},
		{
			name:       "attribute of length 0 after the id",
			body:       append(packetBody(2, header(1)), 0, 0, 0, 0),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errAttribute,
		},
		{
			name:       "attribute exceeds the message",
			body:       append(packetBody(2, header(1)), 0xff, 0xff, attributePayload, 0, 1),
			want:       Packet{ID: 1, Hook: 2},
			identified: true,
			err:        errAttribute,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := Packet{ID: 99, Mark: 99, Payload: []byte{99}} // the packet before
			identified, err := parsePacket(test.body, &p)
			if identified != test.identified || !errors.Is(err, test.err) {
				t.Errorf("parsePacket = %v, %v; want %v, %v", identified, err, test.identified, test.err)
			}
			if !identified {
				return
			}
			if errors.Is(err, errAttribute) {
				p.Length, p.Truncated = 0, false // not reached
			}
			if d := cmp.Diff(test.want, p); d != "" {
				t.Error(d)
			}
		})
	}
}

// Every prefix of a message either names its packet or does not; it is never read as another's,
// and only the whole is without error.
func TestParsePacketPrefixes(t *testing.T) {
	body := packetBody(2, header(0x01020304), number(attributeMark, 5), payload(21))
	idEnds := netfilterHeaderLength + attributeHeaderLength + 7
	for n := range body {
		var p Packet
		identified, err := parsePacket(body[:n], &p)
		if want := n >= idEnds; identified != want {
			t.Errorf("prefix of %d bytes: identified %v, want %v (%v)", n, identified, want, err)
		}
		if identified && p.ID != 0x01020304 {
			t.Errorf("prefix of %d bytes: id %#x", n, p.ID)
		}
	}
}

func TestNextMessage(t *testing.T) {
	one := plain(1)
	odd := packetMessage(header(1))
	odd = append(odd, 1, 2, 3)
	binary.NativeEndian.PutUint32(odd, uint32(len(odd)))
	short := append([]byte(nil), one...)
	binary.NativeEndian.PutUint32(short, 15)
	tests := []struct {
		name  string
		in    []byte
		body  int
		rest  int
		whole bool
	}{
		{"one", one, len(one) - 16, 0, true},
		{"two", append(append([]byte(nil), one...), one...), len(one) - 16, len(one), true},
		{"last without padding", odd, len(odd) - 16, 0, true},
		{"header cut", one[:15], 0, 0, false},
		{"header only of more", one[:16], 0, 0, false},
		{"cut", one[:len(one)-1], len(one) - 17, 0, false},
		{"length below header", short, len(one) - 16, 0, false},
		{"empty", nil, 0, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, rest, whole := nextMessage(test.in)
			if len(m.body) != test.body || len(rest) != test.rest || whole != test.whole {
				t.Errorf("nextMessage: body %d, rest %d, whole %v; want %d, %d, %v",
					len(m.body), len(rest), whole, test.body, test.rest, test.whole)
			}
		})
	}
}

func TestParseRejection(t *testing.T) {
	m := netlinkMessage{kind: messageVerdict, sequence: 77}
	body := errorMessage(2, m)[netlinkHeaderLength:]
	r, ok := parseRejection(body)
	if want := (rejection{errno: 2, kind: messageVerdict, sequence: 77}); !ok || r != want {
		t.Errorf("parseRejection = %+v, %v; want %+v", r, ok, want)
	}
	for n := range body {
		if _, ok := parseRejection(body[:n]); ok {
			t.Errorf("parseRejection took a prefix of %d bytes", n)
		}
	}
}

func TestParseKernelTable(t *testing.T) {
	const table = "   42   1001     0 0     0     0     0        0  1\n" +
		"  100   9999     3 2 65531    17     4      512  1\n"
	tests := []struct {
		name, table string
		number      uint16
		want        Stats
		err         string
	}{
		{"found", table, 100, Stats{Depth: 3, QueueFull: 17, UserDropped: 4}, ""},
		{"number is a part of another", table, 10, Stats{}, "not bound"},
		{"empty", "", 100, Stats{}, "not bound"},
		{"line cut", "  100 9999 3 2\n", 100, Stats{}, "not bound"},
		{"not a number", "100 9999 x 2 65531 17 4 512 1\n", 100, Stats{}, "invalid syntax"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s Stats
			err := parseKernelTable(test.table, test.number, &s)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if err == nil && s != test.want {
				t.Errorf("stats %+v, want %+v", s, test.want)
			}
		})
	}
}
