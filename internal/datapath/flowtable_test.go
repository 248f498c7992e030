package datapath

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/penstock-ot/penstock/bpf"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// narrow makes the flow table one neighbourhood of homes and one for what spills, so that every flow
// meets every other.
func (d *Datapath) narrow(t *testing.T) (entries int) {
	t.Helper()
	d.emptyFlows(t)
	d.control.setFlowEntries(entriesAround, entriesAround)
	d.control.setFlowQuota(1 << 20)
	return 2 * entriesAround
}

// flowsByPort are all flows by the port of side b, each of which has one.
func (d *Datapath) flowsByPort(t *testing.T) map[uint16]Flow {
	t.Helper()
	found := map[uint16]Flow{}
	if err := d.Flows(func(f *Flow) bool {
		if before, ok := found[f.B.Port]; ok {
			t.Errorf("port %d has two flows: %+v and %+v", f.B.Port, before, f)
		}
		found[f.B.Port] = *f
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFullNeighbourhood fills the entries around a home and those that its flows spill into: what finds
// an entry is found again, the rest is denied as table_full, and an entry that comes free is used.
func TestFullNeighbourhood(t *testing.T) {
	d := open(t, plan())
	entries := d.narrow(t)
	before := d.reasons(t)
	const first, tried = 10000, 3 * entriesAround
	for port := range uint16(tried) {
		want := uint32(xdpRedirect)
		if int(port) >= entries {
			want = xdpDrop
		}
		if got, _ := d.run(t, policy.SideB, hmiTCP(first+port, 102, flagSYN).bytes()); got != want {
			t.Errorf("flow %d: the program returned %d, want %d", port, got, want)
		}
	}
	if got := moved(before, d.reasons(t))[verdict.ReasonTableFull]; got != uint64(tried-entries) {
		t.Errorf("%d frames were denied as table_full", got)
	}
	d.control.setAdoptUntil(0) // from here on a reply passes only by its flow
	for port := range uint16(tried) {
		want := uint32(xdpRedirect)
		if int(port) >= entries {
			want = xdpDrop
		}
		if got, _ := d.run(t, policy.SideA, plcTCP(102, first+port, flagACK).bytes()); got != want {
			t.Errorf("a reply in flow %d: the program returned %d, want %d", port, got, want)
		}
	}
	all := d.flowsByPort(t)
	if len(all) != entries {
		t.Fatalf("%d flows in %d entries", len(all), entries)
	}
	for port, f := range all {
		if f.Frames != [2]uint64{1, 1} {
			t.Errorf("flow %d carried %v frames", port, f.Frames)
		}
	}
	d.expire(t, first+3, first+20)
	if got := len(d.flowsByPort(t)); got != entries-2 {
		t.Errorf("%d flows are left", got)
	}
	for port, want := range map[uint16]uint32{first + 3: xdpDrop, first + 20: xdpDrop, first + 4: xdpRedirect, first + 31: xdpRedirect} {
		if got, _ := d.run(t, policy.SideA, plcTCP(102, port, flagACK).bytes()); got != want {
			t.Errorf("port %d after two flows were removed: the program returned %d, want %d", port, got, want)
		}
	}
	d.passes(t, policy.SideB, hmiTCP(first+40, 102, flagSYN), 1)
	d.passes(t, policy.SideA, plcTCP(102, first+40, flagACK), 1)
	d.hopsAgree(t)
}

// expire removes the flows with these ports on side b, as if they had been idle.
func (d *Datapath) expire(t *testing.T, ports ...uint16) {
	t.Helper()
	var chosen []bpf.BridgeFlowChoice
	d.changeFlows(t, func(e *entry) {
		for _, port := range ports {
			if networkToHost16(e.record.Key.PortB) == port {
				e.flow.Seen = d.longAgo()
				chosen = append(chosen, bpf.BridgeFlowChoice{At: e.at, Version: e.flow.Version})
			}
		}
	})
	if n, err := d.remove(chosen, false); err != nil || n != len(ports) {
		t.Fatalf("%d flows of %d removed: %v", n, len(ports), err)
	}
}

// hopsAgree holds that each flow is in the hops of one home, no hop leads to nothing, and no home is
// locked.
func (d *Datapath) hopsAgree(t *testing.T) {
	t.Helper()
	led := map[uint32]int{}
	for at := range d.objects.FlowHops.MaxEntries() {
		var hops uint32
		if err := d.objects.FlowHops.Lookup(at, &hops); err != nil {
			t.Fatal(err)
		}
		if hops&0x80000000 != 0 {
			t.Errorf("entry %d is locked", at)
		}
		for n := range uint32(entriesAround) {
			if hops>>n&1 != 0 {
				led[at^n]++
			}
		}
		d.hopIsNamed(t, at, hops)
	}
	flows := 0
	d.flowTable.each(func(e *entry) bool {
		flows++
		if led[e.at] != 1 {
			t.Errorf("%d hops lead to the flow in entry %d", led[e.at], e.at)
		}
		return true
	})
	if flows != len(led) {
		t.Errorf("hops lead to %d entries, and %d have flows", len(led), flows)
	}
}

// hopIsNamed holds that a home names one of its flows that are farther away than the entry beside it, or
// none where there is none. Those whose second home it is are looked for in its hops only.
func (d *Datapath) hopIsNamed(t *testing.T, home, hops uint32) {
	t.Helper()
	farther := hops &^ 3 & (1<<entriesAround - 1)
	hop := uint32(d.flowTable.flows[home].Print & printHop)
	if homes := d.control.block.FlowHomes; home >= homes {
		farther = 0
	}
	if farther == 0 && hop != 0 || farther != 0 && farther>>hop&1 == 0 {
		t.Errorf("entry %d names %d of its hops %x", home, hop, hops)
	}
}

// fixSeeds has flows want the same entries in each run.
func (d *Datapath) fixSeeds() {
	for i := range d.control.block.Hashes {
		for j := range d.control.block.Hashes[i].Seeds {
			d.control.block.Hashes[i].Seeds[j] = 0x9e3779b97f4a7c15 * uint64(32*i+2*j+1)
		}
	}
}

// TestCapacity holds that a table takes as many flows as it is for, whatever entries they want. The
// seeds are fixed, so that they want the same ones each time.
func TestCapacity(t *testing.T) {
	require(t)
	const flows = 4096
	d := openWith(t, plan(), Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 1 << 40, Flows: flows})
	d.control.setFlowQuota(1 << 20)
	d.fixSeeds()
	for i := range flows {
		if got, _ := d.run(t, policy.SideB, hmiTCP(uint16(20000+i%64*37), uint16(1000+i/64), flagSYN).bytes()); got != xdpRedirect {
			t.Fatalf("flow %d of %d: the program returned %d", i, flows, got)
		}
	}
	if _, live, err := d.Sweep(); err != nil || live != flows {
		t.Errorf("%d flows, %v", live, err)
	}
	d.hopsAgree(t)
}

// TestCapacityForLikeKeys holds nearly the same for keys of even steps, as those of a plant are, whatever the seeds:
// many clients of many servers, and many connections of many clients to one server.
func TestCapacityForLikeKeys(t *testing.T) {
	require(t)
	const clients, servers = 256, 128
	const flows = clients * servers
	p := plan()
	client := func(i int) netip.Addr { return netip4(198, 18, 50, byte(i)) }
	server := func(i int) netip.Addr { return netip4(198, 18, 60, byte(i)) }
	for id, address := range map[uint32]netip.Addr{idHMI: client(0), idPLC: server(0)} {
		prefix := netip.PrefixFrom(address, 24)
		p.Identities[id].Addresses = append(p.Identities[id].Addresses, prefix)
		for _, holder := range []uint32{id, 0} {
			p.Addresses = append(p.Addresses, policy.AddressEntry{Holder: holder, Prefix: prefix, Identity: id})
		}
	}
	d := openWith(t, p, Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 1 << 40, Flows: flows})
	d.control.setFlowQuota(1 << 20)
	random := rand.New(rand.NewPCG(2, 1))
	for draw := range 16 {
		d.emptyFlows(t)
		for i := range d.control.block.Hashes {
			for j := range d.control.block.Hashes[i].Seeds {
				d.control.block.Hashes[i].Seeds[j] = random.Uint64()
			}
		}
		denied := 0
		for i := range flows {
			to, port := server(i/clients), uint16(40000)
			if draw%2 == 1 {
				to, port = server(0), uint16(40000+i/clients)
			}
			ip := ipPacket(client(i%clients), to, 6, 0, tcpSegment(port, 102, flagSYN))
			if got, _ := d.run(t, policy.SideB, ether(macHMI, macPLC, ip).bytes()); got != xdpRedirect {
				denied++
			}
		}
		if denied > flows/5000 {
			t.Errorf("draw %d: %d flows of %d found no room", draw, denied, flows)
		}
	}
}

// TestFlowsOfIPv6AreToldApart begins flows that differ in nothing but one of their IPv6 addresses, around
// one home.
func TestFlowsOfIPv6AreToldApart(t *testing.T) {
	p := plan()
	prefix := netip.MustParsePrefix("2001:200::/64")
	for id, address := range map[uint32]netip.Prefix{idHMI: prefix, idPLC: netip.PrefixFrom(netip6(200), 128)} {
		p.Identities[id].Addresses = append(p.Identities[id].Addresses, address)
		for _, holder := range []uint32{id, 0} {
			p.Addresses = append(p.Addresses, policy.AddressEntry{Holder: holder, Prefix: address, Identity: id})
		}
	}
	d := open(t, p)
	d.narrow(t)
	d.control.setAdoptUntil(0)
	request := func(host byte, flags byte) packet {
		return ether(macHMI, macPLC, ipPacket(netip6(host), netip6(200), 6, 0, tcpSegment(40000, 102, flags)))
	}
	reply := func(host byte) packet {
		return ether(macPLC, macHMI, ipPacket(netip6(200), netip6(host), 6, 0, tcpSegment(102, 40000, flagACK)))
	}
	for host := byte(1); host <= 8; host++ {
		d.denied(t, "a reply before its flow", policy.SideA, reply(host), verdict.ReasonNoConduit)
		d.passes(t, policy.SideB, request(host, flagSYN), 1)
		d.passes(t, policy.SideA, reply(host), 1)
	}
	n := 0
	d.flowTable.each(func(e *entry) bool {
		d.isPlaced(t, e)
		if e.flow.Sum[0]&sumFramesMask != 1 || e.flow.Sum[1]&sumFramesMask != 1 {
			t.Errorf("sums %x", e.flow.Sum)
		}
		n++
		return true
	})
	if n != 8 {
		t.Errorf("%d flows", n)
	}
	d.denied(t, "a reply to another host", policy.SideA, reply(9), verdict.ReasonNoConduit)
}

// hash is hash_words of bpf/lib/table.h over set_words and the addresses.
func (c *control) hash(of int, k *bpf.BridgeFlowKey) uint64 {
	var words []uint32
	add := func(b []byte) {
		for ; len(b) > 0; b = b[4:] {
			words = append(words, binary.NativeEndian.Uint32(b))
		}
	}
	add(append(k.MacA[:], k.MacB[:]...))
	words = append(words, uint32(k.PortA)|uint32(k.PortB)<<16, uint32(k.Tags[0])|uint32(k.Tags[1])<<16)
	a, b := address(k.IpA[:]), address(k.IpB[:])
	kind := uint32(6)
	if a.Is4() && b.Is4() {
		kind = 4
	}
	words = append(words, uint32(k.Protocol)|uint32(k.Fragment)<<8|kind<<16)
	if kind == 4 {
		add(k.IpA[12:])
		add(k.IpB[12:])
	} else {
		add(k.IpA[:])
		add(k.IpB[:])
	}
	seeds := &c.block.Hashes[of].Seeds
	sum := seeds[len(seeds)-1]
	for i := 0; i < len(words); i += 2 {
		sum += (seeds[i] + uint64(words[i])) * (seeds[i+1] + uint64(words[i+1]))
	}
	return sum
}

// flowSpilled is FLOW_SPILLED of bpf/types.h.
const flowSpilled = 0x40

// printHop are the bits of an entry's print that are not the flow's (PRINT_HOP in bpf/types.h).
const printHop = 0x0f

// print is the print of a key.
func (c *control) print(k *bpf.BridgeFlowKey) uint64 {
	return c.hash(1, k)>>32<<32 | c.hash(2, k)>>32
}

// homeOf is the entry where a flow is looked for first, or where it is looked for once it has spilled.
func (d *Datapath) homeOf(e *entry) uint32 {
	sum, homes, spill := d.control.hash(0, &e.record.Key), uint64(d.control.block.FlowHomes), uint64(d.control.block.FlowSpill)
	stirred := uint32(sum >> 32)
	home := uint64((stirred^stirred>>15)*0x9e3779b1) * homes
	if e.flow.Treatment&flowSpilled != 0 {
		return uint32(homes + (home^sum)&math.MaxUint32*spill>>32)
	}
	return uint32(home >> 32)
}

// isPlaced holds that a flow has the print of its key and lies around one of its homes.
func (d *Datapath) isPlaced(t *testing.T, e *entry) {
	t.Helper()
	c, key := d.control, &e.record.Key
	if (e.flow.Print^c.print(key))&^printHop != 0 {
		t.Errorf("the print of %+v is %x, want %x", *key, e.flow.Print, c.print(key))
	}
	if home := d.homeOf(e); home/entriesAround != e.at/entriesAround {
		t.Errorf("%+v lies in entry %d, and its home is %d", *key, e.at, home)
	}
}

// TestPlacesOfFlows holds that what the programs make of keys is what is written of it: flows of all kinds
// have the print of their key, and lie around their home.
func TestPlacesOfFlows(t *testing.T) {
	d := openWith(t, plan(), Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 1 << 40, Flows: 256})
	d.control.setFlowQuota(1 << 20)
	for port := range uint16(256) { // a few may find no room
		d.run(t, policy.SideB, hmiTCP(10000+port, 102, flagSYN).bytes())
	}
	spilled := 0
	d.flowTable.each(func(e *entry) bool {
		d.isPlaced(t, e)
		if e.flow.Treatment&flowSpilled != 0 {
			spilled++
		}
		return true
	})
	if n := len(d.flowsByPort(t)); n < 250 || spilled == 0 {
		t.Errorf("%d flows, %d of them spilled: the test tests nothing", n, spilled)
	}
	d.hopsAgree(t)
}

