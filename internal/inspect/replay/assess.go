package replay

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/inspect"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// Assessment is the object of `penstock assess --json`. Messages is Allowed and Denied together.
//
// On an inspected conduit each request and each reply counts as one message, and so does each
// segment that is denied before it is read (a bad checksum, an overlap). Traffic that is decided by
// its header counts once a conversation (both ends, VLANs and protocol), however many frames
// it has: the first frame is what the appliance would have decided on, and after a denied first
// frame the others would not have come.
type Assessment struct {
	Messages uint64 `json:"messages"`
	Allowed  uint64 `json:"allowed"`
	Denied   uint64 `json:"denied"`
	// Unjudged counts segments of inspected conversations that could not be read because the
	// capture lacks what came before them or cut them short. They are in no other number.
	Unjudged uint64         `json:"unjudged"`
	Conduits []ConduitCount `json:"conduits"`
	Denials  []Denial       `json:"denials"` // in the order in which they first happened
}

// ConduitCount is what happened on one conduit.
type ConduitCount struct {
	Name    string `json:"name"`
	Allowed uint64 `json:"allowed"`
	Denied  uint64 `json:"denied"`
}

// Denial is a group of equal denials.
type Denial struct {
	Count       uint64         `json:"count"`
	Reason      verdict.Reason `json:"reason"`
	Conduit     string         `json:"conduit"`
	Source      string         `json:"source"` // an identity's name, or "unknown"
	Destination string         `json:"destination"`
	// The addresses are there for ends that are unknown.
	SourceAddress      string `json:"source_address,omitempty"`
	DestinationAddress string `json:"destination_address,omitempty"`
	Protocol           string `json:"protocol"`
	Operation          string `json:"operation"`
	Detail             string `json:"detail"`
	First              Place  `json:"first"`
}

// Place is a frame of a capture.
type Place struct {
	File  string `json:"file"`
	Frame int    `json:"frame"`
}

// unknown is the name of an end that the policy has no identity for.
const unknown = "unknown"

// Assess judges what the capture files hold by a plan. The files are read as one capture. With
// a damaged file it returns the error and what it found before the damage.
func Assess(plan *policy.Plan, paths []string) (*Assessment, error) {
	return newAssessor(plan).run(paths)
}

// assessor counts what a replay brings.
type assessor struct {
	player   *player
	plan     *policy.Plan
	decide   func(*policy.Header) policy.Decision
	at       Place
	header   policy.Header
	result   Assessment
	adopt    bool           // see inspect.Flow.Adopted; observed packets need it not
	verdicts []ConduitCount // by conduit
	denials  map[Denial]int // groups, without count and place, by their index in the result
}

func newAssessor(plan *policy.Plan) *assessor {
	a := &assessor{
		player: newPlayer(), plan: plan, decide: plan.Decide,
		result:  Assessment{Denials: []Denial{}},
		denials: map[Denial]int{}, verdicts: make([]ConduitCount, len(plan.Conduits)),
	}
	for i := range plan.Conduits {
		a.verdicts[i].Name = plan.Conduits[i].Name
	}
	return a
}

// run judges the files until one cannot be read.
func (a *assessor) run(paths []string) (*Assessment, error) {
	for _, path := range paths {
		err := a.player.play(path, func(r *frame.Record, err error) error {
			a.at = Place{File: path, Frame: r.Number}
			a.frame(r, err)
			return nil
		})
		if err != nil {
			return a.sum(), err
		}
	}
	return a.sum(), nil
}

// sum returns the result so far. Conduit 0 stands for none.
func (a *assessor) sum() *Assessment {
	a.result.Conduits = append([]ConduitCount{}, a.verdicts[min(1, len(a.verdicts)):]...)
	return &a.result
}

// frame judges one frame.
func (a *assessor) frame(r *frame.Record, err error) {
	f := &a.player.frame
	if err != nil && (f.Truncated || r.Length > len(r.Data)) {
		a.result.Unjudged++ // the capture's doing, not the frame's
		return
	}
	c, d, fresh := a.player.conversation()
	if fresh {
		a.begin(c, err)
		d = a.player.directionOf(c)
	}
	if c.protocol != usesInspection {
		return
	}
	a.judged(c, d, a.player.judge(r, c, d))
}

// begin decides on a new conversation by the header of its first frame.
func (a *assessor) begin(c *conversation, err error) {
	c.protocol = usesOther
	decision := a.ofHeader(c)
	switch {
	case err != nil:
		a.deny(a.decidedOn(c, decision), verdict.ReasonMalformed)
	case decision.Action == verdict.Inspect, decision.Reason == verdict.ReasonIONotOpen: // the capture shows what opened it
		c.protocol = usesInspection
		c.flow = inspect.Flow{
			Plan: a.plan, Conduit: decision.Conduit, Source: decision.Source,
			Destination: decision.Destination, Initiator: policy.SideB, Adopted: a.adopt,
		}
	case a.mayBeIO(decision):
		c.protocol, c.flow = usesInspection, a.flowOfGroup(decision)
	default:
		a.count(decision.Verdict, a.decidedOn(c, decision))
	}
}

