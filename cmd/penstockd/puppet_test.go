package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// ambush is an appliance between a client that sends whatever frames a test wants and a device whose
// TCP is the kernel's. The client's host has no address, so that no kernel answers in its name.
type ambush struct {
	*wire
	p       *plant.Plant
	devices map[int]*station
	ports   uint16 // the last client port that was used
}

// The ports of ambushSite, a station behind each.
const (
	ambushReset     = 502
	ambushDrop      = 503
	ambushException = 504
)

var onDenyOf = map[int]string{ambushReset: "reset", ambushDrop: "drop", ambushException: "exception"}

func ambushPorts() []int { return []int{ambushReset, ambushDrop, ambushException} }

// ambushSite has a conduit for each way of refusing, and one without inspection.
func ambushSite(conduits ...string) string {
	return site{vlan: "[untagged, 10]", conduits: append([]string{
		modbusConduit("resets", ambushReset, "on_deny: reset"),
		modbusConduit("drops", ambushDrop, "on_deny: drop"),
		modbusConduit("excepts", ambushException, "on_deny: exception"),
		plainConduit("plain", "tcp", plainPort),
	}, conduits...)}.String()
}

func layAmbush(t *testing.T, o plant.Options) *ambush {
	t.Helper()
	a := prepareAmbush(t, o)
	start(t, a.p)
	return a
}

// prepareAmbush lays one whose appliance is not started yet.
func prepareAmbush(t *testing.T, o plant.Options) *ambush {
	t.Helper()
	if o.Policy == "" {
		o.Policy = ambushSite()
	}
	// The heartbeat is not what is tried here, and a puppet repeats nothing by itself.
	o.Settings = append(o.Settings, longHeartbeat)
	p := layStopped(t, o)
	a := &ambush{p: p, wire: &wire{taps: map[policy.Side]*testnet.Tap{}}, devices: map[int]*station{}, ports: 40000}
	if err := p.Filler.AddNeighbour(p.HMI); err != nil {
		t.Fatal(err)
	}
	runIn(t, p, p.HMI, "ip", "address", "flush", "dev", testnet.HostInterface)
	for _, h := range []*testnet.Host{p.Filler, p.HMI} {
		tap, err := p.Lab.Tap(h, testnet.HostInterface)
		if err != nil {
			t.Fatal(err)
		}
		a.taps[h.Side] = tap
	}
	for _, port := range ambushPorts() {
		a.devices[port] = startAs(t, &station{bounded: true}, p.Filler, port)
	}
	return a
}

// lawful holds that the line still works: reads and a write on connections of their own.
func (a *ambush) lawful(t *testing.T) {
	t.Helper()
	for _, port := range ambushPorts() {
		x := a.open(t, port)
		x.mustAnswer(t, mbap(0x7001, 1, readRegisters(0, 2)))
		x.mustAnswer(t, mbap(0x7002, 1, writeRegister(45, 3)))
		x.send(piece{flags: frame.FlagRST | frame.FlagACK})
	}
}

// mark is a place in what has come to the device's port.
func (a *ambush) mark() int { return a.taps[policy.SideA].Count() }

// neverCarries fails if a frame that holds the bytes has come to the device's port since the mark.
func (a *ambush) neverCarries(t *testing.T, since int, what string, needle []byte) {
	t.Helper()
	time.Sleep(50 * time.Millisecond)
	for _, f := range a.taps[policy.SideA].FramesFrom(since) {
		if bytes.Contains(f.Data, needle) {
			t.Errorf("%s reached the device's port: %x", what, f.Data)
		}
	}
}

// forbidden is a write that every conduit denies, of a register and a value that nothing else names.
func forbidden(transaction uint16) []byte { return mbap(transaction, 1, writeRegister(0xbee5, 0xf00d)) }

// forbiddenBytes are what a frame with such a write holds.
func forbiddenBytes() []byte { return words(0xbee5, 0xf00d) }

// puppet is a TCP client made of frames. It sends only what it is told to.
type puppet struct {
	a              *ambush
	client, server netip.AddrPort
	seq, ack       uint32 // the next to send, the next expected
	sentBefore     []byte // since the connection was opened, in order
	seen           int    // frames of the client's port that were looked at
	in             []byte // received in order
	read           int    // of in
	reset, closed  bool   // by an RST or a FIN that its TCP would take
	synAck         bool
}

