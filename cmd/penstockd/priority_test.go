package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/plant"
)

// TestDaemonGoesFirst holds that the threads of a running daemon, those of its verdict loops among
// them, run before others; where the kernel refuses real time, status says so.
func TestDaemonGoesFirst(t *testing.T) {
	p := lay(t, plant.Options{})
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	refused := slices.ContainsFunc(status.Warnings, func(w string) bool { return strings.Contains(w, "real-time") })
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
		if refused {
			if nice != strconv.Itoa(niceness) {
				t.Errorf("%s: nice %s, want %d", file, nice, niceness)
			}
			continue
		}
		if class != strconv.Itoa(schedulingClass) || priority != strconv.Itoa(realTimePriority) {
			t.Errorf("%s: scheduling class %s, priority %s, want %d, %d", file, class, priority, schedulingClass, realTimePriority)
		}
	}
}
