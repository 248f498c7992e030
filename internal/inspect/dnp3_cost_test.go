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

// TestShortSegmentsCostWhatTheyAre: a message in segments of one byte, all in one packet, is put together
// once and not once for each of them.
func TestShortSegmentsCostWhatTheyAre(t *testing.T) {
	message := []byte{0xc1, byte(dnp3.Read)}
	for len(message)+5 <= dnp3.MaxMessage {
		message = append(message, 30, 1, 0, 0, 1)
	}
	b := inSegments(message, 1)
	w := connected(t, dnp3Plan(t, policy.DenyReset, `{functions: [read], outstations: [10], objects: [g30]}`))
	w.client(b)
	w.mustAllow("segments of one byte")
	held := len(w.pipeline.dissectors[policy.ProtocolDNP3].(*dnp3Dissector).bytes)
	if most := len(b) + dnp3.MaxMessage; held > most {
		t.Errorf("%d bytes were copied of a packet of %d", held, len(b))
	}
	w.device(reply(1, 0))
	w.mustAllow("its response")

	w.client(inSegments(append(message, make([]byte, dnp3.MaxMessage)...), 1))
	w.mustDeny("a longer message than there may be", verdict.ReasonMalformed)
}

// inSegments is a request in segments of so many bytes.
func inSegments(message []byte, size int) (b []byte) {
	for at, i := 0, byte(0); at < len(message); i++ {
		end := min(at+size, len(message))
		header := i & 0x3f
		if at == 0 {
			header |= 0x40
		}
		if end == len(message) {
			header |= 0x80
		}
		b = dnp3.AppendFrame(b, fromMaster, outstation, masterStation, append([]byte{header}, message[at:end]...))
		at = end
	}
	return b
}

// TestNothingGoesOnUnjudged: what has come of a message is judged before it leaves, whatever follows it in
// its packet.
func TestNothingGoesOnUnjudged(t *testing.T) {
	control := append([]byte{0xc1, byte(dnp3.DirectOperate)}, indexed(12, 1, trip(9))...)
	data := func(to uint16, header byte, data []byte) []byte {
		return dnp3.AppendFrame(nil, fromMaster, to, masterStation, append([]byte{header}, data...))
	}
	end := indexed(12, 1, latch(1))
	begun, ends := data(outstation, 0x40, control), data(outstation, 0x81, end)
	for name, rest := range map[string][]byte{
		"nothing":                nil,
		"its end":                ends,
		"part of a header":       ends[:5],
		"a header":               ends[:10],
		"part of a segment":      ends[:len(ends)-1],
		"another station":        data(11, 0xc0, []byte{0xc1, byte(dnp3.Read), 60, 1, 6}),
		"a frame without data":   dnp3.AppendFrame(nil, 0xc9, outstation, masterStation, nil),
		"another message":        data(outstation, 0xc1, []byte{0xc1, byte(dnp3.Read), 60, 1, 6}),
		"a segment out of order": data(outstation, 0x82, end),
		"a segment with a false CRC": func() []byte {
			b := append([]byte(nil), ends...)
			b[len(b)-1] ^= 1
			return b
		}(),
	} {
		w := connected(t, dnp3Plan(t, policy.DenyReset, append(dnp3Rules, `{functions: [read], outstations: [11]}`)...))
		w.client(join(begun, rest))
		if w.last.Verdict.Allows() {
			t.Errorf("%s behind a denied control: permitted", name)
		}
		w.mustNotAct(name)
	}
}
