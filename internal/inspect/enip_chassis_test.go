package inspect

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// chassis is a device with two modules behind it that gives identifiers again as soon as they are free, takes what
// comes under one from any session, and answers when its modules do.
type chassis struct {
	t        *testing.T
	now      time.Time
	replaces bool // a connection of a name that is in use, and otherwise refuses it
	open     [4]*chassisConnection
	writes   [3]int // of Recipe: directly, and by slot
}

type chassisConnection struct {
	name     cip.Triad
	slot     int
	toSource uint32
	seen     time.Time
	watchdog time.Duration
}

const (
	firstIdentifier = 0x70000
	directly        = 0
	bySlot          = 1 // and the slot
)

// expire frees what was silent for too long.
func (c *chassis) expire() {
	for i, o := range c.open {
		if o != nil && c.now.Sub(o.seen) > o.watchdog {
			c.open[i] = nil
		}
	}
}

func (c *chassis) find(name cip.Triad) int {
	for i, o := range c.open {
		if o != nil && o.name == name {
			return i
		}
	}
	return -1
}

// execute acts on a service that has come by a way, and returns its reply.
func (c *chassis) execute(service []byte, way int) []byte {
	var w cip.Walk
	w.Start(service, len(service), nil)
	if !w.Next() {
		c.t.Fatalf("%x is no service", service)
	}
	q := &w.Request
	var o cip.Open
	var f cip.Close
	code := byte(q.Code) | 0x80
	switch {
	case q.Is(cip.UnconnectedSend, cip.ConnectionManager):
		var hops [cip.MaxHops]cip.Hop
		route, _ := q.UnconnectedRoute(&hops)
		size := int(binary.LittleEndian.Uint16(q.Data[2:]))
		return c.execute(q.Data[4:4+size], bySlot+int(route[0].Link))
	case q.Code == cip.MultipleServicePacket:
		var replies [][]byte
		count := int(binary.LittleEndian.Uint16(q.Data))
		for i := range count {
			from, to := int(binary.LittleEndian.Uint16(q.Data[2+2*i:])), len(q.Data)
			if i+1 < count {
				to = int(binary.LittleEndian.Uint16(q.Data[4+2*i:]))
			}
			replies = append(replies, c.execute(q.Data[from:to], way))
		}
		return append([]byte{code, 0, 0, 0}, ct.Packet(replies...)...)
	case q.ForwardOpen(&o):
		return c.connect(&o)
	case q.ForwardClose(&f):
		i := c.find(f.Triad)
		if i < 0 {
			return []byte{code, 0, 1, 1, 7, 1}
		}
		c.open[i] = nil
		return ct.Join([]byte{code, 0, 0, 0}, ct.U16(f.Serial), ct.U16(f.Vendor), ct.U32(f.OriginatorSerial), []byte{0, 0})
	case q.Is(cip.WriteTag, cip.Tags):
		c.writes[way]++
	}
	return []byte{code, 0, 0, 0}
}

func (c *chassis) connect(o *cip.Open) []byte {
	refused := failedOpen(o.Serial)
	at := c.find(o.Triad)
	switch {
	case at >= 0 && !c.replaces:
		return refused
	case at >= 0:
		c.open[at] = nil
	}
	for at = 0; at < len(c.open) && c.open[at] != nil; at++ {
	}
	if at == len(c.open) {
		return refused
	}
	c.open[at] = &chassisConnection{o.Triad, int(o.Path.Hops()[0].Link), o.ToOriginator.ID, c.now, o.ToTarget.RPI * 4 << o.Multiplier}
	return ct.Opened(ct.Open{Serial: o.Serial}, firstIdentifier+uint32(at), o.ToOriginator.ID)
}

// take executes what has arrived on a session, and returns the replies.
func (c *chassis) take(d *target) (replies [][]byte) {
	for {
		b := d.got(stream.FromResponder)[d.read:]
		if len(b) < 24 || len(b) < 24+int(binary.LittleEndian.Uint16(b[2:])) {
			return replies
		}
		n := 24 + int(binary.LittleEndian.Uint16(b[2:]))
		d.read += n
		if b[0] == 0x6f {
			replies = append(replies, ct.RR(enipHandle, binary.LittleEndian.Uint64(b[12:]), c.execute(b[40:n], directly)))
			continue
		}
		at := binary.LittleEndian.Uint32(b[36:]) - firstIdentifier
		if int(at) >= len(c.open) || c.open[at] == nil {
			continue
		}
		o := c.open[at]
		o.seen = c.now
		replies = append(replies, ct.Unit(enipHandle, o.toSource, binary.LittleEndian.Uint16(b[44:]), c.execute(b[46:n], bySlot+o.slot)))
	}
}

