package cipio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Options say what connection to open. The zero value has 34 bytes in, 38 out with their run/idle
// header, every 10 ms, with a watchdog of 256 intervals, between two points.
type Options struct {
	Interval                time.Duration
	Output, Input           uint16 // bytes of the data item
	Multiplier              uint8  // the watchdog is 4 << Multiplier intervals
	Large                   bool   // a Large Forward Open
	Multicast               bool   // the target sends to a group
	OutputPoint, InputPoint uint8  // assembly instances
}

func (o *Options) setDefaults() {
	if o.Interval == 0 {
		o.Interval = 10 * time.Millisecond
	}
	if o.Output == 0 {
		o.Output = 38
	}
	if o.Input == 0 {
		o.Input = 34
	}
	if o.Multiplier == 0 {
		o.Multiplier = 6
	}
	if o.OutputPoint == 0 {
		o.OutputPoint = 150
	}
	if o.InputPoint == 0 {
		o.InputPoint = 100
	}
}

// Scanner is an originator: one session with an adapter. Methods are safe for concurrent use.
type Scanner struct {
	station *Station
	target  netip.Addr
	conn    net.Conn
	session uint32

	mu sync.Mutex // one request at a time
}

// Station is where scanners of one address live: they share its socket for I/O.
type Station struct {
	place   Place
	address netip.Addr
	node    *node

	mu     sync.Mutex
	serial uint16
	next   uint32
	groups map[netip.Addr]bool
}

