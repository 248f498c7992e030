package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath"
	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

const (
	recordsPending   = 1024 // between the verdict loops and the bus; more are shed and counted
	recordsPerSecond = 256  // by each loop, for each reason
)

// recorder turns verdicts into events. The verdict loops hand over what they decided and go on;
// the kernel has its answer before anybody reads of it, and where nobody keeps up the event is
// shed and counted.
type recorder struct {
	path      *datapath.Datapath
	bus       *event.Bus
	inventory *inventory
	pending   chan event.Event
}

func newRecorder(path *datapath.Datapath, bus *event.Bus, v *inventory) *recorder {
	return &recorder{path: path, bus: bus, inventory: v, pending: make(chan event.Event, recordsPending)}
}

// run publishes until done is closed, and then what is left.
func (r *recorder) run(done <-chan struct{}) {
	for {
		select {
		case e := <-r.pending:
			r.bus.Publish(e)
		case <-done:
			for {
				select {
				case e := <-r.pending:
					r.bus.Publish(e)
				default:
					return
				}
			}
		}
	}
}

func (r *recorder) hand(e event.Event) {
	select {
	case r.pending <- e:
	default:
		r.bus.Shed(1)
	}
}

// limiter lets through so many records a second for each reason. It belongs to one loop.
type limiter struct {
	second int64
	told   [verdict.ReasonCount]int
}

func (l *limiter) allow(now time.Time, reason verdict.Reason) bool {
	if s := now.Unix(); s != l.second {
		*l = limiter{second: s}
	}
	if int(reason) >= len(l.told) {
		return false
	}
	l.told[reason]++
	return l.told[reason] <= recordsPerSecond
}

// judgement records what a pipeline decided on a packet: each message that it denied, each that
// changes a device, and a packet that was denied without being a message.
func (r *recorder) judgement(l *limiter, p *inspect.Packet, j *inspect.Judgement) {
	r.inventory.judged(p, j)
	denied := !j.Verdict.Allows()
	for i := range j.Messages {
		m := &j.Messages[i]
		if m.Envelope || m.Verdict.Allows() && !m.Changes() {
			continue // the services that an envelope carries say what became of it
		}
		denied = denied && m.Verdict.Allows()
		if !l.allow(p.Time, m.Verdict.Reason) {
			r.bus.Shed(1)
			continue
		}
		e := r.packetEvent(p, j, m.Verdict)
		e.Protocol, e.Operation, e.Detail = m.ProtocolName(), m.Operation(), m.Detail()
		r.hand(e)
	}
	if !denied {
		return
	}
	if !l.allow(p.Time, j.Verdict.Reason) {
		r.bus.Shed(1)
		return
	}
	r.hand(r.packetEvent(p, j, j.Verdict))
}

// packetEvent is an event about one packet, without what its message says.
func (r *recorder) packetEvent(p *inspect.Packet, j *inspect.Judgement, v verdict.Verdict) event.Event {
	e := event.Event{
		Time: p.Time, Mode: modeOf(p.Observed), Layer: event.LayerInspect,
		Verdict: v.Action, Reason: v.Reason,
	}
	if plan := j.Flow.Plan; plan != nil {
		e.Policy = r.path.VersionOf(plan)
		from, to := j.Flow.Source, j.Flow.Destination
		if p.From != j.Flow.Initiator {
			from, to = to, from
		}
		e.Source, e.Destination = identityName(plan, from), identityName(plan, to)
		e.Conduit = conduitName(plan, j.Flow.Conduit)
		if int(j.Flow.Conduit) < len(plan.Conduits) {
			e.Protocol = plan.Conduits[j.Flow.Conduit].Protocol.String()
		}
	}
	var f frame.Frame
	var d frame.Decoder
	if d.IP(p.IP, &f) == nil {
		e.SourceAddress, e.DestinationAddress = f.Source().String(), f.Destination().String()
	}
	return e
}

