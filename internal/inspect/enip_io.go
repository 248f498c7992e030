package inspect

import (
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

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
	case o.lost:
		return verdict.ReasonIONotOpen, "I/O data of a connection whose session is over"
	case o.connection.Denied:
		return verdict.ReasonIONotOpen, "I/O data of a connection that is not permitted"
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

// IOFlow returns the flow of the session that has opened the I/O connection that a datagram belongs to. Whoever
// sends to a group has no flow that says so.
func (p *Pipeline) IOFlow(from, to netip.Addr, datagram []byte) (Flow, bool) {
	if len(datagram) < implicitHeader {
		return Flow{}, false
	}
	t := p.common.io
	t.mu.Lock()
	defer t.mu.Unlock()
	o, _ := t.find(from, to, value32(datagram, offsetID))
	if o == nil {
		return Flow{}, false
	}
	return o.connection.Flow, true
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
