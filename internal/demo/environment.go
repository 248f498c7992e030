package main

import (
	"errors"
	"fmt"
)

// environment owns what the demonstration makes: it undoes in reverse, and holds what went wrong
// with that. It is a testnet.Env.
type environment struct {
	undo      []func()
	complaint []error
}

// Cleanup implements testnet.Env.
func (e *environment) Cleanup(f func()) { e.undo = append(e.undo, f) }

// Logf implements testnet.Env, which has nothing to say but what it could not take down.
func (e *environment) Logf(format string, args ...any) {
	e.complaint = append(e.complaint, fmt.Errorf(format, args...))
}

func (e *environment) clean() error {
	for len(e.undo) > 0 {
		last := len(e.undo) - 1
		f := e.undo[last]
		e.undo = e.undo[:last]
		f()
	}
	return errors.Join(e.complaint...)
}
