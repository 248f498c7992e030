package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/outage"
)

const (
	drillBaseline = 2 * time.Second  // the line as it is
	drillHang     = time.Second      // for which the daemon is stopped; less than a service manager's patience
	drillAfter    = time.Second      // watched once the daemon is there again
	drillPatience = 60 * time.Second // for the service manager to start it
)

// drill is a test of what becomes of the line when the appliance fails, on site.
type drill struct {
	*app
	gauge *gauge
	yes   bool
	ask   *bufio.Reader
	limit time.Duration
	opens bool // some conduit has to go on through all of it
	found outage.Drill
}

func (a *app) drillCommand() *cobra.Command {
	d := &drill{app: a}
	var asJSON bool
	c := &cobra.Command{
		Use:   "test",
		Short: "Stop, kill and restart the daemon, and measure what the line notices",
		Long: "Stop the daemon for a second, kill it and end it, which takes a service manager that starts it again,\n" +
			"and measure by the ports' counters for how long no frame left the appliance. Needs root, and traffic on the line.",
		Args: cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			d.ask = bufio.NewReader(c.InOrStdin())
			return d.run(c.Context(), asJSON)
		}),
	}
	c.Flags().BoolVar(&d.yes, "yes", false, "do not ask before each step")
	c.Flags().DurationVar(&d.limit, "limit", 500*time.Millisecond, "how long nothing may leave a line with conduits that open")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (d *drill) run(ctx context.Context, asJSON bool) error {
	if d.limit <= 0 {
		return usageError{fmt.Errorf("a limit of %v: it has to be longer than nothing", d.limit)}
	}
	if !signal.Ignored(syscall.SIGHUP) {
		// A session that breaks off, too, leaves no daemon stopped.
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	end, err := d.alone()
	if err != nil {
		return err
	}
	defer end()
	report, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	defer d.gauge.close()
	failed := d.steps(ctx)
	d.judge()
	// Whatever was found is kept, also of a test that did not come to its end.
	if len(d.found.Steps) > 0 {
		failed = errors.Join(failed, d.record(ctx))
	}
	if failed != nil {
		return failed
	}
	if asJSON {
		err = printJSON(d.stdout, d.found)
	} else {
		err = d.print(report.Driver)
	}
	if err == nil && !d.found.Passed {
		err = errNo
	}
	return err
}

// prepare sees to it that the test can be made and will tell something, and that inspection works.
func (d *drill) prepare(ctx context.Context) (outage.Report, error) {
	report, err := d.client().Bypass(ctx)
	if err != nil {
		return report, err
	}
	if report.State != outage.Inline {
		return report, fmt.Errorf("test the bypass: it is %s: release it first", report.State)
	}
	status, err := d.client().Status(ctx)
	if err != nil {
		return report, err
	}
	daemon, err := processOf(&status)
	if err == nil {
		err = daemon.Signal(syscall.Signal(0))
	}
	if err != nil {
		return report, fmt.Errorf("test the bypass: penstockd (process %d) may not be stopped: %w: run this as root, where penstockd runs", status.PID, err)
	}
	if err := d.client().SelfTest(ctx); err != nil {
		return report, err
	}
	d.opens = slices.ContainsFunc(status.Conduits, func(c api.ConduitStatus) bool {
		return c.State == api.StateAddressOnly || c.OnOutage == "open"
	})
	var ports []string
	for _, p := range status.Ports {
		ports = append(ports, p.Name)
	}
	d.gauge, err = openGauge(status.Netns, ports...)
	d.found = outage.Drill{Began: time.Now().UTC(), LimitMS: milliseconds(d.limit)}
	return report, err
}

// alone has this be the only test under way: of two, each would measure what the other does.
func (d *drill) alone() (end func() error, err error) {
	dir, err := os.Open(filepath.Dir(d.socket))
	if errors.Is(err, os.ErrNotExist) { // then there is no daemon either, and its first question says so
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = errors.New("test the bypass: another test is under way: wait for its end")
	case err != nil:
		err = fmt.Errorf("test the bypass: lock %s: %w", dir.Name(), err)
	default:
		return dir.Close, nil
	}
	return nil, errors.Join(err, dir.Close())
}

func milliseconds(t time.Duration) float64 { return float64(t.Microseconds()) / 1000 }

// drillStep is one step: what a person is asked, and what is done then.
type drillStep struct {
	name, question string
	do             func(*drill, context.Context) error
}

func drillSteps() []drillStep {
	return []drillStep{
		{"nothing", "", func(_ *drill, ctx context.Context) error { return pause(ctx, drillBaseline) }},
		{"stopped for a second", "Stop penstockd for a second", (*drill).hang},
		{"killed", "Kill penstockd, for its service manager to start", (*drill).kill},
		{"restarted", "End penstockd, for its service manager to start", (*drill).end},
	}
}

func (d *drill) steps(ctx context.Context) error {
	for i, step := range drillSteps() {
		found := outage.DrillStep{Name: step.name}
		if found.Skipped = !d.agreed(step.question); !found.Skipped {
			r, err := d.gauge.during(ctx, func(ctx context.Context) error { return step.do(d, ctx) })
			if err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
			found.GapMS, found.Received, found.Sent = milliseconds(r.gap), r.received, r.sent
			if i == 0 && r.gap > d.limit {
				return fmt.Errorf("with nothing done to it no frame left for %v: the traffic is too sparse to tell gaps of %v: let more flow, or set --limit",
					r.gap.Round(time.Millisecond), d.limit)
			}
		}
		d.found.Steps = append(d.found.Steps, found)
	}
	return nil
}

// agreed asks a person; a step without a question needs no consent.
func (d *drill) agreed(question string) bool {
	if question == "" || d.yes {
		return true
	}
	fmt.Fprintf(d.stderr, "%s? [y/N] ", question)
	answer, err := d.ask.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

func pause(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}

// daemon is the one that answers now. The handle is taken before it is asked once more, so that it is
// no other process that took the number.
func (d *drill) daemon(ctx context.Context) (*os.Process, error) {
	status, err := d.client().Status(ctx)
	if err != nil {
		return nil, err
	}
	process, err := processOf(&status)
	if err != nil {
		return nil, err
	}
	again, err := d.client().Status(ctx)
	if err == nil && again.PID != status.PID {
		err = errors.New("penstockd was started anew meanwhile")
	}
	return process, err
}

// processOf is a handle on the daemon's process. A number below 2 would mean others than it.
func processOf(s *api.Status) (*os.Process, error) {
	if s.PID < 2 {
		return nil, errors.New("it does not say which process it is")
	}
	return os.FindProcess(s.PID)
}

// hang stops the daemon, and lets it go on whatever happens.
func (d *drill) hang(ctx context.Context) error {
	process, err := d.daemon(ctx)
	if err != nil {
		return err
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop penstockd: %w", err)
	}
	err = pause(ctx, drillHang)
	if failed := process.Signal(syscall.SIGCONT); failed != nil {
		return fmt.Errorf("let penstockd go on: %w: kill -CONT %d does", failed, process.Pid)
	}
	if err != nil {
		return err
	}
	return pause(ctx, drillAfter)
}

func (d *drill) kill(ctx context.Context) error { return d.restart(ctx, syscall.SIGKILL) }
func (d *drill) end(ctx context.Context) error  { return d.restart(ctx, syscall.SIGTERM) }

// restart ends the daemon, and waits for the one that its service manager starts.
func (d *drill) restart(ctx context.Context, signal syscall.Signal) error {
	process, err := d.daemon(ctx)
	if err != nil {
		return err
	}
	if err := process.Signal(signal); err != nil {
		return fmt.Errorf("end penstockd: %w", err)
	}
	for deadline := time.Now().Add(drillPatience); ; {
		if status, err := d.client().Status(ctx); err == nil && status.PID != process.Pid {
			return pause(ctx, drillAfter)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nobody has started penstockd within %v: start it: conduits do what their on_outage says until then", drillPatience)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// judge: where no conduit opens, the line may be silent for as long as there is no inspection.
func (d *drill) judge() {
	d.found.Passed = len(d.found.Steps) == len(drillSteps())
	for _, s := range d.found.Steps {
		if d.opens && s.GapMS > d.found.LimitMS {
			d.found.Passed = false
		}
	}
}

// record hands the result to the daemon; a context that has ended is no reason not to.
func (d *drill) record(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return d.client().RecordDrill(ctx, d.found)
}

func (d *drill) print(driver string) error {
	var t table
	t.add("what was done", "longest gap", "frames received", "sent", "")
	for _, s := range d.found.Steps {
		switch {
		case s.Skipped:
			t.add(s.Name, "-", "-", "-", "skipped")
		case d.opens && s.GapMS > d.found.LimitMS:
			t.add(s.Name, gapText(s.GapMS), unsigned(s.Received), unsigned(s.Sent), fmt.Sprintf("longer than %v", d.limit))
		default:
			t.add(s.Name, gapText(s.GapMS), unsigned(s.Received), unsigned(s.Sent), "")
		}
	}
	if err := t.align(d.stdout); err != nil {
		return err
	}
	verdict := "inspection works, and the line went on through all that was done"
	switch {
	case d.found.Passed && d.found.Skipped() == len(drillSteps())-1:
		verdict = "inspection works; nothing was done to it"
	case !d.found.Passed:
		verdict = "the line was silent for longer than it may"
	case !d.opens:
		verdict = "inspection works; no conduit opens, so that gaps are not judged"
	}
	_, err := fmt.Fprintf(d.stdout, "\n%s\nNot tested: %s\n", verdict, notTested(driver))
	return err
}

func gapText(ms float64) string { return fmt.Sprintf("%.0f ms", ms) }

// notTested says what no program can try.
func notTested(driver string) string {
	const always = "loss of power, a kernel that hangs, ports and cables that break"
	if driver == "none" {
		return always + ": without a relay (bypass.driver none) nothing passes then."
	}
	return always + ", and the contacts of the relay (bypass.driver " + driver + "): take the power away and look."
}
