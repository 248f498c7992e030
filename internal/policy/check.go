package policy

import "fmt"

// checker looks for what is wrong with a policy as a whole. It runs on what could be read of a
// file with errors too, so that one run shows them all; what could not be read counts as absent
// and is not complained about again.
type checker struct {
	*report
	p *Policy
	x *index

	zoneNames, identityNames []string

	// What is not known because of an error already reported: where an identity lives, and
	// where zones lie.
	unplaced map[int]bool
	sidesBad bool
}

func (c *checker) check() {
	c.x = newIndex(c.p)
	c.uniqueNames()
	for i := range c.p.Zones {
		c.zoneNames = append(c.zoneNames, c.p.Zones[i].Name)
	}
	for i := range c.p.Identities {
		c.identityNames = append(c.identityNames, c.p.Identities[i].Name)
	}
	c.appliances()
	c.identities()
	c.addresses()
	c.conduits()
	c.overlaps()
}

// uniqueNames refuses a name that two things of a kind share.
func (c *checker) uniqueNames() {
	appliances, zones := newNames(c, "appliance"), newNames(c, "zone")
	identities, conduits := newNames(c, "identity"), newNames(c, "conduit")
	for i := range c.p.Appliances {
		appliances.add(c.p.Appliances[i].Name, c.p.Appliances[i].at)
	}
	for i := range c.p.Zones {
		zones.add(c.p.Zones[i].Name, c.p.Zones[i].at)
	}
	for i := range c.p.Identities {
		identities.add(c.p.Identities[i].Name, c.p.Identities[i].at)
	}
	for i := range c.p.Conduits {
		conduits.add(c.p.Conduits[i].Name, c.p.Conduits[i].at)
	}
}

// names remembers where each name stood first.
type names struct {
	c    *checker
	what string
	seen map[string]pos
}

func newNames(c *checker, what string) *names {
	return &names{c: c, what: what, seen: make(map[string]pos)}
}

func (n *names) add(name string, at pos) {
	if name == "" {
		return // reported where it was read
	}
	if first, again := n.seen[name]; again {
		n.c.errorf(at, "%s %q is there already, on line %d: rename one", n.what, name, first.line)
		return
	}
	n.seen[name] = at
}

// zoneExists reports a reference to a zone that there is none of.
func (c *checker) zoneExists(name string, at pos) bool {
	if _, ok := c.x.zones[name]; ok {
		return true
	}
	c.errorf(at, "there is no zone %q%s", name, c.suggest(name, c.zoneNames, "add it under zones"))
	return false
}

func (c *checker) identityExists(name string, at pos) bool {
	if _, ok := c.x.identities[name]; ok {
		return true
	}
	otherwise := "add it under identities"
	if _, zone := c.x.zones[name]; zone {
		otherwise = fmt.Sprintf("the zone of that name is written %s%s", zonePrefix, name)
		c.errorf(at, "there is no identity %q; %s", name, otherwise)
		return false
	}
	c.errorf(at, "there is no identity %q%s", name, c.suggest(name, c.identityNames, otherwise))
	return false
}

func (c *checker) appliances() {
	for i := range c.p.Appliances {
		a := &c.p.Appliances[i]
		before := len(c.errors)
		c.side("a", a.A)
		c.side("b", a.B)
		c.sidesBad = c.sidesBad || a.bad || len(c.errors) > before
	}
}

func (c *checker) side(side string, zones []Reference) {
	seen := make(map[string]bool, len(zones))
	for _, z := range zones {
		if seen[z.Name] {
			c.errorf(z.at, "side %s lists zone %q twice: remove one", side, z.Name)
		}
		seen[z.Name] = true
		c.zoneExists(z.Name, z.at)
	}
}
