package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"go.yaml.in/yaml/v3"
)

// DNP3Rule permits DNP3 requests. What it says of a request holds together: function, addresses, and
// then, for each point, object, index and what is to become of it. Nil selectors mean any, but for
// what changes how an outstation runs (see names).
type DNP3Rule struct {
	// Functions holds unsolicited_response, too, where the outstation may send those.
	Functions   Set256
	Masters     Spans // link addresses of the requester
	Outstations Spans // link addresses of the responder; nil is any single one
	Objects     []DNP3Object
	Points      Spans
	Classes     *Set256 // 0 to 3, of group 60

	// Of control relay output blocks and pattern control blocks: the whole octet; how often; and in
	// milliseconds.
	ControlCodes      *Set256
	Counts            Spans
	OnTimes, OffTimes Spans
	// Values are those of analog outputs and deadbands.
	Values []Interval
	// Files are globs of file names: * is any characters but / and \, ? is one of them.
	Files []string

	// SelectBeforeOperate is how long after its select an operate may come; 0 does not bind them.
	SelectBeforeOperate time.Duration

	Rate Rate
}

// DNP3Object is a group, and one of its variations or all.
type DNP3Object struct {
	Group, Variation uint8
	AnyVariation     bool
}

// dnp3Functions are the function codes of IEEE 1815 table 4-1 that a master sends, and the one that an
// outstation sends unasked.
func dnp3Functions() []word[uint8] {
	var words []word[uint8]
	for code := dnp3.Confirm; code <= dnp3.AuthenticateRequestNoAck; code++ {
		words = append(words, word[uint8]{code.String(), uint8(code)})
	}
	return append(words, word[uint8]{dnp3.UnsolicitedResponse.String(), uint8(dnp3.UnsolicitedResponse)})
}

// dnp3ControlCodes are the control octets by name: operation type in the low nibble, trip or close
// in the upper two bits (IEEE 1815 annex A, group 12).
func dnp3ControlCodes() []word[uint8] {
	return []word[uint8]{
		{"nul", 0x00}, {"pulse_on", 0x01}, {"pulse_off", 0x02}, {"latch_on", 0x03}, {"latch_off", 0x04},
		{"close", 0x41}, {"trip", 0x81},
	}
}

// The longest times that a control block can have, in milliseconds, and a select may wait.
const (
	maxControlTime   = 1<<32 - 1
	maxSelectTime    = 5 * time.Minute
	defaultSelectFor = 10 * time.Second
)

// dnp3ControlFunctions carry control blocks.
var dnp3ControlFunctions = []uint8{3, 4, 5, 6}

// dnp3BareFunctions carry no object headers.
var dnp3BareFunctions = []uint8{0, 13, 14, 15, 18, 23, 24, 130}

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
	if f.get("classes") != nil {
		rule.Classes = &Set256{}
		d.codes(f.get("classes"), "classes", nil, 4, rule.Classes.Add)
	}
	rule.Counts = d.spans(f.get("count"), "count", 0, 255)
	rule.OnTimes = d.spans(f.get("on_time"), "on_time", 0, maxControlTime)
	rule.OffTimes = d.spans(f.get("off_time"), "off_time", 0, maxControlTime)
	rule.Values = d.intervals(f.get("values"), "values")
	rule.Files = d.dnp3Files(f.get("files"))
	rule.SelectBeforeOperate = d.selectBeforeOperate(f)
	rule.Rate = f.rate()
	if rule.Functions.Has(uint8(dnp3.EnableUnsolicited)) {
		rule.Functions.Add(uint8(dnp3.UnsolicitedResponse)) // or enabling them would be for nothing
	}
	d.checkDNP3Rule(f, &rule)
	return rule
}

// selectBeforeOperate reads true, or how long a select holds.
func (d *decoder) selectBeforeOperate(f *fields) time.Duration {
	n := f.get("select_before_operate")
	text, ok := d.text(n, "select_before_operate")
	switch {
	case !ok, text == "false":
		return 0
	case text == "true":
		return defaultSelectFor
	}
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 || v > maxSelectTime {
		d.errorAt(n, "select_before_operate cannot be %q: write true (which is %s), or how long a select holds, such as 5s, up to %s",
			text, defaultSelectFor, maxSelectTime)
		return 0
	}
	return v
}

// maxFileName is the longest glob of a file's name in bytes.
const maxFileName = 256

func (d *decoder) dnp3Files(n *yaml.Node) []string {
	var out []string
	d.list(n, "files", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of files")
		switch {
		case !ok:
		case len(text) == 0 || len(text) > maxFileName:
			d.errorAt(element, "files cannot hold %q: a name has 1 to %d characters", text, maxFileName)
		case climbs([]byte(text)):
			d.errorAt(element, "files cannot hold %q: write the name without ..", text)
		default:
			out = append(out, text)
		}
	})
	return out
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
	for _, key := range []string{"control_codes", "count", "on_time", "off_time"} {
		if f.has(key) && !control {
			d.errorf(f.at(key), "%s select control blocks, and none of functions carries them: add select, operate or direct_operate, or remove them", key)
		}
		if f.has(key) && len(rule.Objects) > 0 && !d.names(rule.Objects, 12) {
			d.errorf(f.at(key), "%s are those of g12v1, which objects does not list: add it, or remove them", key)
		}
	}
	d.checkDNP3Rest(f, rule)
	for _, key := range []string{"objects", "points", "classes"} {
		if f.has(key) && objects.Empty() {
			d.errorf(f.at(key), "%s select what a message names, and none of functions names any: remove them", key)
		}
	}
}

// checkDNP3Rest is the rest of checkDNP3Rule.
func (d *decoder) checkDNP3Rest(f *fields, rule *DNP3Rule) {
	file := false
	for code := dnp3.OpenFile; code <= dnp3.AbortFile; code++ {
		file = file || rule.Functions.Has(uint8(code))
	}
	writes := rule.Functions.Has(uint8(dnp3.Write))
	file = file || writes || rule.Functions.Has(uint8(dnp3.Read))
	if f.has("files") && !file {
		d.errorf(f.at("files"), "files select what acts on a file, and none of functions does: add open_file or the like, or remove them")
	}
	direct := rule.Functions.Has(uint8(dnp3.DirectOperate)) || rule.Functions.Has(uint8(dnp3.DirectOperateNoReply))
	if rule.SelectBeforeOperate > 0 && (direct || !rule.Functions.Has(uint8(dnp3.Operate))) {
		d.errorf(f.at("select_before_operate"), "select_before_operate binds operate to its select: it needs operate among functions, and direct_operate, which has no select, in a rule of its own")
	}
	sets := writes
	for code := dnp3.Select; code <= dnp3.DirectOperateNoReply; code++ {
		sets = sets || rule.Functions.Has(uint8(code))
	}
	if f.has("values") && !sets {
		d.errorf(f.at("values"), "values select what analog outputs are set to, and none of functions sets them: add select, operate, direct_operate or write, or remove them")
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
			numbers := fmt.Sprintf("write a number from 0 to %d", limit-1)
			if len(words) > 0 {
				numbers = fmt.Sprintf("write a name such as %s, or a number from 0 to %d", words[0].name, limit-1)
			}
			d.errorAt(element, "%s cannot hold %q%s", what, text, d.suggest(text, wordNames(words), numbers))
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
		single := broadcast && s.Low >= uint32(dnp3.FirstBroadcast)
		if s.High > uint32(dnp3.MaxAddress) && !single {
			d.errorf(f.at(key), "%s cannot hold %s: a station's address is at most %d", key, s, dnp3.MaxAddress)
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
