package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/event"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/plant"
	"github.com/penstock-ot/penstock/internal/plant/cipio"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// cyclicConduit permits I/O with the assemblies given, and the Identity object.
func cyclicConduit(assemblies string, keys ...string) string {
	lines := append([]string{"name: cyclic", "from: [hmi-1]", "to: [filler-plc]", "protocol: enip"}, keys...)
	return strings.Join(append(lines, "rules:",
		"  - {services: [forward_open, large_forward_open, forward_close], io: {assemblies: ["+assemblies+"]}}",
		"  - {services: [get_attributes_all], classes: [identity]}",
	), "\n")
}

// ioPlant is a plant with an adapter in its cell and scanners in its room.
type ioPlant struct {
	*plant.Plant
	adapter *cipio.Adapter
	station *cipio.Station
}

func layIO(t *testing.T, o plant.Options) *ioPlant {
	t.Helper()
	return withAdapter(t, lay(t, o))
}

// withAdapter starts an adapter in the cell of a plant.
func withAdapter(t *testing.T, laid *plant.Plant) *ioPlant {
	t.Helper()
	p := &ioPlant{Plant: laid}
	var err error
	if p.adapter, err = cipio.StartAdapter(p.Filler, p.Filler.Address()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.adapter.Close)
	return p
}

