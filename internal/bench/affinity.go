package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// sendingCore is where frames are made and everything is pinned to, away from the first core,
// which machines tend to give their interrupts to.
func sendingCore() int {
	_, last := outerCores()
	return last
}

// outerCores are the first and the last core that this program may run on, which may be one.
func outerCores() (first, last int) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return 0, 0
	}
	first = -1
	for cpu := range 1024 {
		if !all.IsSet(cpu) {
			continue
		}
		if first < 0 {
			first = cpu
		}
		last = cpu
	}
	return max(first, 0), last
}

// pinThread keeps a thread, 0 for the calling one, on one core.
func pinThread(id, core int) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(id, &set); err != nil {
		return fmt.Errorf("keep thread %d on core %d: %w", id, core, err)
	}
	return nil
}

// pinProcess keeps every thread of a process on the cores of the set. Threads that it starts
// later inherit it.
func pinProcess(pid int, set *unix.CPUSet) error {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return fmt.Errorf("list the threads of process %d: %w", pid, err)
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("choose cores for thread %d of process %d: %w", id, pid, err)
		}
	}
	return nil
}
