package dnp3

import (
	"fmt"
	"slices"
)

// Attacker is the link address that evasions come from: one that the Rules permit.
const Attacker = 3

// Rules permit masters 1 to 4 to read outstation 10, to have a session with it, and to latch its
// outputs 0 to 3 by SELECT and OPERATE, in the words of a policy. Evasions go beyond them.
func Rules() []string {
	const who = "masters: [1-4], outstations: [10]"
	return []string{
		"{functions: [read, confirm, enable_unsolicited, disable_unsolicited, delay_measure], " + who + "}",
		"{functions: [write], " + who + ", objects: [g50v1, g80v1]}",
		"{functions: [select, operate], " + who + ", objects: [g12v1], points: [0-3], control_codes: [latch_on, latch_off]}",
	}
}

// Beyond reports whether an operation is beyond the Rules.
func Beyond(op Operation) bool {
	switch op.Function {
	case EnableUnsolicited, DisableUnsolicited:
	case Write:
		return op.Kind != Kind{50, 1} && op.Kind != Kind{80, 1}
	case Operate:
		if op.Kind != crob || op.Index > 3 || op.Code != LatchOn && op.Code != LatchOff {
			return true
		}
	default:
		return true
	}
	return op.Master < 1 || op.Master > 4
}

// Evasion is a way around an inspector that enforces the Rules.
type Evasion struct {
	Name string // begins with the line of the project's list of evasions
	// Parts are written one after the other: to a connection, or each as a datagram.
	Parts [][]byte
	// Works says that a Loose outstation executes something Beyond the Rules, if nobody is in the way.
	Works bool
	// Permitted says that nothing in it is against the Rules: what goes wrong is the outstation's to refuse.
	Permitted bool
	// Stream says that the parts are no frames by themselves, which datagrams have to be.
	Stream bool
}

// Evasions lists them.
func Evasions() []Evasion {
	return slices.Concat(evasions17(), evasions18(), evasions19(), evasions20(), evasions21(), evasions22(), evasions23(), evasions24())
}

// denied is a control that the Rules deny by function and by point.
func denied(sequence byte) []byte {
	return Request(sequence, DirectOperate, Controls(Latch(7, true)))
}

// lawful is a poll.
func lawful(sequence byte) []byte { return Request(sequence, Read, Class(1)) }

// link is a frame from the attacker to the outstation.
func link(data []byte) []byte {
	return Frame{Control: FromMaster, Destination: 10, Source: Attacker, Data: data}.Append(nil)
}

// wire is a fragment in its frames from there to there.
func wire(fragment []byte) []byte { return Wire(FromMaster, 10, Attacker, 0, fragment) }

// asked is a request in its frames.
func asked(function Function, body ...[]byte) []byte { return wire(Request(1, function, body...)) }

// links are segments, a frame each.
func links(segments [][]byte) (frames [][]byte) {
	for _, s := range segments {
		frames = append(frames, link(s))
	}
	return frames
}

func one(parts ...[]byte) [][]byte { return [][]byte{slices.Concat(parts...)} }

// evasions17: the first segment does not show the function.
func evasions17() (list []Evasion) {
	for _, size := range []int{1, 2, 3, 5, 11} {
		frames := links(SegmentsOf(denied(1), 9, size))
		list = append(list,
			Evasion{Name: fmt.Sprintf("17 segments of %d octets", size), Parts: frames, Works: true},
			Evasion{Name: fmt.Sprintf("17 segments of %d octets at once", size), Parts: one(frames...), Works: true})
	}
	empty := append([][]byte{{TransportFIR | 5}}, SegmentsOf(denied(1), 6, 100)...)
	empty[1][0] = TransportFIN | 6
	return append(list, Evasion{Name: "17 a first segment without an octet", Parts: links(empty), Works: true})
}

