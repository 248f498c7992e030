package policy

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// enipPlanOf makes a plan with one EtherNet/IP conduit, the first, out of rules.
func enipPlanOf(t *testing.T, rules ...string) *Plan {
	t.Helper()
	plan := &Plan{Conduits: []Conduit{{}, {Protocol: ProtocolENIP}}}
	for _, rule := range rules {
		plan.Conduits[1].ENIP = append(plan.Conduits[1].ENIP, ruleOf(t, "enip", rule).ENIP...)
	}
	return plan
}

// evalENIP judges a whole message that came by the route.
func evalENIP(plan *Plan, service []byte, route ...cip.Hop) verdict.Verdict {
	var c ENIPCheck
	var w cip.Walk
	plan.CheckENIP(&c, 1, nil, time.Time{})
	w.Start(service, len(service), route)
	return c.EvalMessage(&w)
}

func TestEvalCIP(t *testing.T) {
	permitted, service, path := verdict.ReasonPermitted, verdict.ReasonServiceNotPermitted, verdict.ReasonPathNotPermitted
	tag, route, value := verdict.ReasonTagNotPermitted, verdict.ReasonRouteNotPermitted, verdict.ReasonValueNotPermitted
	object := func(class, instance, attribute uint32) []byte {
		return ct.Join(ct.Class(class), ct.Instance(instance), ct.Attribute(attribute))
	}
	get := func(class, instance, attribute uint32) []byte {
		return ct.Request(0x0e, object(class, instance, attribute))
	}
	read := func(name string, count uint16) []byte { return ct.ReadTag(ct.Symbol(name), count) }
	write := func(name string, kind uint16, data ...byte) []byte {
		return ct.Request(0x4d, ct.Symbol(name), ct.U16(kind), ct.U16(1), data)
	}
	io := func(o ct.Open) []byte {
		if o.Path == nil {
			o.Path = ct.Join(ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100))
		}
		return o.Forward()
	}
	identity := `services: [get_attribute_single, get_attribute_list, set_attribute_list], classes: [identity], instances: [1], attributes: [1-7]`
	bounds := `services: [forward_open, large_forward_open], io: {assemblies: [100, 150-151], max_size: 100, min_rpi: 10ms, max_rpi: 1s, transport_classes: [1], owners: [exclusive_owner, input_only]}`
	listener := `services: [forward_open], io: {assemblies: [100], owners: [listen_only]}`
	configured := func(o ct.Open) []byte {
		o.Path = ct.Join(ct.Class(4), ct.Point(100), []byte{0x80, 1, 1, 2})
		return o.Forward()
	}
	for _, row := range []struct {
		name, rule string
		message    []byte
		want       verdict.Reason
	}{
		{"object", identity, get(1, 1, 7), permitted},
		{"other service", identity, ct.Request(0x10, object(1, 1, 7), []byte{0}), service},
		{"other class", identity, get(2, 1, 7), path},
		{"other instance", identity, get(1, 2, 7), path},
		{"other attribute", identity, get(1, 1, 8), path},
		{"no attribute", identity, ct.Request(0x0e, ct.Join(ct.Class(1), ct.Instance(1))), path},
		{"no instance", identity, ct.Request(0x0e, ct.Join(ct.Class(1), ct.Attribute(7))), path},
		{"no path", identity, ct.Request(0x0e, nil), path},
		{"object in an object", identity, ct.Request(0x0e, ct.Join(ct.Class(0x68), ct.Instance(1), object(1, 1, 7))), path},
		{"list of attributes", identity, ct.Request(0x03, ct.Join(ct.Class(1), ct.Instance(1)), ct.U16(2), ct.U16(1), ct.U16(7)), permitted},
		{"list with another", identity, ct.Request(0x03, ct.Join(ct.Class(1), ct.Instance(1)), ct.U16(2), ct.U16(1), ct.U16(8)), path},
		{"list that is longer", identity, ct.Request(0x03, ct.Join(ct.Class(1), ct.Instance(1)), ct.U16(1), ct.U16(1), ct.U16(8)), path},
		{"one attribute set", identity, ct.Request(0x04, ct.Join(ct.Class(1), ct.Instance(1)), ct.U16(1), ct.U16(7), []byte{1, 2, 3}), permitted},
		{"list beside an attribute of the path", identity, ct.Request(0x03, object(1, 1, 7), ct.U16(2), ct.U16(1), ct.U16(8)), path},
		{"set beside an attribute of the path", identity, ct.Request(0x04, object(1, 1, 7), ct.U16(1), ct.U16(9), []byte{1}), path},
		{"all, though the path has an attribute", `services: [read, write, set_attributes_all], attributes: [1-7]`, ct.Request(0x01, object(1, 1, 7)), path},
		{"all set, though the path has an attribute", `services: [read, write, set_attributes_all], attributes: [1-7]`, ct.Request(0x02, object(1, 1, 7), []byte{1}), path},
		{"execution has no attribute", `services: [reset], attributes: [1-7]`, ct.Request(0x05, object(1, 1, 7)), path},
		{"a vendor's service has", `services: [0x4b], attributes: [1-7]`, ct.Request(0x4b, object(0x300, 1, 7)), permitted},
		{"two attributes set", identity, ct.Request(0x04, ct.Join(ct.Class(1), ct.Instance(1)), ct.U16(2), ct.U16(7), ct.U16(0), ct.U16(9)), path},

		{"a group", `services: [read]`, get(1, 1, 7), permitted},
		{"a group without execution", `services: [read, write]`, ct.Request(0x05, object(1, 1, 1)), service},
		{"execution by its group", `services: [execution]`, ct.Request(0x07, object(0x8e, 1, 1)), permitted},
		{"a number stands for every owner", `services: [0x4c]`, read("A", 1), permitted},
		{"a name for one", `services: [read_template]`, read("A", 1), service},

		{"tag", `services: [read_tag], tags: [Line.Speed]`, read("Line.Speed", 1), permitted},
		{"tag in another case", `services: [read_tag], tags: [Line.Speed]`, read("LINE.speed", 1), permitted},
		{"member of it", `services: [read_tag], tags: [Line]`, read("Line.Speed", 1), tag},
		{"all members", `services: [read_tag], tags: ["Line.*"]`, read("Line.A.B[3]", 1), permitted},
		{"program scope", `services: [read_tag], tags: ["Program:Main.*"]`, read("Program:Main.A", 1), permitted},
		{"another program", `services: [read_tag], tags: ["Program:Main.*"]`, read("Program:Other.A", 1), tag},
		{"an element of a tag", `services: [read_tag], tags: [A]`, read("A[5]", 20), permitted},
		{"elements", `services: [read_tag], tags: ["A[0-9]"]`, read("A[5]", 5), permitted},
		{"elements without an index", `services: [read_tag], tags: ["A[0-9]"]`, read("A", 10), permitted},
		{"elements beyond", `services: [read_tag], tags: ["A[0-9]"]`, read("A[5]", 6), tag},
		{"elements beyond without an index", `services: [read_tag], tags: ["A[0-9]"]`, read("A", 11), tag},
		{"elements before", `services: [read_tag], tags: ["A[5-9]"]`, read("A", 1), tag},
		{"two dimensions", `services: [read_tag], tags: ["A[1,0-9]"]`, read("A[1,9]", 1), permitted},
		{"two dimensions, several", `services: [read_tag], tags: ["A[1,0-9]"]`, read("A[1,3]", 2), tag},
		{"a range inside", `services: [read_tag], tags: ["A[0-3].Name"]`, read("A[3].Name", 1), permitted},
		{"a range inside, beyond", `services: [read_tag], tags: ["A[0-3].Name"]`, read("A[4].Name", 1), tag},
		{"any element", `services: [read_tag], tags: ["A[*].Name"]`, read("A[44].Name", 1), permitted},
		{"any element is no member", `services: [read_tag], tags: ["A[*]"]`, read("A[44].Name", 1), tag},
		{"one digit", `services: [read_tag], tags: ["A[?]"]`, read("A[10]", 1), tag},
		{"one digit, several", `services: [read_tag], tags: ["A[?]"]`, read("A[1]", 12), tag},
		{"star and range", `services: [read_tag], tags: ["*[2-3]"]`, read("B.C[3]", 1), permitted},
		{"instance of a symbol", `services: [read_tag], tags: ["*"]`, ct.ReadTag(ct.Join(ct.Class(0x6b), ct.Instance(5)), 1), path},
		{"instance by class", `services: [read_tag], classes: [symbol], instances: [5]`, ct.ReadTag(ct.Join(ct.Class(0x6b), ct.Instance(5)), 1), permitted},
		{"instance in a program", `services: [read_tag], classes: [symbol], instances: [5]`, ct.ReadTag(ct.Join(ct.Symbol("Program:Main"), ct.Class(0x6b), ct.Instance(5)), 1), path},
		{"any instance in a program", `services: [read_tag], classes: [symbol]`, ct.ReadTag(ct.Join(ct.Symbol("Program:Main"), ct.Class(0x6b), ct.Instance(5)), 1), permitted},
		{"tag under a class rule", `services: [read_tag], classes: [symbol]`, read("A", 1), tag},

		{"a part of a tag", `services: [read_tag], tags: [A]`, ct.ReadTag(partOf("A", 400, 4), 1), permitted},
		{"a part of a tag by its elements", `services: [read_tag], tags: ["A[0-9]"]`, ct.ReadTag(partOf("A", 400, 4), 1), tag},
		{"a part of an element", `services: [read_tag], tags: ["A[0-9]", "A[?]"]`, ct.ReadTag(partOf("A[3]", 400, 4), 1), tag},
		{"a part of an element of two dimensions", `services: [read_tag], tags: ["A[1,0-9]"]`, ct.ReadTag(partOf("A[1,3]", 400, 4), 1), tag},
		{"a part of a member", `services: [read_tag], tags: ["A[0-9].Name"]`, ct.ReadTag(partOf("A[3].Name", 4, 4), 1), permitted},
		{"a written part", `services: [write_tag], tags: ["A[0-9]"]`, ct.WriteDINT(partOf("A", 400, 4), 1), tag},
		{"a written part, whatever the value", `services: [write_tag], tags: [A], values: [0-5]`, ct.WriteDINT(partOf("A", 402, 4), 1), value},
		{"bits of a part", `services: [read_modify_write_tag], values: [0-9]`, ct.Request(0x4e, partOf("A", 2, 4), ct.U16(4), ct.U32(9), ct.U32(0)), value},
		{"a written part of a symbol", `services: [write_tag], classes: [symbol], values: [0-5]`, ct.WriteDINT(ct.Join(ct.Class(0x6b), ct.Instance(5), part(402, 4)), 1), value},

		{"value", `services: [write_tag], values: [-5-5]`, write("A", 0xc3, 0xfb, 0xff), permitted},
		{"value below", `services: [write_tag], values: [-5-5]`, write("A", 0xc3, 0xfa, 0xff), value},
		{"unsigned of the same bytes", `services: [write_tag], values: [-5-5]`, write("A", 0xc7, 0xfb, 0xff), value},
		{"bool", `services: [write_tag], values: [1]`, write("A", 0xc1, 0xff), permitted},
		{"real", `services: [write_tag], values: [0.5-2.5]`, write("A", 0xca, 0, 0, 0x20, 0x40), permitted},
		{"real above", `services: [write_tag], values: [0.5-2.5]`, write("A", 0xca, 1, 0, 0x20, 0x40), value},
		{"not a number", `services: [write_tag], values: [0.5-2.5]`, write("A", 0xca, 0, 0, 0xc0, 0x7f), value},
		{"structure", `services: [write_tag], values: [0-9]`, ct.Request(0x4d, ct.Symbol("A"), ct.U16(0x2a0), ct.U16(1), ct.U16(1), ct.U32(5)), value},
		{"second element", `services: [write_tag], values: [0-9]`, ct.WriteDINT(ct.Symbol("A"), 1, 10), value},
		{"bits", `services: [read_modify_write_tag], values: [0-9]`, ct.Request(0x4e, ct.Symbol("A"), ct.U16(4), ct.U32(9), ct.U32(0)), permitted},
		{"bits kept", `services: [read_modify_write_tag], values: [0-9]`, ct.Request(0x4e, ct.Symbol("A"), ct.U16(4), ct.U32(9), ct.U32(1)), value},

		{"filled up to an even length", `services: [write_tag], tags: ["A[0-2]"], values: [1-9]`, ct.Request(0x4d, ct.Symbol("A"), ct.U16(0xc2), ct.U16(3), []byte{1, 2, 3, 0}), permitted},
		{"more than filled up", `services: [write_tag], tags: ["A[0-2]"], values: [1-9]`, ct.Request(0x4d, ct.Symbol("A"), ct.U16(0xc2), ct.U16(3), []byte{1, 2, 3, 4}), verdict.ReasonMalformed},
		{"filled up, an element too many", `services: [write_tag], tags: ["A[0-2]"], values: [1-9]`, ct.Request(0x4d, ct.Symbol("A"), ct.U16(0xc2), ct.U16(4), []byte{1, 2, 3, 0}), tag},

		{"file of its type", `services: [execute_pccc], pccc: {files: ["T4:0-9"]}`, pcccRead(4, 0x86, 9, 0, 6), permitted},
		{"file of another type", `services: [execute_pccc], pccc: {files: ["T4:0-9"]}`, pcccRead(4, 0x8d, 9, 0, 6), path},
		{"file of any type", `services: [execute_pccc], pccc: {files: ["4:0-9"]}`, pcccRead(4, 0x86, 9, 2, 2), permitted},
		{"file of either type of inputs", `services: [execute_pccc], pccc: {files: ["I1:0-3"]}`, pcccRead(1, 0x83, 2, 5, 2), permitted},
		{"sub-element that is elements away", `services: [execute_pccc], pccc: {files: ["N7:0-9"]}`, pcccRead(7, 0x89, 5, 5, 2), path},
		{"sub-element within", `services: [execute_pccc], pccc: {files: ["N7:0-9"]}`, pcccRead(7, 0x89, 4, 5, 2), permitted},

		{"packet needs no rule", `services: [read_tag]`, ct.Multiple(read("A", 1)), permitted},
		{"packet to another class does", `services: [read_tag]`, ct.Request(0x0a, ct.Join(ct.Class(1), ct.Instance(1)), ct.Packet(read("A", 1))), service},
		{"send without a route", `services: [read_tag, unconnected_send]`, ct.Unconnected(read("A", 1)), permitted},
		{"send with a route", `services: [read_tag, unconnected_send]`, ct.Unconnected(read("A", 1), ct.Port(1, 0)), route},
		{"send by its route", `services: [read_tag, unconnected_send], route: ["1/0"]`, ct.Unconnected(read("A", 1), ct.Port(1, 0)), permitted},
		{"not by the rule's route", `services: [read_tag, unconnected_send], route: ["1/0"]`, read("A", 1), route},

		{"connection", bounds, ct.Open{}.Forward(), permitted},
		{"connection to an object beside the router", bounds, ct.Open{Path: ct.Join(ct.Router(), ct.Class(4), ct.Instance(100))}.Forward(), path},
		{"connection to a point of the router", bounds, ct.Open{Path: ct.Join(ct.Router(), ct.Point(100))}.Forward(), path},
		{"connection to the router of a tag", bounds, ct.Open{Path: ct.Join(ct.Symbol("A"), ct.Router())}.Forward(), path},
		{"connection to a member of the router", bounds, ct.Open{Path: ct.Join(ct.Router(), ct.Member(1))}.Forward(), path},
		{"connection to an attribute of the router", bounds, ct.Open{Path: ct.Join(ct.Router(), ct.Attribute(1))}.Forward(), path},
		{"connection to another instance of the router", bounds, ct.Open{Path: ct.Join(ct.Class(2), ct.Instance(2))}.Forward(), path},
		{"I/O", bounds, io(ct.Open{Class: 1, Size: 100}), permitted},
		{"I/O without io", `services: [forward_open]`, io(ct.Open{Class: 1, Size: 100}), path},
		{"class 0", bounds, io(ct.Open{Class: 0xff, Size: 100}), value},
		{"size", bounds, io(ct.Open{Class: 1, Size: 101}), value},
		{"large size", bounds, io(ct.Open{Class: 1, Large: true, Size: 60000}), value},
		{"interval", bounds, io(ct.Open{Class: 1, Size: 100, RPI: 9999}), value},
		{"long interval", bounds, io(ct.Open{Class: 1, Size: 100, RPI: 1000001}), value},
		{"longest time-out", bounds, io(ct.Open{Class: 1, Size: 100, Multiplier: 7}), permitted},
		{"reserved time-out", bounds, io(ct.Open{Class: 1, Size: 100, Multiplier: 8}), verdict.ReasonMalformed},
		{"redundant owner", bounds, io(ct.Open{Class: 1, Size: 100, Owner: true}), value},
		{"heartbeat", bounds, io(ct.Open{Class: 1, Size: 2, Owner: true}), permitted},
		{"null", bounds, io(ct.Open{Class: 1, Size: 100, Types: [2]byte{ct.Null, ct.Null}}), permitted},
		{"configuration of an owner", bounds, configured(ct.Open{Class: 1, Size: 100}), permitted},
		{"configuration of who owns nothing", listener, configured(ct.Open{Class: 1, Size: 2}), value},
		{"configuration by a null forward open", listener, configured(ct.Open{Class: 1, Types: [2]byte{ct.Null, ct.Null}}), value},
		{"who owns nothing, with an empty configuration", listener, io(ct.Open{Class: 1, Size: 2, Path: ct.Join(ct.Class(4), ct.Point(100), []byte{0x80, 0})}), permitted},
		{"null to another assembly", bounds, io(ct.Open{Class: 1, Types: [2]byte{ct.Null, ct.Null}, Path: ct.Join(ct.Class(4), ct.Point(1))}), path},
		{"produced tag", bounds, io(ct.Open{Class: 1, Size: 100, Path: ct.Symbol("Produced")}), path},
		{"produced tag by name", `services: [forward_open], io: {tags: ["Prod*"]}`, io(ct.Open{Class: 1, Path: ct.Symbol("Produced")}), permitted},
		{"safety", bounds, io(ct.Open{Class: 1, Size: 100, Path: ct.Join(ct.Class(4), ct.Point(100), []byte{0x50, 0})}), path},
		{"safety by name", `services: [forward_open], io: {assemblies: [100], safety: true}`, io(ct.Open{Class: 1, Path: ct.Join(ct.Class(4), ct.Point(100), []byte{0x50, 0})}), permitted},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := evalENIP(enipPlanOf(t, row.rule), row.message)
			if v.Reason != row.want || v.Allows() != (row.want == permitted) {
				t.Errorf("%v %v, want %v", v.Action, v.Reason, row.want)
			}
		})
	}
}

