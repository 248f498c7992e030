package main

import (
	"fmt"
	"time"

	"github.com/penstock-ot/penstock/internal/plant/cipio"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// Cyclic I/O beside the probes: how often each end speaks, and the watchdog, 64 intervals.
const (
	ioInterval   = 5 * time.Millisecond
	ioMultiplier = 4
)

// ioProbe is a cyclic I/O connection that goes on while things fail, and is opened anew where its
// watchdog ends it. It belongs to one goroutine.
type ioProbe struct {
	adapter *cipio.Adapter
	station *cipio.Station
	scanner *cipio.Scanner
	open    *cipio.Connection
	target  *testnet.Host
	lost    int // that had been lost when it was last asked
}

// layIO opens the connection between the two ends of a line.
func (b *bench) layIO(l *testnet.Lab) (*ioProbe, error) {
	p := &ioProbe{target: l.Cell}
	var err error
	if p.adapter, err = cipio.StartAdapter(l.Cell, l.Cell.Address()); err != nil {
		return nil, err
	}
	b.env.Cleanup(p.adapter.Close)
	if p.station, err = cipio.NewStation(l.Plant, l.Plant.Address()); err != nil {
		return nil, err
	}
	b.env.Cleanup(p.station.Close)
	return p, p.connect()
}

func (p *ioProbe) connect() error {
	if p.scanner != nil {
		p.scanner.Close()
	}
	var err error
	if p.scanner, err = p.station.Connect(p.target.Address()); err != nil {
		return fmt.Errorf("connect for I/O: %w", err)
	}
	if p.open, err = p.scanner.Open(cipio.Options{Interval: ioInterval, Multiplier: ioMultiplier}); err != nil {
		return fmt.Errorf("open I/O: %w", err)
	}
	p.lost = 0
	return nil
}

// take returns how many frames to the scanner never came since the last call, and how many connections
// ended.
func (p *ioProbe) take() (lost, ended int) {
	if p.open == nil || p.open.Expired() {
		p.open = nil
		_ = p.connect() // or the next time
		return 0, 1
	}
	now := p.open.Received().Lost
	lost, p.lost = now-p.lost, now
	return lost, 0
}
