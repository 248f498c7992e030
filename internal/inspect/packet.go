package inspect

import (
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Flow is what the fast path knows of the conversation that a packet belongs to.
type Flow struct {
	Plan        *policy.Plan
	Conduit     uint32      // index into Plan.Conduits
	Source      uint32      // identity of the initiator, index into Plan.Identities
	Destination uint32      // identity of the responder
	Initiator   policy.Side // where the initiator lives
	// Adopted says that the flow was alive before inspection began, so that its SYN is not to
	// be expected.
	Adopted bool
}

// FlowSource tells which flow a key names. It is asked by one goroutine at a time.
type FlowSource interface {
	// Flow returns the flow, or false if there is none or the policy forbids it by now.
	Flow(key uint64) (Flow, bool)
	// Generation changes whenever earlier answers of Flow may be out of date: with each plan.
	// Until it does, a flow is asked for once a connection.
	Generation() uint64
}

// Packet is one IP packet to be judged.
type Packet struct {
	Time time.Time
	Key  uint64 // names the flow: slot and generation; equal for both directions
	From policy.Side
	IP   []byte // the whole packet; link padding may follow it
	// ChecksumNotReady says that the transport checksum is still to be filled in by a network
	// card (the kernel's CHECKSUM_PARTIAL, or a capture taken on the sending host).
	ChecksumNotReady bool
	// Observed says that the packet is a copy of one that was forwarded.
	Observed bool
}

// Judgement is the answer to a packet. Its slices and messages are valid until the next call
// of Judge; the zero Judgement denies.
type Judgement struct {
	// Verdict is what to do with the packet; for an observed one, what would have been done.
	Verdict verdict.Verdict
	// Payload is the packet to forward in place of the one that came, nil for that itself.
	Payload []byte
	// Resets are packets to send in the name of the ends: each a whole IP packet with an RST,
	// or the challenge ACK that the other end would have sent (RFC 5961).
	Resets []Reset
	// Messages are those that this packet completed, and the one that stopped it, whose verdict
	// the others then share: none left. Of a packet that waits as table_full the others are left
	// out, for they come again. One that was
	// denied in a packet that is allowed leaves neutralised, and gets the protocol's refusal.
	Messages []Message
	// Unrecorded is how many messages found no room in Messages; all are counted.
	Unrecorded int
	// Detail says more where a packet that is no message was denied, for people; may be "".
	Detail string
	// Ended says that the verdict ended the connection; of an observed one, would have.
	Ended bool
	// Stage is what the TCP connection has come to with this packet; of enforced connections and permitted packets alone.
	Stage Stage
	// Flow is the packet's flow, the zero Flow if there is none.
	Flow Flow
}

// Stage is what a TCP connection has come to, as far as whoever keeps flows cannot tell from its flags: a FIN or an RST
// that its receiver does not believe, because of its sequence number, closes nothing. An RST of a connection that has not
// been followed yet is believed.
type Stage uint8

// The stages.
const (
	StageUnderWay Stage = iota // or not known
	StageOpening               // a SYN has passed, which no answer has followed
	StageClosed                // the FIN of both ends have passed
	StageReset                 // an RST has passed, of either end
)

// Reset is a packet to be sent out of the port of one side.
type Reset struct {
	To policy.Side
	IP []byte
}
