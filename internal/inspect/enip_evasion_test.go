package inspect

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// deniedENIP sends a message that has to be denied for the reason, and holds that the device gets nothing
// of it, or at least not the last byte.
func deniedENIP(t *testing.T, name string, message []byte, want verdict.Reason) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		d := newTarget(t, enipPlan(t, policy.DenyReset))
		d.executed = nil
		before := len(d.got(stream.FromResponder))
		d.client(message)
		d.mustDeny(name, want)
		if got := d.got(stream.FromResponder); len(got) != before {
			t.Errorf("the device got %d bytes of it", len(got)-before)
		}
		if !d.ended {
			t.Error("the connection goes on")
		}
	})
}

// allowedENIP sends a service that has to be permitted, and reach the device as it is.
func allowedENIP(t *testing.T, name string, service []byte) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		d := newTarget(t, enipPlan(t, policy.DenyReset))
		d.rr(service)
		d.mustAllow(name)
		if !d.ran(service) {
			t.Error("the device has not got it")
		}
	})
}

func TestEvasion25_SplitInsideHeaderOrBody(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset)
	for _, service := range [][]byte{otherTag(1), setpoint(1501), resetIdentity(), ct.Multiple(readSpeed(), otherTag(1)), ct.Unconnected(otherTag(1), ct.Port(1, 0))} {
		message := ct.RR(enipHandle, 7, service)
		for split := 1; split < len(message); split++ {
			d := newTarget(t, plan)
			before := len(d.got(stream.FromResponder))
			d.client(message[:split])
			d.client(message[split:])
			if got := len(d.got(stream.FromResponder)) - before; got >= len(message) || !d.ended {
				t.Fatalf("%x split at %d: %d of %d bytes left, ended %v", service, split, got, len(message), d.ended)
			}
		}
		d := newTarget(t, plan)
		for i := range message {
			d.client(message[i : i+1])
		}
		if !d.ended {
			t.Errorf("%x byte by byte: the connection goes on", service)
		}
	}
	message := ct.RR(enipHandle, 7, setpoint(1500))
	for split := 1; split < len(message); split++ {
		d := newTarget(t, plan)
		d.client(message[:split], message[split:])
		d.work()
		d.mustAllow("reply")
		if !d.ran(setpoint(1500)) {
			t.Fatalf("a permitted write split at %d has not arrived", split)
		}
	}
}

func TestEvasion26_NestedServices(t *testing.T) {
	route := ct.Port(1, 0)
	tag := verdict.ReasonTagNotPermitted
	deniedENIP(t, "in a packet", ct.RR(enipHandle, 7, ct.Multiple(readSpeed(), otherTag(1))), tag)
	deniedENIP(t, "first in a packet", ct.RR(enipHandle, 7, ct.Multiple(otherTag(1), readSpeed())), tag)
	deniedENIP(t, "in an unconnected send", ct.RR(enipHandle, 7, ct.Unconnected(otherTag(1), route)), tag)
	deniedENIP(t, "in a packet in an unconnected send", ct.RR(enipHandle, 7, ct.Unconnected(ct.Multiple(readSpeed(), otherTag(1)), route)), tag)
	deniedENIP(t, "in an unconnected send in a packet", ct.RR(enipHandle, 7, ct.Multiple(readSpeed(), ct.Unconnected(otherTag(1), route))), tag)
	deniedENIP(t, "in a packet in a packet", ct.RR(enipHandle, 7, ct.Multiple(ct.Multiple(readSpeed(), resetIdentity()))), verdict.ReasonServiceNotPermitted)
	deep := readSpeed()
	for range 5 {
		deep = ct.Multiple(deep)
	}
	deniedENIP(t, "too deep", ct.RR(enipHandle, 7, deep), verdict.ReasonMalformed)
	many := make([][]byte, 255)
	for i := range many {
		many[i] = readSpeed()
	}
	deniedENIP(t, "256 services with the packet", ct.RR(enipHandle, 7, ct.Multiple(many...)), verdict.ReasonMalformed)
	deniedENIP(t, "a count over 255", ct.RR(enipHandle, 7, ct.Multiple(append(many, many...)...)), verdict.ReasonMalformed)

	allowedENIP(t, "254 services in a packet", ct.Multiple(many[:254]...))
	allowedENIP(t, "permitted in all of it", ct.Unconnected(ct.Multiple(readSpeed(), setpoint(5)), route))

	packet := func(count uint16, offsets []uint16, services ...[]byte) []byte {
		b := ct.U16(count)
		for _, o := range offsets {
			b = append(b, ct.U16(o)...)
		}
		return ct.RR(enipHandle, 7, ct.Request(0x0a, ct.Router(), b, ct.Join(services...)))
	}
	n := uint16(len(readSpeed()))
	for name, offsets := range map[string][]uint16{
		"overlap": {6, 6}, "decrease": {6 + n, 6}, "leave the packet": {6, 6 + 2*n + 1}, "at the very end": {6, 6 + 2*n},
		"a gap before": {7, 6 + n}, "inside the offsets": {4, 6 + n}, "inside a service": {6, 7},
	} {
		deniedENIP(t, "offsets "+name, packet(2, offsets, readSpeed(), readSpeed()), verdict.ReasonMalformed)
	}
	deniedENIP(t, "count 0", packet(0, nil), verdict.ReasonMalformed)
	deniedENIP(t, "count and no services", packet(3, []uint16{8}), verdict.ReasonMalformed)
}