// TestFirstLookFindsMost holds that of a table that is three quarters full more than nine flows in ten are at
// home, beside it, or where the home says. The seeds are fixed.
func TestFirstLookFindsMost(t *testing.T) {
	require(t)
	const size, flows = 4096, 3125
	d := openWith(t, plan(), Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 1 << 40, Flows: size})
	d.control.setFlowQuota(1 << 20)
	d.fixSeeds()
	for i := range flows {
		d.passes(t, policy.SideB, hmiTCP(uint16(20000+i%64*37), uint16(1000+i/64), flagSYN), 1)
	}
	found, all := 0, 0
	d.flowTable.each(func(e *entry) bool {
		home := d.homeOf(e)
		hop := e.at ^ home
		if e.flow.Treatment&flowSpilled == 0 && (hop < 2 || hop == uint32(d.flowTable.flows[home].Print&printHop)) {
			found++
		}
		all++
		return true
	})
	if all != flows || found*10 < flows*9 {
		t.Errorf("%d of %d flows are found at the first look", found, all)
	}
}

// TestFirstLookDoesNotJump holds that the compiled programs choose where to look without a jump that depends on
// what the first two entries hold: compilers like to make one.
func TestFirstLookDoesNotJump(t *testing.T) {
	spec, err := bpf.LoadBridge()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"port_a", "port_b"} {
		looks := 0
		for _, ins := range spec.Programs[name].Instructions {
			if ins.Reference() == bpf.BridgeMapFlows {
				looks++
			}
			op := ins.OpCode.JumpOp()
			if looks != 2 || op == asm.InvalidJumpOp || op == asm.Call || op == asm.JEq && ins.Constant == 0 {
				continue // whether an entry is there is foreseen: it is
			}
			t.Errorf("%s: between its second and third look it has %v", name, ins)
		}
		if looks < 3 {
			t.Errorf("%s looks %d times", name, looks)
		}
	}
}

