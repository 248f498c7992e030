package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/outage"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/queue"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Events implements api.Backend.
func (d *daemon) Events() *event.Bus { return d.bus }

// Status implements api.Backend. What is not as it should be stands in the warnings, beside the
// good numbers.
func (d *daemon) Status(context.Context) (api.Status, error) {
	d.policies.mu.Lock()
	plan, version, since, confirm := d.policies.plan, d.policies.version, d.policies.since, byTheWall(d.policies.confirm, time.Now())
	warnings := append(append([]string{}, d.warnings...), d.policies.notes...)
	closed := d.policies.islandStatus(time.Now())
	d.policies.mu.Unlock()

	s := api.Status{
		Name: d.settings.Name, Version: buildVersion(), PID: os.Getpid(), Netns: d.settings.Netns, Started: d.started, Mode: plan.Mode.String(),
		Policy: api.PolicyStatus{Version: version.Number, Hash: plan.Hash, Site: plan.Site, Since: since, ConfirmBy: confirm},
		Ports:  d.portStatus(),
	}
	reasons, err := d.path.Reasons()
	if err != nil {
		return s, err
	}
	conduits, err := d.path.Conduits()
	if err != nil {
		return s, err
	}
	if warnings, err = d.deliveryStatus(s.Ports, warnings); err != nil {
		return s, err
	}
	s.Outage = d.outageStatus(reasons)
	s.Islands = closed
	bypass := d.bypass.Last()
	if text := bypassWarning(&bypass); text != "" {
		warnings = append(warnings, text)
	}
	for _, i := range closed {
		warnings = append(warnings, fmt.Sprintf("zone %s is closed since %s by %s", i.Zone, i.Since.Format(time.TimeOnly), i.Who))
	}
	for _, f := range s.Outage.Failures {
		if f.Active {
			warnings = append(warnings, fmt.Sprintf("%s since %s: %s", f.Class, f.Since.UTC().Format(time.TimeOnly), f.Detail))
		}
	}
	s.Conduits = d.conduitStatus(plan, conduits)
	for i := range plan.Conduits {
		if c := &plan.Conduits[i]; c.WaiverLapsed(time.Now()) {
			warnings = append(warnings, fmt.Sprintf("conduit %s opens in an outage by a waiver of %s that expired on %s",
				c.Name, c.Assurance.Waiver.Owner, c.Assurance.Waiver.Expires.Format(time.DateOnly)))
		}
	}
	tellBypassed(&s, bypass.State)
	s.Queues, warnings = d.queueStatus(warnings)
	s.IO.Open, s.IO.Refused = d.path.CountIO()
	s.IO.Refused += d.counters.IORefused.Load() + d.pinholes.refused.Load()
	if s.IO.Refused > 0 {
		warnings = append(warnings, fmt.Sprintf("%d I/O connections were permitted and could not be let through: they carry nothing", s.IO.Refused))
	}
	s.Events = d.eventStatus(reasons)
	if copied, lost, err := d.path.Copies(); err == nil && lost > 0 {
		warnings = append(warnings, fmt.Sprintf("%d of %d copies of observed frames found no room: what they held was not judged", lost, copied+lost))
	}
	if n := reasons[verdict.ReasonNoVerdict].Frames; n > 0 {
		warnings = append(warnings, fmt.Sprintf("marker and exit gate stopped %d frames that had no verdict", n))
	}
	if n, err := d.line.Unmarked(); err != nil {
		warnings = append(warnings, err.Error())
	} else if n > 0 {
		warnings = append(warnings, fmt.Sprintf("the netfilter rules stopped %d packets that had no verdict and no mark to wait for one", n))
	}
	if n := reasons[verdict.ReasonQueueFull].Frames; n > 0 {
		warnings = append(warnings, fmt.Sprintf("%d frames were denied as %v: their senders had as many waiting as one identity may", n, verdict.ReasonQueueFull))
	}
	if !d.deputy.running.Load() {
		warnings = append(warnings, "the stand-in does not run: an outage costs what waits in the queues of conduits that open as it begins")
	}
	if s.Outage.UninspectedFrames > 0 {
		warnings = append(warnings, fmt.Sprintf("%d frames passed uninspected", s.Outage.UninspectedFrames))
	}
	s.Warnings = warnings
	return s, nil
}

