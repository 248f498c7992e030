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
// them, run before others.
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
		// The fields behind the name, which is in parentheses; nice is the 19th of all.
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		if nice := fields[16]; nice != strconv.Itoa(niceness) {
			t.Errorf("%s: nice %s, want %d", file, nice, niceness)
		}
	}
}
