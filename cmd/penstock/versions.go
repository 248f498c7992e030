package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/api"
)

func (a *app) historyCommand() *cobra.Command {
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "history",
		Short: "List the versions of the policy, newest first",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return usageError{fmt.Errorf("--limit %d: give a number from 1, or 0 for all", limit)}
			}
			versions, err := a.client().History(c.Context(), limit)
			if err != nil {
				return err
			}
			return a.printHistory(versions, asJSON)
		}),
	}
	c.Flags().IntVar(&limit, "limit", 0, "only the newest so many; 0 is all")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

func (a *app) printHistory(versions []api.PolicyVersion, asJSON bool) error {
	var t table
	t.add("VERSION", "STATE", "STORED", "BY", "SHA256", "FILE", "SITE")
	for _, v := range versions {
		if asJSON {
			if err := printJSON(a.stdout, v); err != nil {
				return err
			}
			continue
		}
		state := string(v.State)
		if v.State == api.VersionStored {
			state = ""
		}
		t.add(unsigned(v.Version), or(state), stamp(v.Time), or(v.Who), short(v.Hash), or(v.Name), v.Site)
	}
	return t.print(a.stdout)
}

func (a *app) showCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show [N]",
		Short: "Print the policy in force, or version N, as it was given",
		Args:  cobra.MaximumNArgs(1),
		RunE: a.run(func(c *cobra.Command, args []string) error {
			version, err := versionArgument(args)
			if err != nil {
				return err
			}
			document, err := a.client().Policy(c.Context(), version)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, document)
			}
			_, err = io.Copy(a.stdout, strings.NewReader(document.Text))
			return err
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
