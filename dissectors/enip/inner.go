package enip

import "bytes"

// InnerLength is how many bytes of a message inside another HoldsAnother needs to tell it, at most: up to and with the
// type of its second item. What it would have executed lies behind these.
const InnerLength = 46

// The heads of commands that carry services, as they stand on the wire.
var carriers = [...]struct {
	head          [2]byte
	address, data ItemType
}{
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
			at += found
			// Of a length of which the stack got one byte, the other does not stand on the wire.
			for _, session := range [...]int{offsetSession, offsetSession - 1} {
				if rest := b[min(at+session, len(b)):]; isInner(rest, c.address, c.data) {
					return true
				}
			}
		}
	}
	return false
}

// isInner tells whether b is a message from its session handle on, up to its second item.
func isInner(b []byte, address, data ItemType) bool {
	const (
		options = offsetOptions - offsetSession
		count   = options + 4 + 6 // behind interface handle and time-out
		first   = count + 2
		second  = first + itemHeader
	)
	if len(b) < second+2 || value32(b, 0) == 0 || value32(b, options) != 0 || b[count] < 2 || b[count+1] != 0 ||
		ItemType(value16(b, first)) != address {
		return false
	}
	for _, size := range [...]int{0, 4, 8} { // of the address, as it is skipped
		if at := second + size; len(b) >= at+2 && ItemType(value16(b, at)) == data {
			return true
		}
	}
	return false
}