func TestEvasion27_Items(t *testing.T) {
	permitted, denied := ct.Item(0xb2, readSpeed()), ct.Item(0xb2, otherTag(1))
	null := ct.Item(0, nil)
	socket := ct.Item(0x8000, ct.Socket(2222, 0, 0, 0, 0))
	message := func(items ...[]byte) []byte { return ct.Encapsulate(0x6f, enipHandle, 7, ct.Items(items...)) }
	bad := verdict.ReasonMalformed
	deniedENIP(t, "two data items", message(null, permitted, denied), bad)
	deniedENIP(t, "two address items", message(null, null, denied), bad)
	deniedENIP(t, "data before the address", message(permitted, null), bad)
	deniedENIP(t, "denied data before the address", message(denied, null), verdict.ReasonTagNotPermitted)
	deniedENIP(t, "an unknown item", message(null, permitted, ct.Item(0x99, nil)), bad)
	deniedENIP(t, "five items", message(null, permitted, socket, ct.Item(0x8001, ct.Socket(2222, 0, 0, 0, 0)), socket), bad)
	deniedENIP(t, "the same socket twice", message(null, permitted, socket, socket), bad)
	deniedENIP(t, "connected data without a connection", message(null, ct.Item(0xb1, ct.Join(ct.U16(1), readSpeed()))), bad)
	deniedENIP(t, "a null address with bytes", message(ct.Item(0, []byte{1}), permitted), bad)
	deniedENIP(t, "bytes behind the last item", ct.Encapsulate(0x6f, enipHandle, 7, append(ct.Items(null, permitted), otherTag(1)...)), bad)
	deniedENIP(t, "an item longer than the message", ct.Encapsulate(0x6f, enipHandle, 7, ct.Items(null, ct.Join(ct.U16(0xb2), ct.U16(99), readSpeed()))), bad)
	handle := ct.RR(enipHandle, 7, readSpeed())
	handle[24] = 1
	deniedENIP(t, "an interface handle", handle, bad)
	options := ct.RR(enipHandle, 7, readSpeed())
	options[20] = 1
	deniedENIP(t, "options", options, bad)
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	d.rr(readSpeed(), socket)
	d.mustAllow("a socket address that names nobody")
}

