package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/penstock-ot/penstock/internal/datapath/pktgen"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/testnet"
)

const (
	// floodRate is in frames a second, about half of what the kernel's bridge carries on one
	// core with a host behind it that has to look at each.
	floodRate = 200_000

	floodTemplates = 3072
	floodFlows     = 16 * floodTemplates
)

// flooded is one lawful conversation under a flood.
type flooded struct {
	*traveller
	generator *pktgen.Generator
	sent      uint64
	lasted    time.Duration
}

// flood compares lawful conversations while their port receives a flood of frames that no
// conduit permits.
func (b *bench) flood() error {
	traffic, err := floodTraffic()
	if err != nil {
		return err
	}
	bridge, err := b.layBurstBridge("bridge")
	if err != nil {
		return err
	}
	gate, err := b.layAppliance("penstock", tripPolicy)
	if err != nil {
		return err
	}
	var all []*flooded
	for _, x := range []struct {
		line  *line
		label string
		port  uint16
	}{
		{bridge, "Linux bridge", plainPort},
		{gate, "Penstock, plain conduit", plainPort},
		{gate, "Penstock, inspected", inspectedPort},
	} {
		t, err := b.travel(x.line, x.label, x.port, nil)
		if err != nil {
			return err
		}
		g, err := b.generator(x.line.Plant, testnet.HostInterface, traffic)
		if err != nil {
			return err
		}
		all = append(all, &flooded{traveller: t, generator: g})
	}
	for round := range b.rounds {
		for i := range all {
			if err := all[(i+round)%len(all)].run(b); err != nil {
				return err
			}
		}
	}
	b.report.flood(all)
	for _, f := range all[1:] {
		b.report.bar(fmt.Sprintf("%s under a flood, 99th percentile, times the Linux bridge", f.label),
			compare(f.traveller, all[0].traveller, p99), atMost(1))
		b.report.bar("… segments lost beyond the bridge's", float64(f.resent())-float64(all[0].resent()), atMost(0))
	}
	return nil
}

// floodPause is between two round trips, as a client that polls has it.
const floodPause = 200 * time.Microsecond

// run is one turn under the flood.
func (f *flooded) run(b *bench) error {
	cores, err := coreSet()
	if err != nil {
		return err
	}
	before, err := f.generator.Sent()
	if err != nil {
		return err
	}
	started := time.Now()
	flood := startStream(f.generator, f.Plant, floodRate)
	err = f.traveller.run(b, &cores, b.trips, floodPause)
	if stopped := flood.stop(); err == nil {
		err = stopped
	}
	if err != nil {
		return fmt.Errorf("under the flood: %w", err)
	}
	f.lasted += time.Since(started)
	after, err := f.generator.Sent()
	f.sent += after - before
	return err
}

// resent is how many segments had to be sent again in all turns.
func (f *flooded) resent() (n uint32) {
	for _, t := range f.turns {
		n += t.resent
	}
	return n
}

// floodTraffic is what an attacker on the plant's side sends to the cell's device: from MAC
// addresses that nobody has, from a known device to ports that no conduit has, and fragments too
// short to hold ports. It is the same in every run.
func floodTraffic() (pktgen.Traffic, error) {
	t := pktgen.Traffic{Flows: floodFlows, PortOffset: sourcePortOffset, FirstPort: firstClientPort}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range floodTemplates {
		kind := []func(*rand.Rand) ([]byte, error){spoofedFrame, strayFrame, fragmentFrame}[i%3]
		f, err := kind(random)
		if err != nil {
			return t, err
		}
		t.Templates = append(t.Templates, f)
	}
	return t, nil
}

var (
	attackerMAC = [6]byte{0x02, 0, 0, 0, 0, 0x20} // testnet.PlantMAC
	targetMAC   = [6]byte{0x02, 0, 0, 0, 0, 0x10} // testnet.CellMAC
)

// spoofedFrame comes from a MAC and an IP address that nobody has.
func spoofedFrame(random *rand.Rand) ([]byte, error) {
	mac := [6]byte{0x02, 0xee}
	binary.BigEndian.PutUint32(mac[2:], random.Uint32())
	source := netip.AddrFrom4([4]byte{198, 19, byte(random.Uint32()), byte(random.Uint32())})
	return attack(mac, source, randomPort(random))
}

// strayFrame comes from a known device and begins a connection that no conduit permits.
func strayFrame(random *rand.Rand) ([]byte, error) {
	return attack(attackerMAC, netip.MustParseAddr(testnet.PlantAddress), randomPort(random))
}

func randomPort(random *rand.Rand) uint16 { return uint16(10000 + random.IntN(50000)) }

func attack(mac [6]byte, source netip.Addr, port uint16) ([]byte, error) {
	const flagSYN = 0x02
	ip, err := frame.AppendTCP(nil, &frame.TCPPacket{
		Src: netip.AddrPortFrom(source, firstClientPort),
		Dst: netip.AddrPortFrom(netip.MustParseAddr(testnet.CellAddress), port),
		Seq: 1, Flags: flagSYN, Window: 1024,
		Payload: make([]byte, pktgen.FrameLength-54),
	})
	if err != nil {
		return nil, fmt.Errorf("make a frame: %w", err)
	}
	return frame.PrependEthernet(targetMAC, mac, nil, 0x0800, ip), nil
}

// fragmentFrame is the first eight bytes of a datagram whose rest never comes (RFC 1858).
func fragmentFrame(random *rand.Rand) ([]byte, error) {
	const moreFragments = 0x20
	f, err := strayFrame(random)
	if err != nil {
		return nil, err
	}
	ip := f[14:]
	binary.BigEndian.PutUint16(ip[2:], 28)
	binary.BigEndian.PutUint16(ip[4:], uint16(random.Uint32()))
	ip[6] = moreFragments
	binary.BigEndian.PutUint16(ip[10:], 0)
	binary.BigEndian.PutUint16(ip[10:], headerChecksum(ip[:20]))
	return f, nil
}

// headerChecksum is that of an IPv4 header whose checksum field is 0 (RFC 1071).
func headerChecksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
