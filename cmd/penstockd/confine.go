package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// confine takes from the running daemon, by Landlock, every file and every network port that its work
// does not need: what comes off the wire is parsed in this process, and whoever took it over would
// otherwise hold all of root's files. It cannot be undone, holds for every thread and for programs that
// are started, and comes last: the start needs more than the work.
//
// A kernel without Landlock is said and worked on; a newer one confines more.
func (d *daemon) confine(context.Context) error {
	if d.settings.Bypass.Driver == "exec" {
		d.log.Info("not confined: the vendor's tool that drives the bypass may need any file")
		return nil
	}
	if _, err := llsys.LandlockGetABIVersion(); err != nil {
		d.warn("not confined: this kernel has no Landlock (%v)", err)
		return nil
	}
	policyDir := filepath.Dir(d.settings.Policy)
	if file, err := filepath.EvalSymlinks(d.settings.Policy); err == nil { // what it leads to counts
		policyDir = filepath.Dir(file)
	}
	rules := []landlock.Rule{
		landlock.RWDirs(d.settings.StateDir, filepath.Dir(d.settings.Socket), pinRoot, "/proc/sys/net").IgnoreIfMissing(),
		landlock.RODirs(policyDir, filepath.Dir(d.settings.Policy), "/proc", "/sys/devices").IgnoreIfMissing(),
		landlock.ROFiles("/proc/self/exe"), // to start another stand-in: a program without a loader, as it is built for release
	}
	if err := landlock.V5.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("confine the daemon: %w", err)
	}
	return nil
}
