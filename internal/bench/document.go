package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The lines between which a document holds the latest tables.
const (
	beginMarker = "<!-- bench: begin -->"
	endMarker   = "<!-- bench: end -->"
)

// heading says when, where and how the tables came about. Of the flags it tells those that change
// what is measured, and no paths.
func heading(flags *flag.FlagSet) string {
	command := "sudo go run ./internal/bench"
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "rounds", "time", "trips", "only", "injections", "failure":
			command += fmt.Sprintf(" -%s %s", f.Name, f.Value)
		}
	})
	var name unix.Utsname
	kernel := "unknown"
	if unix.Uname(&name) == nil {
		kernel = unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Machine[:])
	}
	return fmt.Sprintf("%s, Linux %s, %d cores (%s), %s: `%s`\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), kernel, runtime.NumCPU(), processor(), runtime.Version(), command)
}

// processor is the name that the processor gives itself.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// writeDocument replaces what stands between the markers of a file.
func writeDocument(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the tables: %w", err)
	}
	before, rest, found := bytes.Cut(old, []byte(beginMarker))
	_, after, closed := bytes.Cut(rest, []byte(endMarker))
	if !found || !closed {
		return fmt.Errorf("write the tables: %s has no lines %q and %q", path, beginMarker, endMarker)
	}
	var b bytes.Buffer
	b.Write(before)
	fmt.Fprintf(&b, "%s\n\n%s%s", beginMarker, text, endMarker)
	b.Write(after)
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	return nil
}
