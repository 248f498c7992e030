package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/inspect/replay"
	"github.com/penstock-ot/penstock/internal/policy"
)

// assessment is what the command line asks for.
type assessment struct {
	policy    string
	appliance string
	captures  []string
	maps      []string
}

func (a *app) assessCommand() *cobra.Command {
	var ask assessment
	var asJSON bool
	c := &cobra.Command{
		Use:   "assess --policy FILE --capture FILE...",
		Short: "Say what a policy would have refused of what was captured",
		Long: "Say what a policy would have refused of what was captured. The exit status is 0 if nothing\n" +
			"would have been denied, otherwise 1. Further capture files may follow as arguments.",
		Args: cobra.ArbitraryArgs,
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			ask.captures = append(ask.captures, args...)
			return a.assess(ask, asJSON)
		}),
	}
	c.Flags().StringVar(&ask.policy, "policy", "", "the policy to judge by")
	c.Flags().StringVar(&ask.appliance, "appliance", "", "which of the policy's appliances; needed only if it has several")
	c.Flags().StringArrayVar(&ask.captures, "capture", nil, "a capture file, pcap or pcapng")
	c.Flags().StringArrayVar(&ask.maps, "map", nil, "NAME=ADDRESS: lend an identity to an IP or MAC address of the capture")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) assess(ask assessment, asJSON bool) error {
	if ask.policy == "" || len(ask.captures) == 0 {
		return usageError{errors.New("assess: name the policy with --policy and what to judge with --capture")}
	}
	plan, err := ask.plan()
	if err != nil {
		return err
	}
	result, err := replay.Assess(plan, ask.captures)
	err = fileError(err)
	var usage usageError
	if errors.As(err, &usage) {
		return err
	}
	// A damaged capture is an error, and what was found before the damage is still worth having.
	print := printAssessment
	if asJSON {
		print = func(w io.Writer, r *replay.Assessment) error { return printJSON(w, r) }
	}
	if err := errors.Join(print(a.stdout, result), err); err != nil {
		return err
	}
	if result.Denied > 0 {
		return errNo
	}
	return nil
}

// plan compiles the policy, with its identities lent as asked.
func (ask assessment) plan() (*policy.Plan, error) {
	p, err := policy.ParseFile(ask.policy)
	if err != nil {
		return nil, fileError(err)
	}
	if ask.appliance == "" {
		if len(p.Appliances) != 1 {
			return nil, usageError{fmt.Errorf("assess: %s has %d appliances: name one with --appliance", ask.policy, len(p.Appliances))}
		}
		ask.appliance = p.Appliances[0].Name
	}
	plan, err := p.Compile(ask.appliance)
	if err != nil {
		return nil, usageError{err}
	}
	for _, m := range ask.maps {
		name, address, ok := strings.Cut(m, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--map %q: write NAME=ADDRESS", m)}
		}
		if plan, err = plan.Lend(name, address); err != nil {
			return nil, usageError{fmt.Errorf("--map %q: %w", m, err)}
		}
	}
	return plan, nil
}

func printAssessment(w io.Writer, r *replay.Assessment) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d messages: %d allowed, %d denied", r.Messages, r.Allowed, r.Denied)
	if r.Unjudged > 0 {
		fmt.Fprintf(&b, "; %d segments could not be judged, because the capture lacks what came before them or cuts them short", r.Unjudged)
	}
	b.WriteByte('\n')
	var conduits, denials table
	conduits.add("CONDUIT", "ALLOWED", "DENIED")
	for _, c := range r.Conduits {
		conduits.add(c.Name, unsigned(c.Allowed), unsigned(c.Denied))
	}
	denials.add("COUNT", "REASON", "CONDUIT", "SOURCE", "DESTINATION", "PROTOCOL", "OPERATION", "DETAIL", "FIRST AT")
	for _, d := range r.Denials {
		denials.add(unsigned(d.Count), d.Reason.String(), or(d.Conduit), party(d.Source, d.SourceAddress), party(d.Destination, d.DestinationAddress),
			or(d.Protocol), or(d.Operation), or(d.Detail), fmt.Sprintf("%s frame %d", d.First.File, d.First.Frame))
	}
	for _, t := range []table{conduits, denials} {
		if len(t.rows) < 2 {
			continue
		}
		b.WriteByte('\n')
		if err := t.align(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
