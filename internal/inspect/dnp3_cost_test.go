package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// newDNP3Poller repeats requests and their responses on a connection.
func newDNP3Poller(t testing.TB, request, response []byte) *poller {
	w := connected(t, dnp3Plan(t, policy.DenyReset, dnp3Rules...))
	return &poller{
		wire: w, question: request, answer: response,
		request: Packet{Time: w.now, Key: testKey, From: policy.SideB},
		reply:   Packet{Time: w.now, Key: testKey, From: policy.SideA},
	}
}

// dnp3Polls are exchanges of a kind that a line carries all day.
func dnp3Polls() map[string][2][]byte {
	analogs := []byte{30, 1, 0, 0, 39}
	for range 40 {
		analogs = append(analogs, 1, 2, 3, 4, 5)
	}
	long := append([]byte{0xc3, byte(dnp3.Response), 0, 0, 30, 1, 1, 0, 0, 0x90, 1}, make([]byte, 5*401)...)
	var frames []byte
	for at, i := 0, byte(0); at < len(long); i++ {
		end := min(at+dnp3.MaxData-1, len(long))
		header := i
		if at == 0 {
			header |= 0x40
		}
		if end == len(long) {
			header |= 0x80
		}
		frames = dnp3.AppendFrame(frames, fromOutstation, masterStation, outstation, append([]byte{header}, long[at:end]...))
		at = end
	}
	block := indexed(12, 1, latch(1), latch(2))
	return map[string][2][]byte{
		"class poll":      {ask(3, dnp3.Read, 60, 2, 6, 60, 3, 6, 60, 4, 6, 60, 1, 6), reply(3, 0, analogs...)},
		"direct operate":  {ask(3, dnp3.DirectOperate, block...), reply(3, 0, block...)},
		"select":          {ask(3, dnp3.Select, block...), reply(3, 0, block...)},
		"nine segments":   {ask(3, dnp3.Read, 60, 1, 6), frames},
		"keep-alive":      {dnp3.AppendFrame(nil, 0xc9, outstation, masterStation, nil), dnp3.AppendFrame(nil, 0x0b, masterStation, outstation, nil)},
		"unsolicited too": {ask(3, dnp3.Read, 60, 1, 6), join(unasked(1, indexed(2, 1, []byte{1, 0x81})...), reply(3, 0))},
	}
}

func TestJudgingDNP3DoesNotAllocate(t *testing.T) {
	for name, poll := range dnp3Polls() {
		p := newDNP3Poller(t, poll[0], poll[1])
		if n := testing.AllocsPerRun(500, func() {
			if !p.poll() {
				t.Fatalf("%s: denied as %v", name, p.last.Verdict)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a request and its response", name, n)
		}
	}
}

// A flood of what is denied does not allocate either.
func TestDenyingDNP3DatagramsDoesNotAllocate(t *testing.T) {
	w := newWire(t, dnp3Plan(t, policy.DenyException, dnp3Rules...))
	for name, payload := range map[string][]byte{
		"control":   ask(1, dnp3.DirectOperate, indexed(12, 1, trip(9))...),
		"malformed": ask(1, dnp3.DirectOperate, 12, 1, 6),
		"garbage":   []byte("garbage"),
	} {
		ip, err := frame.AppendUDP(nil, clientEnd, deviceEnd, payload)
		if err != nil {
			t.Fatal(err)
		}
		pkt := Packet{Time: w.now, Key: testKey, From: policy.SideB, IP: ip}
		if n := testing.AllocsPerRun(500, func() {
			if j := w.pipeline.Judge(&pkt); j.Verdict.Allows() && j.Payload == nil || j.Verdict.Reason == verdict.ReasonNone {
				t.Fatalf("%s: %v", name, j.Verdict)
			}
		}); n > 8 { // taking a packet apart to edit it
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkJudgeDNP3(b *testing.B) {
	for name, poll := range dnp3Polls() {
		b.Run(name, func(b *testing.B) {
			p := newDNP3Poller(b, poll[0], poll[1])
			b.ReportAllocs()
			for b.Loop() {
				if !p.poll() {
					b.Fatal("denied")
				}
			}
		})
	}
}
