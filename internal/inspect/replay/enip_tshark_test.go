package replay

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
)

// enipFrame is what a frame says of EtherNet/IP: each list in the order of the wire.
type enipFrame struct {
	commands, sessions             []int64
	services, statuses             []int64 // services with the reply bit
	classes, instances, attributes []int64
	symbols                        []string
	malformed                      bool
}

// differentFrames are those in which tshark differs, by capture; docs/dissectors.md says why.
var differentFrames = map[string]map[int]bool{
	// gologix as a server answers get_attribute_single with the service 0x52: tshark does not find the request.
	"cip-matrix-gologix.pcap": {31: true, 41: true, 82: true},
}

// malformedFrames are those that tshark reads and we do not, by capture: in one, a server answers list_services with
// the command send_rr_data.
var malformedFrames = map[string][]int{"cip-matrix-gologix.pcap": {45}}

func TestDissectOfENIPAgreesWithTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil && os.Getenv("PENSTOCK_REQUIRE_NET") == "1" {
		t.Fatal("tshark is not installed")
	}
	if err != nil {
		t.Skip("tshark is not installed")
	}
	if testing.Short() {
		t.Skip("tshark takes a minute to read the captures, and -short is set")
	}
	for _, path := range enipCaptures(t) {
		base := filepath.Base(path)
		t.Run(base, func(t *testing.T) {
			theirs := readENIP(t, tshark, path)
			ours := dissectENIP(t, path)
			services, fields := 0, 0
			var malformed []int
			for number, their := range theirs {
				our := ours[number]
				if our == nil {
					our = &enipFrame{}
				}
				if our.malformed {
					malformed = append(malformed, number)
					continue
				}
				if differentFrames[base][number] {
					continue
				}
				services += len(our.services)
				fields += len(our.classes) + len(our.instances) + len(our.attributes) + len(our.symbols)
				compareENIP(t, number, our, their)
			}
			for number, our := range ours {
				if theirs[number] == nil && !our.malformed {
					t.Errorf("frame %d: %v, of which tshark says nothing", number, our.commands)
				}
			}
			if slices.Sort(malformed); !slices.Equal(malformed, malformedFrames[base]) {
				t.Errorf("frames %v are malformed, want %v", malformed, malformedFrames[base])
			}
			t.Logf("%d frames, %d services, %d classes, instances, attributes and symbols", len(theirs), services, fields)
		})
	}
}

// compareENIP compares a frame.
func compareENIP(t *testing.T, number int, our, their *enipFrame) {
	t.Helper()
	for what, pair := range map[string][2][]int64{
		"commands": {our.commands, their.commands}, "sessions": {our.sessions, their.sessions},
		"services": {our.services, their.services}, "statuses": {our.statuses, their.statuses},
	} {
		if fmt.Sprint(pair[0]) != fmt.Sprint(pair[1]) {
			t.Errorf("frame %d: %s %x, tshark has %x", number, what, pair[0], pair[1])
		}
	}
	for what, pair := range map[string][2][]int64{
		"classes": {our.classes, their.classes}, "instances": {our.instances, their.instances}, "attributes": {our.attributes, their.attributes},
	} {
		if !isAmong(pair[0], pair[1]) || !our.hasLessIn(what) && fmt.Sprint(pair[0]) != fmt.Sprint(their.without(our, what, pair[1])) {
			t.Errorf("frame %d: %s %x, tshark has %x", number, what, pair[0], pair[1])
		}
	}
	if !isAmong(our.symbols, their.symbols) {
		t.Errorf("frame %d: symbols %q, tshark has %q", number, our.symbols, their.symbols)
	}
}

// hasLessIn tells whether tshark shows more of a frame: of what comes over a connection its path again, of a
// Forward Open or Close what its path names, and of reads of several attributes which these are.
func (f *enipFrame) hasLessIn(what string) bool {
	more := []int64{0x54, 0x5b, 0x4e}
	if what == "attributes" {
		more = append(more, 0x01, 0x03)
	}
	return slices.Contains(f.commands, int64(enip.SendUnitData)) ||
		slices.ContainsFunc(f.services, func(s int64) bool { return slices.Contains(more, s&^0x80) })
}

