package dnp3_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

// golden is a lawful application message and what has to be read from it. The bytes are written with
// spaces between fields; a dot and a number repeat the byte before it.
type golden struct {
	name, wire, operation, objects string
}

// message turns the notation of golden into bytes.
func message(t testing.TB, wire string) []byte {
	t.Helper()
	var b []byte
	for field := range strings.FieldsSeq(wire) {
		text, times, repeated := strings.Cut(field, ".")
		part, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("read %q: %v", field, err)
		}
		n := 1
		if repeated {
			if err := json.Unmarshal([]byte(times), &n); err != nil {
				t.Fatalf("read %q: %v", field, err)
			}
		}
		for range n {
			b = append(b, part...)
		}
	}
	return b
}

var goldenRequests = []golden{
	{"confirm", "c1 00", "confirm", `null`},
	{"confirm an unsolicited response", "d1 00", "confirm", `null`},
	{"read classes", "c0 01 3c0206 3c0306 3c0406 3c0106", "read",
		`[{"group":60,"variation":2,"qualifier":6,"count":0},{"group":60,"variation":3,"qualifier":6,"count":0},` +
			`{"group":60,"variation":4,"qualifier":6,"count":0},{"group":60,"variation":1,"qualifier":6,"count":0}]`},
	{"read a range", "c1 01 1e00 00 02 05", "read", `[{"group":30,"variation":0,"qualifier":0,"count":4,"start":2,"stop":5,"points":[2,3,4,5]}]`},
	{"read a range of two bytes", "c1 01 0100 01 0000 ffff", "read", `[{"group":1,"variation":0,"qualifier":1,"count":65536,"start":0,"stop":65535}]`},
	{"read a range of four bytes", "c1 01 1401 02 00000000 00000000", "read",
		`[{"group":20,"variation":1,"qualifier":2,"count":1,"start":0,"stop":0,"points":[0]}]`},
	{"read a count", "c1 01 0200 07 05 2000 08 0001 2a00 09 00000100", "read",
		`[{"group":2,"variation":0,"qualifier":7,"count":5},{"group":32,"variation":0,"qualifier":8,"count":256},` +
			`{"group":42,"variation":0,"qualifier":9,"count":65536}]`},
	{"read indices", "c1 01 0102 17 02 07 09 1e01 28 0100 3412 0a02 39 01000000 01000100", "read",
		`[{"group":1,"variation":2,"qualifier":23,"count":2,"points":[7,9]},{"group":30,"variation":1,"qualifier":40,"count":1,"points":[4660]},` +
			`{"group":10,"variation":2,"qualifier":57,"count":1,"points":[65537]}]`},
	{"read virtual addresses", "c1 01 0101 03 01 02", "read", `[{"group":1,"variation":1,"qualifier":3,"count":0}]`},
	{"read all attributes", "c1 01 00fe 00 00 00", "read", `[{"group":0,"variation":254,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0]}]`},
	{"read a file", "c1 01 4605 5b 01 0800 78563412 01000000", "read", `[{"group":70,"variation":5,"qualifier":91,"count":1}]`},
	{"clear the restart bit", "c1 02 5001 00 07 07 00", "write", `[{"group":80,"variation":1,"qualifier":0,"count":1,"start":7,"stop":7,"points":[7]}]`},
	{"write the time", "c1 02 3201 07 01 010203040506", "write", `[{"group":50,"variation":1,"qualifier":7,"count":1}]`},
	{"write a deadband", "c1 02 2202 17 01 03 e8030000", "write", `[{"group":34,"variation":2,"qualifier":23,"count":1,"points":[3],"values":[1000]}]`},
	{"write a string", "c1 02 6e05 17 01 02 68656c6c6f", "write", `[{"group":110,"variation":5,"qualifier":23,"count":1,"points":[2]}]`},
	{"write an attribute", "c1 02 00f7 00 00 00 01 03 616263", "write",
		`[{"group":0,"variation":247,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0],"attribute":"abc"}]`},
	{"select", "c3 03 0c01 28 0100 0a00 03 01 64000000 00000000 00", "select",
		`[{"group":12,"variation":1,"qualifier":40,"count":1,"points":[10],"control_codes":[3],"counts":[1],"on_times":[100],"off_times":[0]}]`},
	{"operate two", "c4 04 0c01 17 02 01 41 01 64000000 c8000000 00 02 81 02 00000000 00000000 00", "operate",
		`[{"group":12,"variation":1,"qualifier":23,"count":2,"points":[1,2],"control_codes":[65,129],"counts":[1,2],"on_times":[100,0],"off_times":[200,0]}]`},
	{"direct operate, ranged", "c5 05 0c01 00 03 03 04 01 00000000 00000000 00", "direct_operate",
		`[{"group":12,"variation":1,"qualifier":0,"count":1,"start":3,"stop":3,"points":[3],"control_codes":[4],"counts":[1],"on_times":[0],"off_times":[0]}]`},
	{"direct operate, analog outputs", "c5 05 2901 17 01 00 ffffffff 00 2902 17 01 01 0080 00 2903 17 01 02 0000c03f 00 2904 17 01 03 000000000000f8bf 00",
		"direct_operate",
		`[{"group":41,"variation":1,"qualifier":23,"count":1,"points":[0],"values":[-1]},{"group":41,"variation":2,"qualifier":23,"count":1,"points":[1],"values":[-32768]},` +
			`{"group":41,"variation":3,"qualifier":23,"count":1,"points":[2],"values":[1.5]},{"group":41,"variation":4,"qualifier":23,"count":1,"points":[3],"values":[-1.5]}]`},
	{"direct operate, no reply, pattern", "c5 06 0c02 07 01 03 01 64000000 00000000 00 0c03 00 08 0f a5", "direct_operate_nr",
		`[{"group":12,"variation":2,"qualifier":7,"count":1,"control_codes":[3],"counts":[1],"on_times":[100],"off_times":[0]},` +
			`{"group":12,"variation":3,"qualifier":0,"count":8,"start":8,"stop":15,"points":[8,9,10,11,12,13,14,15]}]`},
	{"freeze", "c1 07 1400 06", "immed_freeze", `[{"group":20,"variation":0,"qualifier":6,"count":0}]`},
	{"freeze at a time", "c1 0b 3202 07 01 010203040506 10270000 1400 06", "freeze_at_time",
		`[{"group":50,"variation":2,"qualifier":7,"count":1},{"group":20,"variation":0,"qualifier":6,"count":0}]`},
	{"cold restart", "c1 0d", "cold_restart", `null`},
	{"stop an application", "c1 12 5a01 5b 01 0300 61 7070", "stop_appl", `[{"group":90,"variation":1,"qualifier":91,"count":1}]`},
	{"enable unsolicited", "c1 14 3c0206", "enable_unsolicited", `[{"group":60,"variation":2,"qualifier":6,"count":0}]`},
	{"assign a class", "c1 16 3c0206 0100 00 00 03", "assign_class",
		`[{"group":60,"variation":2,"qualifier":6,"count":0},{"group":1,"variation":0,"qualifier":0,"count":4,"start":0,"stop":3,"points":[0,1,2,3]}]`},
	{"open a file", "c1 19 4603 5b 01 2200 1a00 0800 010203040506 ff01 00000000 00000000 0200 0004 0100 2f612f622e637376", "open_file",
		`[{"group":70,"variation":3,"qualifier":91,"count":1,"file":"/a/b.csv","file_mode":2}]`},
	{"information of a file", "c1 1c 4607 5b 01 1600 1400 0200 0000 00000000 000000000000 0000 0100 2f61", "get_file_info",
		`[{"group":70,"variation":7,"qualifier":91,"count":1,"file":"/a"}]`},
	{"authenticate for a file", "c1 1d 4602 5b 01 0e00 0c00 0100 0d00 0100 00000000 75 70", "authenticate_file",
		`[{"group":70,"variation":2,"qualifier":91,"count":1}]`},
	{"close a file", "c1 1a 4604 5b 01 0d00 78563412 00000000 0000 0100 00", "close_file", `[{"group":70,"variation":4,"qualifier":91,"count":1}]`},
	{"authenticate", "c1 20 7802 5b 01 0600 010000000100", "authenticate_req", `[{"group":120,"variation":2,"qualifier":91,"count":1}]`},
	{"aggressive mode", "c1 05 7803 07 01 010000000100 0c01 17 01 05 03 01 00000000 00000000 00 7809 5b 01 0400 aabbccdd", "direct_operate",
		`[{"group":120,"variation":3,"qualifier":7,"count":1},` +
			`{"group":12,"variation":1,"qualifier":23,"count":1,"points":[5],"control_codes":[3],"counts":[1],"on_times":[0],"off_times":[0]},` +
			`{"group":120,"variation":9,"qualifier":91,"count":1}]`},
	{"a function that nobody defines", "c1 70 010203", "unknown(0x70)", `null`},
}

