package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/queue"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// fails starts penstockd and waits for it to give up. It returns what it said.
func fails(t *testing.T, p *plant.Plant, want string, args ...string) string {
	t.Helper()
	proc, err := p.Run(args...)
	if err != nil {
		t.Fatal(err)
	}
	err = proc.Wait(3 * patience)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("penstockd %s ended by %v, want exit status 1\n%s", args[0], err, proc.Output())
	}
	var said []string
	for line := range strings.Lines(proc.Output()) {
		if !strings.HasPrefix(line, "time=") { // the log's lines
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "penstockd: ") || !strings.Contains(said[0], want) {
		t.Errorf("penstockd %s says\n%swant one line with %q", args[0], strings.Join(said, ""), want)
	}
	return proc.Output()
}

// picture is everything about the box that a start may change and has to put back.
func picture(t *testing.T, p *plant.Plant) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"ip", "-details", "-oneline", "link"}, {"ip", "-oneline", "address"}, {"nft", "list", "ruleset"},
		{"ethtool", "-k", testnet.PortA}, {"ethtool", "-k", testnet.PortB},
		{"sysctl", "-a", "--pattern", "net.*(pa|pb|default|bridge-nf)"},
	} {
		for line := range strings.Lines(runIn(t, p, p.Box, args[0], args[1:]...)) {
			// The kernel's own, in its own time; and ip's complaint that a far end is just moving.
			if !strings.Contains(line, "inet6 fe80:") && !strings.HasPrefix(line, "Error:") {
				b.WriteString(strings.Replace(line, "qdisc noop ", "qdisc noqueue ", 1)) // never up
			}
		}
	}
	inventory, err := testnet.TakeInventory()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{inventory.Namespaces, inventory.Links, inventory.Pins} {
		for _, entry := range list {
			b.WriteString(entry + "\n")
		}
	}
	return b.String()
}

// wantPicture fails the test where the box does not become what it was: the kernel tells the state of a
// link late.
func wantPicture(t *testing.T, p *plant.Plant, before string) {
	t.Helper()
	var differs []string
	if testnet.WaitFor("", patience, func() (bool, error) {
		differs = differences(before, picture(t, p))
		return len(differs) == 0, nil
	}) != nil {
		t.Errorf("the box is not what it was:\n%s", strings.Join(differs, ""))
	}
}

// differences lists the lines that one text has and the other has not.
func differences(before, now string) (list []string) {
	for _, d := range []struct{ sign, a, b string }{{"-", before, now}, {"+", now, before}} {
		for line := range strings.Lines(d.a) {
			if !strings.Contains(d.b, line) {
				list = append(list, d.sign+line)
			}
		}
	}
	return list
}

