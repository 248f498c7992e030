package inspect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/plant/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// outstationPlan is one with the rules of the DNP3 peers.
func outstationPlan(t testing.TB, onDeny policy.OnDeny) *policy.Plan {
	t.Helper()
	text := fmt.Sprintf(strings.Replace(testPolicy, "protocol: modbus", "protocol: dnp3", 1), onDeny, strings.Join(dnp3.Rules(), ", "))
	p, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// speller writes controls in every way that it can think of.
type speller struct{ *rand.Rand }

// pick returns one of a list.
func pick[T any](s speller, list ...T) T { return list[s.IntN(len(list))] }

// spelling is what a master sends: fragments in frames.
type spelling struct {
	what   string
	octets [][]byte // a frame each
}

// beyond is a control that the rules deny, somewhere among others.
func (s speller) beyond() spelling {
	function := pick(s, dnp3.DirectOperate, dnp3.DirectOperateNR, dnp3.Select)
	qualifier := uint8(s.IntN(256))
	if s.IntN(4) > 0 {
		qualifier = pick[uint8](s, 0x00, 0x01, 0x02, 0x07, 0x08, 0x17, 0x18, 0x27, 0x28, 0x29, 0x37, 0x38, 0x39, 0x5b)
	}
	blocks := make([]dnp3.CROB, 1+s.IntN(9))
	from := s.IntN(10)
	for i := range blocks {
		blocks[i] = dnp3.Latch(uint32((from+i)%14), s.IntN(2) == 0)
		if s.IntN(4) == 0 {
			blocks[i].Code = pick[uint8](s, dnp3.PulseOn, dnp3.PulseOff, dnp3.Close, dnp3.Trip, dnp3.Nul, dnp3.LatchOn|0x10, dnp3.LatchOn|0x20)
		}
	}
	body := dnp3.ControlsAs(qualifier, blocks...)
	for range s.IntN(3) {
		if other := s.other(); s.IntN(2) == 0 {
			body = append(other, body...)
		} else {
			body = append(body, other...)
		}
	}
	return s.send(fmt.Sprintf("%v, qualifier %#02x, %d blocks from %d", function, qualifier, len(blocks), from), function, body)
}

// permitted is a SELECT, an OPERATE or both of what the rules permit, by this attacker.
func (s speller) permitted() spelling {
	body := dnp3.ControlsAs(pick[uint8](s, 0x17, 0x28), dnp3.Latch(uint32(s.IntN(4)), s.IntN(2) == 0))
	out := spelling{what: "a permitted control"}
	functions := pick(s, []dnp3.Function{dnp3.Select}, []dnp3.Function{dnp3.Operate}, []dnp3.Function{dnp3.Select, dnp3.Operate})
	sequence := byte(s.IntN(16))
	for i, f := range functions {
		out.octets = append(out.octets, dnp3.Wire(dnp3.FromMaster, 10, 3, byte(s.IntN(64)), dnp3.Request(sequence+byte(i), f, body)))
	}
	return out
}

// among puts a control beyond the rules among what they permit.
func (s speller) among() spelling {
	var out spelling
	for _, part := range s.Perm(1 + s.IntN(4)) {
		next := s.permitted()
		if part == 0 {
			next = s.beyond()
		}
		out.what += next.what + "; "
		out.octets = append(out.octets, next.octets...)
	}
	return out
}

// other is an object beside a control.
func (s speller) other() []byte {
	return pick(s,
		dnp3.Class(uint8(s.IntN(4))), dnp3.All(200, 1), dnp3.Range(1, 2, 0, 3),
		dnp3.Controls(dnp3.Latch(1, true)), dnp3.AnalogOutput(uint32(s.IntN(9)), 5),
		dnp3.Spell(dnp3.VendorKind, pick[uint8](s, 0x07, 0x17, 0x28, 0x00), dnp3.Object{Index: 1, Data: []byte{12, 1}}),
		dnp3.Spell(dnp3.Kind{Group: 200, Variation: 2}, 0x5b, dnp3.Object{Data: make([]byte, s.IntN(40))}),
		dnp3.Spell(dnp3.Kind{Group: 110, Variation: 7}, 0x17, dnp3.Object{Data: make([]byte, 7)}),
		[]byte{12, 1}, []byte{0}, []byte{12, 1, 0x17, 0}, []byte{12, 1, 0x00, 9, 2}, []byte{12, 1, 0x06},
	)
}

// send puts a request into frames: of any control octet, cut anywhere, from and to anybody, alone or
// with another master's poll between. What is selected is operated, too.
func (s speller) send(what string, function dnp3.Function, body []byte) spelling {
	control, source, destination, number := byte(dnp3.FIR|dnp3.FIN), uint16(3), uint16(10), byte(s.IntN(64))
	if s.IntN(8) == 0 {
		control = byte(s.IntN(16) << 4)
	}
	if s.IntN(8) == 0 {
		source = pick[uint16](s, 0, 1, 5, 10, 0xfff0, 0xfffc, 0xffff)
	}
	if s.IntN(8) == 0 {
		destination = pick[uint16](s, 0, 11, 0xfff1, 0xfffc, 0xfffd, 0xfffe, 0xffff)
	}
	link := byte(dnp3.FromMaster)
	if s.IntN(16) == 0 {
		link = pick[byte](s, dnp3.FromOutstation, dnp3.LinkDIR|dnp3.LinkPRM|dnp3.LinkFCV|dnp3.LinkFCB|dnp3.ConfirmedUserData, dnp3.LinkDIR|dnp3.UnconfirmedUserData)
	}
	out := spelling{what: fmt.Sprintf("%s, control %#02x, link %#02x, %d to %d", what, control, link, source, destination)}
	functions := []dnp3.Function{function}
	if function == dnp3.Select {
		functions = append(functions, dnp3.Operate)
	}
	size := 1 + s.IntN(40)
	for i, f := range functions {
		fragment := append([]byte{control | byte(4+i), byte(f)}, body...)
		for _, segment := range dnp3.SegmentsOf(fragment, number, size) {
			if s.IntN(30) == 0 {
				segment[0] ^= byte(s.IntN(256)) // another sequence number, first or last
			}
			if s.IntN(10) == 0 {
				out.octets = append(out.octets, s.poll())
			}
			out.octets = append(out.octets, dnp3.Frame{Control: link, Destination: destination, Source: source, Data: segment}.Append(nil))
			number++
		}
	}
	return out
}

// poll is what may stand between: another's request, a keep-alive, a frame with a bad checksum.
func (s speller) poll() []byte {
	poll := dnp3.Wire(dnp3.FromMaster, 10, pick[uint16](s, 1, 3, 4), byte(s.IntN(64)), dnp3.Request(9, dnp3.Read, dnp3.Class(1)))
	switch s.IntN(3) {
	case 0:
		return dnp3.Frame{Control: dnp3.LinkDIR | dnp3.LinkPRM | dnp3.RequestLinkStatus, Destination: 10, Source: 3}.Append(nil)
	case 1:
		if s.IntN(4) == 0 {
			poll[len(poll)-1] ^= 1
		}
	}
	return poll
}

// reach lets frames go through the pipeline in TCP segments that begin and end anywhere, and returns
// what a loose outstation executes of what reaches it, and how many octets were sent.
func (s speller) reach(t testing.TB, w *wire, frames [][]byte) ([]dnp3.Operation, int) {
	octets := join(frames...)
	sent := len(octets)
	for len(octets) > 0 {
		n := len(octets)
		if s.IntN(3) > 0 {
			n = 1 + s.IntN(n)
		}
		w.send(stream.FromInitiator, segment{payload: octets[:n]})
		octets = octets[n:]
	}
	o := dnp3.NewOutstation(dnp3.Config{Personality: dnp3.Loose()})
	o.Take(w.got(stream.FromResponder))
	return o.Executed(), sent
}

// TestInvariant01NoSpellingOfAControlReachesTheOutstation: a control that the policy does not name
// never reaches the outstation in any spelling: qualifier, count, object order, fragment, transport
// split, address.
func TestInvariant01NoSpellingOfAControlReachesTheOutstation(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 500
	}
	works := 0
	for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyDrop, policy.DenyException} {
		plan := outstationPlan(t, onDeny)
		for seed := range uint64(n) {
			s := speller{rand.New(rand.NewPCG(seed, uint64(onDeny)))}
			spelt := s.among()
			alone := dnp3.NewOutstation(dnp3.Config{Personality: dnp3.Loose()})
			alone.Take(join(spelt.octets...))
			if slices.ContainsFunc(alone.Executed(), dnp3.Beyond) {
				works++
			}
			executed, _ := s.reach(t, connected(t, plan), spelt.octets)
			if slices.ContainsFunc(executed, dnp3.Beyond) {
				t.Errorf("%v, seed %d: %s: executed %v\n% x", onDeny, seed, spelt.what, executed, spelt.octets)
			}
		}
	}
	// A test whose spellings nobody understands would show nothing.
	if works < n {
		t.Errorf("only %d of %d spellings work where nobody is in the way", works, 3*n)
	}
}

