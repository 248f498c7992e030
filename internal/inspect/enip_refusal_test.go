package inspect

import (
	"bytes"
	"testing"
	"time"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// lastReply returns the CIP reply in the last message that the client has got.
func (d *target) lastReply(connected bool) []byte {
	d.t.Helper()
	b := d.got(stream.FromInitiator)
	var last []byte
	for len(b) >= 24 {
		n := 24 + int(b[2]) + int(b[3])<<8
		last, b = b[:n], b[n:]
	}
	if connected {
		return last[46:]
	}
	return last[40:]
}

// mustRefuse holds that the last service was refused with the code, and that the device has not executed
// it.
func (d *target) mustRefuse(name string, code byte, connected bool, services ...[]byte) {
	d.t.Helper()
	reply := d.lastReply(connected)
	want := make([]byte, len(reply))
	want[0], want[2] = code|0x80, 0x0f
	if !bytes.Equal(reply, want) {
		d.t.Errorf("%s: the client got %x, want %x", name, reply, want)
	}
	for _, s := range services {
		if d.ran(s) {
			d.t.Errorf("%s: the device has executed %x", name, s)
		}
	}
	if d.ended {
		d.t.Errorf("%s: the connection has ended", name)
	}
}

func TestCIPRefusalKeepsTheSession(t *testing.T) {
	for _, attributes := range [][]byte{nil, bytes.Repeat([]byte{0xab}, 40)} {
		d := newTarget(t, enipPlan(t, policy.DenyException))
		d.attributes = attributes
		route := ct.Port(1, 0)
		for _, row := range []struct {
			name    string
			service []byte
			code    byte
			never   []byte
		}{
			{"write", otherTag(1), 0x4d, otherTag(1)},
			{"value", setpoint(1501), 0x4d, setpoint(1501)},
			{"reset", resetIdentity(), 0x05, resetIdentity()},
			{"packet", ct.Multiple(setpoint(3), otherTag(1)), 0x0a, setpoint(3)},
			{"in an unconnected send", ct.Unconnected(otherTag(1), route), 0x4d, otherTag(1)},
			{"packet in an unconnected send", ct.Unconnected(ct.Multiple(setpoint(3), otherTag(1)), route), 0x0a, setpoint(3)},
			{"another route", ct.Unconnected(readSpeed(), ct.Port(1, 3)), 0x52, readSpeed()},
			{"forward open", ct.Open{Path: ct.Join(ct.Port(1, 3), ct.Router())}.Forward(), 0x54, []byte{0x54}},
		} {
			j := d.client(ct.RR(enipHandle, 7, row.service))
			if !j.Verdict.Allows() {
				t.Fatalf("%s: the packet is denied: %v", row.name, j.Verdict.Reason)
			}
			for i := range j.Messages {
				if m := &j.Messages[i]; m.Verdict.Allows() {
					t.Errorf("%s: %s is told as permitted", row.name, m.Operation())
				}
			}
			d.work()
			d.mustAllow(row.name)
			d.mustRefuse(row.name, row.code, false, row.never)
		}
		d.rr(setpoint(7))
		d.mustAllow("a permitted write afterwards")
		if !d.ran(setpoint(7)) {
			t.Error("it has not arrived")
		}
		id := d.openExplicit(4, route)
		for sequence := uint16(1); sequence < 4; sequence++ {
			d.client(ct.Unit(enipHandle, id, sequence, otherTag(9)))
			d.work()
			d.mustAllow("connected")
			d.mustRefuse("connected", 0x4d, true, otherTag(9))
		}
		d.client(ct.Unit(enipHandle, id, 4, setpoint(8)))
		d.work()
		if !d.ran(setpoint(8)) || d.ended {
			t.Error("a permitted write on the connection has not arrived")
		}
	}
}

func TestCIPRefusalSharesItsSegment(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyException))
	d.client(ct.Join(ct.RR(enipHandle, 1, setpoint(1)), ct.RR(enipHandle, 2, otherTag(2)), ct.RR(enipHandle, 3, setpoint(3))))
	d.mustAllow("three requests")
	d.work()
	if !d.ran(setpoint(1)) || !d.ran(setpoint(3)) || d.ran(otherTag(2)) || d.ended {
		t.Errorf("executed %x", d.executed)
	}
	contexts := map[byte]byte{}
	for b := d.got(stream.FromInitiator); len(b) >= 24; {
		n := 24 + int(b[2]) + int(b[3])<<8
		if b[0] == 0x6f {
			contexts[b[12]] = b[42]
		}
		b = b[n:]
	}
	if contexts[1] != 0 || contexts[2] != 0x0f || contexts[3] != 0 {
		t.Errorf("statuses by context: %v", contexts)
	}
}

