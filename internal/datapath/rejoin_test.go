package datapath

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/policy"
)

// TestEvasion08NothingIsAdoptedAfterTheWindow: a segment in mid-stream that makes a new entry long
// after the start is no connection from before it. If it were told to the slow path as one, a
// client could have its inspected connection forgotten in the middle of a message (a reset that the
// slow path discards still closes the entry) and finish the message as another.
func TestEvasion08NothingIsAdoptedAfterTheWindow(t *testing.T) {
	for name, begin := range map[string]func(*Datapath){
		"never seen before": func(*Datapath) {},
		"forgotten on purpose": func(d *Datapath) {
			d.passes(t, policy.SideB, hmiTCP(40000, 502, flagSYN), 1)
			d.passes(t, policy.SideB, hmiTCP(40000, 502, flagRST), 1)
			d.age(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, plan())
			d.control.setAdoptUntil(0)
			begin(d)
			d.passes(t, policy.SideB, hmiTCP(40000, 502, flagACK), 1)
			f, ok := d.FlowByKey(d.keyOf(t, 40000))
			if !ok {
				return // denied in the fast path: safe as well
			}
			if f.Adopted {
				t.Error("the slow path is told that the connection is older than inspection")
			}
		})
	}
}
