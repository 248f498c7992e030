package policy

// conduits checks each conduit by itself: whom it names, whether it crosses an appliance, and what
// IEC 62443 asks of it.
func (c *checker) conduits() {
	masks := make([]applianceMasks, len(c.p.Appliances))
	for i := range c.p.Appliances {
		masks[i] = c.applianceMasks(&c.p.Appliances[i])
	}
	for i := range c.p.Conduits {
		conduit := &c.p.Conduits[i]
		known := c.selectors("from", conduit.From)
		known = c.selectors("to", conduit.To) && known
		if known && !conduit.fromBad && !conduit.toBad && !c.sidesBad && c.placed(conduit.From) && c.placed(conduit.To) {
			c.crosses(conduit, masks)
		}
		c.target(conduit)
		c.assurance(conduit)
	}
	c.relays()
}

// selectors tells whether each names somebody.
func (c *checker) selectors(key string, selectors []Selector) bool {
	good := true
	for _, s := range selectors {
		switch s.Kind {
		case SelectIdentity:
			good = c.identityExists(s.Name, s.at) && good
		case SelectZone:
			if !c.zoneExists(s.Name, s.at) {
				good = false
			} else if len(c.x.members[s.Name]) == 0 {
				c.errorf(s.at, "%s: zone %q has no identities, so it selects nobody: add them, or remove it", key, s.Name)
				good = false
			}
		}
	}
	return good
}

// placed tells whether it is known where everybody lives whom the selectors name.
func (c *checker) placed(selectors []Selector) bool {
	if len(c.unplaced) == 0 {
		return true
	}
	for _, s := range selectors {
		switch s.Kind {
		case SelectIdentity:
			if c.unplaced[c.x.identities[s.Name]] {
				return false
			}
		case SelectZone:
			for _, i := range c.x.members[s.Name] {
				if c.unplaced[i] {
					return false
				}
			}
		}
	}
	return true
}

// applianceMasks says on which sides of an appliance a name is found.
type applianceMasks struct {
	place placement
	zones map[string]sideMask
}

func (c *checker) applianceMasks(a *ApplianceSpec) applianceMasks {
	m := applianceMasks{place: c.x.place(a), zones: make(map[string]sideMask)}
	for i, side := range m.place {
		m.zones[c.p.Identities[i].Zone.Name] |= maskOf(side)
	}
	return m
}

func (m *applianceMasks) of(x *index, selectors []Selector) sideMask {
	var mask sideMask
	for _, s := range selectors {
		switch s.Kind {
		case SelectIdentity:
			mask |= maskOf(m.place[x.identities[s.Name]])
		case SelectZone:
			mask |= m.zones[s.Name]
		default:
			mask |= bothSides
		}
	}
	return mask
}

// crosses refuses a conduit that no appliance would ever carry.
func (c *checker) crosses(conduit *ConduitSpec, masks []applianceMasks) {
	seen := false
	for i := range masks {
		if masks[i].carries(c.x, conduit) {
			return
		}
		seen = seen || masks[i].of(c.x, conduit.From) != 0
	}
	if len(masks) == 0 {
		return // reported: appliances is required
	}
	if !seen {
		c.errorf(conduit.at, "conduit %q: the zones of from lie on no side of any appliance, so nothing of it is carried: list them under appliances", conduit.Name)
		return
	}
	c.errorf(conduit.at, "conduit %q: from and to are never on two sides of one appliance, so it permits nothing: check the zones under appliances", conduit.Name)
}

// target fills in the highest target of the zones that the conduit joins, unless it has its own.
func (c *checker) target(conduit *ConduitSpec) {
	if conduit.hasSLTarget {
		return
	}
	raise := func(zone string) {
		if z, ok := c.x.zones[zone]; ok {
			conduit.SLTarget = conduit.SLTarget.atLeast(c.p.Zones[z].SLTarget)
		}
	}
	for _, selectors := range [][]Selector{conduit.From, conduit.To} {
		for _, s := range selectors {
			if s.Kind == SelectZone {
				raise(s.Name)
			} else if i, ok := c.x.identities[s.Name]; ok && s.Kind == SelectIdentity {
				raise(c.p.Identities[i].Zone.Name)
			}
		}
	}
}

// assurance holds the conduit to IEC 62443-3-3 5.2 RE 3: from SL 3 up a boundary fails closed, and
// what closes may not be essential unless there is another way.
func (c *checker) assurance(conduit *ConduitSpec) {
	if needsWaiver(conduit.SLTarget, conduit.OnOutage) && conduit.Waiver == nil {
		c.errorf(conduit.outageAt, "conduit %q has a target of SL %d and opens in an outage, which SL 3 and 4 exclude: "+
			"write on_outage: closed, or a waiver with owner, expires and compensating", conduit.Name, conduit.SLTarget.RestrictedDataFlow())
	}
	if conduit.Essential && conduit.OnOutage == OutageClosed && conduit.SecondPath == "" {
		c.errorf(conduit.outageAt, "conduit %q is essential and closes in an outage: name how its function goes on, with second_path",
			conduit.Name)
	}
}
