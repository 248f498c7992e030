package policy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
)

// group is a set of multicast destinations: MAC addresses first..last, or an IP network.
type group struct {
	first, last [6]byte      // zero for an IP group
	prefix      netip.Prefix // zero for a MAC group
}

func (g group) known() bool { return g != group{} }

// contains tells whether every destination of other is one of g's.
func (g group) contains(other group) bool {
	if g.prefix.IsValid() {
		return other.prefix.IsValid() && g.prefix.Bits() <= other.prefix.Bits() && g.prefix.Contains(other.prefix.Addr())
	}
	return !other.prefix.IsValid() &&
		bytes.Compare(g.first[:], other.first[:]) <= 0 && bytes.Compare(other.last[:], g.last[:]) <= 0
}

// macs lists the MAC addresses of a MAC group. None has more than a few hundred.
func (g group) macs() [][6]byte {
	if g.prefix.IsValid() {
		return nil
	}
	var out [][6]byte
	for n := macNumber(g.first); n <= macNumber(g.last); n++ {
		var wide [8]byte
		binary.BigEndian.PutUint64(wide[:], n)
		out = append(out, [6]byte(wide[2:]))
	}
	return out
}

// groupRange is a well-known group of MAC addresses: one block's first address and the last one.
func groupRange(first, last [6]byte) group { return group{first: first, last: last} }

func groupMAC(mac [6]byte) group { return group{first: mac, last: mac} }

func groupIP(text string) group { return group{prefix: netip.MustParsePrefix(text)} }

// wellKnownGroups are the groups that have a name in a policy.
func wellKnownGroups() []word[group] {
	return []word[group]{
		// PROFINET: IEC 61158-6-10, DCP identify and hello, and the blocks for RT_CLASS_3.
		{"profinet_dcp", groupMAC([6]byte{0x01, 0x0e, 0xcf, 0x00, 0x00, 0x00})},
		{"profinet_dcp_hello", groupMAC([6]byte{0x01, 0x0e, 0xcf, 0x00, 0x00, 0x01})},
		{"profinet_rt", groupRange([6]byte{0x01, 0x0e, 0xcf, 0x00, 0x01, 0x01}, [6]byte{0x01, 0x0e, 0xcf, 0x00, 0x01, 0x02})},
		{"profinet_ptcp", groupRange([6]byte{0x01, 0x0e, 0xcf, 0x00, 0x04, 0x00}, [6]byte{0x01, 0x0e, 0xcf, 0x00, 0x05, 0xff})},
		// IEC 61850-8-1 and -9-2, annex B: recommended ranges.
		{"goose", groupRange([6]byte{0x01, 0x0c, 0xcd, 0x01, 0x00, 0x00}, [6]byte{0x01, 0x0c, 0xcd, 0x01, 0x01, 0xff})},
		{"gsse", groupRange([6]byte{0x01, 0x0c, 0xcd, 0x02, 0x00, 0x00}, [6]byte{0x01, 0x0c, 0xcd, 0x02, 0x01, 0xff})},
		{"sv", groupRange([6]byte{0x01, 0x0c, 0xcd, 0x04, 0x00, 0x00}, [6]byte{0x01, 0x0c, 0xcd, 0x04, 0x01, 0xff})},
		// Link-local control frames follow defaults.link_local first; a group matters where
		// a switch or a tool sends them on to other addresses than those.
		{"stp", groupMAC([6]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x00})},
		{"lldp", groupMAC([6]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e})},
		{"ptp", groupMAC([6]byte{0x01, 0x1b, 0x19, 0x00, 0x00, 0x00})},
		{"mrp", groupRange([6]byte{0x01, 0x15, 0x4e, 0x00, 0x00, 0x01}, [6]byte{0x01, 0x15, 0x4e, 0x00, 0x00, 0x04})},
		{"dlr", groupRange([6]byte{0x01, 0x21, 0x6c, 0x00, 0x00, 0x01}, [6]byte{0x01, 0x21, 0x6c, 0x00, 0x00, 0x04})},
		{"powerlink", groupRange([6]byte{0x01, 0x11, 0x1e, 0x00, 0x00, 0x01}, [6]byte{0x01, 0x11, 0x1e, 0x00, 0x00, 0x04})},
		{"ethercat", groupMAC([6]byte{0x01, 0x01, 0x05, 0x01, 0x00, 0x00})},
		// IP groups.
		{"all_hosts", groupIP("224.0.0.1/32")},
		{"vrrp", groupIP("224.0.0.18/32")},
		{"igmp", groupIP("224.0.0.22/32")},
		{"mdns", groupIP("224.0.0.251/32")},
		{"ptp_ip", groupIP("224.0.1.129/32")},
		{"cip_io", groupIP("239.192.0.0/14")},
		{"ssdp", groupIP("239.255.255.250/32")},
		{"all_nodes", groupIP("ff02::1/128")},
		{"all_routers", groupIP("ff02::2/128")},
		{"solicited_node", groupIP("ff02::1:ff00:0/104")},
	}
}

const groupForms = "a name such as profinet_dcp, a multicast MAC address, or a multicast network such as 239.192.0.0/14"

// parseGroup reads what stands behind "group:". The error says what is wrong, to stand behind the
// selector's text.
func (r *report) parseGroup(text string) (group, string) {
	words := wellKnownGroups()
	for _, w := range words {
		if w.name == text {
			return w.value, ""
		}
	}
	if mac, err := parseMAC(text); err == nil {
		return macGroup(mac)
	}
	if prefix, err := parsePrefix(text); err == nil {
		if !isMulticastPrefix(prefix) {
			return group{}, "is not a multicast network: IPv4 groups lie in 224.0.0.0/4, IPv6 groups in ff00::/8"
		}
		return group{prefix: prefix}, ""
	} else if strings.Contains(text, "/") {
		return group{}, "cannot be read: " + err.Error()
	}
	return group{}, "is not known" + r.suggest(text, wordNames(words), "write "+groupForms)
}

func isMulticastPrefix(p netip.Prefix) bool {
	least := 4
	if p.Addr().Is6() {
		least = 8
	}
	return p.Addr().IsMulticast() && p.Bits() >= least
}

// macGroup refuses MAC addresses that carry IP groups: 32 groups share one, so an address that
// is looked at alone would let through more than is meant.
func macGroup(mac [6]byte) (group, string) {
	switch {
	case mac == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return group{}, "is the broadcast address: write broadcast"
	case mac[0]&1 == 0:
		return group{}, "is the address of one device: name its identity instead"
	case isIPMulticastMAC(mac):
		return group{}, "carries IP groups: write the IP group, such as group:239.192.0.0/14"
	}
	return groupMAC(mac), ""
}

// isIPMulticastMAC knows the blocks of RFC 1112 6.4 and RFC 2464 7.
func isIPMulticastMAC(mac [6]byte) bool {
	return mac[0] == 0x01 && mac[1] == 0x00 && mac[2] == 0x5e && mac[3]&0x80 == 0 || mac[0] == 0x33 && mac[1] == 0x33
}
