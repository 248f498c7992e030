package inspect

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// The numbers in these names are the lines of the project's list of evasions.

// mustNotArrive fails if the device has the last byte of the message that begins at offset in
// what the client has sent.
func (w *wire) mustNotArrive(what string, offset int, message []byte) {
	w.t.Helper()
	last := w.first[stream.FromResponder] + uint32(offset+len(message)-1)
	if _, ok := w.received[stream.FromResponder][last]; ok {
		w.t.Fatalf("%s: the device has its last byte", what)
	}
}

// sendCut sends bytes in segments of the lengths given, until one is denied.
func (w *wire) sendCut(d stream.Direction, b []byte, cuts ...int) {
	w.t.Helper()
	at := 0
	for _, cut := range append(cuts, len(b)) {
		if cut > at {
			w.send(d, segment{payload: b[at:cut]})
			at = cut
		}
	}
}

func TestEvasion01_OneByteASegment(t *testing.T) {
	w := connected(t, readPlan(t, policy.DenyReset))
	for i := range uint16(3) {
		for _, b := range readRequest(i) {
			w.client([]byte{b})
			w.mustAllow("a byte of a read")
		}
		for _, b := range readReply(i) {
			w.device([]byte{b})
			w.mustAllow("a byte of a reply")
		}
	}
	offset := 3 * len(readRequest(0))
	passed := 0
	for _, b := range writeRequest(4) {
		if w.client([]byte{b}).Verdict.Allows() {
			passed++
		}
	}
	w.mustNotArrive("write", offset, writeRequest(4))
	if passed != 7 {
		t.Errorf("%d bytes of the write passed; its function code is the eighth", passed)
	}
}

func TestEvasion01_EverySplitOfADeniedWrite(t *testing.T) {
	write := writeRequest(2)
	for a := 0; a <= len(write); a++ {
		for b := a; b <= len(write); b++ {
			w := connected(t, readPlan(t, policy.DenyDrop))
			w.client(readRequest(1))
			w.sendCut(stream.FromInitiator, write, a, b)
			w.mustNotArrive(fmt.Sprintf("write cut at %d and %d", a, b), len(readRequest(1)), write)
			if !w.ended {
				t.Errorf("cut at %d and %d: not denied", a, b)
			}
		}
	}
}

// A write that is denied for its last value only may leave up to the byte before.
func TestEvasion01_EverySplitOfAWriteDeniedForItsLastByte(t *testing.T) {
	plan := rulesPlan(t, policy.DenyReset, `{functions: [write], units: [1], addresses: [0-200], values: [0-9]}`)
	write := mbap(2, 1, 16, 0, 100, 0, 2, 4, 0, 7, 0, 10)
	for a := 0; a <= len(write); a++ {
		w := connected(t, plan)
		w.sendCut(stream.FromInitiator, write, a)
		w.mustNotArrive(fmt.Sprintf("cut at %d", a), 0, write)
	}
}

func TestEvasion02_SeveralMessagesInASegment(t *testing.T) {
	read, write := readRequest(1), writeRequest(2)
	for name, parts := range map[string][][]byte{
		"denied last":        {read, write},
		"denied first":       {write, read},
		"denied in between":  {read, write, read},
		"allowed then twice": {read, write, write},
	} {
		t.Run(name, func(t *testing.T) {
			w := connected(t, readPlan(t, policy.DenyReset))
			w.client(join(parts...))
			w.mustDeny(name, verdict.ReasonFunctionNotPermitted)
			if n := len(w.got(stream.FromResponder)); n != 0 {
				t.Errorf("the device has %d bytes", n)
			}
		})
	}
	t.Run("allowed only", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(join(readRequest(1), readRequest(2), readRequest(3)))
		w.mustAllow("three reads")
		if len(w.last.Messages) != 3 {
			t.Errorf("%d messages", len(w.last.Messages))
		}
		w.device(join(readReply(1), readReply(2), readReply(3)))
		w.mustAllow("three replies")
	})
	t.Run("allowed and the head of a denied one", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(join(read, write[:7]), write[7:])
		w.mustNotArrive("write", len(read), write)
	})
}

