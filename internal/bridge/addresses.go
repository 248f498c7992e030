package bridge

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// From linux/if_addr.h, which x/sys/unix has not caught up with: the attribute that says who made
// an address (Linux 5.18), and its value for a link-local one of the kernel.
const (
	ifaProto            = 11
	ifaProtoKernelLocal = 3
)

// configuredAddresses returns the IP addresses that somebody gave the link. An IPv6 link-local
// address that the kernel made by itself is none: it comes with the link being up and goes with it.
func configuredAddresses(index int) ([]netip.Prefix, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	replies, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list IP addresses: %w", err)
	}
	var found []netip.Prefix
	for _, r := range replies {
		msg := nl.DeserializeIfAddrmsg(r)
		if int(msg.Index) != index {
			continue
		}
		attrs, err := nl.ParseRouteAttrAsMap(r[msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("list IP addresses: %w", err)
		}
		if v := attrs[ifaProto].Value; len(v) == 1 && v[0] == ifaProtoKernelLocal {
			continue
		}
		raw := attrs[unix.IFA_LOCAL].Value // of a pair, IFA_ADDRESS is the peer's
		if raw == nil {
			raw = attrs[unix.IFA_ADDRESS].Value
		}
		if a, ok := netip.AddrFromSlice(raw); ok {
			found = append(found, netip.PrefixFrom(a, int(msg.Prefixlen)))
		}
	}
	return found, nil
}
