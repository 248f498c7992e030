package outage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watchdogDevice is a watchdog timer of the kernel's (Documentation/watchdog/watchdog-api.rst).
type watchdogDevice interface {
	setTimeout(seconds int) (granted int, err error)
	setPretimeout(seconds int) error
	keepAlive() error
	timeLeft() (seconds int, err error)
	// disarm is the magic close: the timer stops. abandon closes the device with the timer running.
	disarm() error
	abandon() error
}

// Watchdog drives a relay that a watchdog timer holds: while it is fed, frames go through the
// appliance; when it is not for Timeout, the relay lets go, or the box starts anew. What it can do on
// purpose is to stop feeding, so that engaging takes effect only when the time is over.
type Watchdog struct {
	timeout time.Duration
	now     func() time.Time

	mu      sync.Mutex
	device  watchdogDevice
	engaged bool
	fed     time.Time
}

// OpenWatchdog opens a watchdog device, such as /dev/watchdog, and sets its time-out, in whole seconds.
// pretimeout, 0 for none, is how long before the end the kernel raises its alarm. From then on the
// timer runs: it has to be fed by Beat.
func OpenWatchdog(path string, timeout, pretimeout time.Duration) (*Watchdog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open watchdog %s: %w: another program may hold it (systemd does with RuntimeWatchdogSec)", path, err)
	}
	return newWatchdog(&watchdogFile{f}, timeout, pretimeout, time.Now)
}

func newWatchdog(device watchdogDevice, timeout, pretimeout time.Duration, now func() time.Time) (*Watchdog, error) {
	w := &Watchdog{device: device, now: now}
	granted, err := device.setTimeout(int(timeout / time.Second))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set the watchdog's time-out to %v: %w", timeout, err), device.disarm())
	}
	w.timeout = time.Duration(granted) * time.Second
	if pretimeout > 0 {
		if err := device.setPretimeout(int(pretimeout / time.Second)); err != nil {
			return nil, errors.Join(fmt.Errorf("set the watchdog's pre-timeout to %v: %w", pretimeout, err), device.disarm())
		}
	}
	if err := w.Beat(); err != nil {
		return nil, errors.Join(err, device.disarm())
	}
	return w, nil
}

// Name implements Driver.
func (w *Watchdog) Name() string { return "watchdog" }

// Timeout is the time-out that the device granted, which may differ from the one asked for.
func (w *Watchdog) Timeout() time.Duration { return w.timeout }

// Beat implements Beater.
func (w *Watchdog) Beat() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.engaged || w.device == nil {
		return nil
	}
	return w.feed()
}

// feed is for who holds the lock.
func (w *Watchdog) feed() error {
	if err := w.device.keepAlive(); err != nil {
		return fmt.Errorf("feed the watchdog: %w", err)
	}
	w.fed = w.now()
	return nil
}

// Engage implements Driver: feeding ends.
func (w *Watchdog) Engage(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.engaged = true
	return nil
}

// Release implements Driver: feeding begins again, if it can.
func (w *Watchdog) Release(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.device == nil {
		return errors.New("feed the watchdog: it is closed")
	}
	err := w.feed()
	w.engaged = w.engaged && err != nil
	return err
}

// State implements Driver. Whether the relay has let go is not told by a watchdog: it follows from
// when the timer was fed last.
func (w *Watchdog) State(context.Context) (State, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	since := w.now().Sub(w.fed)
	switch {
	case w.device == nil:
		return Unknown, errors.New("ask the watchdog: it is closed")
	case since < w.timeout && !w.engaged:
		return Inline, nil
	case since < w.timeout:
		left, err := w.device.timeLeft()
		if err != nil {
			left = int((w.timeout - since + time.Second - 1) / time.Second)
		}
		return Inline, fmt.Errorf("the watchdog lets go in %d s", left)
	}
	return Engaged, nil
}

// Close implements Driver. A watchdog that was being fed is disarmed, because an orderly end is no
// failure; one that is engaged goes on to its end.
func (w *Watchdog) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	device := w.device
	w.device = nil
	switch {
	case device == nil:
		return nil
	case w.engaged:
		return device.abandon()
	}
	return device.disarm()
}

// watchdogFile is the device file.
type watchdogFile struct{ file *os.File }

func (d *watchdogFile) setTimeout(seconds int) (int, error) {
	fd := int(d.file.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return 0, err
	}
	return unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT)
}

func (d *watchdogFile) setPretimeout(seconds int) error {
	return unix.IoctlSetPointerInt(int(d.file.Fd()), unix.WDIOC_SETPRETIMEOUT, seconds)
}

func (d *watchdogFile) keepAlive() error { return unix.IoctlWatchdogKeepalive(int(d.file.Fd())) }

func (d *watchdogFile) timeLeft() (int, error) {
	return unix.IoctlGetInt(int(d.file.Fd()), unix.WDIOC_GETTIMELEFT)
}

func (d *watchdogFile) disarm() error {
	_, err := d.file.Write([]byte{'V'})
	return errors.Join(err, d.file.Close())
}

func (d *watchdogFile) abandon() error { return d.file.Close() }