func TestEvasion41_RepetitionOfARefusedServiceLeavesEdited(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyException))
	message := ct.RR(enipHandle, 7, otherTag(1))
	d.client(message)
	d.mustAllow("refused in place")
	d.send(stream.FromInitiator, segment{payload: message, seqAt: -int32(len(message)), keep: true})
	d.work()
	d.mustRefuse("repetition", 0x4d, false, otherTag(1))
}

func TestCIPRefusalOfAReplyInPieces(t *testing.T) {
	for split := 1; split < 48; split++ {
		d := newTarget(t, enipPlan(t, policy.DenyException))
		d.silent = true
		d.client(ct.RR(enipHandle, 7, otherTag(1)))
		reply := ct.RR(enipHandle, 7, []byte{0x81, 0, 0, 0, 1, 2, 3, 4})
		d.device(reply[:split], reply[split:])
		d.mustAllow("second piece")
		d.mustRefuse("reply in pieces", 0x4d, false)
	}
}

// TestCIPRefusalOfALongReplyInPieces: what leaves of a refusal is the same however the device's reply is cut.
func TestCIPRefusalOfALongReplyInPieces(t *testing.T) {
	data := bytes.Repeat([]byte{0x55}, 900)
	for piece := 1; piece < 60; piece += 7 {
		d := newTarget(t, enipPlan(t, policy.DenyException))
		d.silent = true
		d.client(ct.RR(enipHandle, 7, otherTag(1)))
		before := len(d.got(stream.FromInitiator))
		reply := ct.RR(enipHandle, 7, append([]byte{0x81, 0, 0, 0}, data...), ct.Item(0x8000, ct.Socket(2222, 0, 0, 0, 0)))
		for from := 0; from < len(reply); from += piece {
			d.device(reply[from:min(from+piece, len(reply))])
			d.mustAllow("a piece")
		}
		want := ct.RR(enipHandle, 7, append([]byte{0xcd, 0, 0x0f, 0}, make([]byte, len(data))...), ct.Item(0x8000, ct.Socket(2222, 0, 0, 0, 0)))
		if got := d.got(stream.FromInitiator)[before:]; !bytes.Equal(got, want) {
			t.Errorf("%d bytes a piece: the client got %x", piece, got)
		}
	}
}

func TestCIPRefusalFallsBackToReset(t *testing.T) {
	plan := enipPlan(t, policy.DenyException, `{services: [read_tag], tags: ["Line3.*"]}`)
	t.Run("a service that would be the neutral one", func(t *testing.T) {
		d := newTarget(t, plan)
		d.client(ct.RR(enipHandle, 7, readIdentity()))
		d.mustDeny("get attributes all", verdict.ReasonServiceNotPermitted)
	})
	t.Run("a prefix has left", func(t *testing.T) {
		d := newTarget(t, plan)
		message := ct.RR(enipHandle, 7, ct.ReadTag(ct.Symbol("Recipe"), 1))
		d.client(message[:45], message[45:])
		d.mustDeny("the rest", verdict.ReasonTagNotPermitted)
	})
	t.Run("malformed", func(t *testing.T) {
		d := newTarget(t, plan)
		d.client(ct.RR(enipHandle, 7, ct.Multiple()))
		d.mustDeny("packet without services", verdict.ReasonMalformed)
	})
	t.Run("an error of the encapsulation", func(t *testing.T) {
		d := newTarget(t, plan)
		d.silent = true
		d.client(ct.RR(enipHandle, 7, otherTag(1)))
		d.mustAllow("refused in place")
		reply := ct.Encapsulate(0x6f, enipHandle, 7, nil)
		reply[8] = 0x64
		d.device(reply)
		d.mustDeny("it", verdict.ReasonServiceNotPermitted)
	})
	t.Run("no reply", func(t *testing.T) {
		d := newTarget(t, plan)
		d.silent = true
		d.client(ct.RR(enipHandle, 7, otherTag(1)))
		var ended *Ended
		d.pipeline.Sweep(d.now.Add(6*time.Second), func(e *Ended) { ended = e })
		if ended == nil || ended.Reason != verdict.ReasonServiceNotPermitted {
			t.Errorf("ended %+v", ended)
		}
	})
}

