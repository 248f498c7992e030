package dnp3

import (
	"net"
	"sync"
	"time"
)

// Config says what an Outstation has. Zero values stand for what the comments say.
type Config struct {
	Address            uint16        // 10
	Master             uint16        // whom it speaks to unasked: 1
	Points             int           // of each type: 16
	FragmentSize       int           // octets that a reply's fragment has at most: 2048
	SelectTimeout      time.Duration // 10 s
	UnsolicitedTimeout time.Duration // after which an unsolicited response is repeated: 1 s
	Unsolicited        bool          // speaks unasked at all
	KeepAlive          time.Duration // how often it asks a connection's other end for its link status: never
	Files              map[string][]byte
	Personality        Personality
}

func (c Config) orDefaults() Config {
	number := func(v *uint16, d uint16) {
		if *v == 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	number(&c.Address, 10)
	number(&c.Master, 1)
	span(&c.SelectTimeout, 10*time.Second)
	span(&c.UnsolicitedTimeout, time.Second)
	if c.Points == 0 {
		c.Points = 16
	}
	if c.FragmentSize == 0 {
		c.FragmentSize = 2048
	}
	return c
}

// Outstation is a device with points, a clock and files. Methods are safe for concurrent use.
type Outstation struct {
	config      Config
	personality Personality
	now         func() time.Time

	mu           sync.Mutex
	closed       bool
	points       points
	files        fileSystem
	clock        time.Duration // what its time is ahead of now
	recorded     time.Time     // when a RECORD_CURRENT_TIME came
	restarted    bool
	needTime     bool
	sticky       IIN
	associations map[uint16]*association
	channels     map[*channel]bool
	closers      []func()

	executed []Operation
	requests map[Function]int
	alive    int // link statuses received
}

// association is what an outstation knows of one master, by its link address.
type association struct {
	master  uint16
	channel *channel // where the master was last heard, or nil

	body      string // objects of the request in hand
	last      string // the request before, for when it is repeated
	lastReply []byte
	selected  selection
	broadcast bool // a broadcast came since the last reply

	events   []*event
	overflow bool

	pending  []built // fragments of a reply, the first of them sent
	expected byte    // the sequence number of the confirmation that is waited for

	unsolicited unsolicited
}

// NewOutstation makes an outstation that has restarted and needs the time.
func NewOutstation(c Config) *Outstation {
	c = c.orDefaults()
	o := &Outstation{
		config: c, personality: c.Personality, now: time.Now,
		points: newPoints(c.Points), files: newFileSystem(c.Files),
		restarted: true, needTime: true,
		associations: make(map[uint16]*association),
		channels:     make(map[*channel]bool),
		requests:     make(map[Function]int),
	}
	o.association(c.Master)
	return o
}

// What an outstation keeps apart: masters by their link addresses, and senders of datagrams.
const (
	maxAssociations = 64
	maxPeers        = 4096
)

func (o *Outstation) association(master uint16) *association {
	a := o.associations[master]
	if a == nil && len(o.associations) < maxAssociations {
		a = &association{master: master}
		o.associations[master] = a
	}
	return a
}

// Serve serves every connection of a listener until Close.
func (o *Outstation) Serve(l net.Listener) {
	o.onClose(func() { l.Close() })
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go o.ServeConn(conn)
	}
}

// ServeConn serves one connection until it ends.
func (o *Outstation) ServeConn(conn net.Conn) {
	ch := newChannel(o.personality.Hunts, func() { conn.Close() })
	if !o.opened(ch) {
		conn.Close()
		return
	}
	defer o.ended(ch)
	go ch.drain(conn.Write)
	if o.config.KeepAlive > 0 {
		go o.keepAlive(ch)
	}
	_ = ch.receive(conn, func(f Frame) { o.frame(ch, f) })
}

// Take handles octets as a connection of their own would bring them, and returns the replies.
func (o *Outstation) Take(octets []byte) (replies []byte) {
	ch := newChannel(o.personality.Hunts, func() {})
	frames, _ := ch.scanner.feed(octets)
	for _, f := range frames {
		o.frame(ch, f)
		for len(ch.out) > 0 {
			replies = append(replies, <-ch.out...)
		}
	}
	return replies
}