func (p *ioPlant) connect(t *testing.T) *cipio.Scanner {
	t.Helper()
	var err error
	if p.station == nil {
		if p.station, err = cipio.NewStation(p.HMI, p.HMI.Address()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.station.Close)
	}
	s, err := p.station.Connect(p.Filler.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func mustOpen(t *testing.T, s *cipio.Scanner, o cipio.Options) *cipio.Connection {
	t.Helper()
	c, err := s.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// flows waits for frames in both directions.
func (p *ioPlant) flows(t *testing.T, c *cipio.Connection) {
	t.Helper()
	in, out := c.Received().Frames, p.adapter.Received().Frames
	eventually(t, "I/O both ways", func() bool { return c.Received().Frames > in+10 && p.adapter.Received().Frames > out+10 })
}

// stops waits until nothing of a scanner's reaches the adapter.
func (p *ioPlant) stops(t *testing.T) {
	t.Helper()
	eventually(t, "I/O to stop", func() bool {
		before := p.adapter.Received().Frames
		time.Sleep(100 * time.Millisecond)
		return p.adapter.Received().Frames == before
	})
}

func intact(t *testing.T, counts ...cipio.Count) {
	t.Helper()
	for _, c := range counts {
		if c.Lost+c.Old+c.Unequal != 0 {
			t.Errorf("of %d frames %d were lost, %d old, %d of another size", c.Frames, c.Lost, c.Old, c.Unequal)
		}
	}
}

func (p *ioPlant) queued(t *testing.T) (n uint64) {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range s.Queues {
		n += q.Packets
	}
	return n
}

// TestCyclicIO opens connections of each kind through the appliance. No frame of theirs is lost, and
// none reaches user space.
func TestCyclicIO(t *testing.T) {
	p := layIO(t, plant.Options{Policy: site{conduits: []string{cyclicConduit("100, 150, 151")}}.String()})
	s := p.connect(t)
	for name, o := range map[string]cipio.Options{
		"point to point": {}, "large": {Large: true, Output: 1000, Input: 700}, "multicast": {Multicast: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustOpen(t, s, o)
			p.flows(t, c)
			before := p.queued(t)
			p.flows(t, c)
			p.flows(t, c)
			if n := p.queued(t) - before; n > 4 { // late acknowledgements
				t.Errorf("%d packets went to user space", n)
			}
			intact(t, c.Received(), p.adapter.Received())
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := s.Open(cipio.Options{InputPoint: 101}); err == nil {
		t.Error("a connection to an assembly that no rule names was opened")
	}
}

// TestEvasion33CyclicIOThroughTheAppliance: before its Forward Open, after its Forward Close and with a
// wrong identifier, size or sequence nothing reaches the device, also after a restart of the daemon.
func TestEvasion33CyclicIOThroughTheAppliance(t *testing.T) {
	p := layIO(t, plant.Options{Policy: site{conduits: []string{cyclicConduit("100, 150, 151")}}.String()})
	wire, err := p.Tap(p.Filler, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	attacker, err := p.Tap(p.HMI, testnet.HostInterface)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "forged frame"
	forgeFrom := func(source netip.Addr, mac [6]byte, id, sequence uint32, size int) {
		t.Helper()
		data := cipio.Frame(id, sequence, uint16(size))
		copy(data[len(data)-len(mark):], mark)
		ip, err := frame.AppendUDP(nil, netip.AddrPortFrom(source, policy.IOPort), netip.AddrPortFrom(p.Filler.Address(), policy.IOPort), data)
		if err != nil {
			t.Fatal(err)
		}
		if err := attacker.Send(etherFrame(fillerMAC, mac, nil, ip)); err != nil {
			t.Fatal(err)
		}
	}
	forge := func(id, sequence uint32, size int) {
		t.Helper()
		forgeFrom(p.HMI.Address(), hmiMAC, id, sequence, size)
	}
	denied := func(reason verdict.Reason) {
		t.Helper()
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Reason == reason && e.Conduit == "cyclic" }); err != nil {
			t.Errorf("%v was not told: %v", reason, err)
		}
	}
	forge(0x00650001, 1, 38)
	denied(verdict.ReasonIONotOpen)
	s := p.connect(t)
	c := mustOpen(t, s, cipio.Options{})
	p.flows(t, c)
	output, input := c.Identifiers()
	late := uint32(c.Sent()) + 1<<17
	forge(output+1, late, 38)
	forge(input, late, 38)
	forge(output, late, 37)
	denied(verdict.ReasonIOSize)
	forge(output, late, 38)
	forge(output, 1, 38)
	denied(verdict.ReasonIOSequence)
	next := uint32(c.Sent()) + 100
	forgeFrom(netip.MustParseAddr("198.18.0.77"), hmiMAC, output, next, 38)
	forgeFrom(p.HMI.Address(), [6]byte{2, 0, 0, 0, 0, 0x77}, output, next, 38)
	if _, err := p.AwaitEvent(patience, func(e *event.Event) bool { return e.Reason == verdict.ReasonAddressSpoofed }); err != nil {
		t.Errorf("another source was not told: %v", err)
	}
	p.flows(t, c)

	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p.flows(t, c) // the conduit closes in an outage: what is open stays so
	start(t, p.Plant)
	p.flows(t, c)
	forge(output, 1, 38)
	intact(t, c.Received(), p.adapter.Received())
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	forge(output, uint32(c.Sent())+1, 38)
	denied(verdict.ReasonIONotOpen)
	for _, f := range wire.Frames() {
		if strings.Contains(string(f.Data), mark) {
			t.Errorf("a forged frame reached the device: % x", f.Data)
		}
	}
}

// TestEvasion33CyclicIOOutlivesForgedEnds: an RST and a FIN that their receiver does not believe, because of their
// sequence numbers, do not end the session of open I/O, from whichever side they come; a true one does.
func TestEvasion33CyclicIOOutlivesForgedEnds(t *testing.T) {
	p := layIO(t, plant.Options{Policy: site{conduits: []string{cyclicConduit("100, 150, 151")}}.String()})
	s := p.connect(t)
	c := mustOpen(t, s, cipio.Options{})
	p.flows(t, c)
	scanner, target := s.Session()
	for _, from := range []struct {
		host             *testnet.Host
		source, receiver netip.AddrPort
		to, mac          [6]byte
	}{
		{p.HMI, scanner, target, fillerMAC, hmiMAC},
		{p.Filler, target, scanner, hmiMAC, fillerMAC},
	} {
		attacker, err := p.Tap(from.host, testnet.HostInterface)
		if err != nil {
			t.Fatal(err)
		}
		for _, flags := range []uint8{frame.FlagRST, frame.FlagRST | frame.FlagACK, frame.FlagFIN | frame.FlagACK} {
			// Half of all numbers lie behind what the receiver has, so that one of these does and one does not.
			for _, number := range []uint32{1, 1 << 31} {
				ip, err := frame.AppendTCP(nil, &frame.TCPPacket{Src: from.source, Dst: from.receiver, Seq: number, Ack: number, Flags: flags, Window: 1000})
				if err != nil {
					t.Fatal(err)
				}
				if err := attacker.Send(etherFrame(from.to, from.mac, nil, ip)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
			return e.Reason == verdict.ReasonTCPState && e.SourceAddress == from.source.String()
		}); err != nil {
			t.Errorf("what was forged in the name of %v was not told: %v", from.source, err)
		}
	}
	for range 4 {
		time.Sleep(ioSweepInterval)
		p.flows(t, c)
	}
	if err := s.Identity(); err != nil {
		t.Errorf("the session does not go on: %v", err)
	}
	intact(t, c.Received(), p.adapter.Received())
	s.Reset()
	p.stops(t)
}

// TestCyclicIOUnderLoad has 32 connections at 2 ms, while explicit messages keep the slow path busy and
// the policy changes: no frame is lost.
func TestCyclicIOUnderLoad(t *testing.T) {
	text := site{conduits: []string{cyclicConduit("100, 150, 151")}}.String()
	p := layIO(t, plant.Options{Policy: text})
	s := p.connect(t)
	var open []*cipio.Connection
	for range 32 {
		open = append(open, mustOpen(t, s, cipio.Options{Interval: 2 * time.Millisecond, Multiplier: 7}))
	}
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		busy := p.connect(t)
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := busy.Identity(); err != nil {
					t.Errorf("an explicit message: %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		if _, err := p.Apply(fmt.Sprintf("%s# %d\n", text, i)); err != nil {
			t.Error(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	close(stop)
	group.Wait()
	sum := p.adapter.Received()
	for _, c := range open {
		if got := c.Received(); got.Frames == 0 {
			t.Error("a connection carried nothing")
		}
		sum.Add(c.Received())
	}
	intact(t, sum)
	t.Logf("%d cyclic frames beside %d messages", sum.Frames, p.adapter.Requests())
}

// TestCyclicIOPolicyChange: a policy whose rules permit a connection keeps it without losing a frame,
// one whose rules do not ends it, and also where a daemon before had opened it. The watchdogs are the longest that
// there are, for they are not what is tested: on a busy machine an end may be late.
func TestCyclicIOPolicyChange(t *testing.T) {
	permits := site{conduits: []string{cyclicConduit("100, 150, 151")}}.String()
	forbids := site{conduits: []string{cyclicConduit("100, 160, 151")}}.String()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted %v", restarted), func(t *testing.T) {
			p := layIO(t, plant.Options{Policy: permits})
			c := mustOpen(t, p.connect(t), cipio.Options{Multiplier: 7})
			p.flows(t, c)
			if restarted {
				if err := p.Kill(); err != nil {
					t.Fatal(err)
				}
				start(t, p.Plant)
			}
			if _, err := p.Apply(permits + "# again\n"); err != nil {
				t.Fatal(err)
			}
			p.flows(t, c)
			intact(t, c.Received(), p.adapter.Received())
			if _, err := p.Apply(forbids); err != nil {
				t.Fatal(err)
			}
			p.stops(t)
			if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
				return e.Reason == verdict.ReasonIONotOpen && strings.Contains(e.Detail, "no longer permits")
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCyclicIOSessionLost: a connection ends with the TCP connection that opened it, reset or closed, and where
// a rule lets it outlive its session with the reset alone; also where a daemon before had opened it.
func TestCyclicIOSessionLost(t *testing.T) {
	const assemblies = "100, 150, 151"
	lasting := strings.Replace(cyclicConduit(assemblies), assemblies+"]", assemblies+"], outlive_session: true", 1)
	for _, r := range []struct {
		name, conduit string
		end           func(*cipio.Scanner)
		restarted     bool
		over          bool
	}{
		{"reset", cyclicConduit(assemblies), (*cipio.Scanner).Reset, false, true},
		{"reset, may outlive its session", lasting, (*cipio.Scanner).Reset, false, true},
		{"closed", cyclicConduit(assemblies), (*cipio.Scanner).Close, false, true},
		{"closed, restarted", cyclicConduit(assemblies), (*cipio.Scanner).Close, true, true},
		{"closed, may outlive its session", lasting, (*cipio.Scanner).Close, false, false},
		{"closed, may outlive its session, restarted", lasting, (*cipio.Scanner).Close, true, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			p := layIO(t, plant.Options{Policy: site{conduits: []string{r.conduit}}.String()})
			s := p.connect(t)
			c := mustOpen(t, s, cipio.Options{})
			p.flows(t, c)
			if r.restarted {
				if err := p.Kill(); err != nil {
					t.Fatal(err)
				}
				start(t, p.Plant)
			}
			r.end(s)
			if !r.over {
				time.Sleep(4 * ioSweepInterval)
				p.flows(t, c)
				intact(t, c.Received(), p.adapter.Received())
				return
			}
			p.stops(t)
			if _, err := p.AwaitEvent(patience, func(e *event.Event) bool {
				return e.Reason == verdict.ReasonIONotOpen && strings.Contains(e.Detail, "session is over")
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCyclicIOAfterAnOutage: what was opened while nobody inspected passes where the conduit opens, and
// goes on when inspection is back.
func TestCyclicIOAfterAnOutage(t *testing.T) {
	p := layIO(t, plant.Options{
		Policy:   site{conduits: []string{cyclicConduit("100, 150, 151", "on_outage: open")}}.String(),
		Settings: []string{"adoption_window: 1s"},
	})
	kept := mustOpen(t, p.connect(t), cipio.Options{})
	p.flows(t, kept)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // until the last heartbeat is over
	c := mustOpen(t, p.connect(t), cipio.Options{})
	p.flows(t, c)
	start(t, p.Plant)
	p.flows(t, c)
	time.Sleep(1500 * time.Millisecond) // the window is over
	p.flows(t, c)
	p.flows(t, kept)
	intact(t, kept.Received())
	status, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if status.Outage.UninspectedFrames == 0 {
		t.Error("nothing was counted as uninspected")
	}
}

// TestCyclicIOObserved: lawful I/O of an observed conduit is not told as what would be denied, and what
// would be is.
func TestCyclicIOObserved(t *testing.T) {
	p := layIO(t, plant.Options{Policy: site{mode: "observe", conduits: []string{cyclicConduit("100, 150, 151")}}.String()})
	c := mustOpen(t, p.connect(t), cipio.Options{})
	p.flows(t, c)
	// Copies are judged after the frames have passed: until none is told that came before the opening was.
	before := p.denials(t)
	eventually(t, "the opening to be known", func() bool {
		last := before
		time.Sleep(300 * time.Millisecond)
		before = p.denials(t)
		return before == last
	})
	p.flows(t, c)
	p.flows(t, c)
	if n := p.denials(t) - before; n != 0 {
		t.Errorf("%d lawful frames would be denied", n)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCyclicIOObservedAndNotPermitted: what is opened on an observed conduit without permission is told of as it would be
// denied, and not as permitted and refused, for it passes.
func TestCyclicIOObservedAndNotPermitted(t *testing.T) {
	p := layIO(t, plant.Options{Policy: site{mode: "observe", conduits: []string{cyclicConduit("100")}}.String()})
	c := mustOpen(t, p.connect(t), cipio.Options{})
	p.flows(t, c)
	eventually(t, "its frames to be told of", func() bool { return p.denials(t) > 0 })
	time.Sleep(time.Second) // copies of the messages are judged after the frames have passed
	p.flows(t, c)
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if s.IO.Refused != 0 || s.IO.Open != 0 || slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "I/O connection") }) {
		t.Errorf("%+v, %q", s.IO, s.Warnings)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCyclicIOFromObservedToEnforced: a connection that was opened while its conduit was observed goes on when that is
// enforced, beside one that is opened then on the same session, and each is closed by itself.
func TestCyclicIOFromObservedToEnforced(t *testing.T) {
	of := func(mode string) string {
		return site{mode: mode, conduits: []string{cyclicConduit("100, 150, 151")}}.String()
	}
	p := layIO(t, plant.Options{Policy: of("observe")})
	s := p.connect(t)
	first := mustOpen(t, s, cipio.Options{})
	p.flows(t, first)
	if _, err := p.Apply(of("enforce")); err != nil {
		t.Fatal(err)
	}
	p.flows(t, first)
	second := mustOpen(t, s, cipio.Options{})
	p.flows(t, second)
	time.Sleep(2 * time.Second) // sweeps of both pipelines
	p.flows(t, first)
	p.flows(t, second)
	intact(t, first.Received(), second.Received(), p.adapter.Received())
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	p.flows(t, second)
	intact(t, second.Received())
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	p.stops(t)
	if s, err := p.Status(); err != nil || s.IO.Open != 0 {
		t.Errorf("open at the end: %+v, %v", s.IO, err)
	}
}

// denials is how often cyclic I/O was, or would have been, denied.
func (p *ioPlant) denials(t *testing.T) (n uint64) {
	t.Helper()
	s, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Conduits {
		n += c.Denied
	}
	return n
}

// TestCyclicIOOfAnotherScanner drives the adapter through the appliance with the scanner of a library
// that others wrote.
func TestCyclicIOOfAnotherScanner(t *testing.T) {
	testnet.RequireNet(t)
	modules := cipio.InstallScanner(t)
	p := layIO(t, plant.Options{Policy: site{conduits: []string{cyclicConduit("100, 150, 151")}}.String()})
	script := filepath.Join(modules, "scan.js")
	if err := os.WriteFile(script, []byte(cipio.ScannerScript), 0o600); err != nil {
		t.Fatal(err)
	}
	var proc *testnet.Process
	var err error
	for range 3 { // on a busy machine its own time-outs may run off
		if proc, err = p.Lab.Start(p.HMI, "node", script, p.Filler.Address().String(), p.HMI.Address().String()); err != nil {
			t.Fatal(err)
		}
		if err = proc.WaitOutput("connected", 2*patience); err == nil {
			break
		}
		t.Log(err)
		if err := proc.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	before := p.adapter.Received().Frames
	eventually(t, "its frames", func() bool { return p.adapter.Received().Frames > before+50 })
	intact(t, p.adapter.Received())
	if strings.Contains(proc.Output(), "disconnected") {
		t.Error(proc.Output())
	}
}
