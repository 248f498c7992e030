package replay

import (
	"bytes"
	"net/netip"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

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
	fragment  bool // shows no ports, so it is apart from what it is a piece of
}

// nameOf returns a frame's conversation and whether the sender is its low end. What is not IP is
// one-way, so there the sender always is.
func nameOf(f *frame.Frame) (n name, lowSends bool) {
	n = name{
		low: end{f.Src, f.SrcIP, f.SrcPort}, high: end{f.Dst, f.DstIP, f.DstPort},
		etherType: f.EtherType, protocol: f.Protocol, fragment: f.Fragment,
	}
	vlans := n.vlans[:0]
	for _, t := range f.Tags {
		if t.VLAN() != 0 && len(vlans) < len(n.vlans) {
			vlans = append(vlans, t.VLAN())
		}
	}
	switch {
	case f.IsARP:
		n.low.addr, n.high.addr = f.ARP.SenderIP, f.ARP.TargetIP
	case f.IPVersion == 0:
		n.protocol = f.DSAP
	case f.Fragment:
		n.low.port, n.high.port = 0, 0
	case f.IsICMP:
		n.low.port, n.high.port = icmpPair(f), icmpPair(f)
	}
	lowSends = f.IPVersion == 0 || n.low.compare(n.high) <= 0
	if !lowSends {
		n.low, n.high = n.high, n.low
	}
	return n, lowSends
}

// icmpPair returns one number for an echo request and its reply, and the type for others.
func icmpPair(f *frame.Frame) uint16 {
	const reply4, request4, reply6, request6 = 0, 8, 129, 128
	switch {
	case f.IPVersion == 4 && f.ICMPType == reply4:
		return request4
	case f.IPVersion == 6 && f.ICMPType == reply6:
		return request6
	}
	return uint16(f.ICMPType)
}

// conversation is one flow of a capture.
type conversation struct {
	key          uint64
	lowInitiates bool
	sum          [2][2]checksums // by direction, and of the SYN apart from the rest
	flow         inspect.Flow
	protocol     uses
}

// uses is what a conversation is taken for.
type uses uint8

const (
	usesUnknown    uses = iota
	usesInspection      // by the policy, or for Dissect by its port or its bytes
	usesOther
)

// checksums is what is known of a direction's sender.
type checksums uint8

const (
	checksumsUnknown checksums = iota
	checksumsFilled
	checksumsEmpty
)

// believe reports whether a packet is to be taken although its checksum is wrong. Senders exist that fill
// it in themselves in their SYN, and leave it to the network card from then on.
func (c *conversation) believe(d stream.Direction, f *frame.Frame) bool {
	class := 0
	if shows, _ := opens(f); shows {
		class = 1
	}
	sum := &c.sum[d][class]
	if *sum == checksumsUnknown {
		*sum = checksumsEmpty
		if f.ChecksumOK {
			*sum = checksumsFilled
		}
	}
	return *sum == checksumsEmpty
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
// initiator: a DNP3 frame says which of the two is the master; otherwise a well-known port is the
// responder's, or the lower one is.
func presumedInitiator(f *frame.Frame) bool {
	if sent, master := dnp3Sender(f.Payload); sent {
		return master
	}
	if wellKnown(f.SrcPort) != wellKnown(f.DstPort) {
		return wellKnown(f.DstPort)
	}
	return f.SrcPort >= f.DstPort
}
