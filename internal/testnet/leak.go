package testnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
)

// Inventory is what a lab or the program under test could leave behind. Entries name the thing.
type Inventory struct {
	Namespaces []string // by name; those of other live processes' labs are left out
	Links      []string // in the caller's namespace
	Pins       []string // below /sys/fs/bpf, where the path holds "penstock"; others' labs' left out
	Processes  []string // children of this process, theirs included
}

// TakeInventory looks now.
func TakeInventory() (Inventory, error) {
	var inv Inventory
	names, err := bridge.NamespaceNames()
	if err != nil {
		return inv, err
	}
	for _, name := range names {
		if pid, ok := ownerOf(name); !ok || pid == os.Getpid() {
			inv.Namespaces = append(inv.Namespaces, "namespace "+name)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return inv, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		inv.Links = append(inv.Links, "link "+l.Attrs().Name)
	}
	if inv.Pins, err = pins(); err != nil {
		return inv, err
	}
	inv.Processes, err = descendants(os.Getpid())
	return inv, err
}

// Since returns what is there now and was not before.
func (now Inventory) Since(before Inventory) []string {
	var left []string
	for _, kind := range [][2][]string{
		{now.Namespaces, before.Namespaces},
		{now.Links, before.Links},
		{now.Pins, before.Pins},
		{now.Processes, before.Processes},
	} {
		for _, entry := range kind[0] {
			if !slices.Contains(kind[1], entry) {
				left = append(left, entry)
			}
		}
	}
	return left
}

// leakGrace is how long what was ended or removed may take to be gone.
const leakGrace = 5 * time.Second

// CheckLeaks fails the test for whatever is there after it, and stays, and was not before. It has to
// be called first, so that its cleanup runs last, and in a test that no other runs beside.
func CheckLeaks(t testing.TB) {
	t.Helper()
	before, err := TakeInventory()
	if err != nil {
		t.Fatalf("look before the test: %v", err)
	}
	t.Cleanup(func() {
		var left []string
		_ = WaitFor("nothing to be left", leakGrace, func() (bool, error) {
			now, err := TakeInventory()
			if err != nil {
				t.Errorf("look after the test: %v", err)
			}
			left = now.Since(before)
			return len(left) == 0, err
		})
		for _, l := range left {
			t.Errorf("left behind: %s", l)
		}
	})
}

func pins() ([]string, error) {
	others, err := othersNamespaces()
	if err != nil {
		return nil, err
	}
	var found []string
	err = filepath.WalkDir("/sys/fs/bpf", func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && strings.Contains(path, "penstock") && !pinOfAnother(path, others) {
			found = append(found, "pin "+path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list pinned BPF objects: %w", err)
	}
	return found, nil
}

// pinOfAnother tells what another process's lab has pinned: an appliance's directory is called
// after its namespace, by name or by number. A directory that holds nothing but such is the
// others' too, and so is an empty one while there are others.
func pinOfAnother(path string, others []string) bool {
	for _, part := range strings.Split(path, "/") {
		_, namespace, named := strings.Cut(part, "@")
		if pid, ok := ownerOf(namespace); ok {
			return pid != os.Getpid()
		}
		if named {
			return slices.Contains(others, namespace)
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return false
	}
	if len(entries) == 0 {
		return len(others) > 0
	}
	return !slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !pinOfAnother(filepath.Join(path, e.Name()), others)
	})
}

// othersNamespaces lists the namespaces of other processes' labs by their numbers.
func othersNamespaces() ([]string, error) {
	names, err := bridge.NamespaceNames()
	if err != nil {
		return nil, err
	}
	var others []string
	for _, name := range names {
		if pid, ok := ownerOf(name); !ok || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t
		if ns, err := bridge.OpenNamespace(name); err == nil {
			if unix.Fstat(ns.Fd(), &st) == nil {
				others = append(others, strconv.FormatUint(st.Ino, 10))
			}
			ns.Close()
		}
	}
	return others, nil
}

// descendants lists the living processes below pid.
func descendants(pid int) ([]string, error) {
	children := make(map[int][]int)
	names := make(map[int]string)
	err := eachProcess(func(id int) {
		parent, name, ok := parentOf(id)
		if ok {
			children[parent] = append(children[parent], id)
			names[id] = name
		}
	})
	if err != nil {
		return nil, err
	}
	var found []string
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		id := queue[0]
		found = append(found, fmt.Sprintf("process %d %s", id, names[id]))
		queue = append(queue, children[id]...)
	}
	return found, nil
}

func eachProcess(f func(pid int)) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			f(pid)
		}
	}
	return nil
}

// parentOf reads a process's parent and name; ok is false when it has ended.
func parentOf(pid int) (parent int, name string, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	// pid (name) state ppid …, where the name may hold anything.
	open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
	if open < 0 || end < open {
		return 0, "", false
	}
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, "", false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, string(b[open+1 : end]), err == nil
}

// strangers names the processes that stay inside the lab's namespaces. They are not the lab's to end.
func (l *Lab) strangers() (errs []error) {
	_ = WaitFor("the namespaces to be empty", leakGrace, func() (bool, error) {
		errs = l.inside()
		return len(errs) == 0, nil
	})
	return errs
}

func (l *Lab) inside() []error {
	inside := make(map[uint64]string)
	for _, ns := range l.made {
		var st unix.Stat_t
		if unix.Fstat(ns.Fd(), &st) == nil {
			inside[st.Ino] = ns.Name()
		}
	}
	var errs []error
	err := eachProcess(func(pid int) {
		var st unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) != nil {
			return
		}
		if name, ok := inside[st.Ino]; ok {
			_, comm, _ := parentOf(pid)
			errs = append(errs, fmt.Errorf("process %d (%s) is still in namespace %s", pid, comm, name))
		}
	})
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}
