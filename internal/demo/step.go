package main

import (
	"fmt"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// step is one thing that is tried.
type step struct {
	what string
	// denied is the reason that the policy has to refuse it for; ReasonNone permits it.
	denied verdict.Reason
	// try does it and says what was seen: an error where it did not go through.
	try func() (seen string, err error)
	// told chooses the event by which the verdict is known; nil where there is none to wait for.
	told func(*event.Event) bool
	// reason tells the reason where it is not an event that does.
	reason func() (string, error)
	// must is asked after all else: an error where a permitted step did not have the effect, or
	// a denied one had it.
	must func() error
}

// outcome is what a step led to.
type outcome struct {
	step   step
	seen   string
	reason string
	wrong  error // why it does not agree with the policy
}

func (s *step) permitted() bool { return s.denied == verdict.ReasonNone }

// eventTimeout is how long an event may take from the kernel to a person.
const eventTimeout = 10 * time.Second

// take tries a step and holds what was seen and what was told against what the policy says.
func (l *line) take(s step) outcome {
	o := outcome{step: s}
	since := l.lastEvent
	seen, err := s.try()
	o.seen = seen
	switch {
	case err != nil && seen == "":
		o.seen = brief(err)
	}
	if (err == nil) != s.permitted() {
		o.wrong = fmt.Errorf("it went through: %v, and the policy says: %v", err == nil, s.permitted())
	}
	if err := l.findReason(&o, since); err != nil && o.wrong == nil {
		o.wrong = err
	}
	if s.must != nil && o.wrong == nil {
		o.wrong = s.must()
	}
	return o
}

// findReason finds what the appliance says of a step.
func (l *line) findReason(o *outcome, since uint64) (err error) {
	switch {
	case o.step.reason != nil:
		o.reason, err = o.step.reason()
		return err
	case o.step.told == nil:
		return nil
	}
	e, err := l.awaitEvent(since, o.step.told)
	if err != nil {
		return err
	}
	o.reason = fmt.Sprintf("%v (%s)", e.Reason, e.Layer)
	if want := o.step.denied; !o.step.permitted() && (e.Reason != want || e.Verdict != verdict.Deny) {
		return fmt.Errorf("the reason told is %v, want %v", e.Reason, want)
	}
	return nil
}
