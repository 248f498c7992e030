package dnp3

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Bits and functions of a link frame's control octet (IEEE 1815 9.2.4.1.3).
const (
	LinkDIR = 0x80 // from a master
	LinkPRM = 0x40 // from the end that began the transaction
	LinkFCB = 0x20
	LinkFCV = 0x10

	ResetLinkStates     = 0 // with LinkPRM
	TestLinkStates      = 2
	ConfirmedUserData   = 3
	UnconfirmedUserData = 4
	RequestLinkStatus   = 9

	LinkACK          = 0 // without LinkPRM
	LinkNACK         = 1
	LinkStatus       = 11
	LinkNotSupported = 15

	linkFunction = 0x0f
)

// Addresses that are not one station's (IEEE 1815 table 9-2).
const (
	SelfAddress    = 0xfffc
	FirstBroadcast = 0xfffd
)

const (
	maxUserData  = 250
	headOctets   = 10 // of the first block with its checksum
	blockOctets  = 16 // of user data in each further block
	countedHeads = 5  // octets of the head that the length counts
)

var syncOctets = []byte{0x05, 0x64}

// Frame is a link frame. Data is what the checksums are taken out of, at most 250 octets.
type Frame struct {
	Control             byte
	Destination, Source uint16
	Data                []byte
}

// Append appends the frame as it goes over the wire.
func (f Frame) Append(b []byte) []byte {
	head := append([]byte{}, syncOctets...)
	head = append(head, byte(countedHeads+len(f.Data)), f.Control)
	head = binary.LittleEndian.AppendUint16(head, f.Destination)
	head = binary.LittleEndian.AppendUint16(head, f.Source)
	b = appendChecked(b, head)
	for data := f.Data; len(data) > 0; {
		n := min(blockOctets, len(data))
		b = appendChecked(b, data[:n])
		data = data[n:]
	}
	return b
}

func (f Frame) primary() bool  { return f.Control&LinkPRM != 0 }
func (f Frame) function() byte { return f.Control & linkFunction }

// userData reports whether the frame carries a transport segment.
func (f Frame) userData() bool {
	return f.primary() && (f.function() == UnconfirmedUserData || f.function() == ConfirmedUserData)
}

var (
	errGarbage   = errors.New("something that is not a link frame")
	errTruncated = errors.New("truncated")
)

// parseFrame reads the frame that b begins with, and how many octets of b it took: none while more
// are needed.
func parseFrame(b []byte) (Frame, int, error) {
	if !bytes.HasPrefix(b, syncOctets[:min(len(b), 2)]) {
		return Frame{}, 0, errGarbage
	}
	if len(b) < headOctets {
		return Frame{}, 0, nil
	}
	length := int(b[2])
	if length < countedHeads || !rightly(b[:headOctets]) {
		return Frame{}, 0, errGarbage
	}
	f := Frame{
		Control:     b[3],
		Destination: binary.LittleEndian.Uint16(b[4:]),
		Source:      binary.LittleEndian.Uint16(b[6:]),
	}
	at := headOctets
	for left := length - countedHeads; left > 0; {
		n := min(blockOctets, left)
		if len(b) < at+n+2 {
			return Frame{}, 0, nil
		}
		if !rightly(b[at : at+n+2]) {
			return Frame{}, 0, errGarbage
		}
		f.Data = append(f.Data, b[at:at+n]...)
		at, left = at+n+2, left-n
	}
	return f, at, nil
}

// scanner finds the frames in what a channel receives.
type scanner struct {
	hunts bool // looks for the next sync octets in what is no frame, its own insides included
	buf   []byte
}

// feed returns the frames that b completes. Without hunting the first octet that belongs to no
// frame is an error, and nothing is to be read after it.
func (s *scanner) feed(b []byte) (frames []Frame, err error) {
	s.buf = append(s.buf, b...)
	for len(s.buf) > 0 {
		f, n, err := parseFrame(s.buf)
		switch {
		case err != nil && !s.hunts:
			return frames, err
		case err != nil:
			s.skip()
		case n == 0:
			return frames, nil
		default:
			s.buf = s.buf[n:]
			frames = append(frames, f)
		}
	}
	return frames, nil
}

// skip goes to the next place where a frame may begin.
func (s *scanner) skip() {
	at := bytes.IndexByte(s.buf[1:], syncOctets[0])
	if at < 0 {
		s.buf = nil
		return
	}
	s.buf = s.buf[1+at:]
}
