package outage

import "context"

// Software is the bypass of a box without a relay: the bare bridge, with nothing of ours loaded, on
// which every frame passes. It needs power and a kernel, so that it is no answer to their loss.
type Software struct {
	// Open takes programs and rules off the line; Shut puts them back. Each may be called in the state
	// that it leads to. Bare reports whether the line is bare.
	Open, Shut func(context.Context) error
	Bare       func() (bool, error)
}

// Name implements Driver.
func (s *Software) Name() string { return "none" }

// Engage implements Driver.
func (s *Software) Engage(ctx context.Context) error { return s.Open(ctx) }

// Release implements Driver.
func (s *Software) Release(ctx context.Context) error { return s.Shut(ctx) }

// State implements Driver.
func (s *Software) State(context.Context) (State, error) {
	bare, err := s.Bare()
	switch {
	case err != nil:
		return Unknown, err
	case bare:
		return Engaged, nil
	}
	return Inline, nil
}

// Close implements Driver.
func (s *Software) Close() error { return nil }
