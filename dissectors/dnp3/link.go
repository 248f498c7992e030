package dnp3

import "fmt"

// The link header (IEEE 1815 clause 9.2.4.1): 0x05 0x64, length, control, destination, source, CRC.
const (
	offsetLength      = 2
	offsetControl     = 3
	offsetDestination = 4
	offsetSource      = 6
	linkHeader        = 10

	start0, start1 = 0x05, 0x64

	// fixedLength is what the length counts besides user data: control and addresses.
	fixedLength = 5

	block    = 16 // bytes of user data before a CRC
	crcBytes = 2

	// MaxData is the most user data of one frame in bytes, the transport header included.
	MaxData = 250

	// MaxFrame is the largest frame in bytes.
	MaxFrame = linkHeader + MaxData + (MaxData+block-1)/block*crcBytes
)

// The bits of the control octet.
const (
	controlDIR  = 0x80 // from a master
	controlPRM  = 0x40 // from the station that begins a transaction
	controlFCB  = 0x20 // in primary frames
	controlFCV  = 0x10 // in primary frames; data flow control in secondary ones
	controlCode = 0x0f
)

// LinkFunction is the function code of a link frame, 0..15. Primary and secondary frames have codes
// of their own.
type LinkFunction uint8

// The functions of primary frames (clause 9.2.4.1.3). All others are reserved or obsolete.
const (
	ResetLinkStates     LinkFunction = 0
	TestLinkStates      LinkFunction = 2
	ConfirmedUserData   LinkFunction = 3
	UnconfirmedUserData LinkFunction = 4
	RequestLinkStatus   LinkFunction = 9
)

// The functions of secondary frames.
const (
	LinkACK          LinkFunction = 0
	LinkNACK         LinkFunction = 1
	LinkStatus       LinkFunction = 11
	LinkNotSupported LinkFunction = 15
)

// The link addresses with a meaning of their own (clause 9.2.4.1.4): 0xfff0 to 0xfffb are reserved,
// the self address means whoever receives it, and the last three are broadcast.
const (
	MaxAddress     uint16 = 0xffef // the highest that a station can have
	SelfAddress    uint16 = 0xfffc
	FirstBroadcast uint16 = 0xfffd
)

// Broadcast tells whether the address is one of the three that all outstations take.
func Broadcast(address uint16) bool { return address >= FirstBroadcast }

// Frame is a link frame. A field that has not arrived yet is zero.
type Frame struct {
	FromMaster bool // the direction bit
	Primary    bool
	// FCB is the frame count bit, and FCV says that it counts; of a secondary frame FCV is data flow
	// control.
	FCB, FCV            bool
	Function            LinkFunction
	Destination, Source uint16
	// Length is the user data in bytes, the transport header included.
	Length int
	// Seen is how many bytes of this frame have arrived, Size() once it is complete.
	Seen int

	blocks []byte // the data with the CRCs between, as far as it has arrived
}

// Size returns the frame's size in bytes, 0 while its length has not arrived.
func (f *Frame) Size() int {
	if f.Seen <= offsetLength {
		return 0
	}
	return linkHeader + f.Length + (f.Length+block-1)/block*crcBytes
}

// Complete tells whether the whole frame has arrived.
func (f *Frame) Complete() bool { return f.Seen > offsetLength && f.Seen == f.Size() }

// CarriesData tells whether the frame has a transport segment in it.
func (f *Frame) CarriesData() bool {
	return f.Primary && (f.Function == ConfirmedUserData || f.Function == UnconfirmedUserData)
}

// Addressed tells whether both addresses have arrived.
func (f *Frame) Addressed() bool { return f.Seen >= offsetSource+2 }

// AppendData appends the user data that has arrived, the transport header first, to b.
func (f *Frame) AppendData(b []byte) []byte {
	left := f.Length
	for rest := f.blocks; len(rest) > 0 && left > 0; {
		n := min(block, left, len(rest))
		b = append(b, rest[:n]...)
		left -= n
		rest = rest[min(len(rest), n+crcBytes):]
	}
	return b
}

// ParseFrame reads the frame at the beginning of b into f and returns its size in bytes.
//
// The error is ErrNeedMore when b is a proper prefix of a frame that may still be lawful, and a
// *MalformedError as soon as it cannot be; the size is then 0. With ErrNeedMore f holds the fields
// that have arrived; with a *MalformedError what it holds is fit for a record of the event only.
func ParseFrame(b []byte, f *Frame) (n int, err error) {
	*f = Frame{}
	if bad := f.parse(b); bad != nil {
		return 0, bad
	}
	if !f.Complete() {
		return 0, ErrNeedMore
	}
	return f.Seen, nil
}

