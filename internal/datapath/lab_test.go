package datapath

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// require skips a test that needs what is not here, and fails it where it has to be.
func require(t testing.TB) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	} else if _, err := os.Stat("/sys/fs/bpf"); err != nil {
		missing = "the BPF file system's mount point /sys/fs/bpf"
	}
	if missing == "" {
		return
	}
	if os.Getenv("PENSTOCK_REQUIRE_NET") == "1" {
		t.Fatalf("needs %s", missing)
	}
	t.Skipf("needs %s", missing)
}

// The devices of the tests.
var (
	macHMI    = [6]byte{2, 0, 0, 0, 0, 0x20}
	macPLC    = [6]byte{2, 0, 0, 0, 0, 0x10}
	macRTU    = [6]byte{2, 0, 0, 0, 0, 0x11}
	macRouter = [6]byte{2, 0, 0, 0, 0, 0x01}
	macOdd    = [6]byte{2, 0, 0, 0, 0, 0x77}
	ipHMI     = netip.MustParseAddr("198.18.0.20")
	ipPLC     = netip.MustParseAddr("198.18.0.10")
	ipRTU     = netip.MustParseAddr("198.18.0.11")
	ipRouter  = netip.MustParseAddr("198.18.0.1")
	ipFar     = netip.MustParseAddr("198.18.64.9") // behind the router
	ipOdd     = netip.MustParseAddr("198.18.0.77")
	broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// Identities and conduits of plan, by id.
const (
	idHMI = iota + 1
	idPLC
	idRTU
	idRouter
	idHistorian
	idBroadcast
)

const (
	conduitModbus = iota + 1
	conduitDNP3
	conduitOPC
	conduitProfinet
	conduitBoot
	conduitPing
	conduitAny
)

// plan is a policy as the compiler would hand it over: side a is the cell.
func plan() *policy.Plan {
	host := func(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())} }
	far := netip.MustParsePrefix("198.18.64.0/18")
	p := &policy.Plan{
		Mode: policy.Enforce, UnknownIdentity: verdict.Deny, IntraZone: verdict.Deny,
		ARPGuard: true, LinkLocal: verdict.Allow,
		Identities: []policy.Identity{
			{},
			{Name: "hmi", Side: policy.SideB, MAC: macHMI, Class: 1, ZoneID: 1, Addresses: host(ipHMI), Untagged: true, VLANs: []uint16{10, 20}},
			{Name: "plc", Side: policy.SideA, MAC: macPLC, Class: 2, ZoneID: 2, Addresses: host(ipPLC), Untagged: true, VLANs: []uint16{10, 20}},
			{Name: "rtu", Side: policy.SideA, MAC: macRTU, Class: 3, ZoneID: 2, Addresses: host(ipRTU), Untagged: true},
			{Name: "router", Kind: policy.KindRouter, Side: policy.SideB, MAC: macRouter, Class: 4, ZoneID: 1, Addresses: host(ipRouter), Untagged: true},
			{Name: "historian", Kind: policy.KindBehind, Side: policy.SideB, Class: 5, Via: idRouter, ZoneID: 3, Addresses: []netip.Prefix{far}, Untagged: true},
			{Name: "broadcast", Kind: policy.KindBroadcast, MAC: broadcast, Class: 6, Untagged: true},
		},
		Conduits: []policy.Conduit{
			{},
			{Name: "modbus", Mode: policy.Enforce, Inspect: true, OnOutage: policy.OutageOpen},
			{Name: "dnp3", Mode: policy.Enforce, OnOutage: policy.OutageClosed},
			{Name: "opc", Mode: policy.Enforce},
			{Name: "profinet", Mode: policy.Enforce},
			{Name: "boot", Mode: policy.Enforce},
			{Name: "ping", Mode: policy.Enforce},
			{Name: "any", Mode: policy.Enforce},
		},
		Ranges: []policy.Range{
			{Low: 102, High: 102, Conduit: conduitOPC}, {Low: 502, High: 502, Conduit: conduitModbus}, {Low: 1000, High: 2000, Conduit: conduitOPC},
			{Low: 20000, High: 20000, Conduit: conduitDNP3},
			{Low: 4840, High: 4840, Conduit: conduitOPC},
			{Low: 0x8892, High: 0x8892, Conduit: conduitProfinet},
			{Low: 67, High: 67, Conduit: conduitBoot},
			{Low: 8, High: 8, Conduit: conduitPing},
			{Low: 0, High: 65535, Conduit: conduitAny},
			{Low: 53, High: 53, Conduit: conduitOPC},
		},
		Pairs: []policy.Pair{
			{From: 1, To: 2, Transport: policy.TransportTCP, First: 0, Count: 3},
			{From: 1, To: 3, Transport: policy.TransportTCP, First: 3, Count: 1},
			{From: 5, To: 2, Transport: policy.TransportTCP, First: 4, Count: 1},
			{From: 1, To: 2, Transport: policy.TransportEtherType, First: 5, Count: 1},
			{From: 2, To: 6, Transport: policy.TransportUDP, First: 6, Count: 1},
			{From: 1, To: 2, Transport: policy.TransportICMP, First: 7, Count: 1},
			{From: 1, To: 3, Transport: policy.TransportUDP, First: 8, Count: 1},
			{From: 1, To: 2, Transport: policy.TransportUDP, First: 9, Count: 1},
		},
	}
	for i, id := range p.Identities {
		if id.MAC != ([6]byte{}) {
			p.MACs = append(p.MACs, policy.MACEntry{MAC: id.MAC, Identity: uint32(i)})
		}
		for _, prefix := range id.Addresses {
			holder := uint32(i)
			if id.Via != 0 {
				holder = id.Via
			}
			p.Addresses = append(p.Addresses,
				policy.AddressEntry{Holder: holder, Prefix: prefix, Identity: uint32(i)},
				policy.AddressEntry{Holder: 0, Prefix: prefix, Identity: uint32(i)})
		}
	}
	return p
}

