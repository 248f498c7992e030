package policy

import "sort"

// overlaps refuses two conduits on the same endpoints and ports where inspection is at stake: a
// plain one beside an inspected one would let through unread what the other judges, and of two
// inspected ones nobody could say which rules hold. Two plain ones only say the same twice.
func (c *checker) overlaps() {
	u := newUniverse(c.x, nil, c.p.Conduits)
	p, err := newPartition(u, c.p.Conduits)
	if err != nil {
		c.errorf(pos{1, 1}, "%v", err)
		return
	}
	entries, err := p.entries(c.p.Conduits)
	if err != nil {
		c.errorf(pos{1, 1}, "%v", err)
		return
	}
	c.unreadIO(u, p, entries)
	told := make(map[[2]int]bool)
	eachPair(entries, func(pair []entry) {
		c.overlapsIn(pair, func(wrong, other entry) {
			key := [2]int{wrong.conduit, other.conduit}
			if !told[key] {
				told[key] = true
				c.overlap(u, p, wrong, other)
			}
		})
	})
}

// overlapsIn compares each entry of a pair with one inspected entry that it overlaps, if any.
func (c *checker) overlapsIn(pair []entry, found func(wrong, other entry)) {
	inspected := newReach(pair, func(e entry) bool { return c.p.Conduits[e.conduit].Protocol.Inspected() })
	for _, e := range pair {
		other, ok := inspected.overlapping(e)
		if !ok {
			continue
		}
		if c.p.Conduits[e.conduit].Protocol.Inspected() && other.conduit > e.conduit {
			e, other = other, e
		}
		found(e, other)
	}
}

// reach answers which of some entries, sorted by low, overlaps another conduit's entry.
type reach struct {
	entries []entry
	best    []furthest
}

// furthest holds, up to and with an entry, the one that reaches furthest and the one that does
// among those of other conduits than the first's; indices into entries, or -1.
type furthest struct{ first, second int }

func newReach(pair []entry, keep func(entry) bool) *reach {
	r := &reach{}
	at := furthest{-1, -1}
	for _, e := range pair {
		if !keep(e) {
			continue
		}
		r.entries = append(r.entries, e)
		at = r.extend(at, len(r.entries)-1)
		r.best = append(r.best, at)
	}
	return r
}

func (r *reach) extend(at furthest, i int) furthest {
	e := r.entries[i]
	switch {
	case at.first < 0:
		at.first = i
	case e.high > r.entries[at.first].high:
		if e.conduit != r.entries[at.first].conduit {
			at.second = at.first
		}
		at.first = i
	case e.conduit != r.entries[at.first].conduit && (at.second < 0 || e.high > r.entries[at.second].high):
		at.second = i
	}
	return at
}

// overlapping returns an entry of another conduit that shares a port with e, if there is one.
func (r *reach) overlapping(e entry) (entry, bool) {
	n := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].low > e.high })
	if n == 0 {
		return entry{}, false
	}
	i := r.best[n-1].first
	if r.entries[i].conduit == e.conduit {
		i = r.best[n-1].second
	}
	if i < 0 {
		return entry{}, false
	}
	return r.entries[i], r.entries[i].high >= e.low
}

func (c *checker) overlap(u *universe, p *partition, wrong, other entry) {
	w, o := &c.p.Conduits[wrong.conduit], &c.p.Conduits[other.conduit]
	from, to := u.name(p.classNode[wrong.from]), u.name(p.classNode[wrong.to])
	port := Span{uint32(max(wrong.low, other.low)), uint32(min(wrong.high, other.high))}
	if w.Protocol.Inspected() {
		c.errorf(w.at, "conduit %q and conduit %q (line %d) both judge what %s sends to %s on %s %s: join their rules in one conduit",
			w.Name, o.Name, o.at.line, from, to, transportName(wrong.transport), port)
		return
	}
	c.errorf(w.at, "conduit %q permits %s %s from %s to %s unread, which conduit %q (line %d) inspects: take those ports or identities out of it",
		w.Name, transportName(wrong.transport), port, from, to, o.Name, o.at.line)
}

func transportName(t Transport) string {
	switch t {
	case TransportTCP:
		return "tcp"
	case TransportUDP:
		return "udp"
	case TransportICMP:
		return "icmp"
	case TransportICMPv6:
		return "icmpv6"
	}
	return "ethertype"
}
