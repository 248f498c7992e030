package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a policy file, and what to do about it.
type Error struct {
	File         string // as it was given to ParseFile
	Line, Column int    // from 1; columns count characters
	Message      string
}

// Error returns "file:line:column: message".
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// ErrorList is everything that is wrong with a policy file, sorted by position.
type ErrorList []*Error

// Error returns the errors, one a line.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each error to errors.Is and errors.As.
func (l ErrorList) Unwrap() []error {
	out := make([]error, len(l))
	for i, e := range l {
		out[i] = e
	}
	return out
}

// maxErrors bounds what one file can make us say. Nobody reads further, and a file of four
// million stray characters would otherwise cost as many messages.
const maxErrors = 1000

// pos is a place in the file, from 1. The zero pos is nowhere.
type pos struct{ line, column int }

func (p pos) known() bool { return p.line > 0 }

// report collects the errors of one file, in any order.
type report struct {
	file        string
	errors      ErrorList
	suggestions int // how many names were looked for, see suggest
}

func (r *report) errorf(at pos, format string, args ...any) {
	if len(r.errors) > maxErrors {
		return
	}
	e := &Error{File: r.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)}
	if len(r.errors) == maxErrors {
		e.Message = fmt.Sprintf("more than %d errors: mend those before this one first", maxErrors)
	}
	r.errors = append(r.errors, e)
}

// err returns the errors sorted by position, or nil where there are none. An error that was found
// on two ways is said once.
func (r *report) err() error {
	if len(r.errors) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errors, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(r.errors, func(a, b *Error) bool { return *a == *b })
}
