package replay

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
)

var update = flag.Bool("update", false, "write testdata anew")

var (
	hmi  = peer{[6]byte{2, 0, 0, 0, 0, 0x20}, netip.MustParseAddrPort("198.18.0.20:49152")}
	plc  = peer{[6]byte{2, 0, 0, 0, 0, 0x10}, netip.MustParseAddrPort("198.18.0.10:502")}
	evil = peer{[6]byte{2, 0, 0, 0, 0, 0x66}, netip.MustParseAddrPort("198.18.0.66:50000")}
)

type peer struct {
	mac  [6]byte
	addr netip.AddrPort
}

// script writes the frames of a capture.
type script struct {
	t      *testing.T
	frames [][]byte
	tags   []frame.Tag
	seq    map[peer]uint32
}

func newScript(t *testing.T) *script { return &script{t: t, seq: map[peer]uint32{}} }

// tcp adds a segment; sequence numbers follow one another.
func (s *script) tcp(from, to peer, flags uint8, payload ...byte) {
	s.t.Helper()
	p := frame.TCPPacket{Src: from.addr, Dst: to.addr, Seq: s.seq[from], Flags: flags, Window: 8192, Payload: payload}
	if flags&frame.FlagACK != 0 {
		p.Ack = s.seq[to]
	}
	s.seq[from] += uint32(len(payload))
	if flags&(frame.FlagSYN|frame.FlagFIN) != 0 {
		s.seq[from]++
	}
	ip, err := frame.AppendTCP(nil, &p)
	if err != nil {
		s.t.Fatal(err)
	}
	s.add(from, to, frame.EtherTypeIPv4, ip)
}

func (s *script) add(from, to peer, etherType uint16, payload []byte) {
	s.frames = append(s.frames, frame.PrependEthernet(to.mac, from.mac, s.tags, etherType, payload))
}

func (s *script) open(from, to peer) {
	s.tcp(from, to, frame.FlagSYN)
	s.tcp(to, from, frame.FlagSYN|frame.FlagACK)
	s.tcp(from, to, frame.FlagACK)
}

const push = frame.FlagPSH | frame.FlagACK

// pcap returns the frames as a capture file, a millisecond apart.
func (s *script) pcap() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
	start := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for i, f := range s.frames {
		at := start.Add(time.Duration(i) * time.Millisecond)
		b = binary.LittleEndian.AppendUint32(b, uint32(at.Unix()))
		b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()/1000))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// mbap builds a message.
func mbap(transaction, unit byte, pdu ...byte) []byte {
	return append([]byte{0, transaction, 0, 0, 0, byte(1 + len(pdu)), unit}, pdu...)
}