// TestCIPRefusalIsNotReadByAnother: what a device has read in place of a refused request does not come back as the reply
// to another: neither where it repeats its last reply, because the next request has the same sequence count, nor
// where it answers requests in one context in another order. Replies that are the request's own pass.
func TestCIPRefusalIsNotReadByAnother(t *testing.T) {
	secret := []byte{0x81, 0, 0, 0, 's', 'e', 'c', 'r', 'e', 't'}
	own := []byte{0xcc, 0, 0, 0, 0xc4, 0, 1, 0, 0, 0}
	denied := ct.Request(0x0e, ct.Join(ct.Class(0x64), ct.Instance(1), ct.Attribute(1)))
	wiped := func(t *testing.T, d *target, before int) {
		t.Helper()
		d.mustAllow("a reply")
		if bytes.Contains(d.got(stream.FromInitiator)[before:], []byte("secret")) {
			t.Error("the client has it")
		}
	}
	t.Run("on a connection", func(t *testing.T) {
		for _, permitted := range [][]byte{readSpeed(), readIdentity(), ct.Unconnected(readSpeed())} {
			d := newTarget(t, enipPlan(t, policy.DenyException))
			id := d.openExplicit(1, ct.Port(1, 0))
			if permitted[0] == 0x52 {
				id = d.openExplicit(2)
			}
			before := len(d.got(stream.FromInitiator))
			d.silent = true
			d.client(ct.Unit(enipHandle, id, 5, denied))
			d.mustAllow("refused in place")
			d.device(ct.Unit(enipHandle, d.opened[id], 5, secret))
			wiped(t, d, before)
			for split := range 60 {
				d.client(ct.Unit(enipHandle, id, 5, permitted))
				d.mustAllow("a request of the same sequence count")
				reply := ct.Unit(enipHandle, d.opened[id], 5, secret)
				d.device(reply[:min(split, len(reply)-1)], reply[min(split, len(reply)-1):])
				wiped(t, d, before)
			}
			d.client(ct.Unit(enipHandle, id, 6, readSpeed()))
			d.mustAllow("the next")
			d.device(ct.Unit(enipHandle, d.opened[id], 6, own))
			d.mustAllow("its reply")
			if !bytes.Equal(d.lastReply(true), own) {
				t.Errorf("the client has got %x", d.lastReply(true))
			}
		}
	})
	for _, order := range []string{"the denied first", "the permitted first"} {
		t.Run("in one context, "+order, func(t *testing.T) {
			d := newTarget(t, enipPlan(t, policy.DenyException))
			d.silent = true
			before := len(d.got(stream.FromInitiator))
			requests := [][]byte{ct.RR(enipHandle, 7, denied), ct.RR(enipHandle, 7, readIdentity())}
			if order == "the permitted first" {
				requests[0], requests[1] = requests[1], requests[0]
			}
			for _, request := range requests {
				d.client(request)
				d.mustAllow("a request")
			}
			for range 2 {
				d.device(ct.RR(enipHandle, 7, secret))
				wiped(t, d, before)
			}
			d.client(ct.RR(enipHandle, 7, readIdentity()))
			d.device(ct.RR(enipHandle, 7, []byte{0x81, 0, 0, 0, 'o', 'w', 'n'}))
			d.mustAllow("its reply")
			if !bytes.HasSuffix(d.got(stream.FromInitiator), []byte("own")) {
				t.Error("the client has not got what it may read")
			}
		})
	}
}

func TestUnsolicitedENIPReplies(t *testing.T) {
	for name, reply := range map[string][]byte{
		"to nothing":          ct.RR(enipHandle, 8, []byte{0xcc, 0, 0, 0}),
		"of another command":  ct.Encapsulate(0x63, 0, 7, ct.Join(ct.U16(1), ct.Item(0x0c, make([]byte, 34)))),
		"of another session":  ct.RR(enipHandle+1, 7, []byte{0xcc, 0, 0, 0}),
		"on a connection":     ct.Unit(enipHandle, 5, 1, []byte{0xcc, 0, 0, 0}),
		"a request":           ct.RR(enipHandle, 7, readSpeed()),
		"shorter than itself": ct.RR(enipHandle, 7, []byte{0xcc, 0, 0, 9}),
	} {
		t.Run(name, func(t *testing.T) {
			d := newTarget(t, enipPlan(t, policy.DenyReset))
			d.silent = true
			d.rr(readSpeed())
			before := len(d.got(stream.FromInitiator))
			d.device(reply)
			if d.last.Verdict.Allows() || len(d.got(stream.FromInitiator)) != before {
				t.Errorf("%v, %d bytes", d.last.Verdict, len(d.got(stream.FromInitiator))-before)
			}
		})
	}
}

func TestENIPRequestsBeyondTheLimitWait(t *testing.T) {
	d := newTarget(t, enipPlan(t, policy.DenyReset))
	id := d.openExplicit(1, ct.Port(1, 0))
	d.silent = true
	waited := false
	for i := range 600 {
		message := ct.Unit(enipHandle, id, uint16(i), readSpeed())
		d.send(stream.FromInitiator, segment{payload: message})
		if !d.last.Verdict.Allows() {
			d.mustDeny("beyond the limit", verdict.ReasonTableFull)
			waited = true
			d.seq[stream.FromInitiator] -= uint32(len(message))
			break
		}
	}
	if !waited {
		t.Fatal("600 requests without a reply have left")
	}
	d.client(ct.Unit(enipHandle, 0xdead, 1, readSpeed()))
	if d.last.Verdict.Allows() {
		t.Error("a full table lets a connection through that was never opened")
	}
}
