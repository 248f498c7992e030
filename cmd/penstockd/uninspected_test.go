package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/plant/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
)

// uninspectedPort is that of a conduit that opens and carries datagrams: what is denied there ends
// nothing, so that a stream of it shows to the frame when inspection was not at work.
const uninspectedPort = 20000

// stray is a stream of numbered datagrams that are no message of the conduit's protocol: inspection
// lets none of them through, and an open conduit all.
type stray struct {
	from policy.Side
	sent []time.Time // by number: before it was
	gone []time.Time // and after
}

// firstNumber is where the number lies in a frame.
const firstNumber = 14 + 20 + 8

// send sends one about each millisecond until stop is closed.
func (s *stray) send(t *testing.T, w *wire, stop <-chan struct{}) {
	hmi := netip.AddrPortFrom(netip.MustParseAddr("198.18.0.20"), 40000)
	filler := netip.AddrPortFrom(netip.MustParseAddr("198.18.0.10"), uninspectedPort)
	src, dst, from, to := hmiMAC, fillerMAC, hmi, filler
	if s.from == policy.SideA {
		src, dst, from, to = fillerMAC, hmiMAC, filler, hmi
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		payload := binary.BigEndian.AppendUint32(nil, uint32(len(s.sent)))
		ip, err := frame.AppendUDP(nil, from, to, append(payload, "no message of DNP3"...))
		if err != nil {
			t.Error(err)
			return
		}
		at := time.Now()
		if err := w.sendOne(s.from, frame.PrependEthernet(dst, src, nil, frame.EtherTypeIPv4, ip)); err != nil {
			t.Error(err)
			return
		}
		s.sent, s.gone = append(s.sent, at), append(s.gone, time.Now())
		time.Sleep(time.Millisecond)
	}
}

// arrived returns the numbers of those that came out at the other end, in order, and when the first and the
// last one came. Those that waited in the queue as the outage began come beside those sent after.
func (s *stray) arrived(w *wire) (numbers []uint32, first, last time.Time) {
	for _, f := range w.taps[s.from.Other()].Frames() {
		if len(f.Data) > firstNumber+4 && binary.BigEndian.Uint16(f.Data[12:]) == frame.EtherTypeIPv4 {
			numbers = append(numbers, binary.BigEndian.Uint32(f.Data[firstNumber:]))
			if first.IsZero() {
				first = f.At
			}
			last = f.At
		}
	}
	slices.Sort(numbers)
	return numbers, first, last
}

// TestUninspectedIsToldExactly: through outages of every kind, the status counts to the frame what
// passed uninspected in either direction, and tells to 50 ms for how long it could.
func TestUninspectedIsToldExactly(t *testing.T) {
	rules := "rules:\n  - " + dnp3.Rules()[0]
	// With one lane no other is silent for a moment longer than that of the flows that are sent.
	p, w := layWire(t, plant.Options{Settings: []string{"lanes: 1"}, Policy: site{conduits: []string{
		"name: opens\nfrom: [hmi-1]\nto: [filler-plc]\nprotocol: dnp3\nports: [udp/20000]\non_outage: open\non_deny: drop\n" + rules,
	}}.String()})
	hang := func(s syscall.Signal) func(*plant.Plant) error {
		return func(p *plant.Plant) error { return p.Daemon.Signal(s) }
	}
	for _, row := range []struct {
		name       string
		begin, end func(*plant.Plant) error
	}{
		{"hang", hang(syscall.SIGSTOP), hang(syscall.SIGCONT)},
		{"another hang", hang(syscall.SIGSTOP), hang(syscall.SIGCONT)},
		{"kill", (*plant.Plant).Kill, (*plant.Plant).Start},
		{"SIGTERM", (*plant.Plant).Stop, (*plant.Plant).Start},
		{"hang of a daemon that adopted", hang(syscall.SIGSTOP), hang(syscall.SIGCONT)},
		{"kill of a daemon that hangs", func(p *plant.Plant) error { return errors.Join(hang(syscall.SIGSTOP)(p), p.Kill()) }, (*plant.Plant).Start},
	} {
		t.Run(row.name, func(t *testing.T) {
			// On a machine that is busy with other things a daemon that is back may pause once more: frames are
			// exact all the same, times are in one attempt of a few.
			trouble := "none"
			for tries := 0; tries < 4 && trouble != ""; tries++ {
				if trouble = oneOutage(t, p, w, row.begin, row.end); trouble != "" {
					t.Log(trouble)
				}
			}
			if trouble != "" {
				t.Error(trouble)
			}
		})
	}
}

