package cip

// The limits of nesting.
const (
	// MaxDepth is how many services one may be nested in.
	MaxDepth = 4
	// MaxServices is how many services one message may hold, the containers counted.
	MaxServices = 255
)

// Outer is a service that others are nested in.
type Outer struct {
	Code  ServiceCode
	Owner Owner
}

// Walk visits the services of a message, outermost first, in the order of the wire. Start it, then call
// Next until it returns false, and ask Err.
type Walk struct {
	// Request is the service that Next has found.
	Request Request

	first   []byte // not visited yet
	length  int
	started bool
	entered bool // what is in the service found last is visited
	count   int
	bad     *MalformedError

	frames     [MaxDepth]frame
	depth      int
	hops       [MaxHops]Hop // of the unconnected sends around the service
	hopCount   int
	routeKnown bool
	base       []byte // the message
}

// frame is a service around the one that is visited.
type frame struct {
	outer      Outer
	data       []byte // of the service, as far as it has arrived
	length     int    // announced
	offset     int    // of data in the message
	next       int    // which service of a packet comes next
	hops       int    // of the walk before it
	routeKnown bool   // of the walk before it
	awaits     bool   // the service is an Unconnected Send whose route has not arrived

	// Where the service itself is, how long, and how many were found with it.
	start, size, count int
}

// Start begins with the message b, of which length bytes are announced. base is the route to where it is
// sent: that of its connection.
func (w *Walk) Start(b []byte, length int, base []Hop) {
	w.base, w.first, w.length, w.started, w.entered = b, b, length, false, false
	w.count, w.bad, w.depth = 0, nil, 0
	w.hopCount, w.routeKnown = copy(w.hops[:], base), true
}

// Err returns why the message is not lawful, nil if it is, as far as it was visited.
func (w *Walk) Err() error {
	if w.bad != nil {
		return w.bad
	}
	return nil
}

// Found returns the bytes of the service that was found, as far as they have arrived, from its code on.
func (w *Walk) Found() []byte {
	r := &w.Request
	return w.base[min(r.Offset, len(w.base)):min(r.Offset+r.Length, len(w.base))]
}

// Within returns the i-th of the services around the one that was found, the outermost first, 0 <= i <
// Request.Depth.
func (w *Walk) Within(i int) Outer { return w.frames[i].outer }

// Route returns the hops that lead to where the service is executed, but for those of its own path, and
// whether they are known yet: an Unconnected Send names them behind the message that it carries.
func (w *Walk) Route() (hops []Hop, known bool) { return w.hops[:w.hopCount], w.routeKnown }

// Next finds the next service, and returns false if there is none or the message is malformed. Of a
// prefix it finds each service of which a byte has arrived.
func (w *Walk) Next() bool {
	if w.bad != nil {
		return false
	}
	b, length, offset, ok := w.step()
	if !ok || w.bad != nil {
		return false
	}
	if w.count++; w.count > MaxServices {
		w.bad = ErrServices
		return false
	}
	w.Request.Depth, w.Request.repeated, w.entered = w.depth, 0, false
	w.bad = w.Request.parse(b, length, offset)
	return w.bad == nil
}

// Extend goes on with b, which is more of the message that the walk was started with, from its beginning. What was
// found last is found again with what has come of it; again is false where that is an Unconnected Send around
// it, because its route has come, without which the services in it were found. It returns false for ok where
// nothing was found yet, or the message is malformed. It costs no more than what was not visited before.
func (w *Walk) Extend(b []byte) (again, ok bool) {
	w.base = b
	if !w.started || w.count == 0 {
		w.first, w.started = b, false
		return false, w.Next()
	}
	for i := range w.depth {
		f := &w.frames[i]
		f.data = b[min(f.offset, len(b)):min(f.offset+f.length, len(b))]
		if !f.awaits {
			continue
		}
		var u unconnected
		if w.bad = u.parse(f.data, f.length); w.bad != nil {
			return false, false
		}
		if u.routeKnown {
			w.depth, w.hopCount, w.routeKnown, w.count, w.entered = i, f.hops, f.routeKnown, f.count, false
			w.Request.Depth, w.Request.repeated = i, 0
			w.bad = w.Request.parse(b[f.start:f.start+f.size], f.size, f.start)
			return false, w.bad == nil
		}
	}
	r := &w.Request
	w.bad = r.parse(b[min(r.Offset, len(b)):min(r.Offset+r.Length, len(b))], r.Length, r.Offset)
	return true, w.bad == nil
}

// step finds where the next service lies.
func (w *Walk) step() (b []byte, length, offset int, ok bool) {
	if !w.started {
		w.started = true
		return w.first, w.length, 0, len(w.first) > 0 || w.length < 2
	}
	if !w.entered && w.isContainer() {
		if w.entered = true; !w.descend() {
			return nil, 0, 0, false
		}
	}
	for w.depth > 0 {
		f := &w.frames[w.depth-1]
		if b, length, offset, ok = f.element(); ok {
			f.next++
			return b, length, offset, true
		}
		if len(f.data) < f.length {
			return nil, 0, 0, false // what comes next lies behind what has arrived
		}
		w.depth--
		w.hopCount, w.routeKnown = f.hops, f.routeKnown
	}
	return nil, 0, 0, false
}

