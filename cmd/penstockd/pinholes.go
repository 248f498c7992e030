package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// pinholes tells the fast path of the I/O connections that the pipelines have seen opened and closed: the
// kernel knows of a connection before the reply that opens it has its verdict, so that no cyclic frame
// is faster. Methods are safe for concurrent use.
type pinholes struct {
	path    *datapath.Datapath
	records *recorder
	log     *slog.Logger

	refused atomic.Uint64 // connections that the fast path was not even asked to open

	mu         sync.Mutex
	open       map[inspect.IOConnectionID]uint32 // as the fast path numbers them
	complained time.Time
}

func newPinholes(path *datapath.Datapath, records *recorder, log *slog.Logger) *pinholes {
	return &pinholes{path: path, records: records, log: log, open: map[inspect.IOConnectionID]uint32{}}
}

// Open implements inspect.IOConnections. Where the fast path cannot take the connection, its ends
// find no way through and give it up; that is told and counted. One that is only observed and would have been
// denied is none of that: its frames pass, and are told of one by one.
func (p *pinholes) Open(c inspect.IOConnection) {
	if c.Denied {
		p.Forget(c.ID.Key, c.Triad)
		return
	}
	w, ok := p.path.FlowByKey(uint32(c.ID.Key))
	if !ok {
		p.refused.Add(1)
		p.complain(errors.New("its flow is not known any more"))
		return
	}
	opened, err := ioConnectionOf(&c, &w)
	if err != nil {
		p.refused.Add(1)
	} else {
		opened.ID, err = p.path.OpenIO(opened)
	}
	if err != nil {
		p.complain(err)
		p.records.ioRefused(&c, &w, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c.ID] = opened.ID
}

// Refused implements inspect.IOConnections.
func (p *pinholes) Refused(c inspect.IOConnection) {
	p.complain(datapath.ErrIOQuota)
	if w, ok := p.path.FlowByKey(uint32(c.ID.Key)); ok {
		p.records.ioRefused(&c, &w, datapath.ErrIOQuota)
	}
}

// Close implements inspect.IOConnections.
func (p *pinholes) Close(id inspect.IOConnectionID, why inspect.IOEnd) {
	p.mu.Lock()
	opened, ok := p.open[id]
	delete(p.open, id)
	p.mu.Unlock()
	if ok {
		p.path.CloseIOByID(opened, ioEndOf(why))
	}
}

func ioEndOf(why inspect.IOEnd) string {
	switch why {
	case inspect.IOReplaced:
		return datapath.IOReplaced
	case inspect.IOSessionLost:
		return datapath.IOSessionOver
	case inspect.IOSilent:
		return datapath.IOTimedOut
	}
	return datapath.IOClosed
}

// Forget implements inspect.IOConnections: after a restart connections are open that were opened under
// the daemon before.
func (p *pinholes) Forget(key uint64, t cip.Triad) {
	if w, ok := p.path.FlowByKey(uint32(key)); ok {
		_, to := ends(&w)
		p.path.CloseIO(datapath.IOEnd{MAC: to.MAC, Address: to.Address}, datapath.IOTriad(t))
	}
}

// Lives implements inspect.IOConnections.
func (p *pinholes) Lives(id inspect.IOConnectionID) bool {
	p.mu.Lock()
	opened, ok := p.open[id]
	p.mu.Unlock()
	return ok && p.path.IOIsOpen(opened)
}

func (p *pinholes) complain(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.complained) >= complaintInterval {
		p.complained = now
		p.log.Warn("an I/O connection was permitted and cannot pass", "error", err)
	}
}

// ioConnectionOf is a connection as the fast path takes it. w is the flow that opened it. It fails for
// one that would lead elsewhere than between the flow's ends, on the port of I/O.
func ioConnectionOf(c *inspect.IOConnection, w *datapath.Flow) (datapath.IOConnection, error) {
	from, to := ends(w)
	out := datapath.IOConnection{
		Side:       w.Initiator,
		Originator: datapath.IOEnd{MAC: from.MAC, Address: from.Address},
		Target:     datapath.IOEnd{MAC: to.MAC, Address: to.Address},
		Tags:       w.Tags, Session: w, Opened: c.Opened,
		Triad:   datapath.IOTriad(c.Triad),
		Opening: appendOpening(nil, c.Route, c.Opening),
	}
	var err error
	if out.Output, err = ioDirectionOf(&c.OriginatorToTarget, c.Multiplier, to.Address); err != nil {
		return out, fmt.Errorf("originator to target: %w", err)
	}
	if out.Input, err = ioDirectionOf(&c.TargetToOriginator, c.Multiplier, from.Address); err != nil {
		return out, fmt.Errorf("target to originator: %w", err)
	}
	return out, nil
}