// evasions18: what stands before the sync octets.
func evasions18() (list []Evasion) {
	good := wire(denied(1))
	wrongHead := append([]byte{}, wire(lawful(0))...)
	wrongHead[8] ^= 1
	for _, row := range []struct {
		name   string
		before []byte
	}{
		{"an octet", []byte{0}},
		{"a first sync octet", []byte{0x05}},
		{"sync octets", []byte{0x05, 0x64}},
		{"a request of another protocol", []byte{0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1}},
		{"300 octets", make([]byte, 300)},
		{"a head with a wrong checksum", wrongHead[:10]},
		{"a frame with a wrong head", wrongHead},
		{"a length below five", Frame{Control: FromMaster, Destination: 10, Source: Attacker}.Append(nil)[:2]},
		{"half a frame", wire(lawful(0))[:7]},
	} {
		list = append(list, Evasion{Name: "18 " + row.name + " before", Parts: one(row.before, good), Works: true, Stream: true},
			Evasion{Name: "18 " + row.name + ", and then the control", Parts: [][]byte{row.before, good}, Works: true, Stream: true})
	}
	return append(list, Evasion{Name: "18 a frame inside the data of a frame with a wrong checksum", Parts: one(around(good)), Works: true})
}

// around is the head of a frame whose data, wrongly checked, are just as long as b, and b.
func around(b []byte) []byte {
	n := 0
	for n+2*((n+blockOctets-1)/blockOctets) < len(b) {
		n++
	}
	return append(link(make([]byte, n))[:headOctets], b...)
}

// broken is a frame with data whose last checksum is wrong.
func broken(data []byte) []byte {
	f := link(data)
	f[len(f)-1] ^= 0x55
	return f
}

// evasions19: several frames where an inspector reads one.
func evasions19() []Evasion {
	keepAlive := Frame{Control: LinkDIR | LinkPRM | RequestLinkStatus, Destination: 10, Source: Attacker}.Append(nil)
	reset := Frame{Control: LinkDIR | LinkPRM | ResetLinkStates, Destination: 10, Source: Attacker}.Append(nil)
	confirmed := Frame{
		Control:     LinkDIR | LinkPRM | LinkFCB | LinkFCV | ConfirmedUserData,
		Destination: 10, Source: Attacker, Data: Segments(denied(1), 0)[0],
	}.Append(nil)
	many := slices.Repeat([][]byte{wire(lawful(2))}, 20)
	return []Evasion{
		{Name: "19 a poll before", Parts: one(wire(lawful(0)), wire(denied(1))), Works: true},
		{Name: "19 a poll after", Parts: one(wire(denied(1)), wire(lawful(2))), Works: true},
		{Name: "19 twenty polls before", Parts: one(append(many, wire(denied(3)))...), Works: true},
		{Name: "19 a keep-alive before", Parts: one(keepAlive, wire(denied(1))), Works: true},
		{Name: "19 keep-alives around", Parts: one(keepAlive, keepAlive, wire(denied(1)), keepAlive), Works: true},
		{Name: "19 confirmed user data after a reset", Parts: one(reset, confirmed), Works: true},
		{Name: "19 the control cut in its head", Parts: [][]byte{wire(denied(1))[:9], wire(denied(1))[9:]}, Works: true, Stream: true},
		{Name: "19 the control cut before its last octet", Parts: [][]byte{wire(denied(1))[:20], wire(denied(1))[20:]}, Works: true, Stream: true},
	}
}

