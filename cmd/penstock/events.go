package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/event"
)

func (a *app) eventsCommand() *cobra.Command {
	var query api.EventQuery
	var asJSON bool
	c := &cobra.Command{
		Use:   "events",
		Short: "Show recent verdicts with their reasons",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			if query.Limit < 0 {
				return usageError{fmt.Errorf("--limit %d: give a number from 1, or 0 for all", query.Limit)}
			}
			return a.client().Events(c.Context(), query, func(e event.Event) error {
				if asJSON {
					return printJSON(a.stdout, e)
				}
				return printEvent(a.stdout, e)
			})
		}),
	}
	c.Flags().BoolVarP(&query.Follow, "follow", "f", false, "go on with new events until interrupted")
	c.Flags().IntVar(&query.Limit, "limit", 0, "begin with the newest so many; 0 is all that are held")
	c.Flags().Uint64Var(&query.Since, "since", 0, "only events after this sequence number")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// printEvent prints one line, and before it one that says what is missing.
func printEvent(w io.Writer, e event.Event) error {
	var b strings.Builder
	if e.Missed > 0 {
		fmt.Fprintf(&b, "-- %d events are missing here: they were not read in time --\n", e.Missed)
	}
	verdict := e.Verdict.String()
	if e.Mode == event.ModeObserve {
		verdict = "would " + verdict
	}
	fmt.Fprintf(&b, "%s  %-10s  %-22s  %-20s  %s -> %s", e.Time.UTC().Format(event.TimeFormat), verdict, e.Reason,
		clean(or(e.Conduit)), party(e.Source, e.SourceAddress), party(e.Destination, e.DestinationAddress))
	for _, more := range []string{e.Protocol, e.Operation, e.Detail} {
		if more != "" {
			b.WriteString("  " + clean(more))
		}
	}
	if e.Count > 1 {
		fmt.Fprintf(&b, "  (%d times)", e.Count)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func party(name, address string) string {
	if address == "" {
		return clean(name)
	}
	return clean(name) + " (" + clean(address) + ")"
}
