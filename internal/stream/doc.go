// Package stream follows one TCP connection the way an inline enforcer has to: for each
// direction it yields exactly the bytes that the receiver will accept, in order, and it lets no
// other byte reach the receiver.
//
// It rests on one rule. A payload byte is forwarded at a sequence number only if it is the byte
// that was judged at that sequence number, or if the receiver has already acknowledged that
// number and therefore trims it (RFC 9293, section 3.10.7.4). Bytes are kept until the receiver
// acknowledges them, so that every repetition can be compared. Whatever the receiver does with
// overlaps (first wins, last wins), whatever it discards (an old timestamp, RFC 7323 PAWS; a
// segment over its window; a frame lost behind us), it assembles the judged bytes or fewer,
// never others. That is also why timestamps are not followed: a segment that PAWS makes the
// receiver discard is repeated by its sender, and the repetition has to carry the same bytes.
//
// The second rule: a connection is ended only over a segment that the receiver would have acted
// on. What lies outside its window is discarded and changes nothing, or a blind sender behind a
// router could end connections that are not its own (RFC 5961).
//
// The third: state is taken from what the receiver says of itself. Payload flows only after the
// SYN-ACK has acknowledged the initiator's SYN and the initiator has acknowledged that SYN-ACK,
// so both starting points are the receivers' own; an RST is forwarded but never relied upon.
//
// The states, with what each kind of segment leads to, are the table in docs/stream.md; each of
// its rows is a test by the same name.
//
// A [Conn] does no I/O, reads no clock and is not safe for concurrent use. Sequence arithmetic
// is modulo 2^32 throughout.
package stream