// part is the data segment that has a request name some bytes of a tag, and partOf a tag with one.
func part(offset uint32, size uint16) []byte {
	return ct.Join([]byte{0x80, 3}, ct.U32(offset), ct.U16(size))
}
func partOf(tag string, offset uint32, size uint16) []byte {
	return ct.Join(ct.Symbol(tag), part(offset, size))
}

// pcccRead is a typed logical read of size bytes of a file, from a sub-element on.
func pcccRead(file, kind, element, sub, size byte) []byte {
	return ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 0x4d, 0, 1, 2, 3, 4, 0x0f, 0, 1, 0, 0xa2, size, file, kind, element, sub})
}

// TestRouteIsAllHops: those of port segments before the object that carries a route come first, and then
// its own.
func TestRouteIsAllHops(t *testing.T) {
	behind := func(service []byte, ahead []byte) []byte {
		return ct.Join([]byte{service[0], service[1] + byte(len(ahead)/2)}, ahead, service[2:])
	}
	first, second := ct.Port(1, 0), ct.Port(1, 3)
	read := ct.ReadTag(ct.Symbol("A"), 1)
	const services = `services: [unconnected_send, forward_open, forward_close], route: `
	for name, service := range map[string][]byte{
		"send":             behind(ct.Unconnected(read, second), first),
		"open":             behind(ct.Open{Path: ct.Join(second, ct.Router())}.Forward(), first),
		"close":            behind(ct.Close(1, ct.Join(second, ct.Router())), first),
		"send in a send":   ct.Unconnected(ct.Unconnected(read, second), first),
		"read behind both": behind(read, ct.Join(first, second)),
	} {
		for route, want := range map[string]bool{`["1/0,1/3"]`: true, `["1/0"]`: false, `["1/3"]`: false, `["1/3,1/0"]`: false} {
			rules := []string{`services: [read_tag]`, services + route}
			if name == "send in a send" {
				rules = append(rules, services+`["1/0"]`)
			}
			if name == "read behind both" {
				rules = []string{`services: [read_tag], route: ` + route}
			}
			if v := evalENIP(enipPlanOf(t, rules...), service); v.Allows() != want {
				t.Errorf("%s by route %s: %v", name, route, v.Reason)
			}
		}
	}
	hops := make([][]byte, cip.MaxHops)
	for i := range hops {
		hops[i] = first
	}
	long := behind(ct.Open{Path: ct.Join(ct.Join(hops...), ct.Router())}.Forward(), ct.Join(hops...))
	if v := evalENIP(enipPlanOf(t, services+`["1/0"]`), long); v.Allows() {
		t.Error("a route of twice as many hops as may be was permitted")
	}
}