// bypassWarning says what people should know of the bypass, "" if nothing.
func bypassWarning(r *outage.Report) string {
	where := map[outage.State]string{
		outage.Engaged: "engaged: frames go past the appliance, and nothing is inspected or denied",
		outage.Blocked: "blocked: no frames pass",
	}[r.State]
	if r.State == outage.Unknown && r.Standing.Engaged {
		where = "meant to be engaged, and does not say whether it is"
	}
	if where == "" {
		return ""
	}
	text := "the bypass is " + where
	if r.Standing.Engaged {
		text += fmt.Sprintf("; since %s by %s", r.Standing.Since.UTC().Format(time.RFC3339), r.Standing.Who)
	}
	return text + ": penstock bypass release leads them through it again"
}

// tellBypassed enters what a bypass makes of the line, whatever inspection could do.
func tellBypassed(s *api.Status, bypass outage.State) {
	state := api.StateOpen
	switch bypass {
	case outage.Engaged:
	case outage.Blocked:
		state = api.StateClosed
	default:
		return
	}
	s.Outage.State = state
	for i := range s.Conduits {
		s.Conduits[i].State = state
	}
}

func (d *daemon) portStatus() []api.PortStatus {
	ports := []api.PortStatus{
		{Name: d.settings.PortA, Side: "a", Link: "missing", XDP: "none"},
		{Name: d.settings.PortB, Side: "b", Link: "missing", XDP: "none"},
	}
	_ = d.line.Namespace().Do(func() error {
		for i := range ports {
			ifi, err := net.InterfaceByName(ports[i].Name)
			if err != nil {
				continue
			}
			if modes := d.modes.Load(); modes != nil && ifi.Index == d.attached[i].Index { // else another that took the name
				ports[i].XDP = string(modes[i])
			}
			ports[i].Link = "down"
			if ifi.Flags&net.FlagRunning != 0 {
				ports[i].Link = "up"
			}
		}
		return nil
	})
	return ports
}

// deliveryStatus enters what the ports forwarded beside the conduits, and what was permitted and did
// not leave.
func (d *daemon) deliveryStatus(ports []api.PortStatus, warnings []string) ([]string, error) {
	for i, side := range []policy.Side{policy.SideA, policy.SideB} {
		var err error
		if ports[i].LinkControl, _, err = d.path.LinkControl(side); err != nil {
			return warnings, err
		}
		u, watched, err := d.path.Undelivered(side)
		if err != nil {
			return warnings, err
		}
		if !watched {
			continue
		}
		n := u.Refused + u.Dropped
		ports[i].Undelivered = &n
		if n > 0 {
			warnings = append(warnings, fmt.Sprintf("%d frames that were permitted did not leave port %s: %d found it down or were too long for it, for %d the device had no room",
				n, ports[i].Name, u.Refused, u.Dropped))
		}
	}
	return warnings, nil
}

// inspecting reports whether the verdict loop of a queue shows itself in time.
func (d *daemon) inspecting(q datapath.Queue) bool {
	return d.path.BeatAge(q) <= d.settings.HeartbeatTimeout
}

// allInspecting reports the same of all queues whose conduits open, or close. Where one does not,
// some flows of each such conduit are not inspected.
func (d *daemon) allInspecting(opens bool) bool {
	for _, q := range queuesOf(d.lanes) {
		if q.Opens() == opens && !d.inspecting(q) {
			return false
		}
	}
	return true
}

func (d *daemon) outageStatus(reasons [verdict.ReasonCount]datapath.ReasonCount) api.OutageStatus {
	s := api.OutageStatus{
		State:              api.StateInspecting,
		UninspectedFrames:  reasons[verdict.ReasonOutageOpen].Frames,
		UninspectedSeconds: d.watch.uninspected().Seconds(),
		Failures:           d.ledger.Failures(),
	}
	switch {
	case !d.allInspecting(true):
		s.State = api.StateOpen
	case !d.allInspecting(false):
		s.State = api.StateClosed
	}
	return s
}

