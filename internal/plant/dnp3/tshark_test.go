package dnp3

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// recording is a TCP connection as a capture would show it, made out of what both ends write.
type recording struct {
	mu      sync.Mutex
	file    []byte
	numbers [2]uint32
	said    []string // functions and objects, as this package understands them
	parts   [2]assembler
}

func newRecording() *recording {
	r := &recording{numbers: [2]uint32{1000, 2000}}
	// A pcap file of Ethernet, microseconds, least significant octet first.
	for _, v := range []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 1 << 16, 1} {
		r.file = binary.LittleEndian.AppendUint32(r.file, v)
	}
	r.segment(0, frame.FlagSYN, nil)
	r.segment(1, frame.FlagSYN|frame.FlagACK, nil)
	r.numbers[0]++
	r.numbers[1]++
	return r
}

// end is one end of the connection, 0 the master's.
type end struct {
	net.Conn
	r    *recording
	from int
}

func (e end) Write(b []byte) (int, error) {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	e.r.segment(e.from, frame.FlagACK|frame.FlagPSH, b)
	e.r.numbers[e.from] += uint32(len(b))
	e.r.note(e.from, b)
	return e.Conn.Write(b)
}

func (r *recording) segment(from int, flags uint8, payload []byte) {
	ends := [2]netip.AddrPort{netip.MustParseAddrPort("198.18.0.20:40000"), netip.MustParseAddrPort("198.18.0.10:20000")}
	p := frame.TCPPacket{
		Src: ends[from], Dst: ends[1-from], Seq: r.numbers[from], Ack: r.numbers[1-from], Flags: flags,
		Window: 60000, Payload: payload, TTL: 64,
	}
	if flags&frame.FlagACK == 0 {
		p.Ack = 0
	}
	ip, err := frame.AppendTCP(nil, &p)
	if err != nil {
		panic(err)
	}
	eth := frame.PrependEthernet([6]byte{2, 1}, [6]byte{2, 2}, nil, 0x0800, ip)
	for _, v := range []uint32{uint32(len(r.file)), 0, uint32(len(eth)), uint32(len(eth))} {
		r.file = binary.LittleEndian.AppendUint32(r.file, v)
	}
	r.file = append(r.file, eth...)
}

// note writes down what the fragments in b say.
func (r *recording) note(from int, b []byte) {
	frames, err := new(scanner).feed(b)
	if err != nil {
		panic(err)
	}
	for _, f := range frames {
		if !f.userData() {
			continue
		}
		whole := r.parts[from].take(f.Data)
		if whole == nil {
			continue
		}
		fragment, err := parseFragment(whole)
		if err != nil {
			panic(err)
		}
		headers, err := ParseHeaders(fragment.Body, fragment.Function)
		if err != nil {
			panic(fmt.Sprintf("%v % x: %v", fragment.Function, fragment.Body, err))
		}
		var objects []string
		if fragment.Function == AssignClass || fragment.Function == GetFileInfo {
			headers = nil // tshark reads no objects behind these
		}
		for _, h := range headers {
			objects = append(objects, fmt.Sprintf("0x%02x%02x", h.Group, h.Variation))
		}
		r.said = append(r.said, fmt.Sprintf("%d|%d|%s", fragment.Function, fragment.sequence(), strings.Join(objects, ",")))
	}
}

