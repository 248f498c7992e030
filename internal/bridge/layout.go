package bridge

import (
	"fmt"
	"strings"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
)

// Layout names what makes up one appliance's line, as its settings do.
type Layout struct {
	PortA, PortB string // interface names, towards side a and side b
	Bridge       string // created if absent
	Namespace    string // created if absent; "" is the one that the process is in
	Lanes        int    // of inspection, see mark.Queue; 0 is one
}

// Port returns the name of a side's port.
func (l Layout) Port(side policy.Side) string {
	if side == policy.SideB {
		return l.PortB
	}
	return l.PortA
}

func (l Layout) ports() [2]string { return [2]string{l.PortA, l.PortB} }

func (l Layout) lanes() int {
	if l.Lanes == 0 {
		return 1
	}
	return l.Lanes
}

// Check returns an error for a layout that no machine could have.
func (l Layout) Check() error {
	for what, name := range map[string]string{"port a": l.PortA, "port b": l.PortB, "the bridge": l.Bridge} {
		if err := checkInterfaceName(name); err != nil {
			return fmt.Errorf("check the name of %s: %w", what, err)
		}
	}
	if l.PortA == l.PortB {
		return fmt.Errorf("check ports: %s is given as port a and as port b; they are two ports", l.PortA)
	}
	for _, port := range l.ports() {
		if port == l.Bridge {
			return fmt.Errorf("check ports: %s is given as a port and as the bridge that joins the ports", port)
		}
	}
	if n := l.lanes(); n < 1 || n > mark.MaxLanes || n&(n-1) != 0 {
		return fmt.Errorf("check lanes: %d is no power of two up to %d", l.Lanes, mark.MaxLanes)
	}
	if l.Namespace != "" {
		return checkNamespaceName(l.Namespace)
	}
	return nil
}

// checkInterfaceName holds the kernel's rules for a name.
func checkInterfaceName(name string) error {
	const longest = 15 // IFNAMSIZ - 1
	switch {
	case name == "":
		return fmt.Errorf("it is empty")
	case len(name) > longest:
		return fmt.Errorf("%q is longer than %d bytes", name, longest)
	case name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r\x00"):
		return fmt.Errorf("%q is no name for a network interface", name)
	}
	return nil
}
