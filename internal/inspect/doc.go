// Package inspect judges packets of inspected conduits: the one pipeline behind the queue, the
// copies of observed conduits and capture files. Judge is that pipeline; read it from top to
// bottom. What it promises:
//
//   - No byte of a message is forwarded once that message can only be denied, and the segment
//     that completes a message waits for the message's verdict. So the device never has the
//     last byte of what was denied. Several messages in one segment pass or stop together.
//   - A denial ends the connection, or the bytes that follow would complete what was stopped:
//     silently on a conduit that drops, with a reset to both ends otherwise. Two refusals are
//     different: a full table and a stream that has no message boundary yet drop one segment,
//     which its sender repeats.
//   - What cannot be understood is denied by name.
//
// # Refusing in the protocol's own terms
//
// On a conduit with on_deny: exception a denied request that is whole in one segment leaves as
// another one of equal length that the device itself refuses, and the device's reply becomes the
// exception that the client is owed, so that the connection stays in use and in step and no
// sequence number changes. Repetitions of both leave in the same form, for the stream keeps what
// was sent and what was forwarded. Everything else ends the connection with resets: bytes that are
// no lawful request, a request of which a part has left before, a reply that has not the length of
// an exception, and a device that owes its reply for Limits.Refusal. Lawful requests in pieces are
// not held back for this. docs/decisions/modbus-exception.md says why it is done so.
//
// The unassigned function code that some requests have to leave with is a fence (refusal.fence):
// until the device has answered it nothing behind it leaves. Behind any other request for a
// function that not every server knows, only whole messages leave (modbus.FunctionCode.Flushes).
//
// # Joining a connection in mid-stream
//
// A connection is joined without its SYN only while the appliance itself has just begun to
// inspect (Flow.Adopted, Pipeline.AdoptUntil), and never under a key that was followed before: what
// is forgotten by us is not forgotten by its device. Its bytes are not understood before a message
// boundary is known, and a boundary is never searched for inside a segment: a direction is in
// step from the first segment on that consists of whole, lawful messages and nothing else. A
// client that polls sends each request so, and goes on without noticing. Anything else is
// dropped as resynchronising, and after a few such segments the connection ends, for its sender
// would repeat the same bytes for ever; the client then connects anew. The limit of the rule:
// whoever was connected before inspection began may have sent the head of one message then, and
// a tail that reads as a permitted message now. It is one message on each such connection, and
// only within the window after a start. A conduit to which that matters resets such connections
// instead of joining them (policy.JoinReset; docs/decisions/joining.md).
//
// Replies to requests that were sent before the connection was joined match nothing. They pass
// until the first reply that does match, or for JoinGrace.
//
// # Datagrams
//
// A protocol that runs over UDP too gets each datagram by itself: it is whole messages, which leave
// together or not at all. A denied one stays, silently unless it can be refused in the protocol's own
// terms; there is no connection to end, and nothing that could complete it later.
//
// # Observed packets
//
// Copies of packets that were forwarded already are judged by the same code, and the verdict is
// what would have happened. Nothing is held: after a denial the stream goes on, and where a copy
// was lost or a message malformed it gets into step again by the rule above.
package inspect