// TestSpellingsHaveOneDecision draws an object or a tag, two spellings of it, and rules; the decisions have
// to be the same.
func TestSpellingsHaveOneDecision(t *testing.T) {
	plans := []*Plan{
		enipPlanOf(t, `services: [set_attribute_single], classes: [4, 0x300], instances: [0-200, 70000], attributes: [3]`,
			`services: [write_tag], tags: ["Line.*", "A[0-50].x", "B[3-5]", "C"]`),
		enipPlanOf(t, `services: [set_attribute_single], instances: [0-99]`, `services: [write_tag], tags: ["*[10-20]", "?.x"], values: [0-9]`),
		enipPlanOf(t, `services: [set_attribute_single, write_tag]`),
	}
	r := rand.New(rand.NewPCG(3, 4))
	least := func() byte { return byte(r.IntN(3)) }
	pick := func(list ...uint32) uint32 { return list[r.IntN(len(list))] }
	allowed, denied := 0, 0
	for range 30000 {
		class, instance, attribute := pick(4, 5, 0x300), pick(0, 99, 100, 200, 201, 70000), pick(3, 4)
		base, member := []string{"Line", "A", "B", "C", "line"}[r.IntN(5)], []string{"", "x", "Y"}[r.IntN(3)]
		index, value, tag := int(pick(0, 3, 5, 6, 10, 50, 51)), int32(pick(0, 9, 10)), r.IntN(2) == 0
		indexed := r.IntN(2) == 0
		spell := func() []byte {
			if !tag {
				path := ct.Join(ct.Logical(0x20, class, least()), ct.Logical(0x24, instance, least()), ct.Logical(0x30, attribute, least()))
				if r.IntN(2) == 0 {
					path = ct.Join(ct.Key(), path)
				}
				return ct.Request(0x10, path, []byte{1})
			}
			names := base
			var path []byte
			if indexed && r.IntN(2) == 0 {
				path = ct.Join(ct.Symbol(base), ct.Logical(0x28, uint32(index), least()))
				names = ""
			} else if indexed {
				names += fmt.Sprintf("[%s%d]", strings.Repeat("0", r.IntN(3)), index)
			}
			switch {
			case member == "":
			case names == "":
				path = append(path, ct.Symbol(member)...)
			case r.IntN(2) == 0:
				path, names = ct.Join(ct.ShortSymbol(names), ct.Symbol(member)), ""
			default:
				names += "." + member
			}
			if names != "" {
				path = ct.Symbol(names)
			}
			return ct.WriteDINT(path, value)
		}
		first, second := spell(), spell()
		for i, plan := range plans {
			a, b := evalENIP(plan, first), evalENIP(plan, second)
			if a != b {
				t.Fatalf("plan %d: %x is %v, %x is %v", i, first, a.Reason, second, b.Reason)
			}
			if a.Allows() {
				allowed++
			} else {
				denied++
			}
		}
	}
	if allowed < 10000 || denied < 10000 {
		t.Errorf("%d allowed, %d denied: the rules divide nothing", allowed, denied)
	}
}

