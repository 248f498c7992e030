package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// cipSpeller writes services in every way that the specification knows.
type cipSpeller struct{ *rand.Rand }

func (s cipSpeller) coin() bool  { return s.IntN(2) == 0 }
func (s cipSpeller) least() byte { return byte(s.IntN(3)) } // of the 8, 16 and 32 bits of a segment

// aside is what says nothing of the object: schedules, production inhibit times.
func (s cipSpeller) aside() []byte {
	switch s.IntN(8) {
	case 0:
		return []byte{0x41, byte(s.IntN(256))}
	case 1:
		return []byte{0x43, byte(s.IntN(256))}
	case 2:
		return []byte{0x51, 1, byte(s.IntN(256)), 0}
	}
	return nil
}

func (s cipSpeller) key() []byte {
	if s.IntN(3) == 0 {
		return ct.Key()
	}
	return nil
}

func (s cipSpeller) object(class, instance uint32) []byte {
	return ct.Join(ct.Logical(0x20, class, s.least()), s.aside(), ct.Logical(0x24, instance, s.least()))
}

// tagName is a part of a tag: a name and its indices, of as many dimensions as there are.
type tagName struct {
	name    string
	indices []uint32
}

// anyCase flips letters, for a controller knows one tag by both.
func (s cipSpeller) anyCase(name string) string {
	return strings.Map(func(r rune) rune {
		if s.coin() {
			return []rune(strings.ToUpper(string(r)))[0]
		}
		return []rune(strings.ToLower(string(r)))[0]
	}, name)
}

// tag writes a tag: names together in one symbol or each in one, short or extended; indices in brackets, in
// one pair or several, with zeros before them or without, or in member segments.
func (s cipSpeller) tag(names []tagName) []byte {
	var path []byte
	text := ""
	flush := func() {
		if text == "" {
			return
		}
		symbol := ct.Symbol(text)
		if len(text) < 32 && s.coin() {
			symbol = ct.ShortSymbol(text)
		}
		path, text = ct.Join(path, s.aside(), symbol), ""
	}
	for _, n := range names {
		if text != "" && s.coin() {
			flush()
		}
		if text != "" {
			text += "."
		}
		text += s.anyCase(n.name)
		bracketed := s.IntN(len(n.indices) + 1)
		for i, index := range n.indices[:bracketed] {
			digits := strings.Repeat("0", s.IntN(3)) + fmt.Sprint(index)
			if i > 0 && s.coin() {
				text = text[:len(text)-1] + "," + digits + "]"
			} else {
				text += "[" + digits + "]"
			}
		}
		for _, index := range n.indices[bracketed:] {
			flush()
			path = append(path, ct.Logical(0x28, index, s.least())...)
		}
	}
	flush()
	return path
}

// hop is port 1, link 0.
func (s cipSpeller) hop() []byte {
	return [][]byte{{1, 0}, {0x11, 1, 0, 0}, {0x0f, 1, 0, 0}, {0x1f, 1, 1, 0, 0, 0}}[s.IntN(4)]
}

// carried puts a service into others, which are permitted: what is in them decides.
func (s cipSpeller) carried(service []byte) []byte {
	for range s.IntN(4) {
		switch s.IntN(3) {
		case 0:
			harmless := ct.Request(0x0e, ct.Join(s.object(1, 1), ct.Logical(0x30, 7, s.least())))
			services := [][]byte{service}
			for range s.IntN(3) {
				services = append(services, harmless)
			}
			s.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
			service = ct.Request(0x0a, s.object(2, 1), ct.Packet(services...))
		case 1:
			data := ct.Join([]byte{byte(s.IntN(256)), byte(s.IntN(256))}, ct.U16(uint16(len(service))), service)
			if len(service)%2 != 0 {
				data = append(data, 0)
			}
			hop := s.hop()
			service = ct.Request(0x52, s.object(6, 1), data, []byte{byte(len(hop) / 2), 0}, hop)
		}
	}
	return service
}

// TestSpellingsHaveOneDecisionHoweverTheyAreCarried draws an object or a tag, and two spellings of one service to
// it: widths of segments, electronic keys and network segments, names in one symbol or in several, short and
// extended, upper and lower case, indices in brackets and in member segments; alone, in Multiple Service
// Packets and in Unconnected Sends, and in these in each other. Rules of every kind decide on both alike.
func TestSpellingsHaveOneDecisionHoweverTheyAreCarried(t *testing.T) {
	always := []string{
		`services: [unconnected_send], route: ["1/0", "1/0,1/0", "1/0,1/0,1/0"]`, `services: [get_attribute_single], classes: [identity]`,
	}
	plans := []*Plan{
		enipPlanOf(t, append(always, `services: [set_attribute_single], classes: [4, 0x300], instances: [0-200, 70000], attributes: [3]`,
			`services: [write_tag], tags: ["Line.*", "A[0-50].x", "B[3-5]", "C", "*[*,3]"]`)...),
		enipPlanOf(t, append(always, `services: [set_attribute_single], instances: [0-99]`, `services: [write_tag], tags: ["*[10-20]", "?.x"], values: [0-9]`,
			`services: [write_tag], tags: ["program:main.*"]`)...),
		enipPlanOf(t, append(always, `services: [write], classes: [4], attributes: [3-4]`, `services: [write], tags: ["a*"]`)...),
	}
	s := cipSpeller{rand.New(rand.NewPCG(28, 26))}
	numbers := []uint32{0, 3, 5, 6, 10, 50, 51, 300, 70000}
	pick := func(list ...uint32) uint32 { return list[s.IntN(len(list))] }
	allowed, denied := 0, 0
	for range 30000 {
		class, instance, attribute := pick(4, 5, 0x300), pick(0, 99, 100, 200, 201, 70000), pick(3, 4, 300)
		names := make([]tagName, 0, 4)
		if s.IntN(5) == 0 {
			names = append(names, tagName{name: "Program:Main"})
		}
		for range 1 + s.IntN(2) {
			n := tagName{name: []string{"Line", "A", "B", "C", "x", "Speed_1"}[s.IntN(6)]}
			for range []int{0, 0, 1, 1, 2, 3}[s.IntN(6)] {
				n.indices = append(n.indices, pick(numbers...))
			}
			names = append(names, n)
		}
		value, byTag := int32(pick(0, 9, 10)), s.IntN(3) > 0
		spell := func() []byte {
			if byTag {
				return s.carried(ct.WriteDINT(ct.Join(s.key(), s.tag(names), s.aside()), value))
			}
			return s.carried(ct.Request(0x10, ct.Join(s.key(), s.aside(), s.object(class, instance), ct.Logical(0x30, attribute, s.least())), []byte{1}))
		}
		first, second := spell(), spell()
		for i, plan := range plans {
			a, b := evalENIP(plan, first), evalENIP(plan, second)
			if a != b {
				t.Fatalf("plan %d: %x is %v, %x is %v", i, first, a.Reason, second, b.Reason)
			}
			if a.Reason == verdict.ReasonMalformed {
				t.Fatalf("%x is no lawful message", first)
			}
			if a.Allows() {
				allowed++
			} else {
				denied++
			}
		}
	}
	t.Logf("%d allowed, %d denied", allowed, denied)
	if allowed < 10000 || denied < 10000 {
		t.Errorf("%d allowed, %d denied: the rules divide nothing", allowed, denied)
	}
}
