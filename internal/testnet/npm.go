package testnet

import (
	"fmt"
	"os/exec"
	"testing"
	"time"
)

// InstallNode installs packages, pinned as "name@version", into a directory of the test's and returns
// it. Without npm, node or a registry the test is skipped by name, or fails where nothing may be missing.
// The registry is somebody else's and far away, which is why more than one attempt is made.
func InstallNode(t testing.TB, packages ...string) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		RequireProgram(t, program)
	}
	dir := t.TempDir()
	var missing error
	for attempt := range 4 {
		time.Sleep(time.Duration(attempt) * 2 * time.Second)
		args := append([]string{"install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts"}, packages...)
		cmd := exec.Command("npm", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return dir
		}
		missing = fmt.Errorf("needs the npm packages %v: %w\n%s", packages, err, out)
	}
	Require(t, missing)
	return dir
}