// TestNoPrefixIsDeniedOfWhatIsPermitted, and what a prefix is denied for stays denied.
func TestCIPPrefixesAgreeWithTheWhole(t *testing.T) {
	plan := enipPlanOf(t, `services: [read_tag], tags: ["Line.*"]`, `services: [write_tag], tags: [Line.Set], values: [0-9]`,
		`services: [unconnected_send, forward_open], route: ["1/0"], io: {assemblies: [100]}`,
		`services: [execute_pccc], pccc: {files: ["7:0-9"]}`, `services: [get_attribute_list], classes: [1], attributes: [1]`)
	read, set := ct.ReadTag(ct.Symbol("Line.Speed"), 1), ct.WriteDINT(ct.Symbol("Line.Set"), 5)
	for _, service := range [][]byte{
		read, set, ct.WriteDINT(ct.Symbol("Line.Set"), 5, 10), ct.ReadTag(ct.Symbol("Other"), 1), ct.Multiple(read, set), ct.Multiple(read, ct.Request(5, nil)),
		ct.Unconnected(set, ct.Port(1, 0)), ct.Unconnected(set, ct.Port(1, 1)), ct.Open{Class: 1, Path: ct.Join(ct.Port(1, 0), ct.Class(4), ct.Point(100))}.Forward(),
		ct.Open{Class: 1, Path: ct.Join(ct.Class(4), ct.Point(101))}.Forward(),
		ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 1, 0, 2, 0, 0, 0, 0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 3, 0}),
		ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 1, 0, 2, 0, 0, 0, 0x0f, 0, 1, 0, 0x80, 6}),
		ct.Request(0x03, ct.Join(ct.Class(1), ct.Instance(1)), ct.U16(1), ct.U16(1)),
	} {
		whole := evalENIP(plan, service)
		refused := false
		for n := range len(service) + 1 {
			var c ENIPCheck
			var w cip.Walk
			plan.CheckENIP(&c, 1, nil, time.Time{})
			w.Start(service[:n], len(service), nil)
			v := c.EvalMessage(&w)
			if whole.Allows() && !v.Allows() || refused && v.Allows() {
				t.Fatalf("%x: %v with %d bytes, %v with all", service, v.Reason, n, whole.Reason)
			}
			refused = !v.Allows()
		}
	}
}

