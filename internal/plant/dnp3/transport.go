package dnp3

// Bits of a transport segment's first octet (IEEE 1815 8.2.1).
const (
	TransportFIN = 0x80
	TransportFIR = 0x40

	transportSequence = 0x3f
	maxSegment        = maxUserData - 1
)

// Segments cuts a fragment into transport segments, numbered from sequence on.
func Segments(fragment []byte, sequence byte) [][]byte {
	return SegmentsOf(fragment, sequence, maxSegment)
}

// SegmentsOf is Segments with at most so many octets of the fragment in each.
func SegmentsOf(fragment []byte, sequence byte, size int) (segments [][]byte) {
	head := byte(TransportFIR)
	for {
		n := min(size, len(fragment))
		if n == len(fragment) {
			head |= TransportFIN
		}
		segments = append(segments, append([]byte{head | sequence&transportSequence}, fragment[:n]...))
		if head&TransportFIN != 0 {
			return segments
		}
		fragment, head, sequence = fragment[n:], 0, sequence+1
	}
}

// assembler puts the segments of one source to one destination together (IEEE 1815 8.2.2).
type assembler struct {
	loose bool // ignores sequence numbers, and begins with any segment

	running  bool
	sequence byte // of the last segment taken
	last     string
	buf      []byte
}

const maxFragment = 1 << 16

// take returns the fragment that a segment completes, or nil.
func (a *assembler) take(segment []byte) []byte {
	if len(segment) == 0 {
		return nil
	}
	head, sequence := segment[0], segment[0]&transportSequence
	switch {
	case head&TransportFIR != 0:
		a.buf = nil
	case a.loose:
	case !a.running:
		return nil
	case sequence == a.sequence && string(segment) == a.last:
		return nil // repeated by the link layer
	case sequence != (a.sequence+1)&transportSequence:
		a.running = false
		return nil
	}
	a.running, a.sequence, a.last = true, sequence, string(segment)
	a.buf = append(a.buf, segment[1:]...)
	if len(a.buf) > maxFragment {
		a.running, a.buf = false, nil
		return nil
	}
	if head&TransportFIN == 0 {
		return nil
	}
	whole := a.buf
	a.running, a.buf = false, nil
	return whole
}