func TestEvasion28_SpellingsOfAPath(t *testing.T) {
	rules := []string{`{services: [set_attribute_single], classes: [assembly], instances: [100], attributes: [3]}`,
		`{services: [write_tag], tags: ["Line3.Set", "A[3]"]}`}
	plan := enipPlan(t, policy.DenyReset, rules...)
	judge := func(service []byte) bool {
		d := newTarget(t, plan)
		d.rr(service)
		return d.ran(service)
	}
	for _, instance := range []uint32{100, 101} {
		for spelling := range 27 {
			path := ct.Join(ct.Logical(0x20, 4, byte(spelling%3)), ct.Logical(0x24, instance, byte(spelling/3%3)), ct.Logical(0x30, 3, byte(spelling/9)))
			for _, key := range [][]byte{nil, ct.Key()} {
				if got := judge(ct.Request(0x10, ct.Join(key, path), []byte{1})); got != (instance == 100) {
					t.Errorf("instance %d, spelling %d, key %d: permitted %v", instance, spelling, len(key), got)
				}
			}
		}
	}
	for _, name := range []string{"Set", "Sex"} {
		for i, path := range [][]byte{
			ct.Symbol("Line3." + name), ct.Join(ct.Symbol("Line3"), ct.Symbol(name)), ct.ShortSymbol("Line3." + name),
			ct.Join(ct.ShortSymbol("Line3"), ct.Symbol(name)), ct.Symbol("LINE3." + name),
		} {
			if got := judge(ct.WriteDINT(path, 1)); got != (name == "Set") {
				t.Errorf("tag Line3.%s, spelling %d: permitted %v", name, i, got)
			}
		}
	}
	for _, element := range []uint32{3, 4} {
		for i, path := range [][]byte{
			ct.Symbol(fmt.Sprintf("A[%d]", element)), ct.Join(ct.Symbol("A"), ct.Logical(0x28, element, 0)),
			ct.Join(ct.Symbol("A"), ct.Logical(0x28, element, 1)), ct.Join(ct.ShortSymbol("A"), ct.Logical(0x28, element, 2)),
			ct.Symbol(fmt.Sprintf("A[0%d]", element)),
		} {
			if got := judge(ct.WriteDINT(path, 1)); got != (element == 3) {
				t.Errorf("A[%d], spelling %d: permitted %v", element, i, got)
			}
		}
	}
	for name, path := range map[string][]byte{
		"two classes":         ct.Join(ct.Class(4), ct.Class(1), ct.Instance(100), ct.Attribute(3)),
		"two instances":       ct.Join(ct.Class(4), ct.Instance(100), ct.Instance(1), ct.Attribute(3)),
		"inside the router":   ct.Join(ct.Class(2), ct.Instance(1), ct.Class(4), ct.Instance(100), ct.Attribute(3)),
		"attribute first":     ct.Join(ct.Attribute(3), ct.Class(4), ct.Instance(100)),
		"a pad byte not 0":    {0x21, 1, 4, 0, 0x24, 100, 0x30, 3},
		"a reserved segment":  ct.Join(ct.Class(4), ct.Instance(100), ct.Attribute(3), []byte{0xc1, 0}),
		"an extended logical": {0x20, 4, 0x24, 100, 0x3c, 3},
		"half a segment":      {0x20, 4, 0x24, 100, 0x31, 0},
		"a NUL in a symbol":   ct.Symbol("Line3.Set\x00x"),
		"an empty symbol":     ct.Symbol(""),
	} {
		d := newTarget(t, plan)
		d.client(ct.RR(enipHandle, 7, ct.Request(0x10, path, []byte{1})))
		d.mustDeny(name, verdict.ReasonMalformed)
	}
	d := newTarget(t, plan)
	d.client(ct.RR(enipHandle, 7, ct.Request(0x10, ct.Join(ct.Port(1, 0), ct.Class(4), ct.Instance(100), ct.Attribute(3)), []byte{1})))
	d.mustDeny("a port segment first", verdict.ReasonRouteNotPermitted)
}

