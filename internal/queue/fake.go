package queue

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// Fake is a queue without a kernel: tests offer packets to it and get the answer that a packet
// in a real queue would get. Handler panics are survived and counted as in a Queue.
type Fake struct {
	counts counters
	beat   func(now time.Time)
	offers chan offer
	stop   chan struct{}
	once   sync.Once
}

type offer struct {
	packet *Packet
	answer chan Answer
}

var _ Source = (*Fake)(nil)

// NewFake returns a fake queue. Beat is called as by a Queue; it may be nil.
func NewFake(beat func(now time.Time)) *Fake {
	if beat == nil {
		beat = func(time.Time) {}
	}
	return &Fake{beat: beat, offers: make(chan offer), stop: make(chan struct{})}
}

// Offer hands a packet to the running handler, waiting for Run if it is not running yet, and
// returns a copy of its answer. An error means that there was no verdict: the fake was closed,
// or ctx ended.
func (f *Fake) Offer(ctx context.Context, p *Packet) (Answer, error) {
	o := offer{packet: p, answer: make(chan Answer, 1)}
	select {
	case f.offers <- o:
		return <-o.answer, nil
	case <-f.stop:
		return Answer{}, ErrClosed
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

// Run implements [Source].
func (f *Fake) Run(ctx context.Context, handle Handler) error {
	select {
	case <-f.stop:
		return ErrClosed
	default:
	}
	j := judge{handle: handle, counts: &f.counts, log: slog.New(slog.DiscardHandler)}
	idle := time.NewTicker(idleWait * time.Microsecond)
	defer idle.Stop()
	for {
		f.beat(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-f.stop:
			return nil
		case <-idle.C:
		case o := <-f.offers:
			o.answer <- f.judge(&j, o.packet)
		}
	}
}

// judge decides as the verdict loop does. The answer outlives the packet, so it is copied.
func (f *Fake) judge(j *judge, p *Packet) Answer {
	f.counts.packets.Add(1)
	p.Received = time.Now()
	a := j.decide(p)
	a.Payload = bytes.Clone(a.Payload)
	return a
}

// Stats implements [Source]. The kernel's counters stay 0.
func (f *Fake) Stats() (Stats, error) { return f.counts.stats(), nil }

// Close implements [Source].
func (f *Fake) Close() error {
	f.once.Do(func() { close(f.stop) })
	return nil
}
