package ethtool

import "strings"

// Switch switches every offload that choose names and the driver can change. Choosing among the
// names that the kernel lists, not from a fixed list, keeps up with the offloads that each
// kernel version adds. It returns what it found before.
func (c *Client) Switch(port string, choose func(name string) (on, chosen bool)) (before Features, err error) {
	before, err = c.Features(port)
	if err != nil {
		return before, err
	}
	change := make(map[string]bool)
	for name := range before.Changeable {
		if on, chosen := choose(name); chosen && (before.Wanted[name] != on || before.Active[name] != on) {
			change[name] = on
		}
	}
	if len(change) == 0 {
		return before, nil
	}
	// The kernel acts on a change of what is wanted only. Where an offload is on without being
	// wanted, as a driver may do by itself, want it first, so that not wanting it is a change.
	touch := make(map[string]bool)
	for name, on := range change {
		if before.Wanted[name] == on {
			touch[name] = !on
		}
	}
	if len(touch) != 0 {
		if err := c.SetFeatures(port, touch); err != nil {
			return before, err
		}
	}
	return before, c.SetFeatures(port, change)
}

// Segments reports whether the offload lets frames travel longer than the link carries.
func Segments(name string) bool {
	return strings.Contains(name, "segmentation") || strings.HasPrefix(name, "tx-gso-")
}
