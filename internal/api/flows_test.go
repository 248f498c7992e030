package api

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock-ot/penstock/internal/identity"
)

func TestInventoryGoesOverTheSocket(t *testing.T) {
	f := newFake()
	f.inventory = identity.Snapshot{Assets: []identity.Asset{{MAC: "02:00:00:00:00:10", Side: "a", Addresses: []string{}}}, LeftOut: 3}
	got, err := NewClient(serve(t, f)).Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.inventory, got); diff != "" {
		t.Error(diff)
	}
}

func TestFlowsAreAllToldOrTheListIsBrokenOff(t *testing.T) {
	f := newFake()
	for i := range 2*flowBatch + 3 {
		f.flows = append(f.flows, Flow{Source: fmt.Sprintf("device-%d", i), Verdict: "allow"})
	}
	c := NewClient(serve(t, f))
	var got []Flow
	take := func(one Flow) error {
		got = append(got, one)
		return nil
	}
	if err := c.Flows(t.Context(), take); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.flows, got); diff != "" {
		t.Error(diff)
	}

	f.mu.Lock()
	f.err = errors.New("the table cannot be read")
	f.mu.Unlock()
	if err := c.Flows(t.Context(), take); err == nil {
		t.Error("a list that broke off is taken for the whole")
	}
	f.flows = nil
	var refused *Error
	if err := c.Flows(t.Context(), take); !errors.As(err, &refused) {
		t.Errorf("no flow and an error: %v, want what the daemon said", err)
	}
}
