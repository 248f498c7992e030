package inspect

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/dissectors/enip"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// partialRules permit what the messages below are made of, and values up to 1500.
var partialRules = []string{
	`{services: [get_attributes_all], classes: [identity]}`,
	`{services: [read], tags: [A, B]}`,
	`{services: [write], tags: [A], values: [0-9, 500-1500]}`,
	`{services: [write], tags: [B], values: [0-1500]}`,
	`{services: [unconnected_send], route: ["1/0", "1/0,1/0"]}`,
	`{services: [write], tags: [C], values: [0-9], route: ["1/0"]}`,
}

// someService makes a service, nested or not, of which most are permitted.
func someService(r *rand.Rand, depth int) []byte {
	name := ct.Symbol([]string{"A", "A", "B", "C"}[r.IntN(4)])
	values := make([]int32, 1+r.IntN(120))
	for i := range values {
		values[i] = []int32{5, 1000}[r.IntN(2)]
	}
	if r.IntN(12) == 0 {
		values[r.IntN(len(values))] = 1501
	}
	switch n := r.IntN(7); {
	case n == 0:
		return readIdentity()
	case n == 1:
		return ct.ReadTag(name, 1)
	case n <= 3 || depth == 0:
		return ct.WriteDINT(name, values...)
	case n == 4:
		return ct.Unconnected(someService(r, depth-1), [][]byte{ct.Port(1, 0), ct.Port(1, 0), ct.Port(2, 0)}[r.IntN(3)])
	case n == 5 && depth == 3:
		write := ct.WriteDINT(name, values...)
		return ct.Join(write, ct.U16(7), write)
	}
	services := make([][]byte, 1+r.IntN(6))
	for i := range services {
		services[i] = someService(r, depth-1)
	}
	return ct.Multiple(services...)
}

// TestWhatIsGoneOnWithIsJudgedAlike: a message in pieces is stopped with the very piece with which it would be if
// each were judged with all before it from the beginning, for generated messages, some of them damaged.
func TestWhatIsGoneOnWithIsJudgedAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 28))
	plan := enipPlan(t, policy.DenyReset, partialRules...)
	denied, long := 0, 0
	for i := range 1500 {
		message := ct.RR(enipHandle, 7, someService(r, 3))
		if r.IntN(4) == 0 {
			message[24+r.IntN(len(message)-24)] ^= byte(1 << r.IntN(8))
		}
		if len(message) > longPrefix {
			long++
		}
		d := newTarget(t, plan)
		session := d.pipeline.connections[testKey].session.(*enipSession)
		piece := 1 + r.IntN(40)
		for from := 0; from < len(message); from += piece {
			to := min(from+piece, len(message))
			want := judgedFromTheBeginning(d, session, message[:to])
			if got := d.client(message[from:to]).Verdict; got != want {
				t.Fatalf("message %d, %d bytes of %d, %d at a time: %v, want %v: %x", i, to, len(message), piece, got, want, message)
			}
			if !d.last.Verdict.Allows() {
				denied++
				if len(d.last.Messages) == 0 || !slices.ContainsFunc(d.last.Messages, func(m Message) bool { return !m.Verdict.Allows() }) {
					t.Errorf("message %d: nothing is told of its denial", i)
				}
				break
			}
			d.work()
		}
		if session.partial != nil {
			t.Fatalf("message %d: something is remembered of it", i)
		}
	}
	if denied < 200 || denied > 1300 || long < 500 {
		t.Errorf("%d of 1500 were denied and %d were long: this shows nothing", denied, long)
	}
}

// judgedFromTheBeginning returns the verdict on a message, or as much of it as is there, by itself.
func judgedFromTheBeginning(d *target, s *enipSession, b []byte) (v verdict.Verdict) {
	var m enip.Message
	n, err := enip.Parse(b, enip.Request, &m)
	if err != nil && !errors.Is(err, enip.ErrNeedMore) {
		return verdict.Denied(verdict.ReasonMalformed)
	}
	c := d.pipeline.connections[testKey]
	r := d.pipeline.readingOf(c, &Packet{Time: d.now}, len(b))
	d.pipeline.begin()
	e := enipJudgement{session: s, r: &r, m: &m, raw: b[:m.Seen], whole: n > 0}
	e.judge(false)
	return e.verdict
}

// cost is what judging has cost so far: services, and rules and values that they were held against.
func (d *target) cost() int {
	dissector := d.pipeline.dissectors[policy.ProtocolENIP].(*enipDissector)
	return dissector.visited + dissector.check.Looks()
}

// TestAMessageInPiecesCostsWhatItHas: with one byte in a segment, the work grows as the message does, however
// it is built, and not as its square. Each byte may be held against each rule.
func TestAMessageInPiecesCostsWhatItHas(t *testing.T) {
	rules := append([]string{}, partialRules...)
	for i := range 40 {
		rules = append(rules, fmt.Sprintf(`{services: [write], tags: [A], values: [0-9, %d-1500]}`, 500-i))
	}
	plan := enipPlan(t, policy.DenyReset, rules...)
	several := func(n int, service []byte) [][]byte {
		list := make([][]byte, n)
		for i := range list {
			list[i] = service
		}
		return list
	}
	values := func(n int) []int32 {
		list := make([]int32, n)
		for i := range list {
			list[i] = 7
		}
		return list
	}
	hop := ct.Port(1, 0)
	for name, build := range map[string]func(size int) []byte{
		"reads in a packet": func(n int) []byte { return ct.Multiple(several(n, ct.ReadTag(ct.Symbol("A"), 1))...) },
		"a write":           func(n int) []byte { return ct.WriteDINT(ct.Symbol("A"), values(10*n)...) },
		"writes in a packet": func(n int) []byte {
			return ct.Multiple(several(n, ct.WriteDINT(ct.Symbol("A"), values(10)...))...)
		},
		"a packet in an unconnected send": func(n int) []byte {
			return ct.Unconnected(ct.Multiple(several(n, ct.ReadTag(ct.Symbol("A"), 1))...), hop)
		},
		"unconnected sends in a packet": func(n int) []byte {
			return ct.Multiple(several(n/2, ct.Unconnected(ct.ReadTag(ct.Symbol("A"), 1), hop))...)
		},
		"a write that repeats itself": func(n int) []byte {
			write := ct.WriteDINT(ct.Symbol("A"), values(10*n)...)
			return ct.Join(write, ct.U16(7), write)
		},
	} {
		perByte := map[int]float64{}
		for _, size := range []int{60, 120, 240} {
			d := newTarget(t, plan)
			message := ct.RR(enipHandle, 7, build(size))
			before := d.cost()
			for i := range message {
				d.client(message[i : i+1])
				d.mustAllow(name)
			}
			perByte[size] = float64(d.cost()-before) / float64(len(message))
		}
		t.Logf("%s: %.1f, %.1f and %.1f looks for a byte", name, perByte[60], perByte[120], perByte[240])
		if most := 1.3 * perByte[60]; perByte[240] > most || perByte[120] > most || perByte[240] > float64(3*len(rules)) {
			t.Errorf("%s: %.1f looks for a byte of a short message and %.1f for one of a long one", name, perByte[60], perByte[240])
		}
	}
}