func TestEvasion29_ConnectedMessages(t *testing.T) {
	plan := enipPlan(t, policy.DenyReset)
	d := newTarget(t, plan)
	id := d.openExplicit(1, ct.Port(1, 0))
	d.client(ct.Unit(enipHandle, id, 1, setpoint(5)))
	d.mustAllow("write on a connection")
	d.work()
	d.mustAllow("its reply")
	d.client(ct.Unit(enipHandle, id, 2, otherTag(5)))
	d.mustDeny("denied write on a connection", verdict.ReasonTagNotPermitted)

	for name, message := range map[string]func(d *target) []byte{
		"never opened":            func(d *target) []byte { return ct.Unit(enipHandle, 0xdead, 1, readSpeed()) },
		"the other direction's":   func(d *target) []byte { d.openExplicit(1); return ct.Unit(enipHandle, 0x9001, 1, readSpeed()) },
		"without sequence count":  func(d *target) []byte { id := d.openExplicit(1); return unitOf(id, []byte{1}) },
		"by a route not its rule": nil,
	} {
		if message == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			d := newTarget(t, plan)
			b := message(d)
			d.executed = nil
			d.client(b)
			if d.last.Verdict.Allows() || d.executed != nil {
				t.Errorf("%v", d.last.Verdict)
			}
		})
	}

	t.Run("opened behind port segments", func(t *testing.T) {
		d := newTarget(t, enipPlan(t, policy.DenyReset, `{services: [read_tag], tags: ["Line3.*"], route: ["1/0,1/3"]}`,
			`{services: [forward_open], route: ["1/0,1/3"]}`, `{services: [write_tag], route: ["1/3"]}`))
		o := ct.Open{Serial: 1, ToSource: 0x9001, Path: ct.Join(ct.Port(1, 3), ct.Router())}
		open := o.Forward()
		d.silent = true
		d.client(ct.RR(enipHandle, 1, ct.Join([]byte{open[0], open[1] + 1}, ct.Port(1, 0), open[2:])))
		d.mustAllow("forward open")
		d.device(ct.RR(enipHandle, 1, ct.Opened(o, 0x70001, 0x9001)))
		d.mustAllow("its reply")
		d.client(ct.Unit(enipHandle, 0x70001, 1, readSpeed()))
		d.mustAllow("read by both hops")
		d.client(ct.Unit(enipHandle, 0x70001, 2, setpoint(5)))
		d.mustDeny("write that is permitted by the second hop alone", verdict.ReasonRouteNotPermitted)
	})
	t.Run("closed", func(t *testing.T) {
		d := newTarget(t, plan)
		id := d.openExplicit(1, ct.Port(1, 0))
		d.rr(ct.Close(1, ct.Join(ct.Port(1, 0), ct.Router())))
		d.mustAllow("forward close")
		d.client(ct.Unit(enipHandle, id, 1, readSpeed()))
		d.mustDeny("data on a closed connection", verdict.ReasonPathNotPermitted)
	})
	t.Run("a close that failed", func(t *testing.T) {
		d := newTarget(t, plan)
		id := d.openExplicit(1, ct.Port(1, 0))
		d.silent = true
		d.rr(ct.Close(1, ct.Join(ct.Port(1, 0), ct.Router())))
		d.device(ct.RR(enipHandle, 7, []byte{0xce, 0, 1, 1, 7, 1}))
		d.mustAllow("its error")
		d.client(ct.Unit(enipHandle, id, 1, readSpeed()))
		d.mustAllow("data on a connection that is still open")
	})
	t.Run("an open that failed", func(t *testing.T) {
		d := newTarget(t, plan)
		d.silent = true
		d.rr(ct.Open{Serial: 1, ToSource: 5, Path: ct.Join(ct.Port(1, 0), ct.Router())}.Forward())
		d.device(ct.RR(enipHandle, 7, []byte{0xd4, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0}))
		d.client(ct.Unit(enipHandle, 0x70001, 1, readSpeed()))
		d.mustDeny("data on it", verdict.ReasonPathNotPermitted)
	})
	t.Run("an identifier used again", func(t *testing.T) {
		// The same identifier names a connection by another route now; the old one's triad is gone.
		rules := append([]string{`{services: [write_tag], tags: [Recipe], route: ["1/0"]}`, `{services: [forward_open], route: ["1/1"]}`}, enipRules...)
		d := newTarget(t, enipPlan(t, policy.DenyReset, rules...))
		id := d.openExplicit(1, ct.Port(1, 0))
		d.client(ct.Unit(enipHandle, id, 1, otherTag(1)))
		d.mustAllow("by the rule's route")
		d.work()
		d.next = id - 1
		if again := d.openExplicit(2, ct.Port(1, 1)); again != id {
			t.Fatal("the device gave another identifier")
		}
		d.client(ct.Unit(enipHandle, id, 2, otherTag(1)))
		d.mustDeny("by another route", verdict.ReasonTagNotPermitted)
	})
	t.Run("null", func(t *testing.T) {
		d := newTarget(t, plan)
		d.rr(ct.Open{Serial: 1, Types: [2]byte{ct.Null, ct.Null}, Path: ct.Join(ct.Port(1, 0), ct.Router())}.Forward())
		d.mustAllow("null forward open")
		d.client(ct.Unit(enipHandle, d.next, 1, readSpeed()))
		d.mustDeny("data on what it did not open", verdict.ReasonPathNotPermitted)
	})
	t.Run("unregistered", func(t *testing.T) {
		d := newTarget(t, plan)
		id := d.openExplicit(1, ct.Port(1, 0))
		d.client(ct.Encapsulate(0x66, enipHandle, 0, nil))
		d.mustAllow("unregister session")
		d.client(ct.Unit(enipHandle, id, 1, readSpeed()))
		d.mustDeny("data after it", verdict.ReasonMalformed)
	})
}

// unitOf is a SendUnitData whose data has no room for a sequence count.
func unitOf(id uint32, data []byte) []byte {
	return ct.Encapsulate(0x70, enipHandle, 0, ct.Items(ct.Item(0xa1, ct.U32(id)), ct.Item(0xb1, data)))
}

