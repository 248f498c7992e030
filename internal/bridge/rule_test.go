package bridge_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/bridge"
	"github.com/penstock-ot/penstock/internal/datapath/mark"
	"github.com/penstock-ot/penstock/internal/queue"
	"github.com/penstock-ot/penstock/internal/testnet"
)

// markFrames stands in for the fast path: every IP packet that comes in gets the mark.
func markFrames(t *testing.T, line *bridge.Line, value uint32) {
	t.Helper()
	for _, family := range []string{"ip", "ip6"} {
		run(t, line.Namespace(), "nft", fmt.Sprintf(
			"table %s stand-in\ndelete table %s stand-in\ntable %s stand-in { chain in { type filter hook prerouting priority raw; meta mark set %#x; }; }",
			family, family, family, value))
	}
}

// read opens a queue and accepts what it gets, which it hands on.
func read(t *testing.T, line *bridge.Line, number uint16) <-chan queue.Packet {
	t.Helper()
	var q *queue.Queue
	err := line.Do(func() (err error) {
		q, err = queue.Open(queue.Config{Number: number})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan queue.Packet, 16)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- q.Run(ctx, func(p *queue.Packet) queue.Answer {
			seen := *p
			seen.Payload = bytes.Clone(p.Payload)
			got <- seen
			return queue.Answer{Accept: true, Mark: p.Mark}
		})
	}()
	t.Cleanup(func() {
		cancel()
		q.Close()
		<-ended
	})
	return got
}

// udp4 and udp6 are whole frames, IP lengths and all, without link padding, for a device that no
// host's own stack takes itself for and answers as.
func udp4(id byte) []byte {
	payload := bytes.Repeat([]byte{id}, 32)
	ip := []byte{0x45, 0, 0, byte(28 + len(payload)), 0, id, 0, 0, 64, 17, 0, 0, 198, 18, 0, 10, 198, 18, 0, 20}
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	udp := []byte{0x13, 0x88, 0x13, 0x89, 0, byte(8 + len(payload)), 0, 0}
	return frame(mac(0x77), mac(0x10), 0x0800, append(append(ip, udp...), payload...)...)
}

func udp6(id byte) []byte {
	payload := bytes.Repeat([]byte{id}, 32)
	ip := []byte{0x60, 0, 0, 0, 0, byte(8 + len(payload)), 17, 64}
	ip = append(ip, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10)
	ip = append(ip, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20)
	udp := []byte{0x13, 0x88, 0x13, 0x89, 0, byte(8 + len(payload)), 0x12, 0x34}
	return frame(mac(0x77), mac(0x10), 0x86dd, append(append(ip, udp...), payload...)...)
}

// tagged puts a VLAN tag into a frame.
func tagged(f []byte) []byte {
	return append(append(append([]byte{}, f[:12]...), 0x81, 0, 0x20, 10), f[12:]...)
}

