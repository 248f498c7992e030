package main

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// niceness of the daemon's threads: before everything else on the box that is not real-time. A
// verdict loop that waits for a processor holds up the line, and looks like an outage. More weight
// would not bring it there sooner, and has the kernel keep a core for the daemon's threads, so that each
// packet and each verdict wakes a core that sleeps.
const niceness = -4

// The least of the real-time priorities, for a box that is so busy that niceness does not do: it weighs
// the processes of a session against each other, not those of different sessions. It is no beginning,
// because a real-time loop interrupts the sender of its packet in the middle of the call that sends it,
// which costs both of them time. The kernel keeps a part of each second for what is not real-time (sched_rt_runtime_us).
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

const (
	// leastCalm is how long a box has to be calm before a real-time daemon is an ordinary one again.
	leastCalm = 10 * time.Second
	// mostCalm bounds the calm that is asked for, which doubles each time that it did not last.
	mostCalm = 10 * time.Minute
	// lasting is how many times as long as it was asked for a calm has to last for the next one to be
	// asked for leastCalm again.
	lasting = 10
	// lookout is how long the thread that looks for calm sleeps at a time. The runtime takes its processor from
	// it after 10 ms of that, and its monitor wakes some sixty times afterwards, every 20 µs at first, in the
	// middle of whatever a core does: a frame on its way is late then. So the thread sleeps long.
	lookout = 100 * time.Millisecond
	// waited is how much later than that the thread comes where it waited for a processor.
	waited = 10 * time.Millisecond
)

// haste makes the daemon real-time when one of its verdict loops comes too late, and takes it back when
// a thread that is not real-time has come in time for a while: the loops themselves cannot tell by
// then. A box that is busy now and then is asked for a longer calm each time. make is safe for
// concurrent use; run is one goroutine.
type haste struct {
	log  *slog.Logger
	made atomic.Bool
	late chan struct{} // a value for each time that make has made the daemon real-time

	// What the tests replace.
	raise, lower func() error
	calm         func(long time.Duration, done <-chan struct{}) bool
}

func newHaste(log *slog.Logger) *haste {
	return &haste{log: log, late: make(chan struct{}, 1), raise: makeRealTime, lower: makeOrdinary, calm: awaitCalm}
}

func (h *haste) make(pause time.Duration) {
	if !h.made.CompareAndSwap(false, true) {
		return
	}
	if err := h.raise(); err != nil { // and never tried again
		h.log.Warn("a verdict loop waits for a processor, and the daemon cannot be made real-time: inspection may be late", "pause", pause, "error", err)
		return
	}
	h.log.Info("a verdict loop waited for a processor: the daemon is real-time until the box is calm", "pause", pause)
	h.late <- struct{}{}
}

// run takes the daemon back each time, until done is closed.
func (h *haste) run(done <-chan struct{}) {
	long := leastCalm
	var back time.Time
	for {
		select {
		case <-done:
			return
		case <-h.late:
		}
		long = nextCalm(long, back, time.Now())
		if !h.calm(long, done) {
			return
		}
		if err := h.lower(); err != nil { // it stays as it is, which costs time and is no danger
			h.log.Warn("the box is calm, and the daemon cannot be taken back from real time", "error", err)
			return
		}
		back = time.Now()
		h.made.Store(false)
		h.log.Info("the box is calm: the daemon is not real-time any more", "calm", long)
	}
}

// nextCalm is for how long a box has to be calm that was too busy now, after it had been asked for
// before and the daemon taken back then; back is zero the first time.
func nextCalm(before time.Duration, back, now time.Time) time.Duration {
	if back.IsZero() || now.Sub(back) > lasting*before {
		return leastCalm
	}
	return min(2*before, mostCalm)
}

// awaitCalm returns true when a thread as the daemon's are by default has come in time for so long, and
// false when done is closed before.
func awaitCalm(long time.Duration, done <-chan struct{}) bool {
	calm := make(chan bool, 1)
	go func() {
		runtime.LockOSThread() // for good, so that the thread ends with the goroutine
		calm <- isCalm(long, done)
	}()
	return <-calm
}

// isCalm sleeps in the kernel, with the runtime's knowledge: a thread that comes late holds nothing then
// that the verdict loops could wait for.
func isCalm(long time.Duration, done <-chan struct{}) bool {
	if err := setOrdinary(0); err != nil {
		<-done
		return false
	}
	for since := time.Now(); time.Since(since) < long; {
		select {
		case <-done:
			return false
		default:
		}
		before := time.Now()
		_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(lookout)}, nil) // a signal only makes it shorter
		if time.Since(before) > lookout+waited {
			since = time.Now()
		}
	}
	return true
}

func makeRealTime() error {
	return eachThreadAtOnce(unix.SchedAttr{Policy: realTimeClass, Priority: realTimePriority})
}

func makeOrdinary() error { return eachThreadAtOnce(ordinary) }

var ordinary = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: niceness}

func setOrdinary(id int) error {
	attr := ordinary
	return unix.SchedSetAttr(id, &attr, 0)
}

// eachThreadAtOnce gives every thread a class. Until all have it, real-time ones may wait in a loop for one that is
// not, and that finds no processor because of them but for a twentieth of each second, which the kernel keeps for
// others. So the calling thread goes before all of them meanwhile, and goes round until none is left without the
// class: one that began meanwhile may be the child of one that it had not come to.
func eachThreadAtOnce(want unix.SchedAttr) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l, err := openThreads()
	if err != nil {
		return err
	}
	defer l.close()
	own := unix.Gettid()
	if err := unix.SchedSetAttr(own, &unix.SchedAttr{Policy: realTimeClass, Priority: realTimePriority + 1}, 0); err != nil {
		return err
	}
	err = l.changeOthers(own, want)
	err = errors.Join(err, unix.SchedSetAttr(own, &want, 0))
	_, last := l.changeRound(own, want) // its own children, none of which is half begun
	return errors.Join(err, last)
}