func TestEvasion30_EveryHop(t *testing.T) {
	route := verdict.ReasonRouteNotPermitted
	rr := func(service []byte) []byte { return ct.RR(enipHandle, 7, service) }
	deniedENIP(t, "another slot", rr(ct.Unconnected(readSpeed(), ct.Port(1, 3))), route)
	deniedENIP(t, "another port", rr(ct.Unconnected(readSpeed(), ct.Port(2, 0))), route)
	deniedENIP(t, "one hop more", rr(ct.Unconnected(readSpeed(), ct.Port(1, 0), ct.PortText(2, "198.18.0.9"))), route)
	deniedENIP(t, "nested sends", rr(ct.Unconnected(ct.Unconnected(readSpeed(), ct.Port(1, 0)), ct.Port(1, 0))), route)
	deniedENIP(t, "a connection to another slot", rr(ct.Open{Path: ct.Join(ct.Port(1, 2), ct.Router())}.Forward()), route)
	deniedENIP(t, "a large connection to another slot", rr(ct.Open{Large: true, Path: ct.Join(ct.Port(1, 2), ct.Router())}.Forward()), route)
	deniedENIP(t, "a close by another slot", rr(ct.Close(1, ct.Join(ct.Port(1, 2), ct.Router()))), route)
	deniedENIP(t, "a name as link address", rr(ct.Unconnected(readSpeed(), ct.PortText(1, "plc"))), route)
	deniedENIP(t, "a route with an object", rr(ct.Unconnected(readSpeed(), ct.Port(1, 0), ct.Router())), verdict.ReasonMalformed)
	allowedENIP(t, "the rule's route", ct.Unconnected(readSpeed(), ct.Port(1, 0)))
	allowedENIP(t, "the same in another spelling", ct.Unconnected(readSpeed(), []byte{0x11, 1, 0, 0}))
	allowedENIP(t, "the same as an extended port", ct.Unconnected(readSpeed(), []byte{0x0f, 1, 0, 0}))
}

func pccc(command ...byte) []byte {
	return ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 0x4d, 0, 1, 2, 3, 4}, command)
}

func TestEvasion31_PCCCAndFragments(t *testing.T) {
	rules := []string{`{services: [execute_pccc], pccc: {functions: [protected_typed_logical_read, "0x0f/0xaa"], files: ["N7:0-9"]}}`,
		`{services: [read_tag_fragmented, write_tag_fragmented], tags: ["A[0-9]"], values: [0-9]}`}
	plan := enipPlan(t, policy.DenyReset, rules...)
	read := func(file, element, size byte) []byte {
		return pccc(0x0f, 0, 1, 0, 0xa2, size, file, 0x89, element, 0)
	}
	fragment := func(path []byte, count uint16, offset uint32, values ...uint32) []byte {
		b := ct.Join(ct.U16(0xc4), ct.U16(count), ct.U32(offset))
		for _, v := range values {
			b = append(b, ct.U32(v)...)
		}
		return ct.Request(0x53, path, b)
	}
	array := func(i uint32) []byte { return ct.Join(ct.Symbol("A"), ct.Member(i)) }
	for _, row := range []struct {
		name    string
		service []byte
		want    verdict.Reason // ReasonPermitted if it passes
	}{
		{"read of N7:3", read(7, 3, 2), verdict.ReasonPermitted},
		{"read of N7:3 in a long spelling", pccc(0x0f, 0, 1, 0, 0xa2, 2, 0xff, 7, 0, 0x89, 0xff, 3, 0, 0), verdict.ReasonPermitted},
		{"read of N8:3", read(8, 3, 2), verdict.ReasonPathNotPermitted},
		{"read of N7:10", read(7, 10, 2), verdict.ReasonPathNotPermitted},
		{"read over N7:9", read(7, 9, 4), verdict.ReasonPathNotPermitted},
		{"write of N7:3", pccc(0x0f, 0, 1, 0, 0xaa, 2, 7, 0x89, 3, 0, 1, 0), verdict.ReasonPermitted},
		{"write with more data than it says", pccc(0x0f, 0, 1, 0, 0xaa, 2, 7, 0x89, 3, 0, 1, 0, 9, 9), verdict.ReasonMalformed},
		{"change of mode", pccc(0x0f, 0, 1, 0, 0x80, 6), verdict.ReasonPathNotPermitted},
		{"another command", pccc(0x08, 0, 1, 0, 0, 0, 1, 2), verdict.ReasonPathNotPermitted},
		{"another requestor id", ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{5, 0, 0, 0, 0, 0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 3, 0}), verdict.ReasonMalformed},
		{"0x4b of another class", ct.Request(0x4b, ct.Join(ct.Class(0x64), ct.Instance(1)), []byte{7}), verdict.ReasonServiceNotPermitted},

		{"fragmented read", ct.Request(0x52, array(0), ct.U16(10), ct.U32(8)), verdict.ReasonPermitted},
		{"fragmented read of more", ct.Request(0x52, array(0), ct.U16(11), ct.U32(8)), verdict.ReasonTagNotPermitted},
		{"0x52 of the connection manager", ct.Unconnected(ct.ReadTag(array(0), 1)), verdict.ReasonServiceNotPermitted},
		{"fragmented write", fragment(array(2), 8, 4, 1, 9), verdict.ReasonPermitted},
		{"fragmented write of more", fragment(array(3), 8, 4, 1, 9), verdict.ReasonTagNotPermitted},
		{"fragmented write of another value", fragment(array(2), 8, 4, 1, 10), verdict.ReasonValueNotPermitted},
		{"fragmented write inside an element", fragment(array(2), 8, 5, 1), verdict.ReasonValueNotPermitted},
		{"fragmented write behind its elements", fragment(array(2), 2, 8, 1), verdict.ReasonMalformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			judgesService(t, plan, row.name, row.service, row.want)
		})
	}
}