// TestKnownFramesGoTheShortWay holds which frames of a known conversation go the short way, and that each is
// counted once, whichever way it goes. Only the short one counts in passes.
func TestKnownFramesGoTheShortWay(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	d.passes(t, policy.SideA, plcTCP(102, 40000, flagSYN|flagACK), 1)
	ack := hmiTCP(40000, 102, flagACK).bytes()
	with := func(at int, value byte) []byte {
		b := bytes.Clone(ack)
		b[at] = value
		return b
	}
	const headerLength, totalLength, fragment, dataOffset = 14, 17, 20, 46
	for _, row := range []struct {
		name  string
		side  policy.Side
		frame []byte
		short bool
		what  func()
	}{
		{"a segment", policy.SideB, ack, true, nil},
		{"an answer", policy.SideA, plcTCP(102, 40000, flagACK).bytes(), true, nil},
		{"with padding", policy.SideB, append(bytes.Clone(ack), make([]byte, 20)...), true, nil},
		{"may not be fragmented", policy.SideB, with(fragment, 0x40), true, nil},
		{"a fragment", policy.SideB, with(fragment, 0x20), false, nil},
		{"with a priority tag", policy.SideB, hmiTCP(40000, 102, flagACK).tagged(0x8100 << 16).bytes(), false, nil},
		{"with options", policy.SideB, with(headerLength, 0x46), false, nil},
		{"longer than its frame", policy.SideB, with(totalLength, 200), false, nil},
		{"a header longer than its packet", policy.SideB, with(dataOffset, 0xf0), false, nil},
		{"a header shorter than one", policy.SideB, with(dataOffset, 0x40), false, nil},
		{"cut off", policy.SideB, ack[:50], false, nil},
		{"to a group", policy.SideB, with(0, ack[0]|1), false, nil},
		{"from a group", policy.SideB, with(6, ack[6]|1), false, nil},
		{"from the other side", policy.SideA, ack, false, nil},
		{"a SYN+ACK again", policy.SideA, plcTCP(102, 40000, flagSYN|flagACK).bytes(), false, nil},
		{"a FIN", policy.SideB, hmiTCP(40000, 102, flagFIN|flagACK).bytes(), false, nil},
		{"after a FIN", policy.SideB, ack, true, nil},
		{"undecided for too long", policy.SideB, ack, false, func() { d.changeFlows(t, func(e *entry) { e.flow.Decided -= uint16(25 * time.Hour >> decidedShift) }) }},
		{"decided again", policy.SideB, ack, true, nil},
		{"of the policy before", policy.SideB, ack, false, func() { d.changeFlows(t, func(e *entry) { e.flow.Generation-- }) }},
		{"idle for too long", policy.SideB, ack, false, func() { d.age(t) }},
		{"begun again", policy.SideB, ack, true, nil},
	} {
		if row.what != nil {
			row.what()
		}
		d.goesItsWay(t, row.name, conduitOPC, row.side, row.frame, row.short)
	}
}

