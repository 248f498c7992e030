package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attribute is one setting of a bridge (IFLA_BR_…) or of a bridge's port (IFLA_BRPORT_…) with the
// value that it must have. The netlink library knows some of them; written and read here, each is
// checked the same way.
type attribute struct {
	name     string // as ip-link(8) calls it
	number   uint16
	value    []byte // in host byte order
	optional bool   // a kernel may be built without it, and then does not need it
}

// linkDetails is what only the raw message says about a link.
type linkDetails struct {
	kind, slaveKind string
	data, slaveData map[uint16]syscall.NetlinkRouteAttr
}

// readLinkDetails asks the kernel about one link.
func readLinkDetails(index int) (linkDetails, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	replies, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return linkDetails{}, fmt.Errorf("read link %d: %w", index, err)
	}
	if len(replies) != 1 || len(replies[0]) < unix.SizeofIfInfomsg {
		return linkDetails{}, fmt.Errorf("read link %d: the kernel sent %d answers", index, len(replies))
	}
	d, err := decodeLinkDetails(replies[0][unix.SizeofIfInfomsg:])
	if err != nil {
		return linkDetails{}, fmt.Errorf("read link %d: %w", index, err)
	}
	return d, nil
}

func decodeLinkDetails(b []byte) (d linkDetails, err error) {
	attrs, err := nl.ParseRouteAttrAsMap(b)
	if err != nil {
		return d, err
	}
	info, err := nl.ParseRouteAttrAsMap(attrs[unix.IFLA_LINKINFO].Value)
	if err != nil {
		return d, err
	}
	d.kind = strings.TrimRight(string(info[unix.IFLA_INFO_KIND].Value), "\x00")
	d.slaveKind = strings.TrimRight(string(info[unix.IFLA_INFO_SLAVE_KIND].Value), "\x00")
	if d.data, err = nl.ParseRouteAttrAsMap(info[unix.IFLA_INFO_DATA].Value); err != nil {
		return d, err
	}
	d.slaveData, err = nl.ParseRouteAttrAsMap(info[unix.IFLA_INFO_SLAVE_DATA].Value)
	return d, err
}

// writeAttributes sends the settings in one message: of a bridge itself or, with slave, of a port
// as the bridge sees it.
func writeAttributes(index int, slave bool, attrs []attribute) error {
	kind, data := unix.IFLA_INFO_KIND, unix.IFLA_INFO_DATA
	if slave {
		kind, data = unix.IFLA_INFO_SLAVE_KIND, unix.IFLA_INFO_SLAVE_DATA
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(kind, nl.NonZeroTerminated("bridge"))
	nested := info.AddRtAttr(data, nil)
	for _, a := range attrs {
		nested.AddRtAttr(int(a.number), a.value)
	}
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// deviating returns the attributes whose value in the kernel is another one.
func deviating(got map[uint16]syscall.NetlinkRouteAttr, want []attribute) []attribute {
	var wrong []attribute
	for _, a := range want {
		value, ok := got[a.number]
		if !ok && a.optional {
			continue
		}
		if !ok || !bytes.Equal(value.Value, a.value) {
			wrong = append(wrong, a)
		}
	}
	return wrong
}

func names(attrs []attribute) string {
	all := make([]string, 0, len(attrs))
	for _, a := range attrs {
		all = append(all, a.name)
	}
	return strings.Join(all, ", ")
}
