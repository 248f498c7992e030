package policy

import "fmt"

// unreadIO refuses a plain conduit by which a device of an EtherNet/IP conduit may send datagrams to the port of
// cyclic I/O back to who speaks to it. Both ends send to that port, and what the device sends passes on
// connections that were seen to open: a conduit of its own would let through what belongs to none.
func (c *checker) unreadIO(u *universe, p *partition, entries []entry) {
	opens := make(map[[2]Class]int) // conduits of EtherNet/IP with I/O, by who opens it and with whom
	each := func(inspected bool, f func(entry)) {
		for _, e := range entries {
			if e.transport == TransportUDP && e.low <= IOPort && IOPort <= e.high && (c.p.Conduits[e.conduit].Protocol == ProtocolENIP) == inspected {
				f(e)
			}
		}
	}
	each(true, func(e entry) { opens[[2]Class{e.from, e.to}] = e.conduit })
	told := make(map[[2]int]bool)
	each(false, func(e entry) {
		other, ok := opens[[2]Class{e.to, e.from}]
		if !ok || c.p.Conduits[e.conduit].Protocol.Inspected() || told[[2]int{e.conduit, other}] {
			return
		}
		told[[2]int{e.conduit, other}] = true
		w, o := &c.p.Conduits[e.conduit], &c.p.Conduits[other]
		c.errorf(w.at, "conduit %q permits udp %d from %s to %s unread, which passes on the connections that conduit %q (line %d) permits: "+
			"take that port or those identities out of it", w.Name, IOPort, u.name(p.classNode[e.from]), u.name(p.classNode[e.to]), o.Name, o.at.line)
	})
}

// adviceOnIO looks for plain conduits to groups by which the devices of a conduit with I/O may send datagrams to
// its port: they are as unread, and there may be others that the group is for.
func (p *Policy) adviceOnIO() []string {
	x := newIndex(p)
	var advice []string
	for i := range p.Conduits {
		w := &p.Conduits[i]
		if w.Protocol != ProtocolUDP || !w.hasIOPort() || !sendsToIPv4Group(w.To) {
			continue
		}
		senders := x.named(w.From)
		for j := range p.Conduits {
			if o := &p.Conduits[j]; o.Protocol == ProtocolENIP && o.hasIOPort() && meets(senders, x.named(o.To)) {
				advice = append(advice, fmt.Sprintf("conduit %q lets devices of conduit %q send datagrams to port %d of a group unread: what they send on a "+
					"connection passes without it; remove it, unless something else needs it", w.Name, o.Name, IOPort))
				break
			}
		}
	}
	return advice
}

func (c *ConduitSpec) hasIOPort() bool {
	for _, s := range c.Services {
		if s.Transport == TransportUDP && s.Low <= IOPort && IOPort <= s.High {
			return true
		}
	}
	return false
}

func sendsToIPv4Group(selectors []Selector) bool {
	for _, s := range selectors {
		if s.Kind == SelectGroup && s.group.prefix.IsValid() && s.group.prefix.Addr().Is4() {
			return true
		}
	}
	return false
}

// named returns the identities that the selectors name, by number.
func (x *index) named(selectors []Selector) map[int]bool {
	list := make(map[int]bool)
	for _, s := range selectors {
		switch s.Kind {
		case SelectIdentity:
			if i, ok := x.identities[s.Name]; ok {
				list[i] = true
			}
		case SelectZone:
			for _, i := range x.members[s.Name] {
				list[i] = true
			}
		}
	}
	return list
}

func meets(a, b map[int]bool) bool {
	for i := range a {
		if b[i] {
			return true
		}
	}
	return false
}
