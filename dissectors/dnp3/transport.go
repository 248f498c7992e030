package dnp3

// MaxMessage is the longest message in bytes: what the standard lets a fragment have.
const MaxMessage = 2048

// TransportHeader is the first byte of a frame's user data (clause 8.2).
type TransportHeader uint8

// First and Final tell whether the segment begins and ends a message.
func (h TransportHeader) First() bool { return h&0x40 != 0 }

// Final tells whether the segment is a message's last.
func (h TransportHeader) Final() bool { return h&0x80 != 0 }

// Sequence is counted modulo 64 from segment to segment.
func (h TransportHeader) Sequence() uint8 { return uint8(h & 0x3f) }

// Assembly puts together the segments that one station sends to one other. It keeps no bytes: what
// has come of a message is with whoever owns the Assembly. The zero Assembly waits for a first
// segment.
type Assembly struct {
	// Within says that a message has begun and not ended.
	Within bool
	next   uint8
}

// Check judges whether a segment may come next. The standard lets a receiver throw away a segment
// out of sequence, and restart with a first one: over TCP nothing is lost, so a sender that does it
// wants two readers to read two messages.
func (a *Assembly) Check(h TransportHeader) error {
	switch {
	case h.First() && a.Within:
		return errRestart
	case !h.First() && !a.Within:
		return errOrphan
	case a.Within && h.Sequence() != a.next:
		return errSequence
	}
	return nil
}

// Accept notes that a whole segment has been taken, one that Check found right.
func (a *Assembly) Accept(h TransportHeader) {
	a.Within, a.next = !h.Final(), (h.Sequence()+1)&0x3f
}
