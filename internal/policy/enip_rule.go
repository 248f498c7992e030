package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"go.yaml.in/yaml/v3"
)

// ENIPRule permits encapsulation commands, or CIP services. Nil selectors mean any, but for Routes, IO
// and PCCC: without them only messages without a route, connections without I/O, and PCCC functions that
// read or write data are permitted. See EvalCIP for what each selects.
type ENIPRule struct {
	Commands   []enip.Command
	Services   []CIPService
	Classes    Spans
	Instances  Spans
	Attributes Spans
	Tags       []string // globs: * is any characters, ? one, [0-9] a range of elements
	Values     []ValueSpan
	Routes     [][]Hop
	IO         *IOConnection
	PCCC       *PCCCSelector
	Rate       Rate
}

// CIPService is a service. Codes from 0x4b up mean different things to different objects, so a
// name says whose it is.
type CIPService struct {
	Code  uint8
	Owner CIPOwner
}

// CIPOwner tells which objects give a service its meaning.
type CIPOwner = cip.Owner

// The owners that tests and callers name most. OwnerAny is a common service, or one given by number.
const (
	OwnerAny               = cip.AnyOwner
	OwnerTags              = cip.Tags
	OwnerConnectionManager = cip.ConnectionManager
	OwnerPCCC              = cip.PCCC
)

// Hop is one step of a route: a port of a device, and the link address behind it.
type Hop struct {
	Port    uint16
	Link    uint8
	Address netip.Addr // instead of Link, where the port is a network
}

// is tells whether the hop is the one that a message names.
func (h Hop) is(m cip.Hop) bool {
	return !m.Other && h.Port == m.Port && h.Link == m.Link && h.Address == m.Address
}

// IOConnection is what a Forward Open may open.
type IOConnection struct {
	Assemblies Spans
	Tags       []string      // produced tags that may be consumed, as globs
	MaxSize    uint16        // bytes as negotiated, either direction; 0 is any
	MinRPI     time.Duration // the shortest requested packet interval; 0 is any
	MaxRPI     time.Duration // the longest, which is what a connection's time-out follows; 0 is any
	Classes    Spans         // transport classes 0 and 1; nil is both
	Owners     IOOwners      // 0 is any
	Safety     bool          // CIP Safety connections, too
	// OutliveSession lets a connection go on when the session that opened it has ended in order.
	OutliveSession bool
}

// IOOwners is a set of owner types.
type IOOwners uint8

// The owner types. An input-only connection and one that only listens look the same in a Forward Open.
const (
	OwnsExclusively IOOwners = 1 << iota
	OwnsRedundantly
	OwnsNothing
)

// PCCCSelector is which commands an Execute PCCC may carry.
type PCCCSelector struct {
	Functions []cip.Function // nil: those that read or write data
	Files     []PCCCFile     // nil is any
}

// PCCCFile is a range of elements of one data file.
type PCCCFile struct {
	File     uint16
	Elements Span
	// Letters are those of the file's type; "" is any. How much of a file a command touches follows from the type
	// that it claims, and processors exist that go by the number alone.
	Letters string
}

// cipServices are the services by name.
func cipServices() []word[CIPService] {
	var words []word[CIPService]
	for _, s := range cip.Services() {
		words = append(words, word[CIPService]{s.Name, CIPService{uint8(s.Code), s.Owner}})
	}
	return words
}

// cipGroups are the groups of services. What changes what a device executes is in none but execution, so
// that it is named or denied.
func cipGroups() []word[[]string] {
	return []word[[]string]{
		{"read", []string{"get_attributes_all", "get_attribute_list", "get_attribute_single", "find_next_object_instance",
			"get_member", "read_tag", "read_tag_fragmented", "get_instance_attribute_list", "read_template"}},
		{"write", []string{"set_attributes_all", "set_attribute_list", "set_attribute_single", "set_member",
			"write_tag", "write_tag_fragmented", "read_modify_write_tag"}},
		{"execution", []string{"reset", "start", "stop", "create", "delete", "apply_attributes", "restore", "save",
			"initiate_download", "initiate_partial_write", "download_transfer", "clear_file"}},
	}
}

const maxCIPService = 0x7f // the upper bit marks a reply

