package store

import (
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
)

// The inventory of what was seen lies in one value: it is a cache of what the wire shows again, and
// is written whole or not at all.
var (
	bucketInventory = []byte("inventory")
	keyInventory    = []byte("seen")
)

// MaxInventoryBytes is the largest inventory that is kept.
const MaxInventoryBytes = 32 << 20

// PutInventory replaces the inventory, whose form is its owner's.
func (s *Store) PutInventory(raw []byte) error {
	if len(raw) > MaxInventoryBytes {
		return fmt.Errorf("store the inventory: %d bytes is more than the %d that are kept", len(raw), MaxInventoryBytes)
	}
	return s.update("store the inventory", func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketInventory)
		if err != nil {
			return err
		}
		return b.Put(keyInventory, raw)
	})
}

// Inventory returns what PutInventory stored last, nil if nothing.
func (s *Store) Inventory() (raw []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketInventory); b != nil {
			raw = slices.Clone(b.Get(keyInventory))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	return raw, nil
}
