package replay

import (
	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// The ports on which a protocol is looked for without further proof.
const (
	modbusPort = 502
	dnp3Port   = 20000
	enipPort   = 44818
	enipIOPort = 2222 // UDP: data of class 0 and 1 connections
)

// The conduits of anything's plan.
const (
	modbusConduit uint32 = 1 + iota
	dnp3Conduit
	enipConduit
)

func wellKnown(port uint16) bool {
	return port == modbusPort || port == dnp3Port || port == enipPort || port == enipIOPort
}

// recognise decides once what a conversation is taken for: by a port of its ends, or by the first
// payload in it.
func (c *conversation) recognise(f *frame.Frame, d stream.Direction) bool {
	on := func(port uint16) bool { return f.SrcPort == port || f.DstPort == port }
	switch {
	case c.protocol != usesUnknown:
	case f.IsTCP && on(modbusPort):
		c.take(modbusConduit)
	case on(dnp3Port):
		c.take(dnp3Conduit)
	case on(enipPort), f.IsUDP && on(enipIOPort):
		c.take(enipConduit)
	case len(f.Payload) == 0:
	case plausibleDNP3(f.Payload):
		c.take(dnp3Conduit)
	case f.IsTCP && plausibleENIP(f.Payload, d):
		c.take(enipConduit)
	case f.IsTCP && plausibleModbus(f.Payload, d):
		c.take(modbusConduit)
	default:
		c.protocol = usesOther
	}
	return c.protocol == usesInspection
}

// take has the conversation judged on a conduit of anything's plan.
func (c *conversation) take(conduit uint32) {
	c.protocol, c.flow.Conduit = usesInspection, conduit
}

// plausibleModbus reports whether a payload is whole Modbus messages of public functions: protocol
// identifier, lengths, counts and ranges all have to agree.
func plausibleModbus(b []byte, d stream.Direction) bool {
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

// plausibleDNP3 reports whether a payload is whole DNP3 frames, each of which has a start of two bytes
// and CRCs.
func plausibleDNP3(b []byte) bool {
	for len(b) > 0 {
		var f dnp3.Frame
		n, err := dnp3.ParseFrame(b, &f)
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}

// plausibleENIP reports whether a payload is whole encapsulated messages that begin a session or carry
// services: header, interface handle and items all have to agree.
func plausibleENIP(b []byte, d stream.Direction) bool {
	direction := enip.Request
	if d == stream.FromResponder {
		direction = enip.Reply
	}
	for len(b) > 0 {
		var m enip.Message
		n, err := enip.Parse(b, direction, &m)
		if err != nil || m.Command != enip.RegisterSession && !m.PayloadKnown {
			return false
		}
		b = b[n:]
	}
	return true
}

// dnp3Sender reports whether a payload begins with a DNP3 frame, and whether a master sent it.
func dnp3Sender(b []byte) (sent, master bool) {
	if dnp3.ClaimedSize(b) == 0 {
		return false, false
	}
	var f dnp3.Frame
	_, _ = dnp3.ParseFrame(b, &f) // malformed or not, the header is right
	return true, f.FromMaster
}

// anything returns a plan whose conduits permit every message there is.
func anything() *policy.Plan {
	rule := policy.ModbusRule{SubFunctions: policy.Spans{{Low: 0, High: 0xffff}}}
	station := policy.DNP3Rule{Outstations: policy.Spans{{Low: 0, High: 0xffff}}}
	raw := station // a rule that names objects is not about functions whose objects nobody can read
	for i := range 256 {
		rule.Functions.Add(uint8(i))
		rule.Units.Add(uint8(i))
		rule.MEITypes.Add(uint8(i))
		station.Functions.Add(uint8(i))
		raw.Functions.Add(uint8(i))
		station.Objects = append(station.Objects, policy.DNP3Object{Group: uint8(i), AnyVariation: true})
	}
	return &policy.Plan{
		Identities: make([]policy.Identity, 1),
		Conduits: []policy.Conduit{{}, {
			Name: "modbus", Protocol: policy.ProtocolModbus, Mode: policy.Observe, OnJoin: policy.JoinResync, Inspect: true,
			Modbus: []policy.ModbusRule{rule},
		}, {
			Name: "dnp3", Protocol: policy.ProtocolDNP3, Mode: policy.Observe, OnJoin: policy.JoinResync, Inspect: true,
			DNP3: []policy.DNP3Rule{station, raw},
		}, {
			// Observed messages are told whatever the rules say.
			Name: "enip", Protocol: policy.ProtocolENIP, Mode: policy.Observe, OnJoin: policy.JoinResync, Inspect: true,
		}},
	}
}
