package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// plainFlows says in plain Go what the fast path does with conversations, and uses nothing of it: which frames
// belong together is told by a map, and what the policy permits by policy.Decide, read forwards or in reverse.
// Time stands still but for what is added to now.
type plainFlows struct {
	plan       *policy.Plan
	generation int
	adopting   bool // in the window after a start
	now        time.Duration
	flows      map[plainKey]*plainFlow
	met        map[string]int // how often each way through was taken
}

// plainKey tells a conversation from others: its ends by side, tags, protocol, and whether it is the one of
// fragments, which show no ports.
type plainKey struct {
	macA, macB   [6]byte
	ipA, ipB     netip.Addr
	portA, portB uint16
	tags         string
	protocol     uint8
	fragment     bool
}

type plainFlow struct {
	initiator       policy.Side
	generation      int
	decision        policy.Decision
	whole           bool // its conduit covers every port
	fin             [2]bool
	reset, answered bool
	seen, decided   time.Duration
}

func (w *plainFlow) closed() bool { return w.reset || w.fin[0] && w.fin[1] }

// idle is how long the conversation may be silent.
func (w *plainFlow) idle(protocol uint8) time.Duration {
	switch {
	case protocol == 6 && w.closed():
		return 10 * time.Second
	case protocol == 6 && w.answered:
		return 2 * time.Hour
	case protocol == 17 && w.answered:
		return 3 * time.Minute
	case protocol == 17:
		return time.Minute
	}
	return 30 * time.Second
}

// hard is how long it goes without being asked about again.
func (w *plainFlow) hard(k plainKey) time.Duration {
	switch {
	case w.whole && !k.fragment:
		return 10 * time.Second
	case k.protocol == 6:
		return 24 * time.Hour
	}
	return time.Hour
}

// keyOf is false for a frame that belongs to no conversation.
func keyOf(h *policy.Header) (k plainKey, ok bool) {
	if !h.SrcIP.IsValid() || h.EtherType == 0x0806 || h.SourceRouted || h.Src[0]&1 != 0 || len(h.Tags) > 2 || hiddenPort(h.FirstPort) {
		return k, false
	}
	k = plainKey{macA: h.Src, macB: h.Dst, ipA: h.SrcIP, ipB: h.DstIP, portA: h.SrcPort, portB: h.DstPort, protocol: h.Protocol, fragment: h.Fragment}
	if h.Side == policy.SideB {
		k.macA, k.macB, k.ipA, k.ipB, k.portA, k.portB = k.macB, k.macA, k.ipB, k.ipA, k.portB, k.portA
	}
	if len(h.Tags) != 1 || h.Tags[0].TPID != 0x8100 || h.Tags[0].TCI&0xfff != 0 {
		for _, tag := range h.Tags {
			k.tags += fmt.Sprintf("%x:%d ", tag.TPID, tag.TCI&0xfff)
		}
	}
	return k, true
}

// hiddenPort knows the port of a first fragment that gives it away as part of what only a conduit that names
// the port permits. Those that the generator draws.
func hiddenPort(port uint16) bool { return port == 4789 || port == 68 || port == 1701 || port == 546 }

// mirrored is the frame that h would answer.
func mirrored(h *policy.Header) *policy.Header {
	m := *h
	m.Src, m.Dst, m.SrcIP, m.DstIP, m.SrcPort, m.DstPort = h.Dst, h.Src, h.DstIP, h.SrcIP, h.DstPort, h.SrcPort
	m.Side = h.Side.Other()
	switch {
	case h.Protocol == 1 && h.ICMPType == 0:
		m.ICMPType = 8
	case h.Protocol == 58 && h.ICMPType == 129:
		m.ICMPType = 128
	}
	return &m
}

// belongs tells whether the frame is one of a conversation with its key: of ICMP the initiator's echo and the
// reply to it alone.
func (w *plainFlow) belongs(h *policy.Header) bool {
	if h.Fragment || h.Protocol != 1 && h.Protocol != 58 {
		return true
	}
	want := map[uint8][2]uint8{1: {8, 0}, 58: {128, 129}}[h.Protocol]
	if h.Side == w.initiator {
		return h.ICMPType == want[0]
	}
	return h.ICMPType == want[1]
}

// guarded knows reasons for which nobody asks for a conduit.
func guarded(r verdict.Reason) bool {
	switch r {
	case verdict.ReasonUnknownSource, verdict.ReasonUnknownDestination, verdict.ReasonAddressSpoofed, verdict.ReasonWrongPort,
		verdict.ReasonVLANNotPermitted, verdict.ReasonSameSide, verdict.ReasonARPSpoofed, verdict.ReasonLinkLocal:
		return true
	}
	return false
}

