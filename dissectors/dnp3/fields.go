package dnp3

// Fields is a frame and the message that it completed, as people and other programs read them. A field
// that there is not is absent. Making it allocates: it is for lists of messages, not for the line.
type Fields struct {
	LinkSource      uint16 `json:"link_source"`
	LinkDestination uint16 `json:"link_destination"`
	// LinkFunction is there for frames without a message.
	LinkFunction *LinkFunction `json:"link_function,omitempty"`

	Sequence    *uint8         `json:"sequence,omitempty"`
	Function    *FunctionCode  `json:"function,omitempty"`
	First       *bool          `json:"first,omitempty"` // of a response, which may have several fragments
	Final       *bool          `json:"final,omitempty"`
	Confirm     bool           `json:"confirm,omitempty"`
	Unsolicited bool           `json:"unsolicited,omitempty"`
	IIN         *IIN           `json:"iin,omitempty"` // IIN1 in the upper half
	Objects     []ObjectFields `json:"objects,omitempty"`
}

// ObjectFields is an object header in Fields.
type ObjectFields struct {
	Group     uint8   `json:"group"`
	Variation uint8   `json:"variation"`
	Qualifier uint8   `json:"qualifier"`
	Count     uint64  `json:"count"` // 0 where the header stands for all
	Start     *uint32 `json:"start,omitempty"`
	Stop      *uint32 `json:"stop,omitempty"`
	// Points are the indices that the header names, up to MaxPoints.
	Points       []uint32  `json:"points,omitempty"`
	ControlCodes []uint16  `json:"control_codes,omitempty"` // octets: JSON writes bytes as a text
	Counts       []uint16  `json:"counts,omitempty"`        // of controls
	OnTimes      []uint32  `json:"on_times,omitempty"`
	OffTimes     []uint32  `json:"off_times,omitempty"`
	Values       []float64 `json:"values,omitempty"` // of analog outputs and deadbands
	File         string    `json:"file,omitempty"`
	FileMode     *FileMode `json:"file_mode,omitempty"`
	// Attributes are device attributes (group 0) that are texts.
	Attribute string `json:"attribute,omitempty"`
}

// MaxPoints is how many points Fields lists of one header.
const MaxPoints = 4096

// Fields returns the fields of the frame, and of the message where it completed one; m may be nil.
func (f *Frame) Fields(m *Message) Fields {
	out := Fields{LinkSource: f.Source, LinkDestination: f.Destination}
	if m == nil {
		out.LinkFunction = new(f.Function)
		return out
	}
	out.Sequence, out.Function = new(m.Sequence), new(m.Function)
	out.Confirm, out.Unsolicited = m.Confirm, m.Unsolicited
	if m.IsResponse {
		out.IIN, out.First, out.Final = new(m.IIN), new(m.First), new(m.Final)
	}
	for headers := m.Headers(); headers.Next(); {
		out.Objects = append(out.Objects, headers.Header.fields())
	}
	return out
}

func (h *Header) fields() ObjectFields {
	o := ObjectFields{Group: h.Group, Variation: h.Variation, Qualifier: h.Qualifier, Count: h.Count}
	if h.Ranged() && h.PointsKnown() {
		o.Start, o.Stop = new(h.Start), new(h.Stop)
		for at := uint64(0); at < h.Count && h.Count <= MaxPoints; at++ {
			o.Points = append(o.Points, h.Start+uint32(at))
		}
	}
	for objects := h.Objects(); objects.Next(); {
		if h.Indexed() && len(o.Points) < MaxPoints {
			o.Points = append(o.Points, objects.Index)
		}
		o.add(h, objects.Data)
	}
	return o
}

// add adds what an object says besides its index.
func (o *ObjectFields) add(h *Header, data []byte) {
	if c, ok := h.Control(data); ok {
		o.ControlCodes, o.Counts = append(o.ControlCodes, uint16(c.Code)), append(o.Counts, uint16(c.Count))
		o.OnTimes, o.OffTimes = append(o.OnTimes, c.OnTime), append(o.OffTimes, c.OffTime)
	}
	if v, ok := h.Analog(data); ok && v-v == 0 { // JSON has no infinity
		o.Values = append(o.Values, v)
	}
	if f, ok := h.File(data); ok && f.Name != nil {
		o.File = string(f.Name)
		if h.Variation == fileCommand {
			o.FileMode = new(f.Mode)
		}
	}
	if text, ok := h.Attribute(data); ok {
		o.Attribute = text
	}
}

// attributeText is the type of a device attribute that is a visible string (annex A, group 0).
const attributeText = 1

// Attribute returns a device attribute that is a text; the header's variation says which it is.
func (h *Header) Attribute(data []byte) (text string, ok bool) {
	if h.Group != GroupAttribute || len(data) < attributeHeader || data[0] != attributeText ||
		len(data) != attributeHeader+int(data[1]) {
		return "", false
	}
	return string(data[attributeHeader:]), true
}
