package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/outage"
)

func (a *app) bypassCommand() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "bypass",
		Short: "Lead frames past the appliance, through it again, and see which",
	}, a.bypassStatusCommand(), a.engageCommand(), a.releaseCommand(), a.selfTestCommand(), a.drillCommand())
}

func (a *app) bypassStatusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show where frames go, and where they are meant to",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			r, err := a.client().Bypass(c.Context())
			return a.printBypass(r, err, asJSON)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) engageCommand() *cobra.Command {
	return a.turnCommand("engage", "Lead every frame past the appliance: nothing is inspected, nothing denied",
		func(ctx context.Context, why string) (outage.Report, error) { return a.client().EngageBypass(ctx, why) })
}

func (a *app) releaseCommand() *cobra.Command {
	return a.turnCommand("release", "Lead frames through the appliance, once a self-test has passed",
		func(ctx context.Context, why string) (outage.Report, error) {
			return a.client().ReleaseBypass(ctx, why)
		})
}

func (a *app) turnCommand(use, short string, turn func(context.Context, string) (outage.Report, error)) *cobra.Command {
	var why string
	var asJSON bool
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			r, err := turn(c.Context(), why)
			return a.printBypass(r, err, asJSON)
		}),
	}
	c.Flags().StringVar(&why, "why", "", "for those who ask later")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) selfTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "self-test",
		Short: "Pass frames through inspection, beside the line",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			if err := a.client().SelfTest(c.Context()); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.stdout, "inspection works: what is accepted passes, what is denied and what nobody decided does not")
			return err
		}),
	}
}

func (a *app) printBypass(r outage.Report, err error, asJSON bool) error {
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(a.stdout, r)
	}
	return printReport(a.stdout, &r)
}

func printReport(w io.Writer, r *outage.Report) error {
	var t table
	t.add("bypass", string(r.State)+meaning(r.State))
	t.add("driver", r.Driver)
	if !r.Standing.Since.IsZero() {
		t.add("since", stamp(r.Standing.Since)+" by "+r.Standing.Who)
	}
	if r.Standing.Why != "" {
		t.add("why", r.Standing.Why)
	}
	if l := r.LastDrill; l != nil {
		t.add("tested", fmt.Sprintf("%s by %s: %s, longest gap %s", stamp(l.Began), l.Who, l.Result(), gapText(l.LongestGapMS())))
	}
	if r.Detail != "" {
		t.add("WARNING", r.Detail)
	}
	return t.align(w)
}

func meaning(s outage.State) string {
	switch s {
	case outage.Inline:
		return ": frames go through the appliance"
	case outage.Engaged:
		return ": frames go past the appliance, nothing is inspected"
	case outage.Blocked:
		return ": no frames pass"
	}
	return ""
}
