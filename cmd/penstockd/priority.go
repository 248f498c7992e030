package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// niceness of the daemon's threads: before everything else on the box that is not real-time. A
// verdict loop that waits for a processor holds up the line, and looks like an outage.
const niceness = -15

// The least of the real-time priorities, for a box that is so busy that niceness does not do: it weighs
// the processes of a session against each other, not those of different sessions. It is no beginning,
// because a loop that comes before the sender of its packet costs each of them a change of threads
// more. The kernel keeps a part of each second for what is not real-time (sched_rt_runtime_us).
const (
	realTimeClass    = unix.SCHED_RR
	realTimePriority = 1
)

// tooLate is the pause between two heartbeats of a loop that had nothing to do which tells that it
// waited for a processor: longer than the kernel's clock stretches the 10 ms that it waits for
// packets, and well within the time-out of heartbeats.
const tooLate = 30 * time.Millisecond

// raisePriority sets the niceness of every thread that there is; those to come inherit it.
func raisePriority() error {
	err := eachThread(func(id int) error { return unix.Setpriority(unix.PRIO_PROCESS, id, niceness) })
	if err != nil {
		return fmt.Errorf("raise the daemon's priority: %w", err)
	}
	return nil
}

// haste makes the daemon real-time, for good, when the first of its verdict loops comes too late: a box
// that has been so busy once may be again, and then nobody would notice in time. Safe for concurrent
// use.
type haste struct {
	once sync.Once
	log  *slog.Logger
}

func (h *haste) make(pause time.Duration) {
	h.once.Do(func() {
		err := eachThread(func(id int) error {
			return unix.SchedSetAttr(id, &unix.SchedAttr{Policy: realTimeClass, Priority: realTimePriority}, 0)
		})
		if err != nil {
			h.log.Warn("a verdict loop waits for a processor, and the daemon cannot be made real-time: inspection may be late", "pause", pause, "error", err)
			return
		}
		h.log.Info("a verdict loop waited for a processor: the daemon is real-time from now on", "pause", pause)
	})
}

func eachThread(f func(id int) error) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list the daemon's threads: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := f(id); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return nil
}
