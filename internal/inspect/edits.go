package inspect

// edits collects what is to leave in place of the bytes of the segment under judgement.
type edits struct {
	made    bool
	payload []byte // the whole payload as it leaves; valid if made
}

func (e *edits) reset() { e.made = false }

// put replaces bytes of the segment: those that lie left bytes before its end, left being at
// least len(b). Of what lies before the last fresh bytes nothing is replaced, for it has left.
func (e *edits) put(segment []byte, fresh, left int, b []byte) {
	if !e.made {
		e.payload = append(e.payload[:0], segment...)
		e.made = true
	}
	if gone := left - fresh; gone > 0 {
		b = b[min(gone, len(b)):]
		left = fresh
	}
	copy(e.payload[len(e.payload)-left:], b)
}
