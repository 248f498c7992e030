package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
)

// poller repeats one request and its reply on a connection.
type poller struct {
	*wire
	question, answer []byte
	request, reply   Packet
}

func newPoller(t testing.TB) *poller {
	w := connected(t, readPlan(t, policy.DenyReset))
	return &poller{
		wire: w, question: readRequest(1), answer: readReply(1),
		request: Packet{Time: w.now, Key: testKey, From: policy.SideB},
		reply:   Packet{Time: w.now, Key: testKey, From: policy.SideA},
	}
}

// poll builds and judges both packets.
func (p *poller) poll() bool {
	t := frame.TCPPacket{Flags: frame.FlagACK | frame.FlagPSH, Window: 8192}
	t.Src, t.Dst, t.Seq, t.Ack, t.Payload = clientEnd, deviceEnd, p.seq[0], p.seq[1], p.question
	p.request.IP, _ = frame.AppendTCP(p.request.IP[:0], &t)
	p.seq[0] += uint32(len(p.question))
	if !p.pipeline.Judge(&p.request).Verdict.Allows() {
		return false
	}
	t.Src, t.Dst, t.Seq, t.Ack, t.Payload = deviceEnd, clientEnd, p.seq[1], p.seq[0], p.answer
	p.reply.IP, _ = frame.AppendTCP(p.reply.IP[:0], &t)
	p.seq[1] += uint32(len(p.answer))
	return p.pipeline.Judge(&p.reply).Verdict.Allows()
}

func TestJudgingAPollDoesNotAllocate(t *testing.T) {
	p := newPoller(t)
	if n := testing.AllocsPerRun(1000, func() {
		if !p.poll() {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a request and its reply", n)
	}
}

func BenchmarkJudgePoll(b *testing.B) {
	p := newPoller(b)
	b.ReportAllocs()
	for b.Loop() {
		if !p.poll() {
			b.Fatal("denied")
		}
	}
}