// piece is one segment of a puppet. The zero value acknowledges.
type piece struct {
	at      int // of its first byte, from the next to send on
	flags   uint8
	payload []byte
	options []byte
	ack     int32 // added to what is expected next
	urgent  uint16
	tags    []frame.Tag
	edit    func(ip []byte) // after the checksums were made
}

// puppet makes a client that has sent nothing yet, whose sequence numbers begin at isn.
func (a *ambush) puppet(port int, isn uint32) *puppet {
	a.ports++
	return &puppet{
		a: a, client: netip.AddrPortFrom(hmi4, a.ports), server: netip.AddrPortFrom(filler4, uint16(port)),
		seq: isn, seen: a.taps[policy.SideB].Count(),
	}
}

// open opens a connection.
func (a *ambush) open(t *testing.T, port int) *puppet {
	t.Helper()
	return a.openAt(t, port, 0x10000*uint32(a.ports))
}

func (a *ambush) openAt(t *testing.T, port int, isn uint32) *puppet {
	t.Helper()
	x := a.puppet(port, isn)
	x.connect(t)
	return x
}

func (x *puppet) connect(t *testing.T, options ...byte) {
	t.Helper()
	syn := x.build(piece{flags: frame.FlagSYN, options: options})
	x.seq++
	for tries := 0; !x.synAck; tries++ {
		if tries == 5 {
			t.Fatalf("no connection to port %d", x.server.Port())
		}
		x.frame(syn)
		x.await(time.Second, func() bool { return x.synAck })
	}
	x.send(piece{flags: frame.FlagACK})
}

// call returns the device's end.
func (x *puppet) call(t *testing.T) *call {
	t.Helper()
	device := x.a.devices[int(x.server.Port())]
	if device == nil {
		t.Fatalf("nobody writes down what comes to port %d", x.server.Port())
	}
	return device.callOf(t, x.client.String())
}

// build makes the frame of a piece.
func (x *puppet) build(p piece) []byte {
	flags := p.flags
	if flags == 0 {
		flags = pushed
	}
	segment := frame.TCPPacket{
		Src: x.client, Dst: x.server, Seq: x.seq + uint32(p.at), Ack: x.ack + uint32(p.ack), Flags: flags,
		Window: 60000, Urgent: p.urgent, Options: p.options, Payload: p.payload,
	}
	if flags&frame.FlagACK == 0 {
		segment.Ack = 0
	}
	ip, err := frame.AppendTCP(nil, &segment)
	if err != nil {
		panic(err)
	}
	if p.edit != nil {
		p.edit(ip)
	}
	return etherFrame(fillerMAC, hmiMAC, p.tags, ip)
}

// send sends a piece; the next to send stays where it is.
func (x *puppet) send(p piece) { x.frame(x.build(p)) }

func (x *puppet) frame(b []byte) {
	if err := x.a.taps[policy.SideB].Send(b); err != nil {
		panic(err)
	}
}

// push sends bytes as the next ones, in one segment.
func (x *puppet) push(b []byte) {
	x.send(piece{payload: b})
	x.sent(b)
}

func (x *puppet) sent(b []byte) {
	x.seq += uint32(len(b))
	x.sentBefore = append(x.sentBefore, b...)
}

// await looks at what comes in until the condition holds.
func (x *puppet) await(timeout time.Duration, condition func() bool) bool {
	return testnet.WaitFor("", timeout, func() (bool, error) {
		x.take()
		return condition(), nil
	}) == nil
}

// take takes what has come in, in order, and acknowledges it.
func (x *puppet) take() {
	frames := x.a.taps[policy.SideB].FramesFrom(x.seen)
	x.seen += len(frames)
	for _, f := range frames {
		var d frame.Frame
		var decoder frame.Decoder
		if len(f.Data) < 34 || f.Data[12] != 8 || f.Data[13] != 0 || decoder.IP(f.Data[14:], &d) != nil || !d.IsTCP {
			continue
		}
		if d.Source() == x.server && d.Destination() == x.client && d.ChecksumOK {
			x.segment(&d)
		}
	}
}

