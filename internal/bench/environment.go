package main

import (
	"fmt"
	"io"
	"sync"
)

// environment is the benchmark's testnet.Env: what was laid is taken down last first, also where
// the benchmark fails or is told to end.
type environment struct {
	out io.Writer

	mu       sync.Mutex
	cleanups []func()
}

// Logf implements testnet.Env.
func (e *environment) Logf(format string, args ...any) {
	fmt.Fprintf(e.out, format+"\n", args...)
}

// Cleanup implements testnet.Env.
func (e *environment) Cleanup(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cleanups = append(e.cleanups, f)
}

// close runs the cleanups that are there.
func (e *environment) close() {
	e.closeTo(0)
}

// mark returns a place for closeTo.
func (e *environment) mark() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.cleanups)
}

// closeTo takes down what was laid since the mark.
func (e *environment) closeTo(mark int) {
	for {
		e.mu.Lock()
		last := len(e.cleanups) - 1
		if last < mark {
			e.mu.Unlock()
			return
		}
		f := e.cleanups[last]
		e.cleanups = e.cleanups[:last]
		e.mu.Unlock()
		f()
	}
}