func TestEvasion03_Retransmissions(t *testing.T) {
	read := readRequest(1)
	t.Run("the same bytes", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(read)
		w.send(stream.FromInitiator, segment{payload: read, seqAt: -int32(len(read)), keep: true})
		w.mustAllow("the repetition")
		if len(w.last.Messages) != 0 {
			t.Error("a repetition was read as a message")
		}
		w.device(readReply(1))
		w.mustAllow("one reply")
	})
	t.Run("other bytes", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(read)
		other := mbap(1, 1, 6, 0, 40, 0, 2) // a write of the read's length
		w.send(stream.FromInitiator, segment{payload: other, seqAt: -int32(len(read)), keep: true})
		w.mustDeny("overlap", verdict.ReasonStreamOverlap)
		if !w.ended {
			t.Error("the connection lives on")
		}
	})
	t.Run("other bytes over the head of a message", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(read[:8])
		w.send(stream.FromInitiator, segment{payload: mbap(1, 1, 6, 0, 40, 0, 2), seqAt: -8})
		w.mustDeny("overlap", verdict.ReasonStreamOverlap)
	})
	t.Run("already acknowledged", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(read)
		w.device(readReply(1))
		w.send(stream.FromInitiator, segment{payload: read, seqAt: -int32(len(read)), keep: true})
		w.mustAllow("bytes that the device has acknowledged")
		w.client(readRequest(2))
		w.mustAllow("the next read")
	})
}

func TestEvasion04_OrderAndWrapping(t *testing.T) {
	t.Run("a gap is dropped and filled", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		late := w.packet(stream.FromInitiator, segment{payload: readRequest(1)})
		w.seq[0] += 12
		early := w.packet(stream.FromInitiator, segment{payload: readRequest(2)})
		w.seq[0] += 12
		w.deliver(stream.FromInitiator, early)
		w.mustDeny("before its time", verdict.ReasonStreamGap)
		w.deliver(stream.FromInitiator, late)
		w.mustAllow("what was missing")
		w.deliver(stream.FromInitiator, early)
		w.mustAllow("the repetition")
		w.device(readReply(1), readReply(2))
		w.mustAllow("replies")
	})
	t.Run("sequence numbers wrap", func(t *testing.T) {
		w := newWire(t, readPlan(t, policy.DenyReset))
		w.seq = [2]uint32{0xffffffe0, 0xffffffd0}
		w.handshake()
		for i := range uint16(20) {
			w.client(readRequest(i))
			w.device(readReply(i))
			w.mustAllow("across the wrap")
		}
		w.client(writeRequest(99))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	})
	t.Run("keep-alive", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.client(readRequest(1))
		w.device(readReply(1))
		w.client(readRequest(2)) // acknowledges the reply
		w.device(readReply(2))
		w.send(stream.FromInitiator, segment{payload: []byte{0}, seqAt: -1, keep: true})
		w.mustAllow("keep-alive with a byte of garbage")
		w.send(stream.FromInitiator, segment{seqAt: -1, keep: true})
		w.mustAllow("keep-alive without")
		w.client(readRequest(3))
		w.mustAllow("the next read")
	})
}

func TestEvasion05_DataWhereNoneBelongs(t *testing.T) {
	plan := readPlan(t, policy.DenyReset)
	t.Run("on SYN", func(t *testing.T) {
		w := newWire(t, plan)
		w.listen()
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, payload: writeRequest(1)})
		w.mustDeny("data on SYN", verdict.ReasonTCPState)
	})
	t.Run("after FIN", func(t *testing.T) {
		w := connected(t, plan)
		w.send(stream.FromInitiator, segment{flags: frame.FlagFIN | frame.FlagACK})
		w.client(readRequest(1))
		w.mustDeny("data after FIN", verdict.ReasonTCPState)
	})
	t.Run("urgent", func(t *testing.T) {
		w := connected(t, plan)
		w.send(stream.FromInitiator, segment{payload: readRequest(1), flags: frame.FlagACK | frame.FlagURG, urgent: 3})
		w.mustDeny("urgent data", verdict.ReasonTCPState)
	})
	t.Run("RST outside the window does not blind", func(t *testing.T) {
		w := connected(t, plan)
		w.send(stream.FromInitiator, segment{flags: frame.FlagRST, seqAt: 1 << 29, keep: true})
		w.mustDeny("RST", verdict.ReasonTCPState)
		w.client(writeRequest(1))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	})
	t.Run("SYN inside a live connection does not blind", func(t *testing.T) {
		w := connected(t, plan)
		w.client(readRequest(1))
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, seqAt: 7777, keep: true})
		w.mustDeny("SYN", verdict.ReasonTCPState)
		w.client(writeRequest(2))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	})
	t.Run("before the handshake", func(t *testing.T) {
		w := newWire(t, plan)
		w.listen()
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN})
		w.client(writeRequest(1))
		w.mustDeny("data before SYN-ACK", verdict.ReasonTCPState)
	})
}

