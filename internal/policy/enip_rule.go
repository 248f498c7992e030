package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ENIPRule permits CIP services, carried by EtherNet/IP. Nil selectors mean any, but for Route and
// IO: without them only messages without a route and connections without I/O are permitted.
type ENIPRule struct {
	Services   []CIPService
	Classes    Spans
	Instances  Spans
	Attributes Spans
	Tags       []string // globs: * is any characters, ? one
	Routes     [][]Hop
	IO         *IOConnection
	Rate       Rate
}

// CIPService is a service. Codes from 0x4b up mean different things to different objects, so a
// name says whose it is.
type CIPService struct {
	Code  uint8
	Owner CIPOwner
}

// CIPOwner tells which objects give a service its meaning.
type CIPOwner uint8

// The owners.
const (
	OwnerAny               CIPOwner = iota // a common service, or one given by number
	OwnerTags                              // the data table of a controller
	OwnerConnectionManager                 // class 6
	OwnerPCCC                              // class 0x67
)

// Hop is one step of a route: a port of a device, and the link address behind it.
type Hop struct {
	Port    uint16
	Link    uint8
	Address netip.Addr // instead of Link, where the port is a network
}

// IOConnection is what a Forward Open may open.
type IOConnection struct {
	Assemblies Spans
	MaxSize    uint16        // bytes, either direction; 0 is any
	MinRPI     time.Duration // the shortest requested packet interval; 0 is any
}

// cipServices are the services by name (CIP volume 1, appendix A and chapter 3; the data table's
// and PCCC's from the vendor's published manuals).
func cipServices() []word[CIPService] {
	return []word[CIPService]{
		{"get_attributes_all", CIPService{0x01, OwnerAny}},
		{"set_attributes_all", CIPService{0x02, OwnerAny}},
		{"get_attribute_list", CIPService{0x03, OwnerAny}},
		{"set_attribute_list", CIPService{0x04, OwnerAny}},
		{"reset", CIPService{0x05, OwnerAny}},
		{"start", CIPService{0x06, OwnerAny}},
		{"stop", CIPService{0x07, OwnerAny}},
		{"create", CIPService{0x08, OwnerAny}},
		{"delete", CIPService{0x09, OwnerAny}},
		{"multiple_service_packet", CIPService{0x0a, OwnerAny}},
		{"apply_attributes", CIPService{0x0d, OwnerAny}},
		{"get_attribute_single", CIPService{0x0e, OwnerAny}},
		{"set_attribute_single", CIPService{0x10, OwnerAny}},
		{"find_next_object_instance", CIPService{0x11, OwnerAny}},
		{"restore", CIPService{0x15, OwnerAny}},
		{"save", CIPService{0x16, OwnerAny}},
		{"no_operation", CIPService{0x17, OwnerAny}},
		{"get_member", CIPService{0x18, OwnerAny}},
		{"set_member", CIPService{0x19, OwnerAny}},
		{"insert_member", CIPService{0x1a, OwnerAny}},
		{"remove_member", CIPService{0x1b, OwnerAny}},
		{"group_sync", CIPService{0x1c, OwnerAny}},
		{"execute_pccc", CIPService{0x4b, OwnerPCCC}},
		{"read_tag", CIPService{0x4c, OwnerTags}},
		{"write_tag", CIPService{0x4d, OwnerTags}},
		{"read_modify_write_tag", CIPService{0x4e, OwnerTags}},
		{"read_tag_fragmented", CIPService{0x52, OwnerTags}},
		{"write_tag_fragmented", CIPService{0x53, OwnerTags}},
		{"get_instance_attribute_list", CIPService{0x55, OwnerTags}},
		{"forward_close", CIPService{0x4e, OwnerConnectionManager}},
		{"unconnected_send", CIPService{0x52, OwnerConnectionManager}},
		{"forward_open", CIPService{serviceForwardOpen, OwnerConnectionManager}},
		{"get_connection_data", CIPService{0x56, OwnerConnectionManager}},
		{"search_connection_data", CIPService{0x57, OwnerConnectionManager}},
		{"get_connection_owner", CIPService{0x5a, OwnerConnectionManager}},
		{"large_forward_open", CIPService{serviceLargeForwardOpen, OwnerConnectionManager}},
	}
}

