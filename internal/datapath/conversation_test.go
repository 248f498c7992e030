package datapath

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// TestAgreesWithPlainConversations sends sequences of frames that begin, answer, end and confuse
// conversations, lets time pass, replaces the policy and closes the adoption window in between, and holds
// each verdict to that of a plain model. PENSTOCK_FRAMES sets how many frames, PENSTOCK_SEED the seed.
func TestAgreesWithPlainConversations(t *testing.T) {
	require(t)
	frames := number("PENSTOCK_FRAMES", 30_000)
	seed := uint64(number("PENSTOCK_SEED", 1))
	plans := []*policy.Plan{
		sheet{}.plan(t),
		sheet{replace: []string{"ports: [102, 1000-2000]", "ports: [102, 1500]", "from: [hmi], to: [plc], protocol: udp, ports: [53]", "from: [hmi], to: [plc], protocol: udp, ports: [54]",
			"name: any-tcp, from: [hmi], to: [rtu]", "name: any-tcp, from: [scada], to: [press]"}}.plan(t),
		sheet{replace: []string{"CONDUIT", ", mode: observe", "from: [hmi], to: [plc], protocol: icmp, types: [8, 128]", "from: [hmi], to: [plc], protocol: icmp",
			"name: pull, from: [historian]", "name: pull, from: [jump]"}}.plan(t),
		sheet{replace: []string{"DEFAULTS", rowsZoneWide}}.plan(t),
	}
	d := openWith(t, plans[0], Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Hour, Flows: 1024})
	d.control.setFlowQuota(1 << 20)
	c := &conversations{
		generator: generator{Rand: rand.New(rand.NewPCG(seed, 1)), plan: plans[0]}, plans: plans, d: d,
		model: &plainFlows{plan: plans[0], met: map[string]int{}},
	}
	reasons := map[verdict.Reason]int{}
	for sent := 0; sent < frames; {
		sent += c.sequence(t, reasons)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d frames, seed %d\nways: %v\nreasons: %v", frames, seed, c.model.met, reasons)
	for _, way := range []string{"answered", "SYN", "SYN again", "SYN against a conversation", "SYN without a conduit", "asked again, permitted",
		"asked again, over", "begun", "adopted in reverse", "second step first", "error of a conversation", "zone", "no conduit", "malformed",
		"guard or no conversation", "found, and not its"} {
		if c.model.met[way] == 0 {
			t.Errorf("no frame went the way %q: the generator is blind there", way)
		}
	}
}

// conversations makes sequences of frames over few conversations, so that most frames meet another's.
type conversations struct {
	generator
	plans []*policy.Plan
	d     *Datapath
	model *plainFlows
	log   []string
}

// talk is one conversation: who speaks with whom, and as what.
type talk struct {
	from, to         [6]byte
	fromIP, toIP     netip.Addr
	fromPort, toPort uint16
	protocol         uint8
	tags             []uint32
}

// talk is mostly one that some conduit permits.
func (c *conversations) talk() talk {
	type end struct {
		mac [6]byte
		ip  netip.Addr
	}
	hmi, plc, rtu, scada := end{macHMI, ipHMI}, end{macPLC, ipPLC}, end{macRTU, ipRTU}, end{macSCADA, ipSCADA}
	feeder, press := end{macFeeder, ipFeeder}, end{macPress, ipPress}
	offer := func(from, to end, protocol uint8, ports ...uint16) talk {
		return talk{from.mac, to.mac, from.ip, to.ip, pick(&c.generator, uint16(40000), 40000, 40001, 0), pick(&c.generator, ports...), protocol, nil}
	}
	w := pick(&c.generator,
		offer(hmi, plc, 6, 502, 102, 1200, 1500), offer(hmi, plc, 6, 502, 102, 1200, 1500), offer(hmi, plc, 17, 53, 54), offer(hmi, plc, 1, 7), offer(hmi, plc, 1, 7),
		offer(hmi, rtu, 6, 9, 22, 8080), offer(hmi, rtu, 17, 9, 53, 4789, 68, 0), offer(rtu, hmi, 6, 8080),
		offer(end{macRouter, ipFar}, plc, 6, 4840), offer(end{macRouter, ipJump}, plc, 6, 22, 4840), offer(end{macRouter, ipRouter}, rtu, 17, 9, 123, 1701),
		offer(scada, plc, 6, 502, 102), offer(press, scada, 17, 9), offer(feeder, press, pick(&c.generator, uint8(6), 17, 1), 9, 502, 68))
	if w.protocol == 1 {
		w.fromPort, w.toPort = 7, 7
	}
	six := map[netip.Addr]netip.Addr{ipHMI: ip6HMI, ipPLC: ip6PLC, ipRTU: ip6RTU, ipSCADA: ip6SCADA}
	if from, to := six[w.fromIP], six[w.toIP]; from.IsValid() && to.IsValid() && c.IntN(3) == 0 {
		w.fromIP, w.toIP = from, to
		if w.protocol == 1 {
			w.protocol = 58
		}
	}
	switch c.IntN(12) {
	case 0:
		w.toPort = pick(&c.generator, uint16(80), 502, 53)
	case 1:
		w.protocol = pick(&c.generator, uint8(6), 17)
	}
	if c.IntN(12) == 0 || c.IntN(3) == 0 && w.from == macHMI && w.to == macPLC {
		w.tags = pick(&c.generator, []uint32{0x8100<<16 | 10}, []uint32{0x8100 << 16}, []uint32{0x8100<<16 | 20}, []uint32{0x88a8<<16 | 10, 0x8100<<16 | 20})
	}
	return w
}

