// Package policy reads a site's policy, checks it, and compiles it for one appliance.
//
// ParseFile gives a Policy: what the file says, every name resolved and every contradiction
// refused, with all errors of the file at once. Compile turns it into a Plan, which is what
// the fast path's tables are filled from. Decide and EvalModbus judge a frame's header and a
// Modbus request in plain Go. A Policy and a Plan do not change once made and are safe for
// concurrent use; the package keeps no state and reads no clock.
//
// What the language leaves open is decided here and said where it is done: which prefixes may
// lie inside one another (check_addresses.go), which rules cover a request together
// (modbus_eval.go), what a zone on both sides needs (check_identities.go), and whose ARP may
// pass (decide.go).
package policy