var goldenResponses = []golden{
	{"null", "c0 81 9000", "response", `null`},
	{"unsolicited null", "f0 82 8000", "unsolicited_response", `null`},
	{"binaries", "c0 81 0000 0101 00 00 09 ff03 0102 00 00 01 81 01", "response",
		`[{"group":1,"variation":1,"qualifier":0,"count":10,"start":0,"stop":9,"points":[0,1,2,3,4,5,6,7,8,9]},` +
			`{"group":1,"variation":2,"qualifier":0,"count":2,"start":0,"stop":1,"points":[0,1]}]`},
	{"double bits", "c0 81 0000 0301 00 00 04 e401", "response",
		`[{"group":3,"variation":1,"qualifier":0,"count":5,"start":0,"stop":4,"points":[0,1,2,3,4]}]`},
	{"events", "e1 81 0200 3301 07 01 010203040506 0203 28 0200 0100 81 0a00 0200 01 1400", "response",
		`[{"group":51,"variation":1,"qualifier":7,"count":1},{"group":2,"variation":3,"qualifier":40,"count":2,"points":[1,2]}]`},
	{"analogs", "c0 81 0000 1e01 00 00 00 01 64000000 1e06 00 01 01 01 000000000000f03f", "response",
		`[{"group":30,"variation":1,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0]},` +
			`{"group":30,"variation":6,"qualifier":0,"count":1,"start":1,"stop":1,"points":[1]}]`},
	{"counters", "c0 81 0000 1401 00 00 00 01 64000000 1505 00 00 00 01 01000000 010203040506 1606 17 01 03 01 0100 010203040506", "response",
		`[{"group":20,"variation":1,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0]},` +
			`{"group":21,"variation":5,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0]},` +
			`{"group":22,"variation":6,"qualifier":23,"count":1,"points":[3]}]`},
	{"attributes", "c0 81 0000 00f2 00 00 00 01 04 312e3031 00fa 00 00 00 01 02 5858", "response",
		`[{"group":0,"variation":242,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0],"attribute":"1.01"},` +
			`{"group":0,"variation":250,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0],"attribute":"XX"}]`},
	{"strings", "c0 81 0000 6e03 00 00 01 616263 646566 7000 17 00", "response",
		`[{"group":110,"variation":3,"qualifier":0,"count":2,"start":0,"stop":1,"points":[0,1]},{"group":112,"variation":0,"qualifier":23,"count":0}]`},
	{"a private object with its size", "c0 81 0000 fe01 5b 01 0200 0102", "response", `[{"group":254,"variation":1,"qualifier":91,"count":1}]`},
	{"a challenge", "c0 83 0000 7801 5b 01 0400 01020304", "authenticate_resp", `[{"group":120,"variation":1,"qualifier":91,"count":1}]`},
	{"first of several fragments", "a7 81 0000 0102 00 00 00 81", "response",
		`[{"group":1,"variation":2,"qualifier":0,"count":1,"start":0,"stop":0,"points":[0]}]`},
}