// cipClasses are the object classes by name.
func cipClasses() []word[uint32] {
	var words []word[uint32]
	for _, c := range cip.Classes() {
		words = append(words, word[uint32]{c.Name, c.Class})
	}
	return words
}

func (d *decoder) enipRule(n *yaml.Node) ENIPRule {
	var rule ENIPRule
	f, ok := d.ruleFields(n, ProtocolENIP)
	if !ok {
		return rule
	}
	if f.has("commands") {
		d.enipCommands(f, &rule)
		return rule
	}
	f.require("services")
	d.cipServiceList(f.get("services"), &rule)
	rule.Classes = d.classes(f.get("classes"))
	rule.Instances = d.spans(f.get("instances"), "instances", 0, 1<<32-1)
	rule.Attributes = d.spans(f.get("attributes"), "attributes", 0, 65535)
	rule.Tags = d.tags(f.get("tags"), "tags")
	rule.Values = d.valueSpans(f.get("values"))
	rule.Routes = d.routes(f.get("route"))
	rule.IO = d.io(f.get("io"))
	rule.PCCC = d.pccc(f.get("pccc"))
	rule.Rate = f.rate()
	d.checkENIPRule(f, &rule)
	return rule
}

// enipCommands reads a rule of encapsulation commands. Those that carry services, and those that begin and
// end a session, are there for the services and need no rule.
func (d *decoder) enipCommands(f *fields, rule *ENIPRule) {
	for _, key := range ruleKeys(ProtocolENIP) {
		if key != "commands" && key != "rate" && f.has(key) {
			d.errorf(f.at(key), "%s selects services, and this rule is about encapsulation commands: give the services a rule of their own", key)
		}
	}
	d.list(f.get("commands"), "commands", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of commands")
		if !ok {
			return
		}
		var names []string
		for _, c := range enip.Commands() {
			if names = append(names, c.Name); c.Name == text {
				d.addCommand(element, rule, c.Command)
				return
			}
		}
		v, err := parseNumber(text)
		if err != nil || v > 0xffff {
			d.errorAt(element, "commands cannot hold %q%s", text, d.suggest(text, names,
				"write a name such as list_identity, or a number from 0 to 0xffff"))
			return
		}
		d.addCommand(element, rule, enip.Command(v))
	})
	rule.Rate = f.rate()
}

func (d *decoder) addCommand(n *yaml.Node, rule *ENIPRule, c enip.Command) {
	if impliedCommand(c) {
		d.errorAt(n, "%s is permitted wherever a service is, and what it carries is judged: remove it", c)
		return
	}
	rule.Commands = append(rule.Commands, c)
}

// impliedCommand tells whether a conduit permits the command without a rule.
func impliedCommand(c enip.Command) bool {
	return c.CarriesCIP() || c == enip.RegisterSession || c == enip.UnregisterSession
}

// checkENIPRule refuses selectors that no message can satisfy together.
func (d *decoder) checkENIPRule(f *fields, rule *ENIPRule) {
	if len(rule.Services) == 0 {
		return // reported
	}
	for _, key := range []string{"classes", "instances", "attributes"} {
		if f.has("tags") && f.has(key) {
			d.errorf(f.at(key), "a message names a tag or an object, never both: split this rule in two, one with tags and one with %s", key)
		}
	}
	if f.has("tags") && rule.only(func(s CIPService) bool {
		return s.Owner == OwnerConnectionManager || s.Owner == OwnerPCCC
	}) {
		d.errorf(f.at("tags"), "tags select messages that name a tag, and none of services does: remove them")
	}
	if f.has("io") && rule.only(func(s CIPService) bool { return !s.opens() }) {
		d.errorf(f.at("io"), "io says what a connection may carry, and none of services opens one: add forward_open, or remove it")
	}
	if f.has("values") && rule.only(func(s CIPService) bool { return !s.writesTag() }) {
		d.errorf(f.at("values"), "values are those written to tags, and none of services writes one: add write_tag, or remove them")
	}
	if f.has("pccc") && rule.only(func(s CIPService) bool { return !s.isPCCC() }) {
		d.errorf(f.at("pccc"), "pccc selects what execute_pccc carries, which services does not list: add it, or remove this")
	}
}

// only tells whether the test holds for every service of the rule.
func (r *ENIPRule) only(test func(CIPService) bool) bool {
	for _, s := range r.Services {
		if !test(s) {
			return false
		}
	}
	return true
}

