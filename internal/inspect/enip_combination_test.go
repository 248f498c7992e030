package inspect

import (
	"testing"
	"time"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// twoSlotRules permit connections to two modules, and Recipe to be written in the first only.
var twoSlotRules = []string{
	`{services: [forward_open, forward_close], route: ["1/0", "1/1"], io: {assemblies: [100, 150]}}`,
	`{services: [write_tag], tags: [Recipe], route: ["1/0"]}`, `{services: [read_tag], tags: ["Line3.*"]}`,
}

func toSlot(slot byte, serial uint16) ct.Open {
	return ct.Open{Serial: serial, ToSource: 0x9000 + uint32(serial), Path: ct.Join(ct.Port(1, slot), ct.Router())}
}

// failedOpen is the reply to a Forward Open that found its name in use.
func failedOpen(serial uint16) []byte {
	return ct.Join([]byte{0xd4, 0, 1, 1, 0, 1}, ct.U16(serial), ct.U16(0x1337), ct.U32(42), []byte{0, 0})
}

// TestEvasion29_RepliesThatChangePlaces: two Forward Opens of one name lead to two modules, and the device answers as its
// modules do: in one context, the success that comes first may be of the second; in two, the second may have taken
// the first's place. What is sent on such a connection is by no known route; by its own it is where the names differ.
func TestEvasion29_RepliesThatChangePlaces(t *testing.T) {
	first, second := toSlot(0, 1), toSlot(1, 1)
	success := ct.Opened(first, 0x70001, 0x9001)
	for _, r := range []struct {
		name     string
		requests [2]ct.Open
		contexts [2]uint64
		answers  []uint64 // contexts, the first a success
		write    bool
	}{
		{"in one context", [2]ct.Open{first, second}, [2]uint64{7, 7}, []uint64{7, 7}, false},
		{"in one context, by the first alone", [2]ct.Open{first, second}, [2]uint64{7, 7}, []uint64{7}, false},
		{"in two", [2]ct.Open{first, second}, [2]uint64{7, 8}, []uint64{7, 8}, false},
		{"in two, of two names", [2]ct.Open{first, toSlot(1, 2)}, [2]uint64{7, 8}, []uint64{7}, true},
		{"in two, the other way", [2]ct.Open{first, second}, [2]uint64{7, 8}, []uint64{8, 7}, false},
		{"the same twice", [2]ct.Open{first, first}, [2]uint64{7, 7}, []uint64{7, 7}, false},
		{"of two names", [2]ct.Open{first, toSlot(1, 2)}, [2]uint64{7, 7}, []uint64{7}, true},
	} {
		t.Run(r.name, func(t *testing.T) {
			d := newTarget(t, enipPlan(t, policy.DenyReset, twoSlotRules...))
			d.silent = true
			for i, o := range r.requests {
				d.client(ct.RR(enipHandle, r.contexts[i], o.Forward()))
				d.mustAllow("forward open")
			}
			for i, context := range r.answers {
				reply := success
				if i > 0 {
					reply = failedOpen(1)
				}
				d.device(ct.RR(enipHandle, context, reply))
				d.mustAllow("a reply")
			}
			d.client(ct.Unit(enipHandle, 0x70001, 1, otherTag(1)))
			switch {
			case r.write:
				d.mustAllow("the write")
			case d.last.Verdict.Allows():
				t.Error("the write passes by a route that may be another")
			}
		})
	}
	t.Run("the reply that is left", func(t *testing.T) {
		d := newTarget(t, enipPlan(t, policy.DenyReset, twoSlotRules...))
		d.silent = true
		for _, o := range []ct.Open{second, first} {
			d.client(ct.RR(enipHandle, 7, o.Forward()))
		}
		d.device(ct.RR(enipHandle, 7, failedOpen(1)))
		d.device(ct.RR(enipHandle, 7, success))
		d.client(ct.Unit(enipHandle, 0x70001, 1, otherTag(1)))
		if d.last.Verdict.Allows() {
			t.Error("the write passes by a route that may be another")
		}
	})
	t.Run("replies without names", func(t *testing.T) {
		d := newTarget(t, enipPlan(t, policy.DenyReset, twoSlotRules...))
		d.silent = true
		nameless := []byte{0xd4, 0, 1, 1, 0, 1}
		for _, o := range []ct.Open{first, toSlot(0, 2)} {
			d.client(ct.RR(enipHandle, 7, o.Forward()))
		}
		d.device(ct.RR(enipHandle, 7, nameless))
		d.device(ct.RR(enipHandle, 7, ct.Opened(toSlot(0, 2), 0x70002, 0x9002)))
		d.client(ct.RR(enipHandle, 7, toSlot(0, 3).Forward()))
		d.device(ct.RR(enipHandle, 7, ct.Opened(toSlot(0, 3), 0x70003, 0x9003)))
		d.client(ct.Unit(enipHandle, 0x70003, 1, otherTag(1)))
		d.mustAllow("on a connection that was opened when all had their replies")
		d.client(ct.Unit(enipHandle, 0x70002, 1, otherTag(1)))
		if d.last.Verdict.Allows() {
			t.Error("the write passes on one whose reply may be another's")
		}
	})
	t.Run("in packets of more than are remembered", func(t *testing.T) {
		rules := append([]string{`{services: [write_tag], tags: [Recipe], route: ["1/2"]}`, `{services: [forward_open], route: ["1/2"]}`}, twoSlotRules...)
		for _, n := range []uint16{4, 5} {
			d := newTarget(t, enipPlan(t, policy.DenyReset, rules...))
			d.silent = true
			var opens, replies [][]byte
			for serial := range n {
				opens = append(opens, toSlot(2, 10+serial).Forward())
				replies = append(replies, ct.Opened(toSlot(2, 10+serial), 0x70010+uint32(serial), 0x9010+uint32(serial)))
			}
			d.client(ct.RR(enipHandle, 7, ct.Multiple(opens...)))
			d.client(ct.RR(enipHandle, 7, second.Forward()))
			d.device(ct.RR(enipHandle, 7, append([]byte{0x8a, 0, 0, 0}, ct.Packet(replies...)...)))
			d.mustAllow("the reply to the packet")
			d.client(ct.Unit(enipHandle, 0x70010, 1, otherTag(1)))
			if d.last.Verdict.Allows() != (n == 4) {
				t.Errorf("%d names: %v", n, d.last.Verdict)
			}
		}
	})
	t.Run("I/O", func(t *testing.T) {
		log := &ioLog{}
		d := scannerOf(t, enipPlan(t, policy.DenyReset, twoSlotRules...), NewCommon(Limits{}), log)
		d.silent = true
		small, large := ioOpening(9), ioOpening(9)
		large.Size = 400
		for _, o := range []ct.Open{small, large} {
			d.client(ct.RR(enipHandle, 7, o.Forward()))
			d.mustAllow("forward open")
		}
		d.device(ct.RR(enipHandle, 7, ct.Opened(small, 0x70001, 0x9009)))
		d.mustAllow("a reply")
		if len(log.opened) != 0 {
			t.Error("a connection of one of two sizes is open")
		}
	})
}

// TestRefusedOpeningsStandInNobodysWay: a Forward Open that was refused in the protocol's own terms opens nothing, and
// takes nothing from one that is permitted and waits beside it in the same context.
func TestRefusedOpeningsStandInNobodysWay(t *testing.T) {
	for _, serial := range []uint16{8, 9} { // another name, and the same
		log := &ioLog{}
		d := scannerOf(t, enipPlan(t, policy.DenyException, twoSlotRules...), NewCommon(Limits{}), log)
		denied := ioOpening(serial)
		denied.Path = ct.Join(ct.Class(4), ct.Point(101))
		d.client(ct.Join(ct.RR(enipHandle, 7, denied.Forward()), ct.RR(enipHandle, 7, ioOpening(9).Forward())))
		d.mustAllow("both")
		d.work()
		if len(log.opened) != 1 || log.opened[0].Serial != 9 {
			t.Errorf("%d connections are open", len(log.opened))
		}
	}
}

// TestEvasion29_AnIdentifierThatPassesUnseen: a device gives the identifier of a connection that it has given up to one
// whose opening is not believed. What is sent under it after that is by no known route.
func TestEvasion29_AnIdentifierThatPassesUnseen(t *testing.T) {
	for name, pass := range map[string]func(d *target, id uint32){
		"by a reply with another name": func(d *target, id uint32) {
			d.client(ct.RR(enipHandle, 7, toSlot(1, 2).Forward()))
			d.mustAllow("forward open")
			d.device(ct.RR(enipHandle, 7, ct.Opened(toSlot(1, 3), id, 0x9003)))
		},
		"on a connection": func(d *target, id uint32) {
			d.client(ct.Unit(enipHandle, id, 1, toSlot(1, 2).Forward()))
			d.mustAllow("forward open")
			d.device(ct.Unit(enipHandle, d.opened[id], 1, ct.Opened(toSlot(1, 2), id, 0x9002)))
		},
	} {
		d := newTarget(t, enipPlan(t, policy.DenyReset, append([]string{`{services: [forward_open], route: ["1/0,1/1"]}`}, twoSlotRules...)...))
		id := d.openExplicit(1, ct.Port(1, 0))
		d.client(ct.Unit(enipHandle, id, 9, otherTag(1)))
		d.mustAllow("before")
		d.work()
		d.silent = true
		pass(d, id)
		d.mustAllow(name + ": the reply")
		d.client(ct.Unit(enipHandle, id, 2, otherTag(1)))
		d.mustDeny(name, verdict.ReasonRouteNotPermitted)
	}
}

// TestEvasion29_DataAheadOfTheReply: a client need not wait for the replies to what closes a connection and gives its
// identifier to one by another route, with what it sends under that. Nothing that is behind it by then is judged by the
// old route, on whichever session it comes, be the connection closed, opened anew, or given up by its device.
func TestEvasion29_DataAheadOfTheReply(t *testing.T) {
	rules := append([]string{`{services: [unconnected_send], route: ["1/0", "1/1"]}`}, twoSlotRules...)
	close1 := ct.Close(1, ct.Join(ct.Port(1, 0), ct.Router()))
	for _, r := range []struct {
		name   string
		before []byte // what leaves without a reply, nil: nothing
		idle   time.Duration
		write  bool
	}{
		{"nothing", nil, 0, true},
		{"a close", close1, 0, false},
		{"a close in a packet", ct.Multiple(readSpeed(), close1), 0, false},
		{"a close in a send", ct.Unconnected(ct.Close(1, ct.Router()), ct.Port(1, 0)), 0, false},
		{"a close of another", ct.Close(2, ct.Join(ct.Port(1, 0), ct.Router())), 0, true},
		{"an open of its name", toSlot(1, 1).Forward(), 0, false},
		{"the same open again", toSlot(0, 1).Forward(), 0, false},
		{"an open of another name", toSlot(1, 2).Forward(), 0, true},
		{"silence within its watchdog", nil, 400 * time.Millisecond, true},
		{"silence beyond it", nil, 401 * time.Millisecond, false},
		{"silence beyond it, and then an open", toSlot(1, 2).Forward(), 401 * time.Millisecond, false},
	} {
		for _, elsewhere := range []bool{false, true} {
			plan, common := enipPlan(t, policy.DenyReset, rules...), NewCommon(Limits{})
			first, second := scannerOf(t, plan, common, &ioLog{}), scannerOf(t, plan, common, &ioLog{})
			id := first.openExplicit(1, ct.Port(1, 0))
			first.client(ct.Unit(enipHandle, id, 1, otherTag(1)))
			first.mustAllow("before")
			first.work()
			first.now = first.now.Add(r.idle)
			second.now = first.now
			first.silent, second.silent = true, true
			other := first
			if elsewhere {
				other = second
			}
			if r.before != nil {
				other.client(ct.RR(enipHandle, 7, r.before))
				other.mustAllow(r.name)
			}
			first.client(ct.Unit(enipHandle, id, 2, otherTag(1)))
			if allowed := first.last.Verdict.Allows(); allowed != r.write {
				t.Errorf("%s, on the other session %v: permitted %v", r.name, elsewhere, allowed)
			}
		}
		d := newTarget(t, enipPlan(t, policy.DenyReset, rules...))
		id := d.openExplicit(1, ct.Port(1, 0))
		d.now = d.now.Add(r.idle)
		segment := ct.Unit(enipHandle, id, 2, otherTag(1))
		if r.before != nil {
			segment = ct.Join(ct.RR(enipHandle, 7, r.before), segment)
		}
		d.client(segment)
		if allowed := d.last.Verdict.Allows(); allowed != r.write {
			t.Errorf("%s, in one segment: permitted %v", r.name, allowed)
		}
	}
	t.Run("a connection in use", func(t *testing.T) {
		d := newTarget(t, enipPlan(t, policy.DenyReset, rules...))
		id := d.openExplicit(1, ct.Port(1, 0))
		for sequence := range uint16(5) {
			d.now = d.now.Add(300 * time.Millisecond)
			d.client(ct.Unit(enipHandle, id, sequence, otherTag(1)))
			d.mustAllow("a write")
			d.work()
		}
	})
	t.Run("three sessions", func(t *testing.T) {
		// The second's connection is by the route of the first's, and the third's is not.
		plan, common := enipPlan(t, policy.DenyReset, rules...), NewCommon(Limits{})
		var sessions [3]*target
		var id uint32
		for i := range sessions {
			sessions[i] = scannerOf(t, plan, common, &ioLog{})
			id = sessions[i].openExplicit(1+uint16(i), ct.Port(1, []byte{0, 0, 1}[i]))
		}
		sessions[0].client(ct.Unit(enipHandle, id, 1, otherTag(1)))
		sessions[0].mustDeny("a write by the route of the first", verdict.ReasonRouteNotPermitted)
	})
}

// TestEvasion29_OpeningsBehindWhatIsKept: of a request its beginning is kept for its reply. What opens or closes a
// connection behind that would change what the identifiers lead to, and nobody would know.
func TestEvasion29_OpeningsBehindWhatIsKept(t *testing.T) {
	padding := make([][]byte, 40)
	for i := range padding {
		padding[i] = readSpeed()
	}
	packet := ct.Multiple(append(padding, ct.Close(1, ct.Router()), ct.Open{Serial: 2}.Forward())...)
	rules := []string{`{services: [forward_open, forward_close, read_tag]}`}
	for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyException} {
		d := newTarget(t, enipPlan(t, onDeny, rules...))
		j := d.client(ct.RR(enipHandle, 7, packet))
		d.mustDeny("packet", verdict.ReasonMalformed)
		if last := &j.Messages[len(j.Messages)-1]; last.Detail() != errManagedLate {
			t.Errorf("told as %q", last.Detail())
		}
	}
	d := newTarget(t, enipPlan(t, policy.DenyReset, rules...))
	d.client(ct.RR(enipHandle, 7, ct.Multiple(append([][]byte{ct.Close(1, ct.Router()), ct.Open{Serial: 2}.Forward()}, padding...)...)))
	d.mustAllow("a packet that begins with them")
	config := ct.Open{Serial: 3, Path: ct.Join(ct.Router(), []byte{0x80, 250}, make([]byte, 500))}
	d.client(ct.RR(enipHandle, 7, ct.Unconnected(config.Forward())))
	if d.last.Verdict.Allows() {
		t.Error("an unconnected send that no rule names")
	}
	d = newTarget(t, enipPlan(t, policy.DenyReset, `{services: [forward_open, unconnected_send], route: ["1/0"]}`))
	d.client(ct.RR(enipHandle, 7, ct.Unconnected(config.Forward(), ct.Port(1, 0))))
	d.mustAllow("the longest configuration in a send")
}

