package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/penstock-ot/penstock/internal/api"
)

// example is the settings file that other programs and people rely on, word for word.
const example = `# The appliance's own settings. Every key can be given as PENSTOCK_<KEY> (PENSTOCK_STATE_DIR,
# PENSTOCK_PORTS_A …) or as a flag. Policy is a separate file.
name: line-3-gate          # which of the policy's appliances this is
ports:
  a: pa
  b: pb
bridge: penstock0          # created if absent; has no address
netns: penstock            # created if absent; ports and bridge live in it, alone.
                           # "" is the namespace that the daemon was started in
policy: policy.yaml        # used when the store holds no policy yet, and on reload
state_dir: /var/lib/penstock
socket: /run/penstock/penstock.sock
metrics: ""                # e.g. 127.0.0.1:9477; empty is off
outage:
  heartbeat_timeout: 100ms
bypass:
  driver: none             # none | gpio | watchdog | exec
`

func exampleSettings(dir string) *Settings {
	return &Settings{
		Name: "line-3-gate", PortA: "pa", PortB: "pb", Bridge: "penstock0", Netns: "penstock",
		Policy: filepath.Join(dir, "policy.yaml"), StateDir: "/var/lib/penstock",
		Socket: api.DefaultSocket, AdoptionWindow: 30 * time.Second, QueueLength: 1024,
		HeartbeatTimeout: 100 * time.Millisecond, Bypass: Bypass{
			Driver: "none", GPIOChip: "gpiochip0", RelaySocket: "/run/penstock/relay.sock",
			WatchdogDevice: "/dev/watchdog", WatchdogTimeout: 10 * time.Second, Engage: []string{}, Release: []string{}, State: []string{},
		},
	}
}

// clean takes the variables out of the environment that a machine may have set.
func clean(t *testing.T) {
	for _, o := range options() {
		if old, ok := os.LookupEnv(o.variable()); ok {
			t.Setenv(o.variable(), old) // restores it
			os.Unsetenv(o.variable())
		}
	}
}

// load loads the text as penstockd.yaml of a directory of its own.
func load(t *testing.T, text string, args ...string) (*Settings, string, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "penstockd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("penstockd", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	s, err := Load(file, flags)
	return s, dir, err
}

func TestExampleWorksWordForWord(t *testing.T) {
	clean(t)
	s, dir, err := load(t, example)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleSettings(dir), s); diff != "" {
		t.Error(diff)
	}
}

