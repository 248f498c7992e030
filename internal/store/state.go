package store

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// bucketStates holds small values that survive a restart, each under a name, as JSON.
var bucketStates = []byte("states")

// State names a value that survives a restart.
type State string

// The states.
const (
	StateIslands State = "islands"
	StateTrial   State = "trial" // when the policy that waits for confirmation is rolled back
	StateBypass  State = "bypass"
	StateDrill   State = "drill" // the last test of the bypass on site
)

// PutState writes a state down.
func (s *Store) PutState(name State, value any) error {
	return s.update(fmt.Sprintf("store %s", name), func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketStates)
		if err != nil {
			return err
		}
		return putJSON(b, []byte(name), value)
	})
}

// State reads a state into value, which stays as it is where nothing was stored.
func (s *Store) State(name State, value any) error {
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketStates)
		if b == nil {
			return nil
		}
		raw := b.Get([]byte(name))
		if raw == nil {
			return nil
		}
		return json.Unmarshal(raw, value)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
