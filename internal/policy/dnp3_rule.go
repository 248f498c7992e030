package policy

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DNP3Rule permits DNP3 requests. Nil selectors mean any.
type DNP3Rule struct {
	Functions    Set256
	Masters      Spans // link addresses of the requester
	Outstations  Spans // link addresses of the responder
	Objects      []DNP3Object
	Points       Spans
	ControlCodes *Set256 // of g12v1: the whole octet; nil is any
	Rate         Rate
}

// DNP3Object is a group, and one of its variations or all.
type DNP3Object struct {
	Group, Variation uint8
	AnyVariation     bool
}

// dnp3Functions are the function codes of IEEE 1815 table 4-1 that a master sends.
func dnp3Functions() []word[uint8] {
	return []word[uint8]{
		{"confirm", 0}, {"read", 1}, {"write", 2}, {"select", 3}, {"operate", 4},
		{"direct_operate", 5}, {"direct_operate_nr", 6}, {"immed_freeze", 7}, {"immed_freeze_nr", 8},
		{"freeze_clear", 9}, {"freeze_clear_nr", 10}, {"freeze_at_time", 11}, {"freeze_at_time_nr", 12},
		{"cold_restart", 13}, {"warm_restart", 14}, {"initialize_data", 15}, {"initialize_appl", 16},
		{"start_appl", 17}, {"stop_appl", 18}, {"save_config", 19},
		{"enable_unsolicited", 20}, {"disable_unsolicited", 21}, {"assign_class", 22},
		{"delay_measure", 23}, {"record_current_time", 24},
		{"open_file", 25}, {"close_file", 26}, {"delete_file", 27}, {"get_file_info", 28},
		{"authenticate_file", 29}, {"abort_file", 30}, {"activate_config", 31},
		{"authenticate_req", 32}, {"auth_req_no_ack", 33},
	}
}

// dnp3ControlCodes are the control octets by name: operation type in the low nibble, trip or close
// in the upper two bits (IEEE 1815 annex A, group 12).
func dnp3ControlCodes() []word[uint8] {
	return []word[uint8]{
		{"nul", 0x00}, {"pulse_on", 0x01}, {"pulse_off", 0x02}, {"latch_on", 0x03}, {"latch_off", 0x04},
		{"close", 0x41}, {"trip", 0x81},
	}
}

// The link addresses of IEEE 1815 table 9-2: up to 0xffef a device's own; 0xfffd up are broadcast.
const (
	maxDNP3Address   = 0xffef
	minDNP3Broadcast = 0xfffd
)

// dnp3ControlFunctions carry control blocks.
var dnp3ControlFunctions = []uint8{3, 4, 5, 6}

// dnp3ObjectFunctions carry no object headers.
var dnp3BareFunctions = []uint8{0, 13, 14, 15, 18, 23, 24}

func (d *decoder) dnp3Rule(n *yaml.Node) DNP3Rule {
	var rule DNP3Rule
	f, ok := d.ruleFields(n, ProtocolDNP3)
	if !ok {
		return rule
	}
	f.require("functions")
	d.codes(f.get("functions"), "functions", dnp3Functions(), 128, rule.Functions.Add)
	rule.Masters = d.dnp3Addresses(f, "masters", false)
	rule.Outstations = d.dnp3Addresses(f, "outstations", true)
	rule.Objects = d.dnp3Objects(f.get("objects"))
	rule.Points = d.spans(f.get("points"), "points", 0, 1<<32-1)
	if f.get("control_codes") != nil {
		rule.ControlCodes = &Set256{}
		d.codes(f.get("control_codes"), "control_codes", dnp3ControlCodes(), 256, rule.ControlCodes.Add)
	}
	rule.Rate = f.rate()
	d.checkDNP3Rule(f, &rule)
	return rule
}

// checkDNP3Rule refuses selectors that none of the rule's functions can satisfy.
func (d *decoder) checkDNP3Rule(f *fields, rule *DNP3Rule) {
	if rule.Functions.Empty() {
		return // reported
	}
	control, objects := false, rule.Functions
	for _, code := range dnp3ControlFunctions {
		control = control || rule.Functions.Has(code)
	}
	for _, code := range dnp3BareFunctions {
		objects.Remove(code)
	}
	if f.has("control_codes") && !control {
		d.errorf(f.at("control_codes"), "control_codes select control blocks, and none of functions carries them: add select, operate or direct_operate, or remove them")
	}
	for _, key := range []string{"objects", "points"} {
		if f.has(key) && objects.Empty() {
			d.errorf(f.at(key), "%s select what a message names, and none of functions names any: remove them", key)
		}
	}
	if rule.ControlCodes != nil && len(rule.Objects) > 0 && !d.names(rule.Objects, 12) {
		d.errorf(f.at("control_codes"), "control_codes are those of g12v1, which objects does not list: add it, or remove them")
	}
}

func (d *decoder) names(objects []DNP3Object, group uint8) bool {
	for _, o := range objects {
		if o.Group == group {
			return true
		}
	}
	return false
}

// codes reads names and numbers below limit.
func (d *decoder) codes(n *yaml.Node, what string, words []word[uint8], limit uint32, add func(uint8)) {
	d.list(n, what, maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of "+what)
		if !ok {
			return
		}
		for _, w := range words {
			if w.name == text {
				add(w.value)
				return
			}
		}
		v, err := parseNumber(text)
		if err != nil || v >= limit {
			d.errorAt(element, "%s cannot hold %q%s", what, text, d.suggest(text, wordNames(words),
				fmt.Sprintf("write a name such as %s, or a number from 0 to %d", words[0].name, limit-1)))
			return
		}
		add(uint8(v))
	})
}

// dnp3Addresses refuses what no station may have: 0xfff0 to 0xfffb are reserved, and 0xfffc means
// "whoever you are". Broadcast addresses are an outstation's only.
func (d *decoder) dnp3Addresses(f *fields, key string, broadcast bool) Spans {
	spans := d.spans(f.get(key), key, 0, 65535)
	for _, s := range spans {
		single := broadcast && s.Low >= minDNP3Broadcast
		if s.High > maxDNP3Address && !single {
			d.errorf(f.at(key), "%s cannot hold %s: a station's address is at most %d", key, s, maxDNP3Address)
		}
	}
	return spans
}

func (d *decoder) dnp3Objects(n *yaml.Node) []DNP3Object {
	var out []DNP3Object
	d.list(n, "objects", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of objects")
		if !ok {
			return
		}
		object, err := parseDNP3Object(text)
		if err != nil {
			d.errorAt(element, "objects cannot hold %q: %v", text, err)
			return
		}
		out = append(out, object)
	})
	return out
}

// parseDNP3Object reads g12v1, or g12 for every variation.
func parseDNP3Object(text string) (DNP3Object, error) {
	wrong := fmt.Errorf("write group and variation such as g12v1, or g12 for every variation")
	rest, ok := strings.CutPrefix(text, "g")
	if !ok {
		return DNP3Object{}, wrong
	}
	group, variation, some := strings.Cut(rest, "v")
	g, err := parseNumber(group)
	if err != nil || g > 255 {
		return DNP3Object{}, wrong
	}
	if !some {
		return DNP3Object{Group: uint8(g), AnyVariation: true}, nil
	}
	v, err := parseNumber(variation)
	if err != nil || v > 255 {
		return DNP3Object{}, wrong
	}
	return DNP3Object{Group: uint8(g), Variation: uint8(v)}, nil
}
