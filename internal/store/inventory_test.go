package store

import (
	"bytes"
	"testing"
)

func TestInventoryIsWholeOrAsItWas(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	if raw, err := s.Inventory(); raw != nil || err != nil {
		t.Errorf("a new store has inventory %q, %v", raw, err)
	}
	want := []byte(`{"assets":[]}`)
	if err := s.PutInventory(want); err != nil {
		t.Fatal(err)
	}
	if err := s.PutInventory(make([]byte, MaxInventoryBytes+1)); err == nil {
		t.Error("an inventory over the limit was taken")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if raw, err := openTest(t, dir).Inventory(); !bytes.Equal(raw, want) || err != nil {
		t.Errorf("after a restart the inventory is %q, %v", raw, err)
	}
}