func permitted(d policy.Decision) bool { return d.Verdict.Action != verdict.Deny }

// judge is the verdict on a frame, after all that were judged before.
func (p *plainFlows) judge(side policy.Side, raw []byte) policy.Decision {
	h, flags, ok := plainHeader(side, raw)
	if !ok {
		return p.as("malformed", policy.Decision{Verdict: verdict.Denied(verdict.ReasonMalformed)})
	}
	forward := p.plan.Decide(&h)
	key, tracked := keyOf(&h)
	var w *plainFlow
	if tracked {
		w = p.flows[key]
		if w != nil && (p.now-w.seen > w.idle(h.Protocol) || !w.belongs(&h)) {
			p.met["found, and not its"]++
			w = nil
		}
	}
	opens := h.Protocol == 6 && flags&(flagSYN|flagACK) == flagSYN
	if w != nil && !opens && w.generation == p.generation && p.now-w.decided <= w.hard(key) {
		p.count(w, &h, flags)
		return p.as("answered", w.decision)
	}
	if !tracked || guarded(forward.Verdict.Reason) {
		if w != nil && !permitted(forward) {
			delete(p.flows, key)
		}
		return p.as("guard or no conversation", forward)
	}
	if about := p.about(&h, raw); about != nil && about.generation == p.generation {
		d := about.decision
		d.Verdict = verdict.Permitted
		return p.as("error of a conversation", d)
	}
	switch {
	case opens:
		return p.judgeSYN(&h, flags, key, w, forward)
	case w != nil:
		return p.judgeKnown(&h, flags, key, w, forward)
	}
	return p.judgeNew(&h, flags, key, forward)
}

func (p *plainFlows) as(way string, d policy.Decision) policy.Decision {
	p.met[way]++
	return d
}

func (p *plainFlows) judgeSYN(h *policy.Header, flags byte, key plainKey, w *plainFlow, forward policy.Decision) policy.Decision {
	otherWay := w != nil && h.Side != w.initiator && !w.closed()
	switch {
	case otherWay && (!permitted(forward) || forward.Conduit != 0):
		d := w.decision
		if permitted(forward) {
			d = forward
		} else {
			d = p.plan.Decide(mirrored(h))
		}
		d.Verdict = verdict.Denied(verdict.ReasonTCPState)
		return p.as("SYN against a conversation", d)
	case !permitted(forward), forward.Conduit == 0:
		return p.as("SYN without a conduit", forward)
	case w != nil:
		w.fin, w.reset, w.answered = [2]bool{}, false, false
		p.renew(h, flags, key, w, forward, h.Side)
		return p.as("SYN again", forward)
	}
	p.begin(h, flags, key, forward, h.Side)
	return p.as("SYN", forward)
}

func (p *plainFlows) judgeKnown(h *policy.Header, flags byte, key plainKey, w *plainFlow, forward policy.Decision) policy.Decision {
	d := forward
	if h.Side != w.initiator {
		d = p.plan.Decide(mirrored(h))
	}
	if permitted(d) && d.Conduit != 0 {
		p.renew(h, flags, key, w, d, w.initiator)
		return p.as("asked again, permitted", d)
	}
	delete(p.flows, key)
	return p.as("asked again, over", d)
}

func (p *plainFlows) judgeNew(h *policy.Header, flags byte, key plainKey, forward policy.Decision) policy.Decision {
	tcp := h.Protocol == 6 && !h.Fragment
	switch {
	case permitted(forward) && forward.Conduit == 0:
		return p.as("zone", forward)
	case permitted(forward) && tcp && flags&(flagSYN|flagACK) == flagSYN|flagACK:
		forward.Verdict = verdict.Denied(verdict.ReasonTCPState)
		return p.as("second step first", forward)
	case permitted(forward):
		p.begin(h, flags, key, forward, h.Side)
		return p.as("begun", forward)
	case tcp && p.adopting && flags&flagACK != 0 && flags&flagSYN == 0:
		if back := p.plan.Decide(mirrored(h)); permitted(back) && back.Conduit != 0 {
			p.begin(h, flags, key, back, h.Side.Other())
			return p.as("adopted in reverse", back)
		}
	}
	return p.as("no conduit", forward)
}

