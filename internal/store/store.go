// Package store keeps what has to survive a restart: the versions of the policy and which of
// them is in force. It is one bbolt file in the state directory. A broken file never keeps
// the line from its policy check: it is set aside whole, under another name, and a new one is
// begun.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// FileName is the name of the store's file in the state directory.
const FileName = "penstock.db"

// SchemaVersion is the layout of the buckets that this build reads and writes.
const SchemaVersion = 1

// lockTimeout is how long Open waits for another process to let the file go: long enough for
// the predecessor of a restarted daemon to close it, short enough to fail a mistaken second start.
const lockTimeout = 2 * time.Second

// Errors on which a caller branches.
var (
	ErrInUse     = errors.New("the store is held by another process: is another penstockd running?")
	ErrReadOnly  = errors.New("the store is read-only: make its directory writable and restart penstockd")
	ErrNotFound  = errors.New("the store has no such policy version")
	ErrNoPending = errors.New("no policy waits for confirmation")
	ErrNoEarlier = errors.New("there is no earlier policy to go back to")
)

// The buckets and the keys in bucketMeta.
var (
	bucketMeta     = []byte("meta")
	bucketVersions = []byte("policy_versions") // number, big-endian: Version as JSON
	bucketBytes    = []byte("policy_bytes")    // number, big-endian: the policy as it was given
	keySchema      = []byte("schema")
	keyActivation  = []byte("activation")
)

// Store is an open store. It is safe for concurrent use by several goroutines of one process.
type Store struct {
	db       *bbolt.DB
	now      func() time.Time
	readOnly bool
	notes    []string

	mu     sync.Mutex
	failed error // of the last write
}

// Open opens the store in dir and creates both where they do not exist. What is wrong with
// an existing file decides what happens:
//   - another process holds it: ErrInUse;
//   - it is damaged, or a newer version of Penstock wrote it: it is renamed to
//     penstock.db.corrupt-TIME, a new store is begun, and Notes says so;
//   - it can be read but not written (a disk that went read-only): it is opened for reading,
//     each write fails with ErrReadOnly, and Notes says so;
//   - anything else, such as a full disk where there is no file yet: an error.
func Open(dir string) (*Store, error) { return open(dir, time.Now) }

func open(dir string, now func() time.Time) (*Store, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("create state directory %s: %w", dir, err)
	}
	path := filepath.Join(dir, FileName)
	s := &Store{now: now}
	err := s.openOrCreate(path)
	var damage *damageError
	if errors.As(err, &damage) {
		err = s.replace(path, damage)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

// Close closes the file. A second Close is harmless.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Notes returns what a person should know about how the store was opened; empty is good.
func (s *Store) Notes() []string { return s.notes }

// ReadOnly reports whether the store takes no writes (see Open).
func (s *Store) ReadOnly() bool { return s.readOnly }

func (s *Store) openOrCreate(path string) error {
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	db, err := openFile(path, false)
	if notWritable(err) {
		if db, err = openFile(path, true); err == nil {
			s.readOnly = true
			s.notes = append(s.notes, fmt.Sprintf("the store %s can be read but not written: it forgets every change of policy until it can", path))
		}
	}
	if err != nil {
		return err
	}
	s.db = db
	return nil
}

// replace sets a damaged file aside, every byte of it, and begins a new store.
func (s *Store) replace(path string, damage *damageError) error {
	aside, err := unusedName(path + ".corrupt-" + s.now().UTC().Format("20060102T150405.000000Z"))
	if err == nil {
		err = os.Rename(path, aside)
	}
	if err != nil {
		return fmt.Errorf("set damaged store aside (%v): %w", damage, err)
	}
	if err := s.openOrCreate(path); err != nil {
		return fmt.Errorf("begin a new store after %s was set aside: %w", aside, err)
	}
	s.notes = append(s.notes, fmt.Sprintf("the store could not be used (%v): it was kept as %s and a new, empty one was begun", damage, aside))
	return nil
}

// unusedName returns the name, or the name with a number behind it where that is taken: on a
// box whose clock starts anew with each power cut, times repeat, and renaming would replace
// what was set aside before.
func unusedName(name string) (string, error) {
	candidate := name
	for i := 2; ; i++ {
		_, err := os.Lstat(candidate)
		if errors.Is(err, fs.ErrNotExist) {
			return candidate, nil
		}
		if err != nil {
			return "", err
		}
		candidate = fmt.Sprintf("%s-%d", name, i)
	}
}

// create makes a new store under a temporary name and moves it into place, so that a crash
// or a full disk leaves either no store or a whole one.
func create(path string) error {
	fresh := path + ".new"
	if err := removeIfThere(fresh); err != nil {
		return fmt.Errorf("remove an unfinished store: %w", err)
	}
	if err := write(fresh); err != nil {
		return errors.Join(err, removeIfThere(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("move new store into place: %w", err)
	}
	return syncDirectory(filepath.Dir(path))
}

// write writes a store without policies to a file that does not exist yet.
func write(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return openError(err)
	}
	err = db.Update(layOut)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write new store: %w", err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func layOut(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketVersions, bucketBytes} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return putJSON(tx.Bucket(bucketMeta), keySchema, SchemaVersion)
}

// syncDirectory makes a rename in the directory last through a power cut.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync state directory %s: %w", dir, err)
	}
	return nil
}

// openError turns bbolt's errors into ours: in use, damaged, or as they are.
func openError(err error) error {
	for _, broken := range []error{bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum} {
		if errors.Is(err, broken) {
			return &damageError{"damaged: " + err.Error()}
		}
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return ErrInUse
	}
	return err
}

func notWritable(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

func putJSON(b *bbolt.Bucket, key []byte, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

// update runs fn in one transaction: all of it is on disk when update returns nil, none of
// it otherwise.
func (s *Store) update(what string, fn func(*bbolt.Tx) error) error {
	if s.readOnly {
		return fmt.Errorf("%s: %w", what, ErrReadOnly)
	}
	if err := s.db.Update(fn); err != nil {
		err = fmt.Errorf("%s: %w", what, err)
		s.written(err)
		return err
	}
	s.written(nil)
	return nil
}

// written takes down how a write went. That a caller asked for what cannot be is no failure of the store.
func (s *Store) written(err error) {
	for _, refusal := range []error{ErrNotFound, ErrNoPending, ErrNoEarlier} {
		if errors.Is(err, refusal) {
			err = nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
}

// Failing returns why the store takes no writes, nil if the last one went well. A write that failed is
// tried once more with one that changes nothing, so that the answer is true now.
func (s *Store) Failing() error {
	if s.readOnly {
		return ErrReadOnly
	}
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed == nil {
		return nil
	}
	return s.update("write to the store", func(tx *bbolt.Tx) error {
		return putJSON(tx.Bucket(bucketMeta), keySchema, SchemaVersion)
	})
}
