package cip

import "time"

// ConnectionType is how a direction of a connection is addressed (V1 3-5.5.1.1).
type ConnectionType uint8

// The types. Type 3 is reserved.
const (
	TypeNull ConnectionType = iota
	TypeMulticast
	TypePointToPoint
)

// NetworkParameters are what a Forward Open says of one direction (V1 3-5.5.1.1).
type NetworkParameters struct {
	ID       uint32 // of the connection; 0 where the other end is to choose
	RPI      time.Duration
	Type     ConnectionType
	Owner    bool // redundant owner
	Variable bool
	Priority uint8
	Size     uint16 // in bytes, the sequence count of class 1 and a run/idle header included
}

// Triad names a connection as its originator does (V1 3-5.5.2).
type Triad struct {
	Serial           uint16 `json:"serial"`
	Vendor           uint16 `json:"vendor"`
	OriginatorSerial uint32 `json:"originator_serial"`
}

// TriadLength is how many bytes a triad has on the wire.
const TriadLength = 8

// ReadTriad reads a triad from the beginning of b, which has that many.
func ReadTriad(b []byte) Triad { return Triad{value16(b, 0), value16(b, 2), value32(b, 4)} }

// Open is the data of a Forward Open or a Large Forward Open (V1 3-5.5.2, 3-5.5.3).
type Open struct {
	ToTarget, ToOriginator NetworkParameters
	Triad
	Multiplier uint8 // the time-out is RPI * (4 << Multiplier)
	Trigger    uint8 // the whole byte: direction, trigger, class
	Class      uint8 // transport class
	Path       Path
}

// IO tells whether the connection carries implicit data: transport class 0 or 1.
func (o *Open) IO() bool { return o.Class <= 1 }

// Null tells whether it opens no connection, but asks the target to take a configuration, or to say that
// it could (a Forward Open with both types null).
func (o *Open) Null() bool { return o.ToTarget.Type == TypeNull && o.ToOriginator.Type == TypeNull }

// Explicit tells whether the connection leads to the message router and nothing else, and so carries
// services.
func (o *Open) Explicit() bool { return !o.IO() && o.Path.RouterOnly() }

// maxMultiplier is the highest time-out multiplier, for 512 packet intervals; those above are reserved (V1
// 3-5.5.1.4), and would say of no two receivers that they agree when a connection is over.
const maxMultiplier = 7

const (
	openFixed      = 36 // up to and with the path's size, with 16-bit parameters
	largeOpenFixed = 40
	closeFixed     = 12
)

// checkOpen judges the data of a Forward Open, which path and size have to fill.
func checkOpen(b []byte, length int, large bool) *MalformedError {
	fixed := openFixed
	if large {
		fixed = largeOpenFixed
	}
	if length < fixed || len(b) >= fixed && length != fixed+2*int(b[fixed-1]) {
		return errServiceData
	}
	if len(b) < length {
		return nil
	}
	var o Open
	return o.parse(b, large)
}

// ForwardOpen reads the data of a Forward Open or Large Forward Open that has arrived whole.
func (r *Request) ForwardOpen(o *Open) bool {
	large := r.Is(LargeForwardOpen, ConnectionManager)
	if !large && !r.Is(ForwardOpen, ConnectionManager) || !r.Complete() {
		return false
	}
	return o.parse(r.Data, large) == nil
}

func (o *Open) parse(b []byte, large bool) *MalformedError {
	o.ToTarget.ID, o.ToOriginator.ID = value32(b, 2), value32(b, 6)
	o.Triad = ReadTriad(b[10:])
	o.Multiplier = b[18]
	at := 22
	at += o.ToTarget.parse(b[at:], large)
	at += o.ToOriginator.parse(b[at:], large)
	o.Trigger, o.Class = b[at], b[at]&0x0f
	if o.Class > 3 {
		return errTransport
	}
	if o.Multiplier > maxMultiplier {
		return errMultiplier
	}
	if o.ToTarget.Type > TypePointToPoint || o.ToOriginator.Type > TypePointToPoint {
		return errConnection
	}
	o.Path.reset()
	o.Path.connection = true
	return o.Path.parse(b[at+2:], Padded)
}

// parse reads packet interval and parameters, and returns their size.
func (n *NetworkParameters) parse(b []byte, large bool) int {
	n.RPI = time.Duration(value32(b, 0)) * time.Microsecond
	v := value32(b, 4)
	size, read := v&0xffff, 8
	if !large {
		v = uint32(value16(b, 4)) << 16
		size, read = v>>16&0x1ff, 6
	}
	n.Owner = v>>31 != 0
	n.Type = ConnectionType(v >> 29 & 3)
	n.Priority = uint8(v >> 26 & 3)
	n.Variable = v>>25&1 != 0
	n.Size = uint16(size)
	return read
}

// Close is the data of a Forward Close (V1 3-5.5.4).
type Close struct {
	Triad
	Path Path
}

func checkClose(b []byte, length int) *MalformedError {
	if length < closeFixed || len(b) > 10 && length != closeFixed+2*int(b[10]) {
		return errServiceData
	}
	if len(b) < length {
		return nil
	}
	var c Close
	return c.parse(b)
}

func (c *Close) parse(b []byte) *MalformedError {
	c.Triad = ReadTriad(b[2:])
	c.Path.reset()
	c.Path.connection = true
	return c.Path.parse(b[closeFixed:], Padded)
}

// ForwardClose reads the data of a Forward Close that has arrived whole.
func (r *Request) ForwardClose(c *Close) bool {
	if !r.Is(ForwardClose, ConnectionManager) || !r.Complete() {
		return false
	}
	return c.parse(r.Data) == nil
}

// UnconnectedRoute returns the hops of an Unconnected Send that has arrived whole.
func (r *Request) UnconnectedRoute(into *[MaxHops]Hop) (hops []Hop, ok bool) {
	var u unconnected
	if !r.Is(UnconnectedSend, ConnectionManager) || u.parse(r.Data, r.DataLength) != nil || !u.routeKnown {
		return nil, false
	}
	return into[:copy(into[:], u.route.Hops())], true
}

// Opened is the data of a successful reply to a Forward Open (V1 3-5.5.2).
type Opened struct {
	ToTarget, ToOriginator uint32 // the connection's identifiers
	Triad
	// TargetAPI and OriginatorAPI are the packet intervals that were granted: originator to target, and
	// target to originator.
	TargetAPI, OriginatorAPI time.Duration
}

// ForwardOpened reads the data of a successful reply to a Forward Open.
func (r *Reply) ForwardOpened(o *Opened) bool {
	b := r.Data
	if len(b) < 24 {
		return false
	}
	o.ToTarget, o.ToOriginator = value32(b, 0), value32(b, 4)
	o.Triad = ReadTriad(b[8:])
	o.TargetAPI = time.Duration(value32(b, 16)) * time.Microsecond
	o.OriginatorAPI = time.Duration(value32(b, 20)) * time.Microsecond
	return true
}
