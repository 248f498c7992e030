package replay

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// sharedCaptures is where captures of real traffic lie beside a checkout.
const sharedCaptures = "../../../../shared/captures"

// modbusCaptures returns the captures that hold Modbus/TCP, or skips.
func modbusCaptures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(sharedCaptures + "/modbus/*.pcap*")
	if err != nil || len(files) == 0 {
		t.Skipf("no captures: %s is absent", sharedCaptures)
	}
	return append(files, sharedCaptures+"/peers/modbus-matrix.pcap")
}

// permitEverything assesses under a policy that permits every Modbus message.
func permitEverything(t *testing.T, path string, inline bool) *Assessment {
	t.Helper()
	a := newAssessor(anything())
	a.player.inline = inline
	a.decide = func(h *policy.Header) policy.Decision {
		if h.Protocol == 6 && h.DstPort >= modbusPort && h.DstPort <= 505 { // the peers' servers
			return policy.Decision{Verdict: verdict.Verdict{Action: verdict.Inspect, Reason: verdict.ReasonPermitted}, Conduit: 1}
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

// dirtyCaptures lists the captures that a policy that permits everything does not pass whole:
// how many denials there may be, and why each is right.
var dirtyCaptures = map[string]uint64{
	// A tester's tool that sends whatever it is told to: lengths that are not the function's
	// (frames 32, 34), a header length of 136 (76); what follows is out of step.
	"digitalbond_Quickdraw-Snort__modbus_test_data_part1.pcap": 3,
	// The same tool trying functions 0 to 127 with four zero bytes each, which a read of
	// quantity 0 and a write of another length are not.
	"digitalbond_Quickdraw-Snort__modbus_test_data_part2.pcap": 17,
	// A programming tool's function 90 with a header length over 254 (frames 19, 20): longer than
	// Modbus/TCP allows (TCP 4.3.2), though its controller takes it.
	"digitalbond_Quickdraw-Snort__modicon_test.pcap": 2,
	// Fuzzed: an IP header whose lengths contradict each other (frame 2).
	"zeek_zeek__modbus_fuzz-1011.pcap": 1,
	// Another protocol on port 502.
	"zeek_zeek__modbus_modbus-and-non-modbus-p502.pcap": 11,
}

func TestCleanCapturesHaveNoFalseDenial(t *testing.T) {
	for _, path := range modbusCaptures(t) {
		base := filepath.Base(path)
		t.Run(base, func(t *testing.T) {
			a := permitEverything(t, path, false)
			t.Logf("%d messages, %d unjudged segments", a.Messages, a.Unjudged)
			if a.Denied != dirtyCaptures[base] {
				t.Errorf("%d denied, want %d", a.Denied, dirtyCaptures[base])
				logDenials(t, a)
			}
			if a.Messages != a.Allowed+a.Denied {
				t.Errorf("%d messages, %d allowed, %d denied", a.Messages, a.Allowed, a.Denied)
			}
		})
	}
}

func logDenials(t *testing.T, a *Assessment) {
	for _, d := range a.Denials {
		t.Logf("%d %v %s %q at frame %d", d.Count, d.Reason, d.Operation, d.Detail, d.First.Frame)
	}
}

// notWholeCaptures cannot be read from their first byte to their last: fuzzed sequence numbers, and
// two captures of single exchanges that begin with a message that is none.
var notWholeCaptures = map[string]bool{
	"zeek_zeek__modbus_fuzz-72.pcap":                     true,
	"zeek_zeek__modbus_4SICS-GeekLounge-151022-min.pcap": true, // function 23 with a length of 254
	"zeek_zeek__modbus_modbus-eit.pcap":                  true, // device identification without its objects
}

// Inline, nothing may be held that a receiver took: each packet of a clean capture passes.
func TestCleanCapturesPassInline(t *testing.T) {
	for _, path := range modbusCaptures(t) {
		base := filepath.Base(path)
		if dirtyCaptures[base] != 0 || notWholeCaptures[base] {
			continue
		}
		t.Run(base, func(t *testing.T) {
			a := permitEverything(t, path, true)
			if a.Denied != 0 || a.Unjudged != 0 {
				t.Errorf("%d denied, %d segments held", a.Denied, a.Unjudged)
				logDenials(t, a)
			}
		})
	}
}

// onlyTheirs lists in how many frames of a capture tshark shows messages where there are none for us;
// docs/dissectors.md says why.
var onlyTheirs = map[string]int{
	"digitalbond_Quickdraw-Snort__modbus_test_data_part1.pcap": 13,
	"digitalbond_Quickdraw-Snort__modbus_test_data_part2.pcap": 17,
	"digitalbond_Quickdraw-Snort__modicon_test.pcap":           2,
	"zeek_zeek__modbus_4SICS-GeekLounge-151022-min.pcap":       1,
	"zeek_zeek__modbus_fuzz-1011.pcap":                         1,
	"zeek_zeek__modbus_modbus-eit.pcap":                        1,
}

// TestDissectAgreesWithTshark compares message by message what both read. tshark prints one value
// a message for each field, so that messages of a frame are compared in order.
func TestDissectAgreesWithTshark(t *testing.T) {
	tshark := findTshark(t)
	for _, path := range modbusCaptures(t) {
		if strings.Contains(path, "fuzz-72") {
			continue // its sequence numbers are fuzzed, and everybody orders it in another way
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			theirs := readTshark(t, tshark, path)
			ours := map[int][]Message{}
			if err := Dissect([]string{path}, func(m *Message) error {
				ours[m.Frame] = append(ours[m.Frame], clone(t, m))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			compared, extra, skipped := 0, 0, 0
			for number, list := range theirs {
				mine := ours[number]
				if hasMalformed(mine) {
					skipped++ // tshark shows what it can of bytes that are no message
					continue
				}
				if len(mine) != len(list) {
					t.Errorf("frame %d: %d messages, tshark has %d", number, len(mine), len(list))
					continue
				}
				for i := range list {
					compareMessage(t, number, &mine[i], list[i])
					compared++
				}
			}
			if want := onlyTheirs[filepath.Base(path)]; skipped != want {
				t.Errorf("%d frames are messages to tshark alone, want %d", skipped, want)
			}
			for number, list := range ours {
				if len(theirs[number]) == 0 && !hasMalformed(list) {
					extra += len(list)
					t.Errorf("frame %d: %s, of which tshark says nothing", number, list[0].Operation)
				}
			}
			t.Logf("%d messages compared, %d that tshark does not show, %d frames that only tshark takes for messages", compared, extra, skipped)
		})
	}
}

// findTshark returns where tshark is, or skips.
func findTshark(t *testing.T) string {
	t.Helper()
	tshark, err := exec.LookPath("tshark")
	if err != nil && os.Getenv("PENSTOCK_REQUIRE_NET") == "1" {
		t.Fatal("tshark is not installed")
	}
	if err != nil {
		t.Skip("tshark is not installed")
	}
	if testing.Short() {
		t.Skip("tshark takes ten seconds to read the captures, and -short is set")
	}
	return tshark
}

func clone(t *testing.T, m *Message) Message {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var c Message
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func hasMalformed(list []Message) bool {
	for _, m := range list {
		if m.Malformed != "" {
			return true
		}
	}
	return false
}

// decodeAs has tshark read Modbus on the peers' other ports, too.
func decodeAs() (args []string) {
	for port := modbusPort + 1; port <= 505; port++ {
		args = append(args, "-d", fmt.Sprintf("tcp.port==%d,mbtcp", port))
	}
	return args
}

// readTshark returns tshark's messages by frame.
func readTshark(t *testing.T, tshark, path string) map[int][]map[string]string {
	t.Helper()
	out, err := exec.Command(tshark, append(decodeAs(), "-r", path, "-Y", "modbus", "-T", "json", "--no-duplicate-keys")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var frames []struct {
		Source struct {
			Layers map[string]json.RawMessage `json:"layers"`
		} `json:"_source"`
	}
	if err := json.Unmarshal(out, &frames); err != nil {
		t.Fatal(err)
	}
	all := map[int][]map[string]string{}
	for _, f := range frames {
		var meta map[string]any
		if err := json.Unmarshal(f.Source.Layers["frame"], &meta); err != nil {
			t.Fatal(err)
		}
		number, _ := strconv.Atoi(fmt.Sprint(meta["frame.number"]))
		headers, bodies := objects(f.Source.Layers["mbtcp"]), objects(f.Source.Layers["modbus"])
		for i := range headers {
			m := headers[i]
			if i < len(bodies) {
				for k, v := range bodies[i] {
					m[k] = v
				}
			}
			all[number] = append(all[number], m)
		}
	}
	return all
}

// objects flattens one or several JSON objects into their leaves, the first of each name.
func objects(raw json.RawMessage) []map[string]string {
	if len(raw) == 0 {
		return nil
	}
	var list []any
	if json.Unmarshal(raw, &list) != nil {
		list = []any{nil}
		_ = json.Unmarshal(raw, &list[0])
	}
	var flat []map[string]string
	for _, o := range list {
		m := map[string]string{}
		flatten(o, m)
		flat = append(flat, m)
	}
	return flat
}

func flatten(v any, into map[string]string) {
	object, ok := v.(map[string]any)
	if !ok {
		return
	}
	for k, v := range object {
		if s, leaf := v.(string); leaf {
			if _, known := into[k]; !known {
				into[k] = s
			}
		}
		flatten(v, into)
	}
}

// compareMessage compares the fields that both have.
func compareMessage(t *testing.T, number int, m *Message, theirs map[string]string) {
	t.Helper()
	fields, _ := m.Fields.(map[string]any)
	for ours, names := range map[string][]string{
		"transaction": {"mbtcp.trans_id"},
		"unit":        {"mbtcp.unit_id"},
		"function":    {"modbus.func_code"},
		"exception":   {"modbus.exception_code"},
		"quantity":    {"modbus.word_cnt", "modbus.bit_cnt", "modbus.read_word_cnt"},
		"address":     {"modbus.reference_num", "modbus.read_reference_num"},

		"write_address":  {"modbus.write_reference_num"},
		"write_quantity": {"modbus.write_word_cnt"},
		"sub_function":   {"modbus.diagnostic_code"},
		"mei_type":       {"modbus.mei"},
	} {
		for _, theirName := range names {
			want, there := theirs[theirName]
			got, here := fields[ours]
			if there && here && number0(got) != number0(want) {
				t.Errorf("frame %d: %s is %v, tshark has %s", number, ours, got, want)
			}
			if there && !here {
				t.Errorf("frame %d: no %s, tshark has %s", number, ours, want)
			}
		}
	}
}

// number0 reads a number as either side writes it.
func number0(v any) int64 {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 0, 64)
		if err != nil {
			return -1
		}
		return n
	}
	return -2
}
