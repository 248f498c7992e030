package testnet

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const pollInterval = 5 * time.Millisecond

// WaitFor polls until the condition holds. What names it in the error; an error of the
// condition ends the wait. The last look begins when the time is over, however late a busy machine comes to it.
func WaitFor(what string, timeout time.Duration, condition func() (bool, error)) error {
	deadline := time.Now().Add(timeout)
	for {
		late := time.Now().After(deadline)
		ok, err := condition()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		if late {
			return fmt.Errorf("wait for %s: not within %v", what, timeout)
		}
		time.Sleep(pollInterval)
	}
}

// WaitCarrier waits until the interface is in service: up, with a carrier, and known as such to
// whatever is built on it. The kernel tells a bridge of a new carrier up to a second late, and
// what is sent meanwhile is lost.
func WaitCarrier(p Place, name string, timeout time.Duration) error {
	what := fmt.Sprintf("the carrier of %s in %v", name, p)
	return WaitFor(what, timeout, func() (up bool, err error) {
		err = p.Do(func() error {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			up = link.Attrs().OperState == netlink.OperUp
			return nil
		})
		return up, err
	})
}

// WaitListening waits until some program listens on the port, which is asked of the kernel: the
// program sees no connection. Protocol is "tcp" or "udp".
func WaitListening(p Place, protocol string, port uint16, timeout time.Duration) error {
	what := fmt.Sprintf("a listener on %s port %d in %v", protocol, port, p)
	return WaitFor(what, timeout, func() (found bool, err error) {
		err = p.Do(func() error {
			for _, table := range []string{protocol, protocol + "6"} {
				here, err := listed(table, port)
				if err != nil {
					return err
				}
				found = found || here
			}
			return nil
		})
		return found, err
	})
}

// listed reports whether the kernel's socket table shows the port as waiting for peers: state
// 0A (LISTEN) for TCP, 07 (unconnected) for UDP.
func listed(table string, port uint16) (bool, error) {
	f, err := os.Open("/proc/thread-self/net/" + table)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // no IPv6
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	state := "0A"
	if strings.HasPrefix(table, "udp") {
		state = "07"
	}
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st …
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && strings.HasSuffix(fields[1], suffix) && fields[3] == state {
			return true, nil
		}
	}
	return false, nil
}