// TestStartThatFailsLeavesNothingBehind goes through what can be wrong, from the first step of a
// start to its last.
func TestStartThatFailsLeavesNothingBehind(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: modbusSite()})
	otherPolicy := filepath.Join(p.Directory, "other.yaml")
	write(t, otherPolicy, strings.ReplaceAll(modbusSite(), plant.Appliance, "line-4-gate"))
	wrongPolicy := filepath.Join(p.Directory, "wrong.yaml")
	write(t, wrongPolicy, strings.Replace(modbusSite(), "mode:", "colour: red\nmode:", 1))
	unknownKey := filepath.Join(p.Directory, "unknown.yaml")
	write(t, unknownKey, read(t, p.Config())+"colour: red\n")
	twice := filepath.Join(p.Directory, "twice.yaml")
	write(t, twice, strings.Replace(read(t, p.Config()), "b: pb", "b: pa", 1))
	runIn(t, p, p.Box, "ip", "link", "add", "vx", "type", "veth", "peer", "name", "vy")
	runIn(t, p, p.Box, "ip", "address", "add", "198.18.0.99/24", "dev", "vx")
	runIn(t, p, p.Box, "ip", "link", "set", testnet.PortB, "up")
	runIn(t, p, p.Box, "ip", "link", "set", testnet.PortA, "promisc", "on", "mtu", "1600")
	if err := testnet.WaitCarrier(p.Box, testnet.PortB, patience); err != nil {
		t.Fatal(err)
	}
	before := picture(t, p)
	for _, row := range []struct {
		name, want string
		args       []string
	}{
		{"no settings file", "--config", []string{"--config", filepath.Join(p.Directory, "none.yaml")}},
		{"unknown key", "unknown.yaml:8:1: colour: there is no such key", []string{"--config", unknownKey}},
		{"the same port twice", "port a already", []string{"--config", twice}},
		{"port b is not there", "nowhere", []string{"--ports-b", "nowhere"}},
		{"port b has an address", "ip address delete 198.18.0.99/24 dev vx", []string{"--ports-b", "vx"}},
		{"port b is the loopback interface", "loopback", []string{"--ports-b", "lo"}},
		{"bridge is something else", "veth", []string{"--netns", "", "--bridge", "vy"}},
		{"policy file is not there", "no such file", []string{"--policy", filepath.Join(p.Directory, "none.yaml")}},
		{"policy is not for this appliance", `it has no appliance "line-3-gate"`, []string{"--policy", otherPolicy}},
		{"policy is wrong", "wrong.yaml:3:1: ", []string{"--policy", wrongPolicy}},
		{"socket directory cannot be made", "create socket directory", []string{"--socket", "/proc/penstock/penstock.sock"}},
		{"socket is a file", "no socket", []string{"--socket", p.Config()}},
	} {
		t.Run(row.name, func(t *testing.T) {
			// Each has a state of its own, or the policy of the row before is cached.
			state := filepath.Join(p.Directory, "state-"+strings.ReplaceAll(row.name, " ", "-"))
			args := append([]string{"run", "--state-dir", state}, row.args...)
			if row.args[0] != "--config" {
				args = append(args, "--config", p.Config())
			}
			fails(t, p, row.want, args...)
			wantPicture(t, p, before)
		})
	}
	t.Run("somebody reads our queue", func(t *testing.T) {
		var q *queue.Queue
		err := p.Box.Do(func() (err error) {
			q, err = queue.Open(queue.Config{Number: 101, MaxLength: 16})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		fails(t, p, "101", "run", "--config", p.Config(), "--netns", "", "--state-dir", filepath.Join(p.Directory, "state-queue"))
		wantPicture(t, p, before)
	})
	t.Run("and after all of them it starts", func(t *testing.T) {
		start(t, p)
		startStation(t, p.Filler, resetPort)
		if err := ask(socketTo(t, p.HMI, p.Filler, resetPort), mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
			t.Error(err)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestSecondDaemonIsRefused: the first goes on, whatever the two have in common.
func TestSecondDaemonIsRefused(t *testing.T) {
	for _, here := range []bool{false, true} {
		t.Run(map[bool]string{false: "a namespace of its own", true: "the daemon's namespace"}[here], func(t *testing.T) {
			p := lay(t, plant.Options{Policy: modbusSite(), Here: here})
			device := startStation(t, p.Filler, resetPort)
			lawful := keepTalking(t, p, resetPort)
			before, err := p.Status()
			if err != nil {
				t.Fatal(err)
			}
			otherState := []string{"--state-dir", filepath.Join(p.Directory, "other-state")}
			noState := []string{"--state-dir", "/proc/penstock"}
			otherSocket := []string{"--socket", filepath.Join(p.Directory, "other.sock")}
			for _, row := range []struct {
				name string
				args []string
			}{
				{"the same settings", nil},
				{"another socket", otherSocket},
				{"another state directory", otherState},
				{"another socket and state directory", append(otherState, otherSocket...)},
				{"no state directory", append(noState, otherSocket...)},
				{"another name", append(append([]string{"--name", "line-4-gate"}, otherState...), otherSocket...)},
			} {
				t.Run(row.name, func(t *testing.T) {
					if row.name == "another name" {
						defer write(t, p.PolicyFile(), modbusSite())
						write(t, p.PolicyFile(), strings.ReplaceAll(modbusSite(), plant.Appliance, "line-4-gate"))
					}
					fails(t, p, "another penstockd", append([]string{"run", "--config", p.Config()}, row.args...)...)
				})
			}
			t.Run("down", func(t *testing.T) {
				fails(t, p, "another penstockd", "down", "--config", p.Config())
			})
			after, err := p.Status()
			if err != nil {
				t.Fatal(err)
			}
			if after.Policy != before.Policy {
				t.Errorf("the policy in force was %+v and is %+v", before.Policy, after.Policy)
			}
			lawful.check(t)
			conn := socketTo(t, p.HMI, p.Filler, resetPort)
			denied := mbap(1, 1, writeRegister(100, 1))
			if err := ask(conn, denied, patience); !wasReset(err) {
				t.Errorf("a denied request: %v, want a reset", err)
			}
			neverComplete(t, device.callFrom(t, conn), nil, denied)
		})
	}
}

// TestDownLeavesNothing takes an appliance apart after it ended in every way, and when there is
// none.
func TestDownLeavesNothing(t *testing.T) {
	for _, here := range []bool{false, true} {
		t.Run(map[bool]string{false: "a namespace of its own", true: "the daemon's namespace"}[here], func(t *testing.T) {
			p := layStopped(t, plant.Options{Policy: modbusSite(), Here: here})
			startStation(t, p.Filler, resetPort)
			if here { // what netfilter is shown is the namespace's, and nobody remembers what it was

				runIn(t, p, p.Box, "sysctl", "-w", "net.bridge.bridge-nf-filter-vlan-tagged=1")
			}
			before := picture(t, p)
			down := func() {
				t.Helper()
				if err := p.Down(); err != nil {
					t.Fatal(err)
				}
				wantPicture(t, p, before)
			}
			down() // nothing was ever there
			for _, end := range []func(*plant.Plant) error{(*plant.Plant).Stop, (*plant.Plant).Kill} {
				start(t, p)
				if err := ask(socketTo(t, p.HMI, p.Filler, resetPort), mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
					t.Error(err)
				}
				if err := end(p); err != nil {
					t.Fatal(err)
				}
				down()
				down()
			}
		})
	}
}

// TestKilledWhileStarting kills a start at many moments. What is left of it is completed by the
// next start, or taken apart by down.
func TestKilledWhileStarting(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, resetPort)
	before := picture(t, p)
	start(t, p)
	took := startTook(t, p)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
	const moments = 6
	for i := range moments {
		proc, err := p.Run("run", "--config", p.Config())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(took * time.Duration(i+1) / moments)
		if err := proc.Kill(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			start(t, p)
			if err := ask(socketTo(t, p.HMI, p.Filler, resetPort), mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
				t.Errorf("moment %d: %v", i, err)
			}
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Down(); err != nil {
			t.Errorf("moment %d: %v", i, err)
		}
		wantPicture(t, p, before)
	}
}

// startTook restarts the whole appliance once and returns how long that took.
func startTook(t *testing.T, p *plant.Plant) time.Duration {
	t.Helper()
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Down(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	start(t, p)
	return time.Since(began)
}

// TestFailedRestartLeavesTheFastPath: a start that fails over an appliance that is up takes back
// its own steps and no others.
func TestFailedRestartLeavesTheFastPath(t *testing.T) {
	p := lay(t, plant.Options{Policy: outageSite()})
	o := openOutage(t, p)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	fails(t, p, "create socket directory", "run", "--config", p.Config(), "--socket", "/proc/penstock/penstock.sock")
	for _, port := range []int{plainPort, openPort} {
		if err := ask(o.conns[port], mbap(2, 1, readRegisters(0, 2)), patience); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
	}
	start(t, p)
	for _, port := range []int{plainPort, openPort, closedPort} {
		if err := ask(o.conns[port], mbap(3, 1, readRegisters(0, 3)), patience); err != nil {
			t.Errorf("port %d after a start that did not fail: %v", port, err)
		}
	}
}

// TestStartedThroughIPNetnsExec: that command gives a program mounts of its own, in which a
// namespace that it makes would be nobody else's.
func TestStartedThroughIPNetnsExec(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, resetPort)
	proc, err := p.Lab.Start(p.Box, "ip", "netns", "exec", p.Box.Name(), daemonBinary, "run", "--config", p.Config())
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.WaitOutput("msg=ready", 3*patience); err != nil {
		t.Fatal(err)
	}
	p.Daemon = proc
	awaitLine(t, p)
	gate := openGate(t, p)
	if out := runIn(t, p, gate, "ip", "-oneline", "link"); !strings.Contains(out, "penstock0") {
		t.Errorf("the namespace that everybody sees holds\n%s", out)
	}
	conn := socketTo(t, p.HMI, p.Filler, resetPort)
	if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
		t.Error(err)
	}
	if err := ask(conn, mbap(2, 1, writeRegister(100, 1)), patience); !wasReset(err) {
		t.Errorf("a denied request: %v, want a reset", err)
	}
}

// TestReloadOnSIGHUP: a good file is in force at once; a bad one is one line in the log for each
// mistake, and the old policy goes on.
func TestReloadOnSIGHUP(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, resetPort)
	conn := socketTo(t, p.HMI, p.Filler, resetPort)
	write100 := mbap(1, 1, writeRegister(100, 1))

	reload(t, p, strings.ReplaceAll(modbusSite(), "addresses: [40-49], values", "addresses: [40-49, 100], values"), "policy in force")
	if err := ask(conn, write100, patience); err != nil {
		t.Errorf("a write that the new file permits: %v", err)
	}
	reload(t, p, strings.Replace(modbusSite(), "mode:", "colour: red\nmode:", 1), "policy.yaml:3:1: ")
	if err := ask(conn, write100, patience); err != nil {
		t.Errorf("after a file that is wrong: %v", err)
	}
	if err := os.Remove(p.PolicyFile()); err != nil {
		t.Fatal(err)
	}
	hangUp(t, p, "no such file")
	if err := ask(conn, write100, patience); err != nil {
		t.Errorf("without a file: %v", err)
	}
	reload(t, p, modbusSite(), "version=3")
	if err := ask(conn, write100, patience); !wasReset(err) {
		t.Errorf("a write that the file forbids again: %v, want a reset", err)
	}
}

// reload writes the policy file, has the daemon read it, and waits for what the log says of that.
func reload(t *testing.T, p *plant.Plant, text, want string) {
	t.Helper()
	write(t, p.PolicyFile(), text)
	hangUp(t, p, want)
}

func hangUp(t *testing.T, p *plant.Plant, want string) {
	t.Helper()
	before := len(p.Daemon.Output())
	if err := p.Daemon.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("the log to say %q", want), func() bool {
		return strings.Contains(p.Daemon.Output()[before:], want)
	})
}

// TestCachedPolicy: a start without its file, or with one that is wrong, runs on the policy that
// was last in force, and says so in the log and in the status.
func TestCachedPolicy(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, resetPort)
	for _, row := range []struct {
		name string
		harm func()
		want string
	}{
		{"the file is gone", func() { os.Remove(p.PolicyFile()) }, "no such file"},
		{"the file is wrong", func() { write(t, p.PolicyFile(), "api_version: penstock/v1\nsight: x\n") }, "policy.yaml:2:1: "},
		{"the file is not for this appliance", func() {
			write(t, p.PolicyFile(), strings.ReplaceAll(modbusSite(), plant.Appliance, "line-4-gate"))
		}, "line-4-gate"},
		{"the file differs", func() { write(t, p.PolicyFile(), outageSite()) }, "differs"},
	} {
		for _, apart := range []bool{false, true} {
			name := row.name
			if apart {
				name += ", after down"
			}
			t.Run(name, func(t *testing.T) {
				if err := p.Stop(); err != nil {
					t.Fatal(err)
				}
				if apart {
					if err := p.Down(); err != nil {
						t.Fatal(err)
					}
				}
				row.harm()
				start(t, p)
				conn := socketTo(t, p.HMI, p.Filler, resetPort)
				if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
					t.Error(err)
				}
				for _, want := range []string{"cached policy, version 1", row.want} {
					wantWarning(t, p, want)
					if !strings.Contains(p.Daemon.Output(), want) {
						t.Errorf("the log does not say %q:\n%s", want, p.Daemon.Output())
					}
				}
			})
		}
	}
}

