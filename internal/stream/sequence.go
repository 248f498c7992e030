package stream

// Sequence numbers are compared by the sign of their distance (RFC 9293, section 3.4), which is
// right as long as they are less than 2^31 apart; farBehind and the windows see to that.

// before reports whether sequence number a precedes b.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// after reports whether sequence number a follows b.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// later returns the later of two sequence numbers.
func later(a, b uint32) uint32 {
	if after(a, b) {
		return a
	}
	return b
}

// earlier returns the earlier of two sequence numbers.
func earlier(a, b uint32) uint32 {
	if before(a, b) {
		return a
	}
	return b
}
