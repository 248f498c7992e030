package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const (
	// upkeepInterval is how often the line is looked at. A sender repeats what was lost first after
	// 200 ms (the kernel's least retransmission time): what is mended sooner is hardly noticed.
	upkeepInterval = 50 * time.Millisecond
	// settingsInterval is how often every single setting is compared, which takes longer.
	settingsInterval = 5 * time.Second
	// countersInterval is over which counters tell that something is happening.
	countersInterval = time.Second
	// clockJump is how far the clock of the wall may drift from the other one between two looks.
	clockJump = time.Second
)

// upkeep looks after what stands in the kernel, where others with rights can take it away: it mends
// what it can, and says so. It works beside the verdict loops, and neither waits for the other. It
// belongs to one goroutine; only its ledger is read by others.
type upkeep struct {
	*daemon
	settingsAt, countersAt time.Time
	began                  time.Time     // the daemon, by the clock that only goes forward
	wall                   time.Time     // of the last look
	forward                time.Duration // since it began, at the last look
	counted                *counted      // at the last comparison; nil before the first
	complaints             complaints
	links                  links
}

// counted are counters whose growth is a failure.
type counted struct{ full, netlink, table uint64 }

// keepUp works until stop is closed.
func (d *daemon) keepUp(stop <-chan struct{}) error {
	u := &upkeep{daemon: d, began: time.Now(), settingsAt: time.Now(), complaints: complaints{}}
	changes, err := d.line.Changes(d.done)
	if err != nil {
		return err
	}
	tick := time.NewTicker(upkeepInterval)
	defer tick.Stop()
	for {
		u.look(time.Now())
		select {
		case <-stop:
			return u.letUp()
		case <-changes:
		case <-d.missed:
		case <-tick.C:
		}
	}
}

// lookNow has the line looked at before the next tick: frames are stopped because something of ours is not
// where it belongs. It does not wait.
func (d *daemon) lookNow() {
	select {
	case d.missed <- struct{}{}:
	default:
	}
}

// look is one round.
func (u *upkeep) look(now time.Time) {
	u.lookAtClock(now, now.Sub(u.began))
	u.lineMu.Lock()
	if !u.bare {
		u.lookAtPrograms(now)
	}
	u.lookAtLine(now)
	u.lineMu.Unlock()
	if now.Sub(u.countersAt) >= countersInterval {
		u.countersAt = now
		u.lookAtCounters(now)
	}
}

// lookAtClock compares the clock that people read with one that only goes forward, which shows the time
// since some moment. Nothing of the line depends on the first: heartbeats, flows and limits are measured
// by the other.
func (u *upkeep) lookAtClock(wall time.Time, forward time.Duration) {
	wall = wall.Round(0)
	if !u.wall.IsZero() {
		jump := wall.Sub(u.wall) - (forward - u.forward)
		if jump.Abs() > clockJump {
			u.ledger.Happened(outage.ClockJumped, fmt.Sprintf("by %v: times of events before and after do not compare", jump.Round(time.Millisecond)), wall)
		}
	}
	u.wall, u.forward = wall, forward
}

// lookAtPrograms comes before anything that lets frames through again.
func (u *upkeep) lookAtPrograms(now time.Time) {
	if u.path.Attached(u.attached[0], u.attached[1]) {
		return
	}
	var repaired []string
	err := u.line.Do(func() (err error) {
		repaired, err = u.path.Reattach(u.attached[0], u.attached[1])
		return err
	})
	if len(repaired) > 0 {
		u.mended(outage.ProgramRemoved, repaired, now)
	}
	if err != nil {
		u.complain(outage.ProgramRemoved, err, now)
	}
}

func (u *upkeep) lookAtLine(now time.Time) {
	c, err := u.line.Look()
	if err != nil {
		u.complain(outage.BridgeRemoved, err, now)
		return
	}
	u.lookAtLinks(&c, now)
	if !c.Present[0] || !c.Present[1] {
		return // without its ports there is no line to mend
	}
	if len(c.Broken) == 0 && now.Sub(u.settingsAt) < settingsInterval {
		return
	}
	u.settingsAt = now
	repaired, err := u.line.Repair()
	if len(repaired) > 0 {
		u.mended(classOf(repaired), repaired, now)
	}
	if err != nil {
		u.complain(outage.BridgeRemoved, err, now)
	}
}

// classOf tells by what was mended what had failed: the gravest of it.
func classOf(repaired []string) outage.Class {
	class := outage.SettingChanged
	for _, what := range repaired {
		switch {
		case strings.HasPrefix(what, "bridge ") || strings.HasPrefix(what, "place of ") || strings.HasSuffix(what, " up"):
			return outage.BridgeRemoved
		case what == "netfilter rules":
			class = outage.RuleRemoved
		}
	}
	return class
}

