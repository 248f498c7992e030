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
// # Joining a connection in mid-stream
//
// A connection is joined without its SYN only while the appliance itself has just begun to
// inspect (Flow.Adopted, Pipeline.AdoptUntil). Its bytes are not understood before a message
// boundary is known, and a boundary is never searched for inside a segment: a direction is in
// step from the first segment on that consists of whole, lawful messages and nothing else. A
// client that polls sends each request so, and goes on without noticing. Anything else is
// dropped as resynchronising, and after a few such segments the connection ends, for its sender
// would repeat the same bytes for ever; the client then connects anew. The limit of the rule:
// whoever was connected before inspection began may have sent the head of one message then, and
// a tail that reads as a permitted message now. It is one message on each such connection, and
// only within the window after a start.
//
// Replies to requests that were sent before the connection was joined match nothing. They pass
// until the first reply that does match, or for JoinGrace.
//
// # Observed packets
//
// Copies of packets that were forwarded already are judged by the same code, and the verdict is
// what would have happened. Nothing is held: after a denial the stream goes on, and where a copy
// was lost or a message malformed it gets into step again by the rule above.
package inspect
