package bridge

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnOwnThread runs f on an operating-system thread that ends with it, so that whatever f does to
// the thread (namespaces, working directory) reaches nobody else and needs no way back.
//
// The process's first thread is spared: it cannot end without the process, and /proc/PID/ns
// and `ip netns identify` show that thread's namespaces as the process's.
func OnOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f()
			return // still locked: the runtime ends the thread
		}
		// While this goroutine holds the first thread, the next one must land elsewhere.
		defer runtime.UnlockOSThread()
		done <- OnOwnThread(f)
	}()
	return <-done
}