func TestEvalCommand(t *testing.T) {
	plan := enipPlanOf(t, `commands: [list_identity, 0x99]`)
	for command, want := range map[enip.Command]bool{
		enip.ListIdentity: true, 0x99: true, enip.RegisterSession: true, enip.UnregisterSession: true, enip.SendRRData: true,
		enip.SendUnitData: true, enip.NOP: false, enip.ListServices: false, enip.Legacy1: false, enip.StartDTLS: false, 0x98: false,
	} {
		var c ENIPCheck
		plan.CheckENIP(&c, 1, nil, time.Time{})
		if got := c.EvalCommand(&enip.Message{Command: command, Seen: 24}); got.Allows() != want {
			t.Errorf("%s: %v", command, got.Reason)
		}
	}
}

func TestENIPRates(t *testing.T) {
	plan := enipPlanOf(t, `services: [write_tag], tags: [A], rate: 3/s`, `services: [read_tag]`)
	rates, now := plan.NewRates(), time.Unix(0, 0)
	send := func(service []byte) verdict.Reason {
		var c ENIPCheck
		var w cip.Walk
		plan.CheckENIP(&c, 1, rates, now)
		w.Start(service, len(service), nil)
		v := c.EvalMessage(&w)
		if v.Allows() {
			c.Pay()
		}
		return v.Reason
	}
	write := ct.WriteDINT(ct.Symbol("A"), 1)
	for i, row := range []struct {
		service []byte
		want    verdict.Reason
	}{
		{ct.Multiple(write, write, write, write), verdict.ReasonRateExceeded}, // and nothing is taken
		{ct.Multiple(write, write), verdict.ReasonPermitted},
		{ct.Multiple(write, write), verdict.ReasonRateExceeded},
		{write, verdict.ReasonPermitted},
		{write, verdict.ReasonRateExceeded},
		{ct.ReadTag(ct.Symbol("A"), 1), verdict.ReasonPermitted},
		{ct.WriteDINT(ct.Symbol("B"), 1), verdict.ReasonTagNotPermitted},
	} {
		if got := send(row.service); got != row.want {
			t.Errorf("%d: %v, want %v", i, got, row.want)
		}
	}
	now = now.Add(time.Second)
	if got := send(ct.Multiple(write, write, write)); got != verdict.ReasonPermitted {
		t.Errorf("after a second: %v", got)
	}
}

