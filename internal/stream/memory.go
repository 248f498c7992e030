package stream

import "sync/atomic"

// Buffers come in sizes of 512 << 2k bytes.
const (
	smallestBuffer = 512
	bufferSizes    = 6
	largestBuffer  = smallestBuffer << (2 * (bufferSizes - 1)) // 512 KiB
	spareBytes     = 1 << 18                                   // kept of each size for reuse, at most
)

// Budget is a number of bytes that may be held at a time, out of a larger one if it has a parent.
// It is safe for concurrent use, and so may bound the memories of several goroutines together.
type Budget struct {
	limit  int64 // 0 is none
	used   atomic.Int64
	parent *Budget
}

// NewBudget returns a budget of limit bytes; 0 means no limit but the parent's, which may be nil.
func NewBudget(limit int, parent *Budget) *Budget {
	return &Budget{limit: int64(limit), parent: parent}
}

// Used returns how many bytes are held.
func (b *Budget) Used() int { return int(b.used.Load()) }

// take counts n bytes, and reports false, counting nothing, if that exceeds a limit.
func (b *Budget) take(n int) bool {
	if used := b.used.Add(int64(n)); b.limit > 0 && used > b.limit || b.parent != nil && !b.parent.take(n) {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// force is take without the limits.
func (b *Budget) force(n int) {
	for ; b != nil; b = b.parent {
		b.used.Add(int64(n))
	}
}

// give is the opposite of take and force.
func (b *Budget) give(n int) { b.force(-n) }

// Memory is where connections get their buffers from and what bounds them together. A
// connection holds a buffer only while it has bytes that are not acknowledged or a message
// that is not complete; an idle one holds none. Memory is not safe for concurrent use: one
// goroutine owns it together with its connections.
type Memory struct {
	budget  *Budget
	refused uint64
	spare   *spareBuffers
}

// spareBuffers are kept for reuse, by size.
type spareBuffers [bufferSizes][][]byte

// MemoryStats is what Memory counts.
type MemoryStats struct {
	Used    int    // bytes held under its budget, in buffers and in segments that came early
	Spare   int    // bytes in buffers kept for reuse
	Refused uint64 // segments discarded, or connections ended, because a limit was reached
}

// NewMemory returns a Memory that hands out at most limit bytes at a time; 0 means no limit.
func NewMemory(limit int) *Memory {
	return &Memory{budget: NewBudget(limit, nil), spare: new(spareBuffers)}
}

// Within returns a Memory with the same spare buffers that takes its bytes out of another budget. It
// belongs to the same goroutine.
func (m *Memory) Within(b *Budget) *Memory { return &Memory{budget: b, spare: m.spare} }

// Stats returns the counters.
func (m *Memory) Stats() MemoryStats {
	s := MemoryStats{Used: m.budget.Used(), Refused: m.refused}
	for i := range m.spare {
		s.Spare += len(m.spare[i]) * bufferSize(i)
	}
	return s
}

func bufferSize(class int) int { return smallestBuffer << (2 * class) }

// get returns an empty buffer of at least n bytes of capacity, or nil if that exceeds the limit.
func (m *Memory) get(n int) []byte {
	class := sizeClass(n)
	if !m.budget.take(bufferSize(class)) {
		return nil
	}
	return m.buffer(class)
}

// take is get without the limit.
func (m *Memory) take(n int) []byte {
	class := sizeClass(n)
	m.budget.force(bufferSize(class))
	return m.buffer(class)
}

// buffer returns an empty buffer of a size.
func (m *Memory) buffer(class int) []byte {
	if spare := m.spare[class]; len(spare) > 0 {
		b := spare[len(spare)-1]
		m.spare[class] = spare[:len(spare)-1]
		return b[:0]
	}
	return make([]byte, 0, bufferSize(class))
}

// reserve counts n bytes that a connection keeps outside of the buffers. It reports false, and
// counts nothing, if that exceeds the limit.
func (m *Memory) reserve(n int) bool {
	if !m.budget.take(n) {
		m.refused++
		return false
	}
	return true
}

// free is the opposite of reserve.
func (m *Memory) free(n int) { m.budget.give(n) }

// sizeClass returns the smallest size that holds n bytes. No connection asks for more than the
// largest (Limits.PerDirection).
func sizeClass(n int) int {
	class := 0
	for class < bufferSizes-1 && bufferSize(class) < n {
		class++
	}
	return class
}

// put takes a buffer back that get returned.
func (m *Memory) put(b []byte) {
	if b == nil {
		return
	}
	m.budget.give(cap(b))
	class := sizeClass(cap(b))
	if (len(m.spare[class])+1)*cap(b) <= max(spareBytes, 2*cap(b)) {
		m.spare[class] = append(m.spare[class], b)
	}
}
