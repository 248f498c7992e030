package replay

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
)

const tagSite = cellAndPlant + `
conduits:
  - name: tags
    from: [hmi]
    to: [plc]
    protocol: enip
    rules: [{services: [read_tag], tags: [Speed]}, {services: [unconnected_send, forward_open], route: ["1/0"]}]
`

// nestedCapture holds a packet in an Unconnected Send, a connection, and a packet on that; of each the reply.
func nestedCapture(t *testing.T) string {
	const handle = 0x11
	device := peer{plc.mac, netip.MustParseAddrPort("198.18.0.10:44818")}
	s := newScript(t)
	ask := func(request, reply []byte) {
		s.tcp(hmi, device, push, request...)
		s.tcp(device, hmi, push, reply...)
	}
	s.open(hmi, device)
	ask(ct.Register(0), ct.Register(handle))
	packet := ct.Multiple(ct.ReadTag(ct.Symbol("Speed"), 1), ct.WriteDINT(ct.Symbol("Recipe"), 7))
	replies := append([]byte{0x8a, 0, 0x1e, 0}, ct.Packet([]byte{0xcc, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0}, []byte{0xcd, 0, 0x0f, 0})...)
	ask(ct.RR(handle, 1, ct.Unconnected(packet, ct.Port(1, 0))), ct.RR(handle, 1, replies))
	o := ct.Open{Serial: 1, ToSource: 0x902, Path: ct.Join(ct.Port(1, 0), ct.Router())}
	ask(ct.RR(handle, 2, o.Forward()), ct.RR(handle, 2, ct.Opened(o, 0x701, 0x902)))
	ask(ct.Unit(handle, 0x701, 5, packet), ct.Unit(handle, 0x902, 5, replies))
	path := filepath.Join(t.TempDir(), "tags.pcap")
	if err := os.WriteFile(path, s.pcap(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNestedServicesHaveALineEach holds what others rely on: one line for the encapsulation and one for each service, at
// whatever depth, with the keys that they have in `penstock dissect --json`.
func TestNestedServicesHaveALineEach(t *testing.T) {
	var got []string
	err := Dissect([]string{nestedCapture(t)}, func(m *Message) error {
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		var line struct {
			Frame                          int
			Protocol, Direction, Operation string
			Fields                         map[string]any
		}
		if err := json.Unmarshal(b, &line); err != nil {
			return err
		}
		keys := []string{"command", "session", "status"}
		if line.Protocol == "cip" {
			keys = []string{"service", "class", "instance", "attribute", "tag", "status", "route", "connection", "within"}
		}
		fields := map[string]any{}
		for _, key := range keys {
			if v, ok := line.Fields[key]; ok {
				fields[key] = v
			}
		}
		text, err := json.Marshal(fields)
		got = append(got, strings.Join([]string{line.Protocol, line.Direction, line.Operation, string(text)}, " "))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`enip request register_session {"command":101,"session":0,"status":0}`,
		`enip response register_session {"command":101,"session":17,"status":0}`,
		`enip request send_rr_data {"command":111,"session":17,"status":0}`,
		`cip request unconnected_send {"class":6,"instance":1,"route":["1/0"],"service":82}`,
		`cip request multiple_service_packet {"class":2,"instance":1,"route":["1/0"],"service":10,"within":["unconnected_send"]}`,
		`cip request read_tag {"route":["1/0"],"service":76,"tag":"Speed","within":["unconnected_send","multiple_service_packet"]}`,
		`cip request write_tag {"route":["1/0"],"service":77,"tag":"Recipe","within":["unconnected_send","multiple_service_packet"]}`,
		`enip response send_rr_data {"command":111,"session":17,"status":0}`,
		`cip response multiple_service_packet {"class":2,"instance":1,"route":["1/0"],"service":10,"status":30,"within":["unconnected_send"]}`,
		`cip response read_tag {"route":["1/0"],"service":76,"status":0,"tag":"Speed","within":["unconnected_send","multiple_service_packet"]}`,
		`cip response write_tag {"route":["1/0"],"service":77,"status":15,"tag":"Recipe","within":["unconnected_send","multiple_service_packet"]}`,
		`enip request send_rr_data {"command":111,"session":17,"status":0}`,
		`cip request forward_open {"class":6,"instance":1,"route":["1/0"],"service":84}`,
		`enip response send_rr_data {"command":111,"session":17,"status":0}`,
		`cip response forward_open {"class":6,"instance":1,"route":["1/0"],"service":84,"status":0}`,
		`enip request send_unit_data {"command":112,"session":17,"status":0}`,
		`cip request multiple_service_packet {"class":2,"connection":1793,"instance":1,"route":["1/0"],"service":10}`,
		`cip request read_tag {"connection":1793,"route":["1/0"],"service":76,"tag":"Speed","within":["multiple_service_packet"]}`,
		`cip request write_tag {"connection":1793,"route":["1/0"],"service":77,"tag":"Recipe","within":["multiple_service_packet"]}`,
		`enip response send_unit_data {"command":112,"session":17,"status":0}`,
		`cip response multiple_service_packet {"class":2,"connection":2306,"instance":1,"route":["1/0"],"service":10,"status":30}`,
		`cip response read_tag {"connection":2306,"route":["1/0"],"service":76,"status":0,"tag":"Speed","within":["multiple_service_packet"]}`,
		`cip response write_tag {"connection":2306,"route":["1/0"],"service":77,"status":15,"tag":"Recipe","within":["multiple_service_packet"]}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAssessNamesNestedServices: a denial is told of the service that is denied, with what it was nested in.
func TestAssessNamesNestedServices(t *testing.T) {
	plan := planOf(t, tagSite)
	a, err := Assess(plan, []string{nestedCapture(t)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Denials []struct {
			Count                                           int
			Reason, Conduit, Source, Destination, Operation string
			Protocol, Detail                                string
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, d := range got.Denials {
		list = append(list, strings.Join([]string{d.Reason, d.Conduit, d.Source, d.Destination, d.Protocol, d.Operation, d.Detail}, " "))
	}
	slices.Sort(list)
	want := []string{
		"service_not_permitted tags hmi plc cip write_tag tag Recipe by route 1/0 within multiple_service_packet",
		"service_not_permitted tags hmi plc cip write_tag tag Recipe by route 1/0 within unconnected_send, multiple_service_packet",
	}
	if !slices.Equal(list, want) {
		t.Errorf("denials:\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
}