func TestEvalCIPDoesNotAllocate(t *testing.T) {
	plan := enipPlanOf(t, `services: [read_tag], tags: ["Line.*", "A[0-9]"]`, `services: [write_tag], tags: [Line.Set], values: [0-9], rate: 1000000/s`)
	rates, now := plan.NewRates(), time.Unix(0, 0)
	message := ct.Multiple(ct.ReadTag(ct.Symbol("A[3]"), 4), ct.WriteDINT(ct.Symbol("Line.Set"), 5))
	var c ENIPCheck
	var w cip.Walk
	if n := testing.AllocsPerRun(100, func() {
		plan.CheckENIP(&c, 1, rates, now)
		w.Start(message, len(message), nil)
		if !c.EvalMessage(&w).Allows() {
			t.Fatal("denied")
		}
		c.Pay()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestENIPRatesSideBySide: pipelines that judge at the same time do not spend a token twice.
func TestENIPRatesSideBySide(t *testing.T) {
	plan := enipPlanOf(t, `services: [write_tag], rate: 100/s`)
	rates, now := plan.NewRates(), time.Unix(0, 0)
	packet := ct.Multiple(ct.WriteDINT(ct.Symbol("A"), 1), ct.WriteDINT(ct.Symbol("A"), 2), ct.WriteDINT(ct.Symbol("A"), 3))
	var permitted atomic.Int64
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			var c ENIPCheck
			var w cip.Walk
			for range 100 {
				plan.CheckENIP(&c, 1, rates, now)
				w.Start(packet, len(packet), nil)
				if c.EvalMessage(&w).Allows() {
					c.Pay()
					permitted.Add(1)
				}
			}
		})
	}
	group.Wait()
	if n := permitted.Load(); n != 33 {
		t.Errorf("%d packets of three writes passed, want 33 of 100 writes", n)
	}
}