// session is the capture of testdata/session.pcap: what a reader of captures has to cope with.
func session(t *testing.T) []byte {
	s := newScript(t)
	s.open(hmi, plc)
	s.tcp(hmi, plc, push, mbap(1, 1, 3, 0, 40, 0, 2)...) // 4: a read
	s.tcp(plc, hmi, push, mbap(1, 1, 3, 4, 0, 1, 0, 2)...)
	write := mbap(2, 1, 16, 0, 100, 0, 2, 4, 0, 7, 0, 8)
	s.tcp(hmi, plc, push, write[:9]...) // 6, 7: a write in two pieces
	s.tcp(hmi, plc, push, write[9:]...)
	s.tcp(plc, hmi, push, mbap(2, 1, 16, 0, 100, 0, 2)...)
	s.tcp(hmi, plc, push, append(mbap(3, 1, 1, 0, 0, 0, 3), mbap(4, 1, 6, 0, 40, 5, 0xdd)...)...) // 9: two at once
	s.tcp(plc, hmi, push, append(mbap(3, 1, 1, 1, 5), mbap(4, 1, 0x86, 2)...)...)
	s.tcp(hmi, plc, push, mbap(5, 1, 43, 14, 1, 0)...)
	s.tcp(plc, hmi, push, mbap(5, 1, 43, 14, 1, 1, 0, 0, 1, 0, 4, 'A', 'c', 'm', 'e')...)
	s.tcp(hmi, plc, push, mbap(6, 1, 8, 0, 0, 0xa5, 0x37)...)
	s.tcp(plc, hmi, push, mbap(6, 1, 8, 0, 0, 0xa5, 0x37)...)
	s.tcp(hmi, plc, push, mbap(7, 1, 23, 0, 1, 0, 1, 0, 9, 0, 1, 2, 0, 42)...)
	s.tcp(plc, hmi, push, mbap(7, 1, 23, 2, 0, 7)...)
	s.tcp(hmi, plc, push, mbap(8, 1, 3, 0, 40, 0, 0)...) // 17: malformed
	s.tcp(plc, hmi, push, mbap(8, 1, 0x83, 3)...)
	s.tcp(hmi, plc, frame.FlagFIN|frame.FlagACK)
	s.tcp(plc, hmi, frame.FlagFIN|frame.FlagACK)

	s.tags = []frame.Tag{{TPID: frame.EtherTypeVLAN, TCI: 10}} // 21: joined in mid-stream, in a VLAN
	s.tcp(evil, plc, push, mbap(9, 1, 5, 0, 1, 0xff, 0)...)
	s.tcp(plc, evil, push, mbap(9, 1, 5, 0, 1, 0xff, 0)...)
	s.tags = nil

	other := peer{plc.mac, netip.MustParseAddrPort("198.18.0.10:4840")} // 23: not Modbus
	s.open(hmi, other)
	s.tcp(hmi, other, push, []byte("HELF hello")...)
	s.add(plc, peer{mac: [6]byte{1, 0x0c, 0xcd, 1, 0, 0}}, 0x88b8, make([]byte, 46)) // 27: GOOSE, twice
	s.add(plc, peer{mac: [6]byte{1, 0x0c, 0xcd, 1, 0, 0}}, 0x88b8, make([]byte, 46))
	return s.pcap()
}

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is\n%s\nwant\n%s", file, got, want)
	}
}

