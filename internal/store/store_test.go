package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// fixed is the time of every test store until a test moves it.
var fixed = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

// openTest opens a store whose clock stands still, and checks it after the test.
func openTest(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := open(dir, func() time.Time { return fixed })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(); err != nil && !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			t.Errorf("the store is inconsistent after the test: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s *Store, raw string) Version {
	t.Helper()
	v, err := s.PutPolicy(Version{Site: "Filling line 3", Name: "policy.yaml", Who: "root"}, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func activate(t *testing.T, s *Store, n uint64, confirmBy time.Time) Activation {
	t.Helper()
	a, err := s.Activate(n, "root", confirmBy)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// names lists the directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestOpenCreatesTheDirectoryAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := openTest(t, dir)
	if got := names(t, dir); !cmp.Equal(got, []string{FileName}) {
		t.Errorf("the directory holds %v", got)
	}
	if len(s.Notes()) != 0 || s.ReadOnly() {
		t.Errorf("a new store has notes %v, read-only %v", s.Notes(), s.ReadOnly())
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: policies are not for everybody", info.Mode(), err)
	}
	if a, err := s.Activation(); err != nil || a != (Activation{}) {
		t.Errorf("a new store has %v in force, %v", a, err)
	}
	if _, _, err := s.ActivePolicy(); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestOpenRefusesAStoreInUse(t *testing.T) {
	dir := t.TempDir()
	openTest(t, dir)
	_, err := Open(dir)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "is another penstockd running?") {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if got := names(t, dir); !cmp.Equal(got, []string{FileName}) {
		t.Errorf("a store in use was touched: %v", got)
	}
}

func TestOpenAfterAnUnfinishedCreation(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName+".new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, dir)
	if len(s.Notes()) != 0 {
		t.Errorf("notes %v", s.Notes())
	}
	if got := names(t, dir); !cmp.Equal(got, []string{FileName}) {
		t.Errorf("the directory holds %v", got)
	}
}

func TestOpenErrors(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, dir string) string
	}{
		{"a file where the directory should be", func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "file")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}},
		{"a directory where the file should be", func(t *testing.T, dir string) string {
			if err := os.Mkdir(filepath.Join(dir, FileName), 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.prepare(t, t.TempDir())
			if s, err := Open(dir); err == nil {
				s.Close()
				t.Error("no error")
			} else if !strings.Contains(err.Error(), dir) {
				t.Errorf("%v does not name the path", err)
			}
		})
	}
}

// filled returns the bytes of a store that has versions and an activation.
func filled(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	s := openTest(t, dir)
	for i := range 3 {
		put(t, s, fmt.Sprintf("policy %d %s", i, strings.Repeat("x", 6000)))
	}
	activate(t, s, 1, time.Time{})
	activate(t, s, 3, fixed.Add(time.Minute))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// edited returns the bytes of a filled store after fn changed it.
func edited(t *testing.T, fn func(*bbolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, filled(t), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDamagedStoreIsSetAsideLosslessly(t *testing.T) {
	page := os.Getpagesize()
	whole := filled(t)
	flip := func(from, to int) []byte {
		b := bytes.Clone(whole)
		for i := from; i < to && i < len(b); i++ {
			b[i] ^= 0xff
		}
		return b
	}
	tests := []struct {
		name string
		file []byte
		want string // in the note
	}{
		{"an empty file", nil, "damaged"},
		{"one byte", []byte{0}, "damaged"},
		{"some other file", bytes.Repeat([]byte("not a store\n"), 4000), "damaged"},
		{"one page is left", whole[:page], "damaged"},
		{"the meta pages are left", whole[:2*page], "damaged"},
		{"cut in the middle", whole[:len(whole)/4/page*page], "damaged"},
		{"both meta pages are broken", flip(0, 2*page), "damaged"},
		{"everything behind the meta pages is broken", flip(2*page, len(whole)), "damaged"},
		{"a newer schema", edited(t, func(tx *bbolt.Tx) error {
			return putJSON(tx.Bucket(bucketMeta), keySchema, SchemaVersion+1)
		}), "newer version of Penstock"},
		{"a schema that never was", edited(t, func(tx *bbolt.Tx) error {
			return putJSON(tx.Bucket(bucketMeta), keySchema, 0)
		}), "no schema version 0"},
		{"no schema", edited(t, func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketMeta).Delete(keySchema)
		}), "schema version cannot be read"},
		{"a bucket is missing", edited(t, func(tx *bbolt.Tx) error {
			return tx.DeleteBucket(bucketBytes)
		}), "policy_bytes is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openTest(t, dir)
			aside := path + ".corrupt-20260102T030405.000006Z"
			notes := strings.Join(s.Notes(), "\n")
			if !strings.Contains(notes, tt.want) || !strings.Contains(notes, aside) {
				t.Errorf("notes %q name neither %q nor %s", notes, tt.want, aside)
			}
			kept, err := os.ReadFile(aside)
			if err != nil {
				t.Fatal(err)
			}
			if tt.file != nil && !bytes.Equal(kept, tt.file) {
				t.Error("what was set aside is not what was there")
			}
			if v := put(t, s, "new"); v.Number != 1 {
				t.Errorf("the new store begins with version %d", v.Number)
			}
		})
	}
}

func TestSettingAsideTwiceAtTheSameTimeKeepsBoth(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	for _, broken := range []string{"first", "second"} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openTest(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
	}
	aside := FileName + ".corrupt-20260102T030405.000006Z"
	if got := names(t, dir); !cmp.Equal(got, []string{FileName, aside, aside + "-2"}) {
		t.Errorf("the directory holds %v", got)
	}
}

// TestNoDamageEndsTheProcess breaks single bytes, pages and tails of a store at random places.
// Whatever happens, Open returns, and what it returns can be used.
func TestNoDamageEndsTheProcess(t *testing.T) {
	whole := filled(t)
	page := os.Getpagesize()
	random := newRandom(1)
	for i := range 200 {
		b := bytes.Clone(whole)
		switch at := random.IntN(len(b)); i % 4 {
		case 0:
			b[at] ^= byte(1 + random.IntN(255))
		case 1:
			b = b[:at]
		case 2:
			clear(b[at/page*page : at/page*page+page])
		case 3:
			for j := at; j < min(at+64, len(b)); j++ {
				b[j] = byte(random.IntN(256))
			}
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := open(dir, func() time.Time { return fixed })
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		if _, _, err := s.ActivePolicy(); err != nil && len(s.Notes()) == 0 {
			t.Logf("damage %d is found when the policy is read: %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
