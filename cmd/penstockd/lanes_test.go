package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/settings"
)

// TestRestartWithOtherLanes restarts the daemon with more lanes and with fewer. Connections live on,
// whichever loop judges them afterwards, and each lane's queue has its part of them.
func TestRestartWithOtherLanes(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite(), Settings: []string{"lanes: 1"}})
	device := startStation(t, p.Filler, openPort)
	var conns []*net.TCPConn
	for range 8 {
		conns = append(conns, socketTo(t, p.HMI, p.Filler, openPort))
	}
	for before, lanes := range []int{1, 4, 2} {
		if before > 0 {
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			setLanes(t, p, lanes)
			start(t, p)
		}
		for i, c := range conns {
			for transaction := range uint16(20) {
				if err := ask(c, mbap(transaction, 1, readRegisters(0, 1)), patience); err != nil {
					t.Fatalf("%d lanes, connection %d: %v", lanes, i, err)
				}
			}
		}
		status, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		if len(status.Queues) != 2*lanes {
			t.Errorf("%d queues for %d lanes", len(status.Queues), lanes)
		}
		for i, q := range status.Queues {
			if q.Number != uint16(100+i) {
				t.Errorf("queue %d has the number %d", i, q.Number)
			}
			if opens := datapath.Queue(i).Opens(); (q.Packets > 0) != opens {
				t.Errorf("%d lanes: queue %d has seen %d packets", lanes, q.Number, q.Packets)
			}
		}
		for _, w := range status.Warnings {
			if strings.Contains(w, "belong into another") {
				t.Error(w)
			}
		}
	}
	denied := mbap(99, 1, writeRegister(100, 1))
	call := device.callFrom(t, conns[0])
	lawful := call.bytes()
	if err := ask(conns[0], denied, patience); !wasReset(err) {
		t.Errorf("a denied request after it all: %v, want a reset", err)
	}
	neverComplete(t, call, lawful, denied)
}

func setLanes(t *testing.T, p *plant.Plant, lanes int) {
	t.Helper()
	raw, err := os.ReadFile(p.Config())
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw[:bytes.Index(raw, []byte("lanes: "))], fmt.Sprintf("lanes: %d\n", lanes)...)
	if err := os.WriteFile(p.Config(), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLanesOf holds that lanes are a power of two that the cores can serve.
func TestLanesOf(t *testing.T) {
	if n := lanesOf(&settings.Settings{Lanes: 8}); n != 8 {
		t.Errorf("%d lanes, want those of the settings", n)
	}
	n := lanesOf(&settings.Settings{})
	if n < 1 || n > mark.MaxLanes || n&(n-1) != 0 {
		t.Errorf("%d lanes by default", n)
	}
}

// TestSilencesThatOverlapCountOnce: with several queues, for how long any of them was silent.
func TestSilencesThatOverlapCountOnce(t *testing.T) {
	for _, row := range []struct {
		spans []span
		want  time.Duration
	}{
		{nil, 0},
		{[]span{{5, 9}}, 4},
		{[]span{{5, 9}, {5, 9}, {6, 7}}, 4},
		{[]span{{8, 12}, {5, 9}}, 7},
		{[]span{{20, 30}, {5, 9}, {9, 10}}, 15},
	} {
		if got := covered(row.spans); got != row.want {
			t.Errorf("%v: %d, want %d", row.spans, got, row.want)
		}
	}
}

// TestSilencesAreSettledUpToTheOneThatLasts: what is written down for the next daemon is all that came
// before a silence under way began, and what the two have in common counts with that one.
func TestSilencesAreSettledUpToTheOneThatLasts(t *testing.T) {
	before, after := split([]span{{5, 9}, {8, 20}, {15, 18}, {2, 4}}, 10)
	if !slices.Equal(before, []span{{5, 9}, {8, 10}, {2, 4}}) || !slices.Equal(after, []span{{10, 20}, {15, 18}}) {
		t.Errorf("before: %v, after: %v", before, after)
	}
}

// TestProcessorsForTheLoops holds that the loops, which keep a processor of the runtime while they
// wait, leave one, whatever the environment asks for.
func TestProcessorsForTheLoops(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for _, c := range []struct {
		asked       string
		lanes, want int
	}{
		{"", 2, 4 + runtime.NumCPU()},
		{"2", 2, 5},
		{"4", 2, 5},
		{"7", 2, 7},
	} {
		t.Setenv("GOMAXPROCS", c.asked)
		if n, err := strconv.Atoi(c.asked); err == nil {
			runtime.GOMAXPROCS(n) // as the runtime did at the start
		}
		leaveProcessors(c.lanes)
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("%d lanes, GOMAXPROCS=%q: %d processors, want %d", c.lanes, c.asked, got, c.want)
		}
	}
}