func TestGolden(t *testing.T) {
	for _, set := range []struct {
		response bool
		golden   []golden
	}{{false, goldenRequests}, {true, goldenResponses}} {
		for _, g := range set.golden {
			t.Run(g.name, func(t *testing.T) {
				var m dnp3.Message
				b := message(t, g.wire)
				if err := dnp3.ParseMessage(b, true, set.response, &m); err != nil {
					t.Fatal(err)
				}
				if m.Operation() != g.operation || m.Sequence != b[0]&15 || m.Seen != len(b) {
					t.Errorf("%s, sequence %d, %d bytes", m.Operation(), m.Sequence, m.Seen)
				}
				var f dnp3.Frame
				got, err := json.Marshal(f.Fields(&m).Objects)
				if err != nil || string(got) != g.objects {
					t.Errorf("objects\n%s, want\n%s", got, g.objects)
				}
			})
		}
	}
}

// badMessages are refused for the reason given, whole; early says after how many bytes at the latest.
var badMessages = []struct {
	name, wire string
	response   bool
	want       string
	early      int
}{
	{"nothing", "", false, "ends within its header", 0},
	{"half a header", "c1", false, "ends within its header", 1},
	{"half a response's header", "c1 81 00", true, "ends within its header", 3},
	{"not the first fragment", "41 01", false, "several fragments", 1},
	{"not the last fragment", "81 01", false, "several fragments", 1},
	{"confirmation of a request", "e1 01 3c0206", false, "asks for a confirmation", 1},
	{"an unsolicited request", "d1 01 3c0206", false, "asks for a confirmation", 2},
	{"a response in a request", "c1 81", false, "response in a request", 2},
	{"a request in a response", "c1 01 0000", true, "request in a response", 2},
	{"unsolicited without the mark", "c1 82 0000", true, "disagree", 2},
	{"the mark on a response", "d1 81 0000", true, "disagree", 2},
	{"objects where there are none", "c1 0d 3c0206", false, "has none", 3},
	{"header cut", "c1 01 3c02", false, "within an object header", 4},
	{"range cut", "c1 01 1e00 01 0000 ff", false, "within an object header", 8},
	{"object cut", "c1 02 3201 07 01 0102030405", false, "within an object", 11},
	{"range backwards", "c1 01 1e00 00 05 02", false, "behind its stop", 7},
	{"reserved bit", "c1 01 1e00 86", false, "qualifier is reserved", 5},
	{"reserved range", "c1 01 1e00 0a 00", false, "qualifier is reserved", 5},
	{"reserved prefix", "c1 01 1e00 77 00", false, "qualifier is reserved", 5},
	{"index before a range", "c1 01 1e00 10 0000", false, "qualifier is reserved", 5},
	{"size before a count", "c1 01 1e00 47 00", false, "qualifier is reserved", 5},
	{"variable without size", "c1 01 1e00 0b 00", false, "qualifier is reserved", 5},
	{"virtual addresses with contents", "c1 02 3201 03 00 00 00.6", false, "qualifier is reserved", 5},
	{"packed bits with indices", "c1 02 5001 17 01 07 00", false, "qualifier is reserved", 5},
	{"count bomb", "c1 02 3201 09 ffffffff", false, "longest message", 9},
	{"count bomb in a response", "c1 81 0000 1e01 09 ffffffff", true, "longest message", 11},
	{"range bomb", "c1 81 0000 0101 02 00000000 ffffffff", true, "longest message", 15},
	{"size bomb", "c1 81 0000 fe01 6b 01 ffffffff", true, "longest message", 12},
	{"an unknown object", "c1 81 0000 c801 00 00 00 00", true, "size is not known", 7},
	{"any variation with contents", "c1 81 0000 1e00 00 00 00 00", true, "size is not known", 7},
	{"a sized object of another size", "c1 81 0000 3201 5b 01 0500 00.5", true, "size of its variation", 10},
	{"not a control", "c1 05 0102 17 01 00 00", false, "none that controls", 3},
	{"an unknown control", "c1 05 0c04 17 01 00", false, "none that controls", 4},
	{"a control without index", "c1 05 0c01 07 01 00.11", false, "without an index", 5},
	{"a control for all", "c1 05 0c01 06", false, "without an index", 5},
	{"a mask alone", "c1 05 0c03 00 00 07 00", false, "come together", 4},
	{"a block alone", "c1 05 0c02 07 01 00.11", false, "come together", 18},
	{"two blocks", "c1 05 0c02 07 02 00.22 0c03 00 00 07 00", false, "come together", 6},
	{"a block, then a control", "c1 05 0c02 07 01 00.11 0c01 17 01 00.12", false, "come together", 19},
	{"authentication behind a request", "c1 05 0c01 17 01 00.12 7809 5b 01 0000", false, "enclose", 20},
	{"authentication without its end", "c1 05 7803 07 01 00.6 0c01 17 01 00.12", false, "enclose", 28},
	{"objects behind authentication", "c1 01 7803 07 01 00.6 7809 5b 01 0000 3c0206", false, "enclose", 20},
	{"a control under authentication", "c1 20 0c01 17 01 00.12", false, "none of authentication", 3},
	{"a control under a file function", "c1 19 0c01 17 01 00.12", false, "none of a file", 3},
	{"a file's name elsewhere", "c1 19 4603 5b 01 1c00 1b00 0100 00.22 6161", false, "contradict", 36},
	{"a file's name longer", "c1 19 4603 5b 01 1b00 1a00 0200 00.22 61", false, "contradict", 35},
	{"a file object cut", "c1 19 4603 5b 01 0500 00.5", false, "contradict", 13},
	{"2049 bytes", "c1 02 6eff 07 08 00.2043", false, "longer than", 2049},
}