func TestRuleQueuesWhatWaitsForAVerdict(t *testing.T) {
	line, cell, plant := tapLine(t)
	closes, opens := read(t, line, bridge.QueueCloses), read(t, line, bridge.QueueOpens)
	state := run(t, line.Namespace(), "cat", "/proc/thread-self/net/netfilter/nfnetlink_queue")
	for _, number := range []string{"100", "101"} {
		if !strings.Contains(state, number) {
			t.Errorf("queue %s is not in\n%s", number, state)
		}
	}
	const slot = 0x00c51234
	for i, row := range []struct {
		name  string
		mark  uint32
		frame func(id byte) []byte
		want  <-chan queue.Packet // nil: in no queue, and dropped
	}{
		{"closes", mark.Inspect, udp4, closes},
		{"closes, slot and side set", mark.Inspect | mark.SideB | slot, udp4, closes},
		{"opens", mark.Inspect | mark.QueueOpens, udp4, opens},
		{"opens, slot and side set", mark.Inspect | mark.QueueOpens | mark.SideB | slot, udp4, opens},
		{"closes, IPv6", mark.Inspect | slot, udp6, closes},
		{"opens, IPv6", mark.Inspect | mark.QueueOpens | slot, udp6, opens},
		{"closes, tagged", mark.Inspect | slot, func(id byte) []byte { return tagged(udp4(id)) }, closes},
		{"closes, tagged IPv6", mark.Inspect | slot, func(id byte) []byte { return tagged(udp6(id)) }, closes},
		{"no mark", 0, udp4, nil},
		{"permitted", mark.Permitted | mark.QueueOpens | slot, udp4, nil},
		{"own", mark.Own | slot, udp6, nil},
		{"queue bit without a kind", mark.QueueOpens, udp4, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			markFrames(t, line, row.mark)
			f := row.frame(byte(i + 1))
			if row.want == nil {
				before := unmarked(t, line)
				plant.Clear()
				if err := cell.Send(f); err != nil {
					t.Fatal(err)
				}
				crosses(t, cell, plant, frame(mac(0x20), mac(0x10), 0x88b5, byte(i))) // what was sent later has arrived
				if n := len(plant.Frames()); n != 1 || len(closes)+len(opens) != 0 {
					t.Errorf("it went through a queue, or it crossed: %d frames came, want the one sent after it", n)
				}
				if n := unmarked(t, line) - before; n != 1 {
					t.Errorf("%d packets were counted as dropped, want this one", n)
				}
				return
			}
			crosses(t, cell, plant, f)
			select {
			case p := <-row.want:
				if p.Mark != row.mark || !bytes.HasSuffix(f, p.Payload) || p.GSO || p.Truncated {
					t.Errorf("the queue shows mark %#x and %x", p.Mark, p.Payload)
				}
			case <-time.After(10 * time.Second):
				t.Error("it crossed without the queue")
			}
		})
	}
}

