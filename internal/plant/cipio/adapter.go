package cipio

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Place is where a node's sockets are opened, such as a host of a laboratory.
type Place interface {
	Do(func() error) error
}

// Adapter is a target: it answers explicit messages on TCP 44818 and takes I/O connections. Methods
// are safe for concurrent use.
type Adapter struct {
	address  netip.Addr
	listener net.Listener
	node     *node
	group    sync.WaitGroup
	done     chan struct{}

	mu          sync.Mutex
	calls       map[net.Conn]bool
	connections map[triad]*target
	producers   map[netip.Addr]*producer // to groups
	sessions    uint32
	next        uint32
	requests    int
	opened      func(Opening)
	closed      func(Opening)
	past        Count // of connections that are over
}

// target is an open connection as the adapter has it.
type target struct {
	open     *forwardOpen
	consumer *consumer
	producer *producer
	group    netip.Addr
}

// Opening is a connection that an adapter has accepted.
type Opening struct {
	Originator                  netip.Addr
	OutputID, InputID           uint32
	OutputSize, InputSize       uint16
	OutputTimeout, InputTimeout time.Duration
	Group                       netip.Addr // where the adapter sends, if that is a group
	Serial, Vendor              uint16
	OriginatorSerial            uint32
}

// Watch has opened called with each connection before the reply that accepts it is sent, and closed
// with each before the reply to its Forward Close is. They must not call the adapter.
func (a *Adapter) Watch(opened, closed func(Opening)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened, a.closed = opened, closed
}

func (t *target) opening() Opening {
	f := t.open
	return Opening{
		Originator: t.consumer.source, OutputID: f.output.id, InputID: f.input.id,
		OutputSize: f.output.size, InputSize: f.input.size,
		OutputTimeout: f.timeout(f.output), InputTimeout: f.timeout(f.input), Group: t.group,
		Serial: f.triad.serial, Vendor: f.triad.vendor, OriginatorSerial: f.triad.originator,
	}
}

// Group is where the adapter of an address sends multicast, in 239.192.0.0/14 (CIP volume 2, 3-5.3).
func Group(address netip.Addr) netip.Addr {
	a := address.As4()
	return netip.AddrFrom4([4]byte{239, 192, 1 + a[3]>>3, a[3] << 5})
}

// StartAdapter serves on an address of a place until Close.
func StartAdapter(at Place, address netip.Addr) (*Adapter, error) {
	a := &Adapter{
		address: address, done: make(chan struct{}), calls: map[net.Conn]bool{},
		connections: map[triad]*target{}, producers: map[netip.Addr]*producer{}, next: 0x00650000,
	}
	err := at.Do(func() (err error) {
		if a.node, err = newNode(address, true); err != nil {
			return err
		}
		if err := multicastFrom(a.node, address); err != nil {
			a.node.close()
			return err
		}
		if a.listener, err = net.Listen("tcp4", fmt.Sprintf("%v:%d", address, MessagePort)); err != nil {
			a.node.close()
			return fmt.Errorf("listen for messages on %v: %w", address, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.group.Add(2)
	go a.accept()
	go a.watch()
	return a, nil
}

// KeepTo has the adapter send cyclic frames on one core from now on.
func (a *Adapter) KeepTo(core int) error { return a.node.keepTo(core) }

// multicastFrom has groups reached by the interface that holds the address.
func multicastFrom(n *node, address netip.Addr) error {
	on, err := interfaceOf(address)
	if err != nil {
		return err
	}
	return n.socket.multicastFrom(on)
}

// interfaceOf finds the interface that holds an address.
func interfaceOf(address netip.Addr) (*net.Interface, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		addresses, _ := i.Addrs()
		for _, at := range addresses {
			if ip, ok := at.(*net.IPNet); ok && ip.IP.Equal(address.AsSlice()) {
				return &i, nil
			}
		}
	}
	return nil, fmt.Errorf("no interface has the address %v", address)
}

// Close ends everything.
func (a *Adapter) Close() {
	close(a.done)
	a.listener.Close()
	a.mu.Lock()
	for c := range a.calls {
		c.Close()
	}
	for _, t := range a.connections {
		a.end(t)
	}
	a.mu.Unlock()
	a.node.close()
	a.group.Wait()
}

// Connections returns how many I/O connections are open.
func (a *Adapter) Connections() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.connections)
}

// Requests returns how many explicit requests were answered.
func (a *Adapter) Requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// Received sums up what was received on all connections, past and present.
func (a *Adapter) Received() Count {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := a.past
	sum.Delays = append([]time.Duration(nil), a.past.Delays...)
	for _, t := range a.connections {
		sum.Add(t.consumer.read())
	}
	return sum
}

// Add adds what another consumer has received.
func (c *Count) Add(other Count) {
	c.Frames += other.Frames
	c.Lost += other.Lost
	c.Old += other.Old
	c.Unequal += other.Unequal
	c.Delays = append(c.Delays, other.Delays...)
}

func (a *Adapter) accept() {
	defer a.group.Done()
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.calls[conn] = true
		a.mu.Unlock()
		a.group.Add(1)
		go a.serve(conn)
	}
}

// watch ends the connections whose originator has fallen silent.
func (a *Adapter) watch() {
	defer a.group.Done()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-a.done:
			return
		case now := <-tick.C:
			a.mu.Lock()
			for _, t := range a.connections {
				if t.consumer.expired(now) {
					a.end(t)
				}
			}
			a.mu.Unlock()
		}
	}
}

