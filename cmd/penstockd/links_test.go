package main

import (
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/policy"
)

// cabled is a pair of physical ports: each has a link some seconds after it came up, or its cable did.
type cabled struct {
	since  [2]time.Time // it is up, with a cable; zero while it is not
	cable  [2]bool
	held   policy.Side
	turned int // times that a port was taken down or let up
}

const negotiation = 3 * time.Second

func (p *cabled) carrier(now time.Time) (has [2]bool) {
	for i, since := range p.since {
		has[i] = !since.IsZero() && now.Sub(since) >= negotiation
	}
	return has
}

func (p *cabled) plug(i int, cable bool, now time.Time) {
	p.cable[i], p.since[i] = cable, time.Time{}
	if cable && p.held != sides[i] {
		p.since[i] = now
	}
}

// follow does what the upkeep does, at each of its looks for so long.
func (p *cabled) follow(k *links, now *time.Time, for_ time.Duration) {
	for end := now.Add(for_); now.Before(end); *now = now.Add(upkeepInterval) {
		c := bridge.Condition{Present: [2]bool{true, true}, Carrier: p.carrier(*now)}
		switch lost, back := k.step(&c, p.held, *now); {
		case back:
			i := index(p.held)
			p.held = policy.SideAny
			p.plug(i, p.cable[i], *now)
			p.turned++
		case lost != policy.SideAny:
			p.held = lost.Other()
			p.since[index(p.held)] = time.Time{}
			p.turned++
		}
	}
}

// TestLinksThatNegotiateAreNotLost: a port that comes up has its link after some seconds only. Until then it takes down
// no other one, at a start as after a loss, or the two would take each other down for ever.
func TestLinksThatNegotiateAreNotLost(t *testing.T) {
	now := time.Unix(1000, 0)
	p, k := &cabled{}, &links{}
	p.plug(0, true, now)
	p.plug(1, true, now.Add(time.Second))
	p.follow(k, &now, 30*time.Second)
	if p.turned != 0 || p.carrier(now) != [2]bool{true, true} {
		t.Fatalf("at the start ports were turned %d times, links are %v", p.turned, p.carrier(now))
	}
	for i := range sides {
		p.turned = 0
		p.plug(i, false, now)
		p.follow(k, &now, 2*upkeepInterval)
		if p.held != sides[1-i] {
			t.Errorf("side %v lost its link, and held down is %v", sides[i], p.held)
		}
		p.follow(k, &now, 20*time.Second)
		p.plug(i, true, now)
		p.follow(k, &now, time.Minute)
		if p.turned != 2 || p.carrier(now) != [2]bool{true, true} {
			t.Errorf("side %v lost its link and has it again: ports were turned %d times, links are %v", sides[i], p.turned, p.carrier(now))
		}
	}
}

// TestLinksThatNeverComeAreLost: patience ends.
func TestLinksThatNeverComeAreLost(t *testing.T) {
	now := time.Unix(1000, 0)
	p, k := &cabled{}, &links{}
	p.plug(0, true, now)
	p.follow(k, &now, linkPatience+time.Second)
	if p.held != policy.SideA {
		t.Errorf("port b has no cable, and held down is %v", p.held)
	}
	p.plug(1, true, now)
	p.follow(k, &now, time.Minute)
	if p.turned != 2 || p.carrier(now) != [2]bool{true, true} {
		t.Errorf("with its cable ports were turned %d times, links are %v", p.turned, p.carrier(now))
	}
	c := bridge.Condition{Present: [2]bool{false, true}, Carrier: [2]bool{false, true}}
	if lost, _ := k.step(&c, policy.SideAny, now); lost != policy.SideA {
		t.Errorf("port a is gone, and lost is %v", lost)
	}
}
