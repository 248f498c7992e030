package inspect

import "time"

// past remembers keys of connections that were followed and are forgotten while the fast path may
// still know them. The head of a message may have left on such a connection, so that whoever
// joined it in mid-stream would let its client complete that message with bytes that read as
// another one. Under these keys only a SYN begins anew.
type past struct {
	limit  int
	places map[uint64]int // of each key in list
	list   []forgotten
	cursor int // up to where sweep still has to look
}

// forgotten is a key that may not be joined, at least until a time.
type forgotten struct {
	key   uint64
	until time.Time
}

func newPast(limit int) past { return past{limit: limit, places: map[uint64]int{}} }

func (p *past) has(key uint64) bool {
	_, ok := p.places[key]
	return ok
}

// add files a key. It is false where there is no room: then its connection has to stay.
func (p *past) add(key uint64, until time.Time) bool {
	if i, ok := p.places[key]; ok {
		p.list[i].until = until
		return true
	}
	if len(p.list) >= p.limit {
		return false
	}
	p.places[key] = len(p.list)
	p.list = append(p.list, forgotten{key: key, until: until})
	return true
}

func (p *past) remove(key uint64) {
	i, ok := p.places[key]
	if !ok {
		return
	}
	last := p.list[len(p.list)-1]
	p.list[i], p.places[last.key] = last, i
	p.list = p.list[:len(p.list)-1]
	delete(p.places, key)
}

// pastSlice is how many keys one call of sweep asks the flow source for.
const pastSlice = 128

// sweep removes keys whose time is over and that the flow source has let go of: the fast path does
// not give the same key to another connection before many have come and gone.
func (p *past) sweep(now time.Time, flows FlowSource) {
	if p.cursor == 0 || p.cursor > len(p.list) {
		p.cursor = len(p.list)
	}
	for range min(pastSlice, p.cursor) {
		p.cursor-- // the last takes the place of one that goes, and it has been looked at
		f := p.list[p.cursor]
		if now.Before(f.until) {
			continue
		}
		if _, known := flows.Flow(f.key); !known {
			p.remove(f.key)
		}
	}
}