// goesItsWay sends a frame of a conduit and returns what the program did. It has to go the short way or not, as
// short says, and to be counted once if it passes: only the short way counts in passes.
func (d *Datapath) goesItsWay(t *testing.T, name string, conduit uint32, side policy.Side, frame []byte, short bool) uint32 {
	t.Helper()
	shortly, all := d.known.of(1, conduit), d.allowed(t, conduit)
	verdict, _ := d.run(t, side, frame)
	gone, counted := d.known.of(1, conduit)-shortly, d.allowed(t, conduit)-all
	if want := map[bool]uint64{true: 1}[short]; gone != want {
		t.Errorf("%s: %d frames went the short way, want %d", name, gone, want)
	}
	if want := map[uint32]uint64{xdpRedirect: 1}[verdict]; counted != want {
		t.Errorf("%s: the program returned %d and counted %d frames", name, verdict, counted)
	}
	return verdict
}

// allowed is how many frames of a conduit were redirected.
func (d *Datapath) allowed(t *testing.T, conduit uint32) uint64 {
	t.Helper()
	counts, err := d.Conduits()
	if err != nil {
		t.Fatal(err)
	}
	return counts[conduit].Allowed
}

// TestFlowsOfPoliciesLongGone holds that a flow is no more, and never answers again, whose policy is so many
// policies ago that the number in its entry could soon be another one's.
func TestFlowsOfPoliciesLongGone(t *testing.T) {
	d := open(t, plan())
	for port, behind := range map[uint16]uint32{40000: 0, 40001: 1, 40002: staleGenerations - 1, 40003: staleGenerations, 40004: 1<<16 - 1} {
		d.passes(t, policy.SideB, hmiTCP(port, 102, flagSYN), 1)
		d.flowTable.each(func(e *entry) bool {
			if networkToHost16(e.record.Key.PortB) == port {
				e.record.Generation -= behind
				if err := d.objects.FlowRecords.Put(e.at, &e.record); err != nil {
					t.Fatal(err)
				}
			}
			return true
		})
	}
	if expired, live, err := d.Sweep(); expired != 2 || live != 3 || err != nil {
		t.Errorf("Sweep: %d expired, %d live, %v", expired, live, err)
	}
	left := d.flowsByPort(t)
	for _, port := range []uint16{40003, 40004} {
		if _, there := left[port]; there {
			t.Errorf("the flow of port %d is still there", port)
		}
	}
}

