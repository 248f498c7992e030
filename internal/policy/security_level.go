package policy

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SecurityLevel is a target of IEC 62443-3-3 by foundational requirement, FR 1 first, each 0 to 4.
type SecurityLevel [7]uint8

// restrictedDataFlow is FR 5, which what a conduit does in an outage belongs to (SR 5.2).
const restrictedDataFlow = 4

// requirementNames are the foundational requirements as IEC 62443-1-1 abbreviates them, in order.
func requirementNames() []string { return []string{"iac", "uc", "si", "dc", "rdf", "tre", "ra"} }

// RestrictedDataFlow is the level of FR 5.
func (l SecurityLevel) RestrictedDataFlow() uint8 { return l[restrictedDataFlow] }

// atLeast returns the higher of the two levels for each requirement.
func (l SecurityLevel) atLeast(other SecurityLevel) SecurityLevel {
	for i := range l {
		l[i] = max(l[i], other[i])
	}
	return l
}

// String writes one level, or the vector where they differ: "2", or "iac 2, uc 2, rdf 3".
func (l SecurityLevel) String() string {
	if slices.Min(l[:]) == slices.Max(l[:]) {
		return strconv.Itoa(int(l[0]))
	}
	var parts []string
	for i, name := range requirementNames() {
		if l[i] > 0 {
			parts = append(parts, name+" "+strconv.Itoa(int(l[i])))
		}
	}
	return strings.Join(parts, ", ")
}

// securityLevel reads 2, or a vector such as {iac: 2, rdf: 3}: what a vector leaves out is 0.
func (f *fields) securityLevel(key string) (SecurityLevel, bool) {
	var level SecurityLevel
	n := f.get(key)
	if n == nil {
		return level, false
	}
	if n.Kind != yaml.MappingNode {
		single, ok := f.number(key, 0, 4)
		for i := range level {
			level[i] = uint8(single)
		}
		return level, ok
	}
	v, ok := f.d.mapping(n, "a vector of "+key, requirementNames(), nil)
	if !ok {
		return level, false
	}
	for i, name := range requirementNames() {
		one, _ := v.number(name, 0, 4)
		level[i] = uint8(one)
	}
	return level, true
}

// relays refuses what a relay cannot do: when the box has no power, all conduits across it do the
// same, whatever each was meant to.
func (c *checker) relays() {
	for i := range c.p.Appliances {
		a := &c.p.Appliances[i]
		if !a.hasRelay || c.sidesBad {
			continue
		}
		masks := c.applianceMasks(a)
		for j := range c.p.Conduits {
			conduit := &c.p.Conduits[j]
			if conduit.OnOutage == a.OnPowerLoss || !masks.carries(c.x, conduit) {
				continue
			}
			c.errorf(conduit.outageAt, "conduit %q is %s in an outage, and the relay of appliance %q is %s without power: "+
				"a relay does the same for all conduits; carry it over another appliance, or write on_outage: %s",
				conduit.Name, conduit.OnOutage, a.Name, a.OnPowerLoss, a.OnPowerLoss)
		}
	}
}

// carries reports whether frames of the conduit cross the appliance.
func (m *applianceMasks) carries(x *index, conduit *ConduitSpec) bool {
	from, to := m.of(x, conduit.From), m.of(x, conduit.To)
	return from&1 != 0 && to&2 != 0 || from&2 != 0 && to&1 != 0
}