func TestMalformedMessages(t *testing.T) {
	for _, row := range badMessages {
		t.Run(row.name, func(t *testing.T) {
			var m dnp3.Message
			b := message(t, row.wire)
			err := dnp3.ParseMessage(b, true, row.response, &m)
			if !malformed(err) || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("%v, want ... %s ...", err, row.want)
			}
			if row.early < len(b) {
				if err := dnp3.ParseMessage(b[:row.early], false, row.response, &m); !malformed(err) {
					t.Errorf("the first %d bytes: %v", row.early, err)
				}
			}
		})
	}
}

func TestFrames(t *testing.T) {
	for _, row := range []struct {
		name      string
		control   byte
		data      int
		operation string
		want      string // of the error; empty if the frame is lawful
	}{
		{"reset", 0xc0, 0, "reset_link_states", ""},
		{"test", 0xf2, 0, "test_link_states", ""},
		{"confirmed data", 0xd3, 2, "confirmed_user_data", ""},
		{"data", 0xc4, 250, "unconfirmed_user_data", ""},
		{"data, a block and a byte", 0x44, 17, "unconfirmed_user_data", ""},
		{"keep-alive", 0xc9, 0, "request_link_status", ""},
		{"ack", 0x00, 0, "ack", ""},
		{"nack, flow control", 0x91, 0, "nack", ""},
		{"status", 0x0b, 0, "link_status", ""},
		{"not supported", 0x8f, 0, "not_supported", ""},
		{"data without any", 0xc4, 0, "", "length"},
		{"reset with data", 0xc0, 1, "", "length"},
		{"ack with data", 0x00, 1, "", "length"},
		{"reset of a user process", 0xc1, 0, "", "reserved"},
		{"reserved primary", 0xc5, 2, "", "reserved"},
		{"reserved secondary", 0x02, 0, "", "reserved"},
		{"data counted", 0xd4, 2, "", "frame count"},
		{"confirmed data not counted", 0xc3, 2, "", "frame count"},
	} {
		t.Run(row.name, func(t *testing.T) {
			data := make([]byte, row.data)
			for i := range data {
				data[i] = byte(i)
			}
			b := dnp3.AppendFrame(nil, row.control, 10, 1, data)
			var f dnp3.Frame
			n, err := dnp3.ParseFrame(append(b, 0x05), &f)
			if row.want != "" {
				if !malformed(err) || !strings.Contains(err.Error(), row.want) || n != 0 {
					t.Fatalf("%d, %v, want ... %s ...", n, err, row.want)
				}
				return
			}
			if err != nil || n != len(b) || f.Operation() != row.operation || f.Destination != 10 || f.Source != 1 || !f.Complete() {
				t.Fatalf("%d, %v, %+v", n, err, f)
			}
			if got := f.AppendData(nil); string(got) != string(data) {
				t.Errorf("data % x, want % x", got, data)
			}
			if dnp3.ClaimedSize(b) != len(b) || f.Size() != len(b) {
				t.Errorf("claims %d bytes of %d", dnp3.ClaimedSize(b), len(b))
			}
		})
	}
}

