package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// conduitKeys are the keys that every conduit may have; the protocol adds its own.
var conduitKeys = []string{"name", "from", "to", "protocol", "ports", "types", "ethertypes", "mode", "on_outage", "on_deny", "on_join",
	"limit", "rules", "essential", "second_path", "sl_target", "waiver"}

func (d *decoder) conduit(n *yaml.Node, p *Policy) ConduitSpec {
	c := ConduitSpec{at: position(n), Mode: p.Mode, OnOutage: p.Defaults.OnOutage, OnDeny: p.Defaults.OnDeny,
		OnJoin: p.Defaults.OnJoin}
	f, ok := d.mapping(n, "a conduit", conduitKeys, ruleKeyOutsideRules)
	if !ok {
		c.fromBad, c.toBad = true, true
		return c
	}
	f.require("name", "from", "to", "protocol")
	c.at = f.at("name")
	c.Name = f.name("name")
	c.From, c.fromBad = d.selectors(f, "from")
	c.To, c.toBad = d.selectors(f, "to")
	c.Protocol = choice(f, "protocol", protocolWords(), 0)
	c.Mode = min(choice(f, "mode", modeWords()[1:], p.Mode), p.Mode)
	c.OnOutage, c.outageAt = choice(f, "on_outage", outageWords(), c.OnOutage), f.at("on_outage")
	d.onDeny(f, &c)
	d.onJoin(f, &c)
	c.Limit = d.limit(f.get("limit"), "limit")
	d.assurance(f, &c)
	d.services(f, &c)
	d.rules(f, &c)
	return c
}

func ruleKeyOutsideRules(key string) string {
	if len(protocolsWithRuleKey(key)) > 0 {
		return "it belongs into an element of rules"
	}
	return ""
}

// onDeny refuses a protocol's own refusal where there is no protocol to speak; where the default
// asks for it, such a conduit resets.
func (d *decoder) onDeny(f *fields, c *ConduitSpec) {
	own := choice(f, "on_deny", denyWords(), c.OnDeny)
	if own == DenyException && c.Protocol != 0 && !c.Protocol.Inspected() {
		if f.has("on_deny") {
			d.errorAt(f.get("on_deny"), "on_deny cannot be exception: %s has no refusal of its own, write drop or reset", c.Protocol)
		}
		own = DenyReset
	}
	c.OnDeny = own
}

// onJoin refuses the choice where nothing is joined, because nothing is read.
func (d *decoder) onJoin(f *fields, c *ConduitSpec) {
	c.OnJoin = choice(f, "on_join", joinWords(), c.OnJoin)
	if f.has("on_join") && c.Protocol != 0 && !c.Protocol.Inspected() {
		d.errorAt(f.get("on_join"), "on_join is for conduits whose messages are read: %s has none, remove it", c.Protocol)
	}
}

// selectors reads from or to. bad says that an element could not be read.
func (d *decoder) selectors(f *fields, key string) (out []Selector, bad bool) {
	before := len(d.errors)
	d.list(f.get(key), key, maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of "+key)
		if !ok {
			return
		}
		s, why := d.selector(text, key == "to")
		if why != "" {
			d.errorAt(element, "%s: %q %s", key, text, why)
			return
		}
		s.at = position(element)
		if i := slices.IndexFunc(out, func(o Selector) bool { return o.Kind == s.Kind && o.Name == s.Name }); i >= 0 {
			d.errorAt(element, "%s lists %q twice: remove one", key, text)
			return
		}
		out = append(out, s)
	})
	return out, len(d.errors) > before || f.get(key) == nil
}

func (d *decoder) selector(text string, destination bool) (Selector, string) {
	if text == broadcastName {
		if !destination {
			return Selector{}, "is a destination, nothing comes from it: name identities or zones"
		}
		return Selector{Kind: SelectBroadcast, Name: broadcastName}, ""
	}
	if name, ok := strings.CutPrefix(text, zonePrefix); ok {
		return Selector{Kind: SelectZone, Name: name}, ""
	}
	if name, ok := strings.CutPrefix(text, groupPrefix); ok {
		if !destination {
			return Selector{}, "is a destination, nothing comes from it: name identities or zones"
		}
		g, why := d.parseGroup(name)
		return Selector{Kind: SelectGroup, Name: name, group: g}, why
	}
	if prefix, _, ok := strings.Cut(text, ":"); ok {
		return Selector{}, fmt.Sprintf("cannot be read%s", d.suggest(prefix, []string{"zone", "group"},
			"write the name of an identity, zone:NAME, group:NAME or broadcast"))
	}
	return Selector{Kind: SelectIdentity, Name: text}, ""
}