// TestSweepSparesFlowsOfTheNextPolicy holds that a flow stays which a policy has decided that came into force
// after the sweep looked which one is.
func TestSweepSparesFlowsOfTheNextPolicy(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	d.changeFlows(t, func(e *entry) {
		e.flow.Generation++
		e.record.Generation++
		if err := d.objects.FlowRecords.Put(e.at, &e.record); err != nil {
			t.Fatal(err)
		}
	})
	if expired, live, err := d.Sweep(); expired != 0 || live != 1 || err != nil {
		t.Errorf("Sweep: %d expired, %d live, %v", expired, live, err)
	}
}

// TestRemovalAsksForTheSameFlow holds that what was chosen is removed only as long as it is the
// same flow and idle.
func TestRemovalAsksForTheSameFlow(t *testing.T) {
	d := open(t, plan())
	choose := func() (chosen []bpf.BridgeFlowChoice) {
		d.flowTable.each(func(e *entry) bool {
			chosen = append(chosen, bpf.BridgeFlowChoice{At: e.at, Version: e.flow.Version})
			return true
		})
		return chosen
	}
	removed := func(what string, chosen []bpf.BridgeFlowChoice, want int) {
		t.Helper()
		if n, err := d.remove(chosen, false); err != nil || n != want {
			t.Errorf("%s: %d flows of %d removed, want %d: %v", what, n, len(chosen), want, err)
		}
	}
	syn := hmiTCP(40000, 502, flagSYN)
	d.passes(t, policy.SideB, syn, 1)
	removed("not idle", choose(), 0)
	d.age(t)
	chosen := choose()
	d.passes(t, policy.SideB, syn, 1) // ends it and begins another
	d.age(t)
	removed("another flow in the same entry", chosen, 0)
	removed("an entry beyond the table", []bpf.BridgeFlowChoice{{At: 1 << 30, Version: entryLive}}, 0)
	removed("twice the same", append(choose(), choose()...), 1)
	removed("a free entry", []bpf.BridgeFlowChoice{{At: chosen[0].At, Version: d.flowTable.flows[chosen[0].At].Version}}, 0)
	if got := d.freeSlotCount(t); got != int(d.objects.Slots.MaxEntries())-1 {
		t.Errorf("%d slots are free", got)
	}
}

