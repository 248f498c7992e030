package main

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// TestInvariant06_Evasion36_FloodDoesNotOpenTheGate is EVASIONS 36: somebody fills the queue of a conduit
// that opens in an outage, and slips writes in. Overload is no outage.
func TestInvariant06_Evasion36_FloodDoesNotOpenTheGate(t *testing.T) {
	p := lay(t, plant.Options{
		Policy: outageSite(),
		// The heartbeat is not what is tried here, and this machine may be busy.
		Settings: []string{"queue_length: 16", longHeartbeat},
	})
	device := startStation(t, p.Filler, openPort)
	stop := flood(t, p)
	denied := mbap(2, 1, writeRegister(100, 1))
	for range 40 {
		conn, err := trySocket(p.HMI, p.Filler, openPort, 500*time.Millisecond)
		if err != nil {
			continue // lost in the flood
		}
		_, _ = conn.Write(denied)
		_ = awaitReset(conn, 100*time.Millisecond)
		conn.Close()
	}
	stop()
	calls := device.all()
	if len(calls) == 0 {
		t.Error("not one connection was made: nothing was tried")
	}
	for _, c := range calls {
		neverComplete(t, c, nil, denied)
	}
	var status api.Status
	eventually(t, "the queue or the flood's share of it to be told as full, without which nothing was tried", func() bool {
		var err error
		if status, err = p.Status(); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(status.Queues, func(q api.QueueStatus) bool { return q.Dropped > 0 }) ||
			slices.ContainsFunc(status.Warnings, func(w string) bool { return strings.Contains(w, "as many waiting as one identity may") })
	})
	eventually(t, "it to be told as a failure", func() bool { return failureOf(t, p, outage.QueueFull).Count > 0 })
	if s := status.Outage; s.State != api.StateInspecting || s.UninspectedFrames != 0 {
		t.Errorf("the outage is told as %+v", s)
	}
	if err := ask(socketTo(t, p.HMI, p.Filler, openPort), mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
		t.Errorf("a lawful request after the flood: %v", err)
	}
}

// flood sends acknowledgments of a connection as fast as it can, until the function that it
// returns is called.
func flood(t *testing.T, p *plant.Plant) (stop func()) {
	t.Helper()
	c := newConversation(false, 40000, openPort)
	var frames [][]byte
	for range 64 {
		frames = append(frames, c.frame(t, policy.SideB, frame.FlagACK, nil))
	}
	quit := make(chan struct{})
	var group sync.WaitGroup
	for range 2 {
		tap, err := p.Lab.Tap(p.HMI, testnet.HostInterface)
		if err != nil {
			t.Fatal(err)
		}
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
					_ = tap.Send(frames[i%len(frames)]) // one that finds no room is as good
				}
			}
		}()
	}
	stop = sync.OnceFunc(func() { close(quit); group.Wait() })
	t.Cleanup(stop)
	return stop
}
