package dnp3

// The application header (clause 4.2.2): control, function, and in a response the indications.
const (
	requestHeader  = 2
	responseHeader = 4

	applicationFirst       = 0x80
	applicationFinal       = 0x40
	applicationConfirm     = 0x20
	applicationUnsolicited = 0x10
	applicationSequence    = 0x0f
)

// Message is an application layer fragment. Slices alias the bytes that were parsed. A field that has
// not arrived yet is zero.
type Message struct {
	// First and Final say where a response of several fragments begins and ends; a request has both.
	First, Final bool
	// Confirm asks the receiver for a confirmation, Unsolicited marks a response that nobody asked
	// for and its confirmation.
	Confirm, Unsolicited bool
	Sequence             uint8 // 0..15
	Function             FunctionCode
	IsResponse           bool
	IIN                  IIN // of a response

	// Objects is everything behind the header.
	Objects []byte
	// Seen is how many bytes of the message have arrived, Complete that these are all.
	Seen     int
	Complete bool
}

// ParseMessage reads a fragment: all that has arrived of it, complete telling whether that is all
// there is. response tells which station it comes from.
//
// The error is nil for a complete lawful message, ErrNeedMore for the beginning of one, and a
// *MalformedError as soon as it cannot be one.
func ParseMessage(b []byte, complete, response bool, m *Message) error {
	*m = Message{IsResponse: response, Seen: len(b), Complete: complete}
	if bad := m.parse(b); bad != nil {
		return bad
	}
	if !complete {
		return ErrNeedMore
	}
	return nil
}

func (m *Message) parse(b []byte) *MalformedError {
	if len(b) > MaxMessage {
		return errTooLong
	}
	header := requestHeader
	if m.IsResponse {
		header = responseHeader
	}
	if m.Complete && len(b) < header {
		return errTooShort
	}
	if len(b) > 0 {
		control := b[0]
		m.First, m.Final = control&applicationFirst != 0, control&applicationFinal != 0
		m.Confirm, m.Unsolicited = control&applicationConfirm != 0, control&applicationUnsolicited != 0
		m.Sequence = control & applicationSequence
	}
	if len(b) > 0 && !m.IsResponse {
		if !m.First || !m.Final {
			return errFragments
		}
		if m.Confirm {
			return errRequestFlags
		}
	}
	if len(b) > 1 {
		m.Function = FunctionCode(b[1])
		if bad := m.checkFunction(); bad != nil {
			return bad
		}
	}
	if m.IsResponse && len(b) >= responseHeader {
		m.IIN = IIN(b[2])<<8 | IIN(b[3])
	}
	m.Objects = from(b, header)
	return m.checkObjects()
}

// checkFunction holds function and flags to the direction.
func (m *Message) checkFunction() *MalformedError {
	if m.IsResponse {
		switch {
		case m.Function < Response:
			return errResponseCode
		case m.Function <= UnsolicitedResponse && m.Unsolicited != (m.Function == UnsolicitedResponse):
			return errResponseFlags
		}
		return nil
	}
	switch {
	case m.Function >= Response:
		return errRequestCode
	case m.Unsolicited && m.Function != Confirm:
		return errRequestFlags
	}
	return nil
}

// Known tells whether the function code has arrived.
func (m *Message) Known() bool { return m.Seen > 1 }

// checkObjects walks through the object headers and holds them to the function.
func (m *Message) checkObjects() *MalformedError {
	if !m.Function.Defined() {
		return nil // raw
	}
	c := m.Headers()
	var o order
	for len(c.rest) > 0 {
		bad := m.checkGroup(c.rest[0])
		n := 0
		if bad == nil {
			n, bad = c.Header.parse(c.rest, m.Function)
		}
		if bad == nil {
			bad = o.check(m, &c.Header)
		}
		switch {
		case bad != nil:
			return bad
		case n == 0 && m.Complete && c.rangeKnown():
			return errObjectCut
		case n == 0 && m.Complete:
			return errHeaderCut
		case n == 0:
			return nil
		}
		c.rest = c.rest[n:]
	}
	if m.Complete {
		return o.atEnd(m)
	}
	return nil
}

// checkGroup refuses objects of a group that a request's function does not have, as soon as the group is
// known: what an object is has to be clear before its size is asked for.
func (m *Message) checkGroup(group uint8) *MalformedError {
	f := m.Function
	switch {
	case m.IsResponse:
	case f.Authenticates() && group != GroupAuthentication:
		return errNotAuth
	case group == GroupAuthentication:
	case f.bare():
		return errBare
	case f.OnFile() && group != GroupFile:
		return errNotFile
	case f.Controls() && group != GroupControl && group != GroupAnalogOutput:
		return errNotControl
	}
	return nil
}

