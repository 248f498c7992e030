package policy

import (
	"net/netip"

	"go.yaml.in/yaml/v3"
)

// untaggedName is the VLAN of frames without a tag.
const untaggedName = "untagged"

func (d *decoder) identity(n *yaml.Node) IdentitySpec {
	id := IdentitySpec{at: position(n)}
	f, ok := d.mapping(n, "an identity", []string{"name", "zone", "role", "mac", "ip", "vlan", "via", "side"}, nil)
	if !ok {
		return id
	}
	f.require("name", "zone")
	id.at = f.at("name")
	id.Name = f.name("name")
	id.Zone = f.reference("zone")
	id.Role = f.name("role")
	id.Via = f.reference("via")
	id.Side = choice(f, "side", sideWords()[:2], SideAny)
	id.sideAt = f.at("side")
	id.hasMAC, id.macAt = f.has("mac"), f.at("mac")
	id.MAC = d.mac(f.get("mac"))
	id.hasAddresses = f.has("ip")
	d.addresses(f.get("ip"), &id)
	d.vlans(f, &id)
	return id
}

func (d *decoder) mac(n *yaml.Node) [6]byte {
	text, ok := d.text(n, "mac")
	if !ok {
		return [6]byte{}
	}
	mac, err := parseMAC(text)
	switch {
	case err != nil:
		d.errorAt(n, "mac cannot be %q: %v", text, err)
	case mac[0]&1 != 0:
		d.errorAt(n, "mac %s is a group or broadcast address, which no device sends from: write the device's own", text)
	case mac == [6]byte{}:
		d.errorAt(n, "mac %s is nobody's: write the device's own", text)
	default:
		return mac
	}
	return [6]byte{}
}

func (d *decoder) addresses(n *yaml.Node, id *IdentitySpec) {
	d.list(n, "ip", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of ip")
		if !ok {
			return
		}
		prefix, err := parsePrefix(text)
		if err != nil {
			d.errorAt(element, "ip cannot be %q: %v", text, err)
			return
		}
		if why := notOwnable(prefix); why != "" {
			d.errorAt(element, "ip %s %s: write the device's own address", text, why)
			return
		}
		id.Addresses = append(id.Addresses, prefix)
		id.addressAt = append(id.addressAt, position(element))
	})
}

// notOwnable says why no device can own the address. Networks are let through, 0.0.0.0/0 too: it
// is what stands behind the router to everywhere else.
func notOwnable(p netip.Prefix) string {
	if !p.IsSingleIP() {
		if p.Bits() >= 4 && p.Addr().IsMulticast() {
			return "is a multicast network"
		}
		return ""
	}
	switch a := p.Addr(); {
	case a.IsMulticast():
		return "is a multicast address"
	case a.IsLoopback():
		return "is a loopback address"
	case a.IsUnspecified():
		return "is the unspecified address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address"
	}
	return ""
}

// vlans reads "untagged", 10 or [10, 20]; untagged is the default and may stand in the list.
func (d *decoder) vlans(f *fields, id *IdentitySpec) {
	n := f.get("vlan")
	if f.has("vlan") {
		id.vlanAt = f.at("vlan")
	}
	if n == nil {
		id.Untagged = true
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.vlan(n, id)
		return
	}
	d.list(n, "vlan", maxVLAN, func(element *yaml.Node) { d.vlan(element, id) })
}

// maxVLAN is the last VLAN identifier: 0 is no VLAN and 4095 is reserved (IEEE 802.1Q 9.6).
const maxVLAN = 4094

func (d *decoder) vlan(n *yaml.Node, id *IdentitySpec) {
	text, ok := d.text(n, "vlan")
	if !ok {
		return
	}
	if text == untaggedName {
		id.Untagged = true
		return
	}
	v, err := parseNumber(text)
	if err != nil || v < 1 || v > maxVLAN {
		d.errorAt(n, "vlan cannot be %q: write %s, or a number from 1 to %d", text, untaggedName, maxVLAN)
		return
	}
	id.VLANs = append(id.VLANs, uint16(v))
}