func (p *plainFlows) begin(h *policy.Header, flags byte, key plainKey, d policy.Decision, initiator policy.Side) {
	w := &plainFlow{}
	p.flows[key] = w
	p.renew(h, flags, key, w, d, initiator)
	if !w.whole {
		return
	}
	// What the first frame says of the conversation's end, its fragments are told with the next time.
	key.portA, key.portB, key.fragment = 0, 0, true
	of := p.flows[key]
	of.reset, of.answered, of.fin = false, false, [2]bool{}
}

// renew writes down what was decided, and the entry of the conversation's fragments beside it.
func (p *plainFlows) renew(h *policy.Header, flags byte, key plainKey, w *plainFlow, d policy.Decision, initiator policy.Side) {
	w.initiator, w.generation, w.decision, w.decided = initiator, p.generation, d, p.now
	fragment := *h
	if initiator != h.Side {
		fragment = *mirrored(h)
	}
	fragment.Fragment, fragment.SrcPort, fragment.DstPort = true, 0, 0
	inPieces := p.plan.Decide(&fragment)
	w.whole = !key.fragment && d.Verdict.Action == verdict.Allow && permitted(inPieces) && inPieces.Conduit == d.Conduit
	p.count(w, h, flags)
	if !w.whole {
		return
	}
	key.portA, key.portB, key.fragment = 0, 0, true
	of := *w
	of.whole = false
	p.flows[key] = &of
}

func (p *plainFlows) count(w *plainFlow, h *policy.Header, flags byte) {
	w.seen = p.now
	w.answered = w.answered || h.Side != w.initiator
	if h.Protocol == 6 && !h.Fragment && !p.waits(w) {
		w.reset = w.reset || flags&flagRST != 0
		if flags&flagFIN != 0 {
			w.fin[h.Side-policy.SideA] = true
		}
	}
}

// waits reports whether the frames of a conversation wait for a verdict. None comes here, so that they close nothing.
func (p *plainFlows) waits(w *plainFlow) bool {
	return w.decision.Verdict.Action == verdict.Inspect && p.plan.Conduits[w.decision.Conduit].Mode == policy.Enforce
}

// about finds the conversation that an ICMP error quotes a packet of: one that its receiver sent.
func (p *plainFlows) about(h *policy.Header, raw []byte) *plainFlow {
	at := 14 + 4*len(h.Tags)
	var quoted []byte
	switch {
	case h.Fragment:
		return nil
	case h.EtherType == 0x0800 && h.Protocol == 1 && (h.ICMPType == 3 || h.ICMPType == 11 || h.ICMPType == 12):
		quoted = raw[at+int(raw[at]&15)*4+8:]
	case h.EtherType == 0x86dd && h.Protocol == 58 && h.ICMPType >= 1 && h.ICMPType <= 4 && raw[at+6] == 58:
		quoted = raw[at+48:]
	default:
		return nil
	}
	inner := policy.Header{Src: h.Dst, Dst: h.Src, Side: h.Side.Other(), Tags: h.Tags, EtherType: h.EtherType}
	switch {
	case h.EtherType == 0x0800 && len(quoted) >= 28 && quoted[0]>>4 == 4 && quoted[0]&15 >= 5:
		header := int(quoted[0]&15) * 4
		if binary.BigEndian.Uint16(quoted[6:])&0x1fff != 0 || len(quoted) < header+8 {
			return nil
		}
		inner.SrcIP, inner.DstIP = netip.AddrFrom4([4]byte(quoted[12:16])), netip.AddrFrom4([4]byte(quoted[16:20]))
		inner.Protocol, quoted = quoted[9], quoted[header:]
	case h.EtherType == 0x86dd && len(quoted) >= 48 && quoted[0]>>4 == 6:
		inner.SrcIP, inner.DstIP = netip.AddrFrom16([16]byte(quoted[8:24])), netip.AddrFrom16([16]byte(quoted[24:40]))
		inner.Protocol, quoted = quoted[6], quoted[40:]
	default:
		return nil
	}
	switch inner.Protocol {
	case 6, 17:
		inner.SrcPort, inner.DstPort = binary.BigEndian.Uint16(quoted), binary.BigEndian.Uint16(quoted[2:])
	case 1, 58:
		inner.SrcPort = binary.BigEndian.Uint16(quoted[4:])
		inner.DstPort = inner.SrcPort
	default:
		return nil
	}
	key, ok := keyOf(&inner)
	if w := p.flows[key]; ok && inner.SrcIP == h.DstIP && w != nil && p.now-w.seen <= w.idle(inner.Protocol) {
		return w
	}
	return nil
}
