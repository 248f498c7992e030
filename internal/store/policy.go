package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// The bounds of the history. Beyond MaxVersions the oldest versions go, except the ones that
// the activation names.
const (
	MaxVersions    = 256
	MaxPolicyBytes = 4 << 20
)

// Version describes one stored policy. Numbers count up from 1 and are never used again.
type Version struct {
	Number uint64    `json:"number"`
	Hash   string    `json:"hash"` // SHA-256 of the bytes, lower-case hex
	Site   string    `json:"site"`
	Name   string    `json:"name"` // the file it came from, for people
	Time   time.Time `json:"time"` // when it was stored, UTC
	Who    string    `json:"who"`  // who gave it
	Size   int       `json:"size"` // bytes
}

// Activation says which version is in force.
type Activation struct {
	Active   uint64    `json:"active"`   // 0: none yet
	Previous uint64    `json:"previous"` // what a rollback goes back to; 0: nothing
	Since    time.Time `json:"since"`
	Who      string    `json:"who"`

	// ConfirmBy is the time at which the active version is rolled back unless it was
	// confirmed; zero when nothing waits for confirmation.
	ConfirmBy time.Time `json:"confirm_by,omitzero"`
}

// Pending reports whether the active version waits for confirmation.
func (a Activation) Pending() bool { return !a.ConfirmBy.IsZero() }

// Overdue reports whether the active version should be rolled back at the time given. It is
// for the start of the daemon; one that runs has a timer. A clock that stands before the
// activation has been set back, and how long the change has waited is no longer known: that
// counts as overdue, because what there was before is what is known to work.
func (a Activation) Overdue(now time.Time) bool {
	return a.Pending() && (!now.Before(a.ConfirmBy) || now.Before(a.Since))
}

// PutPolicy stores a policy without putting it in force (see Activate), in one transaction.
// The caller gives Site, Name and Who; the rest of the version is filled in here. Storing the
// bytes of the newest version again returns that version instead of adding one, so that a
// reload of an unchanged file leaves no trace in the history.
func (s *Store) PutPolicy(v Version, raw []byte) (Version, error) {
	if len(raw) > MaxPolicyBytes {
		return Version{}, fmt.Errorf("store policy: %d bytes is more than the %d that are kept", len(raw), MaxPolicyBytes)
	}
	sum := sha256.Sum256(raw)
	v.Hash, v.Size, v.Time = hex.EncodeToString(sum[:]), len(raw), s.now().UTC()
	err := s.update("store policy", func(tx *bbolt.Tx) error {
		versions := tx.Bucket(bucketVersions)
		if newest, ok, err := newestVersion(versions); err != nil {
			return err
		} else if ok && newest.Hash == v.Hash {
			v = newest
			return nil
		}
		next, err := versions.NextSequence()
		if err != nil {
			return err
		}
		v.Number = next
		if err := putJSON(versions, key(next), v); err != nil {
			return err
		}
		if err := tx.Bucket(bucketBytes).Put(key(next), raw); err != nil {
			return err
		}
		return prune(tx)
	})
	if err != nil {
		return Version{}, err
	}
	return v, nil
}

// Activate records that a stored version is in force, in one transaction. With a confirmBy
// that is not zero it waits for Confirm until then, which takes a version to go back to
// (ErrNoEarlier). While an earlier activation still waits, the version to go back to stays
// the last one that needed no confirmation. Activating what is in force already, and
// confirmed, changes nothing and waits for nothing. ErrNotFound where there is no such version.
func (s *Store) Activate(n uint64, who string, confirmBy time.Time) (Activation, error) {
	var a Activation
	err := s.update(fmt.Sprintf("put policy version %d in force", n), func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketVersions).Get(key(n)) == nil {
			return ErrNotFound
		}
		old, err := readActivation(tx)
		if err != nil {
			return err
		}
		if old.Active == n && !old.Pending() {
			a = old
			return nil
		}
		a = Activation{Active: n, Previous: old.Previous, Since: s.now().UTC(), Who: who}
		if !old.Pending() {
			a.Previous = old.Active
		}
		if a.Previous == n {
			a.Previous = 0
		}
		if !confirmBy.IsZero() {
			if a.Previous == 0 {
				return ErrNoEarlier
			}
			a.ConfirmBy = confirmBy.UTC()
		}
		return putJSON(tx.Bucket(bucketMeta), keyActivation, a)
	})
	if err != nil {
		return Activation{}, err
	}
	return a, nil
}

