package stream

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/testnet"
)

var kernelTime = flag.Duration("kernel", 3*time.Second, "how long TestKernelReceivesWhatWasJudged goes on")

// kernelReceiver is the kernel's own TCP in a namespace, with a program that reads from it. Frames go
// in and come out at the other end of its cable.
type kernelReceiver struct {
	tap      *testnet.Tap
	listener net.Listener
	seen     int
	port     uint16 // of the last client
}

const kernelPort = 502

var (
	receiverMAC = [6]byte{2, 0, 0, 0, 0, 0x10}
	senderMAC   = [6]byte{2, 0, 0, 0, 0, 0x20}
)

func startKernelReceiver(t *testing.T) *kernelReceiver {
	t.Helper()
	lab := testnet.New(t)
	if err := lab.Cell.AddNeighbour(lab.Plant); err != nil {
		t.Fatal(err)
	}
	if err := lab.Box.Do(func() error {
		port, err := netlink.LinkByName(testnet.PortA)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(port)
	}); err != nil {
		t.Fatal(err)
	}
	k := &kernelReceiver{port: 20000}
	var err error
	if k.tap, err = lab.Tap(lab.Box, testnet.PortA); err != nil {
		t.Fatal(err)
	}
	if err := testnet.WaitCarrier(lab.Cell, testnet.HostInterface, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := lab.Cell.Do(func() error {
		k.listener, err = net.Listen("tcp", fmt.Sprintf("%s:%d", testnet.CellAddress, kernelPort))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.listener.Close() })
	return k
}

// application is what the program behind the kernel's TCP has read of one connection.
type application struct {
	mu    sync.Mutex
	conn  net.Conn
	read  []byte
	ended bool
}

func (a *application) run(conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		a.mu.Lock()
		a.read = append(a.read, buf[:n]...)
		a.ended = a.ended || err != nil
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (a *application) bytes() ([]byte, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.read), a.ended
}

// duel sets a hostile sender, and a network that loses, repeats and reorders behind the connection,
// against the kernel.
type duel struct {
	t      *testing.T
	k      *kernelReceiver
	random *rand.Rand
	conn   *Conn
	app    *application
	client netip.AddrPort
	server netip.AddrPort

	isn, peer    uint32 // the sender's first sequence number, and the one that it expects next
	sent, judged []byte // what a dissector let pass: as its sender sent it, and as it was forwarded
	behind       []Segment
	over         bool // another connection began, or this one was ended by somebody
	finished     bool // a FIN was forwarded
	calm         bool // nothing is lost, and the order is kept
	hostile      bool // the sender is; otherwise only the network is bad
	judges, cuts int
}

func (k *kernelReceiver) duel(t *testing.T, seed uint64) *duel {
	k.port++
	k.tap.Clear()
	k.seen = 0
	x := &duel{
		t: t, k: k, random: rand.New(rand.NewPCG(seed, 1)), conn: New(Limits{}), app: &application{},
		client: netip.AddrPortFrom(netip.MustParseAddr(testnet.PlantAddress), k.port),
		server: netip.AddrPortFrom(netip.MustParseAddr(testnet.CellAddress), kernelPort),
	}
	x.isn, x.hostile = x.random.Uint32(), x.random.IntN(2) == 0
	if x.random.IntN(3) == 0 {
		x.isn = 0xfffffff0 + uint32(x.random.IntN(16)) // wraps within the first bytes
	}
	return x
}

// open opens the connection as lawful ends do.
func (x *duel) open() {
	x.calm = true
	defer func() { x.calm = false }()
	x.offer(FromInitiator, Segment{Seq: x.isn, Flags: SYN, Window: 60000, Options: []byte{2, 4, 5, 0xb4}})
	x.flush()
	if !x.await(func() bool { return x.conn.State() == Answered }) {
		x.t.Fatalf("%v: the kernel answers no SYN", x.client)
	}
	x.offer(FromInitiator, x.ack())
	x.flush()
	conn, err := x.k.listener.Accept()
	if err != nil {
		x.t.Fatal(err)
	}
	x.app.conn = conn
	go x.app.run(conn)
}

func (x *duel) ack() Segment {
	return Segment{Seq: x.next(), Ack: x.peer, Flags: ACK, Window: 60000}
}

func (x *duel) next() uint32 { return x.isn + 1 + uint32(len(x.sent)) }

// moves are the sender's.
func (x *duel) moves(n int) {
	for range n {
		if x.over {
			return
		}
		choice := x.random.IntN(16)
		if !x.hostile {
			choice = max(choice, 2)
		}
		switch choice {
		case 0:
			x.offer(FromInitiator, Segment{Seq: x.next() + uint32(x.random.IntN(2000)) - 1000, Flags: RST | uint8(x.random.IntN(2))*ACK, Ack: x.peer})
		case 1:
			x.offer(FromInitiator, Segment{Seq: x.random.Uint32(), Flags: SYN, Window: 60000, Payload: make([]byte, x.random.IntN(8)/7)})
		case 2, 3, 4:
			x.deliver()
		case 5:
			x.listen()
		default:
			x.offer(FromInitiator, x.data())
		}
		x.check()
	}
}

// data is a segment around what comes next: new bytes, some of the old ones, other bytes in their place.
func (x *duel) data() Segment {
	s := x.ack()
	s.Seq += uint32(x.random.IntN(24)) - 16
	if x.random.IntN(2) == 0 {
		s.Seq = x.next() // what a lawful sender sends
	}
	s.Payload = make([]byte, x.random.IntN(12))
	for i := range s.Payload {
		s.Payload[i] = byte('a' + x.random.IntN(3))
	}
	if at := s.Seq - x.isn - 1; (!x.hostile || x.random.IntN(4) != 0) && at < uint32(len(x.sent)) {
		copy(s.Payload, x.sent[at:]) // repeated lawfully, as far as it was sent
	}
	if !x.hostile && before(s.Seq, x.isn+1) {
		s.Seq = x.next()
	}
	if !x.hostile {
		return s
	}
	switch x.random.IntN(60) {
	case 0:
		s.Flags |= FIN
	case 1:
		s.Flags, s.Urgent = s.Flags|URG, uint16(x.random.IntN(8))
	case 2:
		s.Flags &^= ACK
	case 3:
		s.Ack += uint32(x.random.IntN(2000)) - 1000
	case 4:
		s.Options = optionsMultipath
	case 5:
		s.Flags = uint8(x.random.IntN(64))
	case 6:
		s.Seq += uint32(x.random.IntN(200000)) - 100000
	}
	return s
}

// offer lets the connection decide about a segment, and judges what it hands on.
func (x *duel) offer(d Direction, s Segment) {
	out := x.conn.Offer(d, &s)
	switch out.Disposition {
	case Forward:
	case Judge:
		if d == FromResponder {
			x.t.Fatalf("the receiver sends no data, got %q", s.Payload)
		}
		if !x.judge(&s, out.Fresh) {
			return
		}
	case End:
		x.over = true
		return
	default:
		return
	}
	x.over = x.over || out.Restarted || s.Flags&RST != 0
	if d == FromResponder {
		if s.Flags&SYN != 0 {
			x.peer = s.Seq + 1
		}
		return
	}
	if s.Flags&FIN != 0 {
		x.finished = true
	}
	if b := x.conn.Rewritten(d); b != nil {
		s.Payload = b
	}
	s.Payload = bytes.Clone(s.Payload)
	x.behind = append(x.behind, s)
	if !x.calm && x.random.IntN(3) != 0 {
		x.deliver()
	}
}

func (x *duel) judge(s *Segment, fresh int) bool {
	x.judges++
	added := bytes.Clone(s.Payload[len(s.Payload)-fresh:])
	pending := len(x.conn.Pending(FromInitiator))
	consumed := x.random.IntN(pending + 1)
	switch x.random.IntN(6) {
	case 0:
		x.conn.Refuse(FromInitiator)
		return false
	case 1:
		edited := bytes.ToUpper(s.Payload)
		if !x.conn.AcceptEdited(FromInitiator, pending, edited) {
			x.t.Fatal("an edit of equal length was refused")
		}
		x.sent, x.judged = append(x.sent, added...), append(x.judged, bytes.ToUpper(added)...)
		return true
	}
	x.conn.Accept(FromInitiator, consumed)
	x.sent, x.judged = append(x.sent, added...), append(x.judged, added...)
	return true
}

// deliver hands one of the forwarded segments to the kernel, in any order, or loses or repeats it.
func (x *duel) deliver() {
	if len(x.behind) == 0 {
		return
	}
	i := x.random.IntN(len(x.behind))
	s := x.behind[i]
	if x.random.IntN(5) != 0 { // otherwise it stays, to be delivered again
		x.behind = append(x.behind[:i], x.behind[i+1:]...)
	}
	if x.random.IntN(8) == 0 {
		x.cuts++
		return
	}
	x.transmit(s)
}

// flush delivers everything in order.
func (x *duel) flush() {
	for _, s := range x.behind {
		x.transmit(s)
	}
	x.behind = nil
}

func (x *duel) transmit(s Segment) {
	ip, err := frame.AppendTCP(nil, &frame.TCPPacket{
		Src: x.client, Dst: x.server, Seq: s.Seq, Ack: s.Ack, Flags: s.Flags, Window: s.Window, Urgent: s.Urgent,
		Options: s.Options, Payload: s.Payload,
	})
	if err != nil {
		x.t.Fatal(err)
	}
	if err := x.k.tap.Send(frame.PrependEthernet(receiverMAC, senderMAC, nil, frame.EtherTypeIPv4, ip)); err != nil {
		x.t.Fatal(err)
	}
}

// listen hands what the kernel has answered to the connection, or loses it.
func (x *duel) listen() { x.hear(6) }

func (x *duel) hear(lose int) {
	frames := x.k.tap.Frames()
	for _, f := range frames[x.k.seen:] {
		var d frame.Frame
		var decoder frame.Decoder
		if len(f.Data) < 34 || decoder.IP(f.Data[14:], &d) != nil || !d.IsTCP || d.Destination() != x.client {
			continue
		}
		if lose > 0 && x.random.IntN(lose) == 0 {
			continue
		}
		x.offer(FromResponder, Segment{
			Seq: d.TCP.Seq, Ack: d.TCP.Ack, Flags: d.TCP.Flags, Window: d.TCP.Window, Options: bytes.Clone(d.TCP.Options),
			Payload: bytes.Clone(d.Payload),
		})
	}
	x.k.seen = len(frames)
}

func (x *duel) await(condition func() bool) bool {
	return testnet.WaitFor("", 10*time.Second, func() (bool, error) {
		x.hear(0)
		return condition(), nil
	}) == nil
}

// check holds what the program has read so far against what was judged.
func (x *duel) check() {
	if got, _ := x.app.bytes(); !bytes.HasPrefix(x.judged, got) {
		x.t.Fatalf("%v: the kernel's program has %q, the dissector saw %q", x.client, got, x.judged)
	}
}

// finish lets the sender repeat what was lost, as a lawful one does. A connection that nobody ended then
// has given its program exactly what was judged.
func (x *duel) finish() bool {
	if !x.over && !x.finished {
		x.calm, x.behind = true, nil
		x.hear(0)
		for at := 0; at < len(x.sent) && !x.over; at += 100 {
			s := x.ack()
			s.Seq = x.isn + 1 + uint32(at)
			s.Payload = x.sent[at:min(at+100, len(x.sent))]
			x.offer(FromInitiator, s)
			x.flush()
		}
	}
	whole := !x.over && !x.finished && x.await(func() bool {
		got, ended := x.app.bytes()
		return ended || len(got) >= len(x.judged)
	})
	time.Sleep(time.Millisecond)
	x.check()
	if got, ended := x.app.bytes(); !x.over && !x.finished && !ended && !bytes.Equal(got, x.judged) {
		x.t.Fatalf("%v: the kernel's program has %q of %q, whole %v", x.client, got, x.judged, whole)
	}
	return whole
}

// TestKernelReceivesWhatWasJudged is the adversary of TestAdversaryNeverReachesTheReceiver with the
// kernel's TCP for the receiver.
func TestKernelReceivesWhatWasJudged(t *testing.T) {
	k := startKernelReceiver(t)
	connections, whole, judges, lost, read := 0, 0, 0, 0, 0
	for end := time.Now().Add(*kernelTime); time.Now().Before(end); connections++ {
		x := k.duel(t, uint64(connections))
		x.open()
		x.moves(20 + x.random.IntN(100))
		if x.finish() {
			whole++
		}
		got, _ := x.app.bytes()
		judges, lost, read = judges+x.judges, lost+x.cuts, read+len(got)
		if err := x.app.conn.(*net.TCPConn).SetLinger(0); err != nil && !errors.Is(err, io.EOF) {
			t.Log(err)
		}
		x.app.conn.Close()
		x.conn.Close()
	}
	t.Logf("%d connections, %d of them followed to their end: %d segments judged, %d lost, %d bytes read", connections, whole, judges, lost, read)
	if connections < 20 || whole < connections/20 || read < 100*whole/10 {
		t.Error("hardly anything was tried")
	}
}
