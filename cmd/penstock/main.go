// Command penstock is everything that a person does with Penstock: it asks a running penstockd,
// or works on policy and capture files alone.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/policy"
)

// The exit codes are a published interface.
const (
	exitDone        = 0
	exitNo          = 1 // the answer is no: the policy is wrong, something would be denied
	exitUsage       = 2 // the command was used wrongly
	exitUnreachable = 3 // no daemon answers
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = fmt.Errorf("%w\nSee %s --help", err, c.CommandPath())
	}
	if err != nil && !errors.Is(err, errNo) {
		fmt.Fprintln(stderr, explain(err))
	}
	return a.exitCode(err)
}

// app is what the commands share.
type app struct {
	stdout, stderr io.Writer
	socket         string

	// started says that the command line was understood: errors before that are the caller's.
	started bool
}

// errNo is a no that the output has said already.
var errNo = errors.New("no")

// usageError is wrong use that only shows once a command runs.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func (a *app) exitCode(err error) int {
	var unreachable *api.UnreachableError
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &unreachable):
		return exitUnreachable
	case !a.started, errors.As(err, &usage):
		return exitUsage
	}
	return exitNo
}

// explain returns the error as it is printed. A mistake in a policy stands alone, so that an
// editor finds file, line and column at the beginning of its line.
func explain(err error) string {
	var mistakes policy.ErrorList
	var refused *api.Error
	if parts := several(err); parts != nil {
		lines := make([]string, len(parts))
		for i, part := range parts {
			lines[i] = explain(part)
		}
		return strings.Join(lines, "\n")
	}
	switch {
	case errors.As(err, &mistakes):
		return mistakes.Error()
	case errors.As(err, &refused) && len(refused.Problems) > 0:
		return refused.Error()
	}
	return "penstock: " + err.Error()
}

// several returns the errors that were joined into one, or nil where it is one.
func several(err error) []error {
	if _, ok := err.(policy.ErrorList); ok {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

// fileError makes an error about a file that was named on the command line wrong use if the
// file could not be read at all.
func fileError(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return usageError{err}
	}
	return err
}

// client returns a client of the daemon.
func (a *app) client() *api.Client { return api.NewClient(a.socket) }