// evasions20: a control block that stands behind, or under, what cannot be read.
func evasions20() []Evasion {
	bad, good := Controls(Latch(7, true)), Controls(Latch(1, true))
	vendor := Spell(VendorKind, 0x07, Object{Data: []byte{1, 2}})
	return []Evasion{
		{Name: "20 an object of a vendor before", Parts: one(asked(DirectOperate, vendor, bad)), Works: true},
		{Name: "20 an object of a vendor under a permitted function", Parts: [][]byte{
			asked(Select, vendor, bad), wire(Request(2, Operate, vendor, bad))}, Works: true},
		{Name: "20 a free-format object before", Parts: one(asked(DirectOperate, Spell(Kind{200, 9}, QualifierFree, Object{Data: []byte{1, 2, 3}}), bad)), Works: true},
		{Name: "20 all of an unknown object before", Parts: one(asked(DirectOperate, All(200, 2), bad)), Works: true},
		{Name: "20 a class before", Parts: one(asked(DirectOperate, Class(1), bad)), Works: true},
		{Name: "20 no object behind", Parts: one(asked(DirectOperate, bad, []byte{12, 1, 0x7f})), Works: true},
		{Name: "20 half an object behind", Parts: one(asked(DirectOperate, bad, good[:9])), Works: true},
		{Name: "20 a permitted control before", Parts: [][]byte{
			asked(Select, good, bad), wire(Request(2, Operate, good, bad))}, Works: true},
		{Name: "20 a permitted control after", Parts: [][]byte{
			asked(Select, bad, good), wire(Request(2, Operate, bad, good))}, Works: true},
		{Name: "20 an analog output behind a permitted control", Parts: [][]byte{
			asked(Select, good, AnalogOutput(1, 5)), wire(Request(2, Operate, good, AnalogOutput(1, 5)))}, Works: true},
		{Name: "20 two points in one header, one of them permitted", Parts: [][]byte{
			asked(Select, Controls(Latch(1, true), Latch(7, true))), wire(Request(2, Operate, Controls(Latch(1, true), Latch(7, true))))}, Works: true},
		{Name: "20 a control of which nothing can be read", Parts: one(asked(DirectOperate, []byte{12, 1, 0x28, 1}))},
	}
}

// evasions21: segments that an inspector counts and the outstation does not, or the other way round.
func evasions21() []Evasion {
	d := SegmentsOf(denied(1), 8, 8)
	with := func(head byte, segment []byte) []byte { return append([]byte{head}, segment[1:]...) }
	poll := Segments(lawful(0), 9)[0]
	first, second, third := d[0], d[1], d[2]
	return []Evasion{
		{Name: "21 a decoy with a bad checksum between", Parts: one(link(first), broken(poll), link(second), link(third)), Works: true},
		{Name: "21 a decoy with a bad checksum before", Parts: one(broken(poll), link(first), link(second), link(third)), Works: true},
		{Name: "21 sequence repeated", Parts: links([][]byte{first, with(8, second), with(TransportFIN|8, third)}), Works: true},
		{Name: "21 sequence skipped", Parts: links([][]byte{first, with(20, second), with(TransportFIN|40, third)}), Works: true},
		{Name: "21 begun again in the middle", Parts: links([][]byte{with(TransportFIR|7, poll), first, second, third}), Works: true},
		{Name: "21 begun again in the middle, with a poll", Parts: one(link(first), link(poll), link(first), link(second), link(third)), Works: true},
		{Name: "21 a whole poll in the middle", Parts: links([][]byte{first, poll, second, third})},
		{Name: "21 an orphan that ends", Parts: links([][]byte{with(TransportFIN|9, Segments(denied(1), 0)[0])}), Works: true},
		{Name: "21 orphans", Parts: links([][]byte{with(3, first), with(4, second), with(TransportFIN|5, third)}), Works: true},
		{Name: "21 a segment repeated", Parts: links([][]byte{first, second, second, third}), Works: true},
		{Name: "21 an end repeated with another's data", Parts: links([][]byte{
			Segments(lawful(0), 30)[0], with(TransportFIN|30, Segments(denied(1), 0)[0])}), Works: true},
	}
}

// evasions22: segments are put together for each pair of addresses, and not for a connection.
func evasions22() []Evasion {
	from := func(source, destination uint16, segment []byte) []byte {
		return Frame{Control: FromMaster, Destination: destination, Source: source, Data: segment}.Append(nil)
	}
	d := SegmentsOf(denied(1), 8, 8)
	l := SegmentsOf(Request(0, Read, Class(1), Class(2), Class(3), Class(0)), 8, 8)
	return []Evasion{
		{Name: "22 a poll of another master between", Parts: one(
			from(3, 10, d[0]), from(4, 10, l[0]), from(3, 10, d[1]), from(4, 10, l[1]), from(3, 10, d[2])), Works: true},
		{Name: "22 another master's beginning", Parts: one(
			from(4, 10, l[0]), from(3, 10, d[0]), from(4, 10, d[1]), from(3, 10, d[1]), from(4, 10, d[2]), from(3, 10, d[2])), Works: true},
		{Name: "22 another outstation's beginning", Parts: one(
			from(3, 11, l[0]), from(3, 10, d[0]), from(3, 11, l[1]), from(3, 10, d[1]), from(3, 10, d[2])), Works: true},
		{Name: "22 a poll to another outstation between", Parts: one(
			from(3, 10, d[0]), from(3, 11, Segments(lawful(1), 9)[0]), from(3, 10, d[1]), from(3, 10, d[2])), Works: true},
	}
}