// TestReadingDuringTraffic reads a flow while frames of both directions are counted for it: no reading
// shows less than the one before, and the last one shows all.
func TestReadingDuringTraffic(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	const frames = 300_000
	var running sync.WaitGroup
	var sent atomic.Int32
	for _, way := range []struct {
		side  policy.Side
		frame []byte
	}{{policy.SideB, hmiTCP(40000, 102, flagACK).bytes()}, {policy.SideA, plcTCP(102, 40000, flagACK).bytes()}} {
		running.Go(func() {
			defer sent.Add(1)
			uninterrupted(t)
			program := d.objects.PortA
			if way.side == policy.SideB {
				program = d.objects.PortB
			}
			if _, _, err := program.Benchmark(way.frame, frames, nil); err != nil {
				t.Error(err)
			}
		})
	}
	var last Flow
	for readings := 0; sent.Load() < 2 || readings < 10; readings++ {
		now := d.flowsByPort(t)[40000]
		for i := range now.Frames {
			if now.Frames[i] < last.Frames[i] || now.Bytes[i] < last.Bytes[i] || now.Bytes[i] != 60*now.Frames[i] {
				t.Fatalf("%v frames and %v bytes after %v and %v", now.Frames, now.Bytes, last.Frames, last.Bytes)
			}
		}
		last = now
	}
	running.Wait()
	if now := d.flowsByPort(t)[40000]; now.Frames != [2]uint64{frames, frames + 1} {
		t.Errorf("%v frames were counted of %d each way", now.Frames, frames)
	}
}

