package testnet

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
)

// requireVariable is the environment variable that turns the skips of this package into
// failures, for machines where nothing may be missing.
const requireVariable = "PENSTOCK_REQUIRE_NET"

// leastKernel is the first version with tcx, which the exit gate needs.
var leastKernel = [2]int{6, 6}

// RequireNet skips the test where a lab cannot be built, naming what is missing, or fails it
// where PENSTOCK_REQUIRE_NET=1.
func RequireNet(t testing.TB) {
	t.Helper()
	if err := Usable(); err != nil {
		refuse(t, err)
	}
}

// Require skips or fails, as RequireNet does, where something else is missing.
func Require(t testing.TB, missing error) {
	t.Helper()
	if missing != nil {
		refuse(t, missing)
	}
}

// RequireProgram skips or fails, as RequireNet does, where a program is not installed.
func RequireProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		refuse(t, fmt.Errorf("needs the program %s: %w", name, err))
	}
}

// RequireFile skips or fails, as RequireNet does, where a file is absent that package brings.
func RequireFile(t testing.TB, name, pkg string) {
	t.Helper()
	if _, err := os.Stat(name); err != nil {
		refuse(t, fmt.Errorf("needs the package %s: %w", pkg, err))
	}
}

func refuse(t testing.TB, err error) {
	t.Helper()
	if os.Getenv(requireVariable) == "1" {
		t.Fatalf("%s=1: %v", requireVariable, err)
	}
	t.Skipf("skipped: %v", err)
}

// Usable returns nil where a lab can be built, else an error that names the first thing missing.
func Usable() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root")
	}
	if err := checkKernel(); err != nil {
		return err
	}
	return tryKernel()
}

func checkKernel() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("read the kernel's version: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the kernel's version %q: %w", release, err)
	}
	if major < leastKernel[0] || major == leastKernel[0] && minor < leastKernel[1] {
		return fmt.Errorf("needs Linux %d.%d or later (tcx), this is %s", leastKernel[0], leastKernel[1], release)
	}
	return nil
}

// tryKernel makes one of everything in a namespace that nobody sees.
func tryKernel() error {
	ns, err := bridge.NewUnnamedNamespace()
	if err != nil {
		return fmt.Errorf("needs network namespaces: %w", err)
	}
	defer ns.Close()
	return ns.Do(func() error {
		cable := netlink.NewVeth(linkCalled("one"))
		cable.PeerName = "other"
		if err := netlink.LinkAdd(cable); err != nil {
			return fmt.Errorf("needs virtual Ethernet (CONFIG_VETH): %w", err)
		}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkCalled("switch")}); err != nil {
			return fmt.Errorf("needs the bridge (CONFIG_BRIDGE): %w", err)
		}
		if _, err := bridge.ReadSysctl("bridge", "bridge-nf-call-iptables"); err != nil {
			return fmt.Errorf("needs CONFIG_BRIDGE_NETFILTER (modprobe br_netfilter): %w", err)
		}
		return nil
	})
}

func linkCalled(name string) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return attrs
}
