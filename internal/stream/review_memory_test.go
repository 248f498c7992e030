package stream

import "testing"

// TestInvariant08EarlySegmentsAreBounded: what waits behind gaps of observed connections counts
// against the limit that they share, or anybody on an observed conduit could have all memory.
func TestInvariant08EarlySegmentsAreBounded(t *testing.T) {
	const limit, connections = 1 << 20, 200
	m := NewMemory(limit)
	conns := make([]*Conn, connections)
	payload := make([]byte, 1460)
	held := func() (n int) {
		for _, c := range conns {
			for d := range c.half {
				for _, e := range c.half[d].early {
					n += len(e.data)
				}
			}
		}
		return n
	}
	for i := range conns {
		conns[i] = New(Limits{Memory: m, Observed: true})
	}
	for round := range uint32(40) {
		for _, c := range conns {
			for d := FromInitiator; d <= FromResponder; d++ {
				out := c.Offer(d, &Segment{Seq: 2000 * round, Flags: ACK, Window: 65535, Payload: payload})
				if out.Disposition == Judge {
					c.Accept(d, len(c.Pending(d)))
				}
			}
		}
		if n := held(); n > limit || m.Stats().Used > limit || m.Stats().Used < n {
			t.Fatalf("round %d: %d bytes wait behind gaps, %d are counted, the limit is %d", round, n, m.Stats().Used, limit)
		}
	}
	if m.Stats().Refused == 0 {
		t.Error("the limit was not reached")
	}
	for _, c := range conns {
		c.Close()
	}
	if used := m.Stats().Used; used != 0 {
		t.Errorf("%d bytes are counted after the end", used)
	}
}
