package inspect

import (
	"net/netip"
	"sync"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// maxIO is how many I/O connections are known at a time. What is opened beyond is not told to anybody, so
// that its data do not pass.
const maxIO = 4096

// ioTable holds the I/O connections that permitted messages have opened, over all sessions of all
// pipelines: a Forward Close may come on another one, and with it the connection is over. It is safe for
// concurrent use.
type ioTable struct {
	mu     sync.Mutex
	open   map[ioName]*ioOpen
	number uint64
}

func newIOTable() ioTable { return ioTable{open: map[ioName]*ioOpen{}} }

// ioName names a connection to its target.
type ioName struct {
	target netip.Addr
	triad  triad
}

type ioOpen struct {
	connection IOConnection
	told       IOConnections // of its opening, and to be told of its end
	seen       time.Time
	sequence   [2]uint32 // the last of each direction, by who sends
	begun      [2]bool
}

// add notes a connection; one of the same name is not there any more.
func (t *ioTable) add(told IOConnections, ends [2]netip.AddrPort, name triad, c IOConnection) {
	key := ioName{ends[stream.FromResponder].Addr(), name}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(key)
	if len(t.open) >= maxIO {
		t.expire(c.Opened)
	}
	if len(t.open) >= maxIO {
		return
	}
	t.number++
	c.ID.Number = t.number
	t.open[key] = &ioOpen{connection: c, told: told, seen: c.Opened}
	told.Open(c)
}

// close notes that the target that a flow leads to has closed a connection. One that is not known may
// have been opened before we looked.
func (t *ioTable) close(told IOConnections, name ioName, flow uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[name] == nil {
		told.Forget(flow, IOTriad{name.triad.serial, name.triad.vendor, name.triad.originatorSerial})
	}
	t.remove(name)
}

func (t *ioTable) remove(key ioName) {
	o := t.open[key]
	if o == nil {
		return
	}
	delete(t.open, key)
	o.told.Close(o.connection.ID)
}

// closeIO closes the I/O connections that a TCP connection has opened which a denial ends or the policy
// forbids. One that its ends close leaves them open: devices close TCP connections over which nothing is
// said, and go on with the I/O (V2 2-5.5); it ends with its Forward Close, or its time-out.
func (p *Pipeline) closeIO(c *connection) {
	if d, ok := p.dissectors[policy.ProtocolENIP].(*enipDissector); ok && p.protocol(c.flow) == policy.ProtocolENIP {
		d.io.closeAll(c.key)
	}
}

// closeAll closes what the TCP connection of the key has opened.
func (t *ioTable) closeAll(key uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, o := range t.open {
		if o.connection.ID.Key == key {
			t.remove(name)
		}
	}
}

// expire closes connections that have been silent for longer than their own time-outs. Where the data do
// not come here, whoever lets them through knows.
func (t *ioTable) expire(now time.Time) {
	for name, o := range t.open {
		c := &o.connection
		longest := max(c.OriginatorToTarget.Interval, c.TargetToOriginator.Interval, time.Second)
		if now.Sub(o.seen) > longest*time.Duration(c.Multiplier) && !o.told.Lives(c.ID) {
			t.remove(name)
		}
	}
}

// implicitSession judges the data of class 0 and 1 connections where they reach user space: in captures and
// in copies. Inline the fast path lets through what is open.
type implicitSession struct {
	dissector *enipDissector
	ends      [2]netip.AddrPort
}

func (s *implicitSession) read(r *reading, d stream.Direction, b []byte) step {
	why, detail := s.judge(r, d, b)
	m := Message{Direction: d, Protocol: policy.ProtocolENIP, Verdict: verdict.Permitted}
	if why != verdict.ReasonPermitted {
		m.Verdict = verdict.Denied(why)
	}
	if why == verdict.ReasonMalformed && len(b) < implicitHeader {
		m.Malformed = detail
	} else {
		m.body = &implicitData{b, detail}
	}
	r.record(m)
	return step{size: len(b), verdict: m.Verdict}
}

// The layout of a datagram: two items, a sequenced address and connected data (V2 3-1).
const (
	implicitHeader = 18 // up to and with the length of the data
	offsetID       = 6
	offsetSequence = 10
	offsetDataSize = 16
)

func (s *implicitSession) judge(r *reading, d stream.Direction, b []byte) (verdict.Reason, string) {
	switch {
	case len(b) < implicitHeader, value16(b, 0) != 2, value16(b, 2) != 0x8002, value16(b, 4) != 8,
		value16(b, 14) != 0x00b1, int(value16(b, offsetDataSize)) != len(b)-implicitHeader:
		return verdict.ReasonMalformed, "datagram is not a sequenced address item and connected data"
	}
	t := s.dissector.io
	t.mu.Lock()
	defer t.mu.Unlock()
	id, sequence, size := value32(b, offsetID), value32(b, offsetSequence), value16(b, offsetDataSize)
	from, to := s.ends[d].Addr(), s.ends[d.Other()].Addr()
	o, direction := t.find(from, to, id)
	switch {
	case o == nil && r.observed: // it may have been opened before anybody looked
		return verdict.ReasonResynchronising, "I/O data of a connection whose opening was not seen"
	case o == nil:
		return verdict.ReasonPathNotPermitted, "I/O data of a connection that is not open"
	}
	n := &o.connection.OriginatorToTarget
	if direction == stream.FromResponder {
		n = &o.connection.TargetToOriginator
	}
	switch {
	case size != n.Size && !(n.Variable && size <= n.Size):
		return verdict.ReasonMalformed, "I/O data of another size than the connection's"
	case o.begun[direction] && int32(sequence-o.sequence[direction]) <= 0:
		return verdict.ReasonUnsolicitedReply, "I/O data with a sequence number that is not the next"
	}
	o.sequence[direction], o.begun[direction], o.seen = sequence, true, r.now
	return verdict.ReasonPermitted, ""
}

// find returns the open connection that an end sends data of under the identifier, and in which of its
// directions.
func (t *ioTable) find(from, to netip.Addr, id uint32) (*ioOpen, stream.Direction) {
	for _, o := range t.open {
		c := &o.connection
		switch {
		case c.OriginatorToTarget.ConnectionID == id && from == c.Originator && ioReceives(&c.OriginatorToTarget, to, c.Target):
			return o, stream.FromInitiator
		case c.TargetToOriginator.ConnectionID == id && from == c.Target && ioReceives(&c.TargetToOriginator, to, c.Originator):
			return o, stream.FromResponder
		}
	}
	return nil, 0
}

func ioReceives(n *IODirection, to, other netip.Addr) bool {
	switch n.Type {
	case IOPointToPoint:
		return to == other
	case IOMulticast:
		return to.IsMulticast() && (!n.Destination.IsValid() || n.Destination.Addr() == to)
	}
	return false
}

// implicitData is the body of a line of I/O data.
type implicitData struct {
	raw []byte // at least implicitHeader
	why string
}

// implicitFields are the fields of such a line.
type implicitFields struct {
	Connection uint32 `json:"connection"`
	Sequence   uint32 `json:"sequence"`
	Size       uint16 `json:"size"`
}

func (*implicitData) operation() string { return "io_data" }
func (*implicitData) changes() bool     { return false } // cyclic: its Forward Open says what it may change
func (m *implicitData) detail() string  { return m.why }
func (m *implicitData) fields() any {
	return implicitFields{value32(m.raw, offsetID), value32(m.raw, offsetSequence), value16(m.raw, offsetDataSize)}
}

func (s *implicitSession) misaligned(stream.Direction, []byte) string { return "" }
func (s *implicitSession) joined(time.Time)                           {}
func (s *implicitSession) commit()                                    {}
func (s *implicitSession) rollback()                                  {}
func (s *implicitSession) flushing() bool                             { return false }
func (s *implicitSession) fenced() bool                               { return false }
func (s *implicitSession) sweep(time.Time) verdict.Reason             { return verdict.ReasonNone }
func (s *implicitSession) close()                                     {}

// value16 and value32 return little-endian fields that are there.
func value16(b []byte, at int) uint16 { return uint16(b[at]) | uint16(b[at+1])<<8 }
func value32(b []byte, at int) uint32 {
	return uint32(value16(b, at)) | uint32(value16(b, at+2))<<16
}