func unmarked(t *testing.T, line *bridge.Line) uint64 {
	t.Helper()
	n, err := line.Unmarked()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The bypass flag is off: without a reader what waits for a verdict is dropped.
func TestRuleDropsWithoutAReader(t *testing.T) {
	line, cell, plant := tapLine(t)
	for _, value := range []uint32{mark.Inspect, mark.Inspect | mark.QueueOpens} {
		markFrames(t, line, value)
		for _, f := range [][]byte{udp4(1), udp6(2), tagged(udp4(3))} {
			if err := cell.Send(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	crosses(t, cell, plant, frame(mac(0x20), mac(0x10), 0x88b5, 1)) // what was sent later has arrived
	if frames := plant.Frames(); len(frames) != 1 {
		t.Errorf("%d frames crossed, want the last one only", len(frames))
	}
}

func TestRuleIsPresentOrNot(t *testing.T) {
	lab := testnet.New(t)
	line := openLine(t, lab, layoutIn(lab))
	if _, _, err := line.TakePorts(); err != nil {
		t.Fatal(err)
	}
	want := func(what string, want bool) {
		t.Helper()
		if got, err := line.RulePresent(); err != nil || got != want {
			t.Errorf("%s: present is %v, %v, want %v", what, got, err, want)
		}
	}
	want("before", false)
	if err := line.RemoveRule(); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
	undo, err := line.AddRule()
	if err != nil {
		t.Fatal(err)
	}
	want("added", true)
	if again, err := line.AddRule(); err != nil {
		t.Error(err)
	} else if err := again(); err != nil {
		t.Error(err)
	}
	want("added again and undone", true)
	ruleset := run(t, line.Namespace(), "nft", "list", "ruleset")
	for _, line := range []string{"table ip penstock", "table ip6 penstock", "type filter hook forward priority filter; policy accept;"} {
		if !strings.Contains(ruleset, line) {
			t.Errorf("%q is not in\n%s", line, ruleset)
		}
	}
	if n := strings.Count(ruleset, "0xf4000000 == 0x50000000"); n != 2 {
		t.Errorf("%d rules for queue %d in\n%s", n, bridge.QueueCloses, ruleset)
	}
	for _, change := range []string{
		"delete table ip penstock",
		"delete table ip6 penstock",
		"flush chain ip penstock forward",
		"add rule ip6 penstock forward counter",
		"insert rule ip penstock forward accept",
		"add chain ip penstock second",
		"chain ip penstock forward { policy drop; }",
		"insert rule ip penstock forward oifname \"penstock0\" drop",
	} {
		run(t, line.Namespace(), "nft", change)
		want(change, false)
		if _, err := line.AddRule(); err != nil {
			t.Fatalf("after %s: %v", change, err)
		}
		want("added after "+change, true)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	want("undone", false)
	if left := run(t, line.Namespace(), "nft", "list", "ruleset"); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

// TestRuleLeadsEachLaneToItsQueues: the low bits of the flow's slot choose the queue, whatever else the
// mark says, and rules for another number of lanes are replaced as a whole.
func TestRuleLeadsEachLaneToItsQueues(t *testing.T) {
	lab := testnet.New(t)
	layout := layoutIn(lab)
	layout.Lanes = 4
	line := openLine(t, lab, layout)
	bringUp(t, line)
	awaitCarriers(t, lab)
	cell := openTap(t, lab, lab.Cell, testnet.HostInterface)
	plant := openTap(t, lab, lab.Plant, testnet.HostInterface)
	var queues []<-chan queue.Packet
	for q := range mark.Queue(2 * layout.Lanes) {
		queues = append(queues, read(t, line, bridge.QueueNumber(q)))
	}
	for slot := range uint32(2 * layout.Lanes) {
		for i, bits := range []uint32{mark.Inspect | mark.SideB, mark.Inspect | mark.QueueOpens | 0x00c51230} {
			value := bits | slot
			markFrames(t, line, value)
			crosses(t, cell, plant, udp4(byte(2*slot)+byte(i)))
			want := mark.QueueOf(value, layout.Lanes)
			for q, got := range queues {
				if n := len(got); (n == 1) != (mark.Queue(q) == want) || n > 1 {
					t.Errorf("mark %#x: %d packets in queue %d, want it in %d alone", value, n, q, want)
				}
				for len(got) > 0 {
					<-got
				}
			}
		}
	}
	layout.Lanes = 2
	fewer := openLine(t, lab, layout)
	if present, err := fewer.RulePresent(); err != nil || present {
		t.Errorf("the rules of four lanes are taken for those of two: %v, %v", present, err)
	}
	if _, err := fewer.AddRule(); err != nil {
		t.Fatal(err)
	}
	if present, err := fewer.RulePresent(); err != nil || !present {
		t.Errorf("replaced: present is %v, %v", present, err)
	}
	layout.Lanes = 3
	if err := layout.Check(); err == nil {
		t.Error("three lanes are no power of two")
	}
}

// TestRulesOfABareBridgeDropNothing: a self-test beside an engaged bypass has its queues, and the line's
// frames, which nobody marks, go on.
func TestRulesOfABareBridgeDropNothing(t *testing.T) {
	line, cell, plant := tapLine(t)
	line.Unruled(true)
	if present, err := line.RulePresent(); err != nil || present {
		t.Errorf("the rules of enforcement are taken for those of a bare bridge: %v, %v", present, err)
	}
	if _, err := line.AddRule(); err != nil {
		t.Fatal(err)
	}
	for _, f := range [][]byte{udp4(1), udp6(2), tagged(udp4(3))} {
		crosses(t, cell, plant, f)
	}
	line.Unruled(false)
	if present, err := line.RulePresent(); err != nil || present {
		t.Errorf("the rules of a bare bridge are taken for those of enforcement: %v, %v", present, err)
	}
}