func TestMalformedFrames(t *testing.T) {
	data := make([]byte, 20)
	good := dnp3.AppendFrame(nil, 0xc4, 10, 1, data)
	address := func(destination, source uint16, control byte) []byte {
		return dnp3.AppendFrame(nil, control, destination, source, data)
	}
	changed := func(at int) []byte {
		b := append([]byte(nil), good...)
		b[at] ^= 0x40
		return b
	}
	for _, row := range []struct {
		name  string
		wire  []byte
		early int
		want  string
	}{
		{"first byte", changed(0), 1, "0x0564"},
		{"second byte", changed(1), 2, "0x0564"},
		{"length of 4", append([]byte{5, 0x64, 4}, good[3:]...), 3, "less than 5"},
		{"header CRC", changed(8), 9, "link header"},
		{"header CRC's second byte", changed(9), 10, "link header"},
		{"first block", changed(10), 27, "data block"},
		{"first block's CRC", changed(26), 27, "data block"},
		{"last block", changed(28), 33, "data block"},
		{"last block's CRC", changed(33), 34, "data block"},
		{"to a reserved address", address(0xfff0, 1, 0xc4), 6, "reserved"},
		{"to the last reserved", address(0xfffb, 1, 0xc4), 6, "reserved"},
		{"from a reserved address", address(10, 0xfff0, 0xc4), 8, "no station"},
		{"from the self address", address(10, 0xfffc, 0xc4), 8, "no station"},
		{"from broadcast", address(10, 0xffff, 0xc4), 8, "no station"},
		{"an outstation to all", address(0xffff, 10, 0x44), 6, "reserved"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var f dnp3.Frame
			for _, n := range []int{row.early, len(row.wire)} {
				if _, err := dnp3.ParseFrame(row.wire[:n], &f); !malformed(err) || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%d bytes: %v, want ... %s ...", n, err, row.want)
				}
			}
		})
	}
	for _, destination := range []uint16{0xfffc, 0xfffd, 0xffff, 0xffef} {
		var f dnp3.Frame
		if _, err := dnp3.ParseFrame(address(destination, 1, 0xc4), &f); err != nil {
			t.Errorf("to %#x: %v", destination, err)
		}
	}
}

