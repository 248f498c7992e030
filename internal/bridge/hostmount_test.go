package bridge_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// helperVariable makes the test program one of two small programs: "rejoin" rejoins the host's
// mounts and says where it is, "mount" mounts the BPF file system twice.
const helperVariable = "PSTEST_HELPER"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(helperVariable) {
	case "":
		os.Exit(m.Run())
	case "rejoin":
		if err = bridge.RejoinHost(); err == nil {
			fmt.Println(whereabouts())
		}
	case "mount":
		err = errors.Join(bridge.EnsureBPFFS(), bridge.EnsureBPFFS())
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
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
			cmd.Env = append(os.Environ(), helperVariable+"=rejoin")
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
	cmd.Env = append(os.Environ(), helperVariable+"=rejoin", "_PENSTOCK_REJOINED_HOST_MOUNTS=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("started again")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEnsureBPFFS(t *testing.T) {
	testnet.RequireNet(t)
	testnet.RequireProgram(t, "unshare")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// As if nobody had mounted it, and where nobody else will see it.
	cmd := exec.Command("unshare", "--mount", "sh", "-c",
		`mount -t tmpfs none /sys/fs/bpf && before=$(grep -c " /sys/fs/bpf bpf " /proc/self/mounts)
		"$0" && echo $(($(grep -c " /sys/fs/bpf bpf " /proc/self/mounts) - before)) && stat -f -c %T /sys/fs/bpf`, self)
	cmd.Env = append(os.Environ(), helperVariable+"=mount")
	out, err := cmd.CombinedOutput()
	if want := "1\nbpf_fs\n"; err != nil || string(out) != want {
		t.Errorf("%v, mounted and of type\n%swant\n%s", err, out, want)
	}
}
