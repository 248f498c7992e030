package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/settings"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// penstock runs the command against a plant's daemon, from anywhere, and returns its exit status.
func penstock(t *testing.T, p *plant.Plant, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(commandBinary, args...)
	cmd.Env = append(cmd.Environ(), "PENSTOCK_SOCKET="+p.Socket())
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), complaints.String()
}

// TestBadPolicyIsOneClearLine: to check, to apply and to reload, and whatever ran before goes on.
func TestBadPolicyIsOneClearLine(t *testing.T) {
	good := modbusSite()
	p := lay(t, plant.Options{Policy: good})
	startStation(t, p.Filler, resetPort)
	lawful := keepTalking(t, p, resetPort)
	before, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, old, new, want string }{
		{"unknown key", "mode: enforce", "mode: enforce\ncolour: red", `no key "colour"`},
		{"duplicate name", "name: drops", "name: resets", `conduit "resets" is there already`},
		{"overlapping address", "ip: [198.18.0.21]", "ip: [198.18.0.20]", "198.18.0.20 is that of identity"},
		{"identity that does not exist", "from: [hmi-1]", "from: [hmi-9]", `no identity "hmi-9"`},
		{"port out of range", fmt.Sprintf("ports: [%d]", dropPort), "ports: [65536]", "65536"},
		{"function that does not exist", "write_single_coil", "write_simple_coil", "write_simple_coil"},
		{"zone on both sides", "b: [room]", "b: [room, annexe]", `zone "annexe" lies on both sides`},
		{
			"plain conduit that would cancel another's inspection", "conduits:\n",
			"conduits:\n  - name: short-cut\n    from: [hmi-1]\n    to: [filler-plc]\n    protocol: tcp\n    ports: [500-600]\n", "short-cut",
		},
		{"no YAML", "site: test", "site: [test", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(good, row.old, row.new, 1)
			if text == good {
				t.Fatalf("%q is not in the policy", row.old)
			}
			file := filepath.Join(p.Directory, "bad.yaml")
			write(t, file, text)
			line := regexp.MustCompile(`^(penstock: )?` + regexp.QuoteMeta(file) + `:\d+:\d+: .*` + regexp.QuoteMeta(row.want) + `.*\n$`)
			for _, verb := range []string{"check", "apply"} {
				status, stdout, stderr := penstock(t, p, "policy", verb, file)
				if status != 1 || stdout != "" || !line.MatchString(stderr) {
					t.Errorf("policy %s: exit status %d\nstdout %sstderr %swant one line like %v", verb, status, stdout, stderr, line)
				}
			}
			reload(t, p, text, "policy.yaml:")
		})
	}
	after, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if after.Policy != before.Policy {
		t.Errorf("the policy in force was %+v and is %+v", before.Policy, after.Policy)
	}
	lawful.check(t)
}

// TestStatusJSON holds the keys that others rely on, as a plant at work fills them.
func TestStatusJSON(t *testing.T) {
	p := lay(t, plant.Options{Settings: []string{longHeartbeat}})
	code, stdout, stderr := penstock(t, p, "status", "--json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit status %d, %s", code, stderr)
	}
	var s struct {
		Mode   *string
		Policy *struct {
			Version *uint64
			Hash    *string
		}
		Ports  []struct{ Name, Side, Link, XDP string }
		Outage *struct {
			State              string
			UninspectedFrames  *uint64  `json:"uninspected_frames"`
			UninspectedSeconds *float64 `json:"uninspected_seconds"`
		}
		Conduits []struct {
			Name, Mode, State string
			OnOutage          string `json:"on_outage"`
			Allowed, Denied   *uint64
		}
		Queues []struct {
			Number, Packets, Dropped, Depth *uint64
		}
	}
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if s.Mode == nil || *s.Mode != "enforce" || s.Policy == nil || s.Policy.Version == nil || *s.Policy.Version != 1 ||
		s.Policy.Hash == nil || len(*s.Policy.Hash) != 64 {
		t.Errorf("mode and policy: %s", stdout)
	}
	for i, want := range []string{"{pa a up native}", "{pb b up native}"} {
		if len(s.Ports) != 2 || fmt.Sprint(s.Ports[i]) != want {
			t.Errorf("ports: %v, want %s at %d", s.Ports, want, i)
		}
	}
	if s.Outage == nil || s.Outage.State != "inspecting" || s.Outage.UninspectedFrames == nil || *s.Outage.UninspectedFrames != 0 ||
		s.Outage.UninspectedSeconds == nil || *s.Outage.UninspectedSeconds != 0 {
		t.Errorf("outage: %s", stdout)
	}
	states := map[string]string{}
	for _, c := range s.Conduits {
		states[c.Name] = strings.Join([]string{c.Mode, c.OnOutage, c.State}, " ")
		if c.Allowed == nil || c.Denied == nil {
			t.Errorf("conduit %s counts nothing: %s", c.Name, stdout)
		}
	}
	for name, want := range map[string]string{
		"hmi-to-filler":  "enforce open inspecting",
		"scada-to-pump":  "enforce closed inspecting",
		"hmi-tags":       "enforce open inspecting",
		"historian-pull": "enforce open address_only",
	} {
		if states[name] != want {
			t.Errorf("conduit %s is %q, want %q", name, states[name], want)
		}
	}
	if lanes := lanesOf(&settings.Settings{}); len(s.Queues) != 2*lanes || s.Queues[0].Number == nil || s.Queues[0].Packets == nil || s.Queues[0].Dropped == nil || s.Queues[0].Depth == nil {
		t.Errorf("queues: %s", stdout)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := penstock(t, p, "status", "--json"); code != 3 || !strings.Contains(stderr, "penstockd") {
		t.Errorf("without a daemon: exit status %d, %s", code, stderr)
	}
}

