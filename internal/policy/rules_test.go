package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/penstock-ot/penstock/dissectors/cip"
)

// set builds a set of the numbers.
func set(numbers ...uint8) (s Set256) {
	for _, n := range numbers {
		s.Add(n)
	}
	return s
}

// ruleOf parses base with one conduit of the protocol and one rule.
func ruleOf(t *testing.T, protocol, rule string) ConduitSpec {
	t.Helper()
	return mustParse(t, edit(t, base, "protocol: modbus", "protocol: "+protocol,
		"      - functions: [read]\n        units: [1]\n", "      - {"+rule+"}\n")).Conduits[0]
}

func TestDNP3Rules(t *testing.T) {
	codes, classes := set(3, 4, 0x41, 0x81), set(1, 3)
	rows := []struct {
		name, rule string
		want       DNP3Rule
	}{
		{"names", "functions: [read, confirm, enable_unsolicited, disable_unsolicited, delay_measure]", DNP3Rule{Functions: set(0, 1, 20, 21, 23, 130)}},
		{"numbers", "functions: [0x01, 2, \"3\"]", DNP3Rule{Functions: set(1, 2, 3)}},
		{"everything", "functions: [select, operate], masters: [1-3, 5], outstations: [10, 0xffff], objects: [g12v1, g41], points: [0-3], " +
			"control_codes: [latch_on, 4, close, trip], rate: 5/m",
			DNP3Rule{
				Functions: set(3, 4), Masters: Spans{{1, 3}, {5, 5}}, Outstations: Spans{{10, 10}, {65535, 65535}},
				Objects: []DNP3Object{{Group: 12, Variation: 1}, {Group: 41, AnyVariation: true}},
				Points:  Spans{{0, 3}}, ControlCodes: &codes, Rate: Rate{5, time.Minute},
			}},
		{"what is done", `functions: [operate, select, write], classes: [1, 3], count: [1], on_time: [0-500], off_time: [0], values: [-10-10, 2.5], ` +
			`files: ["/a*"], select_before_operate: 5s`,
			DNP3Rule{
				Functions: set(2, 3, 4), Classes: &classes, Counts: Spans{{1, 1}}, OnTimes: Spans{{0, 500}}, OffTimes: Spans{{0, 0}},
				Values: []Interval{{-10, 10}, {2.5, 2.5}}, Files: []string{"/a*"}, SelectBeforeOperate: 5 * time.Second,
			}},
		{"bound for a while", "functions: [operate], select_before_operate: true", DNP3Rule{Functions: set(4), SelectBeforeOperate: 10 * time.Second}},
		{"not bound", "functions: [operate], select_before_operate: false", DNP3Rule{Functions: set(4)}},
		{"unsolicited alone", "functions: [unsolicited_response]", DNP3Rule{Functions: set(130)}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff([]DNP3Rule{row.want}, ruleOf(t, "dnp3", row.rule).DNP3); diff != "" {
				t.Errorf("rule (-want +got):\n%s", diff)
			}
		})
	}
}

func TestENIPRules(t *testing.T) {
	rows := []struct {
		name, rule string
		want       ENIPRule
	}{
		{"objects", "services: [get_attributes_all, 0x0e], classes: [identity, 0x04, 100-110], instances: [1], attributes: [1-7]",
			ENIPRule{Services: []CIPService{{0x01, OwnerAny}, {0x0e, OwnerAny}}, Classes: Spans{{1, 1}, {4, 4}, {100, 110}},
				Instances: Spans{{1, 1}}, Attributes: Spans{{1, 7}}}},
		{"one code, two meanings", "services: [read_tag_fragmented, unconnected_send]",
			ENIPRule{Services: []CIPService{{0x52, OwnerTags}, {0x52, OwnerConnectionManager}}}},
		{"PCCC", `services: [execute_pccc], pccc: {functions: [typed_read, "0x0f/0xa2", 0x06], files: [7, "N7:0-9", "ST9:3", "0x10:5"]}`,
			ENIPRule{Services: []CIPService{{0x4b, OwnerPCCC}}, PCCC: &PCCCSelector{
				Functions: []cip.Function{{Command: 0x0f, Sub: 0x68, HasSub: true}, {Command: 0x0f, Sub: 0xa2, HasSub: true}, {Command: 6}},
				Files:     []PCCCFile{{7, Span{0, 65535}, ""}, {7, Span{0, 9}, "N"}, {9, Span{3, 3}, "ST"}, {16, Span{5, 5}, ""}},
			}}},
		{"tags", `services: [read_tag], tags: ["Line3.*", "Program:Main.x[?]"]`,
			ENIPRule{Services: []CIPService{{0x4c, OwnerTags}}, Tags: []string{"Line3.*", "Program:Main.x[?]"}}},
		{"connections", `services: [forward_open], route: ["1/0", "2/198.18.0.9, 1/3"], io: {assemblies: [100, 150-151], max_size: 504, min_rpi: 10ms}, rate: 1/h`,
			ENIPRule{
				Services: []CIPService{{0x54, OwnerConnectionManager}},
				Routes:   [][]Hop{{{Port: 1}}, {{Port: 2, Address: netip.MustParseAddr("198.18.0.9")}, {Port: 1, Link: 3}}},
				IO:       &IOConnection{Assemblies: Spans{{100, 100}, {150, 151}}, MaxSize: 504, MinRPI: 10 * time.Millisecond},
				Rate:     Rate{1, time.Hour},
			}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff([]ENIPRule{row.want}, ruleOf(t, "enip", row.rule).ENIP, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("rule (-want +got):\n%s", diff)
			}
		})
	}
}

