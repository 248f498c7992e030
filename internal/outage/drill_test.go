package outage

import (
	"strings"
	"testing"
	"time"
)

func TestDrillIsBounded(t *testing.T) {
	good := func() Drill {
		return Drill{Began: time.Unix(1, 0), Steps: []DrillStep{{Name: "stopped", GapMS: 3}, {Name: "killed", GapMS: 7}}}
	}
	for _, row := range []struct {
		name  string
		spoil func(*Drill)
		want  string
	}{
		{"as it should be", func(*Drill) {}, ""},
		{"no steps", func(d *Drill) { d.Steps = nil }, "1 to 16 steps"},
		{"too many steps", func(d *Drill) { d.Steps = make([]DrillStep, 17) }, "1 to 16 steps"},
		{"a step without a name", func(d *Drill) { d.Steps[1].Name = "" }, "step 2"},
		{"a long name", func(d *Drill) { d.Steps[0].Name = strings.Repeat("x", 65) }, "65 bytes"},
		{"no time", func(d *Drill) { d.Began = time.Time{} }, "when it began"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := good()
			row.spoil(&d)
			err := d.Check()
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
	d := good()
	if got := d.LongestGapMS(); got != 7 {
		t.Errorf("the longest gap is %v, want 7", got)
	}
}

// TestDrillThatWasSkippedSaysSo: what nobody agreed to has not passed.
func TestDrillThatWasSkippedSaysSo(t *testing.T) {
	d := Drill{Steps: []DrillStep{{Name: "nothing"}, {Name: "killed", Skipped: true}}}
	for _, row := range []struct {
		passed, skipped bool
		want            string
	}{{false, true, "failed"}, {true, true, "passed, 1 of 2 steps skipped"}, {true, false, "passed"}} {
		d.Passed, d.Steps[1].Skipped = row.passed, row.skipped
		if got := d.Result(); got != row.want {
			t.Errorf("%+v: %q, want %q", d, got, row.want)
		}
	}
}
