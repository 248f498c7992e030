package cip

// MalformedError says why bytes are no lawful message. The values that this package returns are
// shared: compare or print them, do not change them.
type MalformedError struct {
	// Reason is one phrase, without values from the wire, fit for events and records.
	Reason string
}

// Error returns the reason with the protocol's name before it.
func (e *MalformedError) Error() string { return "malformed cip: " + e.Reason }

// The limits by name.
var (
	ErrDepth    = &MalformedError{"services are nested deeper than 4"}
	ErrServices = &MalformedError{"more than 255 services in one message"}
	ErrHops     = &MalformedError{"route has more than 16 hops"}
	ErrTag      = &MalformedError{"tag is longer than 256 bytes"}
	ErrPoints   = &MalformedError{"connection path names more than 8 assemblies"}
)

// ErrParents is the limit of objects inside objects.
var ErrParents = &MalformedError{"path names an object inside more than 3 others"}

var (
	errNested      = &MalformedError{"path names an object or a tag beside the message router, connection manager, PCCC or a file"}
	errShort       = &MalformedError{"service is shorter than its code and path size"}
	errReplyBit    = &MalformedError{"request with the reply bit in its service"}
	errCode        = &MalformedError{"service code is 0"}
	errNoReplyBit  = &MalformedError{"reply without the reply bit in its service"}
	errPathSize    = &MalformedError{"path does not fit the message"}
	errSegment     = &MalformedError{"path has a segment that is reserved or not known"}
	errSegmentEnd  = &MalformedError{"path ends inside a segment"}
	errPad         = &MalformedError{"pad byte of a path segment is not 0"}
	errTwice       = &MalformedError{"path names a class, instance or attribute twice"}
	errWide        = &MalformedError{"class or attribute of more than 16 bits"}
	errOrder       = &MalformedError{"path segments are not in the order of class, instance, attribute"}
	errSymbol      = &MalformedError{"symbol is empty or has characters that no tag has"}
	errIndex       = &MalformedError{"array index of a symbol is not a list of 32-bit numbers"}
	errMember      = &MalformedError{"member segment before a tag or object"}
	errRoute       = &MalformedError{"route path has other segments than ports"}
	errPort        = &MalformedError{"port segment has no port, or no link address"}
	errPortLate    = &MalformedError{"port segment behind the object that it leads to"}
	errKey         = &MalformedError{"electronic key is not of format 4"}
	errServiceData = &MalformedError{"data have not the length of this service"}
	errCount       = &MalformedError{"number of elements is 0"}
	errWritten     = &MalformedError{"written data are not as many elements of their type as announced"}
	errMask        = &MalformedError{"masks have not the size that is announced"}
	errOffsets     = &MalformedError{"offsets of a multiple service packet overlap, leave a gap or leave the packet"}
	errPacketCount = &MalformedError{"multiple service packet with no service, or more than fit"}
	errEmbedded    = &MalformedError{"embedded message does not fit the unconnected send"}
	errTransport   = &MalformedError{"transport class is reserved"}
	errMultiplier  = &MalformedError{"time-out multiplier is reserved"}
	errConnection  = &MalformedError{"connection type is reserved"}
	errRequestor   = &MalformedError{"requestor id of a PCCC command is not 7 bytes"}
	errPCCC        = &MalformedError{"PCCC command has not the length of its function"}
	errStatusSize  = &MalformedError{"additional status does not fit the reply"}
)
