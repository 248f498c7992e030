package bridge_test

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// attachPass attaches an XDP program that passes everything, as the fast path's would be. By the
// bare system call: the library for it is datapath's alone.
func attachPass(name string) error {
	instructions := []uint64{
		0x00000002_000000b7, // r0 = XDP_PASS
		0x00000000_00000095, // exit
	}
	license := []byte("GPL\x00")
	var pins runtime.Pinner // the kernel is told of them by number
	defer pins.Unpin()
	pins.Pin(&instructions[0])
	pins.Pin(&license[0])
	attr := struct {
		programType, count    uint32
		instructions, license uint64
		rest                  [128]byte
	}{
		programType: unix.BPF_PROG_TYPE_XDP, count: uint32(len(instructions)),
		instructions: uint64(uintptr(unsafe.Pointer(&instructions[0]))),
		license:      uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return fmt.Errorf("load: %w", errno)
	}
	defer unix.Close(int(fd))
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	const driverMode = 1 << 2 // XDP_FLAGS_DRV_MODE
	return netlink.LinkSetXdpFdWithFlags(link, int(fd), driverMode)
}

// What came on between preparation and start, as some drivers let it when a program is attached,
// would merge the segments that wait for a verdict.
func TestReceiveOffloadStaysOffUnderXDP(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	if _, _, err := line.TakePorts(); err != nil {
		t.Fatal(err)
	}
	for _, side := range []policy.Side{policy.SideA, policy.SideB} {
		if err := line.Do(func() error { return attachPass(line.Layout().Port(side)) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := line.MakeBridge(); err != nil {
		t.Fatal(err)
	}
	run(t, line.Namespace(), "ethtool", "-K", testnet.PortB, "gro", "on")
	if _, _, err := line.RaisePorts(); err != nil {
		t.Fatal(err)
	}
	wantOff := func() {
		t.Helper()
		for _, port := range []string{testnet.PortA, testnet.PortB} {
			if out := run(t, line.Namespace(), "ethtool", "-k", port); !containsLine(out, "generic-receive-offload: off") {
				t.Errorf("port %s:\n%s", port, out)
			}
		}
	}
	wantOff()
	awaitCarriers(t, lab)
	wantCrossing(t, lab)
	run(t, line.Namespace(), "ethtool", "-K", testnet.PortA, "gro", "on")
	if _, err := line.Adopt(); err != nil {
		t.Fatal(err)
	}
	wantOff()
	wantCrossing(t, lab)
}