func ioDirectionOf(d *inspect.IODirection, multiplier uint16, to netip.Addr) (datapath.IODirection, error) {
	if d.Type == inspect.IONone {
		return datapath.IODirection{}, nil
	}
	out := datapath.IODirection{
		Connection: d.ConnectionID, Size: d.Size, Variable: d.Variable,
		Timeout: max(d.Interval, d.Requested) * time.Duration(multiplier),
	}
	switch {
	case d.Destination.IsValid() && d.Destination.Port() != policy.IOPort:
		return out, fmt.Errorf("it is sent to port %d, and I/O passes to %d", d.Destination.Port(), policy.IOPort)
	case d.Type == inspect.IOMulticast:
		out.Group = d.Destination.Addr()
		if !out.Group.IsMulticast() {
			return out, fmt.Errorf("it is multicast, and sent to %v", out.Group)
		}
	case d.Destination.IsValid() && d.Destination.Addr() != to:
		return out, fmt.Errorf("it is sent to %v, and the other end is %v", d.Destination.Addr(), to)
	case out.Timeout <= 0:
		return out, errors.New("it has no packet interval")
	}
	return out, nil
}

// judgeIO asks a plan whether it permits what opened an I/O connection, as when it was opened, and whether
// the connection may outlive its session.
func judgeIO(plan *policy.Plan, conduit uint32, c *datapath.IOConnection) (permitted, outlives bool) {
	route, opening, ok := readOpening(c.Opening)
	if !ok || !plan.PermitsOpening(conduit, opening, route) {
		return false, false
	}
	return true, plan.OutlivesSession(conduit, opening, route)
}

// appendOpening writes down what opened a connection: how many hops led to its target, each as port, link,
// whether it has another address, and the length of the IP address and the address; then the request.
func appendOpening(b []byte, route []cip.Hop, opening []byte) []byte {
	b = append(b, byte(len(route)))
	for _, hop := range route {
		other := byte(0)
		if hop.Other {
			other = 1
		}
		address := hop.Address.AsSlice()
		b = append(binary.BigEndian.AppendUint16(b, hop.Port), hop.Link, other, byte(len(address)))
		b = append(b, address...)
	}
	return append(b, opening...)
}

func readOpening(b []byte) (route []cip.Hop, opening []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	n := int(b[0])
	for b = b[1:]; n > 0; n-- {
		if len(b) < 5 || len(b) < 5+int(b[4]) {
			return nil, nil, false
		}
		hop := cip.Hop{Port: binary.BigEndian.Uint16(b), Link: b[2], Other: b[3] != 0}
		hop.Address, _ = netip.AddrFromSlice(b[5 : 5+int(b[4])])
		route, b = append(route, hop), b[5+int(b[4]):]
	}
	return route, b, len(b) > 0
}

// ioSweepInterval is how often connections are looked for that are over. The kernel goes by the
// watchdogs itself; this makes room, and notices the end of sessions.
const ioSweepInterval = 250 * time.Millisecond

// sweepIO removes I/O connections that are over, and tells of those that a policy ended.
func (d *daemon) sweepIO() error {
	tick := time.NewTicker(ioSweepInterval)
	defer tick.Stop()
	var told time.Time
	for {
		select {
		case <-d.done:
			return nil
		case now := <-tick.C:
			ended, err := d.path.SweepIO()
			if err != nil && now.Sub(told) > time.Minute {
				told = now
				d.log.Warn("I/O connections could not be looked through", "error", err)
			}
			for i := range ended {
				d.records.ioEnded(now, &ended[i])
			}
		}
	}
}

// ioEnded records a connection that a policy ended, or that went with its session: its ends may think that it
// goes on. What they close themselves, or give up, is theirs.
func (r *recorder) ioEnded(now time.Time, e *datapath.IOEnded) {
	if e.Why != datapath.IOForbidden && e.Why != datapath.IOSessionOver {
		return
	}
	c := &e.Connection
	out := event.Event{
		Time: now, Mode: event.ModeEnforce, Layer: event.LayerXDP, Verdict: verdict.Deny, Reason: verdict.ReasonIONotOpen,
		Protocol:           policy.ProtocolENIP.String(),
		SourceAddress:      netip.AddrPortFrom(c.Originator.Address, policy.IOPort).String(),
		DestinationAddress: netip.AddrPortFrom(c.Target.Address, policy.IOPort).String(),
		Detail:             "I/O connection ended: " + e.Why,
	}
	_, out.Policy, _ = r.path.Plan(r.path.Generation())
	r.hand(out)
}

// ioRefused records a connection that was permitted and that the fast path could not take.
func (r *recorder) ioRefused(c *inspect.IOConnection, w *datapath.Flow, why error) {
	reason := verdict.ReasonIONotOpen
	if errors.Is(why, datapath.ErrIOFull) || errors.Is(why, datapath.ErrIOQuota) {
		reason = verdict.ReasonTableFull
	}
	from, to := ends(w)
	e := event.Event{
		Time: c.Opened, Mode: event.ModeEnforce, Layer: event.LayerInspect, Verdict: verdict.Deny, Reason: reason,
		Protocol:           policy.ProtocolENIP.String(),
		SourceAddress:      netip.AddrPortFrom(from.Address, from.Port).String(),
		DestinationAddress: netip.AddrPortFrom(to.Address, to.Port).String(),
		Detail:             why.Error(),
	}
	if plan := c.Flow.Plan; plan != nil {
		e.Policy = r.path.VersionOf(plan)
		e.Source, e.Destination = identityName(plan, c.Flow.Source), identityName(plan, c.Flow.Destination)
		e.Conduit = conduitName(plan, c.Flow.Conduit)
	}
	r.hand(e)
}
