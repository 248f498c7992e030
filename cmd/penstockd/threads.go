package main

import (
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// quietRounds is how many rounds running have to find nothing to change, and roundPause how long the threads have
	// between two. One round proves little: the kernel copies the class of a thread early in the beginning of its child
	// and shows the child late, and a thread that ends while it lists them hides others.
	quietRounds = 4
	roundPause  = time.Millisecond
	// changeRounds bounds the rounds. What the threads begin that have been changed is changed from the beginning, so
	// that one or two rounds before the quiet ones nearly always do.
	changeRounds = 32
)

// threads is the open list of the threads of this process. Its rounds and pauses make system calls of which the
// runtime is not told: told of them, it may give the caller's processor to another thread, perhaps to one that waits
// for what the caller has yet to change, and the caller waits for seconds to have it back. It is for one goroutine,
// locked to its thread.
type threads struct {
	fd    int
	buf   [8192]byte
	names []string
}

func openThreads() (*threads, error) {
	fd, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("list the daemon's threads: %w", err)
	}
	return &threads{fd: fd}, nil
}

// eachThread calls f with the id of each thread that there is now.
func eachThread(f func(id int) error) error {
	l, err := openThreads()
	if err != nil {
		return err
	}
	defer l.close()
	return l.each(f)
}

func (l *threads) close() { _ = unix.Close(l.fd) }

// changeOthers gives the class to every thread but the caller's own.
func (l *threads) changeOthers(own int, want unix.SchedAttr) error {
	quiet := 0
	for range changeRounds {
		changed, err := l.changeRound(own, want)
		if err != nil {
			return err
		}
		if quiet++; changed {
			quiet = 0
		}
		if quiet == quietRounds {
			return nil
		}
		pauseInPlace(roundPause)
	}
	return fmt.Errorf("threads begin faster than they are changed, in %d rounds", changeRounds)
}

// changeRound gives the class to each thread listed that has another, and tells whether there was one.
func (l *threads) changeRound(own int, want unix.SchedAttr) (changed bool, err error) {
	err = l.each(func(id int) error {
		if id == own {
			return nil
		}
		is, err := schedGetAttr(id)
		if err != nil || is.Policy == want.Policy && is.Priority == want.Priority {
			return err
		}
		changed = true
		return schedSetAttr(id, want)
	})
	return changed, err
}

// each calls f with the id of each thread. One that has ended meanwhile is passed over.
func (l *threads) each(f func(id int) error) error {
	if _, _, e := unix.RawSyscall(unix.SYS_LSEEK, uintptr(l.fd), 0, unix.SEEK_SET); e != 0 {
		return fmt.Errorf("list the daemon's threads: %w", e)
	}
	for {
		n, _, e := unix.RawSyscall(unix.SYS_GETDENTS64, uintptr(l.fd), uintptr(unsafe.Pointer(&l.buf)), unsafe.Sizeof(l.buf))
		if e != 0 {
			return fmt.Errorf("list the daemon's threads: %w", e)
		}
		if n == 0 {
			return nil
		}
		_, _, l.names = unix.ParseDirent(l.buf[:n], -1, l.names[:0])
		for _, name := range l.names {
			id, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			if err := f(id); err != nil && err != unix.ESRCH {
				return err
			}
		}
	}
}

func schedGetAttr(id int) (attr unix.SchedAttr, err error) {
	_, _, e := unix.RawSyscall6(unix.SYS_SCHED_GETATTR, uintptr(id), uintptr(unsafe.Pointer(&attr)), unix.SizeofSchedAttr, 0, 0, 0)
	if e != 0 {
		return attr, e
	}
	return attr, nil
}

func schedSetAttr(id int, attr unix.SchedAttr) error {
	attr.Size = unix.SizeofSchedAttr
	if _, _, e := unix.RawSyscall(unix.SYS_SCHED_SETATTR, uintptr(id), uintptr(unsafe.Pointer(&attr)), 0); e != 0 {
		return e
	}
	return nil
}

// pauseInPlace sleeps a millisecond or so; a signal only makes it shorter.
func pauseInPlace(d time.Duration) {
	wait := unix.NsecToTimespec(d.Nanoseconds())
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&wait)), 0, 0)
}
