package mark

// MaxLanes is how many lanes there may be. Lanes are a power of two.
const MaxLanes = 16

// Queue numbers the queues of inspection: two for each lane, that of conduits which close in an
// outage and that of conduits which open. A lane is what one core judges; a flow's is its slot
// modulo their number, so that both directions of a flow meet in one queue.
type Queue uint8

// QueueOf returns the queue that a packet with the mark waits in where there are so many lanes.
func QueueOf(m uint32, lanes int) Queue {
	return LaneQueue(int(m&SlotMask)&(lanes-1), m&QueueOpens != 0)
}

// LaneQueue returns a lane's queue.
func LaneQueue(lane int, opens bool) Queue {
	if opens {
		return Queue(2*lane + 1)
	}
	return Queue(2 * lane)
}

// Lane returns the queue's lane, from 0.
func (q Queue) Lane() int { return int(q) / 2 }

// Opens reports whether the queue's conduits open in an outage.
func (q Queue) Opens() bool { return q&1 != 0 }

// Match returns the bits of a mark that tell the queue's packets from all others, and what they are.
func (q Queue) Match(lanes int) (mask, value uint32) {
	mask = KindMask | QueueOpens | uint32(lanes-1)
	value = Inspect | uint32(q.Lane())
	if q.Opens() {
		value |= QueueOpens
	}
	return mask, value
}
