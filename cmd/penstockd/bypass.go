package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/settings"
	"github.com/penstock-ot/penstock/internal/store"
)

// bypassTimeout bounds a turn of the bypass, its self-test included.
const bypassTimeout = 20 * time.Second

// openBypass opens what carries the line past the appliance, and takes up what it was meant to be. On a
// box without a relay an engaged bypass is a start without programs: the bare bridge.
func (d *daemon) openBypass(ctx context.Context) error {
	var standing outage.Standing
	if d.store != nil {
		if err := d.store.State(store.StateBypass, &standing); err != nil {
			d.warn("whether the bypass was engaged is not known, and it is taken not to be: %v", err)
		}
	}
	cold, err := d.coldStart()
	if err != nil {
		return err
	}
	driver, err := d.bypassDriver(&d.settings.Bypass)
	if err != nil {
		return err
	}
	if d.settings.Bypass.EngageAtBoot && cold && !standing.Engaged {
		standing = outage.Standing{Engaged: true, Why: "bypass.at_boot", Who: "penstockd", Since: time.Now()}
	}
	d.bypass = outage.NewSwitch(driver, standing, d.selfTest, d.keepStanding)
	d.onClose(d.bypass.Close)
	d.bare = standing.Engaged && driver.Name() == "none"
	return nil
}

func (d *daemon) bypassDriver(b *settings.Bypass) (outage.Driver, error) {
	switch b.Driver {
	case "gpio":
		return &outage.GPIO{Socket: b.RelaySocket}, nil
	case "watchdog":
		w, err := outage.OpenWatchdog(b.WatchdogDevice, b.WatchdogTimeout, b.WatchdogPretimeout)
		if err == nil && w.Timeout() != b.WatchdogTimeout {
			d.warn("the watchdog granted a time-out of %v instead of %v", w.Timeout(), b.WatchdogTimeout)
		}
		return w, err
	case "exec":
		return &outage.Exec{
			EngageCommand: b.Engage, ReleaseCommand: b.Release, StateCommand: b.State,
			WhenEngaged: b.EngagedWhen, WhenInline: b.InlineWhen, WhenBlocked: b.BlockedWhen,
		}, nil
	}
	return &outage.Software{Open: d.goBare, Shut: d.goInline, Bare: func() (bool, error) {
		d.lineMu.Lock()
		defer d.lineMu.Unlock()
		return d.bare, nil
	}}, nil
}

func (d *daemon) keepStanding(s outage.Standing) error {
	if d.store == nil {
		return fmt.Errorf("there is no store")
	}
	return d.store.PutState(store.StateBypass, s)
}

// settleBypass turns the bypass to what it is meant to be, once frames could flow: a relay that holds the
// line until somebody has shown that inspection works, or one that was turned meanwhile.
func (d *daemon) settleBypass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bypassTimeout)
	defer cancel()
	report := d.bypass.Report(ctx)
	var err error
	switch {
	case report.Standing.Engaged:
		err = d.bypass.Settle(ctx)
		d.log.Warn("the bypass is meant to be engaged", "who", report.Standing.Who, "why", report.Standing.Why)
	case report.State != outage.Inline:
		err = d.bypass.Release(ctx, "penstockd", "start")
		d.log.Info("the bypass is meant to be released", "state", report.State)
	}
	if err != nil {
		d.warn("%v", err)
	}
	d.lookAtBypass(context.WithoutCancel(ctx))
	d.onClose(d.bypass.Close) // before what its turns work with
	d.whileUp(d.watchBypass)
	return nil
}

// bypassInterval is how often a bypass is asked that others can turn: a relay whose holder was started anew leads
// frames past the appliance.
const bypassInterval = 10 * time.Second

// watchBypass works until stop is closed.
func (d *daemon) watchBypass(stop <-chan struct{}) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-stop
		cancel()
	}()
	tick := time.NewTicker(bypassInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
			d.lookAtBypass(ctx)
		}
	}
}

func (d *daemon) lookAtBypass(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, bypassTimeout)
	defer cancel()
	r := d.bypass.Report(limited)
	if ctx.Err() != nil { // given up, which is nobody's failure
		return
	}
	detail := r.Detail
	if r.State != outage.Unknown && detail != "" {
		detail = fmt.Sprintf("it is %s: %s", r.State, detail)
	}
	d.ledger.Note(outage.BypassDiffers, detail != "", detail, time.Now())
}

// goBare takes everything of ours off the line, the rules first, since what nobody marks does not get past
// them, then gates, and leaves the bridge: every frame passes, and nothing is inspected. Where that fails the upkeep
// puts back what is gone.
func (d *daemon) goBare(context.Context) error {
	d.lineMu.Lock()
	defer d.lineMu.Unlock()
	d.line.Unruled(true)
	err := d.line.RemoveRule()
	if err == nil {
		err = d.path.DetachAll()
	}
	if err != nil {
		d.line.Unruled(d.bare)
		return err
	}
	d.bare = true
	d.modes.Store(nil)
	return nil
}

