package datapath

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/testnet"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// marked sends a frame that is to be inspected, and returns its mark.
func (d *Datapath) marked(t *testing.T, side policy.Side, p packet) uint32 {
	t.Helper()
	program := d.objects.PortA
	if side == policy.SideB {
		program = d.objects.PortB
	}
	options := &ebpf.RunOptions{Data: p.bytes(), DataOut: make([]byte, 512)}
	ret, err := program.Run(options)
	if err != nil {
		t.Fatal(err)
	}
	if ret != xdpPass {
		t.Fatalf("the program returned %d, want that the frame goes to inspection", ret)
	}
	return binary.NativeEndian.Uint32(options.DataOut[4:])
}

// leaves has a frame be inspected and leave with what the verdict says that its conversation has come to.
func (d *Datapath) leaves(t *testing.T, side policy.Side, p packet, stage uint32) {
	t.Helper()
	d.verdict(t, d.marked(t, side, p), stage)
}

// verdict lets the frame with a mark leave.
func (d *Datapath) verdict(t *testing.T, m, stage uint32) {
	t.Helper()
	if got, _ := runSKB(t, d.objects.ExitGate, mark.Permitted|mark.Key(m)|stage); got != tcOK {
		t.Errorf("the exit gate answered %d, want that the frame leaves", got)
	}
}

const lanesUnderTest = 4

func openLanes(t *testing.T, share uint32) *Datapath {
	t.Helper()
	require(t)
	d := openWith(t, plan(), Config{
		PinDir: testnet.PinDir(t), HeartbeatTimeout: time.Minute, AdoptionWindow: time.Hour,
		Lanes: lanesUnderTest, QueueShare: share,
	})
	for q := range Queue(2 * lanesUnderTest) {
		d.Beat(q)
	}
	return d
}

// TestFlowsAreSpreadOverLanes: each lane gets its part of the flows, both directions of a flow the
// same one, and the queue of its conduit's outage choice.
func TestFlowsAreSpreadOverLanes(t *testing.T) {
	d := openLanes(t, 0)
	flows := map[Queue]int{}
	const each = 8
	for port := range uint16(each * lanesUnderTest) {
		q := mark.QueueOf(d.marked(t, policy.SideB, hmiTCP(20000+port, 502, flagSYN)), lanesUnderTest)
		for range 3 {
			if back := mark.QueueOf(d.marked(t, policy.SideA, plcTCP(502, 20000+port, flagACK)), lanesUnderTest); back != q {
				t.Fatalf("port %d waits in queue %d, and its answers in %d", 20000+port, q, back)
			}
		}
		if !q.Opens() {
			t.Errorf("queue %d is of conduits that close", q)
		}
		flows[q]++
	}
	for lane := range lanesUnderTest {
		if n := flows[mark.LaneQueue(lane, true)]; n != each {
			t.Errorf("lane %d has %d flows, want %d", lane, n, each)
		}
	}
}

// TestInvariant06HangOfOneQueueIsItsFlowsOutage: XDP asks for the heartbeat of the queue that the
// frame would wait in.
func TestInvariant06HangOfOneQueueIsItsFlowsOutage(t *testing.T) {
	d := openLanes(t, 0)
	queues := map[uint16]Queue{}
	for port := uint16(20000); port < 20000+3*lanesUnderTest; port++ {
		queues[port] = mark.QueueOf(d.marked(t, policy.SideB, hmiTCP(port, 502, flagSYN)), lanesUnderTest)
	}
	hung := mark.LaneQueue(2, true)
	d.Rest(hung)
	before := d.reasons(t)
	opened := 0
	for port, q := range queues {
		want := uint32(xdpPass)
		if q == hung {
			want = xdpRedirect
			opened++
		}
		if got, _ := d.run(t, policy.SideB, hmiTCP(port, 502, flagACK).bytes()); got != want {
			t.Errorf("a frame of queue %d: the program returned %d, want %d", q, got, want)
		}
	}
	if got := moved(before, d.reasons(t))[verdict.ReasonOutageOpen]; opened != 3 || int(got) != opened {
		t.Errorf("%d flows of the queue, %d frames told as outage_open", opened, got)
	}
}

