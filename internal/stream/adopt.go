package stream

// adopt begins in mid-stream with the first segment seen, if that is not a SYN: the connection
// is older than we are. The segment's direction starts at its sequence number, the other one at
// its acknowledgment, which is the receiver's own word. No window scale is known, so the widest
// is assumed: windows serve to tell what the receiver would ignore, not to keep bytes out.
func (c *Conn) adopt(d Direction, s *Segment) Outcome {
	h, peer := &c.half[d], &c.half[d.Other()]
	h.start(s.Seq)
	peer.start(s.Ack)
	peer.acked, peer.hasAcked = s.Ack, true
	c.state, c.synchronised = Established, true
	out := c.offerSegment(d, s)
	switch out.Disposition {
	case Judge:
		c.offer.adopting = true
	case Discard:
		c.forget()
		c.state = Unseen
	}
	return out
}

// start begins a direction whose SYN was not seen.
func (h *half) start(seq uint32) {
	h.isn, h.next, h.pend, h.started = seq, seq, seq, true
	h.adopted, h.scale = true, widestScaling
	h.kept.begin(seq)
}

// Adopted reports whether the direction's bytes were joined in mid-stream and no message
// boundary has been found since.
func (c *Conn) Adopted(d Direction) bool { return d <= FromResponder && c.half[d].adopted }

// Resync says that the first byte of Pending begins a message. Where the boundary lies farther
// in, consume what is before it with Accept first.
func (c *Conn) Resync(d Direction) {
	if d <= FromResponder {
		c.half[d].adopted = false
	}
}

// mayHaveMissed reports whether the receiver may have bytes that were under way when the
// connection was adopted: as long as no boundary was found, or the receiver said nothing yet.
func (h *half) mayHaveMissed() bool { return h.adopted || !h.hasAcked }

// jump moves the direction to what the receiver says it expects, over bytes that never came
// past us.
func (c *Conn) jump(h *half, to uint32) {
	h.kept.release(c.memory)
	h.kept.begin(to)
	h.next, h.pend = to, to
	h.adopted = true
}
