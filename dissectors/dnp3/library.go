package dnp3

// The groups that mean something to more than the library.
const (
	GroupAttribute      uint8 = 0   // device attributes
	GroupBinaryOutput   uint8 = 10  // status of binary outputs; written, it sets them
	GroupControl        uint8 = 12  // control relay output and pattern control blocks
	GroupDeadband       uint8 = 34  // analog input deadbands
	GroupAnalogStatus   uint8 = 40  // status of analog outputs
	GroupAnalogOutput   uint8 = 41  // analog output blocks
	GroupTime           uint8 = 50  // time and date
	GroupClass          uint8 = 60  // classes of data
	GroupFile           uint8 = 70  // files
	GroupIndication     uint8 = 80  // internal indications
	GroupAuthentication uint8 = 120 // secure authentication
)

// form is how long an object of a group and variation is.
type form uint8

const (
	unknownForm   form = iota
	fixedForm          // size bytes
	oneBit             // packed, from the lowest bit up
	twoBits            // packed likewise
	stringForm         // as many bytes as the variation says
	attributeForm      // a type, a length, and that many bytes
	freeForm           // says nothing of its length: a size comes before it
)

type layout struct {
	form form
	size uint8
}

// fixed makes the layouts of variations 1 up; 0 is a gap.
func fixed(sizes ...uint8) []layout {
	list := make([]layout, 1+len(sizes))
	for i, size := range sizes {
		if size > 0 {
			list[1+i] = layout{fixedForm, size}
		}
	}
	return list
}

// forms makes the layouts of variations 1 up that are all of one form.
func forms(f form, n int) []layout {
	list := make([]layout, 1+n)
	for i := range n {
		list[1+i].form = f
	}
	return list
}

// packed replaces variation 1 by packed bits.
func packed(f form, rest []layout) []layout {
	rest[1] = layout{form: f}
	return rest
}

// library holds the object library of IEEE 1815 annex A by group and variation. What is left out has
// no size that is known. Variation 0 names any variation and has no object.
var library = newLibrary()

func newLibrary() *[123][]layout {
	analogEvent := fixed(5, 3, 11, 9, 5, 9, 11, 15)
	counterEvent := fixed(5, 3, 5, 3, 11, 9, 11, 9)
	authentication := forms(freeForm, 15)
	authentication[3] = layout{fixedForm, 6} // aggressive mode: sequence and user number
	authentication[4] = layout{fixedForm, 2} // session key status request: user number
	control := fixed(11, 11, 1)
	control[3] = layout{form: oneBit} // pattern mask
	return &[123][]layout{
		// Binary inputs, double-bit inputs, binary outputs.
		1: packed(oneBit, fixed(1, 1)), 2: fixed(1, 7, 3), 3: packed(twoBits, fixed(1, 1)), 4: fixed(1, 7, 3),
		10: packed(oneBit, fixed(1, 1)), 11: fixed(1, 7), 12: control, 13: fixed(1, 7),
		// Counters, frozen counters, their events.
		20: fixed(5, 3, 5, 3, 4, 2, 4, 2), 21: fixed(5, 3, 5, 3, 11, 9, 11, 9, 4, 2, 4, 2),
		22: counterEvent, 23: counterEvent,
		// Analog inputs, frozen ones, their events, deadbands; outputs, their events.
		30: fixed(5, 3, 4, 2, 5, 9), 31: fixed(5, 3, 11, 9, 4, 2, 5, 9), 32: analogEvent, 33: analogEvent,
		34: fixed(2, 4, 4),
		40: fixed(5, 3, 5, 9), 41: fixed(5, 3, 5, 9), 42: analogEvent, 43: analogEvent,
		// Time and date, common time of occurrence, delays.
		50: fixed(6, 10, 6, 11), 51: fixed(6, 6), 52: fixed(2, 2),
		// Files; indications, storage; profile, private registration; data sets.
		70: forms(freeForm, 8), 80: forms(oneBit, 1), 81: fixed(3), 82: forms(freeForm, 1), 83: forms(freeForm, 2),
		85: forms(freeForm, 1), 86: {1: {form: freeForm}, 2: {fixedForm, 1}, 3: {form: freeForm}},
		87: forms(freeForm, 1), 88: forms(freeForm, 1),
		// Applications, status of a requested operation; numerals.
		90: forms(freeForm, 1), 91: forms(freeForm, 1), 101: fixed(2, 4, 8), 102: fixed(1),
		// Authentication, its statistics.
		120: authentication, 121: fixed(7), 122: fixed(7, 13),
	}
}

// layoutOf returns how long an object is.
func layoutOf(group, variation uint8) layout {
	switch {
	case group == GroupAttribute:
		return layout{form: attributeForm}
	case group == GroupClass:
		return layout{fixedForm, 0} // a class has no contents
	case group >= 110 && group <= 113: // octet strings, virtual terminal, and their events
		return layout{form: stringForm, size: variation}
	case int(group) < len(library) && int(variation) < len(library[group]):
		return library[group][variation]
	}
	return layout{}
}