// uninterrupted keeps signals, by which the Go runtime takes a thread's goroutine from it, from the
// goroutine's thread, which then ends with it: a run that is interrupted begins anew, and counts frames
// twice.
func uninterrupted(t *testing.T) {
	runtime.LockOSThread()
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil {
		t.Error(err)
	}
}

// TestUnendedMove holds that a flow is read, and expires, whose counters seem to move for ever.
func TestUnendedMove(t *testing.T) {
	d := open(t, plan())
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	d.flowTable.each(func(e *entry) bool {
		e.record.Moves[1] = 7
		if err := d.objects.FlowRecords.Put(e.at, &e.record); err != nil {
			t.Fatal(err)
		}
		return true
	})
	if got := len(d.flowsByPort(t)); got != 1 {
		t.Errorf("%d flows are read", got)
	}
	d.age(t)
	if expired, live, err := d.Sweep(); expired != 1 || live != 0 || err != nil {
		t.Errorf("Sweep: %d expired, %d live, %v", expired, live, err)
	}
}

// TestNoVerdictOfAnother has two CPUs begin, use and end more flows than there are entries, while a third
// party removes and reads them: a frame is never treated, and no reader is told, as another flow's
// verdict would have it.
func TestNoVerdictOfAnother(t *testing.T) {
	d := open(t, plan())
	d.narrow(t)
	d.control.setAdoptUntil(0)
	stop := time.Now().Add(3 * time.Second)
	var all sync.WaitGroup
	during := func(f func(round int)) {
		all.Go(func() {
			for round := 0; time.Now().Before(stop) && !t.Failed(); round++ {
				f(round)
			}
		})
	}
	const ports = 3 * entriesAround
	var forwarded, handedOn atomic.Int64
	for _, way := range []struct {
		side  policy.Side
		frame func(client, service uint16) packet
	}{
		{policy.SideB, func(client, service uint16) packet { return hmiTCP(client, service, flagSYN) }},
		{policy.SideA, func(client, service uint16) packet { return plcTCP(service, client, flagACK) }},
	} {
		during(func(round int) {
			client := uint16(10000 + round*7%ports)
			if got, _ := d.run(t, way.side, way.frame(client, 102).bytes()); got == xdpPass {
				t.Error("a frame of a plain flow was handed on")
			} else if got == xdpRedirect {
				forwarded.Add(1)
			}
			if got, _ := d.run(t, way.side, way.frame(client+1000, 502).bytes()); got == xdpRedirect {
				t.Error("a frame of an inspected flow was forwarded")
			} else if got == xdpPass {
				handedOn.Add(1)
			}
		})
	}
	// Time leaps to and fro: each time every flow has long been idle.
	tick := d.flowClock().tickLength
	during(func(round int) {
		atomic.StoreUint64(&d.control.block.Tick, tick+uint64(round%2)*tick/4)
		time.Sleep(time.Millisecond)
	})
	removed := 0
	during(func(int) {
		var chosen []bpf.BridgeFlowChoice
		for at := range uint32(2 * entriesAround) {
			var e entry
			if !d.flowTable.get(at, &e) {
				continue
			}
			chosen = append(chosen, bpf.BridgeFlowChoice{At: at, Version: e.flow.Version})
			service, conduit, action := networkToHost16(e.record.Key.PortA), uint32(e.flow.Conduit), e.action()
			plain := service == 102 && conduit == conduitOPC && action == verdict.Allow && e.record.Slot == 0
			inspected := service == 502 && conduit == conduitModbus && action == verdict.Inspect && e.record.Slot != 0
			if (e.flow.Print^d.control.print(&e.record.Key))&^printHop != 0 || !plain && !inspected {
				t.Errorf("entry %+v with record %+v", e.flow, e.record)
			}
		}
		n, err := d.remove(chosen, false)
		if err != nil {
			t.Error(err)
		}
		removed += n
	})
	all.Wait()
	atomic.StoreUint64(&d.control.block.Tick, tick)
	if forwarded.Load() == 0 || handedOn.Load() == 0 || removed == 0 {
		t.Errorf("%d frames forwarded, %d handed on, %d flows removed: the test tests nothing", forwarded.Load(), handedOn.Load(), removed)
	}
	d.flowsByPort(t)
	d.hopsAgree(t)
	d.noSlotTwice(t)
}