func (d *daemon) conduitStatus(plan *policy.Plan, counts []datapath.ConduitCount) []api.ConduitStatus {
	var list []api.ConduitStatus
	for i := 1; i < len(plan.Conduits) && i < len(counts); i++ {
		c := &plan.Conduits[i]
		s := api.ConduitStatus{
			Name: c.Name, Protocol: c.Protocol.String(), Mode: c.Mode.String(), OnOutage: c.OnOutage.String(),
			State: d.conduitState(c), Allowed: counts[i].Allowed, Denied: counts[i].Denied,
			SLTarget: c.Assurance.SLTarget.String(), Essential: c.Assurance.Essential, SecondPath: c.Assurance.SecondPath,
			Waiver: waiverStatus(c.Assurance.Waiver, time.Now()),
		}
		if c.Inspect {
			// Of an inspected conduit people want to know about messages; its frames say nothing.
			messages := d.counters.Conduit(c.Name)
			s.Allowed = messages.Allowed.Load()
			s.Denied = counts[i].Denied + messages.Denied.Load()
		}
		list = append(list, s)
	}
	return list
}

func waiverStatus(w *policy.Waiver, now time.Time) *api.WaiverStatus {
	if w == nil {
		return nil
	}
	return &api.WaiverStatus{
		Owner: w.Owner, Expires: w.Expires.Format(time.DateOnly), Compensating: w.Compensating, Lapsed: w.Lapsed(now),
	}
}

func (d *daemon) conduitState(c *policy.Conduit) api.OutageState {
	opens, otherwise := false, api.StateClosed
	if c.OnOutage == policy.OutageOpen {
		opens, otherwise = true, api.StateOpen
	}
	switch {
	case !c.Inspect:
		return api.StateAddressOnly
	case c.Mode == policy.Enforce && !d.allInspecting(opens):
		return otherwise
	}
	return api.StateInspecting
}

func (d *daemon) queueStatus(warnings []string) ([]api.QueueStatus, []string) {
	var list []api.QueueStatus
	for _, i := range d.inspections {
		stats, err := i.queue.Stats()
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("queue %d: %v", i.netfilterNumber(), err))
		}
		q, remarks := describeQueue(i.netfilterNumber(), stats)
		list, warnings = append(list, q), append(warnings, remarks...)
		if n := i.misled.Load(); n > 0 {
			warnings = append(warnings, fmt.Sprintf("queue %d dropped %d packets that belong into another: the netfilter rules are not ours", i.netfilterNumber(), n))
		}
	}
	return list, warnings
}

// describeQueue counts what the kernel dropped because nobody had taken it in time beside what the
// verdict loop dropped: a full queue is the flood's doing or ours, and never the policy's.
func describeQueue(number uint16, stats queue.Stats) (api.QueueStatus, []string) {
	var warnings []string
	if stats.Lost > 0 {
		warnings = append(warnings, fmt.Sprintf("queue %d lost %d messages of the kernel: their packets were dropped", number, stats.Lost))
	}
	full := uint64(stats.QueueFull) + uint64(stats.UserDropped)
	if full > 0 {
		warnings = append(warnings, fmt.Sprintf("queue %d was full and dropped %d packets (%v)", number, full, verdict.ReasonQueueFull))
	}
	return api.QueueStatus{
		Number: number, Packets: stats.Packets + full, Dropped: stats.Dropped + full, Depth: uint64(stats.Depth),
	}, warnings
}

func (d *daemon) eventStatus(reasons [verdict.ReasonCount]datapath.ReasonCount) api.EventStatus {
	stats := d.bus.Stats()
	s := api.EventStatus{Published: stats.Published, Dropped: stats.Shed, Missed: stats.Missed}
	for _, r := range reasons {
		s.Dropped += r.EventsLost
	}
	return s
}
