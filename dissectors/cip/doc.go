// Package cip reads the Common Industrial Protocol as a device under protection must see it: services,
// the paths that they name, and the services nested inside them, to the last.
//
// The sources are The CIP Networks Library, Volume 1: Common Industrial Protocol (cited as V1), and for
// the data table of Logix controllers and PCCC the vendor's published manuals (Logix 5000 Controllers
// Data Access, 1756-PM020; DF1 Protocol and Command Set, 1770-6.5.16). All numbers on the wire are
// little-endian.
//
// # One form for every spelling
//
// A path (EPATH, V1 appendix C) can name the same object in many ways: logical segments of 8, 16 and 32
// bits, padded or packed, an electronic key or port segments before them, a tag in one symbol segment or
// in several, an array element in brackets or in a member segment. A [Path] holds what is named and
// nothing of how: whoever compares paths cannot be misled by a spelling. What has no single meaning, such
// as a path with two classes in a request, is malformed.
//
// # Nested services
//
// Unconnected Send and Multiple Service Packet carry further services, and these may carry more. A [Walk]
// visits all of them, outermost first, in the order of the wire. MaxDepth, MaxServices and the sizes of
// paths are limits by name: a message beyond them is malformed, never half read. The offsets of a Multiple
// Service Packet must leave no gap and no overlap, so that all receivers find the same services.
//
// # Which object a code belongs to
//
// Codes from 0x4b up mean different things to different objects: 0x52 is Unconnected Send to the
// Connection Manager and Read Tag Fragmented to the data table. [Owner] tells which, by the path.
//
// # Prefixes
//
// A Walk works on the beginning of a message as well: it visits the services that have begun, and says
// of each what has arrived. It refuses what can no longer become lawful by the fields that are whole.
//
// Parsing does not allocate; slices alias the bytes that were given. Nothing here keeps state between
// messages: values may be used by one goroutine at a time.
package cip