// open loads a fast path with the plan in force; the ports' redirection leads to loopback,
// which is enough for a verdict and moves no frame.
func open(t testing.TB, p *policy.Plan) *Datapath {
	t.Helper()
	require(t)
	dir := testnet.PinDir(t)
	return openWith(t, p, Config{PinDir: dir, HeartbeatTimeout: time.Hour, AdoptionWindow: time.Hour})
}

func openWith(t testing.TB, p *policy.Plan, c Config) *Datapath {
	t.Helper()
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.setPorts(Port{"lo", 1}, Port{"lo", 1}); err != nil {
		t.Fatal(err)
	}
	if p != nil {
		if _, err := d.Apply(p, 1); err != nil {
			t.Fatal(err)
		}
	}
	d.Beat(QueueCloses)
	d.Beat(QueueOpens)
	return d
}

// Beat is a heartbeat of now.
func (d *Datapath) Beat(q Queue) { d.BeatAt(q, time.Now()) }

// The return values of an XDP program.
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

// run sends a frame into a side's program and returns its answer and the frame as it left.
func (d *Datapath) run(t testing.TB, side policy.Side, frame []byte) (uint32, []byte) {
	t.Helper()
	program := d.objects.PortA
	if side == policy.SideB {
		program = d.objects.PortB
	}
	out := make([]byte, len(frame)+256)
	options := &ebpf.RunOptions{Data: frame, DataOut: out}
	ret, err := program.Run(options)
	if err != nil {
		t.Fatalf("run the program: %v", err)
	}
	out = options.DataOut
	if ret == xdpPass {
		// The kernel hands out what stands in front of the frame, too.
		if got := binary.NativeEndian.Uint32(out); got != 0x50656e00+LayoutVersion {
			t.Fatalf("the frame passed with the metadata %#x", got)
		}
		out = out[24:] // struct front
	}
	return ret, out
}

// A frame under construction, outermost layer first.
type packet struct {
	src, dst  [6]byte
	tags      []uint32 // TPID << 16 | TCI
	ethertype uint16
	body      []byte
	short     bool // nobody pads it
}

func (p packet) bytes() []byte {
	b := append(append([]byte{}, p.dst[:]...), p.src[:]...)
	for _, tag := range p.tags {
		b = binary.BigEndian.AppendUint32(b, tag)
	}
	b = binary.BigEndian.AppendUint16(b, p.ethertype)
	b = append(b, p.body...)
	for !p.short && len(b) < 60 {
		b = append(b, 0)
	}
	return b
}

func (p packet) tagged(tags ...uint32) packet {
	p.tags = tags
	return p
}

const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

func ipPacket(src, dst netip.Addr, protocol uint8, fragment uint16, body []byte) []byte {
	if src.Is4() {
		h := make([]byte, 20, 20+len(body))
		h[0] = 0x45
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		binary.BigEndian.PutUint16(h[6:], fragment)
		h[8], h[9] = 64, protocol
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		return append(h, body...)
	}
	h := make([]byte, 40, 40+len(body))
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h[6], h[7] = protocol, 64
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(h, body...)
}

func ether(src, dst [6]byte, ip []byte) packet {
	p := packet{src: src, dst: dst, ethertype: 0x0800, body: ip}
	if ip[0]>>4 == 6 {
		p.ethertype = 0x86dd
	}
	return p
}

func tcpSegment(sport, dport uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[12], b[13] = 5<<4, flags
	return b
}

func udpDatagram(sport, dport uint16) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[5] = 12
	return b
}

func icmpEcho(kind uint8, id uint16) []byte {
	b := make([]byte, 16)
	b[0] = kind
	binary.BigEndian.PutUint16(b[4:], id)
	return b
}

func arp(src, dst [6]byte, sender [6]byte, senderIP, targetIP netip.Addr) packet {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, sender[:]...), senderIP.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), targetIP.AsSlice()...)
	return packet{src: src, dst: dst, ethertype: 0x0806, body: b}
}

func hmiTCP(sport, dport uint16, flags byte) packet {
	return ether(macHMI, macPLC, ipPacket(ipHMI, ipPLC, 6, 0, tcpSegment(sport, dport, flags)))
}

func plcTCP(sport, dport uint16, flags byte) packet {
	return ether(macPLC, macHMI, ipPacket(ipPLC, ipHMI, 6, 0, tcpSegment(sport, dport, flags)))
}