func (s CIPService) opens() bool {
	code := cip.ServiceCode(s.Code)
	return (s.Owner == OwnerAny || s.Owner == OwnerConnectionManager) && (code == cip.ForwardOpen || code == cip.LargeForwardOpen)
}

func (s CIPService) writesTag() bool {
	code := cip.ServiceCode(s.Code)
	return (s.Owner == OwnerAny || s.Owner == OwnerTags) &&
		(code == cip.WriteTag || code == cip.WriteTagFragmented || code == cip.ReadModifyWriteTag)
}

func (s CIPService) isPCCC() bool {
	return (s.Owner == OwnerAny || s.Owner == OwnerPCCC) && cip.ServiceCode(s.Code) == cip.ExecutePCCC
}

func (d *decoder) cipServiceList(n *yaml.Node, rule *ENIPRule) {
	words, groups := cipServices(), cipGroups()
	d.list(n, "services", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of services")
		if !ok || rule.addService(text, words, groups) {
			return
		}
		v, err := parseNumber(text)
		if err != nil || v < 1 || v > maxCIPService {
			d.errorAt(element, "services cannot hold %q%s", text, d.suggest(text, append(wordNames(words), wordNames(groups)...),
				"write a name such as get_attribute_single, or a number from 1 to 0x7f"))
			return
		}
		rule.Services = append(rule.Services, CIPService{Code: uint8(v)})
	})
}

// addService adds a service or a group by name, and reports whether there is one.
func (r *ENIPRule) addService(text string, words []word[CIPService], groups []word[[]string]) bool {
	for _, w := range words {
		if w.name == text {
			r.Services = append(r.Services, w.value)
			return true
		}
	}
	for _, g := range groups {
		if g.name != text {
			continue
		}
		for _, name := range g.value {
			r.addService(name, words, nil)
		}
		return true
	}
	return false
}

func (d *decoder) classes(n *yaml.Node) Spans {
	var out []Span
	words := cipClasses()
	d.list(n, "classes", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of classes")
		if !ok {
			return
		}
		for _, w := range words {
			if w.name == text {
				out = append(out, Span{w.value, w.value})
				return
			}
		}
		span, err := parseSpan(text, 0, 65535)
		if err != nil {
			d.errorAt(element, "classes cannot hold %q%s", text, d.suggest(text, wordNames(words), err.Error()))
			return
		}
		out = append(out, span)
	})
	return newSpans(out)
}

// maxHops bounds one route.
const maxHops = 16

func (d *decoder) routes(n *yaml.Node) [][]Hop {
	var out [][]Hop
	d.list(n, "route", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of route")
		if !ok {
			return
		}
		route, err := parseRoute(text)
		if err != nil {
			d.errorAt(element, "route cannot hold %q: %v", text, err)
			return
		}
		out = append(out, route)
	})
	return out
}

