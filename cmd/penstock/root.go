package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/api"
)

// socketVariable names the daemon's socket, as it does in the daemon's own settings.
const socketVariable = "PENSTOCK_SOCKET"

// root returns the whole command.
func (a *app) root() *cobra.Command {
	root := a.group(&cobra.Command{
		Use:   "penstock",
		Short: "Looks at, judges and directs a Penstock appliance",
	}, a.statusCommand(), a.bypassCommand(), a.discoverCommand(), a.eventsCommand(), a.flowsCommand(), a.islandCommand(), a.policyCommand(), a.dissectCommand(), a.assessCommand(), a.versionCommand())
	root.SilenceUsage, root.SilenceErrors = true, true
	socket := api.DefaultSocket
	if named := os.Getenv(socketVariable); named != "" {
		socket = named
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", socket, "socket of penstockd ("+socketVariable+")")
	return root
}

// group makes a command that only holds others. Cobra would answer an unknown one of them with
// the help, and success.
func (a *app) group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.AddCommand(commands...)
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("name a command: %s", names(c))
		}
		message := fmt.Sprintf("there is no command %q", args[0])
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			message += fmt.Sprintf(": did you mean %q?", near[0])
		}
		return errors.New(message)
	}
	c.SuggestionsMinimumDistance = 2
	return c
}

func names(c *cobra.Command) string {
	var list []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" && sub.Name() != "help" {
			list = append(list, sub.Name())
		}
	}
	return strings.Join(list, ", ")
}

// run makes a function a command's, and notes that the command line was understood.
func (a *app) run(fn func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		a.started = true
		return fn(c, args)
	}
}