// keepAlive asks the other end's link layer whether it is there, until the channel ends.
func (o *Outstation) keepAlive(ch *channel) {
	tick := time.NewTicker(o.config.KeepAlive)
	defer tick.Stop()
	ask := Frame{Control: LinkPRM | RequestLinkStatus, Destination: o.config.Master, Source: o.config.Address}.Append(nil)
	for {
		select {
		case <-tick.C:
			ch.send(ask)
		case <-ch.over:
			return
		}
	}
}

// ServePacket serves datagrams until Close; each of them begins with a frame.
func (o *Outstation) ServePacket(conn net.PacketConn) {
	o.onClose(func() { conn.Close() })
	peers := make(map[string]*channel)
	buf := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		ch := peers[from.String()]
		if ch == nil {
			if len(peers) >= maxPeers {
				continue
			}
			ch = newChannel(o.personality.Hunts, func() {})
			ch.datagrams = true
			if !o.opened(ch) {
				return
			}
			peers[from.String()] = ch
			go ch.drain(func(b []byte) (int, error) { return conn.WriteTo(b, from) })
		}
		ch.scanner.buf = nil
		frames, _ := ch.scanner.feed(buf[:n])
		for _, f := range frames {
			o.frame(ch, f)
		}
	}
}

func (o *Outstation) onClose(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		f()
		return
	}
	o.closers = append(o.closers, f)
}

// Close ends listeners and connections. A second Close is harmless.
func (o *Outstation) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, f := range o.closers {
		f()
	}
	o.closers = nil
	for ch := range o.channels {
		ch.end()
	}
	for _, a := range o.associations {
		a.unsolicited.stop()
	}
}

// opened takes a channel on, unless the outstation is closed.
func (o *Outstation) opened(ch *channel) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.channels[ch] = true
	a := o.associations[o.config.Master]
	if a.channel == nil {
		a.channel = ch
		o.announce(a)
	}
	return true
}

func (o *Outstation) ended(ch *channel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.channels, ch)
	ch.end()
	for _, a := range o.associations {
		if a.channel == ch {
			a.channel = nil
			o.abandon(a)
			a.unsolicited.forget()
		}
	}
	for other := range o.channels { // a new connection may have come before the old one ended
		if a := o.associations[o.config.Master]; a.channel == nil {
			a.channel = other
			o.announce(a)
		}
	}
}

// frame handles one link frame.
func (o *Outstation) frame(ch *channel, f Frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	broadcast := f.Destination >= FirstBroadcast
	mine := f.Destination == o.config.Address || broadcast || f.Destination == SelfAddress && o.personality.Self
	if !mine || f.Control&LinkDIR == 0 && !o.personality.AnyDirection {
		return
	}
	if broadcast && !f.userData() {
		return
	}
	if !f.primary() && f.function() == LinkStatus {
		o.alive++
	}
	if !broadcast && !ch.answerLink(f, o.config.Address, 0) {
		return
	}
	if whole := ch.assemble(f, o.personality.AnyTransport); whole != nil {
		o.fragment(ch, f.Source, broadcast, whole)
	}
}

// fragment handles one application fragment.
func (o *Outstation) fragment(ch *channel, master uint16, broadcast bool, whole []byte) {
	a := o.association(master)
	f, err := parseFragment(whole)
	if a == nil || err != nil || f.Function >= Response {
		return
	}
	if f.Control&(FIR|FIN) != FIR|FIN && !o.personality.AnyFragment {
		return
	}
	a.channel = ch
	o.requests[f.Function]++
	if f.Function == Confirm {
		o.confirmed(a, f)
		return
	}
	o.abandon(a)
	if string(whole) == a.last && f.Function != Read {
		if a.lastReply != nil && !broadcast {
			ch.fragment(FromOutstation, master, o.config.Address, a.lastReply)
		}
		return // repeated by the master: the reply is, too, and nothing is executed
	}
	a.last, a.lastReply, a.body = string(whole), nil, string(f.Body)
	if f.Function != Operate {
		a.selected = selection{}
	}
	bodies, iin := o.perform(a, f)
	if broadcast {
		for _, each := range o.associations {
			each.broadcast = true
		}
		return
	}
	if !f.Function.unanswered() {
		o.reply(a, f, bodies, iin)
	}
	o.announce(a) // where the connection before ended without a confirmation
	o.speak(a)
}

