// Package enip reads the encapsulation protocol of EtherNet/IP: the header, its commands, and the
// common packet format with its items. What the items carry, CIP, is read by dissectors/cip.
//
// The source is The CIP Networks Library, Volume 2: EtherNet/IP Adaptation of CIP, edition 1.4 and
// later, chapter 2 (cited as V2). All numbers on the wire are little-endian, but for socket addresses.
//
// # Exactness
//
// A message is lawful only when the header's length, the item count and every item's length agree and
// nothing is left over: then all receivers see the same end and the same data. The header's options are
// 0, a request's status is 0, and the interface handle is 0, which is CIP's; others are refused, for a
// receiver that ignores such a field executes what another would throw away (V2 2-3).
//
// Items are read in any order, as long as no kind comes twice and there are not more than MaxItems;
// whether an order is wanted is for whoever judges (see Message.InOrder). Commands without a public
// definition are carried raw, so that a policy can name them by number.
//
// A message inside another, as a receiver might find it that has lost its step, is for whoever judges, too (see
// HoldsAnother).
//
// # Prefixes
//
// Parse refuses with a *MalformedError as soon as a field has arrived that excludes every lawful message,
// many of them at the first byte that does; what it has refused it refuses whatever follows. With
// ErrNeedMore the message holds what has arrived, the beginning of an item's data included.
//
// Parsing does not allocate; slices in a message alias the bytes that were given. Nothing here keeps
// state: functions may be called from any goroutine, a message belongs to one at a time.
package enip
