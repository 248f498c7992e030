package settings

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
)

// option is one key: what it is when nobody sets it, and how a value is checked and kept.
type option struct {
	key      string
	fallback string
	help     string
	number   bool // begins with one, so that YAML may have read it as one; everything else is text
	set      func(s *Settings, text string) error
}

// variable returns the key's environment variable.
func (o option) variable() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(o.key, ".", "_"))
}

// flag returns the key's flag, without its dashes.
func (o option) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(o.key) }

// options are the keys, in the order of the example file. It is a function because nothing
// may change them.
func options() []option {
	return append([]option{
		{key: "name", help: "which of the policy's appliances this is",
			set: func(s *Settings, text string) error {
				s.Name = text
				return notEmpty(text, "the appliance's name in the policy")
			}},
		{key: "ports.a", help: "network interface of side a",
			set: func(s *Settings, text string) error { s.PortA = text; return interfaceName(text) }},
		{key: "ports.b", help: "network interface of side b",
			set: func(s *Settings, text string) error { s.PortB = text; return interfaceName(text) }},
		{key: "bridge", fallback: "penstock0", help: "bridge between the ports, created if absent",
			set: func(s *Settings, text string) error { s.Bridge = text; return interfaceName(text) }},
		{key: "netns", fallback: "penstock", help: "network namespace of ports and bridge, created if absent; empty is the daemon's own",
			set: func(s *Settings, text string) error { s.Netns = text; return namespaceName(text) }},
		{key: "policy", fallback: "policy.yaml", help: "policy file, used when the store holds none yet and on reload",
			set: func(s *Settings, text string) error {
				s.Policy = text
				return notEmpty(text, "the path of the policy file")
			}},
		{key: "state_dir", fallback: "/var/lib/penstock", help: "directory of the store",
			set: func(s *Settings, text string) error { s.StateDir = text; return absolutePath(text) }},
		{key: "socket", fallback: api.DefaultSocket, help: "local socket of the daemon",
			set: func(s *Settings, text string) error { s.Socket = text; return socketPath(text) }},
		{key: "metrics", help: "host:port for metrics, which this build does not serve; empty is off",
			set: func(s *Settings, text string) error { s.Metrics = text; return listenAddress(text) }},
		{key: "adoption_window", fallback: "30s", number: true, help: "how long running TCP connections are adopted after a start",
			set: func(s *Settings, text string) (err error) {
				s.AdoptionWindow, err = duration(text, 0, 10*time.Minute)
				return err
			}},
		{key: "queue_length", fallback: "1024", number: true, help: "packets that may wait for inspection, for each queue",
			set: func(s *Settings, text string) error {
				n, err := number(text, 16, 65536)
				s.QueueLength = uint32(n)
				return err
			}},
		{key: "lanes", fallback: "auto", number: true, help: "cores that inspect: auto, 1, 2, 4, 8 or 16",
			set: func(s *Settings, text string) (err error) {
				s.Lanes, err = lanes(text)
				return err
			}},
		{key: "outage.heartbeat_timeout", fallback: "100ms", number: true, help: "silence of a queue's reader that counts as an outage",
			set: func(s *Settings, text string) (err error) {
				s.HeartbeatTimeout, err = duration(text, 20*time.Millisecond, 10*time.Second)
				return err
			}},
		{key: "outage.link_state", fallback: "independent", help: "what the loss of one port's link does to the other: independent or pass_through",
			set: func(s *Settings, text string) error {
				s.LinkPassThrough = text == "pass_through"
				return oneOf(text, "independent", "pass_through")
			}},
	}, bypassOptions()...)
}

// text returns a value as text. Anything that YAML read as something else (a date, a boolean,
// a number such as 010) may not be what was written, so it is refused and not written back.
func (o option) text(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case int:
		if o.number {
			return strconv.Itoa(v), nil
		}
	}
	if o.number {
		return "", fmt.Errorf("%v is not a whole number", value)
	}
	return "", fmt.Errorf("%v is not text: put quotes around it", value)
}

func notEmpty(text, what string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("is missing: give %s", what)
	}
	return nil
}

// interfaceName accepts what the kernel accepts (dev_valid_name), except a percent sign, out
// of which the kernel would make up a name of its own.
func interfaceName(text string) error {
	const longest = 15 // IFNAMSIZ, less the terminating zero
	if text == "" {
		return errors.New("is missing: give the name of a network interface")
	}
	if len(text) > longest {
		return fmt.Errorf("%q is longer than the %d characters that an interface name may have", text, longest)
	}
	if text == "." || text == ".." || strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r)
	}) {
		return fmt.Errorf("%q is no interface name: see ip link for those of this machine", text)
	}
	return nil
}

func namespaceName(text string) error {
	if text == "." || text == ".." || len(text) > 255 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return fmt.Errorf("%q is no namespace name: give a name as in ip netns list, or \"\" for the daemon's own", text)
	}
	return nil
}

func absolutePath(text string) error {
	if !filepath.IsAbs(text) {
		return fmt.Errorf("%q is not an absolute path: begin it with /", text)
	}
	return nil
}

func socketPath(text string) error {
	const longest = 107 // sun_path, less the terminating zero
	if err := absolutePath(text); err != nil {
		return err
	}
	if len(text) > longest {
		return fmt.Errorf("%q is longer than the %d characters that a socket's path may have", text, longest)
	}
	return nil
}

func listenAddress(text string) error {
	if text == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = number(port, 1, 65535)
	}
	if err != nil {
		return fmt.Errorf("%q is no address to listen on: write host:port, such as 127.0.0.1:9477, or \"\" for off", text)
	}
	return nil
}

// duration reads a duration with its unit. Without one nobody knows what was meant.
func duration(text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: write a number and a unit, such as 100ms or 30s", text)
	}
	if d < least || d > most {
		return 0, fmt.Errorf("%s is out of range: give %s to %s", text, least, most)
	}
	return d, nil
}

func number(text string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is out of range: give a whole number from %d to %d", text, least, most)
	}
	return n, nil
}

// lanes reads a power of two, or auto as 0.
func lanes(text string) (int, error) {
	if text == "auto" {
		return 0, nil
	}
	for n := 1; n <= 16; n *= 2 {
		if text == strconv.Itoa(n) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q is no number of lanes: give auto, 1, 2, 4, 8 or 16", text)
}

func oneOf(text string, known ...string) error {
	if slices.Contains(known, text) {
		return nil
	}
	return fmt.Errorf("%q is unknown: give one of %s", text, strings.Join(known, ", "))
}
