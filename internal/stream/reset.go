package stream

import "github.com/penstock-ot/penstock/internal/verdict"

// offerReset takes an RST. It is forwarded if its sequence number is one that the receiver may
// expect next: between what the receiver has acknowledged and what was forwarded to it. The
// receiver decides whether it is the exact one; the connection is followed either way.
func (c *Conn) offerReset(d Direction, s *Segment) Outcome {
	if len(s.Payload) > 0 { // bytes that nobody judged (RFC 9293, section 3.10.7.4, on RST text)
		return discard(verdict.ReasonTCPState)
	}
	if !permittedOptions(s.Options) {
		return discard(verdict.ReasonTCPOption)
	}
	h := &c.half[d]
	switch {
	case c.state == Unseen:
		return forward() // an end cleans up; nothing is known, nothing is learnt
	case c.state == Opening:
		return c.offerResetWhileOpening(d, s)
	case !h.started || before(s.Seq, h.next) && (!h.hasAcked || before(s.Seq, h.acked)):
		return discard(verdict.ReasonTCPState)
	case after(s.Seq, h.next):
		// In the window the receiver would answer with a challenge ACK (RFC 5961, section 3.2),
		// unless it is old enough to believe it.
		out := discard(verdict.ReasonTCPState)
		out.Challenge = c.state != Ended && h.within(s.Seq)
		return out
	}
	if c.state != Ended {
		c.state = Reset
	}
	return forward()
}

func (c *Conn) offerResetWhileOpening(d Direction, s *Segment) Outcome {
	isn := c.half[FromInitiator].isn
	switch {
	case d == FromResponder && s.Flags&ACK != 0 && s.Ack == isn+1, // the port is closed
		d == FromInitiator && s.Seq == isn+1:
		c.state = Reset
		return forward()
	case d == FromInitiator && c.hasChallenge && s.Seq == c.challenged:
		return forward() // for the earlier connection, see staleAnswer
	}
	return discard(verdict.ReasonTCPState)
}