// mayBeIO reports whether a frame to a group may be the data of an I/O connection: inline these pass by what
// has opened them, and the policy has no conduit to the group.
func (a *assessor) mayBeIO(d policy.Decision) bool {
	f := &a.player.frame
	if !f.IsUDP || f.DstPort != policy.IOPort || !f.DstIP.Is4() || !f.DstIP.IsMulticast() {
		return false
	}
	return (d.Reason == verdict.ReasonNoConduit || d.Reason == verdict.ReasonUnknownDestination) && a.plan.IOTarget(d.Source) != 0
}

// flowOfGroup is the conversation of a device with a group that it sends I/O to: under the conduit of who has
// opened it, or where the capture does not show that, one that leads to the device.
func (a *assessor) flowOfGroup(d policy.Decision) inspect.Flow {
	f := &a.player.frame
	flow := inspect.Flow{Plan: a.plan, Conduit: a.plan.IOTarget(d.Source), Source: d.Source, Initiator: policy.SideB}
	if of, ok := a.player.pipeline.IOFlow(f.SrcIP, f.DstIP, f.Payload); ok {
		flow.Conduit, flow.Destination = of.Conduit, of.Source
	}
	return flow
}

// decidedOn describes a conversation that its header decides.
func (a *assessor) decidedOn(c *conversation, d policy.Decision) denialAt {
	f := &a.player.frame
	return denialAt{
		flow:     inspect.Flow{Conduit: d.Conduit, Source: d.Source, Destination: d.Destination},
		answered: a.player.directionOf(c) == stream.FromResponder,
		protocol: protocolOf(f), detail: serviceOf(f, c),
	}
}

// ofHeader decides as the fast path does on a frame without a flow: in the frame's own direction,
// and for TCP whose SYN was not captured also against it, where that is a conduit's.
func (a *assessor) ofHeader(c *conversation) policy.Decision {
	f := &a.player.frame
	shows, sender := opens(f)
	if shows && !sender {
		return a.decide(a.headerOf(f, true))
	}
	decision := a.decide(a.headerOf(f, false))
	if shows || !f.IsTCP {
		return decision
	}
	_, lowSends := nameOf(f)
	c.lowInitiates = lowSends
	if reversed := a.decide(a.headerOf(f, true)); decision.Conduit == 0 && reversed.Conduit != 0 {
		c.lowInitiates = !lowSends
		return reversed
	}
	return decision
}

// headerOf returns what Decide needs of a frame, or of the frame that it would answer.
func (a *assessor) headerOf(f *frame.Frame, reversed bool) *policy.Header {
	h := &a.header
	*h = policy.Header{
		Src: f.Src, Dst: f.Dst, Tags: h.Tags[:0], EtherType: f.EtherType, SrcIP: f.SrcIP, DstIP: f.DstIP,
		Protocol: f.Protocol, Fragment: f.Fragment, SrcPort: f.SrcPort, DstPort: f.DstPort, ICMPType: f.ICMPType,
		SourceRouted: f.SourceRouted(),
		ARP:          policy.ARPHeader{SenderMAC: f.ARP.SenderMAC, SenderIP: f.ARP.SenderIP, TargetIP: f.ARP.TargetIP},
	}
	h.LLC = llcOf(f)
	if f.IsND {
		h.Neighbour = policy.NeighbourHeader{
			Type: f.ICMPType, Target: f.ND.Target, Foreign: f.ND.HasLinkAddress && f.ND.LinkAddress != f.Src,
		}
	}
	if f.EtherType == 0 && f.IPVersion != 0 { // a capture without link layer
		h.EtherType = map[uint8]uint16{4: frame.EtherTypeIPv4, 6: frame.EtherTypeIPv6}[f.IPVersion]
	}
	for _, t := range f.Tags {
		h.Tags = append(h.Tags, policy.Tag{TPID: t.TPID, TCI: t.TCI})
	}
	if f.Fragment {
		if f.IsUDP {
			h.FirstPort = f.DstPort
		}
		h.SrcPort, h.DstPort = 0, 0
	}
	if reversed {
		h.Src, h.Dst = h.Dst, h.Src
		h.SrcIP, h.DstIP = h.DstIP, h.SrcIP
		h.SrcPort, h.DstPort = h.DstPort, h.SrcPort
	}
	return h
}

// llcOf returns what an 802.3 frame carries.
func llcOf(f *frame.Frame) policy.LLC {
	b := f.LinkPayload
	switch {
	case !f.LLC || len(b) < 6:
		return policy.LLCOther
	case b[0] == 0x42 && b[1] == 0x42 && b[2] == 3:
		return policy.LLCBridge
	case b[0]&^1 == 0x06:
		return policy.LLCSNAP
	case b[0]&^1 != 0xaa:
		return policy.LLCOther
	}
	switch [3]byte(b[3:]) {
	case [3]byte{}, [3]byte{0, 0, 0xf8}, [3]byte{0, 0x80, 0xc2}:
		return policy.LLCSNAP
	}
	return policy.LLCOther
}

