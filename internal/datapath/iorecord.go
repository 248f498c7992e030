package datapath

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
)

// record is a connection as the next daemon finds it.
func (t *ioTable) record(e *ioEntry, now clock) *bpf.BridgeIoConnection {
	r := &bpf.BridgeIoConnection{
		Originator: e.keys[0], Target: e.keys[1], Session: e.session,
		OriginatorSerial: e.c.Triad.OriginatorSerial, Serial: e.c.Triad.Serial, Vendor: e.c.Triad.Vendor,
		Opened: uint64(e.c.Opened.UnixNano() - now.offset), Adopted: flag(e.c.Adopted),
	}
	r.OpeningLength = uint16(copy(r.Opening[:], e.c.Opening))
	if e.c.Session != nil {
		r.SessionSlot = e.c.Session.Key
	}
	for i := range r.Halves {
		if e.direction(i).sends() {
			r.Halves[i] = t.half(e, i)
		}
	}
	return r
}

// connectionOf reads a record. Of the session its ends are known again, not its counters.
func connectionOf(id uint32, r *bpf.BridgeIoConnection, c clock) IOConnection {
	out := IOConnection{
		ID: id, Side: policy.Side(r.Originator.Side), Tags: tagsOf(r.Originator.Tags[:]),
		Originator: IOEnd{r.Originator.SourceMac, addressOfWord(r.Originator.Source)},
		Target:     IOEnd{r.Target.SourceMac, addressOfWord(r.Target.Source)},
		Triad:      IOTriad{r.Serial, r.Vendor, r.OriginatorSerial},
		Opened:     c.wall(r.Opened), Adopted: r.Adopted != 0,
		Opening: append([]byte(nil), r.Opening[:min(int(r.OpeningLength), len(r.Opening))]...),
	}
	if r.Session != (bpf.BridgeFlowKey{}) {
		w := flowOf(&entry{
			flow:   bpf.BridgeFlow{Treatment: treatmentOf(policy.Side(r.Originator.Side))},
			record: bpf.BridgeFlowRecord{Key: r.Session, Slot: r.SessionSlot},
		}, c)
		out.Session = &w
	}
	for i, d := range []*IODirection{&out.Output, &out.Input} {
		h := &r.Halves[i]
		if h.Place == 0 {
			continue
		}
		*d = IODirection{
			Connection: []uint32{r.Originator.Connection, r.Target.Connection}[i], Size: h.Size,
			Variable: h.Treatment&ioVariable != 0, Timeout: time.Duration(h.Timeout),
		}
	}
	if group := addressOfWord(r.Target.Destination); group.IsMulticast() {
		out.Input.Group = group
	}
	return out
}

// flowKeyOf is the key of a flow's entry.
func flowKeyOf(w *Flow) bpf.BridgeFlowKey {
	k := bpf.BridgeFlowKey{
		MacA: w.A.MAC, MacB: w.B.MAC, IpA: w.A.Address.As16(), IpB: w.B.Address.As16(),
		PortA: networkToHost16(w.A.Port), PortB: networkToHost16(w.B.Port), Protocol: w.Protocol,
	}
	for i, tag := range w.Tags {
		if i < len(k.Tags) {
			k.Tags[i] = tagOf(tag)
		}
	}
	return k
}

// ioTags writes the tags that say a VLAN, as io_tags in bpf/lib/io.h reads them.
func ioTags(tags []Tag) (out [2]uint16) {
	n := 0
	for _, tag := range tags {
		if tag.Identifier != 0 && n < len(out) {
			out[n] = tagOf(tag)
			n++
		}
	}
	return out
}

// tagOf writes a tag as keys hold it (TAG_* in bpf/types.h).
func tagOf(t Tag) uint16 {
	switch t.EtherType {
	case 0x88a8:
		return 0x2000 | t.Identifier
	case 0x9100:
		return 0x3000 | t.Identifier
	}
	return 0x1000 | t.Identifier
}

func tagsOf(list []uint16) []Tag {
	var tags []Tag
	for _, t := range list {
		if t != 0 {
			tags = append(tags, Tag{tagEtherType(t), t & 0x0fff})
		}
	}
	return tags
}

// networkWord is an IPv4 address as the fast path's keys hold it, in network byte order.
func networkWord(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func addressOfWord(w uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], w)
	return netip.AddrFrom4(b)
}
