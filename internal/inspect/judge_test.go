package inspect

import (
	"bytes"
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

func TestPollLoopPassesUnchanged(t *testing.T) {
	w := connected(t, readPlan(t, policy.DenyReset))
	for i := range uint16(600) {
		w.client(readRequest(i))
		w.mustAllow("request")
		if w.last.Payload != nil || len(w.last.Messages) != 1 || w.last.Messages[0].Operation() != "read_holding_registers" {
			t.Fatalf("request %d: %+v", i, w.last)
		}
		w.device(readReply(i))
		w.mustAllow("reply")
	}
	if got := w.pipeline.Counters().Conduit("test").Allowed.Load(); got != 1200 {
		t.Errorf("%d messages allowed, want 1200", got)
	}
}

func TestDeniedWriteNamesWhatItWas(t *testing.T) {
	w := connected(t, readPlan(t, policy.DenyReset))
	j := w.client(writeRequest(1))
	w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	if len(j.Messages) != 1 {
		t.Fatalf("%d messages", len(j.Messages))
	}
	m := j.Messages[0]
	if m.Operation() != "write_multiple_registers" || m.Detail() != "unit 1 address 100-101" ||
		m.Verdict != j.Verdict || m.Direction != stream.FromInitiator || j.Flow.Source != 1 || j.Flow.Destination != 2 {
		t.Errorf("%s %q %v", m.Operation(), m.Detail(), m.Verdict)
	}
	c := w.pipeline.Counters()
	if c.Conduit("test").Denied.Load() != 1 || c.Reasons[verdict.ReasonFunctionNotPermitted].Load() != 1 || c.Ended.Load() != 1 {
		t.Error("not counted once")
	}
}

// resetsAreValid checks that both ends honour the resets of a judgement: the sequence number
// is the one that the end expects next.
func resetsAreValid(t *testing.T, w *wire, j Judgement) {
	t.Helper()
	if len(j.Resets) != 2 {
		t.Fatalf("%d resets, want one for each end", len(j.Resets))
	}
	var decoder frame.Decoder
	for _, r := range j.Resets {
		var f frame.Frame
		if err := decoder.IP(r.IP, &f); err != nil || !f.ChecksumOK || f.TCP.Flags != frame.FlagRST|frame.FlagACK {
			t.Fatalf("reset %+v, %v", f.TCP, err)
		}
		end := stream.FromInitiator // side b
		if r.To == policy.SideA {
			end = stream.FromResponder
		}
		want := w.first[end] + uint32(len(w.got(end)))
		if f.TCP.Seq != want {
			t.Errorf("reset to %v has sequence %d, the end expects %d", end, f.TCP.Seq, want)
		}
		if to := map[stream.Direction]uint16{stream.FromInitiator: 49152, stream.FromResponder: 502}[end]; f.DstPort != to {
			t.Errorf("reset to %v goes to port %d", end, f.DstPort)
		}
	}
}

func TestDenialEndsTheConnectionAsTheConduitSays(t *testing.T) {
	for _, row := range []struct {
		name   string
		onDeny policy.OnDeny
		resets bool
	}{
		{"drop is silent", policy.DenyDrop, false},
		{"reset goes to both ends", policy.DenyReset, true},
		{"exception resets what it cannot refuse", policy.DenyException, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, readPlan(t, row.onDeny))
			w.client(readRequest(1))
			w.device(readReply(1))
			denied := writeRequest(2)
			if row.onDeny == policy.DenyException {
				denied = denied[:9] // more than the header of a write, and not all of it
			}
			j := w.client(denied)
			w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
			if !j.Ended || (len(j.Resets) > 0) != row.resets {
				t.Fatalf("ended %v, %d resets", j.Ended, len(j.Resets))
			}
			if row.resets {
				resetsAreValid(t, w, j)
			}
			for name, send := range map[string]func() Judgement{
				"request after it": func() Judgement { return w.client(readRequest(3)) },
				"reply after it":   func() Judgement { return w.device(readReply(3)) },
				"repetition": func() Judgement {
					b := denied
					return w.send(stream.FromInitiator, segment{payload: b, seqAt: -int32(len(b)), keep: true})
				},
			} {
				send()
				w.mustDeny(name, verdict.ReasonConnectionEnded)
			}
			// The ends' own resets pass, and the client may connect anew.
			w.send(stream.FromInitiator, segment{flags: frame.FlagRST, seqAt: -int32(w.unreceived(stream.FromResponder)), keep: true})
			w.mustAllow("the client's own reset")
			w.seq[0] += 5000
			w.handshake()
			w.client(readRequest(4))
			w.mustAllow("request of a new connection")
			w.device(readReply(4))
			w.mustAllow("reply of a new connection")
		})
	}
}

