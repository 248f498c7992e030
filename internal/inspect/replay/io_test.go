package replay

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const ioSite = cellAndPlant + `
  - {name: spare, zone: cell, mac: "02:00:00:00:00:66", ip: [198.18.0.66]}
conduits:
  - {name: spare, from: [plc], to: [hmi], protocol: tcp, ports: [9]}
  - {name: cyclic, from: [hmi], to: [plc], protocol: enip, rules: [{services: [forward_open, forward_close], io: {assemblies: [100]}}]}
`

// udp adds a datagram.
func (s *script) udp(from, to peer, payload []byte) {
	s.t.Helper()
	ip, err := frame.AppendUDP(nil, from.addr, to.addr, payload)
	if err != nil {
		s.t.Fatal(err)
	}
	s.add(from, to, frame.EtherTypeIPv4, ip)
}

// cyclic is a datagram of an I/O connection.
func cyclic(id, sequence uint32, size int) []byte {
	return ct.Join(ct.U16(2), ct.Item(0x8002, ct.Join(ct.U32(id), ct.U32(sequence))), ct.Item(0xb1, make([]byte, size)))
}

// TestAssessCountsIOToAGroup: what a device sends to a group on a connection that the policy permits is allowed,
// after the connection is closed it is not, nor where the policy forbids the connection; and what was opened
// before the capture begins is not judged.
func TestAssessCountsIOToAGroup(t *testing.T) {
	const handle, output, input, frames = 0x11, 0x701, 0x702, 5
	scanner := peer{hmi.mac, netip.MustParseAddrPort("198.18.0.20:2222")}
	adapter := peer{plc.mac, netip.MustParseAddrPort("198.18.0.10:2222")}
	device := peer{plc.mac, netip.MustParseAddrPort("198.18.0.10:44818")}
	stranger := peer{evil.mac, netip.MustParseAddrPort("198.18.0.66:2222")}
	group := peer{[6]byte{1, 0, 0x5e, 0x40, 1, 5}, netip.MustParseAddrPort("239.192.1.5:2222")}
	capture := func(point uint32, unseen bool) []byte {
		s := newScript(t)
		s.open(hmi, device)
		s.tcp(hmi, device, push, ct.Register(0)...)
		s.tcp(device, hmi, push, ct.Register(handle)...)
		o := ct.Open{Serial: 1, ToSource: input, Class: 1, Size: 10, RPI: 20000, Types: [2]byte{0, 1}, Path: ct.Join(ct.Class(4), ct.Point(point))}
		if !unseen {
			s.tcp(hmi, device, push, ct.RR(handle, 1, o.Forward())...)
			s.tcp(device, hmi, push, ct.RR(handle, 1, ct.Opened(o, output, input), ct.Item(0x8001, ct.Socket(2222, 239, 192, 1, 5)))...)
		}
		for i := range uint32(frames) {
			s.udp(scanner, adapter, cyclic(output, i+1, 10))
			s.udp(adapter, group, cyclic(input, i+1, 10))
		}
		s.udp(stranger, group, cyclic(input, 9, 10))
		if !unseen {
			s.tcp(hmi, device, push, ct.RR(handle, 2, ct.Close(1, o.Path))...)
			s.tcp(device, hmi, push, ct.RR(handle, 2, binary.LittleEndian.AppendUint16([]byte{0xce, 0, 0, 0, 1, 0, 0x37, 0x13, 42, 0, 0, 0}, 0))...)
		}
		return s.pcap()
	}
	plan := planOf(t, ioSite)
	const session = 2 // registering and its reply
	for _, r := range []struct {
		name                      string
		capture                   []byte
		allowed, denied, unjudged uint64
		reasons                   map[verdict.Reason]uint64
	}{
		{"permitted", capture(100, false), session + 4 + 2*frames, 1, 0, map[verdict.Reason]uint64{verdict.ReasonUnknownDestination: 1}},
		{"forbidden", capture(101, false), session + 3, 2 + 2*frames, 0, map[verdict.Reason]uint64{
			verdict.ReasonUnknownDestination: 1, verdict.ReasonPathNotPermitted: 1, verdict.ReasonIONotOpen: 2 * frames,
		}},
		{"opened before", capture(100, true), session, 1, 2 * frames, map[verdict.Reason]uint64{verdict.ReasonUnknownDestination: 1}},
	} {
		t.Run(r.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "io.pcap")
			if err := os.WriteFile(path, r.capture, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Assess(plan, []string{path})
			if err != nil {
				t.Fatal(err)
			}
			reasons := map[verdict.Reason]uint64{}
			for _, d := range got.Denials {
				reasons[d.Reason] += d.Count
			}
			if got.Allowed != r.allowed || got.Denied != r.denied || got.Unjudged != r.unjudged {
				t.Errorf("%d allowed, %d denied, %d not judged, want %d, %d and %d: %+v", got.Allowed, got.Denied, got.Unjudged, r.allowed, r.denied, r.unjudged, got.Denials)
			}
			for reason, n := range r.reasons {
				if reasons[reason] != n {
					t.Errorf("%d denied as %v, want %d", reasons[reason], reason, n)
				}
			}
		})
	}
}

