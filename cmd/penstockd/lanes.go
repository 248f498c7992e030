package main

import (
	"os"
	"runtime"

	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/settings"
)

// lanesOf returns how many lanes the settings ask for: by default as many as there are cores to
// judge, or the next lower power of two.
func lanesOf(s *settings.Settings) int {
	if s.Lanes > 0 {
		return s.Lanes
	}
	lanes := 1
	for 2*lanes <= min(runtime.NumCPU(), mark.MaxLanes) {
		lanes *= 2
	}
	return lanes
}

// queuesOf are the queues of so many lanes, in the order of their numbers.
func queuesOf(lanes int) []datapath.Queue {
	list := make([]datapath.Queue, 2*lanes)
	for i := range list {
		list[i] = datapath.Queue(i)
	}
	return list
}

// leastShare lets a handshake through beside other traffic of its sender.
const leastShare = 4

// queueShare is how many packets of one identity may wait in a queue that holds so many: a quarter,
// the share that one identity may have of everything.
func queueShare(length uint32) uint32 { return max(length/4, leastShare) }

// leaveProcessors lets more goroutines run at once than there are cores: a verdict loop that waits
// in the kernel keeps its processor, as the runtime calls it. The environment may ask for another
// number, but one has to be left for everything else.
func leaveProcessors(lanes int) {
	loops := len(queuesOf(lanes))
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(loops + runtime.NumCPU())
	} else if runtime.GOMAXPROCS(0) <= loops {
		runtime.GOMAXPROCS(loops + 1)
	}
}
