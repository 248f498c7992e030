package dnp3

// Undefined is the function code that a neutralised request carries: the standard defines nothing
// there, so an outstation answers that it does not support it (IIN2.0), whatever objects follow.
const Undefined FunctionCode = 0x7a

// RefusalLength is the size in bytes of the frame with which an outstation refuses a request: a
// response without objects.
const RefusalLength = linkHeader + offsetFunction + 3 + crcBytes

// Where the application header lies in a frame's user data, behind the transport header.
const (
	offsetApplication = 1
	offsetFunction    = 2
	offsetIIN         = 3
)

// Editor rewrites frames. It holds the storage for that, and belongs to one goroutine at a time. The zero
// Editor is ready.
type Editor struct{ storage [MaxData]byte }

// Neutralise overwrites one whole frame that holds a whole request with another one of equal length
// that no outstation acts on. With reply, the outstation answers it with an indication that it does
// not know the function; without, it says nothing. Where it returns false the bytes are untouched.
//
// The silent form is a direct operate without reply of objects that do not exist, which takes a
// request of one object header: behind an object that it does not know an outstation may read on.
func (e *Editor) Neutralise(frame []byte, reply bool) bool {
	var f Frame
	var m Message
	if n, err := ParseFrame(frame, &f); err != nil || n != len(frame) || !f.CarriesData() {
		return false
	}
	data := f.AppendData(e.storage[:0])
	transport := TransportHeader(data[0])
	if !transport.First() || !transport.Final() || ParseMessage(data[1:], true, false, &m) != nil || m.Function == Undefined {
		return false
	}
	if reply {
		data[offsetFunction] = byte(Undefined)
	} else {
		headers := m.Headers()
		if !headers.Next() || headers.Next() {
			return false
		}
		data[offsetFunction] = byte(DirectOperateNoReply)
		data[offsetFunction+1], data[offsetFunction+2] = 0xfd, 0xfd
	}
	f.writeData(frame, data)
	return true
}

// Refusal tells whether a frame from an outstation is, or may be the beginning of, a response without
// objects in one segment, which WriteRefusal can make a refusal.
func (m *Message) Refusal() bool {
	return m.IsResponse && m.Complete && m.Function == Response && m.First && m.Final && len(m.Objects) == 0
}

// WriteRefusal makes a whole frame of RefusalLength bytes, one in which a Message is a Refusal, the
// refusal of the request with the sequence number given. Its other indications stay: they are the
// outstation's own.
func (e *Editor) WriteRefusal(frame []byte, sequence uint8) bool {
	var f Frame
	if n, err := ParseFrame(frame, &f); err != nil || n != len(frame) || n != RefusalLength || !f.CarriesData() {
		return false
	}
	data := f.AppendData(e.storage[:0])
	data[offsetApplication] = data[offsetApplication]&^applicationSequence | sequence&applicationSequence
	data[offsetIIN+1] |= byte(IINNoFunctionCode)
	f.writeData(frame, data)
	return true
}

// writeData writes user data of the frame's length into the frame, with its CRCs.
func (f *Frame) writeData(frame, data []byte) {
	for rest := frame[linkHeader:]; len(data) > 0; {
		n := min(block, len(data))
		copy(rest, data[:n])
		putCRC(rest, n)
		rest, data = rest[n+crcBytes:], data[n:]
	}
}