// TestShareOfAQueue: one identity may have so many packets waiting in a queue. Those over it are
// denied as queue_full; others, and what it sends into other queues, go on.
func TestShareOfAQueue(t *testing.T) {
	const share = 16
	d := openLanes(t, share)
	full := mark.QueueOf(d.marked(t, policy.SideB, hmiTCP(20000, 502, flagSYN)), lanesUnderTest)
	p := d.Progress(full) // nothing waits
	before := d.reasons(t)
	if got := d.passes(t, policy.SideB, hmiTCP(20000, 502, flagACK), 100); got != share {
		t.Errorf("%d of 100 frames went on, want the share of %d", got, share)
	}
	if got := moved(before, d.reasons(t))[verdict.ReasonQueueFull]; got != 100-share {
		t.Errorf("%d frames were denied as queue_full, want %d", got, 100-share)
	}
	if got := d.passes(t, policy.SideA, plcTCP(502, 20000, flagACK), 10); got != 10 {
		t.Errorf("%d of 10 frames of the other end went on", got)
	}
	if got := d.passes(t, policy.SideB, hmiTCP(20001, 502, flagSYN), 1); got != 1 {
		t.Error("a flow of another queue had no room")
	}
	p.Answered(share/2, false, time.Now())
	if got := d.passes(t, policy.SideB, hmiTCP(20000, 502, flagACK), 100); got == 0 || got > share/2 {
		t.Errorf("after %d answers %d frames went on", share/2, got)
	}
}

// TestShareNeverLeaks: packets that are lost on their way to the verdict loop, in the kernel or with
// the loop itself, take nothing from a share for longer than a moment, however often it happens.
func TestShareNeverLeaks(t *testing.T) {
	const share = 16
	d := openLanes(t, share)
	q := mark.QueueOf(d.marked(t, policy.SideB, hmiTCP(20000, 502, flagSYN)), lanesUnderTest)
	fill := func() int { return d.passes(t, policy.SideB, hmiTCP(20000, 502, flagACK), 3*share) }
	p, now := d.Progress(q), time.Now()
	idle := func() { // the loop finds nothing, twice
		for range 2 {
			now = now.Add(transit)
			p.Answered(0, true, now)
		}
	}
	for round := range 50 {
		if got := fill(); got != share {
			t.Fatalf("round %d: %d frames went on, want %d", round, got, share)
		}
		idle() // none has come
	}
	for round := range 50 { // half of them come, late: they were taken for lost
		fill()
		idle()
		p.Answered(share/2, true, now)
		if got := fill(); got != share {
			t.Fatalf("late, round %d: %d frames went on, want %d", round, got, share)
		}
		idle()
	}
	fill()
	d.Progress(q) // another daemon
	if got := fill(); got != share {
		t.Errorf("after a restart %d frames went on, want %d", got, share)
	}
	p = d.Progress(q)
	fill()
	if p.Answered(0, false, now.Add(time.Hour)); fill() != 0 {
		t.Error("a queue that was not seen empty gave room")
	}
}

// TestShareOfASteadySender: who never has as much as half of its share waiting is never refused,
// although the queue is never empty.
func TestShareOfASteadySender(t *testing.T) {
	const share = 16
	d := openLanes(t, share)
	q := mark.QueueOf(d.marked(t, policy.SideB, hmiTCP(20000, 502, flagSYN)), lanesUnderTest)
	p := d.Progress(q)
	d.passes(t, policy.SideB, hmiTCP(20000, 502, flagACK), share/2-1)
	for i := range 10 * share {
		if d.passes(t, policy.SideB, hmiTCP(20000, 502, flagACK), 1) != 1 {
			t.Fatalf("frame %d was refused", i)
		}
		p.Answered(1, false, time.Now())
	}
}

// TestQueueThatNeverBeatIsSilent also where the machine has run for less than the time-out.
func TestQueueThatNeverBeatIsSilent(t *testing.T) {
	require(t)
	d := openWith(t, plan(), Config{PinDir: testnet.PinDir(t), HeartbeatTimeout: 1 << 62, AdoptionWindow: time.Hour})
	d.setLanes(1)
	d.queues.states[QueueOpens].Beat = 0
	if got, _ := d.run(t, policy.SideB, hmiTCP(40000, 502, flagSYN).bytes()); got != xdpRedirect {
		t.Errorf("the program returned %d, want that the conduit opens", got)
	}
}

