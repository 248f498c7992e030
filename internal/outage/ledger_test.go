package outage

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func after(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }

func TestLedgerKeepsBeginningsAndEnds(t *testing.T) {
	var told []bool
	l := NewLedger(func(f Failure) { told = append(told, f.Active) })
	for i, look := range []struct {
		active bool
		news   bool
	}{{false, false}, {true, true}, {true, false}, {false, true}, {false, false}, {true, true}} {
		if news := l.Note(LinkDown, look.active, "pa", after(i)); news != look.news {
			t.Errorf("look %d: news %v, want %v", i, news, look.news)
		}
	}
	l.Happened(RuleRemoved, "netfilter rules", after(9))
	want := []Failure{
		{Class: LinkDown, Active: true, Count: 2, Since: after(5), Detail: "pa"},
		{Class: RuleRemoved, Count: 1, Since: after(9), Until: after(9), Detail: "netfilter rules"},
	}
	if diff := cmp.Diff(want, l.Failures()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]bool{true, false, true, true, false}, told); diff != "" {
		t.Error(diff)
	}
}
