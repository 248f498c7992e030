package dnp3

import (
	"encoding/binary"
	"math"
	"time"
)

// point is one input, output or counter.
type point struct {
	value float64
	class uint8 // of its events; 0 is none
}

// points are what an outstation has. The types of static objects are their groups.
type points struct {
	binaryInputs, binaryOutputs, counters, frozen, analogInputs, analogOutputs []point
}

// newPoints makes so many of each.
func newPoints(n int) points {
	with := func(class uint8) []point {
		list := make([]point, n)
		for i := range list {
			list[i].class = class
		}
		return list
	}
	return points{
		binaryInputs: with(1), binaryOutputs: with(0), counters: with(3), frozen: with(0),
		analogInputs: with(2), analogOutputs: with(0),
	}
}

// of returns the points of a static group.
func (p *points) of(group uint8) []point {
	switch group {
	case 1:
		return p.binaryInputs
	case 10:
		return p.binaryOutputs
	case 20:
		return p.counters
	case 21:
		return p.frozen
	case 30:
		return p.analogInputs
	case 40:
		return p.analogOutputs
	}
	return nil
}

// staticGroups are those of class 0, in the order of a reply.
var staticGroups = []uint8{1, 10, 20, 30, 40}

// defaults are the variations sent where a master leaves the choice, of static groups and of events.
var defaults = map[uint8]uint8{1: 2, 10: 2, 20: 1, 21: 1, 30: 1, 40: 1, 2: 2, 22: 1, 32: 1}

// eventGroups lead from a static group to that of its events.
var eventGroups = map[uint8]uint8{1: 2, 20: 22, 30: 32}

const flagOnline = 0x01

// encode writes a static object or an event, or returns nil where the variation is none of these.
func encode(k Kind, value float64, at time.Time) []byte {
	whole := int64(value)
	switch k {
	case Kind{1, 1}, Kind{10, 1}:
		return []byte{byte(whole & 1)}
	case Kind{1, 2}, Kind{10, 2}, Kind{2, 1}:
		return []byte{flagOnline | byte(whole&1)<<7}
	case Kind{2, 2}:
		return appendTime([]byte{flagOnline | byte(whole&1)<<7}, at)
	case Kind{20, 1}, Kind{21, 1}, Kind{22, 1}, Kind{30, 1}, Kind{32, 1}, Kind{40, 1}:
		return binary.LittleEndian.AppendUint32([]byte{flagOnline}, uint32(whole))
	case Kind{20, 2}, Kind{21, 2}, Kind{22, 2}, Kind{30, 2}, Kind{32, 2}, Kind{40, 2}:
		return binary.LittleEndian.AppendUint16([]byte{flagOnline}, uint16(whole))
	case Kind{20, 5}, Kind{21, 9}, Kind{30, 3}:
		return binary.LittleEndian.AppendUint32(nil, uint32(whole))
	case Kind{20, 6}, Kind{21, 10}, Kind{30, 4}:
		return binary.LittleEndian.AppendUint16(nil, uint16(whole))
	case Kind{22, 5}, Kind{32, 3}:
		return appendTime(binary.LittleEndian.AppendUint32([]byte{flagOnline}, uint32(whole)), at)
	case Kind{32, 4}:
		return appendTime(binary.LittleEndian.AppendUint16([]byte{flagOnline}, uint16(whole)), at)
	case Kind{30, 5}, Kind{32, 5}, Kind{40, 3}:
		return binary.LittleEndian.AppendUint32([]byte{flagOnline}, math.Float32bits(float32(value)))
	}
	return nil
}

// appendTime appends milliseconds since 1970 in 48 bits.
func appendTime(b []byte, t time.Time) []byte {
	ms := uint64(t.UnixMilli())
	return append(b, byte(ms), byte(ms>>8), byte(ms>>16), byte(ms>>24), byte(ms>>32), byte(ms>>40))
}

// event is a change of a point that no master has confirmed.
type event struct {
	static uint8 // the static group
	index  uint32
	class  uint8
	value  float64
	at     time.Time
	sent   bool // in a fragment whose confirmation is outstanding
}

// builder packs objects into the bodies of fragments of a bounded length.
type builder struct {
	limit  int
	bodies []built

	kind    Kind
	prefix  bool
	at      int // of the open header in the last body; -1 is none
	count   int
	next    uint32
	carried int // bits in the last octet of packed objects
}

// built is the body of a fragment, and the events in it.
type built struct {
	body   []byte
	events []*event
}

func newBuilder(limit int) *builder {
	return &builder{limit: limit, bodies: []built{{}}, at: -1}
}

// add appends an object: of an event with its index, else in a range. Indices stay below 65,536.
func (p *builder) add(k Kind, index uint32, data []byte, e *event) {
	last := &p.bodies[len(p.bodies)-1]
	if len(last.body)+len(data)+9 > p.limit {
		p.bodies = append(p.bodies, built{})
		last = &p.bodies[len(p.bodies)-1]
		p.at = -1
	}
	if p.at < 0 || p.kind != k || p.prefix != (e != nil) || e == nil && index != p.next {
		p.open(last, k, index, e != nil)
	}
	p.count++
	p.next = index + 1
	if e != nil {
		last.body = appendNumber(last.body, index, 2)
		last.events = append(last.events, e)
		binary.LittleEndian.PutUint16(last.body[p.at+3:], uint16(p.count))
	} else {
		binary.LittleEndian.PutUint16(last.body[p.at+5:], uint16(index))
	}
	p.appendData(last, k, data)
}

func (p *builder) open(last *built, k Kind, index uint32, prefix bool) {
	p.kind, p.prefix, p.at, p.count, p.carried = k, prefix, len(last.body), 0, 0
	if prefix {
		last.body = append(last.body, k.Group, k.Variation, 0x28, 0, 0)
		return
	}
	last.body = append(last.body, k.Group, k.Variation, 0x01, byte(index), byte(index>>8), 0, 0)
}

func (p *builder) appendData(last *built, k Kind, data []byte) {
	if packed[k] == 0 {
		last.body = append(last.body, data...)
		return
	}
	if p.carried%8 == 0 {
		last.body = append(last.body, 0)
	}
	last.body[len(last.body)-1] |= data[0] << (p.carried % 8)
	p.carried++
}
