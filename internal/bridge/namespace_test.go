package bridge_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/testnet"
)

func TestNamespaceLife(t *testing.T) {
	testnet.RequireNet(t)
	name := fmt.Sprintf("pstest-%d-life", os.Getpid())
	if _, err := bridge.OpenNamespace(name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open before it exists: %v, want fs.ErrNotExist", err)
	}
	ns, created, err := bridge.EnsureNamespace(name)
	if err != nil || !created {
		t.Fatalf("create: created %v, %v", created, err)
	}
	t.Cleanup(func() { ns.Remove() })
	again, created, err := bridge.EnsureNamespace(name)
	if err != nil || created {
		t.Fatalf("create once more: created %v, %v", created, err)
	}
	defer again.Close()
	if same, err := ns.Same(again); err != nil || !same {
		t.Errorf("opened twice, the same is %v, %v", same, err)
	}
	if out, err := exec.Command("ip", "netns", "list").CombinedOutput(); err != nil || !strings.Contains(string(out), name) {
		t.Errorf("ip netns list: %v\n%s", err, out)
	}
	if out, err := exec.Command("ip", "netns", "exec", name, "true").CombinedOutput(); err != nil {
		t.Errorf("ip netns exec: %v\n%s", err, out)
	}
	if err := ns.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := ns.Remove(); err != nil {
		t.Errorf("remove once more: %v", err)
	}
	if _, err := os.Stat("/run/netns/" + name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after removal: %v", err)
	}
}

func TestNamespaceOfOthers(t *testing.T) {
	testnet.RequireNet(t)
	name := fmt.Sprintf("pstest-%d-others", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v\n%s", err, out)
	}
	ns, created, err := bridge.EnsureNamespace(name)
	if err != nil || created {
		t.Fatalf("created %v, %v", created, err)
	}
	if err := ns.Remove(); err != nil {
		t.Error(err)
	}
	if out, _ := exec.Command("ip", "netns", "list").CombinedOutput(); strings.Contains(string(out), name) {
		t.Errorf("ip netns list still has it:\n%s", out)
	}
}

func TestNamespaceHalfMadeIsMadeWhole(t *testing.T) {
	testnet.RequireNet(t)
	name := fmt.Sprintf("pstest-%d-half", os.Getpid())
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/run/netns/"+name, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	ns, created, err := bridge.EnsureNamespace(name)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	if err := ns.Remove(); err != nil {
		t.Error(err)
	}
}

func TestNamespaceDo(t *testing.T) {
	lab := testnet.New(t)
	where := func() string {
		link, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	home := where()
	var inside string
	if err := lab.Box.Do(func() error { inside = where(); return nil }); err != nil {
		t.Fatal(err)
	}
	if inside == home {
		t.Errorf("Do ran in %s, where the caller is", home)
	}
	for range 50 { // threads that Do used must not be given to others
		if now := where(); now != home {
			t.Fatalf("after Do the caller is in %s, was in %s", now, home)
		}
	}
	want := errors.New("what f said")
	if err := lab.Box.Do(func() error { return want }); err != want {
		t.Errorf("Do returned %v, want f's error", err)
	}
	if first, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", os.Getpid())); err != nil || first != home {
		t.Errorf("the process shows %s, %v, want %s", first, err, home)
	}
}

func TestNamespaceNames(t *testing.T) {
	for name, bad := range map[string]string{
		"slash": "a/b", "up": "..", "here": ".", "long": strings.Repeat("n", 256), "zero": "a\x00b",
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := bridge.EnsureNamespace(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v, want another error", bad, err)
			}
		})
	}
}