// TestNoSpellingOfAPermittedControlIsDenied: false alarms count, too.
func TestNoSpellingOfAPermittedControlIsDenied(t *testing.T) {
	plan := outstationPlan(t, policy.DenyReset)
	for seed := range uint64(2000) {
		s := speller{rand.New(rand.NewPCG(seed, 99))}
		var body []byte
		blocks := 0
		for range 1 + s.IntN(3) {
			var list []dnp3.CROB
			for range 1 + s.IntN(4) {
				list = append(list, dnp3.Latch(uint32(s.IntN(4)), s.IntN(2) == 0))
			}
			blocks += len(list)
			body = append(body, dnp3.ControlsAs(pick[uint8](s, 0x17, 0x28), list...)...)
		}
		sequence, number, size := byte(s.IntN(16)), byte(s.IntN(64)), 20+s.IntN(230)
		var frames [][]byte
		for i, f := range []dnp3.Function{dnp3.Select, dnp3.Operate} {
			for _, segment := range dnp3.SegmentsOf(dnp3.Request(sequence+byte(i), f, body), number, size) {
				frames = append(frames, dnp3.Frame{Control: dnp3.FromMaster, Destination: 10, Source: 3, Data: segment}.Append(nil))
				number++
			}
		}
		w := connected(t, plan)
		executed, sent := s.reach(t, w, frames)
		if len(executed) != blocks || len(w.got(stream.FromResponder)) != sent {
			t.Fatalf("seed %d: executed %v of % x: %v", seed, executed, body, w.last.Verdict)
		}
	}
}

