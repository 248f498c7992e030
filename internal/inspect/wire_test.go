package inspect

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

var (
	clientEnd = netip.MustParseAddrPort("198.18.0.20:49152")
	deviceEnd = netip.MustParseAddrPort("198.18.0.10:502")
	clock     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// flows is a FlowSource out of a map.
type flows struct {
	table      map[uint64]Flow
	generation uint64
}

func (f *flows) Flow(key uint64) (Flow, bool) { flow, ok := f.table[key]; return flow, ok }
func (f *flows) Generation() uint64           { return f.generation }

// wire is a client and a device with a pipeline between them. Both speak plain TCP: what the
// device would hand to its program is in received, whatever its policy on overlaps.
type wire struct {
	t        testing.TB
	pipeline *Pipeline
	flows    *flows
	key      uint64
	now      time.Time
	observed bool

	seq      [2]uint32 // next sequence number of each end
	received [2]map[uint32]byte
	first    [2]uint32 // sequence number of the first byte that an end receives
	last     Judgement
	ended    bool
}

const testKey = 7

// newWire returns a wire under a plan with one conduit, before the handshake.
func newWire(t testing.TB, plan *policy.Plan) *wire {
	t.Helper()
	f := &flows{table: map[uint64]Flow{
		testKey: {Plan: plan, Conduit: 1, Source: 1, Destination: 2, Initiator: policy.SideB},
	}}
	w := &wire{t: t, flows: f, key: testKey, now: clock, seq: [2]uint32{1000, 0xfffffff0}}
	w.pipeline = New(Config{Flows: f})
	w.listen()
	return w
}

// connected returns a wire after the handshake.
func connected(t testing.TB, plan *policy.Plan) *wire {
	t.Helper()
	w := newWire(t, plan)
	w.handshake()
	return w
}

func (w *wire) listen() {
	for d := range w.received {
		w.received[d] = map[uint32]byte{}
		w.first[stream.Direction(d).Other()] = w.seq[d] + 1
	}
}

// handshake opens the connection; every step has to pass.
func (w *wire) handshake() {
	w.t.Helper()
	w.listen()
	mss := []byte{2, 4, 5, 0xb4}
	steps := []struct {
		d     stream.Direction
		flags uint8
		opts  []byte
	}{
		{stream.FromInitiator, frame.FlagSYN, mss},
		{stream.FromResponder, frame.FlagSYN | frame.FlagACK, mss},
		{stream.FromInitiator, frame.FlagACK, nil},
	}
	for _, s := range steps {
		if j := w.send(s.d, segment{flags: s.flags, options: s.opts}); !j.Verdict.Allows() {
			w.t.Fatalf("handshake: flags %#x: %v", s.flags, j.Verdict.Reason)
		}
	}
}

// segment is what an end sends; without flags it is ACK and PSH, and seqAt moves it.
type segment struct {
	payload []byte
	flags   uint8
	options []byte
	seqAt   int32 // relative to what the end would send next
	ackAt   int32
	urgent  uint16
	edit    func(ip []byte) // after the checksums
	keep    bool            // the end's own sequence number does not move
}

// send passes one segment through the pipeline and delivers it if it is forwarded.
func (w *wire) send(d stream.Direction, s segment) Judgement {
	w.t.Helper()
	ip := w.packet(d, s)
	if !s.keep {
		n := uint32(len(s.payload))
		if s.flags&(frame.FlagSYN|frame.FlagFIN) != 0 {
			n++
		}
		w.seq[d] += n
	}
	return w.deliver(d, ip)
}

// packet builds a segment.
func (w *wire) packet(d stream.Direction, s segment) []byte {
	w.t.Helper()
	if s.flags == 0 {
		s.flags = frame.FlagACK | frame.FlagPSH
	}
	p := frame.TCPPacket{
		Src: clientEnd, Dst: deviceEnd, Seq: w.seq[d] + uint32(s.seqAt), Flags: s.flags, Window: 65535,
		Options: s.options, Payload: s.payload, Urgent: s.urgent,
	}
	if d == stream.FromResponder {
		p.Src, p.Dst = p.Dst, p.Src
	}
	if s.flags&frame.FlagACK != 0 {
		p.Ack = w.seq[d.Other()] + uint32(s.ackAt)
	}
	ip, err := frame.AppendTCP(nil, &p)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.edit != nil {
		s.edit(ip)
	}
	return ip
}

// deliver judges a packet, and what is forwarded reaches the other end.
func (w *wire) deliver(d stream.Direction, ip []byte) Judgement {
	w.t.Helper()
	side := policy.SideB
	if d == stream.FromResponder {
		side = policy.SideA
	}
	before := append([]byte(nil), ip...)
	j := w.pipeline.Judge(&Packet{Time: w.now, Key: w.key, From: side, IP: ip, Observed: w.observed})
	if string(before) != string(ip) {
		w.t.Fatal("judging changed the packet")
	}
	w.last = j
	w.ended = w.ended || j.Ended && !w.observed
	if !j.Verdict.Allows() && !w.observed {
		if j.Payload != nil {
			w.t.Fatal("a denied packet has a payload to forward")
		}
		return j
	}
	if j.Payload != nil {
		ip = j.Payload
	}
	var decoder frame.Decoder
	var f frame.Frame
	if err := decoder.IP(ip, &f); err != nil {
		w.t.Fatalf("forwarded what cannot be decoded: %v", err)
	}
	if f.ChecksumOK && f.TCP.Flags&(frame.FlagSYN|frame.FlagRST) == 0 {
		for i, b := range f.Payload {
			w.received[d.Other()][f.TCP.Seq+uint32(i)] = b
		}
	}
	return j
}

// client and device send payloads in order, each as one segment.
func (w *wire) client(payloads ...[]byte) Judgement {
	w.t.Helper()
	return w.all(stream.FromInitiator, payloads)
}
func (w *wire) device(payloads ...[]byte) Judgement {
	w.t.Helper()
	return w.all(stream.FromResponder, payloads)
}

func (w *wire) all(d stream.Direction, payloads [][]byte) (j Judgement) {
	w.t.Helper()
	for _, p := range payloads {
		j = w.send(d, segment{payload: p})
	}
	return j
}

// got returns the bytes that an end has received in order, beginning with the first.
func (w *wire) got(end stream.Direction) []byte {
	var b []byte
	for seq := w.first[end]; ; seq++ {
		v, ok := w.received[end][seq]
		if !ok {
			return b
		}
		b = append(b, v)
	}
}

// mustAllow and mustDeny check the last judgement.
func (w *wire) mustAllow(what string) {
	w.t.Helper()
	if !w.last.Verdict.Allows() {
		w.t.Fatalf("%s: denied as %v", what, w.last.Verdict.Reason)
	}
}

func (w *wire) mustDeny(what string, want verdict.Reason) {
	w.t.Helper()
	if w.last.Verdict.Allows() || w.last.Verdict.Reason != want {
		w.t.Fatalf("%s: %v %v, want deny %v", what, w.last.Verdict.Action, w.last.Verdict.Reason, want)
	}
}

// mbap builds a Modbus/TCP message out of a transaction and a unit with its PDU.
func mbap(transaction uint16, unit byte, pdu ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, transaction)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(1+len(pdu)))
	return append(append(b, unit), pdu...)
}

// Requests and their replies.
func readRequest(transaction uint16) []byte { return mbap(transaction, 1, 3, 0, 40, 0, 2) }
func readReply(transaction uint16) []byte   { return mbap(transaction, 1, 3, 4, 0, 1, 0, 2) }
func writeRequest(transaction uint16) []byte {
	return mbap(transaction, 1, 16, 0, 100, 0, 2, 4, 0, 7, 0, 8)
}

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
