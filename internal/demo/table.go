package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Widths of the columns, in characters.
const (
	widthWhat     = 52
	widthExpected = 22
	widthSeen     = 24
)

// table prints what was tried, a row each, as it comes.
type table struct {
	out       io.Writer
	coloured  bool
	rows      int
	disagreed int
}

// newTable prints to a file, in colours if that is a terminal and nobody objects (NO_COLOR).
func newTable(f *os.File) *table {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &table{out: f, coloured: err == nil && os.Getenv("NO_COLOR") == ""}
}

type colour string

const (
	green colour = "\x1b[32m"
	red   colour = "\x1b[31m"
	bold  colour = "\x1b[1m"
	plain colour = "\x1b[0m"
)

func (t *table) paint(c colour, s string) string {
	if !t.coloured {
		return s
	}
	return string(c) + s + string(plain)
}

func (t *table) header(policy string) {
	fmt.Fprintf(t.out, "%s\n\n%s\n%s\n%s\n", t.paint(bold, "A filling line under "+policy),
		`  cell                          appliance                         supervision`,
		`  filler-plc, pump-rtu ───── a [ penstockd ] b ───── hmi-1, a router, and a stranger`,
		"")
	fmt.Fprintf(t.out, "     %s %s %s %s\n", pad("what is tried", widthWhat), pad("what the policy says", widthExpected), pad("what was seen", widthSeen), "what the appliance told")
}

func (t *table) title(s string) { fmt.Fprintf(t.out, "\n%s\n", t.paint(bold, s)) }

func (t *table) row(o outcome) {
	t.rows++
	sign := t.paint(green, "ok")
	if o.wrong != nil {
		t.disagreed++
		sign = t.paint(red, "NO")
	}
	expected := "permitted"
	if !o.step.permitted() {
		expected = o.step.denied.String()
	}
	reason := o.reason
	if reason == "" {
		reason = "-"
	}
	fmt.Fprintf(t.out, "%s   %s %s %s %s\n", sign, pad(o.step.what, widthWhat), pad(expected, widthExpected), pad(o.seen, widthSeen), reason)
	if o.wrong != nil {
		fmt.Fprintf(t.out, "     %v\n", o.wrong)
	}
}

func (t *table) summary(took time.Duration, err error) {
	took = took.Round(100 * time.Millisecond)
	switch {
	case err == nil:
		fmt.Fprintf(t.out, "\n%s\n", t.paint(green, fmt.Sprintf("All %d agree with the policy, and nothing is left behind (%v).", t.rows, took)))
	case errors.Is(err, errDisagree):
		fmt.Fprintf(t.out, "\n%s\n", t.paint(red, fmt.Sprintf("%d of %d do not agree with the policy (%v).", t.disagreed, t.rows, took)))
	}
}

// pad fills or cuts to a width.
func pad(s string, width int) string {
	n := utf8.RuneCountInString(s)
	if n > width {
		return string([]rune(s)[:width-1]) + "…"
	}
	return s + strings.Repeat(" ", width-n)
}

// brief is an error without where it came from: the reader knows who called whom.
func brief(err error) string {
	text := strings.ToLower(err.Error())
	for _, known := range []string{"illegal function", "illegal data address", "illegal data value", "connection reset by peer", "connection refused", "i/o timeout", "request timed out", "broken pipe"} {
		if strings.Contains(text, known) {
			return known
		}
	}
	return err.Error()
}