// NewStation opens an address's socket for I/O; Close closes it.
func NewStation(at Place, address netip.Addr) (*Station, error) {
	s := &Station{place: at, address: address, next: 0x7a3b0000, groups: map[netip.Addr]bool{}}
	err := at.Do(func() (err error) {
		s.node, err = newNode(address, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// KeepTo has the station send cyclic frames on one core from now on.
func (s *Station) KeepTo(core int) error { return s.node.keepTo(core) }

// Close ends reception and production.
func (s *Station) Close() { s.node.close() }

// requestTimeout is how long a scanner waits for a reply.
const requestTimeout = 5 * time.Second

// Connect opens a session with an adapter.
func (s *Station) Connect(target netip.Addr) (*Scanner, error) {
	c := &Scanner{station: s, target: target}
	err := s.place.Do(func() (err error) {
		dialer := net.Dialer{Timeout: requestTimeout}
		c.conn, err = dialer.DialContext(context.Background(), "tcp4", fmt.Sprintf("%v:%d", target, MessagePort))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %v: %w", target, err)
	}
	m, err := c.ask(message{command: commandRegisterSession, data: []byte{1, 0, 0, 0}})
	if err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("register a session with %v: %w", target, err)
	}
	c.session = m.session
	return c, nil
}

// Close ends the session without closing its connections.
func (c *Scanner) Close() { c.conn.Close() }

// Session is the scanner's end of the TCP connection, and its target's.
func (c *Scanner) Session() (local, target netip.AddrPort) {
	l, r := c.conn.LocalAddr().(*net.TCPAddr), c.conn.RemoteAddr().(*net.TCPAddr)
	return l.AddrPort(), r.AddrPort()
}

// Reset ends the TCP connection as a crash would.
func (c *Scanner) Reset() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.conn.Close()
}

func (c *Scanner) ask(m message) (message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.session = c.session
	if err := c.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return message{}, err
	}
	if _, err := c.conn.Write(m.bytes()); err != nil {
		return message{}, err
	}
	answer, err := readMessage(c.conn)
	if err == nil && (answer.command != m.command || answer.status != 0) {
		err = fmt.Errorf("command %#x was answered by %#x with status %d", m.command, answer.command, answer.status)
	}
	return answer, err
}

// StatusError is a service that was refused.
type StatusError struct {
	General  uint8
	Extended []byte
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("refused with status %#x % x", e.General, e.Extended)
}

// request sends a service as an unconnected message and returns the data of its reply, and the items
// that came with it.
func (c *Scanner) request(service []byte) ([]byte, []item, error) {
	m, err := c.ask(message{command: commandSendRRData, data: rrData(item{itemNull, nil}, item{itemUnconnected, service})})
	if err != nil {
		return nil, nil, err
	}
	items, err := readItems(m.data[min(6, len(m.data)):])
	if err != nil || len(items) < 2 || len(items[1].data) < 4 {
		return nil, nil, errors.Join(errors.New("read a reply: it is not whole"), err)
	}
	b := items[1].data
	body := b[min(len(b), 4+2*int(b[3])):]
	if b[0] != service[0]|reply || b[2] != 0 {
		return nil, nil, &StatusError{General: b[2], Extended: b[4:]}
	}
	return body, items[2:], nil
}

// Identity reads the attributes of the Identity object: an explicit message like any other.
func (c *Scanner) Identity() error {
	_, _, err := c.request([]byte{serviceGetAttributesAll, 2, 0x20, 0x01, 0x24, 0x01})
	return err
}

// Request sends any service and reports whether it was done.
func (c *Scanner) Request(service []byte) error {
	_, _, err := c.request(service)
	return err
}

// Connection is an open I/O connection, on which both ends produce.
type Connection struct {
	scanner  *Scanner
	open     *forwardOpen
	producer *producer
	consumer *consumer
}

// Open opens an I/O connection and begins to produce on it.
func (c *Scanner) Open(o Options) (*Connection, error) {
	o.setDefaults()
	s := c.station
	s.mu.Lock()
	s.serial++
	s.next++
	f := &forwardOpen{
		large: o.Large, multiplier: o.Multiplier, transport: 0x01, // class 1, cyclic
		triad:  triad{serial: s.serial, vendor: 0x1337, originator: 0x00c0ffee},
		output: direction{interval: o.Interval, size: o.Output},
		input:  direction{id: s.next, interval: o.Interval, size: o.Input, multicast: o.Multicast},
		path:   []byte{0x20, 0x04, 0x24, 0x97, 0x2c, o.OutputPoint, 0x2c, o.InputPoint},
	}
	s.mu.Unlock()
	io := &Connection{scanner: c, open: f}
	if !o.Multicast { // a fast target's first frame is there before its reply
		io.consumer = s.node.consume(f.input.id, c.target, f.input, f.timeout(f.input))
	}
	body, items, err := c.request(f.request())
	if err == nil && len(body) < 26 {
		err = errors.New("the reply to a Forward Open is not whole")
	}
	if err != nil {
		s.node.forget(f.input.id)
		return nil, err
	}
	f.output.id, f.input.id = little.Uint32(body), little.Uint32(body[4:])
	if o.Multicast {
		if err := io.join(items); err != nil {
			return nil, err
		}
		io.consumer = s.node.consume(f.input.id, c.target, f.input, f.timeout(f.input))
	}
	io.producer = &producer{id: f.output.id, to: consumerAt(c.target), size: f.output.size, interval: o.Interval, header: true}
	s.node.produce(io.producer)
	return io, nil
}

// join has the group's frames delivered that the target says it sends to.
func (io *Connection) join(items []item) error {
	s := io.scanner.station
	for _, i := range items {
		group, ok := readSockaddr(i.data)
		if i.kind != itemSockaddrToOrigin || !ok {
			continue
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.groups[group.Addr()] {
			return nil
		}
		s.groups[group.Addr()] = true
		return s.place.Do(func() error {
			on, err := interfaceOf(s.address)
			if err != nil {
				return err
			}
			return s.node.socket.join(on, group.Addr())
		})
	}
	return errors.New("the reply to a Forward Open names no group")
}

// Received is what has come from the target.
func (io *Connection) Received() Count { return io.consumer.read() }

// Sent is how many frames have been sent.
func (io *Connection) Sent() int { return int(io.producer.sent.Load()) }

// Identifiers are those of output and input, as frames carry them.
func (io *Connection) Identifiers() (output, input uint32) {
	return io.open.output.id, io.open.input.id
}

// Expired reports whether the originator's watchdog has run off.
func (io *Connection) Expired() bool { return io.consumer.expired(time.Now()) }

// Silence ends production and says nothing to the target.
func (io *Connection) Silence() { io.producer.stop() }

// Close closes the connection by a Forward Close.
func (io *Connection) Close() error {
	io.producer.stop()
	b := []byte{serviceForwardClose, 2, 0x20, 0x06, 0x24, 0x01, 0x0a, 0xf0}
	b = io.open.triad.appendTo(b)
	b = append(append(b, byte(len(io.open.path)/2), 0), io.open.path...)
	_, _, err := io.scanner.request(b)
	return err
}