// TestEveryPartOfTheKeyCounts has all flows begin their way at one entry, and sends frames that differ
// from a live flow's in one part of the key each.
func TestEveryPartOfTheKeyCounts(t *testing.T) {
	d := open(t, plan())
	d.emptyFlows(t)
	d.control.setFlowEntries(1, 1)
	d.control.setAdoptUntil(0)
	d.passes(t, policy.SideB, hmiTCP(40000, 102, flagSYN), 1)
	d.passes(t, policy.SideA, plcTCP(102, 40000, flagACK), 1)
	reply := func(src, dst [6]byte, ip []byte) packet { return ether(src, dst, ip) }
	tcp := tcpSegment(102, 40000, flagACK)
	for name, frame := range map[string]packet{
		"tag":          plcTCP(102, 40000, flagACK).tagged(0x8100<<16 | 10),
		"two tags":     plcTCP(102, 40000, flagACK).tagged(0x88a8<<16|10, 0x8100<<16|10),
		"MAC of a":     reply(macRTU, macHMI, ipPacket(ipPLC, ipHMI, 6, 0, tcp)),
		"MAC of b":     reply(macPLC, macRouter, ipPacket(ipPLC, ipHMI, 6, 0, tcp)),
		"address of a": reply(macPLC, macHMI, ipPacket(ipRTU, ipHMI, 6, 0, tcp)),
		"address of b": reply(macPLC, macHMI, ipPacket(ipPLC, ipFar, 6, 0, tcp)),
		"port of a":    plcTCP(103, 40000, flagACK),
		"port of b":    plcTCP(102, 40001, flagACK),
		"protocol":     reply(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 17, 0, udpDatagram(102, 40000))),
		"fragment":     reply(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 6, 0x2000, tcp)),
		"IPv6":         reply(macPLC, macHMI, ipPacket(netip6(10), netip6(20), 6, 0, tcp)),
	} {
		if got, _ := d.run(t, policy.SideA, frame.bytes()); got != xdpDrop {
			t.Errorf("another %s: the program returned %d", name, got)
		}
	}
	d.passes(t, policy.SideA, plcTCP(102, 40000, flagACK), 1)
}

// TestOneFlowOfAKey has two CPUs begin the same flow at the same moments: time goes so fast that with
// each tick of the kernel, which both see at once, the flow has been idle for too long.
func TestOneFlowOfAKey(t *testing.T) {
	d := open(t, plan())
	d.narrow(t)
	atomic.StoreUint64(&d.control.block.Tick, 1<<40)
	stop := time.Now().Add(3 * time.Second)
	var all sync.WaitGroup
	frame := hmiTCP(40000, 102, flagACK).bytes()
	for range 2 {
		all.Go(func() {
			for time.Now().Before(stop) {
				if _, _, err := d.objects.PortB.Benchmark(frame, 20_000, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	begun := map[uint32]bool{}
	for time.Now().Before(stop) && !t.Failed() {
		n := 0
		for at := range uint32(2 * entriesAround) {
			var e entry
			if d.flowTable.get(at, &e) {
				begun[e.flow.Version] = true
				n++
			}
		}
		if n > 1 {
			t.Errorf("%d flows of one key", n)
		}
		time.Sleep(100 * time.Microsecond)
	}
	all.Wait()
	if len(begun) < 20 {
		t.Errorf("the flow was begun %d times: the test tests nothing", len(begun))
	}
	if got := len(d.flowsByPort(t)); got > 1 {
		t.Errorf("%d flows are left", got)
	}
	d.hopsAgree(t)
}
