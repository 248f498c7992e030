package dnp3

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Octets of a control code: the operation in the low nibble, trip or close above (IEEE 1815 annex A,
// group 12).
const (
	Nul      = 0x00
	PulseOn  = 0x01
	PulseOff = 0x02
	LatchOn  = 0x03
	LatchOff = 0x04
	Close    = 0x41
	Trip     = 0x81

	opBits = 0x0f
)

// Status is how a control was taken (IEEE 1815 annex A, group 12).
type Status uint8

// The statuses that appear here.
const (
	StatusSuccess       Status = 0
	StatusTimeout       Status = 1
	StatusNoSelect      Status = 2
	StatusFormatError   Status = 3
	StatusNotSupported  Status = 4
	StatusNotAuthorized Status = 9
	StatusOutOfRange    Status = 12
)

var crob = Kind{12, 1}

// CROB is a control relay output block.
type CROB struct {
	Index   uint32
	Code    uint8
	Count   uint8
	On, Off uint32 // ms
	Status  Status
}

// Latch is the block that latches an output.
func Latch(index uint32, on bool) CROB {
	if on {
		return CROB{Index: index, Code: LatchOn, Count: 1}
	}
	return CROB{Index: index, Code: LatchOff, Count: 1}
}

// Object returns the block as it goes over the wire.
func (c CROB) Object() Object {
	b := binary.LittleEndian.AppendUint32([]byte{c.Code, c.Count}, c.On)
	b = binary.LittleEndian.AppendUint32(b, c.Off)
	return Object{Index: c.Index, Data: append(b, byte(c.Status))}
}

// Controls are control blocks under the qualifier that masters use.
func Controls(blocks ...CROB) []byte { return ControlsAs(0x28, blocks...) }

// ControlsAs are control blocks under another one.
func ControlsAs(qualifier uint8, blocks ...CROB) []byte {
	objects := make([]Object, len(blocks))
	for i, c := range blocks {
		objects[i] = c.Object()
	}
	return Spell(crob, qualifier, objects...)
}

// AnalogOutput is a command to an analog output: g41v2, 16 bits.
func AnalogOutput(index uint32, value int16) []byte {
	data := append(binary.LittleEndian.AppendUint16(nil, uint16(value)), byte(StatusSuccess))
	return Spell(Kind{41, 2}, 0x28, Object{Index: index, Data: data})
}

// Operation is something that an outstation has executed.
type Operation struct {
	Function Function
	Kind     Kind
	Index    uint32
	Code     uint8   // of a control block
	Value    float64 // of an analog output, or what was written
	Text     string  // of files: their name
	Master   uint16  // whose link address asked for it
}

func (o Operation) String() string {
	s := fmt.Sprintf("%v %v[%d] by %d", o.Function, o.Kind, o.Index, o.Master)
	if o.Kind == crob {
		s += fmt.Sprintf(" code 0x%02x", o.Code)
	}
	return s + " " + o.Text
}

// selection is what a SELECT has armed.
type selection struct {
	body     string
	sequence byte  // that the OPERATE has to have
	until    int64 // in nanoseconds of the outstation's clock
}

// control checks or executes a request's controls, and returns its body with their statuses.
func (o *Outstation) control(a *association, f Fragment) ([]byte, IIN) {
	headers, err := ParseHeaders(f.Body, f.Function)
	if err != nil && !o.personality.IgnoresTail {
		return nil, IINParameter
	}
	unknown := IIN(0)
	for i := range headers {
		if !controllable(headers[i].Kind) {
			unknown = IINObjectUnknown
		}
	}
	if unknown != 0 && !o.personality.IgnoresTail {
		return nil, unknown
	}
	general := o.armed(a, f)
	executes := f.Function != Select && general == StatusSuccess
	all := true
	for i := range headers {
		for j := range headers[i].Objects {
			if !controllable(headers[i].Kind) {
				continue
			}
			object := headers[i].Objects[j]
			status := general
			if status == StatusSuccess {
				status = o.command(&headers[i], object, f.Function, a.master, executes)
			}
			if len(object.Data) > 0 {
				object.Data[len(object.Data)-1] = byte(status)
			}
			all = all && status == StatusSuccess
		}
	}
	if f.Function == Select && all {
		a.selected = selection{
			body: a.body, sequence: (f.sequence() + 1) & sequenceBits,
			until: o.now().Add(o.config.SelectTimeout).UnixNano(),
		}
	}
	return f.Body, unknown
}

func controllable(k Kind) bool {
	return k == crob || k.Group == 41 && k.Variation >= 1 && k.Variation <= 4
}

// armed tells whether what a request controls may be executed: an OPERATE only right after its
// SELECT (IEEE 1815 4.4.4).
func (o *Outstation) armed(a *association, f Fragment) Status {
	if f.Function != Operate {
		return StatusSuccess
	}
	s := a.selected
	a.selected = selection{}
	switch {
	case s.body == "" || s.body != a.body:
		return StatusNoSelect
	case s.sequence != f.sequence() && !o.personality.AnySelect:
		return StatusNoSelect
	case o.now().UnixNano() > s.until:
		return StatusTimeout
	}
	return StatusSuccess
}

// command checks one control, and executes it.
func (o *Outstation) command(h *Header, object Object, f Function, master uint16, executes bool) Status {
	if h.prefix() == prefixNone || h.prefix() >= prefixSize {
		if !o.personality.AnyQualifier {
			return StatusFormatError
		}
	}
	op := Operation{Function: f, Kind: h.Kind, Index: object.Index, Master: master}
	switch {
	case len(object.Data) != sizes[h.Kind]:
		return StatusFormatError
	case h.Kind == crob:
		if int(object.Index) >= len(o.points.binaryOutputs) {
			return StatusOutOfRange
		}
		op.Code = object.Data[0]
		if op.Code&opBits > LatchOff {
			return StatusNotSupported
		}
	default:
		if int(object.Index) >= len(o.points.analogOutputs) {
			return StatusOutOfRange
		}
		op.Value = analog(h.Kind.Variation, object.Data)
	}
	if executes {
		o.execute(op)
	}
	return StatusSuccess
}

// execute does what a control says, and writes it down.
func (o *Outstation) execute(op Operation) {
	if op.Kind.Group == 41 {
		o.points.analogOutputs[op.Index].value = op.Value
	} else if op.Code&opBits != Nul {
		o.points.binaryOutputs[op.Index].value = on(op.Code)
	}
	o.record(op)
}

// on is what an output is after a control: 1 or 0.
func on(code uint8) float64 {
	switch code & opBits {
	case PulseOff, LatchOff:
		return 0
	}
	if code&0xc0 == Trip&0xc0 {
		return 0
	}
	return 1
}

// analog reads the value of g40, g41 and their like: 32 and 16 bits, single and double precision.
func analog(variation uint8, b []byte) float64 {
	switch variation {
	case 1:
		return float64(int32(binary.LittleEndian.Uint32(b)))
	case 2:
		return float64(int16(binary.LittleEndian.Uint16(b)))
	case 3:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}
