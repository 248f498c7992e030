package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
)

// sampleInterval is how often the ports' counters are read: what a gap is told to.
const sampleInterval = time.Millisecond

// gauge reads the kernel's counters of the appliance's ports. It needs no daemon, so that it goes on
// while there is none.
type gauge struct {
	file  *os.File // /proc/net/dev of the ports' network namespace
	ports []string
}

// traffic is what all ports together have received and sent, in frames.
type traffic struct{ received, sent uint64 }

// openGauge opens the counters of ports in a named network namespace; "" is this process's own.
func openGauge(netns string, ports ...string) (*gauge, error) {
	space, err := bridge.OpenNamespace(netns)
	if err != nil {
		return nil, err
	}
	defer space.Close()
	g := &gauge{ports: ports}
	// The file belongs to the namespace in which it was opened, whoever reads it.
	err = space.Do(func() (err error) {
		g.file, err = os.Open("/proc/thread-self/net/dev")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the counters of the ports: %w", err)
	}
	return g, nil
}

func (g *gauge) close() error { return g.file.Close() }

func (g *gauge) read() (t traffic, err error) {
	raw, err := io.ReadAll(io.NewSectionReader(g.file, 0, 1<<20))
	if err != nil {
		return t, fmt.Errorf("read the counters of the ports: %w", err)
	}
	return countersOf(raw, g.ports)
}

// countersOf adds up the counters of ports in the text of /proc/net/dev (proc_net(5)): after the name,
// the second field is frames received, the tenth frames sent.
func countersOf(raw []byte, ports []string) (t traffic, err error) {
	found := 0
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		name, counters, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		fields := strings.Fields(counters)
		for _, port := range ports {
			if name != port || len(fields) < 10 {
				continue
			}
			received, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return t, fmt.Errorf("read the counters of port %s: %w", port, err)
			}
			sent, err := strconv.ParseUint(fields[9], 10, 64)
			if err != nil {
				return t, fmt.Errorf("read the counters of port %s: %w", port, err)
			}
			t.received += received
			t.sent += sent
			found++
		}
	}
	if found != len(ports) {
		return t, fmt.Errorf("read the counters of the ports: of %s the kernel knows %d", strings.Join(ports, " and "), found)
	}
	return t, nil
}

// reading is what a gauge saw while something was done.
type reading struct {
	traffic               // that came and went meanwhile
	gap     time.Duration // the longest in which nothing was sent
}

// during samples the counters while do runs.
func (g *gauge) during(ctx context.Context, do func(context.Context) error) (r reading, err error) {
	before, err := g.read()
	if err != nil {
		return r, err
	}
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	last, changed := before, time.Now()
	for ended := false; !ended; {
		select {
		case err = <-done:
			ended = true
		case <-tick.C:
		}
		now, failed := g.read()
		if failed != nil {
			if !ended {
				err = <-done
			}
			return r, fmt.Errorf("%w (meanwhile: %v)", failed, err)
		}
		r.gap = max(r.gap, time.Since(changed))
		if now.sent != last.sent {
			last, changed = now, time.Now()
		}
		r.traffic = traffic{now.received - before.received, now.sent - before.sent}
	}
	return r, err
}
