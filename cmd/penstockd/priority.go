package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A verdict loop that waits for a processor holds up the line, and looks like an outage. So the
// daemon's threads are of the least real-time priority: niceness alone leaves them waiting for longer
// than a heartbeat may pause where the rest of the box is busy, because it weighs a session's
// processes against each other, not against those of other sessions. The kernel keeps a part of each
// second for programs that are not real-time (sched_rt_runtime_us).
const (
	schedulingClass  = unix.SCHED_RR
	realTimePriority = 1
	niceness         = -15 // where the kernel refuses the other
)

// raisePriority raises every thread that there is; those to come inherit it. An error says that there
// was less to be had than wanted.
func raisePriority() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list the daemon's threads: %w", err)
	}
	var refused error
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := raiseThread(id); err != nil && !errors.Is(err, unix.ESRCH) {
			refused = err
		}
	}
	return refused
}

func raiseThread(id int) error {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedulingClass, Priority: realTimePriority}
	err := unix.SchedSetAttr(id, attr, 0)
	if err == nil {
		return nil
	}
	// Some kernels give real time to a group of processes only where somebody has set aside some.
	return errors.Join(fmt.Errorf("make the daemon real-time: %w", err), unix.Setpriority(unix.PRIO_PROCESS, id, niceness))
}
