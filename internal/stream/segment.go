package stream

import "github.com/penstock-ot/penstock/internal/verdict"

// offerSegment takes a segment of a connection under way: no SYN, no RST, an ACK. The order is
// that of RFC 9293, section 3.10.7.4, so that nothing ends a connection that the receiver
// would not even look at: place, acknowledgment, then the segment itself.
func (c *Conn) offerSegment(d Direction, s *Segment) Outcome {
	h, peer := &c.half[d], &c.half[d.Other()]
	if why := h.unacceptable(s); why != verdict.ReasonNone {
		return discard(why)
	}
	if !peer.acknowledges(s.Ack) {
		return discard(verdict.ReasonTCPState)
	}
	if !permittedOptions(s.Options) {
		return end(verdict.ReasonTCPOption)
	}
	if s.Flags&URG != 0 {
		// The receiver takes the byte before the urgent pointer out of the stream, another one
		// than the one before that (RFC 6093, section 3), or none: no reading of it is right.
		return end(verdict.ReasonTCPState)
	}
	fresh, out := h.compare(s)
	if out.Disposition != Judge {
		return out
	}
	c.offer = offer{
		active: true, dir: d, flags: s.Flags, seq: s.Seq, ack: s.Ack, window: s.Window,
		payload: s.Payload, fresh: int32(fresh),
	}
	if fresh == 0 {
		c.commit(0)
		return forward()
	}
	if out := c.retain(h, s.Payload[len(s.Payload)-fresh:]); out.Disposition != Judge {
		c.offer = offer{}
		return out
	}
	return Outcome{Disposition: Judge, Fresh: fresh}
}

// unacceptable says why the receiver would not look at the segment for its place, or that it
// came too early.
func (h *half) unacceptable(s *Segment) verdict.Reason {
	ahead := int32(s.Seq - h.next)
	switch {
	case ahead < -farBehind:
		return verdict.ReasonTCPState
	case ahead <= 0:
		return verdict.ReasonNone
	case !h.within(s.Seq):
		return verdict.ReasonTCPState
	case len(s.Payload) == 0 && s.Flags&FIN == 0:
		return verdict.ReasonNone // an acknowledgment, sent behind bytes that were lost or refused
	}
	return verdict.ReasonStreamGap
}

// within reports whether a sequence number ahead of next lies in the receiver's window. The
// widest window counts: a receiver that shrinks it has to cope with what is under way.
func (h *half) within(seq uint32) bool {
	if !h.hasEdge {
		return int32(seq-h.next) < farBehind
	}
	return !after(seq, h.edge)
}

// acknowledges reports whether the receiver of h may acknowledge ack. RFC 5961, section 5, has
// the other end discard what lies outside of a range like this one.
func (h *half) acknowledges(ack uint32) bool {
	ahead := int32(ack - h.next)
	if ahead > 0 {
		return h.mayHaveMissed() && ahead < farBehind
	}
	return ahead >= -farBehind
}

// compare holds the segment against what was forwarded before. It returns Judge and the number
// of new bytes at the segment's end, which may be none; otherwise what to do with the segment.
func (h *half) compare(s *Segment) (fresh int, out Outcome) {
	last := s.Seq + uint32(len(s.Payload)) // after the last byte
	fin := s.Flags&FIN != 0
	if len(s.Payload) == 0 && !fin {
		return 0, Outcome{Disposition: Judge}
	}
	if h.coversAll(last, fin) {
		// The receiver has acknowledged all of it and will only acknowledge it again, which is
		// what a keep-alive is for. Its byte may be anything (RFC 1122, section 4.2.3.6).
		return 0, Outcome{Disposition: Judge}
	}
	written := h.next // after the last byte forwarded before
	if h.hasFIN {
		written = h.finAt
	}
	switch {
	case h.hasFIN && after(last, written): // data after FIN, or in its place
		return 0, end(verdict.ReasonTCPState)
	case fin && before(last, written): // FIN in the place of data
		return 0, end(verdict.ReasonStreamOverlap)
	}
	from := s.Seq
	if h.hasAcked {
		from = later(from, h.acked)
	}
	if to := earlier(last, written); before(from, to) {
		if before(from, h.kept.first) {
			// Sent before the connection was adopted, and not acknowledged as far as we know.
			return 0, discard(verdict.ReasonStreamGap)
		}
		if !h.kept.equal(from, s.Payload[from-s.Seq:to-s.Seq]) {
			return 0, end(verdict.ReasonStreamOverlap)
		}
	}
	if !after(last, written) {
		return 0, Outcome{Disposition: Judge}
	}
	fresh = int(last - written)
	if fresh > 1 && h.hasEdge && !before(written, h.edge) {
		return 0, discard(verdict.ReasonTCPState) // more than a probe of a closed window
	}
	return fresh, Outcome{Disposition: Judge}
}

// coversAll reports whether the receiver has acknowledged everything up to last, and the FIN
// there if the segment has one.
func (h *half) coversAll(last uint32, fin bool) bool {
	if fin {
		last++
	}
	return h.hasAcked && !after(last, h.acked)
}

// retain keeps the new bytes, within the limits. It returns Judge if it did.
func (c *Conn) retain(h *half, fresh []byte) Outcome {
	switch {
	case len(c.pending(h))+len(fresh) > int(c.maxPending):
		// What is pending cannot be dropped, and more than this is not taken: the message can
		// never be complete.
		c.memory.refused++
		return end(verdict.ReasonTableFull)
	case h.kept.size()+len(fresh) > int(c.perDirection) || !h.kept.append(c.memory, fresh):
		c.memory.refused++
		return discard(verdict.ReasonTableFull)
	}
	return Outcome{Disposition: Judge}
}