func TestEvasion32_CommandsAndSessions(t *testing.T) {
	service := verdict.ReasonServiceNotPermitted
	for name, command := range map[string]uint16{
		"nop": 0, "legacy 1": 1, "legacy 2": 2, "legacy 3": 3, "list services": 4, "list interfaces": 0x64,
		"indicate status": 0x72, "cancel": 0x73, "start dtls": 0xc8, "unknown": 0x99,
	} {
		deniedENIP(t, name, ct.Encapsulate(command, 0, 7, nil), service)
	}
	deniedENIP(t, "a nop with a write in it", ct.Encapsulate(0, 0, 7, ct.RR(enipHandle, 7, otherTag(1))), service)
	bad := verdict.ReasonMalformed
	deniedENIP(t, "another session", ct.RR(enipHandle+1, 7, readSpeed()), bad)
	deniedENIP(t, "no session", ct.RR(0, 7, readSpeed()), bad)
	deniedENIP(t, "a second session", ct.Register(0), bad)
	deniedENIP(t, "a discovery with data", ct.Encapsulate(0x63, 0, 7, []byte{1}), bad)
	status := ct.RR(enipHandle, 7, readSpeed())
	status[8] = 1
	deniedENIP(t, "a request with a status", status, bad)

	d := newTarget(t, enipPlan(t, policy.DenyReset))
	d.client(ct.Encapsulate(0x63, 0, 7, nil))
	d.mustAllow("list identity, which a rule names")
	d.work()
	d.mustAllow("its reply")

	w := connected(t, enipPlan(t, policy.DenyReset))
	w.client(ct.RR(enipHandle, 7, readSpeed()))
	w.mustDeny("a service before any session", bad)
}

