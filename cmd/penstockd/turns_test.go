package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/store"
)

// driven is a bypass that counts its heartbeats, and is where it was put.
type driven struct {
	beats atomic.Int64
	state outage.State
	err   error
}

func (d *driven) Name() string                                { return "driven" }
func (d *driven) Engage(context.Context) error                { return d.turn(outage.Engaged) }
func (d *driven) Release(context.Context) error               { return d.turn(outage.Inline) }
func (d *driven) State(context.Context) (outage.State, error) { return d.state, d.err }
func (d *driven) Close() error                                { return nil }
func (d *driven) Beat() error                                 { d.beats.Add(1); return nil }

func (d *driven) turn(to outage.State) error {
	if d.err == nil {
		d.state = to
	}
	return d.err
}

// TestBypassThatSomebodyTurnedIsTold: a relay whose holder was started anew leads frames past the appliance, and the
// status says so, and when it is over.
func TestBypassThatSomebodyTurnedIsTold(t *testing.T) {
	driver := &driven{state: outage.Inline}
	d := &daemon{ledger: outage.NewLedger(nil), bypass: outage.NewSwitch(driver, outage.Standing{}, nil, nil)}
	told := func() outage.Failure {
		d.lookAtBypass(t.Context())
		for _, f := range d.ledger.Failures() {
			if f.Class == outage.BypassDiffers {
				return f
			}
		}
		return outage.Failure{}
	}
	if f := told(); f.Count != 0 {
		t.Errorf("as it is meant to be: %+v", f)
	}
	driver.state = outage.Engaged
	if f := told(); !f.Active || f.Detail != "it is engaged: it is meant to be inline" {
		t.Errorf("turned by somebody: %+v", f)
	}
	if r := d.bypass.Last(); bypassWarning(&r) == "" {
		t.Error("the status does not warn that nothing is inspected")
	}
	driver.state = outage.Inline
	if f := told(); f.Active || f.Count != 1 {
		t.Errorf("turned back: %+v", f)
	}
}

// TestEveryTurnOfTheBypassIsTold: one that a restart will not know of, too, and one that failed.
func TestEveryTurnOfTheBypassIsTold(t *testing.T) {
	driver := &driven{state: outage.Inline}
	full := errors.New("no space left")
	d := &daemon{
		policies: &policies{}, bus: event.NewBus(16), log: slog.New(slog.DiscardHandler), ledger: outage.NewLedger(nil),
		bypass: outage.NewSwitch(driver, outage.Standing{}, nil, func(outage.Standing) error { return full }),
	}
	for _, row := range []struct {
		err  error
		want string
	}{
		{nil, "bypass engaged by root: a new switch"},
		{errors.New("no answer"), "bypass not engaged by root: engage the bypass: no answer; no space left"},
	} {
		driver.err = row.err
		if _, err := d.EngageBypass(t.Context(), "root", "a new switch"); err == nil {
			t.Error("that it cannot be written down is no error")
		}
		events := d.bus.Recent(0, 16)
		if last := events[len(events)-1]; last.Detail != row.want || last.Layer != event.LayerPerson {
			t.Errorf("told is %q, want %q", last.Detail, row.want)
		}
	}
}

// TestBypassIsToldWhateverTheStoreHolds: a record of a test that cannot be read hides nothing else.
func TestBypassIsToldWhateverTheStoreHolds(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.PutState(store.StateDrill, "no record"); err != nil {
		t.Fatal(err)
	}
	d := &daemon{store: s, bypass: outage.NewSwitch(&driven{state: outage.Inline}, outage.Standing{}, nil, nil)}
	r, err := d.Bypass(t.Context())
	if err != nil || r.State != outage.Inline || !strings.Contains(r.Detail, "the last test is not known") {
		t.Errorf("%+v, %v", r, err)
	}
}
