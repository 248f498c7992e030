package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestInvariant06GarbageCollectionIsNoOutage has the runtime collect garbage without a pause, in a heap of a million
// objects, while both kinds of conduit are polled: nobody waits for a verdict for as long as a heartbeat may be old, and
// no outage begins. A collector that stopped the loops for longer would show as one: the last row has one that does.
func TestInvariant06GarbageCollectionIsNoOutage(t *testing.T) {
	for _, row := range []struct {
		name    string
		disturb func(*plant.Disturbance, bool)
		least   int // collections
		outage  bool
	}{{"garbage", (*plant.Disturbance).Litter, 20, false}, {"standstill", (*plant.Disturbance).StandStill, 2, true}} {
		t.Run(row.name, func(t *testing.T) {
			p, d := layDisturbed(t, plant.Options{Policy: outageSite()})
			startStation(t, p.Filler, openPort)
			startStation(t, p.Filler, closedPort)
			conns := []net.Conn{socketTo(t, p.HMI, p.Filler, openPort), socketTo(t, p.HMI, p.Filler, closedPort)}
			// A machine that has too much else to do takes the processor from the loops, too. It does not each time.
			for try := 1; ; try++ {
				row.disturb(d, true)
				fault := litterDisturbs(t, p, d, conns, row.least, row.outage)
				row.disturb(d, false)
				if fault == "" {
					return
				}
				if try == litterTries {
					t.Fatal(fault)
				}
				t.Log(fault)
			}
		})
	}
}

const litterTries = 4

// litterDisturbs polls a daemon with litter, and returns what is not as it is to be: with an outage, or without.
func litterDisturbs(t *testing.T, p *plant.Plant, d *plant.Disturbance, conns []net.Conn, least int, outage bool) (fault string) {
	t.Helper()
	var watched []*crossings
	for _, port := range []uint16{openPort, closedPort} {
		watched = append(watched, watchCrossings(t, p.HMI, port), watchCrossings(t, p.Filler, port))
	}
	first, before, polls := outageOf(t, p), d.Collections(), 0
	began := time.Now()
	for ; time.Since(began) < 4*time.Second || polls < enoughPolls && time.Since(began) < patience; polls++ {
		if err := ask(conns[polls%2], mbap(uint16(polls), 1, readRegisters(0, 4)), patience); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	if n := d.Collections() - before; n < least {
		return fmt.Sprintf("%d collections, want %d at least", n, least)
	}
	if polls < enoughPolls {
		return fmt.Sprintf("%d polls in %v", polls, time.Since(began))
	}
	slowest := max(slowestWay(t, watched[0], watched[1]), slowestWay(t, watched[2], watched[3]))
	last := outageOf(t, p)
	seconds, frames := last.UninspectedSeconds-first.UninspectedSeconds, last.UninspectedFrames-first.UninspectedFrames
	const timeout = 100 * time.Millisecond // outage.heartbeat_timeout where nothing else is set
	switch {
	case outage && (seconds < 0.1 || slowest < timeout):
		return fmt.Sprintf("loops that stood still were silent for %v s, and the slowest message took %v: nobody would notice", seconds, slowest)
	case !outage && (seconds != 0 || frames != 0):
		return fmt.Sprintf("%v s and %d frames were uninspected", seconds, frames)
	case !outage && slowest >= timeout:
		return fmt.Sprintf("a message took %v", slowest)
	}
	t.Logf("%d polls, the slowest message took %v", polls, slowest)
	return ""
}

// enoughPolls are as many as slowestWay asks of each of two conduits, and some more.
const enoughPolls = 100

// slowestWay is how long the slowest message took from one host to the other.
func slowestWay(t *testing.T, client, device *crossings) (slowest time.Duration) {
	t.Helper()
	there, here := device.first(t), client.first(t)
	if len(here) < 40 {
		t.Fatalf("%d messages were noted", len(here))
	}
	for m, at := range here {
		if !there[m].IsZero() {
			slowest = max(slowest, at.Sub(there[m]).Abs())
		}
	}
	return slowest
}

// crossings notes when each message of Modbus passes a host's interface, by the kernel's clock: however late the test itself
// gets to run.
type crossings struct {
	fd   int
	port uint16 // of the devices' end
}

// crossing names a message that passes: its transaction, and whether it is a reply.
type crossing struct {
	transaction uint16
	reply       bool
}

func watchCrossings(t *testing.T, h *testnet.Host, port uint16) *crossings {
	t.Helper()
	c := &crossings{port: port}
	err := h.Do(func() (err error) {
		device, err := net.InterfaceByName(testnet.HostInterface)
		if err != nil {
			return err
		}
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		return errors.Join(unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
			unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.fd) })
	return c
}

// first is when each message passed for the first time.
func (c *crossings) first(t *testing.T) map[crossing]time.Time {
	t.Helper()
	list := map[crossing]time.Time{}
	b, oob := make([]byte, 2048), make([]byte, 128)
	for {
		n, oobn, _, _, err := unix.Recvmsg(c.fd, b, oob, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			t.Fatalf("%d times of a frame: %v", len(messages), err)
		}
		at := time.Unix(0, (*unix.Timespec)(unsafe.Pointer(&messages[0].Data[0])).Nano())
		if m, ok := c.message(b[:n]); ok && list[m].IsZero() {
			list[m] = at
		}
	}
}

// message reads an untagged frame of TCP over IPv4 that carries a message.
func (c *crossings) message(b []byte) (m crossing, ok bool) {
	const ethernet, ip = 14, 20
	if len(b) < ethernet+ip+20 || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_IP || b[ethernet] != 0x45 || b[ethernet+9] != unix.IPPROTO_TCP {
		return m, false
	}
	tcp := b[ethernet+ip : min(len(b), ethernet+int(binary.BigEndian.Uint16(b[ethernet+2:])))]
	if len(tcp) < 20 || len(tcp) < int(tcp[12]>>4)*4+7 {
		return m, false
	}
	from, to := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	m.transaction, m.reply = binary.BigEndian.Uint16(tcp[int(tcp[12]>>4)*4:]), from == c.port
	return m, from == c.port || to == c.port
}
