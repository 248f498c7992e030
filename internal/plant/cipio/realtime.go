package cipio

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// priority is a producer's among the real-time threads: before those of the least, which a daemon under test
// may have.
const priority = 2

// memoryLimit is how much memory the program may take, in bytes, before its garbage is collected all the same.
const memoryLimit = 1 << 30

// A producer's thread is real-time and no other of its program is. The runtime has goroutines wait in loops for each
// other, such as one that comes back from a system call for the monitor that is about to take its processor,
// or one that goes on for the collector that reads its stack. A real-time thread that waits so for one that is not
// takes its core: neither goes on for most of a second, until the kernel lets others run, and nothing else does
// meanwhile, be it the line that is measured. So while there are producers nothing is collected; and what they
// call of the kernel the runtime does not know of, so that each keeps a processor of its own.
var producers struct {
	sync.Mutex
	running int
	percent int
	limit   int64
}

// beginRealTime makes the calling goroutine's thread real-time, where that is permitted, for as long as the
// goroutine lives: the thread ends with it.
func beginRealTime() {
	producers.Lock()
	defer producers.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	if producers.running++; producers.running == 1 {
		producers.limit = debug.SetMemoryLimit(memoryLimit)
		producers.percent = debug.SetGCPercent(-1)
	}
	runtime.LockOSThread()
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}, 0)
}

// endRealTime is called by the goroutine at its end.
func endRealTime() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr}, 0)
	producers.Lock()
	defer producers.Unlock()
	if producers.running--; producers.running == 0 {
		debug.SetGCPercent(producers.percent)
		debug.SetMemoryLimit(producers.limit)
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - 1)
}

// sleep is a short one, which the runtime may cut shorter.
func sleep(d time.Duration) {
	pause := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
}
