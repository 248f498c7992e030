package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/policy"
)

func (a *app) policyCommand() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "policy",
		Short: "Check policies, and put them in force",
	}, a.checkCommand(), a.applyCommand(), a.confirmCommand(), a.rollbackCommand(), a.historyCommand(), a.showCommand())
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Say everything that is wrong with policy files",
		Args:  cobra.MinimumNArgs(1),
		RunE: a.run(func(_ *cobra.Command, files []string) error {
			var mistakes []error
			for _, file := range files {
				if err := a.check(file); err != nil {
					mistakes = append(mistakes, err)
				}
			}
			return errors.Join(mistakes...)
		}),
	}
}

// check parses a policy and compiles it for each of its appliances, so that what passes here is
// not refused when it is applied.
func (a *app) check(file string) error {
	p, err := policy.ParseFile(file)
	if err != nil {
		return fileError(err)
	}
	if err := p.CheckWaivers(time.Now()); err != nil {
		return err
	}
	for _, appliance := range p.Appliances {
		if _, err := p.Compile(appliance.Name); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(a.stdout, "%s: ok: %s, %d identities, %d conduits\n", file, clean(p.Site), len(p.Identities), len(p.Conduits)); err != nil {
		return err
	}
	for _, advice := range p.Advice() {
		if _, err := fmt.Fprintf(a.stdout, "%s: %s\n", file, clean(advice)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) applyCommand() *cobra.Command {
	var within time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a policy in force",
		Args:  cobra.ExactArgs(1),
		RunE: a.run(func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("confirm-within") && within <= 0 {
				return usageError{fmt.Errorf("--confirm-within %s: give a time such as 10m", within)}
			}
			raw, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			applied, err := a.client().Apply(c.Context(), api.Submission{Name: args[0], Raw: raw, ConfirmWithin: within})
			return a.printApplied(applied, err, asJSON)
		}),
	}
	c.Flags().DurationVar(&within, "confirm-within", 0, "go back by itself after this time unless confirmed")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// readPolicy reads no more than the daemon takes.
func readPolicy(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usageError{err}
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, api.MaxPolicyBytes+1))
	if err != nil {
		return nil, usageError{err}
	}
	if len(raw) > api.MaxPolicyBytes {
		return nil, fmt.Errorf("%s has more than %d bytes, which is the limit", file, api.MaxPolicyBytes)
	}
	return raw, nil
}

func (a *app) confirmCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "confirm",
		Short: "Let the policy stay that was applied with --confirm-within",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			applied, err := a.client().Confirm(c.Context())
			return a.printApplied(applied, err, asJSON)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) rollbackCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "rollback [N]",
		Short: "Put the previous version in force, or version N",
		Args:  cobra.MaximumNArgs(1),
		RunE: a.run(func(c *cobra.Command, args []string) error {
			version, err := versionArgument(args)
			if err != nil {
				return err
			}
			applied, err := a.client().Rollback(c.Context(), version)
			return a.printApplied(applied, err, asJSON)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// versionArgument returns the version named, or 0 where none is.
func versionArgument(args []string) (uint64, error) {
	if len(args) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil || n == 0 {
		return 0, usageError{fmt.Errorf("%q is no version: give a number from 1, as in penstock policy history", args[0])}
	}
	return n, nil
}

func (a *app) printApplied(applied api.Applied, err error, asJSON bool) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return printJSON(a.stdout, applied)
	}
	var b strings.Builder
	for _, warning := range applied.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", clean(warning))
	}
	if applied.Unchanged {
		fmt.Fprintf(&b, "version %d was in force already\n", applied.Version)
	} else {
		fmt.Fprintf(&b, "version %d is in force: %s, sha256 %s\n", applied.Version, clean(applied.Site), short(applied.Hash))
	}
	if !applied.ConfirmBy.IsZero() {
		fmt.Fprintf(&b, "version %d comes back at %s unless you confirm: penstock policy confirm\n", applied.Previous, stamp(applied.ConfirmBy))
	}
	_, err = io.WriteString(a.stdout, b.String())
	return err
}
