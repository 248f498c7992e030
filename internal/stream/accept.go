package stream

// Pending returns the direction's bytes that were not yet consumed as whole messages. After a
// Judge they end with the offered segment's new ones. The slice is valid until the next call of
// Offer, Accept, AcceptEdited, Refuse, Resync, End or Close, and is not to be written to.
func (c *Conn) Pending(d Direction) []byte {
	if d > FromResponder {
		return nil
	}
	return c.pending(&c.half[d])
}

func (c *Conn) pending(h *half) []byte {
	if h.kept.size() == 0 {
		return nil
	}
	return h.kept.from(h.pend)
}

// Accept says that the segment under judgement is forwarded and that the first consumed bytes
// of Pending were whole messages. Send it as Rewritten says.
func (c *Conn) Accept(d Direction, consumed int) {
	if c.judging(d) {
		c.commit(consumed)
	}
}

// AcceptEdited is Accept for a segment that is forwarded with another payload of equal length.
// Only its new bytes can differ; those before them go as they went the first time, so send what
// Rewritten returns. Edit whole messages: bytes that stay pending are judged again as they came.
// Whoever repeats the original later has it edited in the same way, however it is cut. It
// reports false, and the segment counts as refused, if payload does not have the segment's length.
func (c *Conn) AcceptEdited(d Direction, consumed int, payload []byte) bool {
	if !c.judging(d) {
		return false
	}
	o := &c.offer
	if len(payload) != len(o.payload) {
		c.refuse()
		return false
	}
	h := &c.half[d]
	h.kept.replace(c.memory, payload[len(payload)-int(o.fresh):])
	h.edited = true
	c.commit(consumed)
	return true
}

// Refuse says that the segment under judgement is not forwarded. The state is as it was before
// it was offered.
func (c *Conn) Refuse(d Direction) {
	if c.judging(d) {
		c.refuse()
	}
}

// Rewritten returns the payload to forward in place of the segment's own, or nil if that is the
// one: after a Forward, and after Accept and AcceptEdited. Valid until the next Offer.
func (c *Conn) Rewritten(d Direction) []byte {
	if d != c.offer.dir {
		return nil
	}
	return c.rewritten
}

func (c *Conn) judging(d Direction) bool { return c.offer.active && c.offer.dir == d }

// refuse takes back what Offer did for the segment under judgement.
func (c *Conn) refuse() {
	o := &c.offer
	if !o.active {
		return
	}
	o.active = false
	c.half[o.dir].kept.truncate(c.memory, int(o.fresh))
	if o.adopting {
		c.forget()
		c.state = Unseen
	}
}

// commit takes what the forwarded segment says: its bytes, its FIN, its acknowledgment and its
// window.
func (c *Conn) commit(consumed int) {
	o := &c.offer
	o.active = false
	h, peer := &c.half[o.dir], &c.half[o.dir.Other()]

	h.next += uint32(o.fresh)
	h.pend += uint32(min(max(consumed, 0), len(c.pending(h))))
	if at := o.seq + uint32(len(o.payload)); o.flags&FIN != 0 && !h.hasFIN && at == h.next {
		h.hasFIN, h.finAt = true, at
		h.next++
	}
	c.rewrite(h) // before the bytes may be dropped
	if !h.hasAcked || !before(o.seq, h.acked) || after(o.seq+uint32(len(o.payload)), h.acked) {
		// The acknowledgment of a segment that lies wholly before what its receiver expects is
		// not taken (RFC 9293, section 3.10.7.4, first check): it may be a late one of an earlier
		// connection, and would let bytes go that the receiver has not got.
		h.window = o.window
		c.acknowledge(peer, o.ack, uint32(o.window)<<h.scale)
	}
	c.drop(h)
	c.advance(o.dir)
}

// acknowledge takes the receiver's acknowledgment and window for h.
func (c *Conn) acknowledge(h *half, ack, window uint32) {
	if after(ack, h.next) && !c.observed {
		c.jump(h, ack)
	}
	if !h.hasAcked || after(ack, h.acked) {
		h.acked, h.hasAcked = ack, true
	}
	if edge := ack + window; !h.hasEdge || after(edge, h.edge) {
		h.edge, h.hasEdge = edge, true
	}
	c.drop(h)
}

// drop forgets what can neither be repeated to any effect nor belongs to a message that is not
// complete.
func (c *Conn) drop(h *half) {
	if h.hasAcked {
		h.kept.drop(c.memory, earlier(h.acked, h.pend))
	}
}

// advance moves the state on after a forwarded segment without SYN and RST.
func (c *Conn) advance(d Direction) {
	if c.state == Answered && d == FromInitiator {
		c.state, c.synchronised = Established, true
	}
	i, r := &c.half[FromInitiator], &c.half[FromResponder]
	if c.state == Established && (i.hasFIN || r.hasFIN) {
		c.state = Closing
	}
	if c.state == Closing && i.finished() && r.finished() {
		c.state = Closed
	}
}

// finished reports whether the direction's FIN was acknowledged.
func (h *half) finished() bool { return h.hasFIN && h.hasAcked && h.acked == h.finAt+1 }

// rewrite sets what is forwarded in place of the segment's payload where that differs. In a
// direction that was ever edited, bytes that the receiver has acknowledged and that are no
// longer held go as zeros: the receiver does not take them, and the original of an edited
// message never gets to its wire.
func (c *Conn) rewrite(h *half) {
	o := &c.offer
	if !h.edited || len(o.payload) == 0 {
		return
	}
	payload := make([]byte, len(o.payload))
	first, last := o.seq, o.seq+uint32(len(o.payload))
	from, to := later(first, h.kept.first), earlier(last, h.kept.end())
	if before(from, to) {
		h.kept.forwarded(from, payload[from-first:to-first])
	}
	c.rewritten = payload
}
