package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReportMarksWhatWasMissed(t *testing.T) {
	var r report
	r.bar("reached", 0.9, atLeast(0.8))
	r.bar("missed", 1.2, atMost(1))
	r.bar("told", 3, nil)
	r.section("A table", "A note.", "what", "how much").row("frames", thousands(1234567))
	text := r.String()
	for _, want := range []string{
		"| reached | 0.90 | at least 0.80 | yes |\n",
		"| missed | 1.20 | at most 1.00 | **no** |\n",
		"| told | 3.00 |  |  |\n",
		"### A table\n\nA note.\n\n| what | how much |\n| --- | ---: |\n| frames | 1,234,567 |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestDocumentKeepsWhatIsNotItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "performance.md")
	for _, round := range []string{"old\n\n", "new\n\n"} {
		text := "before\n" + beginMarker + "\nwhatever\n" + endMarker + "\nafter\n"
		if round != "old\n\n" {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writeDocument(path, round); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n" + beginMarker + "\n\nnew\n\n" + endMarker + "\nafter\n"
	if string(got) != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
	if err := os.WriteFile(path, []byte(beginMarker), 0o600); err != nil {
		t.Fatal(err)
	}
	if writeDocument(path, "lost") == nil {
		t.Error("no error for a file with half of the markers")
	}
}

func TestBenchmarkLine(t *testing.T) {
	for line, want := range map[string]string{
		"BenchmarkFrame/live_flow-2   300000   113.4 ns/op":   "live flow",
		"BenchmarkFrame/denied,_no_conduit-16 1000 9.0 ns/op": "denied, no conduit",
		"BenchmarkOther/live_flow-2   300000   113.4 ns/op":   "",
		"ok  	github.com/penstock-ot/penstock	1.2s":           "",
		"": "",
	} {
		label, _, ok := benchmarkLine(line, "BenchmarkFrame")
		if ok != (want != "") || label != want {
			t.Errorf("%q: %q, %v, want %q", line, label, ok, want)
		}
	}
}

func TestSummary(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(100-i)*time.Microsecond)
	}
	got := summarise(times, 3)
	if got.p50 != 51*time.Microsecond || got.p99 != 100*time.Microsecond || got.resent != 3 || got.count != 100 {
		t.Errorf("%+v", got)
	}
	for want, list := range map[float64][]float64{0: nil, 2: {3, 1, 2}, 2.5: {4, 1, 2, 3}} {
		if got := median(list); got != want {
			t.Errorf("the median of %v is %v, want %v", list, got, want)
		}
	}
}
