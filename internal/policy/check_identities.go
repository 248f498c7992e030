package policy

// identities checks each identity by itself and against where its zone lies.
func (c *checker) identities() {
	macs := make(map[[6]byte]string)
	c.unplaced = make(map[int]bool)
	for i := range c.p.Identities {
		id := &c.p.Identities[i]
		if id.Zone.Name == "" || !c.zoneExists(id.Zone.Name, id.Zone.at) {
			c.unplaced[i] = true
		}
		if id.Via.Name != "" {
			c.behind(id)
		} else {
			c.attached(id, macs)
		}
	}
	for i := range c.p.Appliances {
		c.sides(&c.p.Appliances[i])
	}
}

// attached checks an identity whose own MAC address is on the wire.
func (c *checker) attached(id *IdentitySpec, macs map[[6]byte]string) {
	if !id.hasMAC {
		c.errorf(id.at, "identity %q has no mac and no via: write its MAC address, or the router that it is behind", id.Name)
	}
	if id.Role == roleRouter && !id.hasAddresses {
		c.errorf(id.at, "router %q has no ip: write its own addresses, which tell its own traffic from that of those behind it", id.Name)
	}
	if id.MAC == [6]byte{} {
		return
	}
	if other, taken := macs[id.MAC]; taken {
		c.errorf(id.macAt, "mac %s is that of identity %q already: every device has its own; what is behind a router has via instead",
			formatMAC(id.MAC), other)
		return
	}
	macs[id.MAC] = id.Name
}

// behind checks an identity that is told apart by address, behind a router.
func (c *checker) behind(id *IdentitySpec) {
	switch {
	case id.hasMAC:
		c.errorf(id.macAt, "identity %q has mac and via: behind a router its frames carry the router's MAC address, remove one", id.Name)
	case !id.hasAddresses:
		c.errorf(id.at, "identity %q has via and no ip: behind a router only its address tells who it is, add ip", id.Name)
	}
	if id.vlanAt.known() {
		c.errorf(id.vlanAt, "identity %q is in its router's vlan: write it there", id.Name)
	}
	if id.Side != SideAny {
		c.errorf(id.sideAt, "identity %q is on its router's side: write it there", id.Name)
	}
	if !c.identityExists(id.Via.Name, id.Via.at) {
		return
	}
	router := c.x.router(id)
	switch {
	case router.Via.Name != "":
		c.errorf(id.Via.at, "%q is behind a router itself: name the router whose MAC address is seen here, %q", router.Name, router.Via.Name)
	case router.Role != roleRouter:
		c.errorf(id.Via.at, "%q is no router: give it role: router if others are behind it", router.Name)
	}
}

// sides checks that each identity's side of the appliance can be told. Where a zone lies on both
// sides the zone does not say, so that each of its identities has to; only then can
// defaults.intra_zone mean anything.
func (c *checker) sides(a *ApplianceSpec) {
	masks := zoneMasks(a)
	for i := range c.p.Identities {
		id := &c.p.Identities[i]
		mask := masks[id.Zone.Name]
		if mask == 0 {
			continue
		}
		if id.Via.Name != "" {
			router := c.x.router(id)
			if router == nil || directSide(router, masks) == SideAny {
				c.unplaced[i] = true
			}
			if router != nil {
				c.routerSide(a, id, router, masks)
			}
			continue
		}
		switch {
		case mask == bothSides && id.Side == SideAny:
			c.unplaced[i] = true
			c.errorf(id.at, "zone %q lies on both sides of appliance %q: say where identity %q is, with side: a or side: b",
				id.Zone.Name, a.Name, id.Name)
		case mask != bothSides && id.Side != SideAny && maskOf(id.Side) != mask:
			c.errorf(id.sideAt, "identity %q is on side %s, but its zone %q lies on side %s of appliance %q only: remove side, or list the zone on both",
				id.Name, id.Side, id.Zone.Name, id.Side.Other(), a.Name)
		}
	}
}

func (c *checker) routerSide(a *ApplianceSpec, id, router *IdentitySpec, masks map[string]sideMask) {
	side := directSide(router, masks)
	switch {
	case masks[router.Zone.Name] == 0:
		c.errorf(id.Via.at, "router %q lies on no side of appliance %q, where zone %q of identity %q does: list zone %q there",
			router.Name, a.Name, id.Zone.Name, id.Name, router.Zone.Name)
	case side != SideAny && maskOf(side)&masks[id.Zone.Name] == 0:
		c.errorf(id.Via.at, "router %q is on side %s of appliance %q, but zone %q of identity %q lies on the other: what is behind a router is where the router is",
			router.Name, side, a.Name, id.Zone.Name, id.Name)
	}
}
