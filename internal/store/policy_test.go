package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func TestPutPolicy(t *testing.T) {
	s := openTest(t, t.TempDir())
	got := put(t, s, "api_version: penstock/v1\n")
	want := Version{
		Number: 1, Site: "Filling line 3",
		Name: "policy.yaml", Time: fixed, Who: "root", Size: 25,
	}
	want.Hash = got.Hash
	if diff := cmp.Diff(want, got); diff != "" || len(got.Hash) != 64 {
		t.Errorf("%s, hash %q", diff, got.Hash)
	}
	v, raw, err := s.Policy(1)
	if err != nil || string(raw) != "api_version: penstock/v1\n" || v != got {
		t.Errorf("read back %v %q, %v", v, raw, err)
	}
	if a, err := s.Activation(); err != nil || a.Active != 0 {
		t.Errorf("storing put %d in force, %v", a.Active, err)
	}
}

func TestPutPolicyEdges(t *testing.T) {
	s := openTest(t, t.TempDir())
	steps := []struct {
		name string
		raw  string
		want uint64 // the version's number; 0 is an error
	}{
		{"the first", "a", 1},
		{"the newest again adds nothing", "a", 1},
		{"another", "b", 2},
		{"an older one again is a new version", "a", 3},
		{"an empty one", "", 4},
		{"the largest", strings.Repeat("x", MaxPolicyBytes), 5},
		{"one byte more", strings.Repeat("x", MaxPolicyBytes+1), 0},
	}
	for _, tt := range steps {
		t.Run(tt.name, func(t *testing.T) {
			v, err := s.PutPolicy(Version{}, []byte(tt.raw))
			if (err != nil) != (tt.want == 0) || v.Number != tt.want {
				t.Errorf("got version %d, %v; want %d", v.Number, err, tt.want)
			}
		})
	}
	if history, err := s.History(0); err != nil || len(history) != 5 {
		t.Errorf("%d versions, %v", len(history), err)
	}
}

func TestPolicyRefuses(t *testing.T) {
	s := openTest(t, t.TempDir())
	put(t, s, "a")
	for _, n := range []uint64{0, 2, 1 << 63} {
		if _, _, err := s.Policy(n); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("version %d: %v", n, err)
		}
		if _, err := s.Activate(n, "root", time.Time{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("activate %d: %v", n, err)
		}
	}
}

func TestPolicyWhoseBytesChangedIsRefused(t *testing.T) {
	s := openTest(t, t.TempDir())
	put(t, s, "right")
	set := func(raw string) {
		if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketBytes).Put(key(1), []byte(raw)) }); err != nil {
			t.Fatal(err)
		}
	}
	set("wrong")
	if _, _, err := s.Policy(1); err == nil || !strings.Contains(err.Error(), "not those that were stored") {
		t.Errorf("got %v", err)
	}
	if err := s.Check(); err == nil {
		t.Error("Check finds nothing")
	}
	set("right")
}

func TestHistoryIsNewestFirst(t *testing.T) {
	s := openTest(t, t.TempDir())
	s.db.NoSync = true   // only for speed
	for i := range 300 { // crosses the byte boundary of the keys
		put(t, s, fmt.Sprint("policy ", i))
	}
	for _, tt := range []struct {
		limit int
		first uint64
		count int
	}{{0, 300, MaxVersions}, {3, 300, 3}, {1000, 300, MaxVersions}} {
		history, err := s.History(tt.limit)
		if err != nil || len(history) != tt.count || history[0].Number != tt.first {
			t.Fatalf("limit %d: %d versions from %v, %v", tt.limit, len(history), history[:1], err)
		}
		if !slices.IsSortedFunc(history, func(a, b Version) int { return int(b.Number) - int(a.Number) }) {
			t.Errorf("limit %d: not newest first", tt.limit)
		}
	}
}

func TestPruneKeepsWhatIsNamed(t *testing.T) {
	s := openTest(t, t.TempDir())
	put(t, s, "first")
	put(t, s, "second")
	put(t, s, "third")
	activate(t, s, 1, time.Time{})
	activate(t, s, 2, time.Time{})
	s.db.NoSync = true // only for speed
	for i := range MaxVersions {
		put(t, s, fmt.Sprint("policy ", i))
	}
	for n, want := range map[uint64]bool{1: true, 2: true, 3: false, 4: true} {
		if _, _, err := s.Policy(n); (err == nil) != want {
			t.Errorf("version %d: %v, want kept %v", n, err, want)
		}
	}
}

