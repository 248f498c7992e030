package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Bypass says what carries the line past the appliance.
type Bypass struct {
	Driver string // none, gpio, watchdog or exec

	// When it is engaged by itself.
	EngageAtBoot, EngageOnShutdown, EngageOnFailure bool

	// Of gpio: the line that drives the relay, its value that leads frames past the appliance, and the
	// socket of the process that holds it.
	GPIOChip    string
	GPIOLine    int
	GPIOEngaged int
	RelaySocket string

	// Of watchdog.
	WatchdogDevice                      string
	WatchdogTimeout, WatchdogPretimeout time.Duration

	// Of exec: commands as words, and what the output of State holds in each state.
	Engage, Release, State               []string
	EngagedWhen, InlineWhen, BlockedWhen string
}

func bypassOptions() []option {
	return []option{
		{key: "bypass.driver", fallback: "none", help: "what drives the bypass: none, gpio, watchdog or exec",
			set: func(s *Settings, text string) error {
				s.Bypass.Driver = text
				return oneOf(text, "none", "gpio", "watchdog", "exec")
			}},
		{key: "bypass.at_boot", fallback: "as_left", help: "the bypass when the appliance starts: as_left or engaged",
			set: func(s *Settings, text string) error {
				s.Bypass.EngageAtBoot = text == "engaged"
				return oneOf(text, "as_left", "engaged")
			}},
		{key: "bypass.on_shutdown", fallback: "as_is", help: "the bypass when the appliance is ended: as_is or engage",
			set: func(s *Settings, text string) error {
				s.Bypass.EngageOnShutdown = text == "engage"
				return oneOf(text, "as_is", "engage")
			}},
		{key: "bypass.on_failure", fallback: "as_is", help: "the bypass when inspection cannot go on: as_is or engage",
			set: func(s *Settings, text string) error {
				s.Bypass.EngageOnFailure = text == "engage"
				return oneOf(text, "as_is", "engage")
			}},
		{key: "bypass.gpio_chip", fallback: "gpiochip0", help: "gpio: the chip of the relay's line",
			set: func(s *Settings, text string) error {
				s.Bypass.GPIOChip = text
				if text == "" || filepath.Base(text) != text {
					return fmt.Errorf("%q is no name of a gpio chip, such as gpiochip0", text)
				}
				return nil
			}},
		{key: "bypass.gpio_line", fallback: "0", number: true, help: "gpio: the relay's line, by its offset",
			set: func(s *Settings, text string) error {
				n, err := number(text, 0, 1023)
				s.Bypass.GPIOLine = int(n)
				return err
			}},
		{key: "bypass.gpio_engaged", fallback: "0", number: true, help: "gpio: the line's value, 0 or 1, that leads frames past the appliance",
			set: func(s *Settings, text string) error {
				n, err := number(text, 0, 1)
				s.Bypass.GPIOEngaged = int(n)
				return err
			}},
		{key: "bypass.relay_socket", fallback: "/run/penstock/relay.sock", help: "gpio: local socket of the process that holds the relay",
			set: func(s *Settings, text string) error { s.Bypass.RelaySocket = text; return socketPath(text) }},
		{key: "bypass.watchdog_device", fallback: "/dev/watchdog", help: "watchdog: its device",
			set: func(s *Settings, text string) error { s.Bypass.WatchdogDevice = text; return absolutePath(text) }},
		{key: "bypass.watchdog_timeout", fallback: "10s", number: true, help: "watchdog: after so long without inspection it lets go",
			set: func(s *Settings, text string) (err error) {
				s.Bypass.WatchdogTimeout, err = seconds(text, 1*time.Second, 10*time.Minute)
				return err
			}},
		{key: "bypass.watchdog_pretimeout", fallback: "0s", number: true, help: "watchdog: so long before that it raises an alarm; 0s is never",
			set: func(s *Settings, text string) (err error) {
				s.Bypass.WatchdogPretimeout, err = seconds(text, 0, 10*time.Minute)
				return err
			}},
		{key: "bypass.engage", help: "exec: the command that leads frames past the appliance",
			set: func(s *Settings, text string) error { s.Bypass.Engage = strings.Fields(text); return nil }},
		{key: "bypass.release", help: "exec: the command that leads them through it",
			set: func(s *Settings, text string) error { s.Bypass.Release = strings.Fields(text); return nil }},
		{key: "bypass.state", help: "exec: the command that tells which it is",
			set: func(s *Settings, text string) error { s.Bypass.State = strings.Fields(text); return nil }},
		{key: "bypass.engaged_when", help: "exec: what its output holds when frames go past the appliance",
			set: func(s *Settings, text string) error { s.Bypass.EngagedWhen = text; return nil }},
		{key: "bypass.inline_when", help: "exec: what its output holds when they go through it",
			set: func(s *Settings, text string) error { s.Bypass.InlineWhen = text; return nil }},
		{key: "bypass.blocked_when", help: "exec: what its output holds when they go nowhere; may be left out",
			set: func(s *Settings, text string) error { s.Bypass.BlockedWhen = text; return nil }},
	}
}

// checkBypass holds the values against the driver that is to use them.
func (l *loader) checkBypass(b *Bypass) {
	if b.WatchdogPretimeout > 0 && b.WatchdogPretimeout >= b.WatchdogTimeout {
		l.mistake("bypass.watchdog_pretimeout", fmt.Errorf("it has to be shorter than bypass.watchdog_timeout, which is %v", b.WatchdogTimeout))
	}
	if b.Driver != "exec" {
		return
	}
	for _, c := range []struct {
		key   string
		words []string
	}{{"bypass.engage", b.Engage}, {"bypass.release", b.Release}, {"bypass.state", b.State}} {
		switch {
		case len(c.words) == 0:
			l.mistake(c.key, errors.New("is missing: the driver exec needs the command"))
		case !filepath.IsAbs(c.words[0]):
			l.mistake(c.key, fmt.Errorf("%q is not an absolute path: begin it with /", c.words[0]))
		}
	}
	if b.EngagedWhen == "" || b.InlineWhen == "" {
		l.mistake("bypass.engaged_when", errors.New("give it and bypass.inline_when: without them the state is never known"))
		return
	}
	l.checkStates(b)
}

// checkStates refuses a text of one state that says another, too: they are looked for in this order.
func (l *loader) checkStates(b *Bypass) {
	states := []struct{ key, text string }{
		{"bypass.blocked_when", b.BlockedWhen}, {"bypass.engaged_when", b.EngagedWhen}, {"bypass.inline_when", b.InlineWhen},
	}
	for i, first := range states {
		for _, later := range states[i+1:] {
			if first.text != "" && strings.Contains(later.text, first.text) {
				l.mistake(later.key, fmt.Errorf("%q holds %q, which is %s: that would be found first; give texts of which none holds another", later.text, first.text, first.key))
			}
		}
	}
}

// seconds reads a duration of whole seconds.
func seconds(text string, least, most time.Duration) (time.Duration, error) {
	d, err := duration(text, least, most)
	if err == nil && d%time.Second != 0 {
		err = fmt.Errorf("%s is not a whole number of seconds", text)
	}
	return d, err
}
