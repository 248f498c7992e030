package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show which build this is",
		Args:  cobra.NoArgs,
		RunE: a.run(func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, "penstock", buildVersion())
			return err
		}),
	}
}

// buildVersion is what the Go toolchain recorded of this build.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "of an unknown build"
	}
	return info.Main.Version + " " + info.GoVersion
}