// ClaimedSize returns how long the frame at the beginning of b is by its header alone, 0 if the header
// is not here or not right.
func ClaimedSize(b []byte) int {
	if len(b) < linkHeader || b[0] != start0 || b[1] != start1 || b[offsetLength] < fixedLength ||
		!crcMatches(b, linkHeader-crcBytes) {
		return 0
	}
	f := Frame{Length: int(b[offsetLength]) - fixedLength, Seen: linkHeader}
	return f.Size()
}

func (f *Frame) parse(b []byte) *MalformedError {
	f.Seen = len(b)
	if byteIsNot(b, 0, start0) || byteIsNot(b, 1, start1) {
		return errStart
	}
	if len(b) <= offsetLength {
		return nil
	}
	f.Length = int(b[offsetLength]) - fixedLength
	if f.Length < 0 {
		f.Length = 0
		return errLength
	}
	f.Seen = min(len(b), f.Size())
	b = b[:f.Seen]
	if len(b) > offsetControl {
		if bad := f.control(b[offsetControl]); bad != nil {
			return bad
		}
	}
	if bad := f.addresses(b); bad != nil {
		return bad
	}
	if !crcMatches(b, linkHeader-crcBytes) {
		return errHeaderCRC
	}
	f.blocks = from(b, linkHeader)
	return f.checkBlocks()
}

// control reads the control octet.
func (f *Frame) control(c byte) *MalformedError {
	f.FromMaster, f.Primary = c&controlDIR != 0, c&controlPRM != 0
	f.FCB, f.FCV = c&controlFCB != 0, c&controlFCV != 0
	f.Function = LinkFunction(c & controlCode)
	if !f.Primary {
		switch f.Function {
		case LinkACK, LinkNACK, LinkStatus, LinkNotSupported:
			return f.checkData(false)
		}
		return errFunction
	}
	counted := false
	switch f.Function {
	case TestLinkStates, ConfirmedUserData:
		counted = true
	case ResetLinkStates, UnconfirmedUserData, RequestLinkStatus:
	default:
		return errFunction
	}
	if f.FCV != counted {
		return errFCV
	}
	return f.checkData(f.CarriesData())
}

// checkData holds the length to the function: a transport header at least, or nothing at all.
func (f *Frame) checkData(carries bool) *MalformedError {
	if carries != (f.Length > 0) {
		return errLinkData
	}
	return nil
}

// addresses reads the addresses as far as they have arrived.
func (f *Frame) addresses(b []byte) *MalformedError {
	f.Destination, f.Source = value16(b, offsetDestination), value16(b, offsetSource)
	switch {
	case f.Destination > MaxAddress && f.Destination < SelfAddress:
		return errDestination
	case f.Source > MaxAddress:
		return errSource
	case len(b) >= offsetSource && f.Destination >= SelfAddress && !f.FromMaster:
		return errDestination // masters have addresses
	}
	return nil
}

// checkBlocks verifies the CRC of each block that has arrived.
func (f *Frame) checkBlocks() *MalformedError {
	left := f.Length
	for rest := f.blocks; len(rest) > 0 && left > 0; {
		n := min(block, left)
		if !crcMatches(rest, n) {
			return errBlockCRC
		}
		left -= n
		rest = rest[min(len(rest), n+crcBytes):]
	}
	return nil
}

var (
	primaryNames = [...]string{
		ResetLinkStates: "reset_link_states", TestLinkStates: "test_link_states",
		ConfirmedUserData: "confirmed_user_data", UnconfirmedUserData: "unconfirmed_user_data",
		RequestLinkStatus: "request_link_status",
	}
	secondaryNames = [...]string{
		LinkACK: "ack", LinkNACK: "nack", LinkStatus: "link_status", LinkNotSupported: "not_supported",
	}
)

// Operation returns the standard's name of the link function in snake_case.
func (f *Frame) Operation() string {
	names := primaryNames[:]
	if !f.Primary {
		names = secondaryNames[:]
	}
	if int(f.Function) < len(names) && names[f.Function] != "" {
		return names[f.Function]
	}
	return fmt.Sprintf("unknown(0x%02x)", uint8(f.Function))
}

// AppendFrame appends a frame with the control octet and the user data given, of which there are at
// most MaxData bytes.
func AppendFrame(b []byte, control byte, destination, source uint16, data []byte) []byte {
	data = data[:min(len(data), MaxData)]
	at := len(b)
	b = append(b, start0, start1, byte(fixedLength+len(data)), control,
		byte(destination), byte(destination>>8), byte(source), byte(source>>8), 0, 0)
	putCRC(b[at:], linkHeader-crcBytes)
	for len(data) > 0 {
		n := min(block, len(data))
		at = len(b)
		b = append(append(b, data[:n]...), 0, 0)
		putCRC(b[at:], n)
		data = data[n:]
	}
	return b
}