func TestModbusRules(t *testing.T) {
	rows := []struct {
		name, rule string
		want       func(*ModbusRule)
	}{
		{"a group", "functions: [read]", func(r *ModbusRule) { r.Functions = set(1, 2, 3, 4, 20, 24) }},
		{"a group without what has no address", "functions: [read], addresses: [1]", func(r *ModbusRule) {
			r.Functions, r.Addresses = set(1, 2, 3, 4, 24), Spans{{1, 1}}
		}},
		{"names and numbers", "functions: [write_single_register, 16, 0x17]", func(r *ModbusRule) { r.Functions = set(6, 16, 23) }},
		{"ranges join", "functions: [3], addresses: [50-60, 40-49, \"0x3c-61\", 7]", func(r *ModbusRule) {
			r.Functions, r.Addresses = set(3), Spans{{7, 7}, {40, 61}}
		}},
		{"units", "functions: [3], units: [0, 2-3]", func(r *ModbusRule) { r.Functions, r.Units = set(3), set(0, 2, 3) }},
		{"diagnostics", "functions: [diagnostics], sub_functions: [return_query_data, 0x0a-11]", func(r *ModbusRule) {
			r.Functions, r.SubFunctions = set(7, 8, 11, 12, 17, 43), Spans{{0, 0}, {10, 11}}
		}},
		{"files", "functions: [20], files: [4, \"5:0-9\"]", func(r *ModbusRule) {
			r.Functions, r.Files = set(20), []FileSpan{{4, Span{0, 9999}}, {5, Span{0, 9}}}
		}},
		{"vendor", "functions: [90], payload_prefix: [\"0010\", \"0xff\"]", func(r *ModbusRule) {
			r.Functions, r.PayloadPrefixes = set(90), [][]byte{{0, 0x10}, {0xff}}
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			want := ModbusRule{Units: everything(), SubFunctions: defaultSubFunctions(), MEITypes: defaultMEITypes()}
			row.want(&want)
			if diff := cmp.Diff([]ModbusRule{want}, ruleOf(t, "modbus", row.rule).Modbus); diff != "" {
				t.Errorf("rule (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServices(t *testing.T) {
	rows := []struct{ name, conduit, want string }{
		{"modbus", "protocol: modbus", "6/502"},
		{"modbus on other ports", "protocol: modbus\n    ports: [503, 1502-1503]", "6/503 6/1502-1503"},
		{"dnp3", "protocol: dnp3", "6/20000"},
		{"enip", "protocol: enip", "6/44818 17/2222"},
		{"dnp3 over both", "protocol: dnp3\n    ports: [20000, udp/20000]", "6/20000 17/20000"},
		{"enip with discovery", "protocol: enip\n    ports: [tcp/44818, udp/2222, udp/44818]", "6/44818 17/2222 17/44818"},
		{"enip without I/O", "protocol: enip\n    ports: [44818]", "6/44818"},
		{"every port of tcp", "protocol: tcp", "6/0-65535"},
		{"every port of udp", "protocol: udp", "17/0-65535"},
		{"icmp", "protocol: icmp", "1/0-4 1/6-8 1/10-255 58/0-133 58/135-136 58/139-255"},
		{"icmp by name", "protocol: icmp\n    types: [echo_request, packet_too_big]", "1/8 58/2 58/128"},
		{"icmp by number", "protocol: icmp\n    types: [8, 0x80]", "1/8 58/128"},
		{"ethertypes", "protocol: ethertype\n    ethertypes: [profinet, 0x88b8, goose]", "256/34962 256/35000"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			rules := "    rules:\n      - {functions: [read]}\n"
			if strings.Contains(row.conduit, "enip") {
				rules = "    rules:\n      - {services: [read_tag]}\n"
			} else if !strings.Contains(row.conduit, "modbus") && !strings.Contains(row.conduit, "dnp3") {
				rules = ""
			}
			text := edit(t, base, "    rules:\n      - functions: [read]\n        units: [1]\n", rules, "protocol: modbus", row.conduit)
			var got []string
			for _, s := range mustParse(t, text).Conduits[0].Services {
				got = append(got, fmt.Sprintf("%d/%s", s.Transport, Span{uint32(s.Low), uint32(s.High)}))
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("got %v, want %s", got, row.want)
			}
		})
	}
}

func TestSuggestions(t *testing.T) {
	names := []string{"enforce", "observe", "read_coils", "hmi-1"}
	for _, row := range []struct{ wrong, want string }{
		{"enfroce", "enforce"}, {"ENFORCE", "enforce"}, {"obsreve", "observe"}, {"hmi1", "hmi-1"}, {"hmi-2", "hmi-1"},
		{"read_coil", "read_coils"}, {"x", ""}, {"", ""}, {"discover", ""}, {strings.Repeat("enforce", 100), ""},
	} {
		var r report
		if got := r.nearest(row.wrong, names); got != row.want {
			t.Errorf("%.20q is like %q, want %q", row.wrong, got, row.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, row := range []struct {
		text string
		want uint32
		ok   bool
	}{
		{"0", 0, true}, {"7", 7, true}, {"0x10", 16, true}, {"0X1F", 31, true}, {"4294967295", 1<<32 - 1, true},
		{"4294967296", 0, false}, {"-1", 0, false}, {"+1", 0, false}, {"010", 0, false}, {"0x", 0, false},
		{"", 0, false}, {"1_000", 0, false}, {"1.5", 0, false}, {"0x-1", 0, false}, {"ten", 0, false},
	} {
		got, err := parseNumber(row.text)
		if got != row.want || (err == nil) != row.ok {
			t.Errorf("%q is %d, %v", row.text, got, err)
		}
	}
}
