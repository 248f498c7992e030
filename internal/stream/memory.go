package stream

// Buffers come in sizes of 512 << 2k bytes.
const (
	smallestBuffer = 512
	bufferSizes    = 6
	largestBuffer  = smallestBuffer << (2 * (bufferSizes - 1)) // 512 KiB
	spareBytes     = 1 << 18                                   // kept of each size for reuse, at most
)

// Memory is where connections get their buffers from and what bounds them together. A
// connection holds a buffer only while it has bytes that are not acknowledged or a message
// that is not complete; an idle one holds none. Memory is not safe for concurrent use: one
// goroutine owns it together with its connections.
type Memory struct {
	limit   int
	used    int
	refused uint64
	spare   [bufferSizes][][]byte
}

// MemoryStats is what Memory counts.
type MemoryStats struct {
	Used    int    // bytes that connections hold, in buffers and in segments that came early
	Spare   int    // bytes in buffers kept for reuse
	Refused uint64 // segments discarded, or connections ended, because a limit was reached
}

// NewMemory returns a Memory that hands out at most limit bytes at a time; 0 means no limit.
func NewMemory(limit int) *Memory { return &Memory{limit: limit} }

// Stats returns the counters.
func (m *Memory) Stats() MemoryStats {
	s := MemoryStats{Used: m.used, Refused: m.refused}
	for i := range m.spare {
		s.Spare += len(m.spare[i]) * bufferSize(i)
	}
	return s
}

func bufferSize(class int) int { return smallestBuffer << (2 * class) }

// get returns an empty buffer of at least n bytes of capacity, or nil if that exceeds the limit.
func (m *Memory) get(n int) []byte {
	if m.limit > 0 && m.used+bufferSize(sizeClass(n)) > m.limit {
		return nil
	}
	return m.take(n)
}

// take is get without the limit.
func (m *Memory) take(n int) []byte {
	class := sizeClass(n)
	m.used += bufferSize(class)
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
	if m.limit > 0 && m.used+n > m.limit {
		m.refused++
		return false
	}
	m.used += n
	return true
}

// free is the opposite of reserve.
func (m *Memory) free(n int) { m.used -= n }

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
	m.used -= cap(b)
	class := sizeClass(cap(b))
	if (len(m.spare[class])+1)*cap(b) <= max(spareBytes, 2*cap(b)) {
		m.spare[class] = append(m.spare[class], b)
	}
}