func TestSources(t *testing.T) {
	cwd := "elsewhere/p.yaml"
	tests := []struct {
		name string
		file string // appended to nothing: the whole file
		env  map[string]string
		args []string
		want func(*Settings)
	}{
		{"fallbacks", "name: line-3-gate\nports: {a: pa, b: pb}\n", nil, nil, func(*Settings) {}},
		{"a variable beats the file", example, map[string]string{"PENSTOCK_PORTS_A": "ea", "PENSTOCK_STATE_DIR": "/s"}, nil,
			func(s *Settings) { s.PortA, s.StateDir = "ea", "/s" }},
		{"an empty variable counts", example, map[string]string{"PENSTOCK_NETNS": ""}, nil, func(s *Settings) { s.Netns = "" }},
		{"a flag beats both", example, map[string]string{"PENSTOCK_PORTS_A": "ea"}, []string{"--ports-a=fa", "--outage-heartbeat-timeout=20ms"},
			func(s *Settings) { s.PortA, s.HeartbeatTimeout = "fa", 20*time.Millisecond }},
		{"an empty flag counts", example, nil, []string{"--netns="}, func(s *Settings) { s.Netns = "" }},
		{"the namespace may be the daemon's own", strings.Replace(example, "netns: penstock ", `netns: "" `, 1), nil, nil, func(s *Settings) { s.Netns = "" }},
		{"a policy from a flag is relative to who gives it", example, nil, []string{"--policy", cwd}, func(s *Settings) { s.Policy = cwd }},
		{"so is one from a variable", example, map[string]string{"PENSTOCK_POLICY": cwd}, nil, func(s *Settings) { s.Policy = cwd }},
		{"an absolute policy stays", strings.Replace(example, "policy: policy.yaml", "policy: /etc/p.yaml", 1), nil, nil, func(s *Settings) { s.Policy = "/etc/p.yaml" }},
		{"a number as a number", example + "queue_length: 4096\n", nil, nil, func(s *Settings) { s.QueueLength = 4096 }},
		{"lanes", example + "lanes: 4\n", nil, nil, func(s *Settings) { s.Lanes = 4 }},
		{"lanes by cores", example + "lanes: auto\n", nil, nil, func(*Settings) {}},
		{"a number as text", example + "queue_length: \"4096\"\n", nil, nil, func(s *Settings) { s.QueueLength = 4096 }},
		{"no adoption", example + "adoption_window: 0s\n", nil, nil, func(s *Settings) { s.AdoptionWindow = 0 }},
		{"metrics on every address", strings.Replace(example, `metrics: "" `, `metrics: ":9477" `, 1), nil, nil, func(s *Settings) {
			s.Metrics = ":9477"
			s.Warnings = []string{"metrics: nothing listens on :9477, since this build serves no metrics: leave the key out"}
		}},
		{"a variable that is no key is warned of", example, map[string]string{"PENSTOCK_STATEDIR": "/s"}, nil, func(s *Settings) {
			s.Warnings = []string{`PENSTOCK_STATEDIR is set, but it is no setting: did you mean "PENSTOCK_STATE_DIR"?`}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clean(t)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			s, dir, err := load(t, tt.file, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := exampleSettings(dir)
			tt.want(want)
			if diff := cmp.Diff(want, s); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWithoutAFile(t *testing.T) {
	clean(t)
	t.Setenv("PENSTOCK_NAME", "line-3-gate")
	t.Setenv("PENSTOCK_PORTS_A", "pa")
	t.Setenv("PENSTOCK_PORTS_B", "pb")
	s, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleSettings(""), s); diff != "" {
		t.Error(diff)
	}
}

func TestMistakes(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(example, old) {
			t.Fatalf("the example does not hold %q", old)
		}
		return strings.Replace(example, old, new, 1)
	}
	tests := []struct {
		name string
		file string
		want []string // the lines of the error, with FILE for the file's path
	}{
		{"a misspelt key", replace("state_dir:", "state_dri:"), []string{`FILE:11:1: state_dri: there is no such key: did you mean "state_dir"?`}},
		{"a key of another group", replace("outage:\n  heartbeat_timeout", "heartbeat_timeout"),
			[]string{`FILE:14:1: heartbeat_timeout: there is no such key: did you mean "outage.heartbeat_timeout"?`}},
		{"a key in the wrong group", replace("  b: pb", "  c: pb"), []string{`FILE:6:3: ports.c: there is no such key: did you mean "ports.a"?`}},
		{"capitals", replace("bridge:", "Bridge:"), []string{`FILE:7:1: Bridge: there is no such key: did you mean "bridge"?`}},
		{"nothing near", example + "zzzzzz: 1\n", []string{`FILE:18:1: zzzzzz: there is no such key`}},
		{"two at once", replace("bridge:", "brigde:") + "zzzzzz: 1\n", []string{
			`FILE:7:1: brigde: there is no such key: did you mean "bridge"?`, `FILE:18:1: zzzzzz: there is no such key`}},
		{"a key twice", example + "name: other\n", []string{`FILE:18:1: name: is given twice: keep one`}},
		{"a group twice", example + "ports: {a: x}\n", []string{`FILE:18:1: ports: is given twice: keep one`}},
		{"a group with a value", replace("bypass:\n  driver: none", "bypass: none"), []string{`FILE:16:9: bypass: holds further keys: write them below it, indented`}},
		{"a value with a group", replace("name: line-3-gate", "name: {a: b}"), []string{`FILE:3:7: name: takes one value`}},
		{"a list", replace("name: line-3-gate", "name: [b]"), []string{`FILE:3:7: name: takes one value`}},
		{"no value", replace(`metrics: ""`, "metrics:"), []string{`FILE:13:1: metrics: has no value: give one, write "" for none, or leave the line out`}},
		{"not YAML", "ports: [", []string{"FILE:1: did not find expected node content"}},
		{"a list of things", "- name\n", []string{"FILE:1:1: this is no settings file: write key: value, one a line"}},
		{"a word", "hello\n", []string{"FILE:1:1: this is no settings file: write key: value, one a line"}},
		{"two documents", example + "---\nname: x\n", []string{"FILE:18:1: there is more than one document: keep one"}},
		{"an empty file", "", []string{
			"FILE: name: is missing: give the appliance's name in the policy",
			"FILE: ports.a: is missing: give the name of a network interface",
			"FILE: ports.b: is missing: give the name of a network interface"}},
		{"only a comment", "# nothing\nname: x\nports: {a: pa}\n", []string{"FILE: ports.b: is missing: give the name of a network interface"}},
		{"the same port twice", replace("b: pb", "b: pa"), []string{`FILE:6:6: ports.b: "pa" is port a already: give two different interfaces`}},
		{"the bridge is a port", replace("penstock0 ", "pa "), []string{`FILE:7:9: bridge: "pa" is one of the ports: give the bridge a name of its own`}},
		{"a bridge of 16 characters", replace("penstock0 ", "penstock01234567 "),
			[]string{`FILE:7:9: bridge: "penstock01234567" is longer than the 15 characters that an interface name may have`}},
		{"a port with a slash", replace("a: pa", "a: p/a"), []string{`FILE:5:6: ports.a: "p/a" is no interface name: see ip link for those of this machine`}},
		{"a port that is a number", replace("a: pa", "a: 010"), []string{`FILE:5:6: ports.a: 8 is not text: put quotes around it`}},
		{"a name that is a date", replace("line-3-gate", "2026-01-02"), []string{`FILE:3:7: name: 2026-01-02 00:00:00 +0000 UTC is not text: put quotes around it`}},
		{"a name that is a boolean", replace("line-3-gate", "true"), []string{`FILE:3:7: name: true is not text: put quotes around it`}},
		{"a namespace that is a path", replace("netns: penstock ", "netns: /run/netns/x "),
			[]string{`FILE:8:8: netns: "/run/netns/x" is no namespace name: give a name as in ip netns list, or "" for the daemon's own`}},
		{"no policy", replace("policy: policy.yaml", `policy: ""`), []string{`FILE:10:9: policy: is missing: give the path of the policy file`}},
		{"a relative state directory", replace("/var/lib/penstock", "state"), []string{`FILE:11:12: state_dir: "state" is not an absolute path: begin it with /`}},
		{"a socket path that is too long", replace("/run/penstock/penstock.sock", "/"+strings.Repeat("x", 107)),
			[]string{`FILE:12:9: socket: "/` + strings.Repeat("x", 107) + `" is longer than the 107 characters that a socket's path may have`}},
		{"metrics without a port", replace(`metrics: ""`, "metrics: localhost"),
			[]string{`FILE:13:10: metrics: "localhost" is no address to listen on: write host:port, such as 127.0.0.1:9477, or "" for off`}},
		{"metrics at port 0", replace(`metrics: ""`, `metrics: ":0"`),
			[]string{`FILE:13:10: metrics: ":0" is no address to listen on: write host:port, such as 127.0.0.1:9477, or "" for off`}},
		{"a duration without a unit", replace("100ms", "100"), []string{`FILE:15:22: outage.heartbeat_timeout: "100" is no duration: write a number and a unit, such as 100ms or 30s`}},
		{"a quoted duration without a unit", replace("100ms", `"100"`),
			[]string{`FILE:15:22: outage.heartbeat_timeout: "100" is no duration: write a number and a unit, such as 100ms or 30s`}},
		{"a heartbeat that is too short", replace("100ms", "19ms"), []string{`FILE:15:22: outage.heartbeat_timeout: 19ms is out of range: give 20ms to 10s`}},
		{"a heartbeat that is too long", replace("100ms", "10001ms"), []string{`FILE:15:22: outage.heartbeat_timeout: 10001ms is out of range: give 20ms to 10s`}},
		{"a negative window", example + "adoption_window: -1s\n", []string{`FILE:18:18: adoption_window: -1s is out of range: give 0s to 10m0s`}},
		{"an unknown driver", replace("driver: none", "driver: relay"), []string{`FILE:17:11: bypass.driver: "relay" is unknown: give one of none, gpio, watchdog, exec`}},
		{"a state that says another, too", replace("driver: none             #", "driver: exec\n"+
			"  engage: /bin/bp on\n  release: /bin/bp off\n  state: /bin/bp get\n  engaged_when: active\n  inline_when: inactive\n#"), []string{
			`FILE:22:16: bypass.inline_when: "inactive" holds "active", which is bypass.engaged_when: that would be found first; give texts of which none holds another`}},
		{"commands that are missing", replace("driver: none             #", "driver: exec\n  engage: bp on\n#"), []string{
			`FILE:18:11: bypass.engage: "bp" is not an absolute path: begin it with /`,
			"FILE: bypass.release: is missing: the driver exec needs the command",
			"FILE: bypass.state: is missing: the driver exec needs the command",
			"FILE: bypass.engaged_when: give it and bypass.inline_when: without them the state is never known"}},
		{"a queue that is too short", example + "queue_length: 15\n", []string{`FILE:18:15: queue_length: "15" is out of range: give a whole number from 16 to 65536`}},
		{"lanes that are no power of two", example + "lanes: 3\n", []string{`FILE:18:8: lanes: "3" is no number of lanes: give auto, 1, 2, 4, 8 or 16`}},
		{"too many lanes", example + "lanes: 32\n", []string{`FILE:18:8: lanes: "32" is no number of lanes: give auto, 1, 2, 4, 8 or 16`}},
		{"a queue of a fraction", example + "queue_length: 1.5\n", []string{`FILE:18:15: queue_length: 1.5 is not a whole number`}},
		{"a queue of nothing", example + "queue_length: \"\"\n", []string{`FILE:18:15: queue_length: "" is out of range: give a whole number from 16 to 65536`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clean(t)
			_, dir, err := load(t, tt.file)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), filepath.Join(dir, "penstockd.yaml"), "FILE"), "\n")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMistakesElsewhereNameTheirSource(t *testing.T) {
	clean(t)
	t.Setenv("PENSTOCK_PORTS_B", "p/b")
	_, _, err := load(t, example, "--bridge=0123456789abcdef")
	want := "PENSTOCK_PORTS_B: ports.b: \"p/b\" is no interface name: see ip link for those of this machine\n" +
		"--bridge: bridge: \"0123456789abcdef\" is longer than the 15 characters that an interface name may have"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, file, want string }{
		{"not there", filepath.Join(dir, "none"), "name the settings file with --config"},
		{"a directory", dir, "not a regular file"},
		{"too large", large, "at most 1048576 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tt.file, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.file) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzLoad holds that no file makes Load panic, and that what it accepts is in range.
func FuzzLoad(f *testing.F) {
	f.Add(example)
	f.Add("name: x\nports: {a: &x pa, b: *x}\n")
	f.Add("<<: {name: x}\n")
	f.Add("? [a]\n: b\n")
	file := filepath.Join(f.TempDir(), "penstockd.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(file, nil)
		if err != nil {
			return
		}
		if s.PortA == s.PortB || interfaceName(s.PortA) != nil || interfaceName(s.Bridge) != nil ||
			s.HeartbeatTimeout < 20*time.Millisecond || s.QueueLength < 16 {
			t.Errorf("accepted %+v", s)
		}
	})
}