// parseRoute reads "1/0", or "2/198.18.0.9,1/0" for several hops.
func parseRoute(text string) ([]Hop, error) {
	parts := strings.Split(text, ",")
	if len(parts) > maxHops {
		return nil, fmt.Errorf("a route has at most %d hops", maxHops)
	}
	var hops []Hop
	for _, part := range parts {
		hop, err := parseHop(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		hops = append(hops, hop)
	}
	return hops, nil
}

func parseHop(text string) (Hop, error) {
	wrong := fmt.Errorf("write each hop as port/link such as 1/0 or 2/198.18.0.9, and a comma between two")
	port, link, ok := strings.Cut(text, "/")
	p, err := parseNumber(port)
	if !ok || err != nil || p < 1 || p > 65535 {
		return Hop{}, wrong
	}
	if address, err := netip.ParseAddr(link); err == nil && address.Is4() {
		return Hop{Port: uint16(p), Address: address}, nil
	}
	l, err := parseNumber(link)
	if err != nil || l > 255 {
		return Hop{}, wrong
	}
	return Hop{Port: uint16(p), Link: uint8(l)}, nil
}

// maxRPI is the longest requested packet interval that 32 bits of microseconds hold.
const maxRPI = time.Hour

func (d *decoder) io(n *yaml.Node) *IOConnection {
	f, ok := d.mapping(n, "io", []string{"assemblies", "tags", "max_size", "min_rpi", "max_rpi", "transport_classes", "owners", "safety", "outlive_session"}, nil)
	if !ok {
		return nil
	}
	if !f.has("tags") {
		f.require("assemblies")
	}
	io := &IOConnection{Assemblies: d.spans(f.get("assemblies"), "assemblies", 0, 65535)}
	io.Tags = d.tags(f.get("tags"), "tags")
	size, _ := f.number("max_size", 1, 65535)
	io.MaxSize = uint16(size)
	io.MinRPI = f.duration("min_rpi", maxRPI)
	io.MaxRPI = f.duration("max_rpi", maxRPI)
	if io.MaxRPI > 0 && io.MinRPI > io.MaxRPI {
		d.errorf(f.at("max_rpi"), "max_rpi is shorter than min_rpi, so this rule would never permit a connection")
	}
	io.Classes = d.spans(f.get("transport_classes"), "transport_classes", 0, 1)
	io.Owners = d.owners(f.get("owners"))
	io.Safety = f.flag("safety")
	io.OutliveSession = f.flag("outlive_session")
	return io
}

func (d *decoder) owners(n *yaml.Node) (set IOOwners) {
	words := []word[IOOwners]{
		{"exclusive_owner", OwnsExclusively}, {"redundant_owner", OwnsRedundantly},
		{"input_only", OwnsNothing}, {"listen_only", OwnsNothing},
	}
	d.list(n, "owners", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of owners")
		if !ok {
			return
		}
		for _, w := range words {
			if w.name == text {
				set |= w.value
				return
			}
		}
		names := wordNames(words)
		d.errorAt(element, "owners cannot hold %q%s", text, d.suggest(text, names, "it is "+orList(names)))
	})
	return set
}

func (d *decoder) pccc(n *yaml.Node) *PCCCSelector {
	f, ok := d.mapping(n, "pccc", []string{"functions", "files"}, nil)
	if !ok {
		return nil
	}
	s := new(PCCCSelector)
	d.list(f.get("functions"), "functions", maxList, func(element *yaml.Node) {
		if text, ok := d.text(element, "an element of functions"); ok {
			d.pcccFunction(element, text, s)
		}
	})
	d.list(f.get("files"), "files", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of files")
		if !ok {
			return
		}
		file, err := parsePCCCFile(text)
		if err != nil {
			d.errorAt(element, "files cannot hold %q: %v", text, err)
			return
		}
		s.Files = append(s.Files, file)
	})
	return s
}

// pcccFunction reads a function's name, or its numbers: command, or command/function.
func (d *decoder) pcccFunction(n *yaml.Node, text string, s *PCCCSelector) {
	var names []string
	for _, known := range cip.Functions() {
		if names = append(names, known.Name); known.Name == text {
			s.Functions = append(s.Functions, known.Function)
			return
		}
	}
	command, function, has := strings.Cut(text, "/")
	c, err := parseNumber(command)
	v, err2 := uint32(0), error(nil)
	if has {
		v, err2 = parseNumber(function)
	}
	if err != nil || err2 != nil || c > 0x3f || v > 255 {
		d.errorAt(n, "functions cannot hold %q%s", text, d.suggest(text, names,
			"write a name such as protected_typed_logical_read, or command and function such as 0x0f/0xa2"))
		return
	}
	s.Functions = append(s.Functions, cip.Function{Command: uint8(c), Sub: uint8(v), HasSub: has})
}

// parsePCCCFile reads "7" or "7:0-9", or with the letters of its type "N7:0-9".
func parsePCCCFile(text string) (PCCCFile, error) {
	file, elements, some := strings.Cut(text, ":")
	digits := strings.TrimLeft(file, "ABCDFILNORST")
	letters := strings.TrimSuffix(file, digits)
	number, err := parseNumber(digits)
	if err != nil || number > 65535 || letters != "" && !cip.IsFileLetters(letters) {
		return PCCCFile{}, fmt.Errorf("write a file from 0 to 65535, and elements if not all are meant, such as 7:0-99 or N7:0-99")
	}
	span := Span{0, 65535}
	if some {
		if span, err = parseSpan(elements, 0, 65535); err != nil {
			return PCCCFile{}, fmt.Errorf("its elements: %w", err)
		}
	}
	return PCCCFile{uint16(number), span, letters}, nil
}