// TestEventsJSON holds each event's keys and what they say of an unknown device, a spoofed address,
// an unlisted port, and a write out of range.
func TestEventsJSON(t *testing.T) {
	p := layStopped(t, plant.Options{Settings: []string{longHeartbeat}})
	stranger, err := p.Lab.Host(p.HMI.Side, "stranger", "02:00:00:00:00:99", "198.18.0.99")
	if err != nil {
		t.Fatal(err)
	}
	engineer, err := p.Lab.Host(p.HMI.Side, "engineer", "02:00:00:00:00:21", "198.18.0.21")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*testnet.Host{stranger, engineer} {
		if err := h.AddNeighbour(p.Filler); err != nil {
			t.Fatal(err)
		}
	}
	startStation(t, p.Filler, resetPort)
	start(t, p)
	// What a host sends before its own cable is in service is lost, and is sent again.
	refused := func(from *testnet.Host, port int, reason verdict.Reason) {
		t.Helper()
		eventually(t, "an event of "+reason.String(), func() bool {
			if conn, err := trySocket(from, p.Filler, port, 300*time.Millisecond); err == nil {
				conn.Close()
				t.Fatalf("%s reached port %d: %v is due", from.Label, port, reason)
			}
			events, err := p.Events()
			return err == nil && slices.ContainsFunc(events, func(e event.Event) bool { return e.Reason == reason && e.Layer == event.LayerXDP })
		})
	}
	refused(stranger, 502, verdict.ReasonUnknownSource)
	refused(p.HMI, 8080, verdict.ReasonNoConduit)
	runIn(t, p, engineer, "ip", "address", "add", "198.18.0.20/32", "dev", testnet.HostInterface)
	runIn(t, p, engineer, "ip", "route", "replace", "198.18.0.10/32", "dev", testnet.HostInterface, "src", "198.18.0.20")
	refused(engineer, 502, verdict.ReasonAddressSpoofed)
	conn := socketTo(t, p.HMI, p.Filler, resetPort)
	if err := ask(conn, mbap(1, 1, readRegisters(0, 1)), patience); err != nil {
		t.Error(err)
	}
	_ = ask(conn, mbap(2, 1, writeRegisters(100, 1, 1)), 300*time.Millisecond)
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Reason == verdict.ReasonAddressNotPermitted }); err != nil {
		t.Error(err)
	}
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Reason == verdict.ReasonPermitted && e.Layer == event.LayerXDP }); err != nil {
		t.Error(err)
	}
	code, stdout, stderr := penstock(t, p, "events", "--json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit status %d, %s", code, stderr)
	}
	wanted := []map[string]any{
		{"verdict": "deny", "reason": "unknown_source", "layer": "xdp", "source": "unknown", "source_address": "198.18.0.99:*", "destination_address": "198.18.0.10:502", "protocol": "tcp"},
		{"verdict": "deny", "reason": "no_conduit", "layer": "xdp", "source": "hmi-1", "destination": "filler-plc", "conduit": "", "destination_address": "198.18.0.10:8080"},
		{"verdict": "deny", "reason": "address_spoofed", "layer": "xdp", "source": "engineering", "source_address": "198.18.0.20:*"},
		{"verdict": "allow", "reason": "permitted", "layer": "xdp", "source": "hmi-1", "destination": "filler-plc", "conduit": "hmi-to-filler", "destination_address": "198.18.0.10:502"},
		{
			"verdict": "deny", "reason": "address_not_permitted", "layer": "inspect", "source": "hmi-1", "destination": "filler-plc",
			"conduit": "hmi-to-filler", "protocol": "modbus", "operation": "write_multiple_registers", "detail": "unit 1 address 100-101",
		},
	}
	for line := range strings.Lines(stdout) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		for _, key := range []string{
			"time", "mode", "verdict", "reason", "conduit", "source", "destination", "source_address",
			"destination_address", "protocol", "operation", "detail", "policy", "layer",
		} {
			if _, ok := e[key]; !ok {
				t.Errorf("an event has no %s: %s", key, line)
			}
		}
		if e["mode"] != "enforce" || e["policy"] != 1.0 {
			t.Errorf("mode or policy: %s", line)
		}
		for i, want := range wanted {
			if want != nil && matches(e, want) {
				wanted[i] = nil
			}
		}
	}
	for _, want := range wanted {
		if want != nil {
			t.Errorf("no event is like %v", want)
		}
	}
	if t.Failed() {
		t.Log(stdout)
	}
}

// matches holds an event against what is wanted, where "*" at the end stands for anything.
func matches(e, want map[string]any) bool {
	for key, value := range want {
		prefix, open := strings.CutSuffix(fmt.Sprint(value), "*")
		if got := fmt.Sprint(e[key]); got != prefix && !(open && strings.HasPrefix(got, prefix)) {
			return false
		}
	}
	return true
}
