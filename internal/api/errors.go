package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/penstock-ot/penstock/internal/policy"
)

// Code says what kind of no an answer is.
type Code string

// The codes.
const (
	CodeBadRequest  Code = "bad_request"  // the request itself is wrong
	CodePolicyWrong Code = "policy_wrong" // see Problems
	CodeNotFound    Code = "not_found"    // no such version
	CodeConflict    Code = "conflict"     // not in this state: nothing to confirm, nothing to go back to
	CodeTooLarge    Code = "too_large"
	CodeBusy        Code = "busy"   // as many clients as there may be
	CodeFailed      Code = "failed" // the daemon could not do it
)

// Problem is one thing that is wrong with a policy.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1
	Column  int    `json:"column"` // from 1
	Message string `json:"message"`
}

// String returns "file:line:column: message".
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Error is the daemon's no. A Backend returns one to choose the code; the client returns the
// same one to its caller.
type Error struct {
	Code     Code      `json:"code"`
	Message  string    `json:"error"`
	Problems []Problem `json:"problems,omitempty"`
}

// Error returns the problems, one a line, or the message where there are none.
func (e *Error) Error() string {
	if len(e.Problems) == 0 {
		return e.Message
	}
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Refuse returns err as the daemon's no, with the code given.
func Refuse(code Code, err error) *Error { return &Error{Code: code, Message: err.Error()} }

// asError turns whatever a backend returned into an Error.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var list policy.ErrorList
	if !errors.As(err, &list) {
		return Refuse(CodeFailed, err)
	}
	e = &Error{Code: CodePolicyWrong, Message: "the policy is wrong"}
	for _, p := range list {
		e.Problems = append(e.Problems, Problem{File: p.File, Line: p.Line, Column: p.Column, Message: p.Message})
	}
	return e
}

func (c Code) status() int {
	switch c {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodePolicyWrong:
		return http.StatusUnprocessableEntity
	case CodeNotFound:
		return http.StatusNotFound
	case CodeConflict:
		return http.StatusConflict
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