// order is what the headers before one leave for it to keep to.
type order struct {
	headers int
	wrapped bool // the first was an aggressive mode request
	closed  bool // the last was its message authentication code
	pattern patternState
}

// patternState is how far a pattern control has come: its block, then its masks.
type patternState uint8

const (
	noPattern patternState = iota
	patternBegun
	patternMasked
)

// The authentication objects that enclose another request (clause 7: aggressive mode).
const (
	aggressiveMode     = 3
	authenticationCode = 9
)

// check judges the next header, of which group and variation may be all that has arrived.
func (o *order) check(m *Message, h *Header) *MalformedError {
	if !h.Named() {
		return nil
	}
	if m.IsResponse {
		return nil
	}
	o.headers++
	switch {
	case o.closed:
		return errWrapper
	case o.pattern == patternBegun && !h.PatternMask():
		return errPatternMask
	case m.Function.Authenticates():
		return nil
	case h.Group == GroupAuthentication:
		return o.wrap(h)
	case m.Function.Controls():
		return o.control(h)
	}
	return nil
}

// wrap judges an authentication object within another request.
func (o *order) wrap(h *Header) *MalformedError {
	switch {
	case h.Variation == aggressiveMode && o.headers == 1:
		o.wrapped = true
	case h.Variation == authenticationCode && o.wrapped:
		o.closed = true
	default:
		return errWrapper
	}
	return nil
}

// control judges a header under a control function: which points it names has to be plain.
func (o *order) control(h *Header) *MalformedError {
	mask, block := h.PatternMask(), h.PatternBlock()
	switch {
	case h.Group == GroupControl && h.Variation >= 1 && h.Variation <= patternMask:
	case h.Group == GroupAnalogOutput && h.Variation >= 1 && h.Variation <= 4:
	default:
		return errNotControl
	}
	if mask && o.pattern == noPattern {
		return errPatternMask
	}
	o.pattern = noPattern
	switch {
	case block:
		o.pattern = patternBegun
		if h.rangeKnown() && (h.Indexed() || h.Sized() || h.Count != 1) {
			return errPatternMask
		}
		return nil
	case mask:
		o.pattern = patternMasked
	}
	if h.qualified() && !h.Indexed() && !h.Ranged() {
		return errControlIndex
	}
	return nil
}

// atEnd judges what a complete message lacks.
func (o *order) atEnd(m *Message) *MalformedError {
	if m.IsResponse {
		return nil
	}
	switch {
	case o.wrapped != o.closed:
		return errWrapper
	case o.pattern == patternBegun:
		return errPatternMask
	}
	return nil
}

// Wrapped tells whether a complete request is enclosed by authentication objects (aggressive mode).
func (m *Message) Wrapped() bool {
	return !m.IsResponse && !m.Function.Authenticates() && len(m.Objects) > 1 &&
		m.Objects[0] == GroupAuthentication && m.Objects[1] == aggressiveMode
}

// Inner returns the objects of a complete request without the authentication objects that enclose them.
func (m *Message) Inner() []byte {
	if !m.Wrapped() {
		return m.Objects
	}
	start, end := -1, 0
	for c := m.Headers(); ; {
		at := len(m.Objects) - len(c.rest)
		if !c.Next() {
			break
		}
		if start < 0 {
			start = len(m.Objects) - len(c.rest)
		}
		end = at // of the last header
	}
	if start < 0 || end < start {
		return nil
	}
	return m.Objects[start:end]
}

// Headers returns a cursor over the message's object headers. It is empty where the function is none
// that the standard defines.
func (m *Message) Headers() Headers {
	if !m.Function.Defined() {
		return Headers{}
	}
	return Headers{rest: m.Objects, function: m.Function}
}

// Headers walks through object headers: call Next, then read the Header.
type Headers struct {
	Header
	rest     []byte
	function FunctionCode
}

// Next reads the next header. The last one of a message that has not arrived whole may be cut short.
func (c *Headers) Next() bool {
	if len(c.rest) == 0 {
		return false
	}
	n, bad := c.Header.parse(c.rest, c.function)
	if bad != nil {
		c.rest = nil
		return false
	}
	if n == 0 {
		n = len(c.rest)
	}
	c.rest = c.rest[n:]
	return true
}

// Operation returns the name of the function.
func (m *Message) Operation() string { return m.Function.String() }
