package stream

import "github.com/penstock-ot/penstock/internal/verdict"

// offerSYN takes a SYN or SYN-ACK.
func (c *Conn) offerSYN(d Direction, s *Segment) Outcome {
	switch {
	case d == FromResponder && s.Flags&ACK != 0:
		return c.offerSYNACK(s)
	case d == FromResponder || s.Flags&ACK != 0:
		// A SYN of the responder's would be a simultaneous open or a connection against the
		// conduit's direction; a SYN-ACK of the initiator's answers one.
		return discard(verdict.ReasonTCPState)
	}
	switch c.state {
	case Established, Closing:
		// A receiver answers with a challenge ACK and stays (RFC 5961, section 4), or, an old
		// one, starts over and leaves us with another idea of what comes next.
		out := discard(verdict.ReasonTCPState)
		out.Challenge = true
		return out
	case Opening, Answered:
		if s.Seq == c.half[FromInitiator].isn {
			return c.repeatSYN(s)
		}
	}
	return c.open(s)
}

// open begins a connection with the initiator's SYN. It does so also where the responder may
// still be in an earlier connection, because its RST or ours was lost: no payload flows before
// a SYN-ACK shows that the responder has left it.
func (c *Conn) open(s *Segment) Outcome {
	restarted := c.state != Unseen
	previous, uncertain := [2]uint32{c.half[0].isn, c.half[1].isn}, c.synchronised && c.state != Closed
	if !uncertain {
		previous, uncertain = c.previous, c.hasPrevious
	}
	c.forget()
	c.previous, c.hasPrevious = previous, uncertain
	c.state = Opening
	h := &c.half[FromInitiator]
	h.begin(s.Seq)
	h.window = s.Window
	out := c.repeatSYN(s)
	out.Restarted = restarted
	return out
}

// repeatSYN takes the SYN, which may be repeated with fewer options until it is answered.
func (c *Conn) repeatSYN(s *Segment) Outcome {
	scale, hasScale, err := synOptions(s.Options)
	if err != nil {
		return end(verdict.ReasonTCPOption)
	}
	if len(s.Payload) > 0 {
		// Fast Open (RFC 7413): the receiver may take the bytes or leave them.
		return end(verdict.ReasonTCPState)
	}
	h := &c.half[FromInitiator]
	h.scale, h.hasScale = max(h.scale, scale), h.hasScale || hasScale
	return forward()
}

// offerSYNACK takes the responder's SYN-ACK.
func (c *Conn) offerSYNACK(s *Segment) Outcome {
	i, r := &c.half[FromInitiator], &c.half[FromResponder]
	answers := s.Ack == i.isn+1
	switch {
	case c.state == Opening && !answers:
		return c.staleAnswer(s)
	case c.state == Opening && c.hasPrevious && c.previous == [2]uint32{i.isn, s.Seq}:
		// A late repetition of the answer to an earlier SYN with the same number. It does not
		// say that the responder has left that connection.
	case c.state == Opening:
		return c.answer(s)
	case c.state == Answered, c.state == Established && !i.adopted && i.acked == i.isn+1 && r.next == r.isn+1:
		// The same again, because the SYN-ACK or the initiator's ACK was lost behind us.
		if answers && s.Seq == r.isn {
			if _, _, err := synOptions(s.Options); err != nil {
				return end(verdict.ReasonTCPOption)
			}
			if len(s.Payload) == 0 {
				return forward()
			}
		}
	case c.state == Ended:
		return discard(verdict.ReasonConnectionEnded)
	}
	return discard(verdict.ReasonTCPState)
}

// answer takes the SYN-ACK that acknowledges the initiator's SYN. From it we know what the
// responder expects next, from itself.
func (c *Conn) answer(s *Segment) Outcome {
	i, r := &c.half[FromInitiator], &c.half[FromResponder]
	scale, hasScale, err := synOptions(s.Options)
	if err != nil {
		return end(verdict.ReasonTCPOption)
	}
	if len(s.Payload) > 0 {
		return end(verdict.ReasonTCPState)
	}
	r.begin(s.Seq)
	r.window = s.Window
	if r.scale, r.hasScale = scale, hasScale; !i.hasScale || !r.hasScale {
		i.scale, r.scale = 0, 0 // windows are scaled in both directions or in none (RFC 7323)
	}
	i.acked, i.hasAcked = s.Ack, true
	i.edge, i.hasEdge = s.Ack+uint32(s.Window), true // the window of a SYN is never scaled
	r.edge, r.hasEdge = r.next+uint32(i.window), true
	c.state = Answered
	return forward()
}

// staleAnswer takes an answer to a SYN that acknowledges something else: the responder is
// still in an earlier connection. The initiator refutes it with an RST (RFC 9293, section
// 3.10.7.3), which ends that connection; then the SYN is repeated.
func (c *Conn) staleAnswer(s *Segment) Outcome {
	if len(s.Payload) > 0 || s.Flags&(FIN|URG) != 0 {
		return discard(verdict.ReasonTCPState)
	}
	if _, _, err := synOptions(s.Options); err != nil || s.Flags&SYN == 0 && !permittedOptions(s.Options) {
		return discard(verdict.ReasonTCPOption)
	}
	c.challenged, c.hasChallenge = s.Ack, true
	return forward()
}

// offerWhileOpening takes a segment without SYN and RST before the SYN was answered.
func (c *Conn) offerWhileOpening(d Direction, s *Segment) Outcome {
	if d == FromResponder && s.Ack != c.half[FromInitiator].isn+1 {
		return c.staleAnswer(s)
	}
	return discard(verdict.ReasonTCPState)
}

// offerWhileAnswered takes a segment without SYN and RST before the initiator acknowledged the
// SYN-ACK, which is what the first of its own has to do. Until then we do not know what the
// initiator expects next: it may be in an earlier connection.
func (c *Conn) offerWhileAnswered(d Direction, s *Segment) Outcome {
	if d == FromResponder || s.Ack != c.half[FromResponder].next {
		return discard(verdict.ReasonTCPState)
	}
	return c.offerSegment(d, s)
}

// begin starts a direction at its sender's SYN.
func (h *half) begin(isn uint32) {
	h.isn, h.next, h.pend, h.started = isn, isn+1, isn+1, true
	h.kept.begin(isn + 1)
}