// TestBrokenStore: what is broken is set aside, the policy file is used, and that is told.
func TestBrokenStore(t *testing.T) {
	p := lay(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, resetPort)
	path := filepath.Join(p.Directory, "state", "penstock.db")
	for _, row := range []struct {
		name string
		harm func(whole []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"cut off", func(b []byte) []byte { return b[:5000] }},
		{"text", func([]byte) []byte { return []byte(strings.Repeat("penstock\n", 4096)) }},
		{"one page overwritten", func(b []byte) []byte { return append(b[:8192:8192], append(make([]byte, 4096), b[12288:]...)...) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			write(t, path, string(row.harm([]byte(read(t, path)))))
			start(t, p)
			conn := socketTo(t, p.HMI, p.Filler, resetPort)
			if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
				t.Error(err)
			}
			if err := ask(conn, mbap(2, 1, writeRegister(100, 1)), patience); !wasReset(err) {
				t.Errorf("a denied request: %v, want a reset", err)
			}
			wantWarning(t, p, "corrupt")
		})
	}
}

// TestStateDirectoryThatTakesNoWrites: the appliance works, says that nothing is cached, and still
// takes a policy.
func TestStateDirectoryThatTakesNoWrites(t *testing.T) {
	for _, row := range []struct {
		name  string
		first bool   // it had taken writes at a first start
		after string // what the status says of a policy that came later
	}{{"from the beginning", false, "store"}, {"since a restart", true, "a restart goes back"}} {
		t.Run(row.name, func(t *testing.T) {
			p := layStopped(t, plant.Options{Policy: modbusSite()})
			startStation(t, p.Filler, resetPort)
			state := filepath.Join(p.Directory, "state")
			fileSystem(t, state)
			if row.first {
				start(t, p)
				if err := p.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Mount("", state, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			start(t, p)
			conn := socketTo(t, p.HMI, p.Filler, resetPort)
			if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
				t.Error(err)
			}
			wantWarning(t, p, "store")
			reload(t, p, strings.ReplaceAll(modbusSite(), "addresses: [40-49], values", "addresses: [40-49, 100], values"), `msg="policy in force"`)
			if err := ask(conn, mbap(2, 1, writeRegister(100, 1)), patience); err != nil {
				t.Errorf("a write that the new file permits: %v", err)
			}
			wantWarning(t, p, row.after)
		})
	}
}

// TestFullDisk: the appliance starts, and goes on with the policy that it has when there is no
// room for another.
func TestFullDisk(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: modbusSite()})
	startStation(t, p.Filler, resetPort)
	state := filepath.Join(p.Directory, "state")
	fileSystem(t, state)
	fill := filepath.Join(state, "fill")
	if err := os.WriteFile(fill, make([]byte, fileSystemSize), 0o600); !errors.Is(err, unix.ENOSPC) && err != nil {
		t.Fatal(err)
	}
	start(t, p)
	conn := socketTo(t, p.HMI, p.Filler, resetPort)
	lawful := keepTalking(t, p, resetPort)
	if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
		t.Error(err)
	}
	wantWarning(t, p, "no space left")
	lawful.check(t)
}

