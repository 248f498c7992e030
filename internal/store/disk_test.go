package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onDisk runs fn on a thread of its own that sees a small disk at dir and nothing else does.
// The thread ends with fn, and the disk with the thread.
func onDisk(t *testing.T, bytes int, fn func(dir string) error) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("PENSTOCK_REQUIRE_NET") == "1" {
			t.Fatal("root is missing: a small disk cannot be mounted")
		}
		t.Skip("root is missing: a small disk cannot be mounted")
	}
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not fit for anybody else
		done <- errors.Join(mountDisk(dir, bytes), fn(dir))
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func mountDisk(dir string, bytes int) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	return nil
}

func wantError(err error, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("got %v, want %v", err, want)
	}
	return nil
}

func TestFullDiskIsAnError(t *testing.T) {
	t.Run("where there is no store yet", func(t *testing.T) {
		onDisk(t, 4096, func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4096), 0o600); err != nil {
				return err
			}
			_, err := Open(dir)
			left, _ := filepath.Glob(filepath.Join(dir, "penstock*"))
			if len(left) != 0 {
				return fmt.Errorf("a store that could not be begun leaves %v", left)
			}
			return wantError(err, syscall.ENOSPC)
		})
	})
	t.Run("where there is one", func(t *testing.T) {
		onDisk(t, 128<<10, func(dir string) error {
			s, err := open(dir, time.Now)
			if err != nil {
				return err
			}
			defer s.Close()
			if _, err := s.PutPolicy(Version{}, []byte("fits")); err != nil {
				return err
			}
			if _, err := s.Activate(1, "root", time.Time{}); err != nil {
				return err
			}
			_, err = s.PutPolicy(Version{}, bytes.Repeat([]byte("too large "), 30000))
			if err := wantError(err, syscall.ENOSPC); err != nil {
				return err
			}
			return stillHolds(s, "fits")
		})
	})
}

func TestReadOnlyDisk(t *testing.T) {
	t.Run("with a store is read from", func(t *testing.T) {
		onDisk(t, 1<<20, func(dir string) error {
			if err := prepare(dir); err != nil {
				return err
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				return err
			}
			s, err := Open(dir)
			if err != nil {
				return err
			}
			defer s.Close()
			if !s.ReadOnly() || !strings.Contains(strings.Join(s.Notes(), " "), "can be read but not written") {
				return fmt.Errorf("read-only %v, notes %v", s.ReadOnly(), s.Notes())
			}
			_, err = s.PutPolicy(Version{}, []byte("b"))
			_, activateErr := s.Activate(1, "root", time.Time{})
			_, confirmErr := s.Confirm()
			return errors.Join(wantError(err, ErrReadOnly), wantError(activateErr, ErrReadOnly),
				wantError(confirmErr, ErrReadOnly), stillHolds(s, "a"))
		})
	})
	t.Run("without one is an error", func(t *testing.T) {
		onDisk(t, 1<<20, func(dir string) error {
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				return err
			}
			_, err := Open(dir)
			return wantError(err, syscall.EROFS)
		})
	})
	t.Run("with a damaged store is an error", func(t *testing.T) {
		onDisk(t, 1<<20, func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, FileName), []byte("damaged"), 0o600); err != nil {
				return err
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				return err
			}
			_, err := Open(dir)
			return wantError(err, syscall.EROFS)
		})
	})
}

// prepare leaves a store in dir whose active policy is "a".
func prepare(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	_, putErr := s.PutPolicy(Version{}, []byte("a"))
	_, activateErr := s.Activate(1, "root", time.Time{})
	return errors.Join(putErr, activateErr, s.Close())
}

// stillHolds reports where the policy in force is not the one given, or the check fails.
func stillHolds(s *Store, want string) error {
	_, raw, err := s.ActivePolicy()
	if err == nil && string(raw) != want {
		err = fmt.Errorf("%q is in force, want %q", raw, want)
	}
	return errors.Join(err, s.Check())
}
