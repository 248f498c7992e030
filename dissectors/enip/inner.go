package enip

import "bytes"

// InnerLength is how many bytes of a message inside another HoldsAnother needs to tell it, at most: up to and with the
// type of its second item. What it would have executed lies behind these.
const InnerLength = 46

// carrier is a command that carries services: how it stands on the wire, and the types of its items.
type carrier struct {
	head          [2]byte
	address, data ItemType
}

var carriers = [...]carrier{
	{[2]byte{byte(SendRRData), byte(SendRRData >> 8)}, NullAddress, UnconnectedData},
	{[2]byte{byte(SendUnitData), byte(SendUnitData >> 8)}, ConnectedAddress, ConnectedData},
}

// HoldsAnother tells whether the message b, or its beginning, holds another one that carries services and begins at
// from or behind it; from is not 0, where b's own begins.
//
// Not every receiver stays in step with messages that come in pieces. One open adapter stack, which many products are
// built on, asks its socket for the four bytes up to the length, and where it gets fewer takes the others for 0: it
// then goes on from a place inside the message, and executes what it finds there. No lawful message has another in it,
// session, items and all. What that stack does not look at may be anything here: status, interface handle, time-out,
// the length of the address.
func HoldsAnother(b []byte, from int) bool {
	for i := range carriers {
		c := &carriers[i]
		for at := from; at < len(b); at++ {
			found := bytes.Index(b[at:], c.head[:])
			if found < 0 {
				break
			}
			if at += found; c.standsAt(b, at) {
				return true
			}
		}
	}
	return false
}

// EndsAnother tells whether the message b, or its beginning, may go on with another that has begun in the bytes before
// it. Where the items of that would be a header has zeros, but for the sender's context; data that have a layout have
// none for it (see Command.HasLayout).
func EndsAnother(b []byte) bool {
	if Command(value16(b, 0)).HasLayout() && !contextServes(b) {
		return false
	}
	for i := range carriers {
		for at := -InnerLength; at < 0; at++ {
			if carriers[i].standsAt(b, at) {
				return true
			}
		}
	}
	return false
}

// contextServes tells whether the sender's context can be an item with the one service that has room there: of a class.
func contextServes(b []byte) bool {
	const at, class = offsetContext, 0x20
	return len(b) > at+6 && ItemType(value16(b, at)) == UnconnectedData && value16(b, at+2) != 0 && b[at+4] != 0 && b[at+5] == 1 && b[at+6] == class
}

// standsAt tells whether a message with the command begins at a place of b, up to its second item, which lies behind b's
// own header, or is its context. What would lie before b may be anything. Of a length of which the stack got one byte, the other does not
// stand on the wire.
func (c *carrier) standsAt(b []byte, at int) bool {
	return c.goesOn(b, at+offsetSession) || c.goesOn(b, at+offsetSession-1)
}

// goesOn tells the same of the bytes from the session handle on.
func (c *carrier) goesOn(b []byte, session int) bool {
	options := session + offsetOptions - offsetSession
	count := options + 4 + 6 // behind interface handle and time-out
	first := count + 2
	second := first + itemHeader
	if session >= 0 && value32(b, session) == 0 || !is16(b, options, 0) || !is16(b, options+2, 0) ||
		count >= 0 && (count >= len(b) || b[count] < 2) || !isByte(b, count+1, 0) || !is16(b, first, c.address) {
		return false
	}
	for _, size := range [...]int{0, 4, 8} { // of the address, as it is skipped
		if at := second + size; (at >= HeaderLength || at == offsetContext && contextServes(b)) && is16(b, at, c.data) {
			return true
		}
	}
	return false
}

// is16 tells whether a field is or may be the one at off: what lies before b may be anything.
func is16(b []byte, off int, want ItemType) bool {
	return isByte(b, off, byte(want)) && isByte(b, off+1, byte(want>>8))
}

func isByte(b []byte, off int, want byte) bool { return off < 0 || off < len(b) && b[off] == want }