// turned is the conversation seen from its other end.
func (w talk) turned() talk {
	w.from, w.to, w.fromIP, w.toIP, w.fromPort, w.toPort = w.to, w.from, w.toIP, w.fromIP, w.toPort, w.fromPort
	return w
}

func sideOf(mac [6]byte) policy.Side {
	switch mac {
	case macPLC, macRTU, macPress, macDrive:
		return policy.SideA
	}
	return policy.SideB
}

func (c *conversations) body(w talk, answer bool) []byte {
	switch w.protocol {
	case 6:
		flags := pick(&c.generator, byte(flagACK), flagACK, flagACK, flagSYN, flagSYN, flagSYN|flagACK, flagFIN|flagACK, flagRST, flagFIN|flagSYN, 0)
		if answer && c.IntN(2) == 0 { // as it should be
			flags = pick(&c.generator, byte(flagACK), flagSYN|flagACK, flagFIN|flagACK)
		}
		return tcpSegment(w.fromPort, w.toPort, flags)
	case 17:
		return udpDatagram(w.fromPort, w.toPort)
	}
	kinds := map[uint8][]byte{1: {8, 0}, 58: {128, 129}}[w.protocol]
	if answer {
		slices.Reverse(kinds)
	}
	return icmpEcho(pick(&c.generator, kinds[0], kinds[0], kinds[0], kinds[1], 3), w.fromPort)
}

// first is the frame that the conversation begins with, as it should.
func (c *conversations) first(w talk) []byte {
	body := tcpSegment(w.fromPort, w.toPort, flagSYN)
	switch w.protocol {
	case 17:
		body = udpDatagram(w.fromPort, w.toPort)
	case 1:
		body = icmpEcho(8, w.fromPort)
	case 58:
		body = icmpEcho(128, w.fromPort)
	}
	return ether(w.from, w.to, ipPacket(w.fromIP, w.toIP, w.protocol, 0, body)).tagged(w.tags...).bytes()
}

// frameOf is a frame of the conversation, or about it.
func (c *conversations) frameOf(w talk) (policy.Side, []byte) {
	answer := c.IntN(5) < 2
	if answer {
		w = w.turned()
	}
	body := c.body(w, answer)
	fragment := uint16(0)
	if c.IntN(10) == 0 {
		fragment = pick(&c.generator, uint16(0x2000), 3, 0x2005, 0x4000)
	}
	ip := ipPacket(w.fromIP, w.toIP, w.protocol, fragment, body)
	if w.fromIP.Is6() && fragment&0x3fff != 0 {
		ip = withExtension(ip, 44)
		ip[43] = byte(fragment<<3) | 1
	}
	switch c.IntN(40) {
	case 0, 1, 2: // an error about it, from its other end
		quoted := append(ipPacket(w.fromIP, w.toIP, w.protocol, 0, body), make([]byte, 8)...)
		back := w.turned()
		if c.IntN(4) == 0 && back.to == macRouter {
			back.toIP = pick(&c.generator, ipFar, ipJump)
		}
		if w.fromIP.Is4() {
			ip = ipPacket(back.fromIP, back.toIP, 1, 0, append([]byte{pick(&c.generator, byte(3), 11, 12, 5), 1, 0, 0, 0, 0, 0, 0}, quoted...))
		} else {
			ip = ipPacket(back.fromIP, back.toIP, 58, 0, append([]byte{pick(&c.generator, byte(1), 3, 4, 2), 0, 0, 0, 0, 0, 5, 0}, quoted...))
		}
		w = back
	case 3:
		w.fromIP = pick(&c.generator, ipOdd, ipSCADA)
		if !w.toIP.Is6() {
			ip = ipPacket(w.fromIP, w.toIP, w.protocol, fragment, body)
		}
	case 4:
		w.from = pick(&c.generator, macSCADA, macOdd, macRTU)
	case 5:
		if w.toIP.Is4() {
			ip = withOptions(ip, pick(&c.generator, []byte{1, 1, 1, 0}, []byte{131, 3, 4, 0}))
		}
	}
	side := sideOf(w.from)
	if c.IntN(40) == 0 {
		side = side.Other()
	}
	return side, ether(w.from, w.to, ip).tagged(w.tags...).bytes()
}

