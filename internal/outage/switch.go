package outage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNotKept says of a turn that it was done, and could not be written down.
var ErrNotKept = errors.New("a restart will not know of it")

var errClosed = errors.New("penstockd is ending: ask the next one")

// Standing is what the bypass is meant to be, and why; it survives a restart.
type Standing struct {
	Engaged bool      `json:"engaged"`
	Why     string    `json:"why"`
	Who     string    `json:"who"`
	Since   time.Time `json:"since"`
}

// Switch is the bypass as people and failures turn it. It is safe for concurrent use; one turn at a
// time.
type Switch struct {
	driver   Driver
	selfTest func(context.Context) error
	keep     func(Standing) error
	now      func() time.Time

	mu       sync.Mutex
	standing Standing
	closed   bool

	last  atomic.Pointer[Report]
	unfed atomic.Pointer[error] // why the driver did not take the last heartbeat
}

// NewSwitch returns a switch over a driver. selfTest passes frames through inspection and returns an
// error if they do not come out as they should; keep writes the standing down. A driver that is engaged by the
// silence of its heartbeat hears none to begin with where it is meant to be engaged.
func NewSwitch(driver Driver, standing Standing, selfTest func(context.Context) error, keep func(Standing) error) *Switch {
	if b, ok := driver.(Beater); ok && standing.Engaged {
		_ = b.Engage(context.Background()) // which only takes that down
	}
	return &Switch{driver: driver, selfTest: selfTest, keep: keep, now: time.Now, standing: standing}
}

// Engage leads frames past the appliance. It is written down first, so that whoever starts next does
// not undo it; that it could not be is ErrNotKept, beside a bypass that is engaged all the same. Where the driver
// fails, the standing is what it was, also for whoever starts next.
func (s *Switch) Engage(ctx context.Context, who, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engage(ctx, Standing{Engaged: true, Why: why, Who: who, Since: s.now()})
}

// Settle engages a bypass that is meant to be engaged since before; nothing else is changed by it. Errors are Engage's.
func (s *Switch) Settle(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.standing.Engaged {
		return nil
	}
	return s.engage(ctx, s.standing)
}

// engage is for who holds the lock.
func (s *Switch) engage(ctx context.Context, standing Standing) error {
	if s.closed {
		return fmt.Errorf("engage the bypass: %w", errClosed)
	}
	kept := s.keep(standing)
	if err := s.driver.Engage(ctx); err != nil {
		if kept == nil {
			kept = s.keep(s.standing)
		}
		return errors.Join(fmt.Errorf("engage the bypass: %w", err), kept)
	}
	s.standing = standing
	if kept != nil {
		return fmt.Errorf("the bypass is engaged, and %w: %w", ErrNotKept, kept)
	}
	return nil
}

// Release leads frames through the appliance, once a self-test has passed frames through inspection.
// Where it fails, what is engaged stays so; that it could not be written down is ErrNotKept.
func (s *Switch) Release(ctx context.Context, who, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("release the bypass: %w", errClosed)
	}
	if err := s.selfTest(ctx); err != nil {
		return fmt.Errorf("the bypass stays as it is: the self-test failed: %w", err)
	}
	if err := s.driver.Release(ctx); err != nil {
		return fmt.Errorf("release the bypass: %w", err)
	}
	s.standing = Standing{Why: why, Who: who, Since: s.now()}
	if err := s.keep(s.standing); err != nil {
		return fmt.Errorf("the bypass is released, and %w: %w", ErrNotKept, err)
	}
	return nil
}

// Report is what a switch knows of itself.
type Report struct {
	Driver   string   `json:"driver"`
	State    State    `json:"state"`
	Standing Standing `json:"standing"`
	// Detail says why a state is not known, or how it differs from what it is meant to be.
	Detail string `json:"detail,omitempty"`
	// LastDrill is what the last test on site found; nil where there was none.
	LastDrill *Drill `json:"last_drill,omitempty"`
}

// Report asks the driver. It waits for a turn that is being made.
func (s *Switch) Report(ctx context.Context) Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, err := s.driver.State(ctx)
	r := Report{Driver: s.driver.Name(), State: state, Standing: s.standing}
	switch {
	case err != nil:
		r.Detail = err.Error()
	case s.standing.Engaged && state != Engaged:
		r.Detail = fmt.Sprintf("it is meant to be %s", Engaged)
	case !s.standing.Engaged && state != Inline:
		r.Detail = fmt.Sprintf("it is meant to be %s", Inline)
	}
	if unfed := s.unfed.Load(); unfed != nil {
		r.Detail = strings.TrimPrefix(r.Detail+"; "+(*unfed).Error(), "; ")
	}
	if ctx.Err() == nil { // else it says nothing but that somebody gave up
		s.last.Store(&r)
	}
	return r
}

// Last returns what Report told last that was not given up, which is for those who cannot wait; the zero Report before
// the first.
func (s *Switch) Last() Report {
	if r := s.last.Load(); r != nil {
		return *r
	}
	return Report{}
}

// Standing returns what the bypass is meant to be.
func (s *Switch) Standing() Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standing
}

// Beat tells a driver that waits for it that inspection works. That the driver did not take it is in the next Report.
func (s *Switch) Beat() {
	b, ok := s.driver.(Beater)
	if !ok {
		return
	}
	if err := b.Beat(); err != nil {
		s.unfed.Store(&err)
		return
	}
	s.unfed.Store(nil)
}

// Close lets go of the driver, once no turn is being made, and none is made any more. A second Close is harmless.
func (s *Switch) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.driver.Close()
}
