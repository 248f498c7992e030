package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// The ports of the probed conduits, and how often each probe speaks.
const (
	opensPort    = 502
	closesPort   = 1502
	datagramPort = 4840

	pollInterval  = 10 * time.Millisecond
	plainInterval = 2 * time.Millisecond
	probePatience = 5 * time.Second // a poll that is not answered by then has lost its connection
)

// outagePolicy has a conduit that opens, one that closes, and one of addresses and ports alone.
const outagePolicy = `api_version: penstock/v1
mode: enforce
appliances:
  - name: line-3-gate
    sides: {a: [cell], b: [room]}
zones:
  - {name: room, sl_target: 2}
  - {name: cell, sl_target: 2}
identities:
  - {name: hmi, zone: room, mac: "02:00:00:00:00:20", ip: [198.18.0.20]}
  - {name: plc, zone: cell, mac: "02:00:00:00:00:10", ip: [198.18.0.10]}
conduits:
  - name: opens
    from: [hmi]
    to: [plc]
    protocol: modbus
    ports: [502]
    on_outage: open
    on_deny: reset
    rules: [{functions: [read], units: [1]}]
  - name: closes
    from: [hmi]
    to: [plc]
    protocol: modbus
    ports: [1502]
    on_outage: closed
    on_deny: reset
    rules: [{functions: [read], units: [1]}]
  - {name: plain, from: [hmi], to: [plc], protocol: udp, ports: [4840]}
  - name: cyclic
    from: [hmi]
    to: [plc]
    protocol: enip
    on_outage: open
    rules: [{services: [forward_open, large_forward_open, forward_close], io: {assemblies: [100, 150, 151]}}]
`

// tally is what a probe has seen since it was last asked.
type tally struct {
	longest time.Duration // between two answers
	broken  int           // connections
	lost    int           // datagrams
}

// probe is traffic that goes on while things fail. Only its tally is shared.
type probe struct {
	mu   sync.Mutex
	last time.Time
	seen tally
}

func (p *probe) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.last.IsZero() {
		p.seen.longest = max(p.seen.longest, now.Sub(p.last))
	}
	p.last = now
}

// silentSince reports whether no answer has come since.
func (p *probe) silentSince(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last.Before(t)
}

func (p *probe) broke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.broken++
}

// take returns the tally and begins another. A silence that lasts counts in both.
func (p *probe) take() tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.seen
	if !p.last.IsZero() {
		t.longest = max(t.longest, time.Since(p.last))
	}
	p.seen = tally{}
	return t
}

// poll reads a register over and over in one connection, which it opens anew where it breaks.
func (p *probe) poll(from, to *testnet.Host, port int, done <-chan struct{}) {
	for {
		conn, err := dialFrom(from, to, port, probePatience)
		if err == nil {
			err = p.pollOn(conn, done)
			conn.Close()
		}
		select {
		case <-done:
			return
		default:
		}
		if err != nil {
			p.broke()
			time.Sleep(pollInterval)
		}
	}
}

func (p *probe) pollOn(conn net.Conn, done <-chan struct{}) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	buffer := make([]byte, len(reply))
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
		}
		if err := conn.SetDeadline(time.Now().Add(probePatience)); err != nil {
			return err
		}
		if _, err := conn.Write(request[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, buffer); err != nil {
			return err
		}
		p.answered()
	}
}

func addressOf(h *testnet.Host, port int) string {
	return netip.AddrPortFrom(h.Address(), uint16(port)).String()
}

func dialFrom(from, to *testnet.Host, port int, patience time.Duration) (conn net.Conn, err error) {
	err = from.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", addressOf(to, port), patience)
		return err
	})
	return conn, err
}

// intrude asks for what no rule permits, over and over in connections of its own. What becomes of it
// is told by the device.
func intrude(from, to *testnet.Host, port int, done <-chan struct{}) {
	write := []byte{0, 9, 0, 0, 0, 6, 1, 6, 0, 100, 0, 1}
	for {
		select {
		case <-done:
			return
		case <-time.After(4 * pollInterval):
		}
		conn, err := dialFrom(from, to, port, 300*time.Millisecond)
		if err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		_, _ = conn.Write(write)
		_, _ = conn.Read(make([]byte, 16))
		conn.Close()
	}
}

// stream sends numbered datagrams, and counts those that do not arrive.
func (p *probe) stream(from, to *testnet.Host, port int, done <-chan struct{}) error {
	var in net.PacketConn
	err := to.Do(func() (err error) {
		in, err = net.ListenPacket("udp", addressOf(to, port))
		return err
	})
	if err != nil {
		return fmt.Errorf("listen for datagrams: %w", err)
	}
	var out net.Conn
	err = from.Do(func() (err error) {
		out, err = net.Dial("udp", addressOf(to, port))
		return err
	})
	if err != nil {
		in.Close()
		return fmt.Errorf("send datagrams: %w", err)
	}
	go p.count(in)
	go func() {
		defer in.Close()
		defer out.Close()
		tick := time.NewTicker(plainInterval)
		defer tick.Stop()
		for n := uint64(1); ; n++ {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = out.Write(binary.BigEndian.AppendUint64(nil, n))
			}
		}
	}()
	return nil
}

func (p *probe) count(in net.PacketConn) {
	buffer := make([]byte, 64)
	for next := uint64(1); ; {
		n, _, err := in.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil || n != 8 {
			continue
		}
		number := binary.BigEndian.Uint64(buffer)
		if number < next {
			continue // late
		}
		p.mu.Lock()
		p.seen.lost += int(number - next)
		p.mu.Unlock()
		next = number + 1
		p.answered()
	}
}