// TestOutlivesSession: by a rule that says so and that permits the connection, and by no other.
func TestOutlivesSession(t *testing.T) {
	opening := ct.Open{Class: 1, Size: 100, Path: ct.Join(ct.Class(4), ct.Point(150), ct.Point(100))}.Forward()
	hop := cip.Hop{Port: 1, Link: 2}
	for _, r := range []struct {
		name                string
		rules               []string
		route               []cip.Hop
		permitted, outlives bool
	}{
		{"says nothing", []string{`services: [forward_open], io: {assemblies: [100, 150]}`}, nil, true, false},
		{"says so", []string{`services: [forward_open], io: {assemblies: [100, 150], outlive_session: true}`}, nil, true, true},
		{"says no", []string{`services: [forward_open], io: {assemblies: [100, 150], outlive_session: false}`}, nil, true, false},
		{"one of two says so", []string{
			`services: [forward_open], io: {assemblies: [100, 150]}`, `services: [forward_open], io: {assemblies: [100, 150], outlive_session: true}`,
		}, nil, true, true},
		{"another that does not permit it says so", []string{
			`services: [forward_open], io: {assemblies: [100, 150]}`, `services: [forward_open], io: {assemblies: [100], outlive_session: true}`,
		}, nil, true, false},
		{"a rule for a route says so, and the device itself needs none", []string{
			`services: [forward_open], io: {assemblies: [100, 150]}`, `services: [forward_open], route: ["1/2"], io: {assemblies: [100, 150], outlive_session: true}`,
		}, nil, true, true},
		{"a rule for another route says so", []string{
			`services: [forward_open], route: ["1/2"], io: {assemblies: [100, 150]}`, `services: [forward_open], route: ["1/3"], io: {assemblies: [100, 150], outlive_session: true}`,
		}, []cip.Hop{hop}, true, false},
		{"its route says so", []string{`services: [forward_open], route: ["1/2"], io: {assemblies: [100, 150], outlive_session: true}`}, []cip.Hop{hop}, true, true},
		{"not permitted", []string{`services: [forward_open], io: {assemblies: [100], outlive_session: true}`}, nil, false, false},
	} {
		plan := enipPlanOf(t, r.rules...)
		if got := plan.PermitsOpening(1, opening, r.route); got != r.permitted {
			t.Errorf("%s: permitted %v", r.name, got)
		}
		if got := plan.OutlivesSession(1, opening, r.route); got != r.outlives {
			t.Errorf("%s: outlives its session %v", r.name, got)
		}
	}
}

// TestValuesOfEachType holds both ends of a range for each type with numbers, written whole and in a fragment, as
// one element and as the last of several, alone and in a packet in an Unconnected Send. Types without numbers
// have no values.
func TestValuesOfEachType(t *testing.T) {
	le := binary.LittleEndian
	number := func(size int) func(float64) []byte {
		return func(v float64) []byte { return le.AppendUint64(nil, uint64(int64(v)))[:size] }
	}
	single := func(v float64) []byte { return le.AppendUint32(nil, math.Float32bits(float32(v))) }
	double := func(v float64) []byte { return le.AppendUint64(nil, math.Float64bits(v)) }
	plan := enipPlanOf(t, `services: [write_tag, write_tag_fragmented], tags: [A], values: [-3-100]`, `services: [unconnected_send]`)
	for _, r := range []struct {
		kind    cip.DataType
		bytes   func(float64) []byte
		in, out []float64
	}{
		{cip.SINT, number(1), []float64{-3, 0, 100}, []float64{-4, 101, 127, -128}},
		{cip.INT, number(2), []float64{-3, 100}, []float64{-4, 101, -32768, 32767, 256}},
		{cip.DINT, number(4), []float64{-3, 100}, []float64{-4, 101, 1 << 16, -1 << 31, 1<<32 - 4}},
		{cip.LINT, number(8), []float64{-3, 100}, []float64{-4, 101, 1 << 32, -1 << 62}},
		{cip.USINT, number(1), []float64{0, 100}, []float64{101, 253, 255}},
		{cip.UINT, number(2), []float64{0, 100}, []float64{101, 65533}},
		{cip.UDINT, number(4), []float64{0, 100}, []float64{101, 1<<32 - 3}},
		{cip.ULINT, number(8), []float64{0, 100}, []float64{101, -3}},
		{cip.BYTE, number(1), []float64{0, 100}, []float64{101, 255}},
		{cip.WORD, number(2), []float64{0, 100}, []float64{101, 65533}},
		{cip.DWORD, number(4), []float64{0, 100}, []float64{101, 1<<32 - 3}},
		{cip.LWORD, number(8), []float64{0, 100}, []float64{101, -3}},
		{cip.REAL, single, []float64{-3, 0.5, 100}, []float64{-3.5, 100.5, math.Inf(1), math.NaN()}},
		{cip.LREAL, double, []float64{-3, 0.5, 100}, []float64{-3.0000001, 100.0000001, math.Inf(-1), math.NaN()}},
	} {
		for i, v := range append(slices.Clone(r.in), r.out...) {
			want := i < len(r.in)
			one, two := r.bytes(v), append(r.bytes(1), r.bytes(v)...)
			kind, size := ct.U16(uint16(r.kind)), uint32(r.kind.Size())
			for name, service := range map[string][]byte{
				"one":         ct.Request(0x4d, ct.Symbol("A"), kind, ct.U16(1), one),
				"the last":    ct.Request(0x4d, ct.Symbol("A"), kind, ct.U16(2), two),
				"a fragment":  ct.Request(0x53, ct.Symbol("A"), kind, ct.U16(9), ct.U32(3*size), two),
				"in a packet": ct.Unconnected(ct.Multiple(ct.Request(0x4d, ct.Symbol("A"), kind, ct.U16(1), one))),
			} {
				if got := evalENIP(plan, service); got.Allows() != want || !want && got.Reason != verdict.ReasonValueNotPermitted {
					t.Errorf("type %#x, %v, %s: %v", r.kind, v, name, got.Reason)
				}
			}
		}
	}
	for _, kind := range []uint16{0xd0, 0xda, 0xcc, 0xcd, 0xdb, 0x00, 0x8fce, 0x1c4} { // strings, times, structures
		service := ct.Request(0x4d, ct.Symbol("A"), ct.U16(kind), ct.U16(1), ct.U32(1))
		if got := evalENIP(plan, service); got.Allows() {
			t.Errorf("type %#x has a value", kind)
		}
	}
}

