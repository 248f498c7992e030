package dnp3

import "errors"

// ErrNeedMore says that the bytes are a proper prefix of a frame or message that may still be lawful.
var ErrNeedMore = errors.New("parse dnp3: more bytes are needed")

// MalformedError says why bytes are no lawful frame or message. The values that this package returns
// are shared: compare or print them, do not change them.
type MalformedError struct {
	// Reason is one phrase, without values from the wire, fit for events and records.
	Reason string
}

// Error returns the reason with the protocol's name before it.
func (e *MalformedError) Error() string { return "malformed dnp3: " + e.Reason }

// The link layer's errors. All stand ready made: a flood of malformed frames must not become a flood
// of garbage for the collector.
var (
	errStart       = &MalformedError{"frame does not begin with 0x0564"}
	errLength      = &MalformedError{"link length is less than 5"}
	errLinkData    = &MalformedError{"link length is not the length of this link function"}
	errFunction    = &MalformedError{"link function is reserved or obsolete"}
	errFCV         = &MalformedError{"frame count valid bit is not what this link function has"}
	errHeaderCRC   = &MalformedError{"CRC of the link header is wrong"}
	errBlockCRC    = &MalformedError{"CRC of a data block is wrong"}
	errDestination = &MalformedError{"link destination is a reserved address"}
	errSource      = &MalformedError{"link source is an address that no station has"}
)

// The transport function's errors.
var (
	errOrphan   = &MalformedError{"transport segment without a first one"}
	errRestart  = &MalformedError{"first transport segment within a message"}
	errSequence = &MalformedError{"transport sequence is not the next one"}
)

// The application layer's errors.
var (
	errTooLong       = &MalformedError{"message is longer than 2048 bytes"}
	errTooShort      = &MalformedError{"message ends within its header"}
	errFragments     = &MalformedError{"request in several fragments"}
	errRequestFlags  = &MalformedError{"request asks for a confirmation or is marked as unsolicited"}
	errResponseFlags = &MalformedError{"unsolicited mark and function code disagree"}
	errResponseCode  = &MalformedError{"function code of a request in a response"}
	errRequestCode   = &MalformedError{"function code of a response in a request"}
	errBare          = &MalformedError{"objects in a message whose function has none"}
	errHeaderCut     = &MalformedError{"message ends within an object header"}
	errObjectCut     = &MalformedError{"message ends within an object"}
	errQualifier     = &MalformedError{"object qualifier is reserved"}
	errBackwards     = &MalformedError{"object range starts behind its stop"}
	errCount         = &MalformedError{"objects do not fit the longest message"}
	errUnknownObject = &MalformedError{"object whose size is not known"}
	errObjectSize    = &MalformedError{"object's size is not the size of its variation"}
	errNotControl    = &MalformedError{"object under a control function is none that controls"}
	errControlIndex  = &MalformedError{"control object without an index"}
	errPatternMask   = &MalformedError{"pattern control block and pattern mask do not come together"}
	errWrapper       = &MalformedError{"authentication objects do not enclose the request"}
	errNotAuth       = &MalformedError{"object under an authentication function is none of authentication"}
	errFileObject    = &MalformedError{"file object's offsets and sizes contradict each other"}
	errNotFile       = &MalformedError{"object under a file function is none of a file"}
)
