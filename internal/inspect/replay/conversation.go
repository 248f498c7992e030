package replay

import (
	"bytes"
	"net/netip"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// modbusPort is where Modbus/TCP is looked for without further proof.
const modbusPort = 502

// end is one end of a conversation, as its frames show it.
type end struct {
	mac  [6]byte
	addr netip.Addr
	port uint16
}

// compare orders ends, so that both directions of a conversation have one name.
func (e end) compare(o end) int {
	if c := e.addr.Compare(o.addr); c != 0 {
		return c
	}
	if e.port != o.port {
		return int(e.port) - int(o.port)
	}
	return bytes.Compare(e.mac[:], o.mac[:])
}

// name is what tells conversations apart: both ends with their MAC addresses, the VLANs, and the
// protocol (or the EtherType of what is not IP).
type name struct {
	low, high end
	vlans     [2]uint16 // of the two outermost tags, priority tags left out
	etherType uint16
	protocol  uint8
}

// nameOf returns a frame's conversation and whether the sender is its low end.
func nameOf(f *frame.Frame) (n name, lowSends bool) {
	src := end{f.Src, f.SrcIP, f.SrcPort}
	dst := end{f.Dst, f.DstIP, f.DstPort}
	n = name{low: src, high: dst, etherType: f.EtherType, protocol: f.Protocol}
	vlans := n.vlans[:0]
	for _, t := range f.Tags {
		if t.VLAN() != 0 && len(vlans) < len(n.vlans) {
			vlans = append(vlans, t.VLAN())
		}
	}
	lowSends = src.compare(dst) <= 0
	if !lowSends {
		n.low, n.high = dst, src
	}
	return n, lowSends
}

// conversation is one flow of a capture.
type conversation struct {
	key          uint64
	lowInitiates bool
	sum          [2]checksums
	flow         inspect.Flow
	protocol     uses
}

// uses is what a conversation is taken for.
type uses uint8

const (
	usesUnknown uses = iota
	usesModbus
	usesOther
)

// checksums is what is known of a direction's sender.
type checksums uint8

const (
	checksumsUnknown checksums = iota
	checksumsFilled
	checksumsEmpty
)

// believe reports whether a packet is to be taken although its checksum is wrong.
func (c *conversation) believe(d stream.Direction, f *frame.Frame) bool {
	if c.sum[d] == checksumsUnknown {
		c.sum[d] = checksumsEmpty
		if f.ChecksumOK {
			c.sum[d] = checksumsFilled
		}
	}
	return c.sum[d] == checksumsEmpty
}

// direction returns which end of the conversation sends.
func (c *conversation) direction(lowSends bool) stream.Direction {
	if lowSends == c.lowInitiates {
		return stream.FromInitiator
	}
	return stream.FromResponder
}

// side returns the port that a frame of the direction would have come in at.
func (c *conversation) side(d stream.Direction) policy.Side {
	if d == stream.FromInitiator {
		return c.flow.Initiator
	}
	return c.flow.Initiator.Other()
}

// opens reports whether a segment shows who initiates, and whether that is its sender.
func opens(f *frame.Frame) (shows, sender bool) {
	if !f.IsTCP || f.TCP.Flags&frame.FlagSYN == 0 {
		return false, false
	}
	return true, f.TCP.Flags&frame.FlagACK == 0
}

// presumedInitiator reports whether the sender of a frame of mid-conversation is taken for the
// initiator: a well-known port is the responder's, otherwise the lower one is.
func presumedInitiator(f *frame.Frame) bool {
	if (f.SrcPort == modbusPort) != (f.DstPort == modbusPort) {
		return f.DstPort == modbusPort
	}
	return f.SrcPort >= f.DstPort
}