// judged counts what the pipeline says of a packet.
func (a *assessor) judged(c *conversation, d stream.Direction, j inspect.Judgement) {
	at := denialAt{flow: c.flow, direction: d, protocol: a.plan.Conduits[c.flow.Conduit].Protocol.String()}
	if len(j.Messages) > 0 {
		for i := range j.Messages {
			m := &j.Messages[i]
			if m.Envelope {
				continue // what it carries is counted
			}
			if m.Verdict.Reason == verdict.ReasonResynchronising {
				a.result.Unjudged++ // data of what was opened before the capture began
				continue
			}
			at.protocol, at.operation, at.detail = m.ProtocolName(), m.Operation(), ""
			if !m.Verdict.Allows() {
				at.detail = m.Detail()
			}
			a.count(m.Verdict, at)
		}
		return
	}
	at.detail = j.Detail
	switch why := j.Verdict.Reason; {
	case j.Verdict.Allows():
	case j.Ended, isRefusal(why) && !a.player.frame.Truncated:
		a.count(j.Verdict, at)
	case why != verdict.ReasonStreamGap: // what waits for a gap to close is read later
		a.result.Unjudged++
	}
}

// isRefusal reports whether a packet denied for the reason would have been stopped inline,
// rather than be an effect of looking at a capture.
func isRefusal(why verdict.Reason) bool {
	switch why {
	case verdict.ReasonBadChecksum, verdict.ReasonFragment, verdict.ReasonNotTCP, verdict.ReasonMalformed, verdict.ReasonUninspectable:
		return true
	}
	return false
}

// denialAt is what a denial is about.
type denialAt struct {
	flow      inspect.Flow
	direction stream.Direction // of what is denied
	answered  bool             // the frame at hand goes the other way
	protocol  string
	operation string
	detail    string
}

// count counts one message, segment or conversation.
func (a *assessor) count(v verdict.Verdict, at denialAt) {
	if !v.Allows() {
		a.deny(at, v.Reason)
		return
	}
	a.result.Messages++
	a.result.Allowed++
	a.verdicts[at.flow.Conduit].Allowed++
}

// deny counts a denial and groups it with its equals.
func (a *assessor) deny(at denialAt, why verdict.Reason) {
	a.result.Messages++
	a.result.Denied++
	a.verdicts[at.flow.Conduit].Denied++
	group := Denial{
		Reason: why, Conduit: a.verdicts[at.flow.Conduit].Name,
		Source: a.nameOf(at.flow.Source), Destination: a.nameOf(at.flow.Destination),
		Protocol: at.protocol, Operation: at.operation, Detail: at.detail,
	}
	if at.direction == stream.FromResponder {
		group.Source, group.Destination = group.Destination, group.Source
	}
	f := &a.player.frame
	source, destination := addressOf(f.Src, f.SrcIP), addressOf(f.Dst, f.DstIP)
	if at.answered {
		source, destination = destination, source
	}
	if group.Source == unknown {
		group.SourceAddress = source
	}
	if group.Destination == unknown {
		group.DestinationAddress = destination
	}
	i, known := a.denials[group]
	if !known {
		i = len(a.result.Denials)
		a.denials[group] = i
		group.First = a.at
		a.result.Denials = append(a.result.Denials, group)
	}
	a.result.Denials[i].Count++
}

func (a *assessor) nameOf(identity uint32) string {
	if identity == 0 || int(identity) >= len(a.plan.Identities) {
		return unknown
	}
	return a.plan.Identities[identity].Name
}

// protocolOf names what a frame carries.
func protocolOf(f *frame.Frame) string {
	switch {
	case f.IsARP:
		return "arp"
	case f.LLC:
		return "llc"
	case !f.SrcIP.IsValid(): // not IP, or not so far that it could be read
		return fmt.Sprintf("ethertype 0x%04x", f.EtherType)
	}
	switch f.Protocol {
	case frame.ProtocolTCP:
		return "tcp"
	case frame.ProtocolUDP:
		return "udp"
	case frame.ProtocolICMP, frame.ProtocolICMPv6:
		return "icmp"
	}
	return "ip protocol " + strconv.Itoa(int(f.Protocol))
}

// addressOf returns the address by which an unknown end can be lent an identity.
func addressOf(mac [6]byte, ip netip.Addr) string {
	if ip.IsValid() {
		return ip.String()
	}
	return net.HardwareAddr(mac[:]).String()
}

// serviceOf names the service that a conversation is for.
func serviceOf(f *frame.Frame, c *conversation) string {
	switch {
	case f.IsTCP || f.IsUDP:
		port := f.DstPort
		if _, lowSends := nameOf(f); c.direction(lowSends) == stream.FromResponder {
			port = f.SrcPort
		}
		return "port " + strconv.Itoa(int(port))
	case f.IsICMP:
		return "type " + strconv.Itoa(int(f.ICMPType))
	case f.Encapsulation != frame.EncapsulationNone:
		return f.Encapsulation.String()
	}
	return ""
}
