package dnp3

import (
	"fmt"
	"math"
)

// The variations of group 12.
const (
	patternBlock = 2
	patternMask  = 3
)

// ControlCode is the first octet of a control relay output block (annex A, g12v1): the operation in
// bits 0..3, queue and clear in bits 4 and 5, trip or close in bits 6 and 7.
type ControlCode uint8

// Operation returns what is done to the output: 0..15.
func (c ControlCode) Operation() uint8 { return uint8(c & 0x0f) }

// TripClose returns 0 for neither, 1 for close, 2 for trip; 3 is reserved.
func (c ControlCode) TripClose() uint8 { return uint8(c >> 6) }

var operationNames = [...]string{0: "nul", 1: "pulse_on", 2: "pulse_off", 3: "latch_on", 4: "latch_off"}

// String returns the names that a policy uses: latch_on, close, trip, or close+latch_on where it is not
// a pulse; other codes as unknown(0x1b).
func (c ControlCode) String() string {
	operation := c.Operation()
	if c&0x30 != 0 || int(operation) >= len(operationNames) {
		return fmt.Sprintf("unknown(0x%02x)", uint8(c))
	}
	name := operationNames[operation]
	switch c.TripClose() {
	case 0:
		return name
	case 1:
		if operation == 1 {
			return "close"
		}
		return "close+" + name
	case 2:
		if operation == 1 {
			return "trip"
		}
		return "trip+" + name
	}
	return fmt.Sprintf("unknown(0x%02x)", uint8(c))
}

// Control is a control relay output block or a pattern control block.
type Control struct {
	Code            ControlCode
	Count           uint8  // how often it is done
	OnTime, OffTime uint32 // in milliseconds
	Status          uint8
}

// controlSize is the size of both blocks in bytes.
const controlSize = 11

// Control returns the block in an object of g12v1 or g12v2.
func (h *Header) Control(data []byte) (c Control, ok bool) {
	if h.Group != GroupControl || h.Variation < 1 || h.Variation > patternBlock || len(data) != controlSize {
		return Control{}, false
	}
	return Control{
		Code: ControlCode(data[0]), Count: data[1],
		OnTime: value32(data, 2), OffTime: value32(data, 6), Status: data[10],
	}, true
}

// PatternBlock and PatternMask tell the two objects of pattern control: the block says what is done,
// the mask's bits to which points.
func (h *Header) PatternBlock() bool { return h.Group == GroupControl && h.Variation == patternBlock }

// PatternMask tells whether the header's objects are the bits of a pattern mask.
func (h *Header) PatternMask() bool { return h.Group == GroupControl && h.Variation == patternMask }

// Analog returns the value in an object of an analog output block (g41), an analog output's status
// (g40) or a deadband (g34).
func (h *Header) Analog(data []byte) (v float64, ok bool) {
	switch h.Group {
	case GroupAnalogOutput:
		return analog(h.Variation, data, 1)
	case GroupAnalogStatus:
		if len(data) == 0 {
			return 0, false
		}
		return analog(h.Variation, data[1:], 0)
	case GroupDeadband:
		return deadband(h.Variation, data)
	}
	return 0, false
}

// analog reads a value with extra bytes behind it.
func analog(variation uint8, data []byte, extra int) (float64, bool) {
	switch {
	case variation == 1 && len(data) == 4+extra:
		return float64(int32(value32(data, 0))), true
	case variation == 2 && len(data) == 2+extra:
		return float64(int16(value16(data, 0))), true
	case variation == 3 && len(data) == 4+extra:
		return float64(math.Float32frombits(value32(data, 0))), true
	case variation == 4 && len(data) == 8+extra:
		return math.Float64frombits(uint64(value32(data, 0)) | uint64(value32(data, 4))<<32), true
	}
	return 0, false
}

// deadband reads a deadband, whose variations 1 and 2 have no sign.
func deadband(variation uint8, data []byte) (float64, bool) {
	switch {
	case variation == 1 && len(data) == 2:
		return float64(value16(data, 0)), true
	case variation == 2 && len(data) == 4:
		return float64(value32(data, 0)), true
	case variation == 3 && len(data) == 4:
		return float64(math.Float32frombits(value32(data, 0))), true
	}
	return 0, false
}

// Class returns the class that a header of group 60 names: 0 to 3.
func (h *Header) Class() (class uint8, ok bool) {
	if h.Group != GroupClass || h.Variation < 1 || h.Variation > 4 {
		return 0, false
	}
	return h.Variation - 1, true
}
