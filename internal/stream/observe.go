package stream

import "github.com/penstock-ot/penstock/internal/verdict"

// Of what came early, an observer keeps this much for each direction.
const (
	maxEarlySegments = 64
	maxEarlyBytes    = 1 << 18
)

// earlySegment is a segment behind a gap, as an observer sees them: it cannot make the sender
// repeat it.
type earlySegment struct {
	seq  uint32
	data []byte
}

// observe takes a segment that has reached its receiver already. Nothing is held against it that
// comes from watching rather than standing in between: early segments are kept until the gap
// closes, and where the receiver has acknowledged bytes that never came by, or too much waits
// for them, the direction goes on after them, as an adopted one.
func (c *Conn) observe(d Direction, s *Segment) Outcome {
	h := &c.half[d]
	switch {
	case s.Flags&SYN != 0:
		return c.observeSYN(d, s)
	case s.Flags&RST != 0:
		c.state = Reset
		return forward()
	case !h.started:
		h.start(s.Seq)
		if c.state < Established {
			c.state = Established
		}
	case c.state == Opening || c.state == Answered:
		c.state = Established
	}
	missing := false
	if peer := &c.half[d.Other()]; s.Flags&ACK != 0 {
		missing = peer.started && after(s.Ack, peer.next)
		c.acknowledge(peer, s.Ack, uint32(s.Window)<<h.scale) // true even where the segment is early
	}
	if !permittedOptions(s.Options) {
		return end(verdict.ReasonTCPOption)
	}
	if s.Flags&URG != 0 {
		return end(verdict.ReasonTCPState)
	}
	c.offer = offer{
		active: true, dir: d, flags: s.Flags, seq: s.Seq, ack: s.Ack, window: s.Window, payload: s.Payload,
	}
	if out := c.gather(h, s, missing); out.Disposition != Forward {
		c.offer.active = out.Disposition == Judge
		return out
	}
	c.commit(0)
	return forward()
}

func (c *Conn) observeSYN(d Direction, s *Segment) Outcome {
	h, peer := &c.half[d], &c.half[d.Other()]
	if h.started && !h.adopted && h.isn == s.Seq {
		return forward()
	}
	restarted := h.started || c.state > Answered
	if s.Flags&ACK == 0 || restarted {
		c.forget()
		c.state = Opening
	}
	h.begin(s.Seq)
	if s.Flags&ACK != 0 {
		c.state = Answered
		if !peer.started {
			peer.begin(s.Ack - 1)
		}
	}
	out := forward()
	if len(s.Payload) > 0 {
		out = end(verdict.ReasonTCPState)
	}
	out.Restarted = restarted
	return out
}

// gather adds the segment's new bytes, and those that were waiting for them, to what is pending.
// It returns Judge if there are any, Forward if there are none. missing says that frames of the
// connection are known to be missing: the sender acknowledges bytes that never came by, so there
// is no point in waiting.
func (c *Conn) gather(h *half, s *Segment, missing bool) Outcome {
	before := h.kept.end()
	switch ahead := int32(s.Seq - h.next); {
	case len(s.Payload) == 0:
		return forward()
	case ahead < -farBehind || ahead > farBehind:
		return discard(verdict.ReasonTCPState)
	case ahead > 0 && !c.memory.reserve(len(s.Payload)):
		// No room to wait for what is missing: the direction goes on after the gap.
		c.dropEarly(h)
		c.jump(h, s.Seq)
		before = s.Seq
		if !c.take(h, s.Seq, s.Payload) {
			return c.overflow(h)
		}
	case ahead > 0:
		h.early = append(h.early, earlySegment{s.Seq, append([]byte(nil), s.Payload...)})
		if first := h.firstEarly(); missing || h.acknowledged(first) || h.earlyFull() {
			c.jump(h, first)
			before = first
		}
	case h.differs(s):
		return end(verdict.ReasonStreamOverlap)
	case !c.take(h, s.Seq, s.Payload):
		return c.overflow(h)
	}
	if !c.takeEarly(h) {
		return c.overflow(h)
	}
	fresh := int(h.kept.end() - before)
	c.offer.fresh = int32(fresh)
	switch {
	case fresh > 0:
		return Outcome{Disposition: Judge, Fresh: fresh}
	case after(s.Seq, h.next):
		return discard(verdict.ReasonStreamGap)
	}
	return forward()
}

// take appends what of data follows the bytes held. It reports false if that is too much.
func (c *Conn) take(h *half, seq uint32, data []byte) bool {
	known := int32(h.kept.end() - seq)
	if known >= int32(len(data)) {
		return true
	}
	data = data[known:]
	if h.kept.size()+len(data) > int(c.perDirection) {
		h.kept.drop(c.memory, h.pend) // nobody acknowledges here
	}
	return len(c.pending(h))+len(data) <= int(c.maxPending) && h.kept.append(c.memory, data)
}

// takeEarly takes every early segment that is no longer early.
func (c *Conn) takeEarly(h *half) bool {
	for i := 0; i < len(h.early); {
		e := h.early[i]
		if after(e.seq, h.kept.end()) {
			i++
			continue
		}
		h.early = append(h.early[:i], h.early[i+1:]...)
		c.memory.free(len(e.data))
		if !c.take(h, e.seq, e.data) {
			return false
		}
		i = 0
	}
	return true
}

// dropEarly forgets what came early.
func (c *Conn) dropEarly(h *half) {
	for _, e := range h.early {
		c.memory.free(len(e.data))
	}
	h.early = nil
}

// overflow gives the direction's pending bytes up.
func (c *Conn) overflow(h *half) Outcome {
	c.memory.refused++
	c.jump(h, h.kept.end())
	c.dropEarly(h)
	return end(verdict.ReasonTableFull)
}

// differs reports whether the segment repeats bytes that are still held, and not acknowledged,
// with others.
func (h *half) differs(s *Segment) bool {
	from := later(s.Seq, h.kept.first)
	if h.hasAcked {
		from = later(from, h.acked)
	}
	to := earlier(s.Seq+uint32(len(s.Payload)), h.kept.end())
	return before(from, to) && !h.kept.equal(from, s.Payload[from-s.Seq:to-s.Seq])
}

func (h *half) firstEarly() uint32 {
	first := h.early[0].seq
	for _, e := range h.early[1:] {
		first = earlier(first, e.seq)
	}
	return first
}

// acknowledged reports whether the receiver has everything before seq.
func (h *half) acknowledged(seq uint32) bool { return h.hasAcked && !before(h.acked, seq) }

func (h *half) earlyFull() bool {
	size := 0
	for _, e := range h.early {
		size += len(e.data)
	}
	return len(h.early) >= maxEarlySegments || size >= maxEarlyBytes
}
