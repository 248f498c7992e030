package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// image is everything that a reader of the store can learn, for comparison.
func image(t *testing.T, s *Store) string {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	a, err := s.Activation()
	if err != nil {
		t.Fatal(err)
	}
	history, err := s.History(0)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%+v", a)
	for _, v := range history {
		_, raw, err := s.Policy(v.Number)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("\n%+v %x", v, raw)
	}
	return text
}

// imageOf opens the bytes as a store after a restart would.
func imageOf(t *testing.T, file []byte) (text string, notes []string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := open(dir, func() time.Time { return fixed })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return image(t, s), s.Notes()
}

// crash is one state in which a power cut can leave the file.
type crash struct {
	name string
	file []byte
}

// crashes returns the states that a power cut can leave between two writes of the commit that
// turned before into after. bbolt writes the data pages in any order, syncs, and then writes
// one meta page; a page may also be written in part.
func crashes(before, after []byte) []crash {
	page := os.Getpagesize()
	var states []crash
	file := make([]byte, max(len(before), len(after)))
	copy(file, before)
	add := func(format string, args ...any) {
		states = append(states, crash{fmt.Sprintf(format, args...), bytes.Clone(file)})
	}
	changed := func(n int) bool {
		return !bytes.Equal(file[n*page:(n+1)*page], after[n*page:(n+1)*page])
	}
	add("grown only")
	var written []int
	for n := 2; n < len(after)/page; n++ {
		if changed(n) {
			written = append(written, n)
		}
	}
	for _, n := range written { // each data page alone, whole and in part
		old := bytes.Clone(file[n*page : (n+1)*page])
		copy(file[n*page:], after[n*page:n*page+page/2])
		add("half of page %d alone", n)
		copy(file[n*page:(n+1)*page], after[n*page:])
		add("page %d alone", n)
		copy(file[n*page:], old)
	}
	for _, n := range written { // in order
		copy(file[n*page:(n+1)*page], after[n*page:])
		add("pages up to %d", n)
	}
	for n := range 2 { // the meta page, torn at each byte that differs
		for i := n * page; i < (n+1)*page && changed(n); i++ {
			if file[i] != after[i] {
				file[i] = after[i]
				add("meta page %d up to byte %d", n, i-n*page)
			}
		}
	}
	return states
}

// TestCrashBetweenAnyTwoWrites takes a store through its life and cuts the power at each point
// of each commit. What is found afterwards is either what was there before the commit or what
// is there after it, nothing was set aside, and the check finds nothing.
func TestCrashBetweenAnyTwoWrites(t *testing.T) {
	steps := []struct {
		name string
		do   func(s *Store) error
	}{
		{"store the first policy", func(s *Store) error { _, err := s.PutPolicy(Version{Who: "root"}, []byte("one")); return err }},
		{"put it in force", func(s *Store) error { _, err := s.Activate(1, "root", time.Time{}); return err }},
		{"store one of several pages", func(s *Store) error {
			_, err := s.PutPolicy(Version{}, bytes.Repeat([]byte("two "), 5000))
			return err
		}},
		{"put it in force for now", func(s *Store) error {
			_, err := s.Activate(2, "root", fixed.Add(time.Minute))
			return err
		}},
		{"confirm it", func(s *Store) error { _, err := s.Confirm(); return err }},
		{"store a third", func(s *Store) error { _, err := s.PutPolicy(Version{}, []byte("three")); return err }},
		{"go back", func(s *Store) error { _, err := s.Activate(1, "root", time.Time{}); return err }},
	}
	dir := t.TempDir()
	s := openTest(t, dir)
	read := func() []byte {
		raw, err := os.ReadFile(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			before, imageBefore := read(), image(t, s)
			if err := step.do(s); err != nil {
				t.Fatal(err)
			}
			after, imageAfter := read(), image(t, s)
			if imageBefore == imageAfter {
				t.Fatal("the step changes nothing, so nothing is tested")
			}
			seen := map[string]int{}
			for _, c := range crashes(before, after) {
				got, notes := imageOf(t, c.file)
				if len(notes) != 0 {
					t.Fatalf("%s: %v", c.name, notes)
				}
				if got != imageBefore && got != imageAfter {
					t.Fatalf("%s: neither what was there before nor after:\n%s", c.name, got)
				}
				seen[got]++
			}
			if seen[imageBefore] == 0 || seen[imageAfter] == 0 {
				t.Errorf("%d states before and %d after: the cuts miss the commit", seen[imageBefore], seen[imageAfter])
			}
		})
	}
}

// TestCrashWhileTheStoreIsCreated cuts a new file off at each page and some bytes around.
// Before it is moved into place it is under another name; afterwards it is whole.
func TestCrashWhileTheStoreIsCreated(t *testing.T) {
	whole := t.TempDir()
	if err := openTest(t, whole).Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(whole, FileName))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(raw); n += 1024 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName+".new"), raw[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if s := openTest(t, dir); len(s.Notes()) != 0 {
			t.Errorf("cut at %d: %v", n, s.Notes())
		}
	}
}
