package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/internal/policy"
)

// TestOpeningsUnderWayDoNotDoubtEachOther: after an outage a plant's clients open all their connections at once, and
// each is known by its route when the replies come, whoever else has asked for what in between. Of one that was asked
// for again nobody knows, also where many have asked since.
func TestOpeningsUnderWayDoNotDoubtEachOther(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	s := d.pipeline.connections[testKey].session.(*enipSession)
	named := s.dissector.named
	triad := func(i int) cip.Triad { return cip.Triad{Serial: uint16(i), Vendor: 7, OriginatorSerial: 1} }
	const underWay = 600
	var list []*enipConnection
	for i := range underWay {
		list = append(list, &enipConnection{toTarget: uint32(i), triad: triad(i), asked: s.doubt(triad(i))})
	}
	again := list[3]
	s.doubt(again.triad)
	doubted := 0
	for _, c := range list {
		if named.open(s, c); c != again && c.elsewhere.Load() {
			doubted++
		}
	}
	if doubted > 0 {
		t.Errorf("of %d connections %d lead nobody knows where", underWay, doubted)
	}
	if !again.elsewhere.Load() {
		t.Error("one that was asked for twice leads where the first was to")
	}
	// Whoever asks for more than is remembered makes nobody believe what may be wrong.
	late := &enipConnection{toTarget: 5000, triad: triad(5000), asked: s.doubt(triad(5000))}
	s.doubt(late.triad)
	for i := range 60000 {
		s.doubt(triad(5001 + i))
	}
	if named.open(s, late); !late.elsewhere.Load() {
		t.Error("one that was asked for twice is believed once much else was asked for")
	}
}