// TestInvariant06ExitGateInAnOutage: what waited for a verdict leaves without one only where the verdict loop
// of its queue is silent and its conduit opens, is counted as XDP counts what comes after it, and its flow
// begins anew afterwards.
func TestInvariant06ExitGateInAnOutage(t *testing.T) {
	d := openLanes(t, 0)
	opens := d.marked(t, policy.SideB, hmiTCP(20000, 502, flagSYN))
	own := mark.QueueOf(opens, lanesUnderTest)
	stopped := func(when string, m uint32) {
		t.Helper()
		before := d.reasons(t)
		if got, _ := runSKB(t, d.objects.ExitGate, m); got != tcShot {
			t.Errorf("%s the exit gate answered %d to mark %#x, want that it stops the packet", when, got, m)
		}
		if got := moved(before, d.reasons(t)); got[verdict.ReasonNoVerdict] != 1 || got[verdict.ReasonOutageOpen] != 0 {
			t.Errorf("%s the packet was counted as %v", when, got)
		}
	}
	stopped("while the loop is at work", opens)
	d.Rest(own ^ 2) // the other lane's
	stopped("with another loop silent", opens)
	if d.Overtaken(mark.Key(opens)) {
		t.Error("a flow that was inspected all the time is told to have passed")
	}
	d.Rest(own)
	d.Rest(own ^ 1)
	stopped("with its conduit one that closes", opens&^mark.QueueOpens)
	stopped("with no mark", 0)
	before := d.reasons(t)
	if got, _ := runSKB(t, d.objects.ExitGate, opens); got != tcOK {
		t.Errorf("the exit gate answered %d in the outage, want that the packet leaves", got)
	}
	if got := moved(before, d.reasons(t)); got[verdict.ReasonOutageOpen] != 1 || got[verdict.ReasonNoVerdict] != 0 {
		t.Errorf("it was counted as %v, want outage_open", got)
	}
	if !d.Overtaken(mark.Key(opens)) {
		t.Error("the flow does not show that a packet of it has passed")
	}
	d.Beat(own)
	if again := d.marked(t, policy.SideB, hmiTCP(20000, 502, flagACK)); mark.Key(again) == mark.Key(opens) {
		t.Error("afterwards the flow goes on under the same key: the verdict loop would miss what has passed")
	}
}

// TestWhatNobodyDecidedOnIsTold: a frame without metadata, and one that leaves without a verdict, have user
// space look what is missing.
func TestWhatNobodyDecidedOnIsTold(t *testing.T) {
	d := openLanes(t, 0)
	r, err := d.Events()
	if err != nil {
		t.Fatal(err)
	}
	timeout := time.AfterFunc(5*time.Second, func() { r.Close() })
	defer timeout.Stop()
	for _, program := range []*ebpf.Program{d.objects.Marker, d.objects.ExitGate} {
		runSKB(t, program, 0)
		e, err := r.Read()
		if err != nil || e.Verdict != (verdict.Verdict{Action: verdict.Deny, Reason: verdict.ReasonNoVerdict}) || time.Since(e.Time) > time.Minute {
			t.Errorf("%v: told %+v, %v", program, e, err)
		}
	}
}

// TestWhatNobodyDecidedOnIsCountedOrTold floods marker and exit gate: what is not told is counted.
func TestWhatNobodyDecidedOnIsCountedOrTold(t *testing.T) {
	d := openLanes(t, 0)
	r, err := d.Events()
	if err != nil {
		t.Fatal(err)
	}
	const frames = 500
	for _, program := range []*ebpf.Program{d.objects.Marker, d.objects.ExitGate} {
		for range frames {
			runSKB(t, program, 0)
		}
	}
	counted := d.reasons(t)[verdict.ReasonNoVerdict]
	if counted.Frames != 2*frames || counted.EventsLost == 0 || counted.EventsLost >= 2*frames {
		t.Errorf("%d frames, of which %d were not told: want %d, and a part of them", counted.Frames, counted.EventsLost, 2*frames)
	}
	told := uint64(0)
	timeout := time.AfterFunc(2*time.Second, func() { r.Close() })
	defer timeout.Stop()
	for ; told < 2*frames-counted.EventsLost; told++ {
		if _, err := r.Read(); err != nil {
			t.Fatalf("%d frames are told, %d counted as not told, of %d: %v", told, counted.EventsLost, 2*frames, err)
		}
	}
}
