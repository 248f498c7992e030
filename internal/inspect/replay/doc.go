// Package replay runs capture files through the pipeline that judges live packets: Dissect
// lists every message, Assess says what a policy would have refused.
//
// A capture is a record of what was forwarded, so its packets are judged as observed ones: the
// streams go on after a denial, and a connection whose beginning was not captured is joined where
// a segment consists of whole messages (see package inspect).
//
// # Checksums
//
// A capture taken on a sending host holds packets before their checksums were filled in. That
// is a property of a sender, so the first packet of each direction of a conversation decides:
// where its checksum is wrong, those of the direction are not looked at; where it is right, a
// later wrong one is what a receiver would throw away.
package replay