func TestEvasion33_ImplicitDataNeedsItsForwardOpen(t *testing.T) {
	log := &ioLog{}
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	d.pipeline.dissectors[policy.ProtocolENIP].(*enipDissector).told = log
	o := ct.Open{
		Serial: 9, ToSource: 0x9009, Class: 1, Size: 100, RPI: 20000, Multiplier: 2,
		Path: ct.Join(ct.Port(1, 0), ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100)),
	}
	d.client(ct.RR(enipHandle, 7, o.Forward()))
	d.mustAllow("forward open of I/O")
	if len(log.opened) != 0 {
		t.Fatal("told before the device has agreed")
	}
	d.work()
	if len(log.opened) != 1 {
		t.Fatalf("%d connections told", len(log.opened))
	}
	c := log.opened[0]
	if c.Originator != clientEnd.Addr() || c.Target != deviceEnd.Addr() || c.Class != 1 || c.Multiplier != 16 || c.Owner != OwnerExclusive ||
		c.OriginatorToTarget.ConnectionID != d.next || c.TargetToOriginator.ConnectionID != 0x9009 ||
		c.OriginatorToTarget.Size != 100 || c.OriginatorToTarget.Data(1) != 98 || c.Serial != 9 || c.Vendor != 0x1337 || c.OriginatorSerial != 42 {
		t.Errorf("%+v", c)
	}
	if !bytes.Equal(c.Opening, o.Forward()) || !c.Flow.Plan.PermitsOpening(1, c.Opening, c.Route) {
		t.Errorf("opening %x, want %x, which the plan permits", c.Opening, o.Forward())
	}
	if other := enipPlan(t, policy.DenyReset, `{services: [forward_open], route: ["1/0"]}`); other.PermitsOpening(1, c.Opening, c.Route) {
		t.Error("a plan without I/O permits the connection")
	}
	d.rr(ct.Close(9, o.Path))
	if len(log.closed) != 1 || log.closed[0] != c.ID {
		t.Errorf("closed %v, want %v", log.closed, c.ID)
	}
	d.rr(ct.Close(10, o.Path)) // opened before anybody looked
	if want := (cip.Triad{Serial: 10, Vendor: 0x1337, OriginatorSerial: 42}); len(log.closed) != 1 || len(log.forgotten) != 1 || log.forgotten[0] != want {
		t.Errorf("closed %v, forgotten %v, want %v", log.closed, log.forgotten, want)
	}

	path := func(points ...uint32) []byte {
		b := ct.Join(ct.Port(1, 0), ct.Class(4), ct.Instance(151))
		for _, p := range points {
			b = append(b, ct.Point(p)...)
		}
		return b
	}
	rr := func(o ct.Open) []byte { return ct.RR(enipHandle, 7, o.Forward()) }
	value, where := verdict.ReasonValueNotPermitted, verdict.ReasonPathNotPermitted
	deniedENIP(t, "too often", rr(ct.Open{Class: 1, Size: 100, RPI: 9999, Path: path(150, 100)}), value)
	deniedENIP(t, "too large", rr(ct.Open{Class: 1, Large: true, Size: 505, Path: path(150, 100)}), value)
	deniedENIP(t, "another assembly", rr(ct.Open{Class: 1, Size: 100, Path: path(150, 101)}), where)
	deniedENIP(t, "another class", rr(ct.Open{Class: 1, Size: 100, Path: ct.Join(ct.Port(1, 0), ct.Class(5), ct.Instance(100))}), where)
	deniedENIP(t, "a second class", rr(ct.Open{Class: 1, Size: 100, Path: ct.Join(path(150, 100), ct.Class(0x67), ct.Instance(1))}), where)
	deniedENIP(t, "class 3 to an assembly", rr(ct.Open{Class: 0xa3, Size: 100, Path: path(150, 100)}), where)
	deniedENIP(t, "a reserved transport class", rr(ct.Open{Class: 5, Size: 100, Path: path(150, 100)}), verdict.ReasonMalformed)
	deniedENIP(t, "safety", rr(ct.Open{Class: 0xff, Size: 100, Path: ct.Join(path(150, 100), []byte{0x50, 1, 0, 0})}), where)
}

// ioLog notes what it is told.
type ioLog struct {
	forgotten []cip.Triad
	opened    []IOConnection
	closed    []IOConnectionID
	why       []IOEnd
	refused   []IOConnection
}

func (l *ioLog) Open(c IOConnection)          { l.opened = append(l.opened, c) }
func (l *ioLog) Refused(c IOConnection)       { l.refused = append(l.refused, c) }
func (l *ioLog) Forget(_ uint64, t cip.Triad) { l.forgotten = append(l.forgotten, t) }
func (l *ioLog) Lives(IOConnectionID) bool    { return true }
func (l *ioLog) Close(id IOConnectionID, why IOEnd) {
	l.closed, l.why = append(l.closed, id), append(l.why, why)
}

