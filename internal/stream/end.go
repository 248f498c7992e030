package stream

// End ends the connection: from now on nothing of it is forwarded but an RST of its own ends',
// and everything else is discarded as connection_ended, until a SYN begins another one. Send
// what ResetFor says to both ends, and again whenever an end goes on sending. On an observed
// connection End does nothing.
func (c *Conn) End() {
	if c.observed || c.state == Ended {
		return
	}
	c.offer.adopting = false // what it began, ends here
	c.refuse()
	for d := range c.half {
		h := &c.half[d]
		h.resetAt = h.next
		h.kept.release(c.memory)
	}
	c.state = Ended
}

// noteExpectation takes an acknowledgment that arrives after the end: a challenge ACK names the
// exact number that the RST has to carry (RFC 5961, section 3.2).
func (c *Conn) noteExpectation(d Direction, s *Segment) {
	h := &c.half[d.Other()]
	if h.started && !after(s.Ack, h.next) && (!h.hasAcked || !before(s.Ack, h.acked)) {
		h.resetAt = s.Ack
	}
}

// ResetFor returns the numbers of an RST with ACK, in the peer's name, that the named end
// (FromInitiator: the initiator) honours: its sequence number is the one that the end expects
// next. Not ok if there is none, because the end has not been heard of.
func (c *Conn) ResetFor(to Direction) (seq, ack uint32, ok bool) {
	if to > FromResponder || !c.half[to].started {
		return 0, 0, false
	}
	h, peer := &c.half[to], &c.half[to.Other()]
	if !peer.started {
		// The initiator is waiting for a SYN-ACK: the acknowledgment makes the RST valid (RFC
		// 9293, section 3.10.7.3).
		return 0, h.next, true
	}
	if c.state == Ended {
		return peer.resetAt, h.next, true
	}
	return peer.next, h.next, true
}

// ChallengeFor returns the numbers of the challenge ACK that the peer would send to the named
// end (see Outcome.Challenge), window unscaled. It acknowledges only what the peer has
// acknowledged itself. Not ok if that is not known.
func (c *Conn) ChallengeFor(to Direction) (seq, ack uint32, window uint16, ok bool) {
	if to > FromResponder {
		return 0, 0, 0, false
	}
	h, peer := &c.half[to], &c.half[to.Other()]
	return peer.next, h.acked, peer.window, h.hasAcked && peer.started
}