// evasions23: link addresses and directions.
func evasions23() (list []Evasion) {
	to := func(control byte, destination, source uint16) []byte {
		return Wire(control, destination, source, 0, denied(1))
	}
	for _, destination := range []uint16{SelfAddress, 0xfffd, 0xfffe, 0xffff} {
		list = append(list, Evasion{Name: fmt.Sprintf("23 to %#04x", destination), Parts: one(to(FromMaster, destination, Attacker)), Works: true})
	}
	for _, destination := range []uint16{0, 11, 0xfff0, 0xfffb} {
		list = append(list, Evasion{Name: fmt.Sprintf("23 to %#04x", destination), Parts: one(to(FromMaster, destination, Attacker))})
	}
	for _, source := range []uint16{0, 5, 10, 0xfff0, 0xfffb, SelfAddress, 0xfffd, 0xffff} {
		list = append(list, Evasion{Name: fmt.Sprintf("23 from %#04x", source), Parts: one(to(FromMaster, 10, source)), Works: true})
	}
	latch := Controls(Latch(1, true))
	broadcast := func(destination uint16) [][]byte {
		return [][]byte{
			Wire(FromMaster, destination, Attacker, 0, Request(1, Select, latch)),
			Wire(FromMaster, destination, Attacker, 1, Request(2, Operate, latch)),
		}
	}
	return append(list,
		Evasion{Name: "23 direction of an outstation", Parts: one(to(LinkPRM|UnconfirmedUserData, 10, Attacker)), Works: true},
		Evasion{Name: "23 direction of an outstation, and a response", Parts: one(Wire(FromOutstation, 10, Attacker, 0,
			Fragment{Control: FIR | FIN, Function: Response, Body: Controls(Latch(7, true))}.Append(nil)))},
		Evasion{Name: "23 a secondary frame with data", Parts: one(to(LinkDIR|LinkACK, 10, Attacker))},
		Evasion{Name: "23 permitted points of a master that is not", Parts: [][]byte{
			Wire(FromMaster, 10, 5, 0, Request(1, Select, latch)), Wire(FromMaster, 10, 5, 1, Request(2, Operate, latch))}, Works: true},
		Evasion{Name: "23 permitted points of all outstations", Parts: broadcast(0xffff)},
		Evasion{Name: "23 permitted points of whoever it is", Parts: broadcast(SelfAddress)},
	)
}

// evasions24: requests that do more, or other things, than a glance shows.
func evasions24() []Evasion {
	list := slices.Concat(selections(), spellings(), otherRequests())
	d := denied(1)
	body := d[2:]
	with := func(control byte, function Function) []byte {
		return wire(append([]byte{control, byte(function)}, body...))
	}
	return append(list,
		Evasion{Name: "24 a first fragment that is not the last", Parts: one(with(FIR|1, DirectOperate)), Works: true},
		Evasion{Name: "24 a last fragment that is not the first", Parts: one(with(FIN|1, DirectOperate)), Works: true},
		Evasion{Name: "24 a fragment in the middle", Parts: one(with(1, DirectOperate)), Works: true},
		Evasion{Name: "24 two fragments", Parts: [][]byte{with(FIR|1, Select), with(FIN|2, DirectOperate)}, Works: true},
		Evasion{Name: "24 marked unsolicited", Parts: one(with(FIR|FIN|UNS|1, DirectOperate)), Works: true},
		Evasion{Name: "24 asking for a confirmation", Parts: one(with(FIR|FIN|CON|1, DirectOperate)), Works: true},
		Evasion{Name: "24 without a reply", Parts: one(with(FIR|FIN|1, DirectOperateNR)), Works: true},
		Evasion{Name: "24 a confirmation with a control", Parts: one(with(FIR|FIN|1, Confirm))},
		Evasion{Name: "24 a read with a control", Parts: one(with(FIR|FIN|1, Read))},
		Evasion{Name: "24 a response with a control", Parts: one(with(FIR|FIN|1, Response))},
	)
}