func (x *puppet) segment(d *frame.Frame) {
	switch {
	case d.TCP.Flags&frame.FlagSYN != 0:
		if d.TCP.Ack == x.seq {
			x.ack, x.synAck, x.reset = d.TCP.Seq+1, true, false
		}
		return
	case d.TCP.Flags&frame.FlagRST != 0:
		x.reset = x.reset || d.TCP.Seq == x.ack
		return
	case d.TCP.Seq != x.ack || len(d.Payload) == 0 && d.TCP.Flags&frame.FlagFIN == 0:
		return
	}
	x.in = append(x.in, d.Payload...)
	x.ack += uint32(len(d.Payload))
	if d.TCP.Flags&frame.FlagFIN != 0 {
		x.ack++
		x.closed = true
	}
	x.send(piece{flags: frame.FlagACK})
}

// receive waits for so many bytes more.
func (x *puppet) receive(n int) ([]byte, error) {
	if !x.await(patience, func() bool { return len(x.in)-x.read >= n || x.reset }) || x.reset {
		return x.in[x.read:], fmt.Errorf("%d of %d bytes came from port %d, reset: %v", len(x.in)-x.read, n, x.server.Port(), x.reset)
	}
	b := x.in[x.read : x.read+n]
	x.read += n
	return b, nil
}

// mustReceive fails unless these are the next bytes that come.
func (x *puppet) mustReceive(t *testing.T, want []byte) {
	t.Helper()
	if got, err := x.receive(len(want)); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("received % x, %v; want % x", got, err, want)
	}
}

// mustAnswer sends a request in a segment of its own and wants the device's reply.
func (x *puppet) mustAnswer(t *testing.T, request []byte) {
	t.Helper()
	x.push(request)
	x.mustReceive(t, lawfulReply(request))
}

// mustAnswerInTime is mustAnswer for a request that a full queue may drop: it is repeated until something
// comes, as a TCP does.
func (x *puppet) mustAnswerInTime(t *testing.T, request []byte) {
	t.Helper()
	segment := x.build(piece{payload: request})
	x.push(request)
	for began := time.Now(); time.Since(began) < patience; x.frame(segment) {
		if x.await(200*time.Millisecond, func() bool { return x.reset || len(x.in) > x.read }) {
			break
		}
	}
	x.mustReceive(t, lawfulReply(request))
}

// mustReset fails unless the connection is ended by an RST that the client's TCP would take.
func (x *puppet) mustReset(t *testing.T) {
	t.Helper()
	if !x.await(patience, func() bool { return x.reset }) {
		t.Errorf("port %d: no reset", x.server.Port())
	}
}

// neverHas fails if the device's TCP has given its application the message.
func (x *puppet) neverHas(t *testing.T, message []byte) {
	t.Helper()
	time.Sleep(50 * time.Millisecond)
	if got := x.call(t).bytes(); bytes.Contains(got, message) {
		t.Errorf("the device received % x, with % x in it", got, message)
	}
}

// mustRefuse checks what has become of a denied message that came whole behind lawful ones: reset, or
// an exception, or nothing but silence.
func (x *puppet) mustRefuse(t *testing.T, message []byte, code byte) {
	t.Helper()
	switch x.server.Port() {
	case ambushReset:
		x.mustReset(t)
	case ambushException:
		x.mustReceive(t, mbap(binary.BigEndian.Uint16(message), message[6], []byte{message[7] | 0x80, code}))
	default:
		if x.await(300*time.Millisecond, func() bool { return x.reset || len(x.in) > x.read }) {
			t.Errorf("port %d: reset %v, received % x, want silence", x.server.Port(), x.reset, x.in[x.read:])
		}
	}
	x.neverHas(t, message)
}

// eachPort runs a test on a new connection to each port, with a lawful exchange before.
func (a *ambush) eachPort(t *testing.T, f func(t *testing.T, x *puppet)) {
	t.Helper()
	a.onPorts(t, ambushPorts(), f)
}

func (a *ambush) onPorts(t *testing.T, ports []int, f func(t *testing.T, x *puppet)) {
	t.Helper()
	for _, port := range ports {
		t.Run(onDenyOf[port], func(t *testing.T) {
			x := a.open(t, port)
			x.mustAnswer(t, mbap(0x6001, 1, readRegisters(0, 1)))
			f(t, x)
		})
	}
}