// someRequest makes a request of a client that has two modules to play with, of which it may write to one. What it
// sends on connections is mostly on such as it has open.
func someRequest(r *rand.Rand, d *target, sequence uint16) []byte {
	serial, slot := uint16(1+r.IntN(3)), byte(r.IntN(2))
	var id uint32
	open := d.pipeline.connections[testKey].session.(*enipSession).connections
	kind := r.IntN(8)
	switch {
	case len(open) > 0:
		id = open[r.IntN(len(open))].toTarget
	case r.IntN(50) == 0:
		id = firstIdentifier + uint32(r.IntN(2))
	default:
		kind = 7
	}
	route := ct.Join(ct.Port(1, slot), ct.Router())
	services := [][]byte{
		readSpeed(), toSlot(slot, serial).Forward(), ct.Close(serial, route),
		ct.Multiple(readSpeed(), ct.Close(serial, route)), ct.Multiple(ct.Close(serial, route), toSlot(slot, serial).Forward()),
		ct.Unconnected(ct.Close(serial, ct.Router()), ct.Port(1, slot)),
	}
	switch service := services[r.IntN(len(services))]; kind {
	case 0, 1, 2:
		return ct.Unit(enipHandle, id, sequence, otherTag(int32(sequence)))
	case 3:
		return ct.Unit(enipHandle, id, sequence, ct.Multiple(readSpeed(), otherTag(1)))
	case 4:
		return ct.Unit(enipHandle, id, sequence, service)
	default:
		return ct.RR(enipHandle, uint64(r.IntN(2)), service)
	}
}

// TestNoServiceArrivesByAnotherRoute: two sessions of one client open, close and use connections in every order, several
// messages a segment, without waiting for replies, which come late and in other orders. What a rule permits by
// one route never arrives by another.
func TestNoServiceArrivesByAnotherRoute(t *testing.T) {
	r := rand.New(rand.NewPCG(29, 30))
	rules := append([]string{`{services: [unconnected_send], route: ["1/0", "1/1"]}`}, twoSlotRules...)
	plan := enipPlan(t, policy.DenyReset, rules...)
	written, refused := 0, 0
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for round := range rounds {
		common := NewCommon(Limits{})
		c := &chassis{t: t, now: clock, replaces: round%2 == 0}
		var sessions [2]*target
		var replies [2][][]byte
		for i := range sessions {
			sessions[i] = scannerOf(t, plan, common, &ioLog{})
		}
		var log []byte
		for step := range 12 {
			i := r.IntN(2)
			d := sessions[i]
			if r.IntN(4) == 0 {
				c.now = c.now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
			}
			d.now = c.now
			c.expire()
			var segment []byte
			for range 1 + r.IntN(3) {
				segment = append(segment, someRequest(r, d, uint16(step))...)
			}
			log = append(log, segment...)
			if d.client(segment); !d.last.Verdict.Allows() {
				refused++
			}
			replies[i] = append(replies[i], c.take(d)...)
			if d.ended {
				sessions[i], replies[i] = scannerOf(t, plan, common, &ioLog{}), nil
				sessions[i].now = c.now
				continue
			}
			for len(replies[i]) > 0 && r.IntN(3) > 0 {
				n := 0
				if round%4 < 2 {
					n = r.IntN(len(replies[i]))
				}
				d.device(replies[i][n])
				replies[i] = append(replies[i][:n], replies[i][n+1:]...)
				if d.ended {
					sessions[i], replies[i] = scannerOf(t, plan, common, &ioLog{}), nil
					sessions[i].now = c.now
					break
				}
			}
		}
		if c.writes[directly] > 0 || c.writes[bySlot+1] > 0 {
			t.Fatalf("round %d: %d writes directly, %d by the other route, of %x", round, c.writes[directly], c.writes[bySlot+1], bytes.Clone(log))
		}
		written += c.writes[bySlot]
	}
	t.Logf("%d writes have arrived, %d segments were refused", written, refused)
	if written < rounds/10 || refused < rounds/10 {
		t.Errorf("%d writes have arrived and %d segments were refused: nothing is tried", written, refused)
	}
}
