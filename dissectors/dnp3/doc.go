// Package dnp3 reads DNP3 as an outstation under protection must see it: link frames, transport
// segments, and application messages with every object header and object in them. Each is
// exactly what IEEE 1815-2012 defines, or it is malformed.
//
// Numbers on the wire are little-endian. A frame carries its data in blocks of 16 bytes with a CRC
// behind each, so that a message does not lie in one piece: [Frame.AppendData] takes the CRCs out,
// an [Assembly] puts segments together, and [ParseMessage] reads what they make.
//
// # Exactness
//
// Stations that hunt for the next 0x0564 execute what follows garbage, and discard a frame whose CRC
// is wrong; an inspector that does either in another place than the station reads another
// message. Here both are malformed, and so is a transport sequence that skips or repeats: TCP loses
// nothing, so no lawful sender does it. A message is lawful only when its objects end where it
// ends, and an object whose size nobody knows has an end that nobody knows.
//
// # Prefixes
//
// [ParseFrame] and [ParseMessage] refuse with a [*MalformedError] at the first byte that excludes
// every lawful frame or message, and answer [ErrNeedMore] only while a lawful one may still follow.
// With ErrNeedMore the result holds each field that has arrived whole, so that whoever forwards byte
// by byte can stop as soon as the rest cannot matter.
//
// # Where this package is stricter than the standard
//
//   - A request is one fragment (both FIR and FIN set): what a master sends is never more.
//   - A fragment has at most [MaxMessage] bytes.
//   - Under a control function there is nothing but control objects, with an index for each.
//   - A file's name lies directly behind the fields that describe it.
//
// Parsing does not allocate; slices in a result alias the bytes that were given. Nothing here keeps
// state but an Assembly: functions may be called from any goroutine.
package dnp3
