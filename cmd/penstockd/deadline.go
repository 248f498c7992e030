package main

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// deadline is when something ends, written down for a restart of the daemon by a clock that nobody sets: how long the
// machine will have run. Once the machine was started anew it says nothing, and neither does the zero value.
type deadline struct {
	Boot string        `json:"boot,omitempty"` // the start of the machine that Ends counts from
	Ends time.Duration `json:"ends,omitempty"`
}

// deadlineOf writes an end down, which is a time that compares by the clock that only goes forward, as now is.
func deadlineOf(end, now time.Time) deadline {
	boot, since := sinceBoot()
	if end.IsZero() || boot == "" {
		return deadline{}
	}
	return deadline{Boot: boot, Ends: since + end.Sub(now)}
}

// at is when it ends, if it says so.
func (d deadline) at(now time.Time) (end time.Time, ok bool) {
	boot, since := sinceBoot()
	return now.Add(d.Ends - since), d.Boot != "" && d.Boot == boot
}

// sinceBoot is for how long the machine has run, asleep included, and which start of it that was: "" where the kernel
// does not tell.
func sinceBoot() (boot string, since time.Duration) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var ts unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return "", 0
	}
	return strings.TrimSpace(string(raw)), time.Duration(ts.Nano())
}

// byTheWall is an end as people are told of it, in UTC: by the clock of the wall as it is set now, where that has jumped
// since. A time in UTC compares by that clock alone. Zero stays zero.
func byTheWall(end, now time.Time) time.Time {
	if told := now.Add(end.Sub(now)).UTC(); !end.IsZero() && told.Sub(end.UTC()).Abs() > clockJump {
		return told
	}
	return end.UTC()
}
