package store

import (
	"errors"
	"testing"
)

func TestStatesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	got := map[string]int{"as": 1}
	if err := s.State(StateIslands, &got); err != nil || got["as"] != 1 {
		t.Errorf("of nothing stored: %v, %v", got, err)
	}
	if err := s.PutState(StateIslands, map[string]int{"cell": 2}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutState(StateBypass, "x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	got = nil
	if err := s.State(StateIslands, &got); err != nil || got["cell"] != 2 {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	var wrong []int
	if err := s.State(StateBypass, &wrong); err == nil {
		t.Error("a value of another kind was read")
	}
}

func TestFailingIsTrueNow(t *testing.T) {
	s := openTest(t, t.TempDir())
	if err := s.Failing(); err != nil {
		t.Errorf("a new store: %v", err)
	}
	if _, err := s.Activate(99, "root", fixed); err == nil {
		t.Error("a version that is not there was activated")
	}
	if err := s.Failing(); err != nil {
		t.Errorf("a refusal is no failure: %v", err)
	}
	s.written(errors.New("no space left"))
	if err := s.Failing(); err != nil {
		t.Errorf("it takes writes again, and says %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.PutState(StateBypass, 1); err == nil {
		t.Error("a closed store took a write")
	}
	if err := s.Failing(); err == nil {
		t.Error("a store that takes no writes does not say so")
	}
}