// isContainer tells whether the service found last has others in it.
func (w *Walk) isContainer() bool {
	r := &w.Request
	return r.PathKnown && (r.Code == MultipleServicePacket || r.Is(UnconnectedSend, ConnectionManager))
}

// descend goes into the service found last.
func (w *Walk) descend() bool {
	if w.depth == MaxDepth {
		w.bad = ErrDepth
		return false
	}
	r := &w.Request
	f := &w.frames[w.depth]
	*f = frame{
		outer: Outer{r.Code, r.Owner}, data: r.Data, length: r.DataLength,
		offset: r.Offset + r.Length - r.DataLength, hops: w.hopCount, routeKnown: w.routeKnown,
		start: r.Offset, size: r.Length, count: w.count,
	}
	w.depth++
	if bad := w.addHops(r.Path.Hops()); bad != nil {
		w.bad = bad
		return false
	}
	if r.Code == MultipleServicePacket {
		return true
	}
	var u unconnected
	if bad := u.parse(r.Data, r.DataLength); bad != nil {
		w.bad = bad
		return false
	}
	if !u.routeKnown {
		w.routeKnown, f.awaits = false, true
		return true
	}
	w.bad = w.addHops(u.route.Hops())
	return w.bad == nil
}

func (w *Walk) addHops(hops []Hop) *MalformedError {
	if w.hopCount+len(hops) > MaxHops {
		return ErrHops
	}
	w.hopCount += copy(w.hops[w.hopCount:], hops)
	return nil
}

// element returns the frame's next service, false if there is none or none of it has arrived.
func (f *frame) element() (b []byte, length, offset int, ok bool) {
	start, end, ok := 0, 0, false
	if f.outer.Code == MultipleServicePacket {
		start, end, ok = packetElement(f.data, f.length, f.next)
	} else {
		start, end, ok = embedded(f.data, f.next)
	}
	if !ok || start >= len(f.data) {
		return nil, 0, 0, false
	}
	return f.data[start:min(end, len(f.data))], end - start, f.offset + start, true
}

// checkPacket judges the count and the offsets of a Multiple Service Packet (V1 ): they begin
// behind the last offset, and each service ends where the next begins.
func checkPacket(b []byte, length int) *MalformedError {
	const least = 2 // of a service
	if length < 2 {
		return errPacketCount
	}
	if len(b) < 2 {
		return nil
	}
	count := int(value16(b, 0))
	switch {
	case count > MaxServices:
		return ErrServices
	case count == 0 || length < 2+count*(2+least):
		return errPacketCount
	}
	from := 2 + 2*count
	for i := range count {
		at := 2 + 2*i
		if len(b) < at+2 {
			return nil
		}
		offset := int(value16(b, at))
		if i == 0 && offset != from || i > 0 && offset < from+least || offset > length-least*(count-i) {
			return errOffsets
		}
		from = offset
	}
	return nil
}

// packetElement returns where the i-th service of a packet begins and ends.
func packetElement(b []byte, length, i int) (start, end int, ok bool) {
	count := int(value16(b, 0))
	if i >= count || len(b) < 2+2*count {
		return 0, 0, false
	}
	end = length
	if i+1 < count {
		end = int(value16(b, 4+2*i))
	}
	return int(value16(b, 2+2*i)), end, true
}

// unconnected is the data of an Unconnected Send (V1 3-5.5.2).
type unconnected struct {
	size       int // of the embedded message
	route      Path
	routeKnown bool
}

const unconnectedFixed = 4 // priority, time-out ticks, size of the embedded message

func (u *unconnected) parse(b []byte, length int) *MalformedError {
	const least = 2 // of a message
	if length < unconnectedFixed+least+2 {
		return errEmbedded
	}
	if len(b) < unconnectedFixed {
		return nil
	}
	u.size = int(value16(b, 2))
	at := unconnectedFixed + u.size + u.size%2
	if u.size < least || at+2 > length {
		return errEmbedded
	}
	if u.size%2 != 0 && byteIsNot(b, at-1, 0) {
		return errPad
	}
	if len(b) <= at {
		return nil
	}
	if at+2+2*int(b[at]) != length {
		return errPathSize
	}
	if len(b) < length {
		return nil
	}
	u.route.reset()
	if bad := u.route.parse(b[at+2:length], Padded); bad != nil {
		return bad
	}
	if u.route.HasClass || u.route.textLength > 0 || u.route.HasKey || u.route.ConfigData != nil {
		return errRoute
	}
	u.routeKnown = true
	return nil
}

// embedded returns where the message in an Unconnected Send begins and ends.
func embedded(b []byte, i int) (start, end int, ok bool) {
	if i > 0 || len(b) < unconnectedFixed {
		return 0, 0, false
	}
	return unconnectedFixed, unconnectedFixed + int(value16(b, 2)), true
}
