package testnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/penstock-ot/penstock/internal/bridge"
)

// namePrefix begins the name of every namespace that a lab makes; the process id follows.
const namePrefix = "pstest-"

// removeStale removes the namespaces of labs whose process was killed before it could.
func removeStale() error {
	names, err := bridge.NamespaceNames()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		pid, ok := ownerOf(name)
		if !ok {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, removeNamed(name))
		}
	}
	return errors.Join(errs...)
}

// ownerOf returns the process whose lab made the namespace.
func ownerOf(name string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return 0, false
	}
	number, _, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, false
	}
	pid, err := strconv.Atoi(number)
	return pid, err == nil
}