// oneOutage holds what the status says of an outage against what came out, and returns what was not as
// it should be of times, or of the outage itself.
func oneOutage(t *testing.T, p *plant.Plant, w *wire, begin, end func(*plant.Plant) error) (trouble string) {
	t.Helper()
	before := outageOf(t, p)
	frames, least, most, trouble := w.throughOutage(t, p, begin, end)
	eventually(t, "what came out to be told", func() bool {
		return outageOf(t, p).UninspectedFrames-before.UninspectedFrames >= uint64(frames)
	})
	after := outageOf(t, p)
	if got := after.UninspectedFrames - before.UninspectedFrames; got != uint64(frames) {
		t.Errorf("the status says that %d frames passed uninspected, %d came out", got, frames)
	}
	told := time.Duration((after.UninspectedSeconds - before.UninspectedSeconds) * float64(time.Second))
	t.Logf("%d frames in %v to %v, the status says %v", frames, least, most, told)
	switch {
	case trouble != "":
		return trouble
	case told < 300*time.Millisecond:
		return fmt.Sprintf("the status says %v uninspected: the outage has not been one", told)
	case told < least-50*time.Millisecond || told > most+50*time.Millisecond:
		return fmt.Sprintf("the status says %v uninspected, frames came out for %v at least and %v at most", told, least, most)
	}
	return ""
}

func outageOf(t *testing.T, p *plant.Plant) api.OutageStatus {
	t.Helper()
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	return status.Outage
}

// throughOutage sends in both directions before, during and after an outage. It returns how many frames
// came out, and how long they did: at least from the first to the last, and at most from the sending of the
// one before the first came, which did not pass yet, to that of the one after the last, which inspection
// stopped. Trouble is that it was no outage of which none was lost while it lasted, those included that
// waited for a verdict as it began.
func (w *wire) throughOutage(t *testing.T, p *plant.Plant, begin, end func(*plant.Plant) error) (frames int, least, most time.Duration, trouble string) {
	t.Helper()
	for _, tap := range w.taps {
		tap.Clear()
	}
	stop := make(chan struct{})
	var sending sync.WaitGroup
	strays := []*stray{{from: policy.SideB}, {from: policy.SideA}}
	for _, s := range strays {
		sending.Go(func() { s.send(t, w, stop) })
	}
	time.Sleep(300 * time.Millisecond)
	err := begin(p)
	time.Sleep(600 * time.Millisecond)
	if err == nil {
		err = end(p)
	}
	// Until nothing comes out any more, which is when inspection is at work again.
	for last, tries := -1, 0; tries < 50; tries++ {
		time.Sleep(250 * time.Millisecond)
		if now := w.taps[policy.SideA].Count() + w.taps[policy.SideB].Count(); now != last {
			last = now
		} else {
			break
		}
	}
	close(stop)
	sending.Wait()
	w.settle()
	if err != nil {
		t.Fatal(err)
	}
	var from, to, before, after time.Time
	for _, s := range strays {
		numbers, first, last := s.arrived(w)
		frames += len(numbers)
		if len(numbers) == 0 || numbers[0] == 0 || int(numbers[len(numbers)-1]) == len(s.sent)-1 {
			trouble = fmt.Sprintf("from side %v, %d of %d frames came out: want some in the middle", s.from, len(numbers), len(s.sent))
			continue
		}
		lowest, highest := numbers[0], numbers[len(numbers)-1]
		if int(highest-lowest) != len(numbers)-1 {
			trouble = fmt.Sprintf("from side %v, %d frames came out, numbers %d to %d", s.from, len(numbers), lowest, highest)
		}
		for i, n := range numbers[1:] {
			if n == numbers[i] {
				t.Fatalf("from side %v, number %d came out twice", s.from, n)
			}
		}
		waited := s.sent[0]
		for _, at := range s.sent {
			if at.Before(first) {
				waited = at
			}
		}
		from, before = earlier(from, first), earlier(before, waited)
		to, after = later(to, last), later(after, s.gone[highest+1])
	}
	return frames, to.Sub(from), after.Sub(before), trouble
}

// earlier is the earlier of two times, of which the first may be none.
func earlier(a, b time.Time) time.Time {
	if !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
