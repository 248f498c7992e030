package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/penstock-ot/penstock/internal/verdict"
	"go.yaml.in/yaml/v3"
)

// The bounds of one file.
const (
	maxFile       = 4 << 20 // bytes
	maxAppliances = 256
	maxZones      = 4096
	maxIdentities = 16383
	// maxConduits fits the fast path's counters, which keep index 0 for "none".
	maxConduits = 16383
)

// ParseFile reads and checks the policy in the file. Where the policy is wrong the error is an
// ErrorList with everything that is.
func ParseFile(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open policy: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read policy %s: %w", path, err)
	}
	return Parse(path, src)
}

// Parse reads and checks the policy in src. The name stands in errors as the file's.
func Parse(name string, src []byte) (*Policy, error) {
	d := &decoder{report: report{file: name}}
	if len(src) > maxFile {
		d.errorf(pos{1, 1}, "the file has more than %d MiB, which is the limit", maxFile>>20)
		return nil, d.err()
	}
	root := readDocument(src, &d.report)
	if root == nil {
		return nil, d.err()
	}
	sum := sha256.Sum256(src)
	p := d.policy(root)
	p.File, p.Hash = name, hex.EncodeToString(sum[:])
	(&checker{report: &d.report, p: p}).check()
	if err := d.err(); err != nil {
		return nil, err
	}
	return p, nil
}

func (d *decoder) policy(root *yaml.Node) *Policy {
	p := &Policy{Mode: Enforce, Defaults: builtinDefaults()}
	f, ok := d.mapping(root, "the policy", []string{"api_version", "site", "mode", "appliances", "defaults",
		"zones", "identities", "conduits"}, nil)
	if !ok {
		return p
	}
	f.require("api_version", "mode", "appliances", "zones")
	d.apiVersion(f)
	p.Site, _ = d.text(f.get("site"), "site")
	p.Mode = choice(f, "mode", modeWords(), Enforce)
	if f.has("defaults") {
		p.Defaults = d.defaults(f.get("defaults"))
	}
	d.list(f.get("appliances"), "appliances", maxAppliances, func(n *yaml.Node) {
		p.Appliances = append(p.Appliances, d.appliance(n))
	})
	d.list(f.get("zones"), "zones", maxZones, func(n *yaml.Node) {
		p.Zones = append(p.Zones, d.zone(n))
	})
	d.list(f.get("identities"), "identities", maxIdentities, func(n *yaml.Node) {
		p.Identities = append(p.Identities, d.identity(n))
	})
	d.list(f.get("conduits"), "conduits", maxConduits, func(n *yaml.Node) {
		p.Conduits = append(p.Conduits, d.conduit(n, p))
	})
	return p
}

func (d *decoder) apiVersion(f *fields) {
	n := f.get("api_version")
	if text, ok := d.text(n, "api_version"); ok && text != apiVersion {
		d.errorAt(n, "api_version %q is not known here: write %s", text, apiVersion)
	}
}

// builtinDefaults hold for what a policy does not say: closed, and touching nothing that a
// network needs to stay up.
func builtinDefaults() Defaults {
	return Defaults{
		OnOutage:        OutageClosed,
		OnDeny:          DenyReset,
		OnJoin:          JoinResync,
		UnknownIdentity: verdict.Deny,
		IntraZone:       verdict.Deny,
		ARPGuard:        true,
		LinkLocal:       verdict.Allow,
	}
}

func (d *decoder) defaults(n *yaml.Node) Defaults {
	out := builtinDefaults()
	f, ok := d.mapping(n, "defaults", []string{"on_outage", "on_deny", "on_join", "unknown_identity", "intra_zone", "arp", "link_local", "storm"}, nil)
	if !ok {
		return out
	}
	out.OnOutage = choice(f, "on_outage", outageWords(), out.OnOutage)
	out.OnDeny = choice(f, "on_deny", denyWords(), out.OnDeny)
	out.OnJoin = choice(f, "on_join", joinWords(), out.OnJoin)
	out.UnknownIdentity = choice(f, "unknown_identity", permitWords(), out.UnknownIdentity)
	out.IntraZone = choice(f, "intra_zone", permitWords(), out.IntraZone)
	out.ARPGuard = choice(f, "arp", []word[bool]{{"guard", true}, {"permit", false}}, out.ARPGuard)
	out.LinkLocal = choice(f, "link_local", permitWords(), out.LinkLocal)
	d.storm(f.get("storm"), &out)
	return out
}

func (d *decoder) appliance(n *yaml.Node) (a ApplianceSpec) {
	before := len(d.errors)
	a.at = position(n)
	defer func() { a.bad = len(d.errors) > before }()
	f, ok := d.mapping(n, "an appliance", []string{"name", "sides", "on_power_loss"}, nil)
	if !ok {
		return a
	}
	f.require("name", "sides")
	a.Name = f.name("name")
	a.hasRelay = f.has("on_power_loss")
	a.OnPowerLoss = choice(f, "on_power_loss", outageWords(), OutageClosed)
	sides, ok := d.mapping(f.get("sides"), "sides", []string{"a", "b"}, nil)
	if !ok {
		return a
	}
	sides.require("a", "b")
	a.A = d.references(sides.get("a"), "side a", maxZones)
	a.B = d.references(sides.get("b"), "side b", maxZones)
	return a
}

func (d *decoder) references(n *yaml.Node, what string, most int) []Reference {
	var out []Reference
	d.list(n, what, most, func(element *yaml.Node) {
		if text, ok := d.text(element, "an element of "+what); ok {
			out = append(out, Reference{Name: text, at: position(element)})
		}
	})
	return out
}

func (d *decoder) zone(n *yaml.Node) ZoneSpec {
	z := ZoneSpec{PurdueLevel: -1, at: position(n)}
	f, ok := d.mapping(n, "a zone", []string{"name", "sl_target", "purdue_level"}, nil)
	if !ok {
		return z
	}
	f.require("name")
	z.Name = f.name("name")
	z.SLTarget, _ = f.securityLevel("sl_target")
	if level, ok := d.text(f.get("purdue_level"), "purdue_level"); ok {
		z.PurdueLevel = d.purdueLevel(f.get("purdue_level"), level)
	}
	return z
}

// purdueLevel reads 0 to 5 in halves: 3.5 is the demilitarised zone between plant and enterprise.
func (d *decoder) purdueLevel(n *yaml.Node, text string) float64 {
	level, err := strconv.ParseFloat(text, 64)
	if err != nil || level < 0 || level > 5 || level*2 != float64(int(level*2)) {
		d.errorAt(n, "purdue_level cannot be %q: write 0 to 5, or 3.5", text)
		return -1
	}
	return level
}
