package inspect

import (
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// dissector is one protocol's part of the pipeline: it opens the sessions and holds what they
// share. Nothing of it is used by two goroutines at a time.
type dissector interface {
	// open begins a session for a conversation of which nothing was seen. It is nil if the protocol
	// does not run over the conversation's transport.
	open(opening) session
	// begin starts a new packet: what messages of the last one pointed to may be used again.
	begin()
}

// opening is what a dissector is told of a new conversation.
type opening struct {
	share *share // to which what the session keeps is counted
	// datagrams says that each read begins at a UDP datagram's first byte or behind a message of
	// it, and that nothing follows the datagram's last byte; otherwise it is TCP.
	datagrams bool
	ends      [2]netip.AddrPort // by the direction in which they send
}

// session is what one protocol keeps of one connection, or of the datagrams between two ends, both
// directions.
type session interface {
	// read judges the message that b begins with. b holds everything not read yet in that
	// direction, at least one byte.
	read(r *reading, d stream.Direction, b []byte) step
	// misaligned says why b is not one or more whole, lawful messages and nothing else, and is
	// "" if it is.
	misaligned(d stream.Direction, b []byte) string
	// joined says that messages before the ones to come were not seen.
	joined(now time.Time)
	// commit keeps what the reads since the last commit did: the segment was forwarded.
	// rollback forgets it: it was dropped, and its sender will repeat it.
	commit()
	rollback()
	// flushing reports whether the device may throw away what it is sent, so that only whole
	// messages may reach it; fenced, whether nothing at all may leave for now. Both are about
	// the initiator's direction.
	flushing() bool
	fenced() bool
	// sweep forgets what has waited for too long. It returns why a request was refused whose
	// refusal the device owes for too long, ReasonNone if there is none.
	sweep(now time.Time) verdict.Reason
	// close forgets everything; the session is as new.
	close()
}

// step is what a session made of one message.
type step struct {
	size    int             // of the whole message, in bytes; 0 if the end is not known or not here yet
	verdict verdict.Verdict // whether its bytes may leave, as they came or as edited
	// edited is what leaves in place of the message's bytes, of the whole message or as many as
	// are here: the message was refused in the protocol's own terms, or is such a refusal. Nil if
	// they leave as they came. Valid until the session reads again.
	edited []byte
}

// reading is what a session needs to judge the bytes of one segment.
type reading struct {
	now      time.Time
	plan     *policy.Plan
	rates    *policy.Rates
	conduit  uint32
	flow     Flow
	key      uint64 // names the flow
	fresh    int    // how many bytes, the last of all, are new; the others have left
	observed bool   // every byte was forwarded already
	// exceptions says that denied messages are to be refused in the protocol's own terms.
	exceptions bool
	messages   *messages
	counters   *ConduitCounters
	// waits says that there is no room for what the segment's requests leave behind, once measured.
	measured, waits bool
	permitted       int // messages that are not counted before it is known whether they leave
}

// record notes and counts a message.
func (r *reading) record(m Message) {
	switch {
	case m.Envelope:
	case m.Verdict.Allows():
		r.permitted++
	default:
		r.counters.messages(m.Verdict, 1)
	}
	r.messages.add(m)
}

// settle says what became of the segment. A permitted message that did not leave, because another
// in its segment was denied, shares the denial: nobody is to be told of a write that was permitted
// and never made. Of a segment that waits the messages come again, and count then.
func (r *reading) settle(v verdict.Verdict) {
	switch {
	case r.observed || v.Allows():
		r.counters.messages(verdict.Permitted, r.permitted)
	case v.Reason == verdict.ReasonTableFull:
		r.messages.leaveOutPermitted()
	default:
		r.counters.messages(v, r.permitted)
		r.messages.stop(v)
	}
}
