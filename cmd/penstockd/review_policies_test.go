package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/store"
)

// kernel is a fast path that remembers which policies it was given.
type kernel struct {
	sites []string
	fails int    // so many of the next changes fail
	then  func() // once, after the next change that does not
}

func (k *kernel) Apply(plan *policy.Plan, _ uint64) (uint32, error) {
	if k.fails > 0 {
		k.fails--
		return 0, errors.New("apply the policy: no memory")
	}
	k.sites = append(k.sites, plan.Site)
	if k.then != nil {
		k.then()
		k.then = nil
	}
	return uint32(len(k.sites)), nil
}

// sitePolicy is a policy that differs from the next by the name of its site.
func sitePolicy(name string) []byte {
	return []byte(strings.Replace(site{conduits: []string{modbusConduit("test", 502)}}.String(), "site: test", "site: "+name, 1))
}

// changing returns policies with the file's policy, of site one, in force.
func changing(t *testing.T, stored bool) (*policies, *kernel) {
	t.Helper()
	p := &policies{appliance: plant.Appliance, file: filepath.Join(t.TempDir(), "policy.yaml"), log: slog.New(slog.DiscardHandler)}
	writePolicy(t, p, "one")
	if stored {
		s, err := store.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		p.store = s
	}
	c, v, err := p.start()
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{}
	if err := p.first(k, c, v); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p, k
}

func writePolicy(t *testing.T, p *policies, site string) {
	t.Helper()
	if err := os.WriteFile(p.file, sitePolicy(site), 0o600); err != nil {
		t.Fatal(err)
	}
}

func submit(p *policies, site string, within time.Duration) (api.Applied, error) {
	return p.ApplyPolicy(context.Background(), api.Submission{Name: site, Raw: sitePolicy(site), Who: "test", ConfirmWithin: within})
}

// TestTrialThatIsNotRecordedIsNoTrial: nobody would roll it back, so it may not stay in force.
func TestTrialThatIsNotRecordedIsNoTrial(t *testing.T) {
	p, k := changing(t, true)
	k.then = func() { _ = p.store.Close() } // the disk fails between the two
	applied, err := submit(p, "two", time.Minute)
	if err == nil {
		t.Errorf("a trial that will never be rolled back was begun: %+v", applied)
	}
	if want := []string{"one", "two", "one"}; !slices.Equal(k.sites, want) || p.plan.Site != "one" || p.version.Site != "one" {
		t.Errorf("in force were %v, and %s is said to be; want %v", k.sites, p.plan.Site, want)
	}
}

// TestRollbackIsTriedAgain: a change on trial is taken back even if the kernel refuses at first.
func TestRollbackIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, k := changing(t, true)
		if _, err := submit(p, "two", time.Minute); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		k.fails = 3
		p.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.plan.Site != "one" {
			t.Errorf("%s is in force, unconfirmed, an hour after its trial", p.plan.Site)
		}
		if len(p.notes) > 1 {
			t.Errorf("%d notes for one failure", len(p.notes))
		}
	})
}

// TestReloadDoesNotConfirm: SIGHUP comes from scripts, and says nothing about a trial.
func TestReloadDoesNotConfirm(t *testing.T) {
	p, k := changing(t, true)
	writePolicy(t, p, "two")
	if _, err := submit(p, "two", time.Hour); err != nil {
		t.Fatal(err)
	}
	applied, err := p.Reload(t.Context(), "SIGHUP")
	if err != nil || !applied.Unchanged || applied.ConfirmBy.IsZero() {
		t.Errorf("the file of the trial read again: %+v, %v", applied, err)
	}
	if a, err := p.store.Activation(); err != nil || !a.Pending() || p.confirm.IsZero() {
		t.Errorf("the trial is over: %+v, %v", a, err)
	}
	writePolicy(t, p, "three")
	if _, err := p.Reload(t.Context(), "SIGHUP"); err != nil || k.sites[len(k.sites)-1] != "three" || !p.confirm.IsZero() {
		t.Errorf("another file: %v in force, %v", k.sites, err)
	}
}

// TestReloadOfTheSameFileChangesNothing, without a store too: each new generation would begin rates
// and adoption anew.
func TestReloadOfTheSameFileChangesNothing(t *testing.T) {
	for name, stored := range map[string]bool{"with a store": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			p, k := changing(t, stored)
			for range 3 {
				if applied, err := p.Reload(t.Context(), "SIGHUP"); err != nil || !applied.Unchanged {
					t.Errorf("%+v, %v", applied, err)
				}
			}
			if len(k.sites) != 1 {
				t.Errorf("the policy was put in force %d times", len(k.sites))
			}
		})
	}
}

// TestWhoGoesBackToAnExpiredWaiverIsTold: a rollback is for when something is wrong, and is not refused over it.
func TestWhoGoesBackToAnExpiredWaiverIsTold(t *testing.T) {
	p, k := changing(t, true)
	lapsed := site{conduits: []string{modbusConduit("test", 502, "on_outage: open", "sl_target: 3",
		"waiver: {owner: line manager, expires: 2020-06-30, compensating: the cabinet is locked}")}}.String()
	v, err := p.store.PutPolicy(store.Version{Name: "lapsed"}, []byte(lapsed))
	if err != nil {
		t.Fatal(err)
	}
	applied, err := p.RollbackPolicy(t.Context(), v.Number, "test")
	if err != nil || len(k.sites) != 2 {
		t.Fatalf("%v, in force were %v", err, k.sites)
	}
	if len(applied.Warnings) != 1 || !strings.Contains(applied.Warnings[0], "expired on 2020-06-30") {
		t.Errorf("the warnings are %q", applied.Warnings)
	}
}

// TestNothingIsAppliedAtTheEnd: who asked before and is served late does not touch what is closed by then.
func TestNothingIsAppliedAtTheEnd(t *testing.T) {
	p, k := changing(t, true)
	p.close()
	if _, err := submit(p, "two", 0); err == nil || !strings.Contains(err.Error(), "penstockd is ending") {
		t.Errorf("apply: %v", err)
	}
	if _, err := p.CloseZone(t.Context(), "annexe", "test", 0); err == nil {
		t.Error("a zone was closed")
	}
	if len(k.sites) != 1 || p.plan.Site != "one" {
		t.Errorf("the kernel was given %v, in force is %s", k.sites, p.plan.Site)
	}
}
