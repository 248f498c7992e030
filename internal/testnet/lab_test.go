package testnet

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
)

// join makes a plain bridge of the box, so that what the labs carry can be tried.
func join(t *testing.T, lab *Lab) {
	t.Helper()
	err := lab.Box.Do(func() error {
		if err := makeSwitch(); err != nil {
			return err
		}
		for _, port := range []string{PortA, PortB} {
			if err := joinSwitch(port); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Host{lab.Cell, lab.Plant} {
		if err := WaitCarrier(h, HostInterface, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for _, port := range []string{PortA, PortB} {
		if err := WaitCarrier(lab.Box, port, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// tapBoth taps the host of the cell and that of the plant.
func tapBoth(t *testing.T, lab *Lab) (cell, plant *Tap) {
	t.Helper()
	cell, err := lab.Tap(lab.Cell, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	plant, err = lab.Tap(lab.Plant, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	return cell, plant
}

func TestLabCarriesFramesByteForByte(t *testing.T) {
	lab := New(t)
	join(t, lab)
	from, to := tapBoth(t, lab)
	header := []byte{0x02, 0, 0, 0, 0, 0x20, 0x02, 0, 0, 0, 0, 0x10}
	body := bytes.Repeat([]byte("penstock"), 8)
	for name, middle := range map[string][]byte{
		"untagged":            {0x88, 0xb5},
		"tagged":              {0x81, 0x00, 0x60, 0x0a, 0x88, 0xb5},
		"priority tagged":     {0x81, 0x00, 0xe0, 0x00, 0x88, 0xb5},
		"service tagged":      {0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x0a, 0x88, 0xb5},
		"twice customer tags": {0x81, 0x00, 0x00, 0x64, 0x81, 0x00, 0x00, 0x0a, 0x88, 0xb5},
	} {
		t.Run(name, func(t *testing.T) {
			frame := slices.Concat(header, middle, body)
			if err := from.Send(frame); err != nil {
				t.Fatal(err)
			}
			if _, err := to.Await(10*time.Second, func(got []byte) bool { return bytes.Equal(got, frame) }); err != nil {
				t.Error(err)
				for _, f := range to.Frames() {
					t.Logf("%x", f.Data)
				}
			}
		})
	}
	if n := len(from.Frames()); n != 0 {
		t.Errorf("the sender's tap shows %d frames, want none", n)
	}
}

// TestTapTellsWhenTheKernelTookAFrameIn: how late the Tap gets to run is not told.
func TestTapTellsWhenTheKernelTookAFrameIn(t *testing.T) {
	lab := New(t)
	join(t, lab)
	from, to := tapBoth(t, lab)
	frame := append([]byte{0x02, 0, 0, 0, 0, 0x20, 0x02, 0, 0, 0, 0, 0x10, 0x88, 0xb5}, make([]byte, 46)...)
	held := func() (told time.Duration) {
		to.mu.Lock() // so that it does not get beyond the first
		for range 2 {
			if err := from.Send(frame); err != nil {
				t.Error(err)
			}
		}
		begun := time.Now()
		time.Sleep(100 * time.Millisecond)
		to.mu.Unlock()
		if err := WaitFor("the frames", 10*time.Second, func() (bool, error) { return to.Count() == 2, nil }); err != nil {
			t.Fatal(err)
		}
		told = to.Frames()[1].At.Sub(begun)
		to.Clear()
		return told
	}
	// The kernel begins to note times in its own time, and notes that of reading until then.
	var told time.Duration
	if err := WaitFor("the kernel's times", 10*time.Second, func() (bool, error) {
		told = held()
		return told.Abs() < 50*time.Millisecond, nil
	}); err != nil {
		t.Errorf("%v: a frame was taken in %v after it was sent, and read 100ms after", err, told)
	}
}

func TestLabIsSilent(t *testing.T) {
	lab := New(t)
	a, err := lab.Tap(lab.Cell, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Tap(lab.Plant, HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	join(t, lab)
	time.Sleep(1500 * time.Millisecond)
	for _, f := range append(a.Frames(), b.Frames()...) {
		t.Errorf("unasked frame: %x", f.Data)
	}
}

func TestHostsOfOneSide(t *testing.T) {
	lab := New(t)
	second, err := lab.Host(policy.SideA, "cell-2", "02:00:00:00:00:11", "198.18.0.11")
	if err != nil {
		t.Fatal(err)
	}
	third, err := lab.Host(policy.SideA, "cell-3", "02:00:00:00:00:12", "198.18.0.12/24", "fd00::12")
	if err != nil {
		t.Fatal(err)
	}
	join(t, lab)
	if err := third.AddNeighbour(lab.Plant); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Host{lab.Cell, second, third} {
		t.Run(h.Label, func(t *testing.T) {
			if err := echoBetween(lab, h, lab.Plant); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("beside each other", func(t *testing.T) {
		if err := echoBetween(lab, second, third); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHostsJoined has the cell and the plant on the two ends of one cable, and no ports in the box.
func TestHostsJoined(t *testing.T) {
	lab := New(t)
	if err := lab.JoinHosts(); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Host{lab.Cell, lab.Plant} {
		if err := WaitCarrier(h, HostInterface, 2*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := echoBetween(lab, lab.Plant, lab.Cell); err != nil {
		t.Error(err)
	}
	for _, port := range []string{PortA, PortB} {
		err := lab.Box.Do(func() error { _, err := netlink.LinkByName(port); return err })
		if !errors.As(err, &netlink.LinkNotFoundError{}) {
			t.Errorf("the box's port %s: %v, want none", port, err)
		}
	}
}

// TestEndsHaveOtherNumbersThanTheirPeers: of a port whose peer has its own number the kernel tells up to a second late
// that a carrier was lost or came back, which is not what a lab should measure.
func TestEndsHaveOtherNumbersThanTheirPeers(t *testing.T) {
	segments := New(t)
	for i, mac := range []string{"02:00:00:00:00:11", "02:00:00:00:00:12"} {
		if _, err := segments.Host(policy.SideA, fmt.Sprintf("cell-%d", i+2), mac, fmt.Sprintf("198.18.0.%d", 11+i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := segments.Spoil(policy.SideB, Faults{}); err != nil {
		t.Fatal(err)
	}
	joined := New(t)
	if err := joined.JoinHosts(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		lab  *Lab
		ends int
	}{
		{"box to switch, switch to three hosts, box to faults, faults to host", segments, 12},
		{"host to host", joined, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			ends := 0
			for _, ns := range row.lab.made {
				if err := ns.Do(func() error {
					links, err := netlink.LinkList()
					for _, link := range links {
						if link.Type() != "veth" {
							continue
						}
						ends++
						if a := link.Attrs(); a.ParentIndex == 0 || a.ParentIndex == a.Index {
							t.Errorf("%s in %v has number %d, its peer %d", a.Name, ns, a.Index, a.ParentIndex)
						}
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			if ends != row.ends {
				t.Errorf("%d ends of cables, want %d", ends, row.ends)
			}
		})
	}
}

func TestRemoveNeighbour(t *testing.T) {
	lab := New(t)
	for _, row := range []struct {
		do   func(*Host) error
		want bool
	}{{lab.Cell.AddNeighbour, true}, {lab.Cell.RemoveNeighbour, false}} {
		if err := row.do(lab.Plant); err != nil {
			t.Fatal(err)
		}
		if got := knows(t, lab.Cell, lab.Plant); got != row.want {
			t.Errorf("the cell knows the plant: %v, want %v", got, row.want)
		}
	}
}

// TestKeepNeighbours takes the link of a host that keeps its neighbours, and of one that does not.
func TestKeepNeighbours(t *testing.T) {
	lab := New(t)
	join(t, lab)
	if err := lab.Plant.KeepNeighbours(); err != nil {
		t.Fatal(err)
	}
	if err := echoBetween(lab, lab.Plant, lab.Cell); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		port      string
		at, other *Host
		keeps     bool
	}{
		{PortB, lab.Plant, lab.Cell, true},
		{PortA, lab.Cell, lab.Plant, false},
	} {
		if !knows(t, row.at, row.other) {
			t.Fatalf("%s does not know %s, with which it just spoke", row.at.Label, row.other.Label)
		}
		if err := lab.Box.Do(func() error {
			link, err := netlink.LinkByName(row.port)
			if err != nil {
				return err
			}
			return netlink.LinkSetDown(link)
		}); err != nil {
			t.Fatal(err)
		}
		if err := WaitFor("the loss of the link", 10*time.Second, func() (lost bool, err error) {
			err = row.at.Do(func() error {
				link, err := netlink.LinkByName(HostInterface)
				if err == nil {
					lost = link.Attrs().OperState != netlink.OperUp
				}
				return err
			})
			return lost, err
		}); err != nil {
			t.Fatal(err)
		}
		if got := knows(t, row.at, row.other); got != row.keeps {
			t.Errorf("%s has lost its link, and knows its neighbour: %v, want %v", row.at.Label, got, row.keeps)
		}
	}
}

// knows reports whether a host has another's MAC address.
func knows(t *testing.T, at, other *Host) (found bool) {
	t.Helper()
	if err := at.Do(func() error {
		list, err := netlink.NeighList(0, netlink.FAMILY_V4)
		found = slices.ContainsFunc(list, func(n netlink.Neigh) bool {
			return n.IP.Equal(other.Address().AsSlice()) && bytes.Equal(n.HardwareAddr, other.MAC)
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// echoBetween connects by TCP from one host to another and passes a line.
func echoBetween(lab *Lab, from, to *Host) error {
	var listener net.Listener
	err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(to.Address(), 5020).String())
		return err
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := WaitListening(to, "tcp", 5020, 10*time.Second); err != nil {
		return err
	}
	accepted := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = conn.Write([]byte("line\n"))
			conn.Close()
		}
		accepted <- err
	}()
	return lab.In(from, func() error {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		line := make([]byte, 5)
		if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Read(line); err != nil {
			return err
		}
		return <-accepted
	})
}

func TestProcessRunsInItsPlaceWithCommonMounts(t *testing.T) {
	lab := New(t)
	p, err := lab.Start(lab.Cell, "sh", "-c", "readlink /proc/self/ns/net /proc/self/ns/mnt; ip -br link; echo end")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	mount, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if out := p.Output(); !strings.Contains(out, mount) || strings.Contains(out, here) || !strings.Contains(out, HostInterface) {
		t.Errorf("mounts %s and interface %s wanted, network %s not:\n%s", mount, HostInterface, here, out)
	}
}

func TestProcessGroupEnds(t *testing.T) {
	for name, script := range map[string]string{
		"obeys SIGTERM":       "sleep 60 & echo child $!; wait",
		"ignores SIGTERM":     "trap '' TERM; sleep 60 & echo child $!; while :; do wait; done",
		"ends before a child": "sleep 60 & echo child $!",
	} {
		t.Run(name, func(t *testing.T) {
			CheckLeaks(t)
			lab := New(t)
			p, err := lab.Start(lab.Cell, "sh", "-c", script)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.WaitOutput("child ", 5*time.Second); err != nil {
				t.Fatal(err)
			}
			var child int
			if _, err := fmt.Sscanf(p.Output(), "child %d", &child); err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			err = WaitFor("the child's end", 10*time.Second, func() (bool, error) {
				_, _, alive := parentOf(child)
				return !alive, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLabLeavesNothing(t *testing.T) {
	CheckLeaks(t)
	var reserved string
	t.Run("lab", func(t *testing.T) {
		lab := New(t)
		if _, err := lab.Host(policy.SideB, "plant-2", "02:00:00:00:00:21", "198.18.0.21"); err != nil {
			t.Fatal(err)
		}
		if _, err := lab.Start(lab.Plant, "sleep", "60"); err != nil {
			t.Fatal(err)
		}
		reserved = lab.ReserveName("line")
		ns, created, err := bridge.EnsureNamespace(reserved)
		if err != nil || !created {
			t.Fatalf("created %v, %v", created, err)
		}
		ns.Close()
	})
	if _, err := bridge.OpenNamespace(reserved); err == nil {
		t.Errorf("namespace %s is still there", reserved)
	}
}

func TestLabCleansUpAfterPanic(t *testing.T) {
	RequireNet(t)
	CheckLeaks(t)
	env := &programEnv{}
	func() {
		defer func() { _ = recover() }()
		defer env.end()
		lab, err := Build(env)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := lab.Start(lab.Cell, "sleep", "60"); err != nil {
			t.Error(err)
		}
		panic("as a test would")
	}()
	if len(env.logged) != 0 {
		t.Errorf("closing said %q", env.logged)
	}
}

// programEnv is how a program that is not a test owns a lab.
type programEnv struct {
	logged   []string
	cleanups []func()
}

func (e *programEnv) Logf(format string, args ...any) {
	e.logged = append(e.logged, fmt.Sprintf(format, args...))
}
func (e *programEnv) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }
func (e *programEnv) end() {
	for _, f := range slices.Backward(e.cleanups) {
		f()
	}
}

func TestStaleNamespacesAreRemoved(t *testing.T) {
	RequireNet(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s%d-0-box", namePrefix, gone.ProcessState.Pid())
	ns, _, err := bridge.EnsureNamespace(name)
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
	New(t)
	if _, err := bridge.OpenNamespace(name); err == nil {
		t.Errorf("%s is still there", name)
	}
}

func TestCloseNamesStrangers(t *testing.T) {
	RequireNet(t)
	env := &programEnv{}
	t.Cleanup(env.end)
	lab, err := Build(env)
	if err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command("sleep", "60")
	if err := lab.Box.Do(stranger.Start); err != nil {
		t.Fatal(err)
	}
	defer stranger.Wait()
	defer stranger.Process.Kill()
	env.end()
	if !slices.ContainsFunc(env.logged, func(s string) bool {
		return strings.Contains(s, fmt.Sprintf("process %d (sleep) is still in namespace", stranger.Process.Pid))
	}) {
		t.Errorf("closing said %q", env.logged)
	}
}

func TestFarEndsAreAsACableEnds(t *testing.T) {
	lab := New(t)
	for _, h := range []*Host{lab.Cell, lab.Plant} {
		err := h.Do(func() error {
			link, err := netlink.LinkByName(HostInterface)
			if err != nil {
				return err
			}
			if got := link.Attrs().HardwareAddr.String(); got != h.MAC.String() {
				t.Errorf("%s: MAC %s, want %s", h.Label, got, h.MAC)
			}
			out, err := exec.Command("ethtool", "-k", HostInterface).CombinedOutput()
			if err != nil {
				return fmt.Errorf("ethtool: %w", err)
			}
			for _, want := range []string{
				"generic-receive-offload: on", "tx-checksumming: off", "tcp-segmentation-offload: off",
				"generic-segmentation-offload: off", "tx-vlan-offload: off",
			} {
				if !bytes.Contains(out, []byte(want)) {
					t.Errorf("%s: %q not in\n%s", h.Label, want, out)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
