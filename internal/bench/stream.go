package main

import (
	"time"

	"github.com/penstock-ot/penstock/internal/datapath/pktgen"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// burst is how many frames a stream sends at a time: few enough for a virtual port's ring, which
// others use too.
const burst = 50

// stream is a generator at work at a fixed rate, on the core that everything is sent from.
type stream struct {
	end  chan struct{}
	done chan error
}

// startStream sends so many frames a second until it is stopped.
func startStream(g *pktgen.Generator, from testnet.Place, rate int) *stream {
	s := &stream{end: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		s.done <- from.Do(func() error {
			if err := hurry(); err != nil {
				return err
			}
			return s.send(g, rate)
		})
	}()
	return s
}

// send keeps to the rate over the whole time: what a late burst missed, the next ones catch up
// with, one at a time.
func (s *stream) send(g *pktgen.Generator, rate int) error {
	interval := time.Duration(burst) * time.Second / time.Duration(rate)
	for next := time.Now(); ; next = next.Add(interval) {
		select {
		case <-s.end:
			return nil
		case <-time.After(time.Until(next)):
		}
		if _, err := g.Send(burst); err != nil {
			return err
		}
	}
}

// stop ends the stream and returns what went wrong with it.
func (s *stream) stop() error {
	close(s.end)
	return <-s.done
}
