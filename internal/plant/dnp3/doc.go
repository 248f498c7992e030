// Package dnp3 is a small outstation and a small master of DNP3 (IEEE Std 1815-2012), written from
// the standard for tests and the demonstration: real sessions over plain sockets, and the frames
// that an attacker would craft. It stands on the standard library alone and knows nothing of the
// appliance's own dissector, so that what one of them has misunderstood shows against the other.
//
// An Outstation writes down every operation that it executes. How carefully it reads what it is
// sent is its Personality: the strict one does what the standard says, others do what devices in
// the field have been seen to do.
package dnp3