// Confirm makes the active version stay. ErrNoPending where nothing waits for that.
func (s *Store) Confirm() (Activation, error) {
	var a Activation
	err := s.update("confirm policy", func(tx *bbolt.Tx) error {
		var err error
		if a, err = readActivation(tx); err != nil {
			return err
		}
		if !a.Pending() {
			return ErrNoPending
		}
		a.ConfirmBy = time.Time{}
		return putJSON(tx.Bucket(bucketMeta), keyActivation, a)
	})
	if err != nil {
		return Activation{}, err
	}
	return a, nil
}

// Activation returns what is in force; the zero Activation where nothing is yet.
func (s *Store) Activation() (Activation, error) {
	var a Activation
	err := s.db.View(func(tx *bbolt.Tx) error {
		var err error
		a, err = readActivation(tx)
		return err
	})
	return a, err
}

// Policy returns a version and its bytes. ErrNotFound where there is none; an error where
// the bytes no longer have the hash that they were stored with.
func (s *Store) Policy(n uint64) (Version, []byte, error) {
	var v Version
	var raw []byte
	err := s.db.View(func(tx *bbolt.Tx) error {
		var err error
		v, raw, err = readVersion(tx, n)
		return err
	})
	return v, raw, err
}

// ActivePolicy returns the version in force and its bytes. ErrNotFound where none is.
func (s *Store) ActivePolicy() (Version, []byte, error) {
	a, err := s.Activation()
	if err != nil {
		return Version{}, nil, err
	}
	return s.Policy(a.Active)
}

// History returns the stored versions, newest first, at most limit of them (all if it is not
// positive).
func (s *Store) History(limit int) ([]Version, error) {
	var versions []Version
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketVersions).Cursor()
		for k, raw := c.Last(); k != nil && (limit <= 0 || len(versions) < limit); k, raw = c.Prev() {
			v, err := decodeVersion(k, raw)
			if err != nil {
				return err
			}
			versions = append(versions, v)
		}
		return nil
	})
	return versions, err
}

func readVersion(tx *bbolt.Tx, n uint64) (Version, []byte, error) {
	raw := tx.Bucket(bucketVersions).Get(key(n))
	if raw == nil {
		return Version{}, nil, fmt.Errorf("read policy version %d: %w", n, ErrNotFound)
	}
	v, err := decodeVersion(key(n), raw)
	if err != nil {
		return Version{}, nil, err
	}
	stored := tx.Bucket(bucketBytes).Get(key(n))
	sum := sha256.Sum256(stored)
	if stored == nil || hex.EncodeToString(sum[:]) != v.Hash {
		return Version{}, nil, fmt.Errorf("read policy version %d: its bytes are not those that were stored", n)
	}
	return v, append([]byte{}, stored...), nil // bbolt's memory ends with the transaction
}

func decodeVersion(k, raw []byte) (Version, error) {
	var v Version
	if err := json.Unmarshal(raw, &v); err != nil {
		return Version{}, fmt.Errorf("read policy version %d: %w", number(k), err)
	}
	return v, nil
}

func newestVersion(versions *bbolt.Bucket) (Version, bool, error) {
	k, raw := versions.Cursor().Last()
	if k == nil {
		return Version{}, false, nil
	}
	v, err := decodeVersion(k, raw)
	return v, err == nil, err
}

func readActivation(tx *bbolt.Tx) (Activation, error) {
	raw := tx.Bucket(bucketMeta).Get(keyActivation)
	if raw == nil {
		return Activation{}, nil
	}
	var a Activation
	if err := json.Unmarshal(raw, &a); err != nil {
		return Activation{}, fmt.Errorf("read which policy is in force: %w", err)
	}
	return a, nil
}

// prune removes the oldest versions beyond MaxVersions, but never what the activation names.
func prune(tx *bbolt.Tx) error {
	a, err := readActivation(tx)
	if err != nil {
		return err
	}
	versions := tx.Bucket(bucketVersions)
	var keys [][]byte
	if err := versions.ForEach(func(k, _ []byte) error {
		keys = append(keys, append([]byte{}, k...))
		return nil
	}); err != nil {
		return err
	}
	for _, k := range keys[:max(0, len(keys)-MaxVersions)] {
		if n := number(k); n == a.Active || n == a.Previous {
			continue
		}
		if err := errors.Join(versions.Delete(k), tx.Bucket(bucketBytes).Delete(k)); err != nil {
			return err
		}
	}
	return nil
}

// key is a version's number as it is filed: big-endian, so that the order of the keys is the
// order of the numbers.
func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// number is the inverse of key; 0, which no version has, for a key that is none.
func number(k []byte) uint64 {
	if len(k) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(k)
}
