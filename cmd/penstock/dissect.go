package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/inspect/replay"
)

func (a *app) dissectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "dissect FILE...",
		Short: "Decode every message in capture files",
		Args:  cobra.MinimumNArgs(1),
		RunE: a.run(func(c *cobra.Command, files []string) error {
			out := bufio.NewWriter(a.stdout)
			err := replay.Dissect(files, func(m *replay.Message) error {
				if err := c.Context().Err(); err != nil {
					return err
				}
				if asJSON {
					return printJSON(out, m)
				}
				if len(files) > 1 {
					if _, err := fmt.Fprintf(out, "%s ", m.File); err != nil {
						return err
					}
				}
				return printMessage(out, m)
			})
			return errors.Join(fileError(err), out.Flush())
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// printMessage prints one line: what was said, or why it cannot be told.
func printMessage(w io.Writer, m *replay.Message) error {
	what := clean(m.Operation)
	if m.Malformed != "" {
		what = "MALFORMED: " + clean(m.Malformed)
	}
	fields, err := json.Marshal(m.Fields)
	if err != nil {
		return err
	}
	if string(fields) == "null" {
		fields = nil
	}
	_, err = fmt.Fprintf(w, "%6d  %s  %-21s -> %-21s  %s %-8s  %s %s\n",
		m.Frame, m.Time, m.Source, m.Destination, m.Protocol, m.Direction, what, fields)
	return err
}