const (
	serviceForwardOpen      = 0x54
	serviceLargeForwardOpen = 0x5b
	maxCIPService           = 0x7f // the upper bit marks a reply
)

// cipClasses are the object classes by name.
func cipClasses() []word[uint32] {
	return []word[uint32]{
		{"identity", 0x01}, {"message_router", 0x02}, {"device_net", 0x03}, {"assembly", 0x04},
		{"connection", 0x05}, {"connection_manager", 0x06}, {"register", 0x07},
		{"discrete_input_point", 0x08}, {"discrete_output_point", 0x09},
		{"analog_input_point", 0x0a}, {"analog_output_point", 0x0b},
		{"parameter", 0x0f}, {"parameter_group", 0x10}, {"file", 0x37},
		{"time_sync", 0x43}, {"dlr", 0x47}, {"qos", 0x48}, {"pccc", 0x67},
		{"symbol", 0x6b}, {"template", 0x6c},
		{"port", 0xf4}, {"tcp_ip_interface", 0xf5}, {"ethernet_link", 0xf6},
	}
}

func (d *decoder) enipRule(n *yaml.Node) ENIPRule {
	var rule ENIPRule
	f, ok := d.ruleFields(n, ProtocolENIP)
	if !ok {
		return rule
	}
	f.require("services")
	d.cipServiceList(f.get("services"), &rule)
	rule.Classes = d.classes(f.get("classes"))
	rule.Instances = d.spans(f.get("instances"), "instances", 0, 1<<32-1)
	rule.Attributes = d.spans(f.get("attributes"), "attributes", 0, 65535)
	rule.Tags = d.tags(f.get("tags"))
	rule.Routes = d.routes(f.get("route"))
	rule.IO = d.io(f.get("io"))
	rule.Rate = f.rate()
	d.checkENIPRule(f, &rule)
	return rule
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
	if f.has("route") && rule.only(func(s CIPService) bool { return s.Owner == OwnerTags || s.Owner == OwnerPCCC }) {
		d.errorf(f.at("route"), "route selects messages that carry one, and none of services does: add forward_open or unconnected_send, or remove it")
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
	return s.Owner != OwnerTags && (s.Code == serviceForwardOpen || s.Code == serviceLargeForwardOpen)
}

func (d *decoder) cipServiceList(n *yaml.Node, rule *ENIPRule) {
	words := cipServices()
	d.list(n, "services", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of services")
		if !ok {
			return
		}
		for _, w := range words {
			if w.name == text {
				rule.Services = append(rule.Services, w.value)
				return
			}
		}
		v, err := parseNumber(text)
		if err != nil || v < 1 || v > maxCIPService {
			d.errorAt(element, "services cannot hold %q%s", text, d.suggest(text, wordNames(words),
				"write a name such as get_attribute_single, or a number from 1 to 0x7f"))
			return
		}
		rule.Services = append(rule.Services, CIPService{Code: uint8(v)})
	})
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

// maxTag is the longest glob in bytes.
const maxTag = 256

func (d *decoder) tags(n *yaml.Node) []string {
	var out []string
	d.list(n, "tags", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of tags")
		if !ok {
			return
		}
		if err := checkTag(text); err != nil {
			d.errorAt(element, "tags cannot hold %q: %v", text, err)
			return
		}
		out = append(out, text)
	})
	return out
}

func checkTag(glob string) error {
	if len(glob) == 0 || len(glob) > maxTag {
		return fmt.Errorf("a tag has 1 to %d characters", maxTag)
	}
	for _, c := range []byte(glob) {
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && strings.IndexByte("_.:[],*?", c) < 0 {
			return fmt.Errorf("a tag is made of letters, digits and _.:[], with * and ? for what may vary")
		}
	}
	return nil
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
	f, ok := d.mapping(n, "io", []string{"assemblies", "max_size", "min_rpi"}, nil)
	if !ok {
		return nil
	}
	f.require("assemblies")
	io := &IOConnection{Assemblies: d.spans(f.get("assemblies"), "assemblies", 0, 65535)}
	size, _ := f.number("max_size", 1, 65535)
	io.MaxSize = uint16(size)
	io.MinRPI = f.duration("min_rpi", maxRPI)
	return io
}
