package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/testnet"
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

// TestHasteEndsWithTheCalm holds that a daemon that was made real-time is taken back when the box has
// been calm for as long as it should, is made real-time again when a loop is late again, and is asked
// for a longer calm then.
func TestHasteEndsWithTheCalm(t *testing.T) {
	done, ended := make(chan struct{}), make(chan struct{})
	changes, asked, calm := make(chan string, 8), make(chan time.Duration, 8), make(chan bool)
	h := newHaste(slog.New(slog.DiscardHandler))
	h.raise = func() error { changes <- "raised"; return nil }
	h.lower = func() error { changes <- "lowered"; return nil }
	h.calm = func(long time.Duration, done <-chan struct{}) bool {
		asked <- long
		select {
		case v := <-calm:
			return v
		case <-done:
			return false
		}
	}
	go func() { defer close(ended); h.run(done) }()
	for _, want := range []time.Duration{leastCalm, 2 * leastCalm, 4 * leastCalm} {
		h.make(tooLate)
		h.make(tooLate) // another loop, late as well
		if got := <-changes; got != "raised" {
			t.Fatalf("%s, want raised", got)
		}
		if got := <-asked; got != want {
			t.Errorf("asked for a calm of %v, want %v", got, want)
		}
		if len(changes) != 0 {
			t.Fatalf("%s before the calm", <-changes)
		}
		calm <- true
		if got := <-changes; got != "lowered" {
			t.Fatalf("%s, want lowered", got)
		}
		for h.made.Load() {
			time.Sleep(time.Millisecond)
		}
	}
	h.make(tooLate)
	<-asked
	close(done)
	<-ended
	if <-changes != "raised" || len(changes) != 0 {
		t.Error("the daemon was taken back when it ended")
	}
}

// TestEveryThreadChangesAtOnce holds that no thread is left behind when the daemon becomes real-time, and when it is
// taken back, however many begin meanwhile: a real-time one that waits for it in a loop would take its processor.
func TestEveryThreadChangesAtOnce(t *testing.T) {
	if err := makeOrdinary(); err != nil {
		testnet.Require(t, fmt.Errorf("change the priority of threads: %w", err))
	}
	defer func() {
		if err := errors.Join(makeOrdinary(), eachThread(func(id int) error { return unix.Setpriority(unix.PRIO_PROCESS, id, 0) })); err != nil {
			t.Error(err)
		}
	}()
	var over atomic.Bool
	var begin sync.WaitGroup
	defer begin.Wait()
	defer over.Store(true)
	for range 8 {
		begin.Go(func() {
			for !over.Load() {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					runtime.LockOSThread() // for good: the thread ends with the goroutine, and another begins
				}()
				<-ended
				time.Sleep(50 * time.Microsecond) // real-time ones that never rest would keep the cores from all others
			}
		})
	}
	left := func(what string, policy uint32) {
		t.Helper()
		if err := eachThread(func(id int) error {
			is, err := unix.SchedGetAttr(id, 0)
			if err == nil && is.Policy != policy {
				t.Errorf("%s: thread %d has class %d", what, id, is.Policy)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if err := makeRealTime(); err != nil {
			t.Fatal(err)
		}
		left("real-time", realTimeClass)
		if err := makeOrdinary(); err != nil {
			t.Fatal(err)
		}
		left("taken back", unix.SCHED_NORMAL)
	}
}

// TestHasteThatIsNotPermitted is tried once.
func TestHasteThatIsNotPermitted(t *testing.T) {
	h := newHaste(slog.New(slog.DiscardHandler))
	tried := 0
	h.raise = func() error { tried++; return errors.New("not permitted") }
	h.make(tooLate)
	h.make(tooLate)
	if tried != 1 || len(h.late) != 0 {
		t.Errorf("tried %d times, told %d times", tried, len(h.late))
	}
}

func TestNextCalm(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name   string
		before time.Duration
		back   time.Time
		want   time.Duration
	}{
		{"the first", leastCalm, time.Time{}, leastCalm},
		{"it did not last", leastCalm, now.Add(-time.Second), 2 * leastCalm},
		{"it lasted", 4 * leastCalm, now.Add(-lasting*4*leastCalm - 1), leastCalm},
		{"for ever", mostCalm, now.Add(-time.Hour), mostCalm},
	} {
		if got := nextCalm(tt.before, tt.back, now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestCalmIsOver holds that waiting for calm ends with the daemon.
func TestCalmIsOver(t *testing.T) {
	done := make(chan struct{})
	close(done)
	if awaitCalm(time.Hour, done) {
		t.Error("a calm of an hour has passed")
	}
}

// TestLookingForCalmIsQuiet holds that the thread that looks for calm wakes hardly anything: beside a verdict
// loop, which keeps its processor, the runtime's monitor has a rest only while nobody's is taken.
func TestLookingForCalmIsQuiet(t *testing.T) {
	permitted := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, as its niceness is
		permitted <- setOrdinary(0)
	}()
	if err := <-permitted; err != nil {
		testnet.Require(t, fmt.Errorf("take the daemon's niceness: %w", err))
	}
	var over atomic.Bool
	defer over.Store(true)
	go func() {
		for !over.Load() {
			waitAsALoop()
		}
	}()
	const long, most = time.Second, 1500
	wakes := func(wait func()) int {
		before := sleeps(t)
		wait()
		return sleeps(t) - before
	}
	alone := wakes(func() { time.Sleep(long) })
	done := make(chan struct{})
	defer time.AfterFunc(long, func() { close(done) }).Stop()
	if looking := wakes(func() { awaitCalm(time.Hour, done) }); looking-alone > most {
		t.Errorf("threads woke %d times in %v, and without the look %d times", looking, long, alone)
	}
}

// waitAsALoop waits as a verdict loop does, unknown to the runtime. As in that, there is a call of a function in each
// turn, at whose beginning the runtime can stop the goroutine: it cannot in a system call that it does not know of,
// and without such a place whoever stops the world would wait until a signal happens to find the loop between two.
//
//go:noinline
func waitAsALoop() { pauseInPlace(10 * time.Millisecond) }

// sleeps is how often threads of this process have gone to sleep by themselves.
func sleeps(t *testing.T) (n int) {
	t.Helper()
	err := eachThread(func(id int) error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", id))
		if err != nil {
			return nil // it has ended
		}
		for line := range strings.Lines(string(b)) {
			if count, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				one, err := strconv.Atoi(strings.TrimSpace(count))
				if err != nil {
					return err
				}
				n += one
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