func TestEvasion39_SocketAddressOfAThirdParty(t *testing.T) {
	o := ct.Open{Class: 1, Size: 100, Path: ct.Join(ct.Class(4), ct.Point(150), ct.Point(100))}
	with := func(kind uint16, port uint16, a, b, c, d byte) []byte {
		return ct.RR(enipHandle, 7, o.Forward(), ct.Item(kind, ct.Socket(port, a, b, c, d)))
	}
	why := verdict.ReasonAddressNotPermitted
	deniedENIP(t, "another host", with(0x8001, 2222, 198, 18, 0, 99), why)
	deniedENIP(t, "the device as source", with(0x8001, 2222, 198, 18, 0, 10), why)
	deniedENIP(t, "another port", with(0x8001, 502, 198, 18, 0, 20), why)
	deniedENIP(t, "a multicast group of the client's", with(0x8000, 2222, 239, 1, 2, 3), why)

	reply := func(d *target, kind, port uint16, a, b, c, e byte) {
		d.silent = true
		d.rr(o.Forward())
		d.mustAllow("forward open")
		d.device(ct.RR(enipHandle, 7, ct.Opened(o, 5, 6), ct.Item(kind, ct.Socket(port, a, b, c, e))))
	}
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	reply(d, 0x8000, 2222, 198, 18, 0, 99)
	d.mustDeny("reply that names another host", why)
	d = newTarget(t, enipPlan(t, policy.DenyReset))
	reply(d, 0x8000, 44818, 0, 0, 0, 0)
	d.mustDeny("reply that names another port", why)
	d = newTarget(t, enipPlan(t, policy.DenyReset))
	reply(d, 0x8000, 2222, 0, 0, 0, 0)
	d.mustAllow("reply that names nobody")
	// A stack repeats the item with which the client has said where the data are to be sent.
	d = newTarget(t, enipPlan(t, policy.DenyReset))
	reply(d, 0x8001, 2222, 198, 18, 0, 20)
	d.mustAllow("reply that names the client, for what is sent to it")
	d = newTarget(t, enipPlan(t, policy.DenyReset))
	reply(d, 0x8000, 2222, 198, 18, 0, 20)
	d.mustDeny("reply that names the client for what it sends", why)
}

func TestSeveralENIPMessagesInASegment(t *testing.T) {
	good, bad := ct.RR(enipHandle, 1, readSpeed()), ct.RR(enipHandle, 2, otherTag(1))
	for name, segment := range map[string][]byte{
		"denied last": ct.Join(good, bad), "denied first": ct.Join(bad, good), "denied in the middle": ct.Join(good, bad, good),
	} {
		d := newTarget(t, enipPlan(t, policy.DenyReset))
		before := d.got(stream.FromResponder)
		d.client(segment)
		d.mustDeny(name, verdict.ReasonTagNotPermitted)
		if !bytes.Equal(before, d.got(stream.FromResponder)) {
			t.Errorf("%s: the device got some of it", name)
		}
	}
}

// TestEvasion29_IdentifierThatHasPassedToAnotherSession: a device gives the identifier of a connection, which
// another session has closed, or which has timed out, to one by another route. What the first session still sends under
// it goes by that route, and is judged so; where none was closed and the route is the same, or a rule asks for none,
// nothing changes.
func TestEvasion29_IdentifierThatHasPassedToAnotherSession(t *testing.T) {
	rules := []string{
		`{services: [forward_open, forward_close], route: ["1/0", "1/1"]}`,
		`{services: [write_tag], tags: [Recipe], route: ["1/0"]}`, `{services: [read_tag], tags: ["Line3.*"]}`,
	}
	for _, r := range []struct {
		name   string
		closed bool // through the appliance
		slot   byte // that the other session's connection leads to
		write  bool // whether what the rule permits by the first route still passes
	}{
		{"closed, by another route", true, 1, false}, {"closed, by the same", true, 0, false},
		{"by another route", false, 1, false}, {"by the same", false, 0, true},
	} {
		plan, common := enipPlan(t, policy.DenyReset, rules...), NewCommon(Limits{})
		first, second := scannerOf(t, plan, common, &ioLog{}), scannerOf(t, plan, common, &ioLog{})
		id := first.openExplicit(1, ct.Port(1, 0))
		first.client(ct.Unit(enipHandle, id, 1, otherTag(1)))
		first.mustAllow("before")
		first.work()
		if r.closed {
			second.rr(ct.Close(1, ct.Join(ct.Port(1, 0), ct.Router())))
			second.mustAllow("a close of another session's connection")
		}
		second.next = id - 1
		if again := second.openExplicit(2, ct.Port(1, r.slot)); again != id {
			t.Fatal("the device gave another identifier")
		}
		first.client(ct.Unit(enipHandle, id, 2, readSpeed()))
		first.mustAllow(r.name + ": a read by whatever route")
		first.work()
		first.client(ct.Unit(enipHandle, id, 3, otherTag(1)))
		if r.write {
			first.mustAllow(r.name)
		} else {
			first.mustDeny(r.name, verdict.ReasonRouteNotPermitted)
		}
		for _, d := range []*target{first, second} {
			d.pipeline.remove(d.pipeline.connections[testKey])
		}
		if n := len(common.named.by) + len(common.named.triads); n != 0 {
			t.Errorf("%d identifiers are left of sessions that are over", n)
		}
	}
}