func TestSessionCaptureIsWhatTheScriptWrites(t *testing.T) {
	path := filepath.Join("testdata", "session.pcap")
	if *update {
		if err := os.WriteFile(path, session(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, session(t)) {
		t.Errorf("testdata/session.pcap differs (%v)", err)
	}
}

func TestDissectGolden(t *testing.T) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	if err := Dissect([]string{"testdata/session.pcap"}, func(m *Message) error { return encoder.Encode(m) }); err != nil {
		t.Fatal(err)
	}
	golden(t, "session.dissect.jsonl", out.Bytes())
}

// cellAndPlant begins a policy: what stands on both sides. Further identities may follow, then the conduits.
const cellAndPlant = `
api_version: penstock/v1
site: replay
mode: enforce
appliances:
  - {name: gate, sides: {a: [cell], b: [plant]}}
defaults: {on_outage: closed}
zones:
  - {name: plant, sl_target: 2}
  - {name: cell, sl_target: 2}
identities:
  - {name: hmi, zone: plant, mac: "02:00:00:00:00:20", ip: [198.18.0.20]}
  - {name: plc, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10]}`

// planOf compiles a policy.
func planOf(t *testing.T, text string) *policy.Plan {
	t.Helper()
	p, err := policy.Parse("replay.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return compiled(t, p)
}

func compiled(t *testing.T, p *policy.Policy) *policy.Plan {
	t.Helper()
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func testPlan(t *testing.T) *policy.Plan {
	t.Helper()
	p, err := policy.ParseFile("testdata/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return compiled(t, p)
}

func TestAssessGolden(t *testing.T) {
	a, err := Assess(testPlan(t), []string{"testdata/session.pcap"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "session.assess.json", append(out, '\n'))
}

// A capture from elsewhere is judged once its addresses are lent the policy's identities.
func TestAssessWithLentIdentities(t *testing.T) {
	s := newScript(t)
	client := peer{[6]byte{6, 1, 1, 1, 1, 1}, netip.MustParseAddrPort("10.1.1.1:40000")}
	server := peer{[6]byte{6, 2, 2, 2, 2, 2}, netip.MustParseAddrPort("10.2.2.2:502")}
	s.tcp(server, client, push, mbap(7, 1, 3, 4, 0, 1, 0, 2)...) // the capture begins with a reply
	s.tcp(client, server, push, mbap(8, 1, 3, 0, 40, 0, 2)...)
	s.tcp(server, client, push, mbap(8, 1, 3, 4, 0, 1, 0, 2)...)
	s.tcp(client, server, push, mbap(9, 1, 5, 0, 1, 0xff, 0)...)
	path := filepath.Join(t.TempDir(), "elsewhere.pcap")
	if err := os.WriteFile(path, s.pcap(), 0o644); err != nil {
		t.Fatal(err)
	}
	plan := testPlan(t)
	for name, address := range map[string]string{"hmi": "10.1.1.1", "plc": "06:02:02:02:02:02"} {
		lent, err := plan.Lend(name, address)
		if err != nil {
			t.Fatal(err)
		}
		plan = lent
	}
	a, err := Assess(plan, []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if a.Allowed != 3 || a.Denied != 1 || a.Unjudged != 0 || len(a.Denials) != 1 {
		t.Fatalf("%+v", a)
	}
	want := Denial{
		Count: 1, Reason: a.Denials[0].Reason, Conduit: "hmi-to-plc", Source: "hmi", Destination: "plc", Protocol: "modbus",
		Operation: "write_single_coil", Detail: "unit 1 address 1", First: Place{path, 4},
	}
	if a.Denials[0] != want || want.Reason.String() != "function_not_permitted" {
		t.Errorf("%+v", a.Denials[0])
	}
}

func TestDamagedCaptureTellsWhatCameBefore(t *testing.T) {
	whole := session(t)
	path := filepath.Join(t.TempDir(), "cut.pcap")
	if err := os.WriteFile(path, whole[:len(whole)-3], 0o644); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := Dissect([]string{path}, func(*Message) error { n++; return nil })
	if err == nil || !strings.Contains(err.Error(), "packet 28") || n == 0 {
		t.Errorf("%d messages, %v", n, err)
	}
	a, err := Assess(testPlan(t), []string{path})
	if err == nil || a.Messages == 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

// Checksums of a sender that leaves them to its network card are not held against it; a wrong one
// of a sender that fills them in is a decoy.
func TestChecksumsOfACapture(t *testing.T) {
	read := mbap(1, 1, 3, 0, 40, 0, 2)
	for name, row := range map[string]struct {
		spoil []int // frames
		want  int
	}{
		"all of the client's": {[]int{0, 2, 3, 4}, 2},
		"a decoy":             {[]int{3}, 1},
	} {
		s := newScript(t)
		s.open(hmi, plc)
		s.tcp(hmi, plc, push, read...)
		s.tcp(hmi, plc, push, mbap(2, 1, 3, 0, 40, 0, 2)...)
		for _, i := range row.spoil {
			s.frames[i][50] ^= 0xff // in the TCP checksum
		}
		if name == "a decoy" {
			s.frames[4] = decoyed(t)
		}
		path := filepath.Join(t.TempDir(), "sums.pcap")
		if err := os.WriteFile(path, s.pcap(), 0o644); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := Dissect([]string{path}, func(m *Message) error {
			if m.Malformed == "" {
				n++
			}
			return nil
		}); err != nil || n != row.want {
			t.Errorf("%s: %d messages, want %d (%v)", name, n, row.want, err)
		}
	}
}

// decoyed is the true segment in the place of the decoy, the frame after it.
func decoyed(t *testing.T) []byte {
	s := newScript(t)
	s.open(hmi, plc)
	s.tcp(hmi, plc, push, mbap(1, 1, 6, 0, 40, 0, 2)...)
	return s.frames[3]
}

// The same five-tuple in another VLAN or between other MAC addresses is another conversation
// (line 38 of the list of evasions).
func TestEvasion38_FiveTupleInTwoVLANs(t *testing.T) {
	s := newScript(t)
	s.open(hmi, plc)
	s.tcp(hmi, plc, push, mbap(1, 1, 3, 0, 40, 0, 2)[:6]...)
	s.tags = []frame.Tag{{TPID: frame.EtherTypeVLAN, TCI: 20}}
	s.tcp(hmi, plc, push, mbap(1, 1, 3, 0, 40, 0, 2)[6:]...)
	s.tags = nil
	path := filepath.Join(t.TempDir(), "vlans.pcap")
	if err := os.WriteFile(path, s.pcap(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Dissect([]string{path}, func(m *Message) error {
		if m.Malformed == "" {
			t.Errorf("a message across two VLANs: %+v", m)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
