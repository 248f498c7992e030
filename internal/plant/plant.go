// Package plant lays the filling line of the example policy in network namespaces, with a real
// penstockd between its cell and its supervision, and real Modbus clients and servers on both
// sides. The whole-appliance tests, the demonstration and the benchmark stand on it. It needs
// root.
package plant

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// Appliance is the name of the plant's appliance in its policy.
const Appliance = "line-3-gate"

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 15 * time.Second
)

// Plant is a laid plant. HMI and Filler are the devices hmi-1 and filler-plc of the policy.
type Plant struct {
	*testnet.Lab
	HMI    *testnet.Host
	Filler *testnet.Host

	Directory string // settings, policy, state and socket of the appliance
	Netns     string // where the appliance's ports and bridge live; "" is the box itself
	Daemon    *testnet.Process

	binary  string
	wrapper []string // what starts the binary, if anything
	env     testnet.Env
}

// Options say how an appliance is set up. The zero value is the example policy and settings.
type Options struct {
	Policy   string   // the policy's text
	Settings []string // further lines of the settings file
	Here     bool     // leave the ports in the box's namespace instead of giving them one
}

// New lays a plant in a lab and writes the appliance's settings; the appliance is not started.
// binary is a built penstockd. The appliance is taken apart in env's cleanup.
func New(env testnet.Env, lab *testnet.Lab, binary string, o Options) (*Plant, error) {
	dir, err := os.MkdirTemp("", "penstock-plant-")
	if err != nil {
		return nil, fmt.Errorf("make the appliance's directory: %w", err)
	}
	p := &Plant{Lab: lab, HMI: lab.Plant, Filler: lab.Cell, Directory: dir, binary: binary, env: env}
	env.Cleanup(func() {
		if err := p.takeDown(); err != nil {
			env.Logf("take the plant down: %v", err)
		}
		os.RemoveAll(dir)
	})
	if err := p.WritePolicy(o.Policy); err != nil {
		return nil, err
	}
	return p, p.writeSettings(o)
}

func (p *Plant) writeSettings(o Options) error {
	if !o.Here {
		p.Netns = p.ReserveName("gate")
	}
	lines := append([]string{
		"name: " + Appliance,
		"ports: {a: " + testnet.PortA + ", b: " + testnet.PortB + "}",
		"bridge: penstock0",
		fmt.Sprintf("netns: %q", p.Netns),
		"policy: policy.yaml",
		"state_dir: " + filepath.Join(p.Directory, "state"),
		"socket: " + p.Socket(),
	}, o.Settings...)
	return os.WriteFile(p.Config(), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// WritePolicy replaces the policy file. The daemon reads it at its first start and on reload.
func (p *Plant) WritePolicy(text string) error {
	return os.WriteFile(p.PolicyFile(), []byte(text), 0o600)
}

// PolicyFile is the path of the policy file.
func (p *Plant) PolicyFile() string { return filepath.Join(p.Directory, "policy.yaml") }

// Config is the path of the settings file.
func (p *Plant) Config() string { return filepath.Join(p.Directory, "penstockd.yaml") }

// Socket is the path of the daemon's socket.
func (p *Plant) Socket() string { return filepath.Join(p.Directory, "penstock.sock") }

// Use has the next Start, and whatever else runs penstockd, run another build of it.
func (p *Plant) Use(binary string) { p.binary = binary }

// Start starts the daemon and waits until it says ready.
func (p *Plant) Start() error {
	daemon, err := p.Run("run", "--config", p.Config())
	if err != nil {
		return err
	}
	p.Daemon = daemon
	if err := daemon.WaitOutput("msg=ready", startTimeout); err != nil {
		return fmt.Errorf("%w\n%s", err, daemon.Output())
	}
	return nil
}

// Run starts penstockd with other arguments, such as settings that differ, and does not wait.
func (p *Plant) Run(args ...string) (*testnet.Process, error) {
	words := append(append(slices.Clone(p.wrapper), p.binary), args...)
	return p.Lab.Start(p.Box, words[0], words[1:]...)
}

// Wrap has a program with arguments start penstockd from now on: it has to become penstockd.
func (p *Plant) Wrap(words ...string) { p.wrapper = words }

// Gate returns the namespace in which the appliance's ports and bridge work. It is the caller's
// to close.
func (p *Plant) Gate() (*bridge.Namespace, error) {
	if p.Netns == "" {
		return bridge.OpenNamespace(p.Box.Name())
	}
	return bridge.OpenNamespace(p.Netns)
}

// Apply puts a policy in force, as penstock policy apply does.
func (p *Plant) Apply(text string) (api.Applied, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return api.NewClient(p.Socket()).Apply(ctx, api.Submission{Name: p.PolicyFile(), Raw: []byte(text)})
}

// Stop ends the daemon by SIGTERM; the fast path stays.
func (p *Plant) Stop() error {
	if p.Daemon == nil {
		return nil
	}
	daemon := p.Daemon
	p.Daemon = nil
	if err := daemon.StopWithin(stopTimeout); err != nil {
		return fmt.Errorf("%w\n%s", err, daemon.Output())
	}
	return nil
}

// Kill ends the daemon as a crash would.
func (p *Plant) Kill() error {
	daemon := p.Daemon
	p.Daemon = nil
	return daemon.Kill()
}

// Down runs penstockd down.
func (p *Plant) Down() error {
	proc, err := p.Run("down", "--config", p.Config())
	if err != nil {
		return err
	}
	if err := proc.Wait(stopTimeout); err != nil {
		return fmt.Errorf("penstockd down: %w\n%s", err, proc.Output())
	}
	return nil
}

func (p *Plant) takeDown() error {
	stopped := p.Stop()
	if err := p.Down(); err != nil {
		return err
	}
	return stopped
}

// Status asks the daemon.
func (p *Plant) Status() (api.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return api.NewClient(p.Socket()).Status(ctx)
}

// Client returns a client of the daemon.
func (p *Plant) Client() *api.Client { return api.NewClient(p.Socket()) }

// Events returns the recent events of the daemon, oldest first.
func (p *Plant) Events() ([]event.Event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var list []event.Event
	err := api.NewClient(p.Socket()).Events(ctx, api.EventQuery{}, func(e event.Event) error {
		list = append(list, e)
		return nil
	})
	return list, err
}

// AwaitEvent waits for an event that matches.
func (p *Plant) AwaitEvent(timeout time.Duration, match func(*event.Event) bool) (found event.Event, err error) {
	err = testnet.WaitFor("an event", timeout, func() (bool, error) {
		events, err := p.Events()
		if err != nil {
			return false, err
		}
		for i := range events {
			if match(&events[i]) {
				found = events[i]
				return true, nil
			}
		}
		return false, nil
	})
	return found, err
}

// Build compiles a command of this module into dir and returns its path. Flags are go build's. Without
// the race detector it is built as `make build` does it, without C: with it each thread has the kernel
// do more at every change of threads (restartable sequences).
func Build(dir, pkg string, flags ...string) (string, error) {
	out := filepath.Join(dir, filepath.Base(pkg))
	args := append(append([]string{"build", "-o", out}, flags...), pkg)
	cmd := exec.Command("go", args...)
	if !slices.Contains(flags, "-race") {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return out, nil
}