// lookAtLinks follows the ports' links, and passes the loss of one on to the other side where the
// settings ask for it.
func (u *upkeep) lookAtLinks(c *bridge.Condition, now time.Time) {
	var missing, down []string
	for i, port := range u.attached {
		switch {
		case !c.Present[i]:
			missing = append(missing, port.Name)
		case !c.Carrier[i] && sides[i] != u.line.Held():
			down = append(down, port.Name)
		}
	}
	u.ledger.Note(outage.PortMissing, len(missing) > 0, strings.Join(missing, ", "), now)
	u.ledger.Note(outage.LinkDown, len(down) > 0, strings.Join(down, ", "), now)
	if !u.settings.LinkPassThrough {
		return
	}
	var err error
	held := u.line.Held()
	switch lost, back := u.links.step(c, held, now); {
	case back:
		u.log.Info("the link is back, and the other port up again", "port", u.line.Layout().Port(held.Other()))
		err = u.line.LetUp()
	case lost != policy.SideAny:
		err = u.passOn(lost)
	}
	if err != nil {
		u.complain(outage.LinkDown, err, now)
	}
}

// letUp brings the port up again that is held down: with the daemon goes who would when the link is back.
func (u *upkeep) letUp() error {
	u.lineMu.Lock()
	defer u.lineMu.Unlock()
	if err := u.line.LetUp(); err != nil {
		u.log.Error("a port that was taken down over a lost link stays down", "error", err)
	}
	return nil
}

// passOn takes the other port down over a link that was lost.
func (u *upkeep) passOn(lost policy.Side) error {
	u.log.Warn("a port has lost its link, and the other one is taken down with it", "port", u.line.Layout().Port(lost))
	return u.line.HoldDown(lost.Other())
}

// storeInterval is how often a store that failed is tried.
const storeInterval = 10 * time.Second

// watchFiles follows what is read and written, until stop is closed. It may wait for a disk, or for who waits for one,
// and nothing of the line waits for it.
func (d *daemon) watchFiles(stop <-chan struct{}) error {
	tick := time.NewTicker(countersInterval)
	defer tick.Stop()
	var tried time.Time // the store
	for {
		d.policies.mu.Lock()
		invalid := d.fileErr
		d.policies.mu.Unlock()
		now := time.Now()
		d.ledger.Note(outage.PolicyInvalid, invalid != nil, firstLine(invalid), now)
		switch {
		case d.store == nil:
			d.ledger.Note(outage.StoreFailed, true, "it could not be opened", now)
		case now.Sub(tried) >= storeInterval:
			tried = now
			err := d.store.Failing()
			d.ledger.Note(outage.StoreFailed, err != nil, firstLine(err), now)
		}
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
}

// firstLine is the beginning of an error that may be long, such as that of a policy with many mistakes.
func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// lookAtCounters finds failures that only show in numbers.
func (u *upkeep) lookAtCounters(now time.Time) {
	var c counted
	for _, i := range u.inspections {
		stats, err := i.queue.Stats()
		if err != nil {
			continue
		}
		c.full += uint64(stats.QueueFull) + uint64(stats.UserDropped)
		c.netlink += stats.Lost + stats.SendErrors + stats.Unparseable
	}
	if reasons, err := u.path.Reasons(); err == nil {
		c.table = reasons[verdict.ReasonTableFull].Frames
		c.full += reasons[verdict.ReasonQueueFull].Frames
	}
	u.compare(c, now)
}

// compare notes what has grown since the last time. The first time tells nothing: counters go on across daemons.
func (u *upkeep) compare(c counted, now time.Time) {
	was := c
	if u.counted != nil {
		was = *u.counted
	}
	u.counted = &c
	for _, row := range []struct {
		class    outage.Class
		was, now uint64
		what     string
	}{
		{outage.QueueFull, was.full, c.full, "packets dropped"},
		{outage.NetlinkError, was.netlink, c.netlink, "messages lost or refused"},
		{outage.TableFull, was.table, c.table, "frames denied"},
	} {
		u.ledger.Note(row.class, row.now > row.was, fmt.Sprintf("%d %s within a second", row.now-row.was, row.what), now)
	}
}

func (u *upkeep) mended(class outage.Class, repaired []string, now time.Time) {
	u.ledger.Happened(class, "somebody changed what is ours, and it was repaired: "+strings.Join(repaired, ", "), now)
}

func (u *upkeep) complain(class outage.Class, err error, now time.Time) {
	if u.complaints.due(err, now) {
		u.ledger.Happened(class, "it cannot be repaired: "+err.Error(), now)
	}
}

// complaints are of what cannot be mended, by text, and when they were told last. They belong to one goroutine.
type complaints map[string]time.Time

// complaintAgain is how often the same failure that cannot be mended is told.
const complaintAgain = time.Minute

// due reports whether an error is to be told now, and takes it for told.
func (c complaints) due(err error, now time.Time) bool {
	if told, ok := c[err.Error()]; ok && now.Sub(told) < complaintAgain {
		return false
	}
	if len(c) > 32 {
		clear(c)
	}
	c[err.Error()] = now
	return true
}

// failed tells of a failure as it begins and as it ends.
func (d *daemon) tellFailure(f outage.Failure) {
	if f.Active {
		d.log.Warn("failure: "+string(f.Class), "detail", f.Detail)
	} else {
		d.log.Info("over: "+string(f.Class), "lasted", f.Until.Sub(f.Since).Round(time.Millisecond).String())
	}
}
