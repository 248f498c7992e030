package replay

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
)

// Traffic that its header decides counts once a conversation, under the name of what it is.
func TestConversationsThatTheirHeaderDecides(t *testing.T) {
	arp := func(op byte) []byte {
		b := append([]byte{0, 1, 8, 0, 6, 4, 0, op}, hmi.mac[:]...)
		return append(append(b, 198, 18, 0, 20), 0, 0, 0, 0, 0, 0, 198, 18, 0, 10)
	}
	icmp := func(kind byte) []byte {
		b := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 198, 18, 0, 20, 198, 18, 0, 10, kind, 0, 0, 0, 0, 1, 0, 1}
		if kind == 0 {
			copy(b[12:], []byte{198, 18, 0, 10, 198, 18, 0, 20})
		}
		return b
	}
	udp, err := frame.AppendUDP(nil, hmi.addr, plc.addr, []byte("not Modbus/TCP"))
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name     string
		write    func(s *script)
		allowed  uint64
		protocol string
		detail   string
		reason   string
	}{
		{"arp passes", func(s *script) { s.add(hmi, plc, frame.EtherTypeARP, arp(1)) }, 1, "", "", ""},
		{"ping and its reply", func(s *script) {
			s.add(hmi, plc, frame.EtherTypeIPv4, icmp(8))
			s.add(plc, hmi, frame.EtherTypeIPv4, icmp(0))
		}, 0, "icmp", "type 8", "no_conduit"},
		{"modbus over UDP", func(s *script) {
			s.add(hmi, plc, frame.EtherTypeIPv4, udp)
			s.add(hmi, plc, frame.EtherTypeIPv4, udp)
		}, 0, "udp", "port 502", "no_conduit"},
		{"PPPoE", func(s *script) { s.add(hmi, plc, frame.EtherTypePPPoESession, make([]byte, 46)) },
			0, "ethertype 0x8864", "pppoe", "encapsulation"},
		{"802.3", func(s *script) { s.add(hmi, plc, 46, append([]byte{0xe0, 0xe0, 3}, make([]byte, 43)...)) },
			0, "llc", "llc", "no_conduit"},
		{"a connection that a SYN-ACK shows", func(s *script) {
			s.tcp(peer{plc.mac, otherService()}, hmi, frame.FlagSYN|frame.FlagACK)
		}, 0, "tcp", "port 4840", "no_conduit"},
		{"IP that contradicts itself", func(s *script) {
			s.add(hmi, plc, frame.EtherTypeIPv4, []byte{0x45, 0, 0, 5, 0, 0, 0, 0, 64, 6, 0, 0, 198, 18, 0, 20, 198, 18, 0, 10})
		}, 0, "ethertype 0x0800", "", "malformed"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := newScript(t)
			row.write(s)
			path := filepath.Join(t.TempDir(), "header.pcap")
			if err := os.WriteFile(path, s.pcap(), 0o644); err != nil {
				t.Fatal(err)
			}
			a, err := Assess(testPlan(t), []string{path})
			if err != nil {
				t.Fatal(err)
			}
			if row.reason == "" {
				if a.Allowed != row.allowed || a.Denied != 0 {
					t.Errorf("%+v", a)
				}
				return
			}
			if len(a.Denials) != 1 || a.Denied != 1 || a.Denials[0].Protocol != row.protocol ||
				a.Denials[0].Detail != row.detail || a.Denials[0].Reason.String() != row.reason {
				t.Errorf("%+v", a)
			}
		})
	}
}

func otherService() netip.AddrPort { return netip.MustParseAddrPort("198.18.0.10:4840") }
