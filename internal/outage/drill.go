package outage

import (
	"errors"
	"fmt"
	"time"
)

// DrillStep is one thing that a drill did to the running appliance, and what the line showed of it.
type DrillStep struct {
	Name    string `json:"name"`
	Skipped bool   `json:"skipped,omitempty"`
	// GapMS is the longest time, in milliseconds, in which no frame left either port.
	GapMS float64 `json:"gap_ms"`
	// Received and Sent are frames at both ports meanwhile. What was denied is received and not sent.
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
}

// Drill is what a test of the bypass on site found. The daemon keeps the last one.
type Drill struct {
	Began   time.Time   `json:"began"`
	Who     string      `json:"who,omitempty"` // set by the daemon
	LimitMS float64     `json:"limit_ms"`
	Passed  bool        `json:"passed"`
	Steps   []DrillStep `json:"steps"`
}

// What a drill may hold, so that a record stays one.
const (
	maxDrillSteps = 16
	maxDrillName  = 64 // bytes
)

// Check returns what makes a drill no record.
func (d *Drill) Check() error {
	if len(d.Steps) == 0 || len(d.Steps) > maxDrillSteps {
		return fmt.Errorf("a test of the bypass has 1 to %d steps, this one %d", maxDrillSteps, len(d.Steps))
	}
	for i := range d.Steps {
		if n := len(d.Steps[i].Name); n == 0 || n > maxDrillName {
			return fmt.Errorf("step %d of a test of the bypass: its name has %d bytes, want 1 to %d", i+1, n, maxDrillName)
		}
	}
	if d.Began.IsZero() {
		return errors.New("a test of the bypass does not say when it began")
	}
	return nil
}

// Skipped is how many of its steps nobody agreed to.
func (d *Drill) Skipped() (n int) {
	for i := range d.Steps {
		if d.Steps[i].Skipped {
			n++
		}
	}
	return n
}

// Result is its outcome, for people: "passed", "failed", or "passed, 2 of 4 steps skipped".
func (d *Drill) Result() string {
	switch n := d.Skipped(); {
	case !d.Passed:
		return "failed"
	case n > 0:
		return fmt.Sprintf("passed, %d of %d steps skipped", n, len(d.Steps))
	}
	return "passed"
}

// LongestGapMS is the longest gap of its steps, in milliseconds.
func (d *Drill) LongestGapMS() (longest float64) {
	for i := range d.Steps {
		longest = max(longest, d.Steps[i].GapMS)
	}
	return longest
}
