package replay

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// dnp3Captures returns the captures that hold DNP3, or skips.
func dnp3Captures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(sharedCaptures + "/dnp3/*.pcap*")
	if err != nil || len(files) == 0 {
		t.Skipf("no captures: %s is absent", sharedCaptures)
	}
	return append(files, sharedCaptures+"/peers/dnp3-all-fc.pcap", sharedCaptures+"/peers/dnp3-udp.pcap")
}

// permitEveryDNP3 assesses under a policy that permits every DNP3 message.
func permitEveryDNP3(t *testing.T, path string, inline bool) *Assessment {
	t.Helper()
	a := newAssessor(anything())
	a.player.inline = inline
	a.decide = func(h *policy.Header) policy.Decision {
		if h.DstPort >= dnp3Port && h.DstPort < dnp3Port+100 { // the peers' servers
			return policy.Decision{Verdict: verdict.Verdict{Action: verdict.Inspect, Reason: verdict.ReasonPermitted}, Conduit: dnp3Conduit}
		}
		return policy.Decision{Verdict: verdict.Permitted}
	}
	a.adopt = true
	result, err := a.run([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestCleanDNP3CapturesHaveNoFalseDenial(t *testing.T) {
	for _, path := range dnp3Captures(t) {
		base := filepath.Base(path)
		t.Run(base, func(t *testing.T) {
			a := permitEveryDNP3(t, path, false)
			t.Logf("%d messages, %d unjudged segments", a.Messages, a.Unjudged)
			if want := dirtyDNP3Captures[strings.TrimPrefix(base, "ITI_ICS-Security-Tools__")]; a.Denied != want {
				t.Errorf("%d denied, want %d", a.Denied, want)
				logDenials(t, a)
			}
		})
	}
}

// dirtyDNP3Captures lists the captures that a policy that permits everything does not pass whole: how
// many denials there may be, and why each is right.
var dirtyDNP3Captures = map[string]uint64{
	// A control block cut short, its CRC redone.
	"dnp3_direct_operate_crob_malform_but_good_crc.pcap": 1,
	// Tests of a link layer: a wrong start byte (frame 14), user data without any, wrong lengths.
	"dnp3_opendnp3-3_conformance_6.6.2.1_dump.pcap": 1,
	"dnp3_opendnp3-3_conformance_6.6.2.3_dump.pcap": 2,
	"dnp3_opendnp3-3_conformance_6.6.2.4_dump.pcap": 1,
	// A server that is none: it answers with texts or with a frame of length 0.
	"openics_DNP3-Read.pcap":                 1,
	"openics_DNP3-ReadRequest.pcap":          1,
	"openics_DNP3-RequestLink.pcap":          1,
	"openics_DNP3-RequestLinkStatus.pcap":    1,
	"openics_DNP3-SelectOperate.pcap":        1,
	"openics_DNP3-SelectOperateRequest.pcap": 1,
	"openics_DNP3-Write.pcap":                1,
	"openics_DNP3-WriteRequest.pcap":         1,
	// Built against inspectors: a start of 0x0505 (frame 19), the qualifier 0xed (154 to 176).
	"digitalbond_Quickdraw-Snort__dnp3_test_data_part1.pcap": 7,
	"zeek_zeek__dnp3_dnp3.pcap":                              7,
	// Fuzzed: responses that are requests, and segments of no message.
	"zeek_zeek__dnp3_dnp3-flowbuffer-overflow-assert.pcap": 13,
}

func TestCleanDNP3CapturesPassInline(t *testing.T) {
	for _, path := range dnp3Captures(t) {
		base := strings.TrimPrefix(filepath.Base(path), "ITI_ICS-Security-Tools__")
		if dirtyDNP3Captures[base] != 0 || notWholeDNP3Captures[base] {
			continue
		}
		t.Run(base, func(t *testing.T) {
			a := permitEveryDNP3(t, path, true)
			if a.Denied != 0 || a.Unjudged != 0 {
				t.Errorf("%d denied, %d segments held", a.Denied, a.Unjudged)
				logDenials(t, a)
			}
		})
	}
}

// notWholeDNP3Captures cannot be read from their first byte.
var notWholeDNP3Captures = map[string]bool{
	"dnp3_write_vto_empty_string.pcap": true, // begins in the middle of a frame
}

// tsharkFields are the fields in which both have to agree, list by list within a frame.
var tsharkFields = []string{
	"dnp3.al.func", "dnp3.al.seq", "dnp3.al.iin", "dnp3.al.obj", "dnp3.al.objq.prefix", "dnp3.al.objq.range",
	"dnp3.al.range.start", "dnp3.al.range.stop", "dnp3.al.range.quantity", "dnp3.al.index", "dnp3.al.on_time",
}

// TestDNP3AgreesWithTshark compares what a frame's messages say, in order.
func TestDNP3AgreesWithTshark(t *testing.T) {
	tshark := findTshark(t)
	paths := dnp3Captures(t)
	all := tsharkDNP3(t, tshark, paths)
	for i, path := range paths {
		base := strings.TrimPrefix(filepath.Base(path), "ITI_ICS-Security-Tools__")
		t.Run(base, func(t *testing.T) {
			theirs := all[i]
			ours := map[int][]Message{}
			if err := Dissect([]string{path}, func(m *Message) error {
				if m.Protocol == "dnp3" {
					ours[m.Frame] = append(ours[m.Frame], clone(t, m))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			compared := 0
			for number, row := range theirs {
				mine := ours[number]
				if hasMalformed(mine) || slices.ContainsFunc(mine, func(m Message) bool { return tsharkCannot(&m) }) || tsharkWraps[base][number] {
					continue
				}
				compareDNP3(t, number, mine, row)
				compared += len(mine)
			}
			for number, list := range ours {
				if theirs[number] == nil && !hasMalformed(list) {
					t.Errorf("frame %d: %s, of which tshark says nothing", number, list[0].Operation)
				}
			}
			t.Logf("%d messages compared", compared)
		})
	}
}

// tsharkCannot tells whether tshark 4.0 reads less of a message than there is; docs/dissectors.md has the
// list.
func tsharkCannot(m *Message) bool {
	fields, _ := m.Fields.(map[string]any)
	switch number0(fields["function"]) {
	case 22, 32, 131: // assign class and authentication: no objects
		return true
	}
	objects, _ := fields["objects"].([]any)
	for _, o := range objects {
		o := o.(map[string]any)
		group, variation := number0(o["group"]), number0(o["variation"])
		if group == 50 && variation == 4 || group == 51 && variation == 2 || group == 120 { // it stops there
			return true
		}
	}
	return false
}

// tsharkWraps are the frames in which a message ends whose transport sequence goes on from 63 with 0,
// which tshark 4.0 does not put together.
var tsharkWraps = map[string]map[int]bool{
	"cisagov_icsnpp-dnp3__testing_traces_dnp3_example.pcap": {18: true, 114: true, 210: true, 311: true, 810: true},
}

// tsharkDNP3 returns, for each capture, the fields of each frame in which tshark sees DNP3: those in which
// both have to agree, then the link addresses. tshark starts slowly, so it reads all captures as one.
func tsharkDNP3(t *testing.T, tshark string, paths []string) []map[int][]string {
	t.Helper()
	joined, first := joinCaptures(t, paths)
	args := []string{"-n", "-r", joined, "-Y", "dnp3", "-T", "fields", "-E", "occurrence=a", "-e", "frame.number"}
	for _, field := range append(tsharkFields, "dnp3.src", "dnp3.dst") {
		args = append(args, "-e", field)
	}
	out, err := exec.Command(tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := make([]map[int][]string, len(paths))
	for i := range all {
		all[i] = map[int][]string{}
	}
	for line := range strings.Lines(string(out)) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		number, err := strconv.Atoi(columns[0])
		if err != nil || len(columns) != len(tsharkFields)+3 {
			t.Fatalf("tshark says %q", line)
		}
		i := sort.SearchInts(first, number+1) - 1
		all[i][number-first[i]+1] = columns[1:]
	}
	return all
}

// joinCaptures writes one capture out of many, and returns in which frame each begins. Conversations of
// different captures stay apart: the upper halves of their addresses say which one they are from.
func joinCaptures(t *testing.T, paths []string) (joined string, first []int) {
	t.Helper()
	const rawIP = 101
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, rawIP, 0, 0, 0)
	number := 1
	for i, path := range paths {
		first = append(first, number)
		p := newPlayer()
		err := p.play(path, func(r *frame.Record, _ error) error {
			ip := slices.Clone(p.frame.IP)
			if len(ip) >= 20 && p.frame.IPVersion == 4 {
				ip[12], ip[13], ip[16], ip[17] = 10, byte(i), 10, byte(i)
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(r.Time.Unix()))
			b = binary.LittleEndian.AppendUint32(b, uint32(r.Time.Nanosecond()/1000))
			b = binary.LittleEndian.AppendUint32(b, uint32(len(ip)))
			b = binary.LittleEndian.AppendUint32(b, uint32(len(ip)))
			b = append(b, ip...)
			number++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	joined = filepath.Join(t.TempDir(), "joined.pcap")
	if err := os.WriteFile(joined, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return joined, first
}

// compareDNP3 compares a frame's messages with tshark's lists.
func compareDNP3(t *testing.T, number int, mine []Message, row []string) {
	t.Helper()
	lists := make([][]int64, len(tsharkFields))
	add := func(i int, values ...any) {
		for _, v := range values {
			lists[i] = append(lists[i], number0(v))
		}
	}
	for i := range mine {
		fields, _ := mine[i].Fields.(map[string]any)
		if !slices.Contains(numbers(row[len(row)-2]), number0(fields["link_source"])) ||
			!slices.Contains(numbers(row[len(row)-1]), number0(fields["link_destination"])) {
			t.Errorf("frame %d: link addresses %v to %v, tshark has %s to %s",
				number, fields["link_source"], fields["link_destination"], row[len(row)-2], row[len(row)-1])
		}
		for j, key := range []string{"function", "sequence", "iin"} {
			if v, ok := fields[key]; ok {
				add(j, v)
			}
		}
		objects, _ := fields["objects"].([]any)
		for _, o := range objects {
			o := o.(map[string]any)
			qualifier := number0(o["qualifier"])
			add(3, float64(number0(o["group"])<<8|number0(o["variation"])))
			add(4, float64(qualifier>>4&7))
			add(5, float64(qualifier&15))
			if v, ok := o["start"]; ok {
				add(6, v)
				add(7, o["stop"])
			} else if qualifier&15 != 6 {
				add(8, o["count"])
			}
			if points, ok := o["points"].([]any); ok && qualifier>>4 != 0 {
				add(9, points...)
			}
			if times, ok := o["on_times"].([]any); ok {
				add(10, times...)
			}
		}
	}
	for i, field := range tsharkFields {
		if want := numbers(row[i]); !slices.Equal(lists[i], want) {
			t.Errorf("frame %d: %s is %v, tshark has %v", number, field, lists[i], want)
		}
	}
}

// numbers reads tshark's list.
func numbers(list string) []int64 {
	var out []int64
	for text := range strings.SplitSeq(list, ",") {
		if text != "" {
			out = append(out, number0(text))
		}
	}
	return out
}

// dnp3Streams returns what masters and outstations sent on each connection of a capture, in order.
func dnp3Streams(t *testing.T, path string) map[bool][][]byte {
	t.Helper()
	p := newPlayer()
	streams := map[name]*[2][]byte{}
	next := map[name]*[2]uint32{}
	err := p.play(path, func(r *frame.Record, err error) error {
		f := &p.frame
		if err != nil || !f.IsTCP || f.Fragment || f.SrcPort != dnp3Port && f.DstPort != dnp3Port {
			return nil
		}
		n, _ := nameOf(f)
		if streams[n] == nil {
			streams[n], next[n] = &[2][]byte{}, &[2]uint32{}
		}
		d := 0
		if f.SrcPort == dnp3Port {
			d = 1
		}
		if len(f.Payload) > 0 && (next[n][d] == 0 || next[n][d] == f.TCP.Seq) { // repetitions and gaps are left out
			streams[n][d] = append(streams[n][d], f.Payload...)
			next[n][d] = f.TCP.Seq + uint32(len(f.Payload))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[bool][][]byte{}
	for _, s := range streams {
		out[false], out[true] = append(out[false], s[0]), append(out[true], s[1])
	}
	return out
}

// readDNP3 reads pieces as a stream: frames, messages out of them, and what each says. It ends where the
// stream is malformed.
func readDNP3(response bool, pieces ...[]byte) (messages []string) {
	var pending []byte
	assemblies, parts := map[[2]uint16]*dnp3.Assembly{}, map[[2]uint16][]byte{}
	for _, piece := range pieces {
		pending = append(pending, piece...)
		for {
			var f dnp3.Frame
			var m dnp3.Message
			n, err := dnp3.ParseFrame(pending, &f)
			if errors.Is(err, dnp3.ErrNeedMore) {
				break
			}
			if err != nil {
				return append(messages, err.Error())
			}
			pending = pending[n:]
			if !f.CarriesData() {
				messages = append(messages, f.Operation())
				continue
			}
			pair, data := [2]uint16{f.Source, f.Destination}, f.AppendData(nil)
			if assemblies[pair] == nil {
				assemblies[pair] = &dnp3.Assembly{}
			}
			header := dnp3.TransportHeader(data[0])
			if err := assemblies[pair].Check(header); err != nil {
				return append(messages, err.Error())
			}
			assemblies[pair].Accept(header)
			parts[pair] = append(parts[pair], data[1:]...)
			if !header.Final() {
				continue
			}
			if err := dnp3.ParseMessage(parts[pair], true, response, &m); err != nil {
				return append(messages, err.Error())
			}
			text, _ := json.Marshal(f.Fields(&m))
			messages, parts[pair] = append(messages, string(text)), nil
		}
	}
	return messages
}

// TestDNP3CapturesInPieces: every prefix of every frame needs more, every prefix of every message too, and
// streams in two pieces hold the same messages wherever they are cut.
func TestDNP3CapturesInPieces(t *testing.T) {
	frames, cuts := 0, 0
	for _, path := range dnp3Captures(t) {
		for response, streams := range dnp3Streams(t, path) {
			for _, b := range streams {
				whole := readDNP3(response, b)
				for i := range 24 {
					cut := i * len(b) / 24
					if got := readDNP3(response, b[:cut], b[cut:]); !slices.Equal(got, whole) {
						t.Fatalf("%s, cut at %d of %d: %d messages, want %d", path, cut, len(b), len(got), len(whole))
					}
					cuts++
				}
				if len(b) < 600 {
					for cut := range b {
						if got := readDNP3(response, b[:cut], b[cut:]); !slices.Equal(got, whole) {
							t.Fatalf("%s, cut at %d: %d messages, want %d", path, cut, len(got), len(whole))
						}
						cuts++
					}
				}
				for len(b) > 0 {
					var f dnp3.Frame
					n, err := dnp3.ParseFrame(b, &f)
					if err != nil {
						break
					}
					prefixes(t, path, b[:n], response)
					b = b[n:]
					frames++
				}
			}
		}
	}
	t.Logf("%d frames, %d cuts", frames, cuts)
}

// prefixes reads every prefix of a frame, and of the message if there is a whole one in it.
func prefixes(t *testing.T, path string, b []byte, response bool) {
	t.Helper()
	var f dnp3.Frame
	var m dnp3.Message
	for n := range b {
		if _, err := dnp3.ParseFrame(b[:n], &f); !errors.Is(err, dnp3.ErrNeedMore) {
			t.Fatalf("%s: first %d bytes of % x: %v", path, n, b, err)
		}
	}
	_, _ = dnp3.ParseFrame(b, &f)
	data := f.AppendData(nil)
	if !f.CarriesData() || !dnp3.TransportHeader(data[0]).First() || !dnp3.TransportHeader(data[0]).Final() ||
		dnp3.ParseMessage(data[1:], true, response, &m) != nil {
		return
	}
	for n := range data {
		if err := dnp3.ParseMessage(data[1:1+n], false, response, &m); !errors.Is(err, dnp3.ErrNeedMore) {
			t.Fatalf("%s: first %d bytes of % x: %v", path, n, data[1:], err)
		}
	}
}