func TestEvasion06_DecoyWithBadChecksum(t *testing.T) {
	w := connected(t, readPlan(t, policy.DenyReset))
	w.send(stream.FromInitiator, segment{payload: readRequest(1), keep: true, edit: func(ip []byte) { ip[36] ^= 0x55 }})
	w.mustDeny("decoy", verdict.ReasonBadChecksum)
	w.client(mbap(1, 1, 6, 0, 40, 0, 2)) // the write in its place
	w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
}

func TestEvasion09_WhatFollowsADenialNeverCompletesIt(t *testing.T) {
	for _, onDeny := range []policy.OnDeny{policy.DenyDrop, policy.DenyReset, policy.DenyException} {
		write := writeRequest(2)
		for n := 1; n < len(write); n++ {
			w := connected(t, readPlan(t, onDeny))
			w.client(write[:n])
			if j := w.client(write[n:]); j.Ended && onDeny != policy.DenyDrop {
				resetsAreValid(t, w, j) // a head of n bytes is with the device
			}
			for range 3 { // the rest, again and again, as one that repeats and as one that goes on
				w.send(stream.FromInitiator, segment{payload: write[n:], keep: true})
				w.client(write[n:])
				w.now = w.now.Add(time.Minute)
				w.pipeline.Sweep(w.now, nil)
			}
			w.mustNotArrive(fmt.Sprintf("write after %d bytes", n), 0, write)
		}
	}
}

func TestEvasion10_LimitsReachedOnPurpose(t *testing.T) {
	t.Run("requests without replies wait as table_full", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		for i := range uint16(512) {
			w.client(readRequest(i))
			w.mustAllow("a request")
		}
		next := w.packet(stream.FromInitiator, segment{payload: join(readRequest(600), readRequest(601))})
		w.deliver(stream.FromInitiator, next)
		w.mustDeny("one too many", verdict.ReasonTableFull)
		if w.ended {
			t.Fatal("the connection ended")
		}
		w.device(readReply(0), readReply(1))
		w.mustAllow("replies")
		w.deliver(stream.FromInitiator, next)
		w.mustAllow("the repetition, once there is room")
		w.seq[0] += 24
		w.client(writeRequest(700))
		w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	})
	t.Run("requests that nobody answers make room in the end", func(t *testing.T) {
		w := connected(t, readPlan(t, policy.DenyReset))
		for i := range uint16(2000) {
			w.client(readRequest(i))
			w.mustAllow("a request")
			w.now = w.now.Add(time.Second)
		}
	})
	t.Run("half-open connections", func(t *testing.T) {
		w := newWire(t, readPlan(t, policy.DenyReset))
		w.pipeline = New(Config{Flows: w.flows, Limits: Limits{Connections: 100}})
		for key := range uint64(101) {
			w.flows.table[1000+key] = w.flows.table[testKey]
			w.key = 1000 + key
			w.send(stream.FromInitiator, segment{flags: frame.FlagSYN})
		}
		w.mustDeny("one too many", verdict.ReasonTableFull)
		w.pipeline.Sweep(w.now.Add(time.Minute), nil)
		if n := w.pipeline.Counters().Connections.Load(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN})
		w.mustAllow("once there is room")
	})
	t.Run("a segment full of messages", func(t *testing.T) {
		w := connected(t, permitAll(t))
		var b []byte
		for i := range uint16(200) {
			b = append(b, mbap(i, 1, 7)...)
		}
		w.client(b)
		w.mustAllow("200 messages")
		if len(w.last.Messages) != 64 || w.last.Unrecorded != 136 {
			t.Errorf("%d recorded, %d not", len(w.last.Messages), w.last.Unrecorded)
		}
		w.client(append(b, mbap(9, 1, 0)...))
		if m := w.last.Messages[63]; w.last.Verdict.Reason != verdict.ReasonMalformed || m.Malformed == "" {
			t.Error("the denial after many messages is not among the recorded ones")
		}
	})
	t.Run("a denial among many messages keeps its name", func(t *testing.T) {
		w := newWire(t, readPlan(t, policy.DenyReset))
		w.observed = true
		w.handshake()
		b := []byte{}
		for i := range uint16(100) {
			if i == 80 {
				b = append(b, writeRequest(i)...)
			}
			b = append(b, readRequest(i)...)
		}
		w.client(b)
		if m := w.last.Messages[63]; m.Operation() != "write_multiple_registers" || m.Detail() != "unit 1 address 100-101" {
			t.Errorf("%s %q", m.Operation(), m.Detail())
		}
	})
}

