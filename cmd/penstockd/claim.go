package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/internal/bridge"
)

// claim makes this process the only one at work on the line's namespace, for as long as the line
// is open. The store is locked too, but two settings files may name two stores, or none that can
// be opened, and the same ports. A namespace that does not exist is claimed by nobody.
func claim(line *bridge.Line) error {
	n := line.Namespace()
	if n == nil {
		return nil
	}
	err := unix.Flock(n.Fd(), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another penstockd is at work in %v: end that one first", n)
	}
	if err != nil {
		return fmt.Errorf("lock %v: %w", n, err)
	}
	return nil
}