// without returns tshark's list but for the path of the Unconnected Send that it shows with the reply to what
// that carried.
func (f *enipFrame) without(our *enipFrame, what string, list []int64) []int64 {
	sent := len(our.services) > 0 && our.services[0]&0x80 != 0 && len(f.classes) > len(our.classes) && f.classes[0] == cip.ClassConnectionManager
	if sent && what != "attributes" && len(list) > 0 {
		return list[1:]
	}
	return list
}

func isAmong[T comparable](some, all []T) bool {
	for _, v := range all {
		if len(some) > 0 && some[0] == v {
			some = some[1:]
		}
	}
	return len(some) == 0
}

// dissectENIP returns what Dissect tells, by frame.
func dissectENIP(t *testing.T, path string) map[int]*enipFrame {
	t.Helper()
	frames := map[int]*enipFrame{}
	err := Dissect([]string{path}, func(m *Message) error {
		if m.Protocol != "enip" && m.Protocol != "cip" {
			return nil
		}
		f := frames[m.Frame]
		if f == nil {
			f = &enipFrame{}
			frames[m.Frame] = f
		}
		f.malformed = f.malformed || m.Malformed != ""
		switch fields := m.Fields.(type) {
		case enip.Fields:
			f.commands, f.sessions = append(f.commands, int64(fields.Command)), append(f.sessions, int64(fields.Session))
		case cip.Fields:
			f.add(m.Direction == "response", &fields)
		}
		if m.Operation == "io_data" {
			delete(frames, m.Frame)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

func (f *enipFrame) add(response bool, c *cip.Fields) {
	service := int64(c.Service)
	if response {
		service |= 0x80
	}
	f.services = append(f.services, service)
	if c.Status != nil {
		f.statuses = append(f.statuses, int64(*c.Status))
	}
	for _, o := range c.Parents {
		f.classes, f.instances = append(f.classes, int64(o.Class)), append(f.instances, int64(o.Instance))
	}
	if c.Class != nil {
		f.classes = append(f.classes, int64(*c.Class))
	}
	if c.Instance != nil {
		f.instances = append(f.instances, int64(*c.Instance))
	}
	if c.Attribute != nil {
		f.attributes = append(f.attributes, int64(*c.Attribute))
	}
	if c.Tag != "" {
		f.symbols = append(f.symbols, c.Tag)
	}
}

// readENIP returns what tshark tells, by frame; a frame without a command is none.
func readENIP(t *testing.T, tshark, path string) map[int]*enipFrame {
	t.Helper()
	args := []string{"-r", path, "-Y", "enip.command", "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"}
	for _, field := range []string{"frame.number", "enip.command", "enip.session", "cip.service", "cip.genstat", "cip.class", "cip.instance", "cip.attribute", "cip.symbol"} {
		args = append(args, "-e", field)
	}
	out, err := exec.Command(tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	frames := map[int]*enipFrame{}
	for _, line := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		columns := strings.Split(line, "\t")
		if len(columns) != 9 {
			continue
		}
		number, _ := strconv.Atoi(columns[0])
		f := &enipFrame{}
		for i, list := range []*[]int64{&f.commands, &f.sessions, &f.services, &f.statuses, &f.classes, &f.instances, &f.attributes} {
			*list = numbersOf(columns[i+1])
		}
		if columns[8] != "" {
			f.symbols = strings.Split(columns[8], "|")
		}
		frames[number] = f
	}
	return frames
}

func numbersOf(column string) (list []int64) {
	for _, text := range strings.Split(column, "|") {
		if v, err := strconv.ParseInt(text, 0, 64); err == nil {
			list = append(list, v)
		}
	}
	return list
}
