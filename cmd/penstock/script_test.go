package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"penstock": main})
}

// TestScripts runs the command lines in testdata/script against a daemon that is real from the
// socket down to the store, and has no frames below it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv(socketVariable, e.WorkDir+"/run/penstock.sock")
			e.Values[daemonKey{}] = &daemon{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":     code,
			"jsonkeys": jsonKeys,
			"capture":  capture,
			"daemon":   startDaemon,
			"end":      endDaemon,
			"follower": awaitFollower,
		},
	})
}

// code runs a command and holds it to its exit code: code 2 penstock bogus.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// jsonKeys holds the first line of the last output to its keys, in any order. The path leads
// to a nested object: jsonkeys conduits.0 name mode.
func jsonKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: jsonkeys PATH KEY...")
	}
	line, _, _ := strings.Cut(ts.ReadFile("stdout"), "\n")
	var value any
	ts.Check(json.Unmarshal([]byte(line), &value))
	for _, step := range strings.Split(args[0], ".") {
		value = follow(ts, value, step)
	}
	object, ok := value.(map[string]any)
	if !ok {
		ts.Fatalf("%s is no object but %v", args[0], value)
	}
	var got []string
	for key := range object {
		got = append(got, key)
	}
	want := slices.Clone(args[1:])
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		ts.Fatalf("%s has keys %v, want %v", args[0], got, want)
	}
}

// follow goes one step into a JSON value; an empty step stays.
func follow(ts *testscript.TestScript, value any, step string) any {
	switch v := value.(type) {
	case map[string]any:
		if step != "" {
			return v[step]
		}
	case []any:
		n, err := strconv.Atoi(step)
		if err != nil || n >= len(v) {
			ts.Fatalf("no element %s in %v", step, v)
		}
		return v[n]
	}
	return value
}

// awaitFollower waits until somebody follows the daemon's events: follower; or until nobody does any
// more: ! follower.
func awaitFollower(ts *testscript.TestScript, neg bool, _ []string) {
	d := ts.Value(daemonKey{}).(*daemon)
	for deadline := time.Now().Add(10 * time.Second); (d.bus.Stats().Readers == 0) != neg; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("somebody follows: want %v", !neg)
		}
	}
}

// TestEnvironmentNamesTheSocket holds that the flag beats the environment.
func TestEnvironmentNamesTheSocket(t *testing.T) {
	t.Setenv(socketVariable, "/from/environment")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"status"}, "/from/environment"},
		{[]string{"status", "--socket", "/from/flag"}, "/from/flag"},
	} {
		var out, err strings.Builder
		if got := run(tt.args, &out, &err); got != exitUnreachable || !strings.Contains(err.String(), tt.want) {
			t.Errorf("%v: code %d, %s", tt.args, got, err.String())
		}
	}
}

// brokenPipe fails every write.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestOutputThatCannotBeWrittenIsNotSuccess(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"policy", "check", "testdata/policy.yaml"}} {
		var err strings.Builder
		if got := run(args, brokenPipe{}, &err); got == exitDone {
			t.Errorf("%v: exit code 0", args)
		}
	}
}

func TestCleanShowsAndDoesNothingElse(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"words", "Line3.Setpoint Ä", "Line3.Setpoint Ä"},
		{"an escape sequence", "a\x1b[2Jb", `"a\x1b[2Jb"`},
		{"a new line", "a\nb", `"a\nb"`},
		{"a carriage return", "a\rb", `"a\rb"`},
		{"no UTF-8", "a\xffb", `"a\xffb"`},
		{"a bidirectional override", "a\u202eb", `"a\u202eb"`},
		{"an 8-bit control", "a\u009bb", `"a\u009bb"`},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := clean(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestEveryCommandIsDocumented holds that each command has help, and names those that exist.
func TestEveryCommandIsDocumented(t *testing.T) {
	var got []string
	root := (&app{}).root()
	for _, c := range root.Commands() {
		got = append(got, c.Name())
		if c.Short == "" {
			t.Errorf("%s has no help", c.Name())
		}
		for _, sub := range c.Commands() {
			got = append(got, c.Name()+" "+sub.Name())
		}
	}
	want := []string{"assess", "bypass", "bypass engage", "bypass release", "bypass self-test", "bypass status", "bypass test", "discover", "dissect", "events", "flows", "island", "policy", "policy apply", "policy check", "policy confirm",
		"policy history", "policy rollback", "policy show", "status", "version"}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("commands %v, want %v", got, want)
	}
}
