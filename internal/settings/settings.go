// Package settings reads the appliance's own settings: a YAML file, overridden by PENSTOCK_*
// environment variables, overridden by flags. Reading is strict: a key that does not exist, a
// value of the wrong kind and a value out of its range are errors, all of them told at once,
// each on one line that says where it stands and what to do.
package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix begins the environment variable of each key: PENSTOCK_STATE_DIR is state_dir,
// PENSTOCK_PORTS_A is ports.a.
const EnvPrefix = "PENSTOCK_"

// maxFileBytes bounds the settings file; what is larger is some other file.
const maxFileBytes = 1 << 20

// Settings are the appliance's settings, checked. Paths are absolute, or relative to the
// directory in which the daemon was started.
type Settings struct {
	Name           string // which of the policy's appliances this is
	PortA, PortB   string // network interfaces
	Bridge         string // network interface, created if absent
	Netns          string // network namespace; empty is the one that the daemon was started in
	Policy         string // path of the policy file
	StateDir       string
	Socket         string
	Metrics        string        // host:port; empty is off
	AdoptionWindow time.Duration // how long running TCP connections are adopted after a start
	QueueLength    uint32        // packets that may wait for inspection, for each queue
	Lanes          int           // cores that inspect; 0 is as many as there are

	HeartbeatTimeout time.Duration // silence of a queue's reader that counts as an outage
	LinkPassThrough  bool          // a port that loses its link takes the other one down

	Bypass Bypass

	// Warnings are things that are probably mistakes but may be meant.
	Warnings []string
}

// AddFlags defines one flag for each key: --state-dir for state_dir, --ports-a for ports.a.
func AddFlags(flags *pflag.FlagSet) {
	for _, o := range options() {
		help := o.help
		if o.fallback != "" {
			help += " (default " + o.fallback + ")"
		}
		flags.String(o.flag(), "", help)
	}
}

// Load reads the settings. The file may be empty (""), and flags nil. The error holds every
// mistake found, one a line.
func Load(file string, flags *pflag.FlagSet) (*Settings, error) {
	l := &loader{file: file, flags: flags, values: viper.New()}
	if err := l.read(); err != nil {
		return nil, err
	}
	if err := l.bind(); err != nil {
		return nil, err
	}
	s := &Settings{}
	for _, o := range options() {
		l.take(s, o)
	}
	l.checkTogether(s)
	s.Policy = l.policyPath(s.Policy)
	s.Warnings = unknownVariables(os.Environ())
	if s.Metrics != "" {
		s.Warnings = append(s.Warnings, fmt.Sprintf("metrics: nothing listens on %s, since this build serves no metrics: leave the key out", s.Metrics))
	}
	if err := errors.Join(l.mistakes...); err != nil {
		return nil, err
	}
	return s, nil
}

// loader is one run of Load.
type loader struct {
	file     string
	flags    *pflag.FlagSet
	values   *viper.Viper
	places   map[string]place // where the file sets each key
	mistakes []error
}

// read reads the file into viper and remembers where each key stands.
func (l *loader) read() error {
	if l.file == "" {
		return nil
	}
	raw, err := readBounded(l.file)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	places, mistakes := locate(raw)
	if len(mistakes) != 0 {
		for _, m := range mistakes {
			l.mistakes = append(l.mistakes, fmt.Errorf("%s:%w", l.file, m))
		}
		return errors.Join(l.mistakes...)
	}
	l.places = places
	l.values.SetConfigType("yaml")
	if err := l.values.ReadConfig(strings.NewReader(string(raw))); err != nil {
		return fmt.Errorf("%s: %w", l.file, err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: name the settings file with --config", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%s is no settings file: it is not a regular file of at most %d bytes", path, maxFileBytes)
	}
	return os.ReadFile(path)
}

// bind gives each key its fallback, its environment variable and its flag. An environment
// variable that is set to nothing counts: PENSTOCK_NETNS= is how the namespace is left out.
func (l *loader) bind() error {
	l.values.AllowEmptyEnv(true)
	for _, o := range options() {
		l.values.SetDefault(o.key, o.fallback)
		if err := l.values.BindEnv(o.key, o.variable()); err != nil {
			return fmt.Errorf("bind %s: %w", o.variable(), err)
		}
		if l.flags == nil || l.flags.Lookup(o.flag()) == nil {
			continue
		}
		if err := l.values.BindPFlag(o.key, l.flags.Lookup(o.flag())); err != nil {
			return fmt.Errorf("bind --%s: %w", o.flag(), err)
		}
	}
	return nil
}

// take checks one value and puts it in its place.
func (l *loader) take(s *Settings, o option) {
	text, err := o.text(l.values.Get(o.key))
	if err == nil {
		err = o.set(s, text)
	}
	if err != nil {
		l.mistake(o.key, err)
	}
}

func (l *loader) mistake(key string, err error) {
	l.mistakes = append(l.mistakes, fmt.Errorf("%s: %s: %w", l.source(key), key, err))
}

// checkTogether holds the values against each other.
func (l *loader) checkTogether(s *Settings) {
	if s.PortA != "" && s.PortA == s.PortB {
		l.mistake("ports.b", fmt.Errorf("%q is port a already: give two different interfaces", s.PortB))
	}
	l.checkBypass(&s.Bypass)
	if s.Bridge != "" && (s.Bridge == s.PortA || s.Bridge == s.PortB) {
		l.mistake("bridge", fmt.Errorf("%q is one of the ports: give the bridge a name of its own", s.Bridge))
	}
}

// policyPath resolves the policy's path: what the file says, or leaves out, is relative to the
// file, so that the two can be moved together; what a person says is relative to where they stand.
func (l *loader) policyPath(path string) string {
	origin := l.origin("policy")
	if path == "" || filepath.IsAbs(path) || l.file == "" || origin == fromFlag || origin == fromVariable {
		return path
	}
	return filepath.Join(filepath.Dir(l.file), path)
}

type origin uint8

const (
	fromFallback origin = iota
	fromFile
	fromVariable
	fromFlag
)

// origin says which of its sources a key's value is from, in viper's order.
func (l *loader) origin(key string) origin {
	o := option{key: key}
	if l.flags != nil && l.flags.Changed(o.flag()) {
		return fromFlag
	}
	if _, ok := os.LookupEnv(o.variable()); ok {
		return fromVariable
	}
	if _, ok := l.places[key]; ok {
		return fromFile
	}
	return fromFallback
}

// source names where a key's value stands, or where it should stand, for messages.
func (l *loader) source(key string) string {
	o := option{key: key}
	switch l.origin(key) {
	case fromFlag:
		return "--" + o.flag()
	case fromVariable:
		return o.variable()
	case fromFile:
		return l.file + ":" + l.places[key].String()
	}
	if l.file == "" {
		return "settings"
	}
	return l.file
}
