package stream

import "bytes"

// retained holds a run of one direction's bytes: those that can still be repeated and the
// beginning of a message that is not complete. The zero value is empty; begin sets its place.
type retained struct {
	first uint32 // the sequence number of the first byte held, or of the next one to be held
	off   int32  // the bytes held are buf[off:]
	buf   []byte // as the sender sent them; nil if empty
	sent  []byte // as they were forwarded, in step with buf; nil while there is no difference
}

func (r *retained) begin(seq uint32) { r.first = seq }

// size returns the number of bytes held.
func (r *retained) size() int { return len(r.buf) - int(r.off) }

// end returns the sequence number after the last byte held.
func (r *retained) end() uint32 { return r.first + uint32(r.size()) }

// from returns the bytes held from seq on.
func (r *retained) from(seq uint32) []byte {
	return r.buf[int(r.off)+int(seq-r.first):]
}

// equal reports whether b is what the sender sent at seq. All of it has to be held.
func (r *retained) equal(seq uint32, b []byte) bool {
	return bytes.Equal(r.from(seq)[:len(b)], b)
}

// append adds bytes at the end, and reports false, changing nothing, if there is no memory.
func (r *retained) append(m *Memory, b []byte) bool {
	if len(r.buf)+len(b) > cap(r.buf) && !r.grow(m, len(b)) {
		return false
	}
	r.buf = append(r.buf, b...)
	if r.sent != nil {
		r.sent = append(r.sent, b...)
	}
	return true
}

// grow makes room for n more bytes by moving what is held to the front, if that frees at least
// half of the buffer, otherwise into a larger buffer.
func (r *retained) grow(m *Memory, n int) bool {
	size := r.size()
	if size+n <= cap(r.buf) && size <= cap(r.buf)/2 {
		r.buf = r.buf[:copy(r.buf, r.buf[r.off:])]
		if r.sent != nil {
			r.sent = r.sent[:copy(r.sent, r.sent[r.off:])]
		}
		r.off = 0
		return true
	}
	buf := m.get(size + n)
	if buf == nil {
		return false
	}
	if r.sent != nil {
		sent := append(m.take(size+n), r.sent[r.off:]...)
		m.put(r.sent)
		r.sent = sent
	}
	buf = append(buf, r.buf[r.off:]...)
	m.put(r.buf)
	r.buf, r.off = buf, 0
	return true
}

// truncate removes the last n bytes.
func (r *retained) truncate(m *Memory, n int) {
	r.buf = r.buf[:len(r.buf)-n]
	if r.sent != nil {
		r.sent = r.sent[:len(r.sent)-n]
	}
	if r.size() == 0 {
		r.release(m)
	}
}

// drop forgets the bytes before seq.
func (r *retained) drop(m *Memory, seq uint32) {
	if !after(seq, r.first) {
		return
	}
	seq = earlier(seq, r.end())
	r.off += int32(seq - r.first)
	r.first = seq
	if r.size() == 0 {
		r.release(m)
	}
}

// release forgets everything held and gives the buffers back.
func (r *retained) release(m *Memory) {
	r.first = r.end()
	m.put(r.buf)
	m.put(r.sent)
	r.buf, r.sent, r.off = nil, nil, 0
}

// replace records that the last len(b) bytes held were forwarded as b. It may exceed the
// memory's limit: an edit that is not remembered would let the original through later.
func (r *retained) replace(m *Memory, b []byte) {
	if r.sent == nil {
		r.sent = append(m.take(cap(r.buf)), r.buf...)
	}
	copy(r.sent[len(r.sent)-len(b):], b)
}

// forwarded copies what was forwarded at seq and after into b. All of it has to be held.
func (r *retained) forwarded(seq uint32, b []byte) {
	src := r.buf
	if r.sent != nil {
		src = r.sent
	}
	copy(b, src[int(r.off)+int(seq-r.first):])
}
