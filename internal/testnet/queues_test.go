package testnet

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
)

func TestQueueForEachCore(t *testing.T) {
	RequireNet(t)
	two := func(l *Lab) { l.queues = 2 }
	for _, join := range []bool{false, true} {
		env := &programEnv{}
		lab, err := Build(env, two)
		t.Cleanup(env.end)
		if err != nil {
			t.Fatal(err)
		}
		ends := map[string]*bridge.Namespace{PortA: lab.Box, PortB: lab.Box}
		if join {
			ends = map[string]*bridge.Namespace{}
			if err := lab.JoinHosts(); err != nil {
				t.Fatal(err)
			}
		}
		for _, h := range []*Host{lab.Cell, lab.Plant} {
			checkQueues(t, h.Namespace, HostInterface)
		}
		for port, place := range ends {
			checkQueues(t, place, port)
		}
	}
}

// checkQueues holds that a port has a queue for each of two cores, and takes frames in on as many.
func checkQueues(t *testing.T, place *bridge.Namespace, port string) {
	t.Helper()
	err := place.Do(func() error {
		sys, err := openSysfs()
		if err != nil {
			return err
		}
		defer sys.Close()
		for i := range 2 {
			mask, err := readAt(sys, fmt.Sprintf("class/net/%s/queues/tx-%d/xps_cpus", port, i))
			if err != nil {
				return err
			}
			if strings.TrimLeft(mask, "0,") != fmt.Sprint(i+1) {
				t.Errorf("%v %s: queue %d is for cores %s", place, port, i, mask)
			}
			if _, err := readAt(sys, fmt.Sprintf("class/net/%s/queues/rx-%d/rps_cpus", port, i)); err != nil {
				return err
			}
		}
		if _, err := readAt(sys, fmt.Sprintf("class/net/%s/queues/tx-2/xps_cpus", port)); !os.IsNotExist(err) {
			t.Errorf("%v %s has a third queue: %v", place, port, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func readAt(root *os.File, name string) (string, error) {
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 256)
	n, err := unix.Read(fd, b)
	return strings.TrimSpace(string(b[:max(n, 0)])), err
}

func TestCoreMask(t *testing.T) {
	for core, want := range map[int]string{0: "1", 1: "2", 31: "80000000", 32: "1,00000000", 69: "20,00000000,00000000"} {
		if got := coreMask(core); got != want {
			t.Errorf("core %d is %s, want %s", core, got, want)
		}
	}
}
