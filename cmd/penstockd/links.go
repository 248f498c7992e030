package main

import (
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
)

// linkPatience is how long a port that came up may be without a link before that counts as lost: the two ends of a
// cable negotiate for seconds. Were it lost at once, the port that was let up again would take down the one whose link
// is back, and so on for ever.
const linkPatience = 10 * time.Second

// links tells for link-state pass-through what is lost from what is not there yet, by port, a first. It belongs to one
// goroutine.
type links struct {
	had   [2]bool      // a link, since it came up
	since [2]time.Time // it came up, or was looked at first
}

// step says what a look at the ports asks for, while the port of the side held is down over a link that the other one
// lost, SideAny where none is: to let that up again, because the link is back, or to take down the port beyond a side
// that has lost its link.
func (k *links) step(c *bridge.Condition, held policy.Side, now time.Time) (lost policy.Side, back bool) {
	for i := range sides {
		if c.Carrier[i] {
			k.had[i] = true
		}
		if !c.Present[i] || k.since[i].IsZero() {
			k.had[i], k.since[i] = c.Carrier[i], now
		}
	}
	if held != policy.SideAny {
		if back = c.Carrier[index(held.Other())]; back {
			k.had[index(held)], k.since[index(held)] = false, now
		}
		return policy.SideAny, back
	}
	for i, side := range sides {
		gone := !c.Present[i] || k.had[i] || now.Sub(k.since[i]) >= linkPatience
		if !c.Carrier[i] && gone && c.Present[1-i] {
			return side, false
		}
	}
	return policy.SideAny, false
}

var sides = [2]policy.Side{policy.SideA, policy.SideB}

func index(side policy.Side) int {
	if side == policy.SideB {
		return 1
	}
	return 0
}