// end forgets a connection. Callers hold the lock. Production to a group ends with its last listener.
func (a *Adapter) end(t *target) {
	delete(a.connections, t.open.triad)
	a.node.forget(t.open.output.id)
	a.past.Add(t.consumer.read())
	for _, other := range a.connections {
		if t.group.IsValid() && other.group == t.group {
			return
		}
	}
	delete(a.producers, t.group)
	t.producer.stop()
}

func (a *Adapter) serve(conn net.Conn) {
	defer a.group.Done()
	defer func() {
		a.mu.Lock()
		delete(a.calls, conn)
		a.mu.Unlock()
		conn.Close()
	}()
	peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	for {
		m, err := readMessage(conn)
		if err != nil {
			return
		}
		if !a.answer(&m, peer.Addr().Unmap()) {
			return
		}
		if _, err := conn.Write(m.bytes()); err != nil {
			return
		}
	}
}

// answer turns a message into its reply; false ends the session.
func (a *Adapter) answer(m *message, peer netip.Addr) bool {
	switch m.command {
	case commandRegisterSession:
		a.mu.Lock()
		a.sessions++
		m.session = a.sessions
		a.mu.Unlock()
	case commandListIdentity:
		m.data = appendItems(nil, item{itemIdentity, append(append([]byte{1, 0}, sockaddr(netip.AddrPortFrom(a.address, MessagePort))...), identity()...)})
	case commandListServices:
		service := append([]byte{1, 0, 0x20, 0x01}, "Communications\x00\x00"...)
		m.data = appendItems(nil, item{itemServices, service})
	case commandSendRRData:
		items, err := readItems(m.data[min(6, len(m.data)):])
		if err != nil || len(items) < 2 || items[1].kind != itemUnconnected {
			m.status, m.data = 3, nil
			return true
		}
		body, more := a.service(items[1].data, peer)
		m.data = rrData(append([]item{{itemNull, nil}, {itemUnconnected, body}}, more...)...)
	case commandUnregisterSession:
		return false
	default:
		m.status, m.data = 1, nil
	}
	return true
}

// identity is the body of the Identity object's attributes (CIP volume 1, 5-2.2).
func identity() []byte {
	b := little.AppendUint16(nil, 0x1337)
	b = append(b, 12, 0, 1, 0, 1, 1, 0, 0)
	b = little.AppendUint32(b, 0x00c0ffee)
	name := "penstock test adapter"
	return append(append(append(b, byte(len(name))), name...), 3)
}

// service answers a request, with what its reply carries beside the service's own data.
func (a *Adapter) service(request []byte, peer netip.Addr) (body []byte, more []item) {
	refuse := func(general byte, extended ...uint16) ([]byte, []item) {
		b := []byte{request[0] | reply, 0, general, byte(len(extended))}
		for _, e := range extended {
			b = little.AppendUint16(b, e)
		}
		return b, nil
	}
	if len(request) < 2 || len(request) < 2+2*int(request[1]) {
		return []byte{reply, 0, 0x13, 0}, nil
	}
	data := request[2+2*int(request[1]):]
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	switch request[0] {
	case serviceGetAttributesAll:
		return append([]byte{request[0] | reply, 0, 0, 0}, identity()[:]...), nil
	case serviceForwardOpen, serviceLargeForwardOpen:
		f, err := readForwardOpen(data, request[0] == serviceLargeForwardOpen)
		if err != nil || f.transport&0x0f != 1 {
			return refuse(statusConnectionFailure, 0x0103)
		}
		if a.connections[f.triad] != nil {
			return refuse(statusConnectionFailure, extendedInUse)
		}
		items := a.open(f, peer)
		return append([]byte{request[0] | reply, 0, 0, 0}, opened(f)...), items
	case serviceForwardClose:
		if len(data) < 10 {
			return refuse(0x13)
		}
		t := a.connections[readTriad(data[2:])]
		if t == nil {
			return refuse(statusConnectionFailure, extendedNotFound)
		}
		a.end(t)
		if a.closed != nil {
			a.closed(t.opening())
		}
		return append([]byte{request[0] | reply, 0, 0, 0}, append(t.open.triad.appendTo(nil), 0, 0)...), nil
	}
	return refuse(statusServiceNotSupported)
}

// opened is the data of a successful reply.
func opened(f *forwardOpen) []byte {
	b := little.AppendUint32(nil, f.output.id)
	b = little.AppendUint32(b, f.input.id)
	b = f.triad.appendTo(b)
	b = little.AppendUint32(b, uint32(f.output.interval/time.Microsecond))
	b = little.AppendUint32(b, uint32(f.input.interval/time.Microsecond))
	return append(b, 0, 0)
}

// open begins a connection: the target chooses the identifier of what it consumes, and of what it
// sends to a group.
func (a *Adapter) open(f *forwardOpen, peer netip.Addr) []item {
	a.next++
	f.output.id = a.next
	t := &target{open: f, consumer: a.node.consume(f.output.id, peer, f.output, f.timeout(f.output))}
	a.connections[f.triad] = t
	items := []item{{itemSockaddrToTarget, sockaddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{}), IOPort))}}
	to := peer
	if f.input.multicast {
		t.group, to = Group(a.address), Group(a.address)
		t.producer = a.producers[t.group]
		items = append(items, item{itemSockaddrToOrigin, sockaddr(netip.AddrPortFrom(to, IOPort))})
	}
	begins := t.producer == nil
	if begins {
		if f.input.multicast {
			a.next++
			f.input.id = a.next
		}
		t.producer = &producer{id: f.input.id, to: consumerAt(to), size: f.input.size, interval: f.input.interval}
	}
	f.input.id = t.producer.id
	if a.opened != nil {
		a.opened(t.opening())
	}
	if begins {
		if f.input.multicast {
			a.producers[t.group] = t.producer
		}
		a.node.produce(t.producer)
	}
	return items
}
