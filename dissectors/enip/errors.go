package enip

import "errors"

// ErrNeedMore says that the bytes are a proper prefix of a message that may still be lawful.
var ErrNeedMore = errors.New("parse enip: more bytes are needed")

// MalformedError says why bytes are no lawful message. The values that this package returns are
// shared: compare or print them, do not change them.
type MalformedError struct {
	// Reason is one phrase, without values from the wire, fit for events and records.
	Reason string
}

// Error returns the reason with the protocol's name before it.
func (e *MalformedError) Error() string { return "malformed enip: " + e.Reason }

var (
	errStatus       = &MalformedError{"request with a status that is not 0"}
	errOptions      = &MalformedError{"options are not 0"}
	errLength       = &MalformedError{"length is not that of this command"}
	errTooLong      = &MalformedError{"length is more than 65511"}
	errVersion      = &MalformedError{"protocol version is not 1, or session options are not 0"}
	errInterface    = &MalformedError{"interface handle is not 0"}
	errItemCount    = &MalformedError{"item count is outside 2..4"}
	errListItems    = &MalformedError{"list of more than 64 items"}
	errListCount    = &MalformedError{"item count does not fit the length"}
	errItemLength   = &MalformedError{"item does not fit the length of the message"}
	errItemSize     = &MalformedError{"item has not the length of its type"}
	errItemTwice    = &MalformedError{"item of a kind comes twice"}
	errItemType     = &MalformedError{"item type has no place in this command"}
	errItemMissing  = &MalformedError{"items are not one address and one data item of the same kind"}
	errTrailing     = &MalformedError{"bytes behind the last item"}
	errSocket       = &MalformedError{"socket address is not of family 2 with 8 zero bytes behind it"}
	errSessionZero  = &MalformedError{"session handle is 0"}
	errSessionGiven = &MalformedError{"session handle of a request to register is not 0"}
)
