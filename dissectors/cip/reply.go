package cip

// The statuses with a part in how messages are read (V1 appendix B).
const (
	StatusSuccess            uint8 = 0x00
	StatusPartialTransfer    uint8 = 0x06
	StatusPrivilegeViolation uint8 = 0x0f
	StatusEmbedded           uint8 = 0x1e
)

// Reply is the answer to one service.
type Reply struct {
	Code       ServiceCode // without the reply bit
	Status     uint8
	Additional []byte // words
	Data       []byte
	Depth      int
	Index      int // of the service among the leaves and containers, as a Walk of the request counts
}

const replyFixed = 4 // service, reserved, general status, size of the additional status

// parse reads the reply in b, of which length bytes are announced.
func (r *Reply) parse(b []byte, length int) *MalformedError {
	r.Code, r.Status, r.Additional, r.Data = 0, 0, nil, nil
	if length < replyFixed {
		return errShort
	}
	if len(b) == 0 {
		return nil
	}
	if b[0]&replyBit == 0 {
		return errNoReplyBit
	}
	r.Code = ServiceCode(b[0] &^ replyBit)
	if len(b) < replyFixed {
		return nil
	}
	r.Status = b[2]
	end := replyFixed + 2*int(b[3])
	if end > length {
		return errStatusSize
	}
	if len(b) >= end {
		r.Additional, r.Data = b[replyFixed:end:end], b[end:len(b):len(b)]
	}
	return nil
}

// ParseReply reads the outermost reply in b, of which length bytes are announced.
func ParseReply(b []byte, length int, r *Reply) error {
	r.Depth, r.Index = 0, 0
	if bad := r.parse(b, length); bad != nil {
		return bad
	}
	return nil
}

// ReplyWalk visits a whole reply and, of a Multiple Service Packet, those inside it, as Walk visits the
// services that are asked for.
type ReplyWalk struct {
	Reply Reply

	first   []byte
	started bool
	count   int
	bad     *MalformedError
	frames  [MaxDepth]replyFrame
	depth   int
}

type replyFrame struct {
	data []byte
	next int
}

// Start begins with the whole reply b.
func (w *ReplyWalk) Start(b []byte) {
	w.first, w.started, w.count, w.bad, w.depth = b, false, 0, nil, 0
}

// Err returns why the reply is not lawful, nil if it is, as far as it was visited.
func (w *ReplyWalk) Err() error {
	if w.bad != nil {
		return w.bad
	}
	return nil
}

// Next finds the next reply, and returns false if there is none or it is malformed.
func (w *ReplyWalk) Next() bool {
	if w.bad != nil {
		return false
	}
	b, ok := w.step()
	if !ok || w.bad != nil {
		return false
	}
	if w.count++; w.count > MaxServices {
		w.bad = ErrServices
		return false
	}
	w.Reply.Depth, w.Reply.Index = w.depth, w.count-1
	w.bad = w.Reply.parse(b, len(b))
	return w.bad == nil
}

func (w *ReplyWalk) step() ([]byte, bool) {
	if !w.started {
		w.started = true
		return w.first, true
	}
	if w.Reply.Packet() {
		if w.depth == MaxDepth {
			w.bad = ErrDepth
			return nil, false
		}
		w.bad = checkPacket(w.Reply.Data, len(w.Reply.Data))
		w.frames[w.depth] = replyFrame{data: w.Reply.Data}
		w.depth++
	}
	for w.depth > 0 && w.bad == nil {
		f := &w.frames[w.depth-1]
		if start, end, ok := packetElement(f.data, len(f.data), f.next); ok {
			f.next++
			return f.data[start:end], true
		}
		w.depth--
	}
	return nil, false
}

// Packet tells whether the reply has others in it: it answers a Multiple Service Packet, and went well
// but for some of them.
func (r *Reply) Packet() bool {
	return r.Code == MultipleServicePacket && (r.Status == StatusSuccess || r.Status == StatusEmbedded) && len(r.Data) > 0
}
