package queue

import (
	"context"
	"time"
)

// Packet is one queued packet. It and every slice in it belong to the queue and are valid only
// until the handler returns; the slices may be written to.
type Packet struct {
	ID   uint32 // the kernel's number for it in this queue: sequential, wraps around
	Mark uint32 // the mark it carried into the queue, 0 if none
	Hook uint8  // the netfilter hook it waits in (NF_INET_FORWARD is 2)
	IPv6 bool   // Payload begins with an IPv6 header, else IPv4

	// Interface indexes, 0 where there is none. The devices are those routing sees (the bridge);
	// the ports are the bridge ports behind them.
	InDevice, OutDevice uint32
	InPort, OutPort     uint32

	HardwareAddress []byte // the frame's source address, nil for packets made on this host
	LinkHeader      []byte // the link-layer header, only where the kernel sends it (bridge family)
	VLAN            VLAN

	// Payload is the packet from its IP header on, up to 65531 bytes of it; Length is how long
	// the packet is in the kernel. Truncated says that Payload is not the whole packet.
	Payload   []byte
	Length    uint32
	Truncated bool

	// Received is when the loop took it out of the socket, or began on the slice of its batch that it
	// is in: reading the clock for each packet would take longer than looking up its connection.
	Received time.Time

	// GSO marks a packet larger than the link carries that the kernel will cut into segments
	// after the verdict: one IP header whose length may exceed any frame.
	GSO bool
	// ChecksumNotReady marks a packet whose transport checksum is filled in only on its way
	// out (made on this host, or received with checksum offload): what stands in Payload is not
	// a wrong checksum. Whoever edits such a packet has to write a complete checksum, because
	// the kernel does not fill it in after an edit.
	ChecksumNotReady bool
	// ChecksumNotVerified marks a packet whose checksum no hardware has looked at.
	ChecksumNotVerified bool
}

// VLAN is a tag that the kernel took off the frame. The zero VLAN is no tag.
type VLAN struct {
	Protocol uint16 // the tag's EtherType, 0x8100 or 0x88a8, in host order
	TCI      uint16 // priority, drop eligible and VLAN identifier, in host order
}

// Answer is what becomes of a packet. The zero Answer drops it.
type Answer struct {
	Accept bool
	// Mark replaces the packet's mark, also when it is 0. Only for accepted packets.
	Mark uint32
	// Payload replaces the whole packet, from its IP header on; nil leaves it as it came. It is
	// copied before the next packet is handled, so it may be the packet's own Payload, edited.
	// An edit of a truncated packet, or one that no IP packet fits into, drops the packet.
	Payload []byte
}

// Handler decides on one packet. It is called from one goroutine, one packet at a time, and
// holds up every packet behind it while it runs. If it panics its packet is dropped.
type Handler func(*Packet) Answer

// Source is where packets to be judged come from: a kernel queue, or a [Fake] in tests.
type Source interface {
	// Run hands packets to the handler until ctx ends (then it returns nil), the source is
	// closed, or the source fails. It may be called once.
	Run(ctx context.Context, handle Handler) error
	// Stats returns what happened so far. Safe to call from any goroutine at any time.
	Stats() (Stats, error)
	// Close ends Run and releases everything. A second Close is harmless.
	Close() error
}