// nestings are ways to carry a service, the plain one first.
var nestings = map[string]func([]byte) []byte{
	"alone":                         func(s []byte) []byte { return s },
	"in a packet":                   func(s []byte) []byte { return ct.Multiple(ct.ReadTag(ct.Symbol("A"), 1), s) },
	"in a send":                     func(s []byte) []byte { return ct.Unconnected(s, ct.Port(1, 0)) },
	"in a packet in a send":         func(s []byte) []byte { return ct.Unconnected(ct.Multiple(s, s), ct.Port(1, 0)) },
	"in a send in a packet":         func(s []byte) []byte { return ct.Multiple(ct.Unconnected(s, ct.Port(1, 0))) },
	"in packets to the last level":  func(s []byte) []byte { return ct.Multiple(ct.Multiple(ct.Multiple(ct.Multiple(s)))) },
	"in a packet in a send in such": func(s []byte) []byte { return ct.Multiple(ct.Unconnected(ct.Multiple(s), ct.Port(1, 0))) },
}

// TestExecutionIsNamedOrDenied: what changes what a device executes is denied by rules that read and write anything,
// in every nesting, and permitted by its name. So is every service of a vendor's that has a number only, and
// every PCCC function that is more than data.
func TestExecutionIsNamedOrDenied(t *testing.T) {
	const everything = `services: [read, write, unconnected_send, forward_open, large_forward_open, forward_close, execute_pccc], route: ["1/0"]`
	plain := strings.TrimSuffix(everything, `, route: ["1/0"]`)
	object := ct.Join(ct.Class(0x300), ct.Instance(1))
	type sample struct {
		name    string
		rule    string // that names it
		service []byte
	}
	var samples []sample
	named := map[string]cip.NamedService{}
	for _, s := range cip.Services() {
		named[s.Name] = s
	}
	for _, g := range cipGroups() {
		for _, name := range g.value {
			path := object
			if named[name].Owner == cip.File {
				path = ct.Join(ct.Class(cip.ClassFile), ct.Instance(1))
			}
			if g.name == "execution" {
				samples = append(samples, sample{name, "services: [" + name + "]", ct.Request(byte(named[name].Code), path, []byte{0})})
			}
		}
	}
	for code := byte(cip.FirstOwn); code < 0x80; code++ {
		samples = append(samples, sample{fmt.Sprintf("a vendor's %#x", code), fmt.Sprintf("services: [%#x]", code), ct.Request(code, object, []byte{0})})
	}
	for _, f := range cip.Functions() {
		if f.Function.Data() {
			continue
		}
		command := []byte{7, 0x4d, 0, 1, 2, 3, 4, f.Function.Command, 0, 1, 0}
		if f.Function.HasSub {
			command = append(command, f.Function.Sub, 0)
		}
		samples = append(samples, sample{f.Name, "services: [execute_pccc], pccc: {functions: [" + f.Name + "]}",
			ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), command)})
	}
	if len(samples) < 100 {
		t.Fatalf("%d samples", len(samples))
	}
	without := enipPlanOf(t, everything, plain)
	for _, s := range samples {
		with := enipPlanOf(t, everything, plain, s.rule)
		for nesting, carry := range nestings {
			if v := evalENIP(without, carry(s.service)); v.Allows() {
				t.Errorf("%s, %s, is permitted without its name", s.name, nesting)
			}
			if v := evalENIP(with, carry(s.service)); !v.Allows() {
				t.Errorf("%s, %s, is %v with its name", s.name, nesting, v.Reason)
			}
		}
	}
	for nesting, carry := range nestings {
		for _, s := range [][]byte{ct.ReadTag(ct.Symbol("A"), 1), ct.WriteDINT(ct.Symbol("A"), 1), ct.Request(0x0e, object)} {
			if v := evalENIP(without, carry(s)); !v.Allows() {
				t.Errorf("%x, %s: %v", s, nesting, v.Reason)
			}
		}
	}
}