// TestInvariant01EvasionsOfDNP3 cuts each evasion into segments in many ways.
func TestInvariant01EvasionsOfDNP3(t *testing.T) {
	for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyDrop, policy.DenyException} {
		plan := outstationPlan(t, onDeny)
		for _, e := range dnp3.Evasions() {
			for seed := range uint64(20) {
				s := speller{rand.New(rand.NewPCG(seed, 7))}
				executed, _ := s.reach(t, connected(t, plan), e.Parts)
				if slices.ContainsFunc(executed, dnp3.Beyond) {
					t.Errorf("%v: %s, seed %d: executed %v", onDeny, e.Name, seed, executed)
				}
			}
		}
	}
}

// reachByDatagrams sends each part as one, and returns what a loose outstation executes of those that
// reach it.
func reachByDatagrams(w *wire, parts [][]byte) []dnp3.Operation {
	const headers = 20 + 8 // of IPv4 and UDP
	var reached []byte
	for _, part := range parts {
		j := w.datagram(stream.FromInitiator, string(part))
		switch {
		case !j.Verdict.Allows():
		case j.Payload != nil:
			reached = append(reached, j.Payload[headers:]...)
		default:
			reached = append(reached, part...)
		}
	}
	o := dnp3.NewOutstation(dnp3.Config{Personality: dnp3.Loose()})
	o.Take(reached)
	return o.Executed()
}

// TestInvariant01NoControlReachesTheOutstationInDatagrams is all of that over UDP: each evasion, and
// spellings of which each frame is a datagram, or all are one.
func TestInvariant01NoControlReachesTheOutstationInDatagrams(t *testing.T) {
	for _, onDeny := range []policy.OnDeny{policy.DenyReset, policy.DenyDrop, policy.DenyException} {
		plan := outstationPlan(t, onDeny)
		for _, e := range dnp3.Evasions() {
			if executed := reachByDatagrams(newWire(t, plan), e.Parts); slices.ContainsFunc(executed, dnp3.Beyond) {
				t.Errorf("%v: %s: executed %v", onDeny, e.Name, executed)
			}
		}
		for seed := range uint64(2000) {
			s := speller{rand.New(rand.NewPCG(seed, uint64(onDeny)))}
			spelt := s.among()
			if s.IntN(2) == 0 {
				spelt.octets = [][]byte{join(spelt.octets...)}
			}
			if executed := reachByDatagrams(newWire(t, plan), spelt.octets); slices.ContainsFunc(executed, dnp3.Beyond) {
				t.Errorf("%v, seed %d: %s: executed %v\n% x", onDeny, seed, spelt.what, executed, spelt.octets)
			}
		}
	}
}