// selections are SELECTs and OPERATEs that do not belong together. Those of permitted points are
// the outstation's to refuse.
func selections() []Evasion {
	latch := func(i uint32) []byte { return Controls(Latch(i, true)) }
	operate := func(sequence byte, body []byte) []byte { return wire(Request(sequence, Operate, body)) }
	return []Evasion{
		{Name: "24 OPERATE without its SELECT", Parts: one(operate(2, latch(1))), Permitted: true},
		{Name: "24 OPERATE of another point than its SELECT", Parts: [][]byte{asked(Select, latch(1)), operate(2, latch(7))}},
		{Name: "24 OPERATE of a point beyond, selected", Parts: [][]byte{asked(Select, latch(7)), operate(2, latch(7))}, Works: true},
		{Name: "24 OPERATE of another code than its SELECT", Parts: [][]byte{
			asked(Select, latch(1)), operate(2, Controls(CROB{Index: 1, Code: Trip, Count: 1}))}},
		{Name: "24 OPERATE of more than its SELECT", Parts: [][]byte{
			asked(Select, latch(1)), operate(2, Controls(Latch(1, true), Latch(7, true)))}},
		{Name: "24 a code beyond, selected", Parts: [][]byte{
			asked(Select, Controls(CROB{Index: 1, Code: Close, Count: 1})), operate(2, Controls(CROB{Index: 1, Code: Close, Count: 1}))}, Works: true},
		{Name: "24 a reserved bit in a code", Parts: [][]byte{
			asked(Select, Controls(CROB{Index: 1, Code: LatchOn | 0x10, Count: 1})), operate(2, Controls(CROB{Index: 1, Code: LatchOn | 0x10, Count: 1}))}, Works: true},
		{Name: "24 DIRECT_OPERATE of a permitted point", Parts: one(asked(DirectOperate, latch(1))), Works: true},
	}
}

