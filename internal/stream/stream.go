package stream

import (
	"fmt"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// Direction says which end sent a segment. The initiator is the end whose SYN without ACK
// opens the connection, or would have, for a connection adopted in mid-stream.
type Direction uint8

// The directions.
const (
	FromInitiator Direction = iota
	FromResponder
)

// Other returns the opposite direction.
func (d Direction) Other() Direction { return d ^ 1 }

// String returns "from_initiator" or "from_responder".
func (d Direction) String() string {
	switch d {
	case FromInitiator:
		return "from_initiator"
	case FromResponder:
		return "from_responder"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// The TCP flags that matter here. ECE and CWR (64 and 128) are of no consequence for what the
// receiver accepts and pass.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Segment is one TCP segment whose checksum has been found right. All numbers are in host
// byte order. Options and Payload alias the packet; Offer does not write to them.
type Segment struct {
	Seq, Ack uint32
	Flags    uint8
	Window   uint16 // as on the wire, not yet scaled
	Urgent   uint16 // meaningless without URG
	Options  []byte // the option bytes of the header, padding included
	Payload  []byte // at most 65535 bytes
}

// Disposition is what to do with an offered segment. The zero value discards: a forgotten
// assignment closes.
type Disposition uint8

// The dispositions.
const (
	// Discard drops just this segment. The connection goes on; what was lawful is repeated.
	Discard Disposition = iota
	// Forward sends the segment on (see Rewritten): it holds no byte that has not been judged. A
	// SYN or SYN-ACK goes through EditSYNOptions first.
	Forward
	// Judge means that the segment ends in Fresh new bytes. Look at Pending, then call Accept
	// or AcceptEdited and send the segment on (see Rewritten), or call Refuse and drop it.
	Judge
	// End drops the segment and ends the connection, as if Conn.End had been called: send what
	// ResetFor says to both ends.
	End
)

// String returns the disposition in lower case.
func (d Disposition) String() string {
	switch d {
	case Discard:
		return "discard"
	case Forward:
		return "forward"
	case Judge:
		return "judge"
	case End:
		return "end"
	}
	return fmt.Sprintf("disposition(%d)", uint8(d))
}

// Outcome is Offer's answer. Reason is set for Discard and End, otherwise it is ReasonNone.
type Outcome struct {
	Disposition Disposition
	Reason      verdict.Reason

	// Fresh is the number of new bytes at the end of Pending, for Judge only. It is at most the
	// payload's length, except on an observed connection, where the bytes of segments that came
	// early follow the ones that they were waiting for.
	Fresh int

	// Restarted says that a SYN began another connection on this Conn. Whoever keeps state
	// about the messages of the previous one starts anew.
	Restarted bool

	// Challenge says that the receiver would have answered the discarded segment with a
	// challenge ACK (RFC 5961). ChallengeFor gives its numbers; sending one lets an end that
	// restarted with the same port, or aborted behind a gap, resolve its half-open connection.
	// Not sending it is safe.
	Challenge bool
}

func forward() Outcome                   { return Outcome{Disposition: Forward} }
func discard(why verdict.Reason) Outcome { return Outcome{Disposition: Discard, Reason: why} }
func end(why verdict.Reason) Outcome     { return Outcome{Disposition: End, Reason: why} }

// State is how far a connection has come.
type State uint8

// The states. Payload is judged in Established, Closing, Closed and Reset: the last two do not
// refuse it once the connection was established, because the segments that led there may have
// been lost behind us and the receivers may still be listening.
const (
	Unseen      State = iota // nothing seen yet
	Opening                  // the initiator's SYN was forwarded
	Answered                 // the responder's SYN-ACK was forwarded
	Established              // the initiator acknowledged it, or the connection was adopted
	Closing                  // a FIN was forwarded
	Closed                   // both FINs were forwarded and acknowledged
	Reset                    // an RST that its receiver should honour was forwarded
	Ended                    // ended by us; only a new SYN leads out of it
)

var stateNames = [...]string{"unseen", "opening", "answered", "established", "closing", "closed", "reset", "ended"}

// String returns the state in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Limits bound one connection. The zero value means the defaults.
type Limits struct {
	// PerDirection is the most bytes kept for one direction: forwarded and not acknowledged,
	// or part of a message that is not complete. Segments over it are discarded as table_full
	// until the receiver acknowledges. 0 means 128 KiB; it is kept within what Pending and one
	// segment of the largest size need, and 512 KiB.
	PerDirection int
	// Pending is the most bytes of a message that is not complete. A message that needs more
	// ends the connection as table_full. 0 means 64 KiB, which is also the most.
	Pending int
	// Memory is where buffers come from, shared by the connections of one goroutine. Nil gives
	// the connection an account of its own.
	Memory *Memory
	// Observed says that segments have reached their receivers already (copies in observe mode,
	// capture files). Nothing is held against a segment that the observer merely missed, and
	// End is a finding, not an act: the connection is followed further. Accept every Judge,
	// whatever the verdict; a stream_gap is no finding about the traffic.
	Observed bool
}

const (
	maxSegment    = 1 << 16
	maxPending    = 1 << 16
	farBehind     = 1 << 30 // farther than any window reaches (RFC 7323, section 2.3)
	widestScaling = 14      // RFC 7323, section 2.3
)

// Conn is one TCP connection, both directions. Create it with New and give its buffers back
// with Close.
type Conn struct {
	memory       *Memory
	perDirection int32
	maxPending   int32
	state        State
	observed     bool
	synchronised bool // both ends have acknowledged where the other starts

	// challenged is the acknowledgment of an answer that belongs to an earlier connection, which
	// the initiator may refute with an RST of that sequence number. Valid if hasChallenge.
	challenged   uint32
	hasChallenge bool

	// previous are the initial sequence numbers, by direction, of the connection before this one
	// where that may still be open at the responder. Valid if hasPrevious.
	previous    [2]uint32
	hasPrevious bool

	half      [2]half // by the direction in which the bytes flow
	offer     offer
	rewritten []byte
}

// half is one direction's byte stream: what its sender sent and its receiver said of it.
type half struct {
	isn   uint32
	next  uint32 // the lowest sequence number not yet forwarded
	acked uint32 // the receiver's highest acknowledgment; valid if hasAcked
	edge  uint32 // the end of the widest window that the receiver offered; valid if hasEdge
	finAt uint32 // the FIN's own sequence number; valid if hasFIN
	pend  uint32 // where the first message that is not complete begins

	resetAt uint32 // what the receiver expects next, as far as known; valid once ended

	window   uint16 // the last window that the sender announced for the other direction, unscaled
	scale    uint8  // the shift of those windows
	hasScale bool   // the sender's SYN carried a window scale
	started  bool   // next is known
	hasAcked bool
	hasEdge  bool
	hasFIN   bool
	adopted  bool // no message boundary is known yet
	edited   bool // bytes of this direction were replaced at some time

	kept  retained
	early []earlySegment // observed connections only
}

// offer is the segment under judgement.
type offer struct {
	payload  []byte
	seq, ack uint32
	fresh    int32
	window   uint16
	dir      Direction
	flags    uint8
	active   bool
	adopting bool // the connection was adopted by this very segment
}

// New returns a connection of which nothing has been seen.
func New(limits Limits) *Conn {
	c := &Conn{memory: limits.Memory, observed: limits.Observed}
	if c.memory == nil {
		c.memory = NewMemory(0)
	}
	pending := limits.Pending
	if pending <= 0 || pending > maxPending {
		pending = maxPending
	}
	perDirection := limits.PerDirection
	if perDirection <= 0 {
		perDirection = maxPending + maxSegment
	}
	perDirection = min(max(perDirection, pending+maxSegment), largestBuffer)
	c.maxPending, c.perDirection = int32(pending), int32(perDirection)
	return c
}

// State returns how far the connection has come.
func (c *Conn) State() State { return c.state }

// Finished reports whether the direction's FIN was forwarded.
func (c *Conn) Finished(d Direction) bool { return c.half[d].hasFIN }

// Offer takes the connection's next segment, in the order in which the segments arrived, and
// says what to do with it. An earlier offer that was neither accepted nor refused counts as
// refused. A Forward has happened as far as the connection is concerned.
func (c *Conn) Offer(d Direction, s *Segment) Outcome {
	c.refuse()
	c.rewritten = nil
	if d > FromResponder || len(s.Payload) >= maxSegment {
		return discard(verdict.ReasonTCPState)
	}
	if c.observed {
		return c.observe(d, s)
	}
	out := c.enforce(d, s)
	if out.Disposition == End {
		c.End()
	}
	return out
}

func (c *Conn) enforce(d Direction, s *Segment) Outcome {
	if !lawfulFlags(s.Flags) {
		return discard(verdict.ReasonTCPState)
	}
	switch {
	case s.Flags&SYN != 0:
		return c.offerSYN(d, s)
	case s.Flags&RST != 0:
		return c.offerReset(d, s)
	}
	switch c.state {
	case Unseen:
		return c.adopt(d, s)
	case Opening:
		return c.offerWhileOpening(d, s)
	case Answered:
		return c.offerWhileAnswered(d, s)
	case Ended:
		c.noteExpectation(d, s)
		return discard(verdict.ReasonConnectionEnded)
	}
	if !c.synchronised { // reset before it was established
		return discard(verdict.ReasonTCPState)
	}
	return c.offerSegment(d, s)
}

// lawfulFlags reports whether a receiver's reaction to the combination is defined. Receivers
// differ over the others, which only exist to find out how. Data without ACK is one: RFC 9293
// drops it, and stacks exist that take it.
func lawfulFlags(flags uint8) bool {
	switch flags & (FIN | SYN | RST) {
	case 0, FIN:
		return flags&ACK != 0
	case SYN:
		return flags&URG == 0
	case RST:
		return flags&URG == 0
	}
	return false
}

// Close gives the connection's buffers back. The connection is as new afterwards.
func (c *Conn) Close() {
	c.offer = offer{}
	c.rewritten = nil
	c.forget()
	c.state = Unseen
}

// forget drops everything known of both directions.
func (c *Conn) forget() {
	for d := range c.half {
		c.half[d].kept.release(c.memory)
		c.dropEarly(&c.half[d])
		c.half[d] = half{}
	}
	c.hasChallenge = false
	c.hasPrevious = false
	c.synchronised = false
}
