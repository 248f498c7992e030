package policy

// candidates is a heap of the entries that may cover a port, the one that goes first on top.
// Those that have ended stay until they come to the top.
type candidates struct {
	c       *compiler
	entries []entry
}

func (h *candidates) push(e entry) {
	h.entries = append(h.entries, e)
	for i := len(h.entries) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.c.before(h.entries[i], h.entries[parent]) {
			return
		}
		h.entries[i], h.entries[parent] = h.entries[parent], h.entries[i]
		i = parent
	}
}

// best returns the entry that goes first of those that reach the port.
func (h *candidates) best(port uint32) (entry, bool) {
	for len(h.entries) > 0 && uint32(h.entries[0].high) < port {
		h.pop()
	}
	if len(h.entries) == 0 {
		return entry{}, false
	}
	return h.entries[0], true
}

func (h *candidates) pop() {
	last := len(h.entries) - 1
	h.entries[0] = h.entries[last]
	h.entries = h.entries[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return
		}
		if child+1 < last && h.c.before(h.entries[child+1], h.entries[child]) {
			child++
		}
		if !h.c.before(h.entries[child], h.entries[i]) {
			return
		}
		h.entries[i], h.entries[child] = h.entries[child], h.entries[i]
		i = child
	}
}
