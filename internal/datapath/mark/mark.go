// Package mark is the meaning of the 32-bit packet mark that a frame carries between the fast
// path, netfilter and the slow path. The numbers are those of bpf/types.h; a test holds that.
//
//	31..28 kind   27 side (0 a, 1 b)   26 queue (1 opens in an outage)
//	25..18 generation of the slot      17..0 flow slot, whose low bits are the lane
package mark

// Kinds, and the mask that selects them.
const (
	KindMask  = 0xf0000000
	Inspect   = 0x50000000 // waits for a verdict; the netfilter rule queues it
	Permitted = 0x60000000 // set with the verdict: the exit gate lets it leave
	Own       = 0x70000000 // a frame of ours, such as a reset
)

// Parts of the mark of a frame that waits for a verdict.
const (
	SideB      = 0x08000000
	QueueOpens = 0x04000000
	KeyMask    = 0x03ffffff // slot and its generation: names one inspected flow
	SlotMask   = 0x0003ffff

	// What a verdict says that a TCP conversation has come to, in the place of side and queue: a SYN begins it anew, both
	// ends have closed it, or one has reset it.
	Opens  = 0x04000000
	Closed = 0x08000000
	Resets = Opens | Closed

	slotGenerationOne  = 0x00040000
	slotGenerationMask = 0x03fc0000
)

// Key returns the part of a mark that names one inspected flow. 0 names none.
func Key(m uint32) uint32 { return m & KeyMask }

// NextGeneration returns the key of the same slot for its next flow.
func NextGeneration(key uint32) uint32 {
	return key&SlotMask | (key+slotGenerationOne)&slotGenerationMask
}