func TestActivation(t *testing.T) {
	deadline := fixed.Add(10 * time.Minute)
	type step struct {
		n         uint64 // 0 is Confirm
		confirmBy time.Time
		err       error
	}
	tests := []struct {
		name  string
		steps []step
		want  Activation
	}{
		{"none yet", nil, Activation{}},
		{"the first has nothing before it", []step{{n: 1}}, Activation{Active: 1}},
		{"the next one has", []step{{n: 1}, {n: 2}}, Activation{Active: 2, Previous: 1}},
		{"the same again changes nothing", []step{{n: 1}, {n: 2}, {n: 2}}, Activation{Active: 2, Previous: 1}},
		{"and waits for nothing", []step{{n: 1}, {n: 2}, {n: 2, confirmBy: deadline}}, Activation{Active: 2, Previous: 1}},
		{"back, and there again", []step{{n: 1}, {n: 2}, {n: 1}}, Activation{Active: 1, Previous: 2}},
		{"waits for confirmation", []step{{n: 1}, {n: 2, confirmBy: deadline}}, Activation{Active: 2, Previous: 1, ConfirmBy: deadline}},
		{"is confirmed", []step{{n: 1}, {n: 2, confirmBy: deadline}, {}}, Activation{Active: 2, Previous: 1}},
		{"is confirmed by applying it", []step{{n: 1}, {n: 2, confirmBy: deadline}, {n: 2}}, Activation{Active: 2, Previous: 1}},
		{"is given longer", []step{{n: 1}, {n: 2, confirmBy: fixed}, {n: 2, confirmBy: deadline}},
			Activation{Active: 2, Previous: 1, ConfirmBy: deadline}},
		{"is rolled back", []step{{n: 1}, {n: 2, confirmBy: deadline}, {n: 1}}, Activation{Active: 1}},
		{"an unconfirmed one is nothing to go back to", []step{{n: 1}, {n: 2, confirmBy: deadline}, {n: 3}}, Activation{Active: 3, Previous: 1}},
		{"an unconfirmed one after another", []step{{n: 1}, {n: 2, confirmBy: deadline}, {n: 3, confirmBy: deadline}},
			Activation{Active: 3, Previous: 1, ConfirmBy: deadline}},
		{"the first cannot wait", []step{{n: 1, confirmBy: deadline, err: ErrNoEarlier}}, Activation{}},
		{"nothing to confirm", []step{{n: 1}, {err: ErrNoPending}}, Activation{Active: 1}},
		{"a failed step changes nothing", []step{{n: 1}, {n: 9, err: ErrNotFound}}, Activation{Active: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir)
			for _, raw := range []string{"a", "b", "c"} {
				put(t, s, raw)
			}
			for _, step := range tt.steps {
				var err error
				if step.n == 0 {
					_, err = s.Confirm()
				} else {
					_, err = s.Activate(step.n, "root", step.confirmBy)
				}
				if !errors.Is(err, step.err) {
					t.Fatalf("step %+v: %v", step, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := openTest(t, dir).Activation()
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.Active != 0 {
				tt.want.Since, tt.want.Who = fixed, "root"
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOverdue(t *testing.T) {
	pending := Activation{Active: 2, Previous: 1, Since: fixed, ConfirmBy: fixed.Add(time.Minute)}
	tests := []struct {
		name string
		a    Activation
		at   time.Duration
		want bool
	}{
		{"at once", pending, 0, false},
		{"just before", pending, time.Minute - 1, false},
		{"at the deadline", pending, time.Minute, true},
		{"long after", pending, time.Hour, true},
		{"the clock was set back", pending, -1, true},
		{"nothing waits", Activation{Active: 2, Since: fixed}, time.Hour, false},
		{"nothing waits and the clock was set back", Activation{Active: 2, Since: fixed}, -time.Hour, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.Overdue(fixed.Add(tt.at)); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestStoreAgainstModel drives a store and a map in any order, with restarts in between.
func TestStoreAgainstModel(t *testing.T) {
	base := t.TempDir()
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		dir := fmt.Sprintf("%s/%d", base, runs)
		s, err := open(dir, func() time.Time { return fixed })
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { s.Close() }()
		s.db.NoSync = true // restarts are tested here, power cuts elsewhere
		var model []string
		var active uint64
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				raw := rapid.StringMatching("[ab]{0,3}").Draw(rt, "raw")
				v, err := s.PutPolicy(Version{}, []byte(raw))
				if err != nil {
					rt.Fatal(err)
				}
				if len(model) == 0 || model[len(model)-1] != raw {
					model = append(model, raw)
				}
				if v.Number != uint64(len(model)) {
					rt.Fatalf("version %d, want %d", v.Number, len(model))
				}
			},
			"activate": func(rt *rapid.T) {
				n := rapid.Uint64Range(0, uint64(len(model)+1)).Draw(rt, "n")
				_, err := s.Activate(n, "", time.Time{})
				if known := n >= 1 && n <= uint64(len(model)); known != (err == nil) {
					rt.Fatalf("activate %d of %d: %v", n, len(model), err)
				}
				if err == nil {
					active = n
				}
			},
			"restart": func(rt *rapid.T) {
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				if s, err = open(dir, func() time.Time { return fixed }); err != nil {
					rt.Fatal(err)
				}
				s.db.NoSync = true
			},
			"": func(rt *rapid.T) {
				a, err := s.Activation()
				if err != nil || a.Active != active {
					rt.Fatalf("%d in force, want %d, %v", a.Active, active, err)
				}
				for i, want := range model {
					if _, raw, err := s.Policy(uint64(i + 1)); err != nil || string(raw) != want {
						rt.Fatalf("version %d is %q, want %q, %v", i+1, raw, want, err)
					}
				}
			},
		})
		if err := s.Check(); err != nil {
			rt.Fatal(err)
		}
	})
}
