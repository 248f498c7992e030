package queue

import "encoding/binary"

const (
	verdictDrop   = 0
	verdictAccept = 1

	// A verdict without payload: netlink header, netfilter header, verdict, mark.
	verdictLength = netlinkHeaderLength + netfilterHeaderLength +
		attributeHeaderLength + 8 + attributeHeaderLength + 4

	// answersSize holds one edit of the largest kind beside a full batch of plain verdicts.
	answersSize = 128 << 10

	flagRequest     = 1
	flagAcknowledge = 4
)

// answers collects verdict messages until they are sent to the kernel in one write. It never
// grows: whoever adds asks first whether there is room.
type answers struct {
	queue uint16
	buf   []byte
}

func newAnswers(queue uint16) answers {
	return answers{queue: queue, buf: make([]byte, 0, answersSize)}
}

// room reports whether an answer with a payload of the length given still fits.
func (a *answers) room(payload int) bool {
	return cap(a.buf)-len(a.buf) >= verdictLength+attributeHeaderLength+int(align(uint64(payload)))
}

// drop adds a drop of one packet.
func (a *answers) drop(id uint32) {
	start := a.begin(messageVerdict, flagRequest, id)
	a.verdict(verdictDrop, id)
	a.end(start)
}

// dropThrough adds a drop of every packet that still waits with this id or an earlier one.
// The kernel answers ENOENT if there is none, which is no error here.
func (a *answers) dropThrough(id uint32) {
	start := a.begin(messageVerdictBatch, flagRequest, id)
	a.verdict(verdictDrop, id)
	a.end(start)
}

// acceptThrough adds an accept, without a mark, of every packet that still waits with this id or an
// earlier one.
func (a *answers) acceptThrough(id uint32) {
	start := a.begin(messageVerdictBatch, flagRequest, id)
	a.verdict(verdictAccept, id)
	a.end(start)
}

// accept adds an accept of one packet with a mark, and with another payload unless it is nil.
func (a *answers) accept(id, mark uint32, payload []byte) {
	start := a.begin(messageVerdict, flagRequest, id)
	a.verdict(verdictAccept, id)
	a.attribute(attributeMark, 4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, mark)
	if payload != nil {
		a.attribute(attributePayload, len(payload))
		a.buf = append(a.buf, payload...)
	}
	a.end(start)
}

// begin writes the headers of a message. The sequence number of a verdict is its packet's id,
// so that an error the kernel sends back names the packet.
func (a *answers) begin(kind, flags uint16, sequence uint32) (start int) {
	start = len(a.buf)
	a.buf = binary.NativeEndian.AppendUint32(a.buf, 0) // the length, written by end
	a.buf = binary.NativeEndian.AppendUint16(a.buf, kind)
	a.buf = binary.NativeEndian.AppendUint16(a.buf, flags)
	a.buf = binary.NativeEndian.AppendUint32(a.buf, sequence)
	a.buf = binary.NativeEndian.AppendUint32(a.buf, 0) // the kernel knows who sends
	a.buf = append(a.buf, 0, 0)                        // any family, version 0
	a.buf = binary.BigEndian.AppendUint16(a.buf, a.queue)
	return start
}

func (a *answers) end(start int) {
	binary.NativeEndian.PutUint32(a.buf[start:], uint32(len(a.buf)-start))
	for len(a.buf)%4 != 0 {
		a.buf = append(a.buf, 0)
	}
}

func (a *answers) attribute(kind uint16, length int) {
	a.buf = binary.NativeEndian.AppendUint16(a.buf, uint16(attributeHeaderLength+length))
	a.buf = binary.NativeEndian.AppendUint16(a.buf, kind)
}

func (a *answers) verdict(verdict, id uint32) {
	a.attribute(attributeVerdict, 8)
	a.buf = binary.BigEndian.AppendUint32(a.buf, verdict)
	a.buf = binary.BigEndian.AppendUint32(a.buf, id)
}
