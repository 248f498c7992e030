package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/plant"
)

// TestDaemonGoesFirst holds that the threads of a running daemon, those of its verdict loops among
// them, run before others: by their niceness, or real-time where this machine is busy.
func TestDaemonGoesFirst(t *testing.T) {
	p := lay(t, plant.Options{})
	stats, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p.Daemon.PID()), "task", "*", "stat"))
	if err != nil || len(stats) == 0 {
		t.Fatalf("the daemon's threads: %v, %v", stats, err)
	}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The fields behind the name, which is in parentheses and the second of all.
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		nice, priority, class := fields[19-3], fields[40-3], fields[41-3]
		realTime := class == strconv.Itoa(realTimeClass) && priority == strconv.Itoa(realTimePriority)
		if nice != strconv.Itoa(niceness) && !realTime {
			t.Errorf("%s: nice %s, scheduling class %s, priority %s", file, nice, class, priority)
		}
	}
}
