package replay

import (
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/dissectors/modbus"
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

// Dissect calls each with every message in the capture files, in order. TCP on Modbus's port is
// Modbus; on another port it is if the first bytes that one end sends are whole, lawful messages
// of public functions, which bytes of another protocol hardly are: protocol identifier, lengths,
// counts and ranges all have to agree. The files are read as one capture. An error of each ends
// it and is returned; a damaged file is an error after the messages before the damage.
func Dissect(paths []string, each func(*Message) error) error {
	p := newPlayer()
	plan := anything()
	for _, path := range paths {
		err := p.play(path, func(r *frame.Record, err error) error {
			if err != nil || !p.frame.IsTCP || p.frame.Fragment {
				return nil
			}
			c, d, fresh := p.conversation()
			if fresh {
				c.flow = inspect.Flow{Plan: plan, Conduit: 1, Initiator: policy.SideB}
			}
			if !c.isModbus(&p.frame, d) {
				return nil
			}
			return p.emit(path, r, d, p.judge(r, c, d), each)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// emit calls each with what a frame completed.
func (p *player) emit(path string, r *frame.Record, d stream.Direction, j inspect.Judgement, each func(*Message) error) error {
	for i := range j.Messages {
		m := &j.Messages[i]
		line := p.line(path, r, m.Direction)
		line.Operation, line.Fields, line.Malformed = m.Operation(), m.Fields(), m.Malformed
		if err := each(&line); err != nil {
			return err
		}
	}
	line := p.line(path, r, d)
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
func (p *player) line(path string, r *frame.Record, d stream.Direction) Message {
	m := Message{
		File: path, Frame: r.Number, Time: stamp(r.Time), Transport: "tcp", Protocol: policy.ProtocolModbus.String(),
		Source: endpoint(p.frame.Source()), Destination: endpoint(p.frame.Destination()), Direction: "request",
	}
	if d == stream.FromResponder {
		m.Direction = "response"
	}
	return m
}

func stamp(t time.Time) string { return t.UTC().Format(timeFormat) }

func endpoint(a netip.AddrPort) string { return a.String() }

// isModbus decides once what a conversation is taken for.
func (c *conversation) isModbus(f *frame.Frame, d stream.Direction) bool {
	switch {
	case c.protocol != usesUnknown:
	case f.SrcPort == modbusPort || f.DstPort == modbusPort:
		c.protocol = usesModbus
	case len(f.Payload) > 0 && plausible(f.Payload, d):
		c.protocol = usesModbus
	case len(f.Payload) > 0:
		c.protocol = usesOther
	}
	return c.protocol == usesModbus
}

// plausible reports whether a payload is whole Modbus messages of public functions.
func plausible(b []byte, d stream.Direction) bool {
	for len(b) > 0 {
		var request modbus.Request
		var response modbus.Response
		n, function, err := 0, modbus.FunctionCode(0), error(nil)
		if d == stream.FromInitiator {
			n, err = modbus.ParseRequest(b, &request)
			function = request.Function
		} else {
			n, err = modbus.ParseResponse(b, &response)
			function = response.Function
		}
		if err != nil || !function.Public() {
			return false
		}
		b = b[n:]
	}
	return true
}

// anything returns a plan whose one conduit permits every Modbus message there is.
func anything() *policy.Plan {
	rule := policy.ModbusRule{SubFunctions: policy.Spans{{Low: 0, High: 0xffff}}}
	for i := range 256 {
		rule.Functions.Add(uint8(i))
		rule.Units.Add(uint8(i))
		rule.MEITypes.Add(uint8(i))
	}
	return &policy.Plan{
		Identities: make([]policy.Identity, 1),
		Conduits: []policy.Conduit{{}, {
			Name: "capture", Protocol: policy.ProtocolModbus, Mode: policy.Observe, OnJoin: policy.JoinResync, Inspect: true,
			Modbus: []policy.ModbusRule{rule},
		}},
	}
}