// reply begins the reply to a request.
func (o *Outstation) reply(a *association, f Fragment, bodies []built, iin IIN) {
	if len(bodies) == 0 {
		bodies = []built{{}}
	}
	a.pending, a.expected = bodies, f.sequence()
	if iin&iinErrors != 0 {
		if o.personality.ErrorsZero {
			a.expected = 0
		}
		if o.personality.StickyErrors {
			o.sticky |= iin & iinErrors
		}
	}
	o.next(a, FIR, iin)
}

// next sends the first of the pending fragments. It asks for a confirmation where more follow, or
// where events would be lost.
func (o *Outstation) next(a *association, first byte, iin IIN) {
	part := a.pending[0]
	control := first | a.expected
	if len(a.pending) == 1 {
		control |= FIN
	}
	if len(a.pending) > 1 || len(part.events) > 0 {
		control |= CON
	}
	for _, e := range part.events {
		e.sent = true
	}
	r := Fragment{Control: control, Function: Response, IIN: iin | o.indications(a), Body: part.body}.Append(nil)
	a.broadcast = false
	if first != 0 {
		a.lastReply = r
	}
	a.channel.fragment(FromOutstation, a.master, o.config.Address, r)
	if control&CON == 0 {
		a.pending = nil
	}
}

// confirmed handles a CONFIRM: what it confirms is done with, and the next fragment follows.
func (o *Outstation) confirmed(a *association, f Fragment) {
	if f.Control&UNS != 0 {
		o.unsolicitedConfirmed(a, f.sequence())
		return
	}
	if len(a.pending) == 0 || f.sequence() != a.expected {
		return
	}
	a.forget(a.pending[0].events)
	a.pending = a.pending[1:]
	if len(a.pending) > 0 {
		a.expected = (a.expected + 1) & sequenceBits
		o.next(a, 0, 0)
		return
	}
	o.speak(a)
}

// abandon gives the events of a reply that was never confirmed back.
func (o *Outstation) abandon(a *association) {
	for _, part := range a.pending {
		for _, e := range part.events {
			e.sent = false
		}
	}
	a.pending = nil
}

// forget removes events that have been confirmed.
func (a *association) forget(confirmed []*event) {
	gone := make(map[*event]bool, len(confirmed))
	for _, e := range confirmed {
		gone[e] = true
	}
	kept := a.events[:0]
	for _, e := range a.events {
		if !gone[e] {
			kept = append(kept, e)
		}
	}
	a.events = kept
	a.overflow = false
}

// indications are those that every reply to a master carries.
func (o *Outstation) indications(a *association) IIN {
	iin := o.sticky
	for _, e := range a.events {
		if !e.sent {
			iin |= IINClass1 << (e.class - 1)
		}
	}
	for flag, set := range map[IIN]bool{
		IINRestart: o.restarted, IINNeedTime: o.needTime, IINBroadcast: a.broadcast, IINOverflow: a.overflow,
	} {
		if set {
			iin |= flag
		}
	}
	return iin
}

// record writes an operation down.
func (o *Outstation) record(op Operation) { o.executed = append(o.executed, op) }

// Executed returns what has been executed, in order: all that changes anything, reads not.
func (o *Outstation) Executed() []Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Operation{}, o.executed...)
}

// Requests returns how many requests with a function have come, repetitions included.
func (o *Outstation) Requests(f Function) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests[f]
}

// Alive returns how often another end's link layer has said that it is there.
func (o *Outstation) Alive() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.alive
}

// Value returns the value of a point by its static group.
func (o *Outstation) Value(group uint8, index int) float64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.points.of(group)[index].value
}

// Restarted reports whether the restart indication is set.
func (o *Outstation) Restarted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.restarted
}

// File returns what a file holds, or nil.
func (o *Outstation) File(name string) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]byte(nil), o.files.contents[name]...)
}

// Unconfirmed returns how many events wait for a master's confirmation.
func (o *Outstation) Unconfirmed(master uint16) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a := o.associations[master]; a != nil {
		return len(a.events)
	}
	return 0
}
