package replay

import (
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Message is one line of `penstock dissect --json`.
type Message struct {
	File        string `json:"file,omitempty"`
	Frame       int    `json:"frame"` // 1-based, the frame that completed the message
	Time        string `json:"time"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Transport   string `json:"transport"`
	Protocol    string `json:"protocol"`
	Direction   string `json:"direction"` // request, response or unknown
	Operation   string `json:"operation,omitempty"`
	Fields      any    `json:"fields,omitempty"`
	Malformed   string `json:"malformed,omitempty"`
}

// timeFormat is RFC 3339 with microseconds, in UTC.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// outOfStep begins what is said of a segment that begins at no known message boundary.
const outOfStep = "out of step: "

// Dissect calls each with every message in the capture files, in order. What is on a protocol's own
// port is of that protocol; on another port it is if the first bytes that one end sends are whole, lawful
// messages of it, which bytes of another protocol hardly are (see recognise). The files are read
// as one capture. An error of each ends it and is returned; a damaged file is an error after the
// messages before the damage.
func Dissect(paths []string, each func(*Message) error) error {
	p := newPlayer()
	plan := anything()
	for _, path := range paths {
		err := p.play(path, func(r *frame.Record, err error) error {
			if err != nil || !p.frame.IsTCP && !p.frame.IsUDP || p.frame.Fragment {
				return nil
			}
			c, d, fresh := p.conversation()
			if fresh {
				c.flow = inspect.Flow{Plan: plan, Initiator: policy.SideB}
			}
			if !c.recognise(&p.frame, d) {
				return nil
			}
			return p.emit(path, r, c, d, p.judge(r, c, d), each)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// emit calls each with what a frame completed.
func (p *player) emit(path string, r *frame.Record, c *conversation, d stream.Direction, j inspect.Judgement, each func(*Message) error) error {
	for i := range j.Messages {
		m := &j.Messages[i]
		line := p.line(path, r, c, m.Direction)
		line.Protocol = m.ProtocolName()
		line.Operation, line.Fields, line.Malformed = m.Operation(), m.Fields(), m.Malformed
		if err := each(&line); err != nil {
			return err
		}
	}
	line := p.line(path, r, c, d)
	switch {
	case j.Verdict.Reason == verdict.ReasonResynchronising:
		line.Malformed = outOfStep + j.Detail
	case p.frame.Truncated && len(p.frame.Payload) > 0:
		line.Malformed = outOfStep + "the capture cut the packet short"
	default:
		return nil
	}
	return each(&line)
}

// line returns a line without what the message itself says.
func (p *player) line(path string, r *frame.Record, c *conversation, d stream.Direction) Message {
	m := Message{
		File: path, Frame: r.Number, Time: stamp(r.Time), Transport: "tcp",
		Protocol: c.flow.Plan.Conduits[c.flow.Conduit].Protocol.String(),
		Source:   endpoint(p.frame.Source()), Destination: endpoint(p.frame.Destination()), Direction: "request",
	}
	if p.frame.IsUDP {
		m.Transport = "udp"
	}
	if d == stream.FromResponder {
		m.Direction = "response"
	}
	if p.frame.IsUDP {
		m.Transport = "udp"
	}
	return m
}

func stamp(t time.Time) string { return t.UTC().Format(timeFormat) }

func endpoint(a netip.AddrPort) string { return a.String() }
