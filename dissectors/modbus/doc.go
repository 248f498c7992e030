// Package modbus reads Modbus/TCP as a device under protection must see it: every message is
// either exactly what the specification defines, or it is malformed.
//
// The sources are the MODBUS Application Protocol Specification V1.1b3 (cited as AP) and the
// MODBUS Messaging on TCP/IP Implementation Guide V1.0b (cited as TCP). All numbers on the wire
// are big-endian; all addresses are as on the wire, from 0.
//
// # Exactness
//
// Servers differ in what they believe. libmodbus, for one, ignores the length in the header and
// frames by function code, so a read whose header claims 23 bytes hides a write in its tail. A
// message is therefore lawful only when the header's length, the function's own length, every
// byte count and every sub-record agree; then all servers see the same end. Functions without
// a length of their own (vendor, user-defined and reserved codes) are taken by the header's
// length and their body is left raw: what such a function permits is for the policy to say by
// number. [FunctionCode.SelfDelimiting] tells the two kinds apart.
//
// # Prefixes
//
// [ParseRequest] and [ParseResponse] refuse with a [*MalformedError] at the first byte that
// excludes every lawful message, and answer [ErrNeedMore] only while a lawful message may still
// follow. With ErrNeedMore the message holds each field that has arrived whole (Seen says how far
// that is), so that whoever forwards byte by byte can stop as soon as the rest cannot matter.
//
// # Where this package is wider than the specification
//
// A list of file records may be empty (byte count 0): devices send it, and it reads and writes
// nothing. A file read may ask for as much as its reply can carry (AP 6.14 gives both 245 and
// "the 253 bytes of a PDU"; the latter holds here). Padding bits behind the last coil, exception
// codes and status words may have any value. Reserved diagnostic sub-functions and MEI types are
// carried raw, so that a policy can name them.
//
// Parsing does not allocate; slices in a message alias the bytes that were given. Nothing here
// keeps state: functions may be called from any goroutine, a message belongs to one at a time.
package modbus
