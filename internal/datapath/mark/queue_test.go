package mark

import "testing"

// TestMatchIsOneQueues: each mark matches the bits of its own queue and of no other.
func TestMatchIsOneQueues(t *testing.T) {
	for lanes := 1; lanes <= MaxLanes; lanes *= 2 {
		for slot := range uint32(64) {
			for _, bits := range []uint32{0, QueueOpens, SideB, SideB | QueueOpens} {
				m := Inspect | bits | 0x00340000 | slot
				for q := range Queue(2 * lanes) {
					mask, value := q.Match(lanes)
					if (m&mask == value) != (q == QueueOf(m, lanes)) {
						t.Fatalf("%d lanes: mark %#x belongs in queue %d, and the rule of queue %d says %v",
							lanes, m, QueueOf(m, lanes), q, m&mask == value)
					}
				}
			}
		}
	}
}
