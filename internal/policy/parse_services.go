package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// services fills in what the conduit covers, from ports, types or ethertypes.
func (d *decoder) services(f *fields, c *ConduitSpec) {
	key := map[Protocol]string{ProtocolICMP: "types", ProtocolEtherType: "ethertypes"}[c.Protocol]
	if key == "" {
		key = "ports"
	}
	if c.Protocol == 0 {
		return
	}
	for _, other := range []string{"ports", "types", "ethertypes"} {
		if other != key && f.has(other) {
			d.errorf(f.at(other), "%s does not apply to protocol %s, which has %s: remove it", other, c.Protocol, key)
		}
	}
	switch c.Protocol {
	case ProtocolICMP:
		c.Services = d.icmpServices(f)
	case ProtocolEtherType:
		c.Services = d.etherTypeServices(f)
	default:
		c.Services = d.portServices(f, c.Protocol)
	}
	c.Services = mergeServices(c.Services)
}

// mergeServices sorts, and joins what overlaps or touches.
func mergeServices(services []Service) []Service {
	slices.SortFunc(services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Low, b.Low))
	})
	out := services[:0]
	for _, s := range services {
		if last := len(out) - 1; last >= 0 && s.Transport == out[last].Transport && int(s.Low) <= int(out[last].High)+1 {
			out[last].High = max(out[last].High, s.High)
			continue
		}
		out = append(out, s)
	}
	return out
}

// wellKnownServices are what a protocol covers when ports does not say. The empty list means
// every port.
func wellKnownServices(p Protocol) []Service {
	switch p {
	case ProtocolModbus:
		return []Service{{TransportTCP, 502, 502}}
	case ProtocolDNP3:
		return []Service{{TransportTCP, 20000, 20000}}
	case ProtocolENIP:
		// Explicit messages, and the implicit I/O that they negotiate. UDP 44818 carries
		// discovery only, which is nobody's need on a conduit unless it says so.
		return []Service{{TransportTCP, 44818, 44818}, {TransportUDP, 2222, 2222}}
	case ProtocolUDP:
		return []Service{{TransportUDP, 0, 65535}}
	}
	return []Service{{TransportTCP, 0, 65535}}
}

// transportsOf lists what a port of the protocol may be of, the one that is meant without a
// prefix first.
func transportsOf(p Protocol) []word[Transport] {
	tcp, udp := word[Transport]{"tcp", TransportTCP}, word[Transport]{"udp", TransportUDP}
	switch p {
	case ProtocolUDP:
		return []word[Transport]{udp}
	case ProtocolDNP3, ProtocolENIP:
		return []word[Transport]{tcp, udp}
	}
	return []word[Transport]{tcp}
}

func (d *decoder) portServices(f *fields, p Protocol) []Service {
	if !f.has("ports") {
		return wellKnownServices(p)
	}
	var out []Service
	d.list(f.get("ports"), "ports", maxList, func(n *yaml.Node) {
		text, ok := d.text(n, "an element of ports")
		if !ok {
			return
		}
		s, err := parsePort(text, p)
		if err != nil {
			d.errorAt(n, "ports cannot hold %q: %v", text, err)
			return
		}
		out = append(out, s)
	})
	return out
}

// parsePort reads "4840", "4840-4843" or, where it can be either, "udp/44818".
func parsePort(text string, p Protocol) (Service, error) {
	transports := transportsOf(p)
	transport, ports := transports[0].value, text
	if name, rest, ok := strings.Cut(text, "/"); ok {
		ports, transport = rest, 0
		for _, t := range transports {
			if t.name == name {
				transport = t.value
			}
		}
		if transport == 0 {
			return Service{}, fmt.Errorf("the ports of %s are those of %s here", p, orList(wordNames(transports)))
		}
	}
	span, err := parseSpan(ports, 1, 65535)
	if err != nil {
		return Service{}, err
	}
	return Service{transport, uint16(span.Low), uint16(span.High)}, nil
}

// icmpType is a message type as it is numbered in ICMP and in ICMPv6; -1 where it has none.
type icmpType struct{ v4, v6 int }

// icmpTypes are the message types by name (RFC 792, RFC 4443, RFC 4861).
func icmpTypes() []word[icmpType] {
	return []word[icmpType]{
		{"echo_request", icmpType{8, 128}},
		{"echo_reply", icmpType{0, 129}},
		{"destination_unreachable", icmpType{3, 1}},
		{"packet_too_big", icmpType{-1, 2}},
		{"time_exceeded", icmpType{11, 3}},
		{"parameter_problem", icmpType{12, 4}},
		{"redirect", icmpType{5, 137}},
		{"router_advertisement", icmpType{9, 134}},
		{"router_solicitation", icmpType{10, 133}},
		{"timestamp_request", icmpType{13, -1}},
		{"timestamp_reply", icmpType{14, -1}},
		{"neighbor_solicitation", icmpType{-1, 135}},
		{"neighbor_advertisement", icmpType{-1, 136}},
		{"multicast_listener_query", icmpType{-1, 130}},
		{"multicast_listener_report", icmpType{-1, 131}},
	}
}