// fileSystemSize is in bytes.
const fileSystemSize = 4 << 20

// fileSystem puts a file system of its own on a directory until the test ends.
func fileSystem(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", fileSystemSize)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestEndsCleanly: SIGTERM and SIGINT end the daemon with status 0, and its socket goes with it.
func TestEndsCleanly(t *testing.T) {
	p := layStopped(t, plant.Options{Policy: modbusSite()})
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		start(t, p)
		if err := p.Daemon.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := p.Daemon.Wait(patience); err != nil {
			t.Errorf("%v: %v\n%s", signal, err, p.Daemon.Output())
		}
		if _, err := os.Lstat(p.Socket()); !os.IsNotExist(err) {
			t.Errorf("%v leaves the socket: %v", signal, err)
		}
		if strings.Contains(p.Daemon.Output(), "level=ERROR") {
			t.Errorf("%v: %s", signal, p.Daemon.Output())
		}
	}
}

// TestAppliancesOfOneNameInTwoNamespaces: both leave their ports where they were started, and
// neither takes the other's fast path for its own.
func TestAppliancesOfOneNameInTwoNamespaces(t *testing.T) {
	first := lay(t, plant.Options{Policy: modbusSite(), Here: true})
	startStation(t, first.Filler, resetPort)
	lawful := keepTalking(t, first, resetPort)
	second := lay(t, plant.Options{Policy: modbusSite(), Here: true})
	startStation(t, second.Filler, resetPort)
	if strings.Contains(second.Daemon.Output(), "adopting") {
		t.Errorf("the second adopts what is the first one's:\n%s", second.Daemon.Output())
	}
	if err := ask(socketTo(t, second.HMI, second.Filler, resetPort), mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
		t.Error(err)
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := second.Down(); err != nil {
		t.Fatal(err)
	}
	lawful.check(t)
}