// TestAssessCountsIOWithoutItsSession: what goes on after the TCP connection that opened it was closed is denied,
// unless the rule lets it outlive its session.
func TestAssessCountsIOWithoutItsSession(t *testing.T) {
	const handle, output, input, frames = 0x11, 0x701, 0x702, 5
	scanner := peer{hmi.mac, netip.MustParseAddrPort("198.18.0.20:2222")}
	adapter := peer{plc.mac, netip.MustParseAddrPort("198.18.0.10:2222")}
	device := peer{plc.mac, netip.MustParseAddrPort("198.18.0.10:44818")}
	s := newScript(t)
	s.open(hmi, device)
	s.tcp(hmi, device, push, ct.Register(0)...)
	s.tcp(device, hmi, push, ct.Register(handle)...)
	o := ct.Open{Serial: 1, ToSource: input, Class: 1, Size: 10, RPI: 20000, Path: ct.Join(ct.Class(4), ct.Point(100))}
	s.tcp(hmi, device, push, ct.RR(handle, 1, o.Forward())...)
	s.tcp(device, hmi, push, ct.RR(handle, 1, ct.Opened(o, output, input))...)
	both := func(from uint32) {
		for i := range uint32(frames) {
			s.udp(scanner, adapter, cyclic(output, from+i, 10))
			s.udp(adapter, scanner, cyclic(input, from+i, 10))
		}
	}
	both(1)
	s.tcp(device, hmi, frame.FlagFIN|frame.FlagACK)
	s.tcp(hmi, device, frame.FlagFIN|frame.FlagACK)
	s.tcp(device, hmi, frame.FlagACK)
	both(1 + frames)
	path := filepath.Join(t.TempDir(), "io.pcap")
	if err := os.WriteFile(path, s.pcap(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, outlives := range []bool{false, true} {
		text, denied := ioSite, uint64(2*frames)
		if outlives {
			text, denied = strings.Replace(ioSite, "[100]}", "[100], outlive_session: true}", 1), 0
		}
		plan := planOf(t, text)
		got, err := Assess(plan, []string{path})
		if err != nil {
			t.Fatal(err)
		}
		if got.Denied != denied || got.Unjudged != 0 || got.Allowed != 4+4*frames-denied {
			t.Errorf("outlives its session %v: %d allowed, %d denied, %d not judged: %+v", outlives, got.Allowed, got.Denied, got.Unjudged, got.Denials)
		}
		for _, d := range got.Denials {
			if d.Reason != verdict.ReasonIONotOpen {
				t.Errorf("denied as %v", d.Reason)
			}
		}
	}
}