// icmpServices reads types. Without them every type is meant but those that tell a device which
// way to send: redirects, router advertisements and renumbering of routers turn traffic past the appliance, so
// that they are named or denied. Ping's reply is implied by its request.
func (d *decoder) icmpServices(f *fields) []Service {
	if !f.has("types") {
		return []Service{
			{TransportICMP, 0, 4}, {TransportICMP, 6, 8}, {TransportICMP, 10, 255},
			{TransportICMPv6, 0, 133}, {TransportICMPv6, 135, 136}, {TransportICMPv6, 139, 255},
		}
	}
	var out []Service
	d.list(f.get("types"), "types", maxList, func(n *yaml.Node) {
		if text, ok := d.text(n, "an element of types"); ok {
			out = append(out, d.icmpService(n, text)...)
		}
	})
	return out
}

// icmpService reads a name or a number. A number below 128 is one of ICMP, from 128 one of ICMPv6,
// whose error messages (1 to 4) are written by name.
func (d *decoder) icmpService(n *yaml.Node, text string) []Service {
	words := icmpTypes()
	for _, w := range words {
		if w.name == text {
			return w.value.services()
		}
	}
	v, err := parseNumber(text)
	if err != nil || v > 255 {
		d.errorAt(n, "types cannot hold %q%s", text, d.suggest(text, wordNames(words), "write a name such as echo_request, or a number from 0 to 255"))
		return nil
	}
	if v < 128 {
		return icmpType{int(v), -1}.services()
	}
	return icmpType{-1, int(v)}.services()
}

func (t icmpType) services() []Service {
	var out []Service
	if t.v4 >= 0 {
		out = append(out, Service{TransportICMP, uint16(t.v4), uint16(t.v4)})
	}
	if t.v6 >= 0 {
		out = append(out, Service{TransportICMPv6, uint16(t.v6), uint16(t.v6)})
	}
	return out
}

// The EtherTypes that this package reads itself.
const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd

	// minEtherType is the least number that is a type and not a length (IEEE 802.3 3.2.6).
	minEtherType = 0x0600
)

// etherTypes are the EtherTypes by name. llc stands for IEEE 802.3 frames, which have a length
// instead of a type: whoever permits them permits what they carry, but for SNAP that holds an
// EtherType, which is another format inside.
func etherTypes() []word[uint16] {
	return []word[uint16]{
		{"profinet", 0x8892}, {"goose", 0x88b8}, {"gse_management", 0x88b9}, {"sv", 0x88ba},
		{"ethercat", 0x88a4}, {"powerlink", 0x88ab}, {"sercos", 0x88cd}, {"cc_link_ie", 0x890f},
		{"lldp", 0x88cc}, {"mrp", 0x88e3}, {"ptp", 0x88f7}, {"prp", 0x88fb}, {"hsr", 0x892f},
		{"macsec", 0x88e5}, {"eapol", 0x888e}, {"wake_on_lan", 0x0842}, {"dlr", 0x80e1},
		{"llc", 0},
	}
}

func (d *decoder) etherTypeServices(f *fields) []Service {
	f.require("ethertypes")
	var out []Service
	d.list(f.get("ethertypes"), "ethertypes", maxList, func(n *yaml.Node) {
		text, ok := d.text(n, "an element of ethertypes")
		if !ok {
			return
		}
		if v, ok := d.etherType(n, text); ok {
			out = append(out, Service{TransportEtherType, v, v})
		}
	})
	return out
}

func (d *decoder) etherType(n *yaml.Node, text string) (uint16, bool) {
	words := etherTypes()
	for _, w := range words {
		if w.name == text {
			return w.value, true
		}
	}
	v, err := parseNumber(text)
	if err != nil || v < minEtherType || v > 0xffff {
		d.errorAt(n, "ethertypes cannot hold %q%s", text, d.suggest(text, wordNames(words),
			"write a name such as profinet, or a number from 0x0600 to 0xffff"))
		return 0, false
	}
	if why := etherTypeHandledElsewhere(uint16(v)); why != "" {
		d.errorAt(n, "ethertypes cannot hold %q: %s", text, why)
		return 0, false
	}
	return uint16(v), true
}

// etherTypeHandledElsewhere keeps a conduit from carrying what other conduits judge by content.
func etherTypeHandledElsewhere(v uint16) string {
	switch v {
	case etherTypeIPv4, etherTypeIPv6:
		return "IP is permitted by conduits of tcp, udp, icmp or an inspected protocol"
	case etherTypeARP:
		return "ARP passes between identities by itself, guarded by defaults.arp"
	case 0x8100, 0x88a8, 0x9100:
		return "tags are looked through; say on an identity which vlan it is in"
	}
	return ""
}
