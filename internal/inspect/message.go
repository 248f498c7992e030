package inspect

import (
	"slices"

	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Message is one protocol message and its verdict. What it says beyond its own fields is read
// out of the packet's bytes when asked, so it is valid only until the next call of Judge.
type Message struct {
	Direction stream.Direction // requests come from the initiator
	Protocol  policy.Protocol
	Verdict   verdict.Verdict
	// Layer is the protocol that the message is of where it is one that Protocol carries: "cip". ""
	// otherwise.
	Layer string
	// Envelope says that the message only carries the ones after it, which say what became of it: it is
	// not counted.
	Envelope bool
	// Malformed is why the bytes are no lawful message, "" if they are one.
	Malformed string

	body body
}

// body is a decoded message of some protocol.
type body interface {
	operation() string
	changes() bool
	detail() string
	fields() any
}

// ProtocolName is the name of the protocol that the message is of.
func (m *Message) ProtocolName() string {
	if m.Layer != "" {
		return m.Layer
	}
	return m.Protocol.String()
}

// Operation is the message's name, such as "write_single_register", and "" for bytes that are
// no message.
func (m *Message) Operation() string {
	if m.Malformed != "" || m.body == nil {
		return ""
	}
	return m.body.operation()
}

// Changes reports whether the message is a request that changes the device.
func (m *Message) Changes() bool { return m.body != nil && m.body.changes() }

// Detail says for people what the message is about, such as "unit 1 address 100-101", or why
// it is none. Equal accesses have equal details, so that denials can be grouped by it.
func (m *Message) Detail() string {
	if m.Malformed != "" {
		return m.Malformed
	}
	if m.body == nil {
		return ""
	}
	return m.body.detail()
}

// Fields returns the message's fields as a value that marshals to the JSON object of
// `penstock dissect`; nil for bytes that are no message.
func (m *Message) Fields() any {
	if m.Malformed != "" || m.body == nil {
		return nil
	}
	return m.body.fields()
}

// claimant is a body that may hold what a device says of itself.
type claimant interface {
	claim() (identity.Claim, bool)
}

// Claim returns what the sender of a response says of itself, and false where it says nothing. Its
// time is left to the caller.
func (m *Message) Claim() (identity.Claim, bool) {
	if m.Malformed != "" || m.Direction != stream.FromResponder {
		return identity.Claim{}, false
	}
	c, ok := m.body.(claimant)
	if !ok {
		return identity.Claim{}, false
	}
	return c.claim()
}

// messages is a bounded list of messages.
type messages struct {
	list       []Message
	unrecorded int
	denied     int  // of both
	closed     bool // the last place holds a denial that came after the list was full
}

func (l *messages) reset() { l.list, l.unrecorded, l.denied, l.closed = l.list[:0], 0, 0, false }

// stop gives every message that was permitted the verdict that stopped its segment.
func (l *messages) stop(v verdict.Verdict) {
	for i := range l.list {
		if l.list[i].Verdict.Allows() {
			l.list[i].Verdict = v
		}
	}
}

// leaveOutPermitted leaves only the messages that were denied.
func (l *messages) leaveOutPermitted() {
	l.list = slices.DeleteFunc(l.list, func(m Message) bool { return m.Verdict.Allows() })
	l.unrecorded = l.denied - len(l.list)
}

// takesLast reports whether a message with the verdict would take the last place of a full list:
// the first denial does, for it is what people look for.
func (l *messages) takesLast(v verdict.Verdict) bool {
	return len(l.list) > 0 && len(l.list) == cap(l.list) && !v.Allows() && !l.closed
}

// add records a message.
func (l *messages) add(m Message) {
	if !m.Verdict.Allows() {
		l.denied++
	}
	if len(l.list) < cap(l.list) {
		l.list = append(l.list, m)
		return
	}
	l.unrecorded++
	if l.takesLast(m.Verdict) {
		l.list[len(l.list)-1], l.closed = m, true
	}
}