// assurance reads what IEC 62443 asks a conduit to state.
func (d *decoder) assurance(f *fields, c *ConduitSpec) {
	c.Essential = f.flag("essential")
	c.SecondPath = d.statement(f, "second_path", "name how the function goes on, or leave the key out")
	c.SLTarget, c.hasSLTarget = f.securityLevel("sl_target")
	w, ok := d.mapping(f.get("waiver"), "a waiver", []string{"owner", "expires", "compensating"}, nil)
	if !ok {
		return
	}
	w.require("owner", "expires", "compensating")
	c.Waiver = &Waiver{}
	c.Waiver.Owner = d.statement(w, "owner", "a waiver names who accepts it")
	c.Waiver.Compensating = d.statement(w, "compensating", "a waiver names what is done instead")
	if text, ok := d.text(w.get("expires"), "expires"); ok {
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			d.errorAt(w.get("expires"), "expires cannot be %q: write a day such as 2027-06-30", text)
		}
		c.Waiver.Expires = day
	}
}

// statement reads what a person states, which may not be blank.
func (d *decoder) statement(f *fields, key, why string) string {
	text, ok := d.text(f.get(key), key)
	if ok && strings.TrimSpace(text) == "" {
		d.errorAt(f.get(key), "%s says nothing: %s", key, why)
	}
	return text
}

// maxRules bounds the rules of one conduit; the evaluator keeps a bit for each.
const maxRules = 256

func (d *decoder) rules(f *fields, c *ConduitSpec) {
	if c.Protocol == 0 {
		return
	}
	if !c.Protocol.Inspected() {
		if f.has("rules") {
			d.errorf(f.at("rules"), "rules judge messages of modbus, dnp3 and enip; %s permits by address and port only: remove them", c.Protocol)
		}
		return
	}
	if !f.has("rules") {
		d.errorf(position(f.node), "a conduit of %s permits only what its rules do, and has none: add rules", c.Protocol)
		return
	}
	d.list(f.get("rules"), "rules", maxRules, func(n *yaml.Node) {
		switch c.Protocol {
		case ProtocolModbus:
			c.Modbus = append(c.Modbus, d.modbusRule(n))
		case ProtocolDNP3:
			c.DNP3 = append(c.DNP3, d.dnp3Rule(n))
		case ProtocolENIP:
			c.ENIP = append(c.ENIP, d.enipRule(n))
		}
	})
}

// ruleKeys are the keys of a rule of the protocol.
func ruleKeys(p Protocol) []string {
	switch p {
	case ProtocolModbus:
		return []string{"functions", "units", "addresses", "values", "sub_functions", "mei_types", "files", "max_quantity", "payload_prefix", "rate"}
	case ProtocolDNP3:
		return []string{"functions", "masters", "outstations", "objects", "points", "classes", "control_codes", "count",
			"on_time", "off_time", "values", "files", "select_before_operate", "rate"}
	case ProtocolENIP:
		return []string{"services", "classes", "instances", "attributes", "tags", "values", "route", "io", "pccc", "commands", "rate"}
	}
	return nil
}

func protocolsWithRuleKey(key string) []string {
	var names []string
	for _, p := range []Protocol{ProtocolModbus, ProtocolDNP3, ProtocolENIP} {
		if slices.Contains(ruleKeys(p), key) {
			names = append(names, p.String())
		}
	}
	return names
}

// ruleFields opens a rule; a key of another protocol's rules is named as such.
func (d *decoder) ruleFields(n *yaml.Node, p Protocol) (*fields, bool) {
	return d.mapping(n, fmt.Sprintf("a rule of %s", p), ruleKeys(p), func(key string) string {
		others := protocolsWithRuleKey(key)
		if len(others) == 0 {
			return ""
		}
		return fmt.Sprintf("it selects messages of %s, and this conduit's protocol is %s", orList(others), p)
	})
}
