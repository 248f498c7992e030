package replay

import (
	"io"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/stream"
)

// messagesPerFrame bounds what one captured frame can hold: a segment of the largest size full
// of the shortest messages.
const messagesPerFrame = 1 << 13

// sweepEvery is how often idle connections are forgotten, in the time of the capture.
const sweepEvery = 30 * time.Second

// player feeds captured frames to a pipeline. It is the pipeline's source of flows.
type player struct {
	decoder       frame.Decoder
	frame         frame.Frame
	pipeline      *inspect.Pipeline
	conversations map[name]*conversation
	flows         []*conversation // by key
	swept         time.Time
	inline        bool // judge as if every packet could be held; for tests
}

func newPlayer() *player {
	p := &player{conversations: map[name]*conversation{}}
	p.pipeline = inspect.New(inspect.Config{
		Flows: p, Limits: inspect.Limits{Messages: messagesPerFrame, Connections: 1 << 20},
	})
	return p
}

// Flow returns the flow of a conversation.
func (p *player) Flow(key uint64) (inspect.Flow, bool) {
	if key >= uint64(len(p.flows)) {
		return inspect.Flow{}, false
	}
	return p.flows[key].flow, true
}

// Generation is constant: a replay has one plan.
func (p *player) Generation() uint64 { return 1 }

// play reads a capture and calls each with every frame in order; p.frame holds it decoded as far
// as it can be, and err says where that ended.
func (p *player) play(path string, each func(r *frame.Record, err error) error) error {
	capture, err := frame.OpenCapture(path)
	if err != nil {
		return err
	}
	defer capture.Close()
	for {
		record, err := capture.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(&record, p.decoder.Record(&record, &p.frame)); err != nil {
			return err
		}
		p.sweep(record.Time)
	}
}

func (p *player) sweep(now time.Time) {
	if now.Sub(p.swept) >= sweepEvery {
		p.pipeline.Sweep(now, nil)
		p.swept = now
	}
}

// conversation finds or begins the conversation of the decoded frame. A SYN that contradicts
// what was taken for the initiator begins another one.
func (p *player) conversation() (c *conversation, d stream.Direction, fresh bool) {
	f := &p.frame
	n, lowSends := nameOf(f)
	shows, sender := opens(f)
	c = p.conversations[n]
	if c == nil || shows && c.lowInitiates != (lowSends == sender) {
		if !shows {
			sender = presumedInitiator(f)
		}
		c = &conversation{key: uint64(len(p.flows)), lowInitiates: lowSends == sender}
		p.conversations[n] = c
		p.flows = append(p.flows, c)
		fresh = true
	}
	return c, c.direction(lowSends), fresh
}

// directionOf returns which end of its conversation sent the decoded frame.
func (p *player) directionOf(c *conversation) stream.Direction {
	_, lowSends := nameOf(&p.frame)
	return c.direction(lowSends)
}

// judge passes the decoded frame through the pipeline.
func (p *player) judge(r *frame.Record, c *conversation, d stream.Direction) inspect.Judgement {
	return p.pipeline.Judge(&inspect.Packet{
		Time: r.Time, Key: c.key, From: c.side(d), IP: p.frame.IP, Observed: !p.inline,
		ChecksumNotReady: c.believe(d, &p.frame),
	})
}