func TestEvasion11_LengthLongerThanTheFunction(t *testing.T) {
	hidden := mbap(1, 1, append([]byte{3, 0, 40, 0, 2}, mbap(2, 1, 16, 0, 100, 0, 1, 2, 0, 7)...)...)
	for a := 0; a <= len(hidden); a++ {
		w := connected(t, permitAll(t))
		w.sendCut(stream.FromInitiator, hidden, a)
		w.mustNotArrive(fmt.Sprintf("cut at %d", a), 0, hidden)
		if w.last.Verdict.Reason != verdict.ReasonMalformed && w.last.Verdict.Reason != verdict.ReasonConnectionEnded {
			t.Errorf("cut at %d: %v", a, w.last.Verdict.Reason)
		}
	}
}

func TestEvasion12_HeadersThatAreNone(t *testing.T) {
	write := mbap(2, 1, 6, 0, 1, 0, 1)
	for name, b := range map[string][]byte{
		"protocol 1, then a write": join([]byte{0, 1, 0, 1, 0, 6, 1, 3, 0, 0, 0, 1}, write),
		"garbage, then a write":    join([]byte("garbage!"), write),
		"length 0":                 {0, 1, 0, 0, 0, 0, 1, 3},
		"length 1":                 {0, 1, 0, 0, 0, 1, 1, 3},
		"length 255":               {0, 1, 0, 0, 0, 255, 1, 3},
		"length 256":               {0, 1, 0, 0, 1, 0, 1, 3},
		"length 65535":             {0, 1, 0, 0, 255, 255, 1, 3},
	} {
		for cut := range b {
			w := connected(t, permitAll(t))
			w.sendCut(stream.FromInitiator, b, cut)
			if !w.ended {
				t.Errorf("%s, cut at %d: passed", name, cut)
			}
			w.mustNotArrive(name, 0, b)
		}
	}
}

func TestEvasion13_FunctionCodes(t *testing.T) {
	plan := rulesPlan(t, policy.DenyReset, `{functions: [read, diagnostics]}`)
	rows := []struct {
		name string
		pdu  []byte
		want verdict.Reason
	}{
		{"FC 0", []byte{0}, verdict.ReasonMalformed},
		{"FC 0x83 from a client", []byte{0x83, 2}, verdict.ReasonMalformed},
		{"FC 90, vendor programming", []byte{90, 0, 2}, verdict.ReasonFunctionNotPermitted},
		{"reserved FC 9", []byte{9}, verdict.ReasonFunctionNotPermitted},
		{"user-defined FC 100", []byte{100, 1, 2, 3}, verdict.ReasonFunctionNotPermitted},
		{"FC 8 echo", []byte{8, 0, 0, 0xa5, 0x37}, verdict.ReasonPermitted},
		{"FC 8 force listen only", []byte{8, 0, 4, 0, 0}, verdict.ReasonFunctionNotPermitted},
		{"FC 8 a counter", []byte{8, 0, 11, 0, 0}, verdict.ReasonPermitted},
		{"FC 8 clear counters", []byte{8, 0, 10, 0, 0}, verdict.ReasonFunctionNotPermitted},
		{"FC 8 clear overrun counter", []byte{8, 0, 20, 0, 0}, verdict.ReasonFunctionNotPermitted},
		{"FC 8 restart", []byte{8, 0, 1, 0, 0}, verdict.ReasonFunctionNotPermitted},
		{"FC 43/14", []byte{43, 14, 1, 0}, verdict.ReasonPermitted},
		{"FC 43/13", []byte{43, 13, 0, 0}, verdict.ReasonFunctionNotPermitted},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, plan)
			w.client(mbap(1, 1, row.pdu...))
			if w.last.Verdict.Reason != row.want {
				t.Errorf("%v, want %v", w.last.Verdict.Reason, row.want)
			}
		})
	}
	// Servers exist that flush at an unknown code and read on: in pieces it is not let through.
	t.Run("a body that hides a write, in pieces", func(t *testing.T) {
		plan := rulesPlan(t, policy.DenyReset, `{functions: [90]}`)
		write := mbap(2, 1, 6, 0, 1, 0, 1)
		b := mbap(1, 1, append([]byte{90}, write...)...)
		w := connected(t, plan)
		w.client(b)
		w.mustAllow("whole")
		for cut := 8; cut < len(b); cut++ {
			w := connected(t, plan)
			w.sendCut(stream.FromInitiator, b, cut)
			w.mustNotArrive(fmt.Sprintf("cut at %d", cut), 0, b)
		}
	})
}

