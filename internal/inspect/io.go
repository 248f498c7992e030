package inspect

import (
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
)

// IOConnections is told of the I/O connections (CIP transport classes 0 and 1, UDP 2222) that
// permitted messages opened and closed, so that the fast path lets through exactly those. Calls come
// from the goroutine that judges, of any pipeline that shares the connections, before the packet that
// they are about has its verdict: the fast path knows of a connection before the device's reply leaves.
// Calls about connections of one triad on one target come one after the other, others side by side.
type IOConnections interface {
	// Open says that a Forward Open that was permitted was answered with success; of an observed
	// connection, that it was answered. An earlier connection of the same triad on the same target is
	// not there any more.
	Open(IOConnection)
	// Close says that the connection is over, and why. An ID that is not open is of no consequence.
	Close(id IOConnectionID, why IOEnd)
	// Refused says that a connection was opened at its ends for which there is no room: its originator, or
	// all together, have as many open as may be. Its data do not pass.
	Refused(IOConnection)
	// Forget says that the target that a flow leads to has closed a connection whose opening was not
	// seen here, by the triad that names it there: it may have been opened before the daemon started.
	Forget(key uint64, t cip.Triad)
	// Lives reports whether a connection is still open: its data show that, and they do not come here.
	Lives(id IOConnectionID) bool
}

// IOEnd is why a connection is over.
type IOEnd uint8

// The reasons.
const (
	IOClosed      IOEnd = iota + 1 // its target agreed to a Forward Close
	IOReplaced                     // its target agreed to another Forward Open of its triad
	IOSessionLost                  // the session that opened it is over
	IOSilent                       // its watchdog, and room was needed
)

// IOConnectionID names an I/O connection within its flow source: the flow of the TCP connection that
// opened it, and a number that no other connection has, of any pipeline that shares them.
type IOConnectionID struct {
	Key    uint64
	Number uint64
}

// IOConnection is an I/O connection as its Forward Open and the reply to it say together (CIP volume
// 1, 3-5.5).
type IOConnection struct {
	ID     IOConnectionID
	Flow   Flow // of the TCP connection that opened it: plan, conduit, identities, side of the originator
	Opened time.Time

	Originator, Target netip.Addr

	// OriginatorToTarget and TargetToOriginator are the two directions. One of type IONone carries
	// nothing.
	OriginatorToTarget, TargetToOriginator IODirection

	Class      uint8   // transport class: 0 without a sequence count before the data, 1 with one
	Owner      IOOwner // of the target's outputs
	Multiplier uint16  // the connection times out after so many packet intervals: 4, 8 … 512
	Safety     bool    // CIP Safety: the connection path has a safety segment
	// Observed says that the messages were only looked at, and whatever is sent is forwarded; Denied, that the
	// policy would not have permitted the Forward Open then.
	Observed, Denied bool

	// Opening is the Forward Open, from its service code on, for policy.Plan.PermitsOpening: whether a
	// plan permits a connection that is open already. Route are the hops that led to where it was sent.
	Opening []byte
	Route   []cip.Hop

	cip.Triad // by which the originator closes it
}

// IODirection is what one end of an I/O connection produces.
type IODirection struct {
	Type         IOType
	ConnectionID uint32 // as in the sequenced address item; chosen by the consumer, or for multicast by the producer
	// Size is how many bytes the connected data item holds, the most if Variable: a sequence count of
	// 2 bytes in class 1, then a run/idle header of 4 bytes where the device has one (only its EDS
	// says so), then data. 0 is possible in class 0.
	Size     uint16
	Variable bool
	// Interval is the packet interval that the target granted (API); Requested what was asked for.
	Interval, Requested time.Duration
	// Destination is where the packets are sent: the other end, or a multicast group of the target's.
	// The port is 2222.
	Destination netip.AddrPort
}

// Data returns how many bytes of Size are not the sequence count of class 1.
func (d IODirection) Data(class uint8) uint16 {
	if class == 1 && d.Size >= 2 {
		return d.Size - 2
	}
	return d.Size
}

// IOType is how a direction is addressed (CIP volume 1, 3-5.5.1.1).
type IOType uint8

// The types.
const (
	IONone IOType = iota
	IOMulticast
	IOPointToPoint
)

// IOOwner says who may write the target's outputs over a connection.
type IOOwner uint8

// The owners. An input-only connection and one that only listens look the same in a Forward Open: the
// originator sends no data, only a heartbeat.
const (
	OwnerExclusive IOOwner = iota + 1
	OwnerRedundant
	OwnerNone
)

// noIO is told of connections and does nothing.
type noIO struct{}

func (noIO) Open(IOConnection)           {}
func (noIO) Close(IOConnectionID, IOEnd) {}
func (noIO) Refused(IOConnection)        {}
func (noIO) Forget(uint64, cip.Triad)    {}
func (noIO) Lives(IOConnectionID) bool   { return false }