// TestTsharkAgrees holds whole sessions against a decoder that somebody else wrote: the same
// functions, sequence numbers and objects in the same order, nothing malformed, no bad checksum.
func TestTsharkAgrees(t *testing.T) {
	testnet.RequireProgram(t, "tshark")
	r := newRecording()
	o := NewOutstation(Config{
		Points: 60, FragmentSize: 600, Unsolicited: true,
		Files: map[string][]byte{"a.cfg": []byte(strings.Repeat("settings ", 100))},
	})
	defer o.Close()
	here, there := net.Pipe()
	go o.ServeConn(end{there, r, 1})
	m := NewMaster(end{here, r, 0}, MasterConfig{})
	defer m.Close()
	session(t, o, m)
	everyRequest(t, o, m)

	r.mu.Lock()
	defer r.mu.Unlock()
	name := filepath.Join(t.TempDir(), "session.pcap")
	must(t, os.WriteFile(name, r.file, 0o600))
	got := tshark(t, name)
	if strings.Join(got, "\n") != strings.Join(r.said, "\n") {
		t.Errorf("tshark reads:\n%s\nthis package:\n%s", strings.Join(got, "\n"), strings.Join(r.said, "\n"))
	}
	if len(r.said) < 60 {
		t.Errorf("only %d fragments", len(r.said))
	}
}

// everyRequest makes the requests that a session has not.
func everyRequest(t *testing.T, o *Outstation, m *Master) {
	t.Helper()
	must(t, m.SelectOperate(Controls(Latch(1, true), Latch(2, false))))
	must(t, m.SelectOperate(AnalogOutput(3, 12)))
	must(t, m.Control(DirectOperate, ControlsAs(0x17, CROB{Index: 3, Code: Trip, Count: 1, On: 100, Off: 100})))
	must(t, m.Control(DirectOperateNR, Controls(Latch(4, true))))
	o.Update(1, 1, 1)
	o.Update(20, 1, 1)
	for _, read := range [][]byte{
		Range(1, 1, 0, 59), Range(10, 1, 1, 9), Range(20, 5, 0, 3), Range(20, 6, 0, 3), Range(30, 2, 0, 3), Range(30, 3, 0, 3),
		Range(30, 4, 0, 3), Range(30, 5, 0, 3), Range(21, 9, 0, 3), All(2, 2), {22, 5, 0x08, 5, 0}, All(50, 1), Range(40, 3, 1, 1),
	} {
		if _, err := m.Read(read); err != nil {
			t.Errorf("READ % x: %v", read, err)
		}
	}
	for _, do := range []struct {
		function Function
		body     []byte
	}{
		{ImmediateFreeze, All(20, 0)}, {FreezeClear, Range(20, 0, 0, 5)},
		{AssignClass, append(Class(2), Range(30, 0, 0, 7)...)}, {WarmRestart, nil}, {SaveConfiguration, nil},
	} {
		if _, err := m.Do(do.function, do.body); err != nil {
			t.Errorf("%v: %v", do.function, err)
		}
	}
	must(t, m.SetTimeLAN(time.Now()))
	if _, err := m.ReadFile("a.cfg"); err != nil {
		t.Error(err)
	}
	must(t, m.WriteFile("b.cfg", []byte("something")))
	if _, err := m.FileInfo("b.cfg"); err != nil {
		t.Error(err)
	}
	must(t, m.DeleteFile("b.cfg"))
}

// tshark returns what it reads in a capture, a line for each fragment as note writes it.
func tshark(t *testing.T, name string) (lines []string) {
	t.Helper()
	out, err := exec.Command("tshark", "-r", name, "-T", "fields", "-E", "occurrence=a", "-E", "separator=|",
		"-e", "dnp3.al.func", "-e", "dnp3.al.seq", "-e", "dnp3.al.obj", "-e", "_ws.malformed", "-e", "_ws.expert.message",
		"-Y", "dnp3").Output()
	must(t, err)
	for _, row := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Split(row, "|")
		if len(f) != 5 {
			t.Fatalf("tshark prints %q", row)
		}
		// It has no decoder for g70v7, and says so.
		known := f[2] == "0x4607" && f[4] == `Unknown Object\Variation`
		if f[3]+f[4] != "" && !known {
			t.Errorf("tshark complains: %s", row)
		}
		if f[0] == "" {
			continue // a link frame, or a segment that is not the last
		}
		lines = append(lines, strings.Join(f[:3], "|"))
	}
	return lines
}
