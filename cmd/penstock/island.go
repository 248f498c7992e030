package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/api"
)

func (a *app) islandCommand() *cobra.Command {
	var within time.Duration
	var end, asJSON bool
	c := &cobra.Command{
		Use:   "island ZONE",
		Short: "Close every conduit of a zone but the essential ones, or open them again",
		Args:  cobra.ExactArgs(1),
		RunE: a.run(func(c *cobra.Command, args []string) error {
			if end && c.Flags().Changed("for") || within < 0 {
				return usageError{fmt.Errorf("--for %v: give a time such as 30m, and not with --end", within)}
			}
			var island api.Island
			var err error
			if end {
				island, err = a.client().OpenZone(c.Context(), args[0])
			} else {
				island, err = a.client().CloseZone(c.Context(), args[0], within)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, island)
			}
			return a.printIsland(&island, end)
		}),
	}
	c.Flags().DurationVar(&within, "for", 0, "open the zone again by itself after this time")
	c.Flags().BoolVar(&end, "end", false, "open the zone again now")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) printIsland(i *api.Island, end bool) (err error) {
	switch {
	case end:
		_, err = fmt.Fprintf(a.stdout, "zone %s is open again; it was closed since %s by %s\n", clean(i.Zone), stamp(i.Since), clean(i.Who))
	case i.Until.IsZero():
		_, err = fmt.Fprintf(a.stdout, "zone %s is closed but for essential conduits, until penstock island --end %s\n", clean(i.Zone), clean(i.Zone))
	default:
		_, err = fmt.Fprintf(a.stdout, "zone %s is closed but for essential conduits, until %s\n", clean(i.Zone), stamp(i.Until))
	}
	return err
}
