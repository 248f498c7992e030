package queue

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func TestFake(t *testing.T) {
	var beats atomic.Int64
	f := NewFake(func(time.Time) { beats.Add(1) })
	ended := make(chan error, 1)
	go func() {
		ended <- f.Run(context.Background(), func(p *Packet) Answer {
			switch p.ID {
			case 1:
				return Answer{Accept: true, Mark: 5}
			case 2:
				return Answer{Accept: true, Payload: p.Payload}
			case 3:
				return Answer{Accept: true, Payload: []byte{1}}
			case 4:
				panic("four")
			}
			return Answer{}
		})
	}()
	for _, test := range []struct {
		id   uint32
		want Answer
	}{{1, Answer{Accept: true, Mark: 5}}, {2, Answer{Accept: true, Payload: make([]byte, 20)}}, {3, Answer{}}, {4, Answer{}}, {5, Answer{}}} {
		a, err := f.Offer(context.Background(), &Packet{ID: test.id, Payload: make([]byte, 20)})
		if err != nil || a.Accept != test.want.Accept || a.Mark != test.want.Mark || len(a.Payload) != len(test.want.Payload) {
			t.Errorf("packet %d: %+v, %v; want %+v", test.id, a, err, test.want)
		}
	}
	s, err := f.Stats()
	if want := (Stats{Packets: 5, Accepted: 2, Dropped: 3, Edited: 1, Panics: 1, BadEdits: 1}); err != nil || s != want {
		t.Errorf("stats %+v, %v; want %+v", s, err, want)
	}
	if beats.Load() < 5 {
		t.Errorf("%d beats for 5 packets", beats.Load())
	}
	must(t, f.Close())
	must(t, f.Close())
	must(t, <-ended)
	if _, err := f.Offer(context.Background(), &Packet{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Offer = %v, want ErrClosed", err)
	}
	if err := f.Run(context.Background(), pass); !errors.Is(err, ErrClosed) {
		t.Errorf("Run = %v, want ErrClosed", err)
	}
}
