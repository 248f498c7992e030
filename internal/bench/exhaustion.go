package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// exhaustions are failures by having too much to do or too little to do it with. They come last: what
// filled the flow table stays there until it has been idle for long enough.
func exhaustions() []injection {
	return []injection{
		{name: "out of memory, and a start", harm: (*outages).starve, limit: gapLimit},
		{name: "flood of an inspected conduit (queue full)", harm: (*outages).fillQueue, limit: gapLimit, stops: true},
		{name: "no room for the kernel's messages, and a flood (netlink errors)", harm: (*outages).narrowQueues, limit: gapLimit, stops: true},
		{name: "datagrams from 60,000 ports (flow table full)", harm: (*outages).fillTable, limit: gapLimit, stops: true},
	}
}

const (
	queueFlood   = 300 * time.Millisecond
	tablePorts   = 60_000
	firstPort    = 2048
	leanBytes    = 1 << 20 // what a starved daemon may still take
	amplyBytes   = 1 << 30 // and what it has otherwise
	starvingTime = 20 * time.Second
)

// fillQueue sends segments of a connection that nobody opened through the conduit that opens, faster
// than they can be judged.
func (o *outages) fillQueue() error {
	ip, err := frame.AppendTCP(nil, &frame.TCPPacket{
		Src: netip.AddrPortFrom(o.plant.HMI.Address(), firstPort), Dst: netip.AddrPortFrom(o.plant.Filler.Address(), opensPort),
		Seq: 1, Ack: 1, Flags: frame.FlagACK, Window: 501,
	})
	if err != nil {
		return err
	}
	segment := frame.PrependEthernet(targetMAC, attackerMAC, nil, frame.EtherTypeIPv4, ip)
	return o.fromTap(func(tap *testnet.Tap) error {
		for began := time.Now(); time.Since(began) < queueFlood; {
			_ = tap.Send(segment) // one that finds no room is as good
		}
		return nil
	})
}

// narrowQueues floods likewise while the kernel has no room for its messages to the daemon.
func (o *outages) narrowQueues() error {
	widen, err := plant.NarrowQueues(o.plant.Daemon.PID())
	if err != nil {
		return err
	}
	return errors.Join(o.fillQueue(), widen())
}

// fillTable begins a flow of the plain conduit from every port that an address has to give.
func (o *outages) fillTable() error {
	return o.fromTap(func(tap *testnet.Tap) error {
		for n := range uint16(tablePorts) {
			ip, err := frame.AppendUDP(nil, netip.AddrPortFrom(o.plant.HMI.Address(), firstPort+n),
				netip.AddrPortFrom(o.plant.Filler.Address(), datagramPort), []byte("full"))
			if err != nil {
				return err
			}
			_ = tap.Send(frame.PrependEthernet(targetMAC, attackerMAC, nil, frame.EtherTypeIPv4, ip))
		}
		return nil
	})
}

// fromTap sends frames at the end of the client.
func (o *outages) fromTap(send func(*testnet.Tap) error) error {
	tap, err := o.plant.Lab.Tap(o.plant.HMI, testnet.HostInterface)
	if err != nil {
		return err
	}
	return errors.Join(send(tap), tap.Close())
}

// starve takes the daemon's memory away until the kernel kills it, and gives it back to the next one.
func (o *outages) starve() error {
	daemon := o.plant.Daemon
	if err := o.memory.enter(daemon.PID()); err != nil {
		return err
	}
	if err := o.memory.limit(leanBytes); err != nil {
		return err
	}
	for deadline := time.Now().Add(starvingTime); ; {
		select {
		case <-daemon.Done():
			o.plant.Daemon = nil
			return errors.Join(o.memory.limit(amplyBytes), o.plant.Start())
		default:
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("the kernel let the daemon live without memory"), o.memory.limit(amplyBytes))
		}
		_, _ = o.plant.Status() // which takes memory
	}
}

// memory is a control group below that of this process, in which the kernel counts memory
// (Documentation/admin-guide/cgroup-v2.rst, memory.max; cgroup-v1/memory.rst, memory.limit_in_bytes).
type memory struct{ dir, file string }

// layMemory makes one; its error says why that cannot be.
func (b *bench) layMemory() (*memory, error) {
	const root = "/sys/fs/cgroup"
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) { // "4:memory:/path", or "0::/path" of version 2
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		m := &memory{file: "memory.max"}
		switch {
		case len(fields) < 3:
			continue
		case fields[1] == "memory":
			m = &memory{filepath.Join(root, "memory", fields[2]), "memory.limit_in_bytes"}
		case fields[0] == "0":
			m.dir = filepath.Join(root, fields[2])
		default:
			continue
		}
		m.dir = filepath.Join(m.dir, fmt.Sprintf("penstock-bench-%d", os.Getpid()))
		if err := os.Mkdir(m.dir, 0o755); err != nil {
			continue
		}
		if err := m.limit(amplyBytes); err != nil {
			os.Remove(m.dir)
			continue
		}
		b.env.Cleanup(func() { b.complain("remove the control group", os.Remove(m.dir)) })
		return m, nil
	}
	return nil, errors.New("no control group for memory can be made below that of this process")
}

func (m *memory) enter(pid int) error { return m.write("cgroup.procs", strconv.Itoa(pid)) }

// limit is in bytes. Version 1 refuses one below what is in use, which is as low as it goes.
func (m *memory) limit(n int) error { return m.write(m.file, strconv.Itoa(n)) }

func (m *memory) write(name, text string) error {
	return os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0)
}
