package bridge_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// helperVariable makes the test program a small program that rejoins the host and says where it is.
const helperVariable = "PSTEST_REJOIN"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) == "" {
		os.Exit(m.Run())
	}
	if err := bridge.RejoinHost(); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(whereabouts())
}

func whereabouts() string {
	mounts, _ := os.Readlink("/proc/self/ns/mnt")
	network, _ := os.Readlink("/proc/thread-self/ns/net")
	directory, _ := os.Getwd()
	guard := ""
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "_PENSTOCK") {
			guard = v
		}
	}
	return fmt.Sprintf("mounts %s network %s directory %s arguments %q guard %q", mounts, network, directory, os.Args[1:], guard)
}

func TestRejoinHostFromIPNetnsExec(t *testing.T) {
	lab := testnet.New(t)
	// The test runs among the mounts that last.
	host, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	var network string
	if err := lab.Box.Do(func() (err error) { network, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string][]string{
		"ip netns exec": {"ip", "netns", "exec", lab.Box.Name(), self, "one", "two words"},
		"not private":   {"nsenter", "--net=/run/netns/" + lab.Box.Name(), self, "one", "two words"},
	} {
		t.Run(name, func(t *testing.T) {
			testnet.RequireProgram(t, command[0])
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Dir = directory
			cmd.Env = append(os.Environ(), helperVariable+"=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := fmt.Sprintf("mounts %s network %s directory %s arguments %q guard %q\n", host, network, directory, []string{"one", "two words"}, "")
			if string(out) != want {
				t.Errorf("got  %swant %s", out, want)
			}
		})
	}
}

// Where process 1 cannot be joined, the program must not start itself for ever.
func TestRejoinHostDoesNotLoop(t *testing.T) {
	testnet.RequireNet(t)
	testnet.RequireProgram(t, "unshare")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// An empty file system over /sys/fs/bpf, and a guard that says it is the second time.
	cmd := exec.Command("unshare", "--mount", "sh", "-c", "mount -t tmpfs none /sys/fs/bpf && exec \"$0\"", self)
	cmd.Env = append(os.Environ(), helperVariable+"=1", "_PENSTOCK_REJOINED_HOST_MOUNTS=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("started again")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEnsureBPFFS(t *testing.T) {
	testnet.RequireNet(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread's mounts are its own
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
				return err
			}
			// As if nobody had mounted it.
			if err := unix.Mount("none", "/sys/fs/bpf", "tmpfs", 0, ""); err != nil {
				return err
			}
			for range 2 {
				if err := bridge.EnsureBPFFS(); err != nil {
					return err
				}
			}
			var st unix.Statfs_t
			if err := unix.Statfs("/sys/fs/bpf", &st); err != nil {
				return err
			}
			if int64(st.Type) != unix.BPF_FS_MAGIC {
				return fmt.Errorf("/sys/fs/bpf has type %#x", st.Type)
			}
			mounts, err := os.ReadFile("/proc/thread-self/mounts")
			if n := bytes.Count(mounts, []byte(" /sys/fs/bpf bpf ")); err == nil && n != 1 && n != 2 {
				return fmt.Errorf("it is mounted %d times", n)
			}
			return err
		}()
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