func TestPacketsThatAreNotForTheStream(t *testing.T) {
	udp, err := frame.AppendUDP(nil, clientEnd, deviceEnd, readRequest(1))
	if err != nil {
		t.Fatal(err)
	}
	good := func(w *wire) []byte { return w.packet(stream.FromInitiator, segment{payload: readRequest(1)}) }
	rows := []struct {
		name string
		ip   func(w *wire) []byte
		want verdict.Reason
	}{
		{"not IP", func(*wire) []byte { return []byte("hello") }, verdict.ReasonMalformed},
		{"cut short", func(w *wire) []byte { b := good(w); return b[:len(b)-1] }, verdict.ReasonUninspectable},
		{"bad checksum", func(w *wire) []byte { b := good(w); b[len(b)-1]++; return b }, verdict.ReasonBadChecksum},
		{"bad IP checksum", func(w *wire) []byte { b := good(w); b[8]--; return b }, verdict.ReasonBadChecksum},
		{"modbus over UDP", func(*wire) []byte { return udp }, verdict.ReasonNotTCP},
		{"first fragment", func(w *wire) []byte { return fragmentOf(good(w), 0x2000) }, verdict.ReasonFragment},
		{"later fragment", func(w *wire) []byte { return fragmentOf(good(w), 0x0003) }, verdict.ReasonFragment},
		{"source route", func(w *wire) []byte {
			return withOptions(good(w), []byte{131, 7, 4, 198, 18, 0, 99, 0})
		}, verdict.ReasonUninspectable},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, permitAll(t))
			j := w.deliver(stream.FromInitiator, row.ip(w))
			w.mustDeny(row.name, row.want)
			if j.Ended || len(j.Resets) != 0 || len(w.got(stream.FromResponder)) != 0 {
				t.Error("it moved the connection")
			}
			w.client(readRequest(1))
			w.mustAllow("the lawful request after it")
		})
	}
}

func TestFlowThatIsUnknownIsDenied(t *testing.T) {
	w := newWire(t, permitAll(t))
	w.key = 99
	w.send(stream.FromInitiator, segment{flags: frame.FlagSYN})
	w.mustDeny("unknown key", verdict.ReasonNoConduit)
	w.key = testKey
	for name, f := range map[string]Flow{
		"no plan":         {Conduit: 1},
		"conduit 0":       {Plan: w.flows.table[testKey].Plan},
		"no such conduit": {Plan: w.flows.table[testKey].Plan, Conduit: 9},
	} {
		w.flows.table[testKey] = f
		w.send(stream.FromInitiator, segment{flags: frame.FlagSYN})
		w.mustDeny(name, verdict.ReasonNoConduit)
	}
}

func TestSYNLosesOptionsOutsideThePermitList(t *testing.T) {
	w := newWire(t, permitAll(t))
	w.listen()
	j := w.send(stream.FromInitiator, segment{flags: frame.FlagSYN, options: []byte{2, 4, 5, 0xb4, 30, 4, 0, 1}})
	w.mustAllow("SYN")
	var d frame.Decoder
	var f frame.Frame
	if err := d.IP(j.Payload, &f); err != nil || !f.ChecksumOK {
		t.Fatalf("%v, checksum %v", err, f.ChecksumOK)
	}
	if want := []byte{2, 4, 5, 0xb4, 1, 1, 1, 1}; !bytes.Equal(f.TCP.Options, want) {
		t.Errorf("options % x, want % x", f.TCP.Options, want)
	}
}

