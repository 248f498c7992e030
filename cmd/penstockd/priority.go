package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceness of the daemon's threads: before everything else on the box that is not real-time. A
// verdict loop that waits for a processor holds up the line, and looks like an outage.
const niceness = -15

// raisePriority sets the niceness of every thread that there is; those to come inherit it.
func raisePriority() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list the daemon's threads: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, niceness); err != nil && err != unix.ESRCH {
			return fmt.Errorf("raise the daemon's priority: %w", err)
		}
	}
	return nil
}
