package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// The bounds of what conduits may come to.
const (
	maxMemberships   = 1 << 22
	maxEntries       = 1 << 22
	maxPairs         = 1 << 20
	maxRangesPerPair = 4096
)

// universe numbers everything that a conduit can name: the identities in the order of the policy,
// then broadcast, then the groups.
type universe struct {
	x      *index
	pseudo []Selector
	known  map[group]bool // of pseudo

	// side of each node; nodes with present false take no part.
	side    []Side
	present []bool
}

// newUniverse places identities as one appliance sees them; with place nil all are present and
// none has a side.
func newUniverse(x *index, place placement, conduits []ConduitSpec) *universe {
	u := &universe{x: x, known: make(map[group]bool)}
	u.addPseudo(Selector{Kind: SelectBroadcast, Name: broadcastName})
	for i := range conduits {
		for _, s := range conduits[i].To {
			if s.Kind == SelectGroup {
				u.addPseudo(s)
			}
		}
	}
	n := len(x.p.Identities)
	u.side = make([]Side, n+len(u.pseudo))
	u.present = make([]bool, n+len(u.pseudo))
	for i := range u.present {
		if i < n && place != nil {
			u.side[i] = place[i]
		}
		u.present[i] = i >= n || place == nil || place[i] != SideAny
	}
	return u
}

// addPseudo adds a group once, whatever it is called: two names of one group are one destination.
func (u *universe) addPseudo(s Selector) {
	if !u.known[s.group] {
		u.known[s.group] = true
		u.pseudo = append(u.pseudo, s)
	}
}

// name returns what a node is called in messages and in the plan.
func (u *universe) name(node int) string {
	if n := len(u.x.p.Identities); node >= n {
		return u.pseudo[node-n].String()
	}
	return u.x.p.Identities[node].Name
}

// nodes lists whom the selectors name, present ones only, in ascending order. A group stands for
// every group inside it too, because a destination is told by its longest prefix.
func (u *universe) nodes(selectors []Selector) []int {
	var out []int
	add := func(node int) {
		if u.present[node] {
			out = append(out, node)
		}
	}
	n := len(u.x.p.Identities)
	for _, s := range selectors {
		switch s.Kind {
		case SelectIdentity:
			if i, ok := u.x.identities[s.Name]; ok {
				add(i)
			}
		case SelectZone:
			for _, i := range u.x.members[s.Name] {
				add(i)
			}
		case SelectBroadcast:
			add(n)
		case SelectGroup:
			for i, other := range u.pseudo {
				if other.Kind == SelectGroup && s.group.contains(other.group) {
					add(n + i)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// partition is the universe cut into classes: nodes that the same selections hold, on one side.
type partition struct {
	u    *universe
	sets [][]int // distinct selections, as nodes
	from []int   // of each conduit, into sets
	to   []int

	classOf    []Class // of each node; 0 for those that are not present
	classSide  []Side  // of each class
	classNode  []int   // the first node of each class
	setClasses [][]Class
}

// newPartition cuts the universe along the conduits' selections. Sides take part although no
// selector names them: then a class lies on one side, and pairs that could never cross the
// appliance need no table entry.
func newPartition(u *universe, conduits []ConduitSpec) (*partition, error) {
	p := &partition{u: u}
	ids := make(map[string]int)
	memberships := 0
	intern := func(selectors []Selector) int {
		key := selectionKey(selectors)
		id, ok := ids[key]
		if !ok {
			id = len(p.sets)
			ids[key] = id
			p.sets = append(p.sets, u.nodes(selectors))
			memberships += len(p.sets[id])
		}
		return id
	}
	for i := range conduits {
		p.from = append(p.from, intern(conduits[i].From))
		p.to = append(p.to, intern(conduits[i].To))
		if memberships > maxMemberships {
			return nil, fmt.Errorf("conduit %q: the conduits up to here name more than %d identities in all: use fewer, wider zones",
				conduits[i].Name, maxMemberships)
		}
	}
	p.classify()
	return p, nil
}

func selectionKey(selectors []Selector) string {
	if len(selectors) == 1 {
		return selectors[0].String()
	}
	var key strings.Builder
	for _, s := range selectors {
		key.WriteString(s.String())
		key.WriteByte('\n')
	}
	return key.String()
}

func (p *partition) classify() {
	signatures := make([][]byte, len(p.u.present))
	for node := range signatures {
		signatures[node] = []byte{byte(p.u.side[node])}
	}
	for id, nodes := range p.sets {
		for _, node := range nodes {
			signatures[node] = binary.BigEndian.AppendUint32(signatures[node], uint32(id))
		}
	}
	classes := make(map[string]Class)
	p.classOf = make([]Class, len(signatures))
	p.classSide, p.classNode = []Side{SideAny}, []int{-1}
	for node, signature := range signatures {
		if !p.u.present[node] {
			continue
		}
		class, ok := classes[string(signature)]
		if !ok {
			class = Class(len(p.classSide))
			classes[string(signature)] = class
			p.classSide = append(p.classSide, p.u.side[node])
			p.classNode = append(p.classNode, node)
		}
		p.classOf[node] = class
	}
	p.setClasses = make([][]Class, len(p.sets))
	for id, nodes := range p.sets {
		p.setClasses[id] = p.classesOf(nodes)
	}
}

func (p *partition) classesOf(nodes []int) []Class {
	out := make([]Class, 0, len(nodes))
	for _, node := range nodes {
		out = append(out, p.classOf[node])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// entry is what one conduit permits between two classes.
type entry struct {
	from, to  Class
	transport Transport
	low, high uint16
	conduit   int
}

// entries lists what all conduits permit, sorted by class pair and transport and then by port.
func (p *partition) entries(conduits []ConduitSpec) ([]entry, error) {
	var out []entry
	for i := range conduits {
		for _, from := range p.setClasses[p.from[i]] {
			for _, to := range p.setClasses[p.to[i]] {
				if p.classSide[from] == p.classSide[to] && p.classSide[from] != SideAny {
					continue
				}
				for _, s := range conduits[i].Services {
					out = append(out, entry{from, to, s.Transport, s.Low, s.High, i})
				}
			}
		}
		if len(out) > maxEntries {
			return nil, fmt.Errorf("conduit %q: the conduits up to here come to more than %d pairs and ports: use fewer, wider zones",
				conduits[i].Name, maxEntries)
		}
	}
	slices.SortFunc(out, func(a, b entry) int {
		return cmp.Or(comparePair(a, b), cmp.Compare(a.low, b.low), cmp.Compare(a.high, b.high), cmp.Compare(a.conduit, b.conduit))
	})
	return out, nil
}

func comparePair(a, b entry) int {
	return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.transport, b.transport))
}

// eachPair calls f for each class pair and transport with its entries.
func eachPair(entries []entry, f func([]entry)) {
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && comparePair(entries[0], entries[n]) == 0 {
			n++
		}
		f(entries[:n])
		entries = entries[n:]
	}
}