// A reset of station 1 by station 1024, as implementers publish it.
func TestPublishedFrame(t *testing.T) {
	want := message(t, "0564 05c0 0100 0004 e921")
	if got := dnp3.AppendFrame(nil, 0xc0, 1, 1024, nil); string(got) != string(want) {
		t.Errorf("% x, want % x", got, want)
	}
}

func TestAssembly(t *testing.T) {
	const first, final = 0x40, 0x80
	for _, row := range []struct {
		name    string
		headers []dnp3.TransportHeader
		want    string // of the last
	}{
		{"one segment", []dnp3.TransportHeader{first | final | 9}, ""},
		{"three", []dnp3.TransportHeader{first | 9, 10, final | 11}, ""},
		{"sequence wraps", []dnp3.TransportHeader{first | 63, final}, ""},
		{"any first", []dnp3.TransportHeader{first | final | 9, first | final | 2}, ""},
		{"orphan", []dnp3.TransportHeader{final | 9}, "without a first"},
		{"orphan behind a message", []dnp3.TransportHeader{first | final | 9, final | 10}, "without a first"},
		{"first within", []dnp3.TransportHeader{first | 9, first | 10}, "within a message"},
		{"repeated", []dnp3.TransportHeader{first | 9, 10, 10}, "not the next"},
		{"skipped", []dnp3.TransportHeader{first | 9, 11}, "not the next"},
		{"final repeated", []dnp3.TransportHeader{first | 9, final | 9}, "not the next"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var a dnp3.Assembly
			for i, h := range row.headers {
				err := a.Check(h)
				if i < len(row.headers)-1 || row.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					a.Accept(h)
					continue
				}
				if !malformed(err) || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v, want ... %s ...", err, row.want)
				}
			}
		})
	}
}