// spellings are controls in other words.
func spellings() (list []Evasion) {
	for _, qualifier := range []uint8{0x00, 0x01, 0x02, 0x07, 0x08, 0x09, 0x17, 0x28, 0x39, 0x18, 0x27, 0x19, 0x37, 0x40, 0x48, 0x57, 0x69, 0x10, 0x21, 0x5b, 0x1b, 0x4b} {
		objects := []CROB{Latch(7, true)}
		if prefix, code := qualifier>>4, qualifier&0x0f; (prefix == 0 || prefix > 3) && code >= rangeCount {
			for i := range uint32(7) { // the eighth that it counts is point 7
				objects = slices.Insert(objects, int(i), CROB{Index: i, Code: Nul, Count: 1})
			}
		}
		list = append(list, Evasion{
			Name:  fmt.Sprintf("24 qualifier %#02x", qualifier),
			Parts: one(asked(DirectOperate, ControlsAs(qualifier, objects...))), Works: true,
		})
	}
	bomb := []byte{12, 1, 0x29, 0xff, 0xff, 0xff, 0xff}
	return append(list,
		Evasion{Name: "24 a stop before its start", Parts: one(asked(DirectOperate, append([]byte{12, 1, 0x00, 9, 3}, Latch(7, true).Object().Data...)))},
		Evasion{Name: "24 a read whose stop is before its start", Parts: one(asked(Read, []byte{30, 0, 0x00, 9, 3}))},
		Evasion{Name: "24 a count of four thousand million", Parts: one(asked(DirectOperate, append(bomb, ControlsAs(0x28, Latch(7, true))[5:]...)))},
		Evasion{Name: "24 a count that is too great by one", Parts: one(asked(DirectOperate, append([]byte{12, 1, 0x17, 2, 7}, Latch(7, true).Object().Data...)))},
		Evasion{Name: "24 a pattern mask", Parts: one(asked(DirectOperate, []byte{12, 2, 0x07, 1, LatchOn, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{12, 3, 0x00, 0, 7, 0x80}))},
		Evasion{Name: "24 a qualifier that is reserved", Parts: one(asked(DirectOperate, append([]byte{12, 1, 0x9f, 1, 7}, Latch(7, true).Object().Data...)))},
	)
}

// otherRequests are what no rule names.
func otherRequests() []Evasion {
	auth := Spell(Kind{120, 3}, 0x07, Object{Data: []byte{1, 0, 0, 0, 1, 0}})
	mac := Spell(Kind{120, 9}, QualifierFree, Object{Data: make([]byte, 16)})
	file := func(mode uint16) Object { return fileCommand{name: "x", mode: mode, block: 256}.object() }
	list := []Evasion{
		{Name: "24 g120 around a control", Parts: one(asked(DirectOperate, auth, Controls(Latch(7, true)), mac))},
		{Name: "24 g120 behind a control", Parts: one(asked(DirectOperate, Controls(Latch(7, true)), mac)), Works: true},
		{Name: "24 an authentication request", Parts: one(asked(32, mac))},
		{Name: "24 an authentication request without a reply", Parts: one(asked(33, mac))},
		{Name: "24 a data set", Parts: one(asked(Write, Spell(Kind{87, 1}, QualifierFree, Object{Data: []byte{0, 1, 2}})))},
		{Name: "24 a file opened to be written", Parts: one(asked(OpenFile, Spell(Kind{70, 3}, QualifierFree, file(FileWrite)))), Works: true},
		{Name: "24 a file deleted", Parts: one(asked(DeleteFile, Spell(Kind{70, 3}, QualifierFree, file(0)))), Works: true},
		{Name: "24 a block of a file written", Parts: [][]byte{
			asked(OpenFile, Spell(Kind{70, 3}, QualifierFree, file(FileWrite))),
			wire(Request(2, Write, Spell(Kind{70, 5}, QualifierFree, block(1, lastBlock, []byte("y")))))}, Works: true},
		{Name: "24 outputs written", Parts: one(asked(Write, Spell(Kind{10, 2}, 0x28, Object{Index: 7, Data: []byte{0x81}}))), Works: true},
		{Name: "24 outputs written behind the time", Parts: one(asked(Write, append([]byte{50, 1, 0x07, 1}, make([]byte, 6)...), Spell(Kind{10, 1}, 0x00, Object{Index: 7, Data: []byte{1}}))), Works: true},
		{Name: "24 another indication written", Parts: one(asked(Write, []byte{80, 1, 0x00, 4, 4, 0})), Permitted: true},
		{Name: "24 an analog output", Parts: one(asked(DirectOperate, AnalogOutput(1, 77))), Works: true},
		{Name: "24 classes assigned", Parts: one(asked(AssignClass, Class(0), All(30, 0))), Works: true},
		{Name: "24 the time by another object", Parts: [][]byte{asked(RecordCurrentTime), wire(Request(2, Write, append([]byte{50, 3, 0x07, 1}, make([]byte, 6)...)))}, Works: true},
		{Name: "24 no function", Parts: one(wire([]byte{FIR | FIN}))},
		{Name: "24 no octet at all", Parts: one(link([]byte{TransportFIR | TransportFIN}))},
	}
	for _, f := range []Function{
		ImmediateFreeze, ImmediateFreezeNR, FreezeClear, FreezeClearNR, ColdRestart, WarmRestart,
		InitializeApplication, StartApplication, StopApplication, SaveConfiguration,
	} {
		var body []byte
		if f >= ImmediateFreeze && f <= FreezeClearNR {
			body = All(20, 0)
		}
		list = append(list, Evasion{Name: "24 " + f.String(), Parts: one(asked(f, body)), Works: true})
	}
	for _, f := range []Function{InitializeData, 31, 34, 0x70, 0x7a, 128, UnsolicitedResponse, 131, 255} {
		list = append(list, Evasion{Name: fmt.Sprintf("24 function %d", f), Parts: one(asked(f))})
	}
	return list
}
