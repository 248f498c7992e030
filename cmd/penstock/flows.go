package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/api"
)

func (a *app) flowsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "flows",
		Short: "Show the live flow records of the fast path",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			return a.client().Flows(c.Context(), func(f api.Flow) error {
				if asJSON {
					return printJSON(a.stdout, f)
				}
				return printFlow(a.stdout, &f)
			})
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// printFlow prints one line. There may be a hundred thousand of them, so that they are not gathered
// for columns as wide as they need.
func printFlow(w io.Writer, f *api.Flow) error {
	verdict := f.Verdict
	if f.Observed {
		verdict = "observed"
	}
	_, err := fmt.Fprintf(w, "%-8s  %-4s  %s -> %s  %s  %d frames %d bytes, back %d frames %d bytes, since %s\n",
		verdict, clean(f.Protocol), party(f.Source, f.SourceAddress), party(f.Destination, f.DestinationAddress), clean(or(f.Conduit)),
		f.FramesSent, f.BytesSent, f.FramesReceived, f.BytesReceived, stamp(f.Created))
	return err
}
