package inspect

import (
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// sideOf returns where the end lives that sends in a direction.
func sideOf(f Flow, end stream.Direction) policy.Side {
	if end == stream.FromInitiator {
		return f.Initiator
	}
	return f.Initiator.Other()
}

// resetBoth returns a reset for each end of a connection, in the other one's name.
func (p *Pipeline) resetBoth(c *connection) []Reset {
	p.resetTo(c, stream.FromInitiator)
	return p.resetTo(c, stream.FromResponder)
}

// resetTo adds a reset for one end, with the sequence number that this end expects next: it
// honours no other (RFC 5961, section 3.2).
func (p *Pipeline) resetTo(c *connection, end stream.Direction) []Reset {
	if seq, ack, ok := c.stream.ResetFor(end); ok {
		p.inject(c.flow, end, &frame.TCPPacket{
			Src: c.ends[end.Other()], Dst: c.ends[end], Seq: seq, Ack: ack, Flags: frame.FlagRST | frame.FlagACK,
		})
	}
	return p.resets
}

// challenge returns the acknowledgment that the other end would have sent to this one.
func (p *Pipeline) challenge(c *connection, end stream.Direction) []Reset {
	if seq, ack, window, ok := c.stream.ChallengeFor(end); ok {
		p.inject(c.flow, end, &frame.TCPPacket{
			Src: c.ends[end.Other()], Dst: c.ends[end], Seq: seq, Ack: ack, Window: window, Flags: frame.FlagACK,
		})
	}
	return p.resets
}

// resetStranger returns resets for a packet of a connection that nothing is known of, so that
// its ends open another one instead of repeating themselves. The sender expects next what it
// acknowledged, the receiver presumably what was sent. A conduit that drops tells nobody, unless it
// asks for such connections to be reset.
func (p *Pipeline) resetStranger(pkt *Packet, flow Flow) []Reset {
	f := &p.frame
	conduit := &flow.Plan.Conduits[flow.Conduit]
	silent := conduit.OnDeny == policy.DenyDrop && conduit.OnJoin != policy.JoinReset
	if f.TCP.Flags&frame.FlagACK == 0 || silent {
		return nil
	}
	sender := stream.FromResponder
	if pkt.From == flow.Initiator {
		sender = stream.FromInitiator
	}
	source, destination := f.Source(), f.Destination()
	p.inject(flow, sender, &frame.TCPPacket{
		Src: destination, Dst: source, Seq: f.TCP.Ack, Ack: f.TCP.Seq + f.SegmentLength(), Flags: frame.FlagRST | frame.FlagACK,
	})
	p.inject(flow, sender.Other(), &frame.TCPPacket{
		Src: source, Dst: destination, Seq: f.TCP.Seq, Ack: f.TCP.Ack, Flags: frame.FlagRST | frame.FlagACK,
	})
	return p.resets
}

// inject builds a packet for one end into the pipeline's storage.
func (p *Pipeline) inject(flow Flow, end stream.Direction, t *frame.TCPPacket) {
	storage := &p.packets[1+int(end)]
	packet, err := frame.AppendTCP((*storage)[:0], t)
	if err != nil {
		return // addresses of two families: they came out of one packet, so this cannot be
	}
	*storage = packet
	p.resets = append(p.resets, Reset{To: sideOf(flow, end), IP: packet})
}

// edit returns the packet to forward in place of the one that came, or nil for that one: a
// repetition of a segment that went out edited goes out edited again, and a SYN loses the
// options that would let the receiver order or discard what was judged (Multipath TCP).
func (p *Pipeline) edit(c *connection, d stream.Direction) ([]byte, error) {
	f := &p.frame
	if payload := c.stream.Rewritten(d); payload != nil {
		packet := p.copyPacket()
		return packet, frame.SetTCPPayload(packet, payload)
	}
	if f.TCP.Flags&frame.FlagSYN == 0 || len(f.TCP.Options) == 0 {
		return nil, nil
	}
	packet := p.copyPacket()
	at := len(f.IPHeader) + 20
	changed, err := stream.EditSYNOptions(packet[at : at+len(f.TCP.Options)])
	if err != nil || changed == 0 {
		return nil, err
	}
	return packet, frame.FixTCPChecksum(packet)
}

// copyPacket returns a copy of the packet without its link padding, to be edited.
func (p *Pipeline) copyPacket() []byte {
	p.packets[0] = append(p.packets[0][:0], p.frame.IP...)
	return p.packets[0]
}
