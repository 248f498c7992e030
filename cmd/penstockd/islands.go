package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/store"
)

// islands are the zones that are closed for now, by name. They belong to policies and its lock. What
// closes a zone is no version of the policy: it ends, and the version in force is the same before,
// during and after. Times are as time.Now tells them, and compare by the clock that only goes forward: see told.
type islands struct {
	closed map[string]api.Island
	timer  *time.Timer
}

// keptIsland is a closed zone as the store has it. Until is by the clock of the wall, and counts where the deadline says
// nothing.
type keptIsland struct {
	api.Island
	deadline
}

// restoreIslands takes up what was closed when the daemon before ended. Whose time is over stays open.
func (p *policies) restoreIslands(now time.Time) {
	p.islands.closed = map[string]api.Island{}
	if p.store == nil {
		return
	}
	kept := map[string]keptIsland{}
	if err := p.store.State(store.StateIslands, &kept); err != nil {
		p.note("which zones were closed is not known, and all are open: %v", err)
		return
	}
	for zone, k := range kept {
		if end, ok := k.at(now); ok {
			k.Until = end
		}
		p.islands.closed[zone] = k.Island
	}
	p.expire(now)
}

// keepIslands has a restart know what is closed.
func (p *policies) keepIslands() error {
	kept, now := map[string]keptIsland{}, time.Now()
	for zone, i := range p.islands.closed {
		kept[zone] = keptIsland{told(i, now), deadlineOf(i.Until, now)}
	}
	return p.store.PutState(store.StateIslands, kept)
}

func (p *policies) expire(now time.Time) {
	maps.DeleteFunc(p.islands.closed, func(_ string, i api.Island) bool {
		return !i.Until.IsZero() && !now.Before(i.Until)
	})
}

// closing returns the policy as it is while zones are closed.
func (p *policies) closing(parsed *policy.Policy, closed map[string]api.Island) (*policy.Policy, error) {
	if len(closed) == 0 {
		return parsed, nil
	}
	return parsed.Island(p.appliance, slices.Sorted(maps.Keys(closed))...)
}

// CloseZone implements api.Backend.
func (p *policies) CloseZone(_ context.Context, zone, who string, within time.Duration) (api.Island, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	island := api.Island{Zone: zone, Who: who, Since: time.Now()}
	if within > 0 {
		island.Until = island.Since.Add(within)
	}
	closed := maps.Clone(p.islands.closed)
	closed[zone] = island
	return told(island, island.Since), p.setIslands(closed, fmt.Sprintf("zone %s is closed", zone), who)
}

// OpenZone implements api.Backend.
func (p *policies) OpenZone(_ context.Context, zone, who string) (api.Island, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	island, ok := p.islands.closed[zone]
	if !ok {
		return island, api.Refuse(api.CodeConflict, fmt.Errorf("the zone %q is not closed", zone))
	}
	closed := maps.Clone(p.islands.closed)
	delete(closed, zone)
	return told(island, time.Now()), p.setIslands(closed, fmt.Sprintf("zone %s is open again", zone), who)
}

// setIslands puts the policy in force anew with other zones closed. The line comes first: that the
// store could not be told is said beside it. Callers hold the lock.
func (p *policies) setIslands(closed map[string]api.Island, what, who string) error {
	parsed, err := p.parsedInForce()
	if err != nil {
		return err
	}
	island, err := p.closing(parsed, closed)
	if err != nil {
		return api.Refuse(api.CodeConflict, err)
	}
	plan, err := island.Compile(p.appliance)
	if err != nil {
		return err
	}
	if _, err := p.path.Apply(plan, p.version.Number); err != nil {
		return fmt.Errorf("%w: nothing has changed", err)
	}
	p.plan, p.islands.closed = plan, closed
	p.awaitIslands()
	p.log.Warn("island: "+what, "who", who)
	p.tell(what + " by " + who)
	if p.store == nil {
		return nil
	}
	if err := p.keepIslands(); err != nil {
		return fmt.Errorf("%s, and a restart will not know of it: %w", what, err)
	}
	return nil
}

// parsedInForce reads the version in force once more: without zones closed, and as the store or the
// daemon's memory has it.
func (p *policies) parsedInForce() (*policy.Policy, error) {
	if p.raw == nil {
		return nil, errors.New("no policy is in force")
	}
	return policy.Parse(p.version.Name, p.raw)
}

// awaitIslands ends what has a time when that is over. Callers hold the lock.
func (p *policies) awaitIslands() {
	if p.islands.timer != nil {
		p.islands.timer.Stop()
		p.islands.timer = nil
	}
	var next time.Time
	for _, i := range p.islands.closed {
		if !i.Until.IsZero() && (next.IsZero() || i.Until.Before(next)) {
			next = i.Until
		}
	}
	if next.IsZero() {
		return
	}
	p.islands.timer = time.AfterFunc(time.Until(next), p.endIslands)
}

// islandRetry is when an end that failed is tried again.
const islandRetry = 10 * time.Second

func (p *policies) endIslands() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	closed, now := maps.Clone(p.islands.closed), time.Now()
	maps.DeleteFunc(closed, func(_ string, i api.Island) bool { return !i.Until.IsZero() && !now.Before(i.Until) })
	if len(closed) == len(p.islands.closed) {
		p.awaitIslands() // the clock of the wall was set back
		return
	}
	if err := p.setIslands(closed, "zones are open again, their time is over", "timer"); err != nil {
		p.log.Error("a zone could not be opened again", "error", err)
		p.islands.timer = time.AfterFunc(islandRetry, p.endIslands)
	}
}

// islandStatus lists what is closed, by zone. Callers hold the lock.
func (p *policies) islandStatus(now time.Time) []api.Island {
	list := make([]api.Island, 0, len(p.islands.closed))
	for _, i := range p.islands.closed {
		list = append(list, told(i, now))
	}
	slices.SortFunc(list, func(a, b api.Island) int { return cmp.Compare(a.Zone, b.Zone) })
	return list
}

// told is an island as others are told of it.
func told(i api.Island, now time.Time) api.Island {
	i.Since, i.Until = i.Since.UTC(), byTheWall(i.Until, now)
	return i
}

// compileBack compiles a policy to go back to. One that cannot keep the closed zones closed, because it
// has no such zone or only observes, is gone back to all the same, with all zones open: a trial that
// nobody confirmed must not stay in force over that. opens says why they are, nil where they are not. Callers hold the lock.
func (p *policies) compileBack(name string, raw []byte) (c candidate, opens, err error) {
	c, err = p.compile(name, raw, p.islands.closed)
	if err == nil || len(p.islands.closed) == 0 {
		return c, nil, err
	}
	opens = err
	if c, err = p.compile(name, raw, nil); err != nil {
		return c, nil, err
	}
	return c, opens, nil
}

// openAll forgets what was closed, when the policy in force has it open already. Callers hold the lock.
func (p *policies) openAll(why string) {
	p.note("zones that were closed are open: %s", why)
	p.islands.closed = map[string]api.Island{}
	p.awaitIslands()
	if p.store == nil {
		return
	}
	if err := p.keepIslands(); err != nil {
		p.note("a restart will close them again where it can: %v", err)
	}
}