// goInline puts it back, entry programs first and the rules last: those let nothing pass but what the
// programs have marked. What the fast path knows of conversations is out of date, so that they are joined anew, as
// after a start. Where that fails nothing of ours stays on the line, which would be neither then. A line that is not
// bare is left as it is: forgotten under programs that stand, its conversations could be joined by anybody's word.
func (d *daemon) goInline(context.Context) error {
	d.lineMu.Lock()
	defer d.lineMu.Unlock()
	if !d.bare {
		return nil
	}
	if err := d.path.Forget(d.settings.AdoptionWindow); err != nil {
		return err
	}
	for _, i := range d.inspections {
		i.adopts.Store(true)
	}
	var modes [2]datapath.XDPMode
	err := d.line.Do(func() (err error) {
		if modes, err = d.path.AttachXDP(d.attached[0], d.attached[1]); err != nil {
			return err
		}
		if err := tagsSeen(modes, d.taken); err != nil {
			return err
		}
		return d.path.AttachGate(d.attached[0], d.attached[1])
	})
	if err == nil {
		d.line.Unruled(false)
		_, err = d.line.AddRule()
	}
	if err != nil {
		d.line.Unruled(true)
		return errors.Join(err, d.line.RemoveRule(), d.path.DetachAll())
	}
	d.bare = false
	d.modes.Store(&modes)
	return nil
}

// Bypass implements api.Backend.
func (d *daemon) Bypass(ctx context.Context) (outage.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, bypassTimeout)
	defer cancel()
	report := d.bypass.Report(ctx)
	if d.store != nil {
		var drill outage.Drill
		switch err := d.store.State(store.StateDrill, &drill); {
		case err != nil: // where frames go is worth more than when that was tested
			report.Detail = strings.TrimPrefix(fmt.Sprintf("%s; the last test is not known: %v", report.Detail, err), "; ")
		case !drill.Began.IsZero():
			report.LastDrill = &drill
		}
	}
	return report, nil
}

// RecordDrill implements api.Backend.
func (d *daemon) RecordDrill(_ context.Context, drill outage.Drill, who string) error {
	if err := drill.Check(); err != nil {
		return api.Refuse(api.CodeBadRequest, err)
	}
	drill.Who = who
	result := drill.Result()
	d.log.Info("bypass tested", "who", who, "result", result, "longest_gap_ms", drill.LongestGapMS())
	d.tell(fmt.Sprintf("bypass tested by %s: %s, the longest gap was %.0f ms", who, result, drill.LongestGapMS()))
	if d.store == nil {
		return api.Refuse(api.CodeFailed, errors.New("the result was told as an event, and there is no store to keep it"))
	}
	return d.store.PutState(store.StateDrill, drill)
}

// EngageBypass implements api.Backend.
func (d *daemon) EngageBypass(ctx context.Context, who, why string) (outage.Report, error) {
	return d.turnBypass(ctx, "engaged", who, why, d.bypass.Engage)
}

// ReleaseBypass implements api.Backend.
func (d *daemon) ReleaseBypass(ctx context.Context, who, why string) (outage.Report, error) {
	return d.turnBypass(ctx, "released", who, why, d.bypass.Release)
}

func (d *daemon) turnBypass(ctx context.Context, what, who, why string, turn func(context.Context, string, string) error) (outage.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, bypassTimeout)
	defer cancel()
	err := turn(ctx, who, why)
	d.tellTurn(what, who, why, err)
	d.lookAtBypass(context.WithoutCancel(ctx))
	if err != nil {
		err = api.Refuse(api.CodeFailed, err)
	}
	return d.bypass.Last(), err
}

// tellTurn tells of a turn that was made, also of one that could not be written down, and of one that could not.
func (d *daemon) tellTurn(what, who, why string, err error) {
	text := fmt.Sprintf("bypass %s by %s: %s", what, who, why)
	if err != nil && !errors.Is(err, outage.ErrNotKept) {
		text = fmt.Sprintf("bypass not %s by %s: %s", what, who, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if err != nil {
		d.log.Warn(text, "error", err)
	} else {
		d.log.Warn(text)
	}
	d.tell(text)
}

// SelfTest implements api.Backend.
func (d *daemon) SelfTest(ctx context.Context) error {
	if err := d.selfTest(ctx); err != nil {
		return api.Refuse(api.CodeFailed, fmt.Errorf("the self-test failed: %w", err))
	}
	return nil
}

// endBypass engages the bypass as the daemon ends, where the settings ask for it.
func (d *daemon) endBypass(failed error) {
	why := "the appliance is ended"
	switch {
	case failed != nil && d.settings.Bypass.EngageOnFailure:
		why = failed.Error()
	case failed == nil && d.settings.Bypass.EngageOnShutdown:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), bypassTimeout)
	defer cancel()
	err := d.bypass.Engage(ctx, "penstockd", why)
	d.tellTurn("engaged", "penstockd", why, err)
}