// sequence begins without any flow and returns how many frames it sent.
func (c *conversations) sequence(t *testing.T, reasons map[verdict.Reason]int) (sent int) {
	t.Helper()
	c.d.emptyFlows(t)
	c.model.flows = map[plainKey]*plainFlow{}
	c.adopting(c.IntN(2) == 0)
	c.log = c.log[:0]
	talks := make([]talk, 1+c.IntN(3))
	for i := range talks {
		talks[i] = c.talk()
	}
	if c.IntN(3) == 0 && len(talks) > 1 { // the same ports the other way round
		talks[0].fromPort, talks[0].toPort = talks[0].toPort, talks[0].fromPort
	}
	changes := c.IntN(30) == 0 // which takes as long as a thousand frames
	if changes {
		c.apply(t, c.plans[c.IntN(len(c.plans))])
	}
	for _, w := range talks {
		if c.IntN(4) > 0 {
			c.agree(t, sideOf(w.from), c.first(w), reasons)
			sent++
		}
	}
	for range 8 + c.IntN(80) {
		switch c.IntN(40) {
		case 0, 1:
			c.pass(t, pick(&c.generator, 13700*time.Millisecond, 13700*time.Millisecond, 41300*time.Millisecond, 103*time.Second, 2*time.Hour+100*time.Second, 25*time.Hour))
		case 2, 5:
			if changes {
				c.apply(t, c.plans[c.IntN(len(c.plans))])
			}
		case 3:
			c.adopting(!c.model.adopting)
		case 4:
			side, raw := c.frame()
			c.agree(t, side, raw, reasons)
		default:
			side, raw := c.frameOf(talks[c.IntN(len(talks))])
			c.agree(t, side, raw, reasons)
		}
		sent++
		if t.Failed() {
			return sent
		}
	}
	return sent
}

func (c *conversations) note(text string) { c.log = append(c.log, text) }

func (c *conversations) adopting(yes bool) {
	c.model.adopting = yes
	until := uint64(0)
	if yes {
		until = monotonic() + uint64(time.Hour)
	}
	c.d.control.setAdoptUntil(until)
	c.note("adoption window")
}

func (c *conversations) pass(t *testing.T, by time.Duration) {
	t.Helper()
	c.d.agedBy(t, by)
	c.model.now += by
	c.note(by.String() + " later")
}

func (c *conversations) apply(t *testing.T, p *policy.Plan) {
	t.Helper()
	if _, err := c.d.Apply(p, 1); err != nil {
		t.Fatal(err)
	}
	c.model.plan = p
	c.model.generation++
	c.note("another policy")
}

// agree sends a frame and holds what becomes of it to the model.
func (c *conversations) agree(t *testing.T, side policy.Side, raw []byte, reasons map[verdict.Reason]int) {
	t.Helper()
	decision := c.model.judge(side, raw)
	want, returns := decision.Verdict, returnOf(c.model.plan, &decision)
	before := c.d.reasons(t)
	got, out := c.d.run(t, side, raw)
	counted := moved(before, c.d.reasons(t))
	reasons[want.Reason]++
	c.note(fmt.Sprintf("\n%v %v %x", side, want.Reason, raw))
	switch {
	case got != returns, want.Action == verdict.Deny && want.Reason != verdict.ReasonSameSide && counted[want.Reason] != 1:
		t.Errorf("on side %v: the program returned %d and told %v, want %d for %v %v\n%x\nafter %v", side, got, counted, returns, want.Action, want.Reason, raw, c.log)
	case got != xdpDrop && !bytes.Equal(raw, out):
		t.Errorf("on side %v the frame changed\n in %x\nout %x", side, raw, out)
	}
}