func TestEvasion14_WritesInDisguiseAndRanges(t *testing.T) {
	plan := rulesPlan(t, policy.DenyReset,
		`{functions: [read], units: [1], addresses: [0-99]}`, `{functions: [write_single_coil], units: [1], addresses: [0-9]}`)
	rows := []struct {
		name string
		adu  []byte
		want verdict.Reason
	}{
		{"FC 22", mbap(1, 1, 22, 0, 1, 0, 0, 0, 1), verdict.ReasonFunctionNotPermitted},
		{"FC 23", mbap(1, 1, 23, 0, 1, 0, 1, 0, 1, 0, 1, 2, 0, 9), verdict.ReasonFunctionNotPermitted},
		{"FC 5 with 0x1234", mbap(1, 1, 5, 0, 1, 0x12, 0x34), verdict.ReasonMalformed},
		{"FC 5", mbap(1, 1, 5, 0, 1, 0xff, 0), verdict.ReasonPermitted},
		{"FC 5 elsewhere", mbap(1, 1, 5, 0, 10, 0xff, 0), verdict.ReasonAddressNotPermitted},
		{"unit 0, broadcast", mbap(1, 0, 3, 0, 1, 0, 1), verdict.ReasonUnitNotPermitted},
		{"over 65536", mbap(1, 1, 3, 0xff, 0xff, 0, 2), verdict.ReasonMalformed},
		{"one beyond the range", mbap(1, 1, 3, 0, 99, 0, 2), verdict.ReasonAddressNotPermitted},
		{"the whole range", mbap(1, 1, 3, 0, 0, 0, 100), verdict.ReasonPermitted},
		{"a file", mbap(1, 1, 20, 7, 6, 0, 4, 0, 0, 0, 1), verdict.ReasonFunctionNotPermitted},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, plan)
			w.client(row.adu)
			if w.last.Verdict.Reason != row.want {
				t.Errorf("%v, want %v", w.last.Verdict.Reason, row.want)
			}
			if !w.last.Verdict.Allows() {
				w.mustNotArrive(row.name, 0, row.adu)
			}
		})
	}
}

// Line 15, replies, is TestRepliesHaveToAnswer and its neighbours.

func TestEvasion16_OtherTransportsAndFramings(t *testing.T) {
	t.Run("RTU inside TCP", func(t *testing.T) {
		w := connected(t, permitAll(t))
		rtu := []byte{1, 6, 0, 1, 0, 3, 0x98, 0x0b}
		w.client(rtu)
		w.mustDeny("RTU", verdict.ReasonMalformed)
	})
	t.Run("UDP 502", func(t *testing.T) {
		w := newWire(t, permitAll(t))
		ip, err := frame.AppendUDP(nil, clientEnd, deviceEnd, writeRequest(1))
		if err != nil {
			t.Fatal(err)
		}
		w.deliver(stream.FromInitiator, ip)
		w.mustDeny("UDP", verdict.ReasonNotTCP)
	})
}

func TestEvasion34_MultipathTCP(t *testing.T) {
	plan := readPlan(t, policy.DenyReset)
	t.Run("on a later segment", func(t *testing.T) {
		w := connected(t, plan)
		w.send(stream.FromInitiator, segment{payload: readRequest(1), options: []byte{30, 4, 0x20, 1}})
		w.mustDeny("data sequence option", verdict.ReasonTCPOption)
	})
	t.Run("on the SYN", func(t *testing.T) {
		w := newWire(t, plan)
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, options: []byte{30, 4, 0, 1}})
		w.mustAllow("SYN")
		if w.last.Payload == nil {
			t.Error("the option went on")
		}
	})
}

func TestEvasion37_SYNFromTheResponder(t *testing.T) {
	w := newWire(t, permitAll(t))
	w.send(stream.FromResponder, segment{flags: frame.FlagSYN})
	w.mustDeny("SYN against the conduit", verdict.ReasonTCPState)
	if w.pipeline.Counters().Connections.Load() != 0 {
		t.Error("it is followed")
	}
}
