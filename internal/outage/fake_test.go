package outage

import (
	"context"
	"errors"
)

// fake is a driver that does what it is told, or fails.
type fake struct {
	state State
	err   error
	calls []string
}

func (f *fake) Name() string { return "fake" }

func (f *fake) turn(call string, to State) error {
	f.calls = append(f.calls, call)
	if f.err != nil {
		return f.err
	}
	f.state = to
	return nil
}

func (f *fake) Engage(context.Context) error         { return f.turn("engage", Engaged) }
func (f *fake) Release(context.Context) error        { return f.turn("release", Inline) }
func (f *fake) State(context.Context) (State, error) { return f.state, f.err }
func (f *fake) Close() error                         { return nil }

// pin is an output without a relay.
type pin struct {
	value int
	err   error
}

func (p *pin) Value() (int, error) { return p.value, p.err }

func (p *pin) SetValue(v int) error {
	if p.err == nil {
		p.value = v
	}
	return p.err
}

// dog is a watchdog device that writes down what is done to it.
type dog struct {
	timeout, pretimeout, fed int
	ended                    string
	refuses, hungry          error
}

func (d *dog) setTimeout(seconds int) (int, error) {
	if d.refuses != nil {
		return 0, d.refuses
	}
	d.timeout = min(seconds, 60)
	return d.timeout, nil
}

func (d *dog) setPretimeout(seconds int) error { d.pretimeout = seconds; return nil }
func (d *dog) keepAlive() error                { d.fed++; return d.hungry }
func (d *dog) timeLeft() (int, error)          { return 0, errors.ErrUnsupported }
func (d *dog) disarm() error                   { d.ended = "disarmed"; return nil }
func (d *dog) abandon() error                  { d.ended = "abandoned"; return nil }
