package api

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// abandon leaves a socket behind as a killed daemon does.
func abandon(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListenPermissions(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		old := syscall.Umask(umask)
		path := filepath.Join(t.TempDir(), "run", "penstock.sock")
		l, err := Listen(path)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]os.FileMode{path: 0o660, filepath.Dir(path): 0o750} {
			info, err := os.Stat(name)
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("umask %03o: %s has mode %v, %v; want %v", umask, name, info.Mode(), err, want)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestListenLeavesAnExistingDirectoryAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestListenReplacesOnlyWhatIsStale(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    string // in the error; empty is success
	}{
		{"nothing there", func(*testing.T, string) {}, ""},
		{"a stale socket", abandon, ""},
		{"a live one", func(t *testing.T, path string) {
			l, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "another penstockd listens there"},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "a file that is no socket"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "a file that is no socket"},
		{"a link to nowhere", func(t *testing.T, path string) {
			if err := os.Symlink("nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, "a file that is no socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			tt.prepare(t, path)
			before, _ := os.Lstat(path)
			l, err := Listen(path)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				l.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v", err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "file", "s"), filepath.Join(dir, strings.Repeat("x", 200))} {
		if l, err := Listen(path); err == nil {
			l.Close()
			t.Errorf("%s: no error", path)
		}
	}
}

func TestPeerIsWhoConnected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := identifying{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	want := peer{pid: int32(os.Getpid()), uid: uint32(os.Getuid()), gid: uint32(os.Getgid())}
	if got := accepted.RemoteAddr(); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := (peer{uid: 4000000000}).who(); got != "uid 4000000000" {
		t.Errorf("a uid without a name is %q", got)
	}
	if got := (peer{uid: 0}).who(); got != "root (uid 0)" {
		t.Errorf("root is %q", got)
	}
}

func TestServerThatFailsSaysWhy(t *testing.T) {
	l, err := Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, newFake(), slog.New(slog.DiscardHandler))
	l.Close()
	if err := s.Wait(); err == nil {
		t.Error("the listener is gone and Wait has no error")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