// TestTricksOfCombinations: ways around a rule that take a service in several wrappings, or a path that says two
// things at once.
func TestTricksOfCombinations(t *testing.T) {
	rules := append([]string{
		`{services: [set_attribute_single], classes: [4], instances: [100], attributes: [3]}`,
		`{services: [get_attribute_list, set_attribute_list], classes: [0x300], instances: [1], attributes: [1-3]}`,
		`{services: [write_tag], tags: ["A[0-3]", "B[4294967290-4294967295]"]}`,
		`{services: [0x4d], classes: [0x300]}`, `{services: [read_template]}`,
		`{services: [execute_pccc], pccc: {functions: [protected_typed_logical_read, protected_typed_logical_write], files: ["N7:0-9"]}}`,
		`{services: [unconnected_send], route: ["1/0,1/0"]}`,
	}, enipRules...)
	plan := enipPlan(t, policy.DenyReset, rules...)
	route, assembly := ct.Port(1, 0), ct.Join(ct.Class(4), ct.Instance(100))
	set := func(path ...[]byte) []byte { return ct.Request(0x10, ct.Join(path...), []byte{1}) }
	dint := func(path ...[]byte) []byte { return ct.WriteDINT(ct.Join(path...), 1) }
	vendors := ct.Join(ct.Class(0x300), ct.Instance(1))
	bad, where, tag := verdict.ReasonMalformed, verdict.ReasonPathNotPermitted, verdict.ReasonTagNotPermitted
	for _, r := range []struct {
		name    string
		service []byte
		want    verdict.Reason // ReasonPermitted if it passes
	}{
		{"an attribute", set(assembly, ct.Attribute(3)), verdict.ReasonPermitted},
		{"an attribute of a point beside the instance", set(assembly, ct.Point(101), ct.Attribute(3)), bad},
		{"an attribute of two points", set(ct.Class(4), ct.Point(100), ct.Point(101), ct.Attribute(3)), bad},
		{"a point behind the attribute", set(assembly, ct.Attribute(3), ct.Point(101)), bad},
		{"a point alone", set(ct.Class(4), ct.Point(100), ct.Attribute(3)), where},
		{"a list with one attribute too many", ct.Request(0x03, vendors, ct.U16(3), ct.U16(1), ct.U16(4), ct.U16(2)), where},
		{"a list that says less than it has", ct.Request(0x03, vendors, ct.U16(1), ct.U16(1), ct.U16(4)), where},
		{"a list of two values", ct.Request(0x04, vendors, ct.U16(2), ct.U16(1), ct.U16(0), ct.U16(4), ct.U16(0)), where},

		{"the last elements there are", ct.WriteDINT(ct.Join(ct.Symbol("B"), ct.Logical(0x28, 4294967290, 2)), 1, 2, 3, 4, 5, 6), verdict.ReasonPermitted},
		{"elements that go round", ct.WriteDINT(ct.Join(ct.Symbol("B"), ct.Logical(0x28, 4294967290, 2)), 1, 2, 3, 4, 5, 6, 7), tag},
		{"an element of more than 32 bits", dint(ct.Symbol("A[4294967299]")), bad},
		{"an element of an element", dint(ct.Symbol("A"), ct.Member(3), ct.Member(9)), tag},
		{"a member behind the element", dint(ct.Symbol("A[3].x")), tag},
		{"a NUL behind the name", dint(ct.Symbol("A[3]\x00")), bad},
		{"a name in Latin letters that fold", dint(ct.Symbol("\xc3\xa1[3]")), tag},

		{"a vendor's service", ct.Request(0x4d, vendors, ct.U16(1)), verdict.ReasonPermitted},
		{"a write of a tag beside a vendor's object", dint(ct.Symbol("Recipe"), vendors), where},
		{"a write of a tag behind a vendor's object", dint(vendors, ct.Symbol("Recipe")), where},
		{"a read of a tag beside a template", ct.ReadTag(ct.Join(ct.Symbol("Recipe"), ct.Class(0x6c), ct.Instance(1)), 1), where},
		{"a write to a template", ct.Request(0x4d, ct.Join(ct.Class(0x6c), ct.Instance(1)), ct.U32(0)), where},
		{"a write by the number of a symbol", dint(ct.Class(0x6b), ct.Instance(1)), where},
		{"a structure that is a whole number in truth", ct.Request(0x53, ct.Symbol("Line3.Setpoint"), ct.U16(0x2a0), ct.U16(0xc4), ct.U16(1), ct.U32(0), ct.U32(9)), verdict.ReasonValueNotPermitted},

		{"PCCC in a packet in two sends", ct.Unconnected(ct.Unconnected(ct.Multiple(readSpeed(), pccc(0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 10, 0)), route), route), where},
		{"PCCC, permitted, in the same", ct.Unconnected(ct.Unconnected(ct.Multiple(readSpeed(), pccc(0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 9, 0)), route), route), verdict.ReasonPermitted},
		{"a read of strings where whole numbers are", pccc(0x0f, 0, 1, 0, 0xa2, 84, 7, 0x8d, 0, 0), where},
		{"a read far behind its element", pccc(0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 0, 20), where},
		{"a write of the status file by its number", pccc(0x0f, 0, 1, 0, 0xaa, 2, 2, 0x89, 0, 0, 1, 0), where},
	} {
		judgesService(t, plan, r.name, r.service, r.want)
	}
}

// TestEvasion29_BetweenSessions: what one session has open, another cannot use, and neither can the device's own
// direction.
func TestEvasion29_BetweenSessions(t *testing.T) {
	plan, common := enipPlan(t, policy.DenyReset), NewCommon(Limits{})
	first, second := scannerOf(t, plan, common, &ioLog{}), scannerOf(t, plan, common, &ioLog{})
	id := first.openExplicit(1, ct.Port(1, 0))
	second.client(ct.Unit(enipHandle, id, 1, readSpeed()))
	second.mustDeny("another session's connection", verdict.ReasonPathNotPermitted)
	first.device(ct.Unit(enipHandle, id, 1, readSpeed()))
	first.mustDeny("a request of the device's", verdict.ReasonMalformed)
	if len(first.got(stream.FromInitiator)) == 0 {
		t.Error("the client has got nothing at all")
	}
}
