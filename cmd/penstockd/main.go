// Command penstockd is the Penstock daemon: it puts two network ports under a policy and keeps
// them there.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/settings"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if err := bridge.RejoinHost(); err != nil {
		fmt.Fprintln(os.Stderr, "penstockd:", err)
		os.Exit(exitFailed)
	}
	// Started again among other mounts the program has the name of a descriptor; people look
	// for its own. Nothing depends on it.
	_ = os.WriteFile("/proc/self/comm", []byte("penstockd"), 0)
	os.Exit(execute(os.Args[1:]))
}

// failure is an error of the work itself, as opposed to wrong use.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func execute(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "penstockd:", err)
	if errors.As(err, new(failure)) {
		return exitFailed
	}
	return exitUsage
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "penstockd",
		Short:         "Enforces a policy between two network ports",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		settingsCommand("run", "Put the ports under the policy and stay in the foreground", run),
		settingsCommand("down", "Take everything apart and give the ports back", down),
		settingsCommand("relay", "Hold the relay of the bypass, in a process of its own", relay),
		standInCommand(),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), buildVersion()) },
		},
	)
	return root
}

// settingsCommand is a command that works on the appliance that the settings describe.
func settingsCommand(use, short string, do func(context.Context, *settings.Settings, *slog.Logger) error) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := settings.Load(file, c.Flags())
			if err != nil {
				return failure{err}
			}
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			for _, w := range s.Warnings {
				log.Warn(w)
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			if err := do(ctx, s, log); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	c.SetContext(context.Background())
	c.Flags().StringVar(&file, "config", "", "settings file")
	settings.AddFlags(c.Flags())
	return c
}

// buildVersion is the module's version, or the commit that it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" {
		return v
	}
	return "unknown"
}
