package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// damageError says that a file is there but holds no store that this build can use.
type damageError struct{ what string }

func (e *damageError) Error() string { return e.what }

// openFile opens an existing file and reads every page of it before anybody relies on it.
//
// bbolt trusts its pages: on a damaged file it panics, or reads outside its memory map, which
// ends the process. Both become errors here, because a process that dies at each start takes
// the policy check down with it.
func openFile(path string, readOnly bool) (db *bbolt.DB, err error) {
	var file *os.File
	defer func() {
		if r := recover(); r != nil {
			// Half-open: bbolt gave no handle to close, so the descriptor and its lock are
			// let go here.
			if file != nil {
				_ = file.Close()
			}
			db, err = nil, &damageError{fmt.Sprintf("damaged: %v", r)}
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:  lockTimeout,
		ReadOnly: readOnly,
		// Opening for writing creates a file that is not there; here that would hide a race.
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
			return file, err
		},
		PreLoadFreelist: true,
	})
	if err != nil {
		return nil, tooSmall(path, openError(err))
	}
	if err := inspect(db); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// tooSmall tells a truncated file, for which bbolt has no error value, from other errors.
func tooSmall(path string, err error) error {
	var damage *damageError
	var pathError *fs.PathError
	if errors.As(err, &damage) || errors.As(err, &pathError) || errors.Is(err, ErrInUse) {
		return err
	}
	if info, statErr := os.Stat(path); statErr == nil && info.Size() < int64(2*os.Getpagesize()) {
		return &damageError{fmt.Sprintf("damaged: only %d bytes long", info.Size())}
	}
	return err
}

// inspect checks the file's structure, then that its schema is ours.
func inspect(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		// Reading everything first, on this goroutine, finds the pages that lie outside the
		// file: Check runs on one of its own, where a fault could not be turned into an error.
		if err := tx.ForEach(readAll); err != nil {
			return &damageError{"damaged: " + err.Error()}
		}
		if err := checkPages(tx); err != nil {
			return &damageError{"damaged: " + err.Error()}
		}
		return checkSchema(tx)
	})
}

// readAll touches every byte of every key and value; the checksum is what makes it do so.
func readAll(_ []byte, b *bbolt.Bucket) error {
	return b.ForEach(func(key, value []byte) error {
		crc32.ChecksumIEEE(key)
		if value == nil {
			return readAll(key, b.Bucket(key))
		}
		crc32.ChecksumIEEE(value)
		return nil
	})
}

// checkPages is bbolt's own consistency check; it returns the first thing found.
func checkPages(tx *bbolt.Tx) error {
	var first error
	for err := range tx.Check() {
		if first == nil {
			first = err
		}
	}
	return first
}

func checkSchema(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketVersions, bucketBytes} {
		if tx.Bucket(name) == nil {
			return &damageError{fmt.Sprintf("damaged: the bucket %s is missing", name)}
		}
	}
	var schema int
	if err := json.Unmarshal(tx.Bucket(bucketMeta).Get(keySchema), &schema); err != nil {
		return &damageError{"damaged: the schema version cannot be read"}
	}
	if schema > SchemaVersion {
		return &damageError{fmt.Sprintf("written by a newer version of Penstock: schema %d, this one reads up to %d", schema, SchemaVersion)}
	}
	if schema != SchemaVersion {
		return &damageError{fmt.Sprintf("damaged: there is no schema version %d", schema)}
	}
	return nil
}

// Check verifies the file's structure and that each policy still has the hash that it was
// stored with.
func (s *Store) Check() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		if err := checkPages(tx); err != nil {
			return fmt.Errorf("check store: %w", err)
		}
		return tx.Bucket(bucketVersions).ForEach(func(key, _ []byte) error {
			_, _, err := readVersion(tx, number(key))
			return err
		})
	})
}
