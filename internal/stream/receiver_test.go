package stream

// receiver is a TCP receiver written for the tests from RFC 9293 alone, byte by byte, with the
// liberties that receivers take. It shares no code with the package.
type receiver struct {
	lastWins bool // a later byte replaces one that was not acknowledged yet
	naive    bool // an RST anywhere in the window and a SYN at any time are believed

	phase   int    // 0 listening, 1 answered a SYN, 2 open, 3 closed
	isn     uint32 // its own
	peerISN uint32
	next    uint32          // what it expects
	told    uint32          // what it acknowledged last
	app     []byte          // what the application gets
	later   map[uint32]byte // bytes behind a gap
	fin     bool
	finAt   uint32
	window  uint16
}

// deliver takes a segment and returns the answer, if there is one.
func (v *receiver) deliver(s Segment) *Segment {
	inWindow := s.Seq-v.next < uint32(v.window)
	switch {
	case s.Flags&RST != 0:
		if v.phase == 1 || v.phase == 2 {
			if s.Seq == v.next || v.naive && inWindow {
				v.phase = 3
			} else if inWindow {
				return v.ack()
			}
		}
		return nil
	case s.Flags&SYN != 0:
		live := v.phase == 1 || v.phase == 2
		if live && v.peerISN == s.Seq && v.next == s.Seq+1 && v.phase == 1 {
			return v.synACK()
		}
		if live && !v.naive {
			return v.ack()
		}
		v.phase, v.peerISN, v.next, v.told = 1, s.Seq, s.Seq+1, s.Seq+1
		v.isn += 1000
		v.app, v.later, v.fin = nil, map[uint32]byte{}, false
		return v.synACK()
	case v.phase == 0 || v.phase == 3:
		return &Segment{Seq: s.Ack, Flags: RST}
	case s.Flags&ACK == 0 && !v.naive:
		return nil
	case s.Ack != v.isn+1:
		return v.ack()
	}
	v.phase = 2
	v.take(s)
	return nil
}

func (v *receiver) take(s Segment) {
	for n, b := range s.Payload {
		at := s.Seq + uint32(n)
		switch offset := at - v.next; {
		case offset < uint32(v.window):
			if _, have := v.later[at]; !have || v.lastWins {
				v.later[at] = b
			}
		case v.lastWins && at-v.told < v.next-v.told:
			v.app[at-v.peerISN-1] = b
		}
	}
	if s.Flags&FIN != 0 && !v.fin {
		v.fin, v.finAt = true, s.Seq+uint32(len(s.Payload))
	}
	for {
		b, have := v.later[v.next]
		if !have || v.fin && v.next == v.finAt {
			break
		}
		v.app = append(v.app, b)
		delete(v.later, v.next)
		v.next++
	}
}

func (v *receiver) ack() *Segment {
	v.told = v.next
	ack := v.next
	if v.fin && v.next == v.finAt {
		ack++
	}
	return &Segment{Seq: v.isn + 1, Ack: ack, Flags: ACK, Window: v.window}
}

func (v *receiver) synACK() *Segment {
	return &Segment{Seq: v.isn, Ack: v.peerISN + 1, Flags: SYN | ACK, Window: v.window}
}