// ended records a connection that the pipeline ended without a packet.
func (r *recorder) ended(now time.Time, ended *inspect.Ended, w *datapath.Flow) {
	e := event.Event{
		Time: now, Mode: event.ModeEnforce, Layer: event.LayerInspect,
		Verdict: verdict.Deny, Reason: ended.Reason, Detail: ended.Detail,
	}
	_, e.Policy, _ = r.path.Plan(r.path.Generation())
	if plan := ended.Flow.Plan; plan != nil {
		e.Source, e.Destination = identityName(plan, ended.Flow.Source), identityName(plan, ended.Flow.Destination)
		e.Conduit = conduitName(plan, ended.Flow.Conduit)
	}
	if w != nil {
		from, to := ends(w)
		e.SourceAddress = netip.AddrPortFrom(from.Address, from.Port).String()
		e.DestinationAddress = netip.AddrPortFrom(to.Address, to.Port).String()
	}
	r.hand(e)
}

// frameEvent is what the fast path told, in the names of the policy that decided.
func (r *recorder) frameEvent(d *datapath.Event) event.Event {
	e := event.Event{
		Time: d.Time, Mode: modeOf(d.Observed), Layer: event.LayerXDP,
		Verdict: d.Verdict.Action, Reason: d.Verdict.Reason,
		SourceMAC:      net.HardwareAddr(d.SourceMAC[:]).String(),
		DestinationMAC: net.HardwareAddr(d.DestinationMAC[:]).String(),
		Protocol:       protocolOf(d),
	}
	if e.Verdict == verdict.Inspect {
		e.Verdict = verdict.Allow // a new connection that the slow path will look into
	}
	plan, version, ok := r.path.Plan(d.Generation)
	if ok {
		e.Policy = version
		e.Source, e.Destination = identityName(plan, d.Source), identityName(plan, d.Destination)
		e.Conduit = conduitName(plan, d.Conduit)
	}
	if len(d.VLANs) > 0 {
		e.VLAN = d.VLANs[0]
	}
	e.SourceAddress = addressOf(d.SourceIP, d.SourcePort, d.Protocol, e.SourceMAC)
	e.DestinationAddress = addressOf(d.DestinationIP, d.DestinationPort, d.Protocol, e.DestinationMAC)
	e.Detail = frameDetail(d)
	return e
}

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
	etherTypeARP   = 0x0806
)

func addressOf(a netip.Addr, port uint16, protocol uint8, mac string) string {
	switch {
	case !a.IsValid():
		return mac
	case protocol == protocolTCP || protocol == protocolUDP:
		return netip.AddrPortFrom(a, port).String()
	}
	return a.String()
}

func protocolOf(d *datapath.Event) string {
	switch {
	case d.EtherType == etherTypeARP:
		return "arp"
	case !d.SourceIP.IsValid() && d.EtherType == 0:
		return "llc"
	case !d.SourceIP.IsValid():
		return fmt.Sprintf("ethertype 0x%04x", d.EtherType)
	}
	return transportName(d.Protocol)
}

// transportName names a protocol of IP.
func transportName(protocol uint8) string {
	switch protocol {
	case protocolICMP:
		return "icmp"
	case protocolICMPv6:
		return "icmpv6"
	case protocolTCP:
		return "tcp"
	case protocolUDP:
		return "udp"
	}
	return "ip " + strconv.Itoa(int(protocol))
}

func frameDetail(d *datapath.Event) string {
	side := "a"
	if d.Side == policy.SideB {
		side = "b"
	}
	detail := "on port " + side
	switch d.Protocol {
	case protocolICMP, protocolICMPv6:
		detail += ", type " + strconv.Itoa(int(d.ICMPType))
	}
	return detail
}

func modeOf(observed bool) event.Mode {
	if observed {
		return event.ModeObserve
	}
	return event.ModeEnforce
}

func identityName(plan *policy.Plan, id uint32) string {
	if id == 0 || int(id) >= len(plan.Identities) {
		return ""
	}
	return plan.Identities[id].Name
}

func conduitName(plan *policy.Plan, id uint32) string {
	if id == 0 || int(id) >= len(plan.Conduits) {
		return ""
	}
	return plan.Conduits[id].Name
}