func TestRepliesHaveToAnswer(t *testing.T) {
	rows := []struct {
		name    string
		replies [][]byte
		want    verdict.Reason
	}{
		{"unsolicited", [][]byte{readReply(9)}, verdict.ReasonUnsolicitedReply},
		{"duplicate", [][]byte{readReply(1), readReply(1)}, verdict.ReasonUnsolicitedReply},
		{"wrong unit", [][]byte{mbap(1, 2, 3, 4, 0, 1, 0, 2)}, verdict.ReasonUnsolicitedReply},
		{"wrong function", [][]byte{mbap(1, 1, 4, 4, 0, 1, 0, 2)}, verdict.ReasonUnsolicitedReply},
		{"byte count that does not match the request", [][]byte{mbap(1, 1, 3, 2, 0, 1)}, verdict.ReasonMalformed},
		{"larger than asked for", [][]byte{mbap(1, 1, 3, 6, 0, 1, 0, 2, 0, 3)}, verdict.ReasonMalformed},
		{"byte count that does not match itself", [][]byte{mbap(1, 1, 3, 9, 0, 1, 0, 2)}, verdict.ReasonMalformed},
		{"exception is lawful", [][]byte{mbap(1, 1, 0x83, 2)}, verdict.ReasonPermitted},
		{"exception to another function", [][]byte{mbap(1, 1, 0x84, 2)}, verdict.ReasonUnsolicitedReply},
		{"fitting", [][]byte{readReply(1)}, verdict.ReasonPermitted},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, permitAll(t))
			w.client(readRequest(1))
			w.device(row.replies...)
			if w.last.Verdict.Reason != row.want || w.ended != (row.want != verdict.ReasonPermitted) {
				t.Errorf("%v, ended %v; want %v", w.last.Verdict.Reason, w.ended, row.want)
			}
		})
	}
}

// A reply that can only be unsolicited stops with the byte that shows it.
func TestUnsolicitedReplyStopsEarly(t *testing.T) {
	for name, reply := range map[string][]byte{
		"transaction": readReply(9), "unit": mbap(1, 2, 3, 4, 0, 1, 0, 2), "function": mbap(1, 1, 4, 4, 0, 1, 0, 2),
	} {
		w := connected(t, permitAll(t))
		w.client(readRequest(1))
		passed := 0
		for _, b := range reply {
			if !w.device([]byte{b}).Verdict.Allows() {
				break
			}
			passed++
		}
		if most := map[string]int{"transaction": 1, "unit": 6, "function": 7}[name]; passed != most {
			t.Errorf("%s: %d bytes passed, want %d", name, passed, most)
		}
	}
}

func TestPipelinedRequestsMayBeAnsweredInAnyOrder(t *testing.T) {
	w := connected(t, permitAll(t))
	w.client(join(readRequest(1), readRequest(2)), readRequest(3))
	w.device(readReply(3), join(readReply(1), readReply(2)))
	w.mustAllow("replies")
	w.client(readRequest(7), readRequest(7), readRequest(7)) // a client that always says 7
	w.device(readReply(7), readReply(7), readReply(7))
	w.mustAllow("replies to the same transaction")
	w.device(readReply(7))
	w.mustDeny("one reply too many", verdict.ReasonUnsolicitedReply)
}

func TestObservedTrafficIsJudgedAndNeverHeld(t *testing.T) {
	w := newWire(t, readPlan(t, policy.DenyReset))
	w.observed = true
	w.handshake()
	w.client(writeRequest(1))
	w.mustDeny("write", verdict.ReasonFunctionNotPermitted)
	if !w.last.Ended || w.last.Resets != nil {
		t.Fatal("not what an observer says of a denial that would have ended the connection")
	}
	w.device(mbap(1, 1, 16, 0, 100, 0, 2))
	w.mustAllow("its reply, for the request was forwarded")
	w.client(readRequest(2))
	w.mustAllow("a read after it")
	w.client(mbap(3, 1, 0x90), []byte("no header")) // the boundary is lost with the second
	w.mustDeny("malformed", verdict.ReasonMalformed)
	w.client(readRequest(4))
	w.mustAllow("in step again")
	w.client(join(writeRequest(5), readRequest(6)))
	if n := len(w.last.Messages); n != 2 || w.last.Messages[0].Verdict.Allows() || !w.last.Messages[1].Verdict.Allows() {
		t.Errorf("%d messages of a segment with two", n)
	}
}

func TestObservedGapIsPassedOver(t *testing.T) {
	w := newWire(t, readPlan(t, policy.DenyReset))
	w.observed = true
	w.handshake()
	w.client(readRequest(1))
	w.device(readReply(1))
	w.seq[stream.FromInitiator] += 12 // this copy was lost
	w.device(readReply(2))
	w.client(readRequest(3))
	w.device(readReply(3))
	w.client(readRequest(4))
	w.mustAllow("a request after a gap")
	if len(w.last.Messages) != 1 {
		t.Errorf("%d messages read", len(w.last.Messages))
	}
	w.device(readReply(4))
	w.mustAllow("its reply")
}
