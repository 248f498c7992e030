package inspect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/frame"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// controller is a device behind a wire. It has registers 0 to 999, and answers what it does not
// know with an exception.
type controller struct {
	w *wire
	// byFunction says that it takes a request's length from its function and not from the header,
	// and that over a function that it does not know it sleeps until the next time that it works,
	// to flush what has come by then. So does libmodbus.
	byFunction bool

	read     int
	unknown  []byte   // what it sleeps over
	executed [][]byte // every request that it acted on
}

// work answers what has arrived since, each request in a segment of its own.
func (c *controller) work() {
	c.w.t.Helper()
	if c.unknown != nil {
		c.read = len(c.w.got(stream.FromResponder))
		b := c.unknown
		c.unknown = nil
		c.w.device(c.answer(b))
	}
	for {
		b := c.w.got(stream.FromResponder)[c.read:]
		n := c.length(b)
		if n == 0 || len(b) < n {
			return
		}
		c.read += n
		if c.byFunction && n == 8 {
			c.unknown = b[:n]
			return
		}
		c.w.device(c.answer(b[:n]))
	}
}

// length returns how long the request is that b begins with, 0 while that is not known.
func (c *controller) length(b []byte) int {
	switch {
	case len(b) < 8:
		return 0
	case !c.byFunction:
		return 6 + int(b[5])
	case b[7] >= 1 && b[7] <= 6:
		return 12
	case b[7] == 22:
		return 14
	case b[7] == 16 && len(b) < 13:
		return 0
	case b[7] == 16:
		return 13 + int(b[12])
	}
	return 8
}

func (c *controller) answer(b []byte) []byte {
	transaction, unit, function, body := binary.BigEndian.Uint16(b), b[6], b[7], b[8:]
	exception := func(code byte) []byte { return mbap(transaction, unit, function|0x80, code) }
	switch function {
	case 3, 6, 16, 22:
	default:
		return exception(1)
	}
	if binary.BigEndian.Uint16(body) >= 1000 {
		return exception(2)
	}
	c.executed = append(c.executed, b)
	switch function {
	case 3:
		n := 2 * int(body[3])
		return mbap(transaction, unit, append([]byte{3, byte(n)}, make([]byte, n)...)...)
	case 16:
		return mbap(transaction, unit, b[7:12]...)
	}
	return bytes.Clone(b)
}

// mustNotHaveExecuted fails if the device acted on a request that the policy denies.
func (c *controller) mustNotHaveExecuted(what string) {
	c.w.t.Helper()
	for _, b := range c.executed {
		var r modbus.Request
		if _, err := modbus.ParseRequest(b, &r); err != nil || !c.w.flows.table[testKey].Plan.EvalModbus(1, &r).Allows() {
			c.w.t.Fatalf("%s: the device acted on % x", what, b)
		}
	}
}

// replies are the messages that the client has.
func (w *wire) replies() (list [][]byte) {
	for b := w.got(stream.FromInitiator); len(b) >= 8; {
		n := 6 + int(b[5])
		list = append(list, b[:n])
		b = b[n:]
	}
	return list
}

// mustHaveReplies compares what the client has with what it should.
func (w *wire) mustHaveReplies(what string, want ...[]byte) {
	w.t.Helper()
	if got := w.got(stream.FromInitiator); !bytes.Equal(got, join(want...)) {
		w.t.Fatalf("%s: the client has % x, want % x", what, got, join(want...))
	}
}

// exceptionTo is the exception reply that a request is owed.
func exceptionTo(request []byte, code byte) []byte {
	return mbap(binary.BigEndian.Uint16(request), request[6], request[7]|0x80, code)
}

// exceptionPlan permits reads of 0-99, at most ten at a time, and some writes.
func exceptionPlan(t testing.TB) *policy.Plan {
	t.Helper()
	return rulesPlan(t, policy.DenyException,
		`{functions: [read_holding_registers], units: [1], addresses: [0-99], max_quantity: 10}`,
		`{functions: [read_fifo_queue], units: [1]}`,
		`{functions: [write_single_register, write_multiple_registers, mask_write_register], units: [1], addresses: [0-9], values: [0-999]}`)
}

// refusalRow is a denied request, and what it is refused with.
type refusalRow struct {
	name   string
	adu    []byte
	reason verdict.Reason
	code   byte
	fence  bool // it leaves as the unassigned function
}

func refusalRows() []refusalRow {
	const (
		function = verdict.ReasonFunctionNotPermitted
		address  = verdict.ReasonAddressNotPermitted
		value    = verdict.ReasonValueNotPermitted
		unit     = verdict.ReasonUnitNotPermitted
	)
	return []refusalRow{
		{"FC 1", mbap(2, 1, 1, 0, 0, 0, 1), function, 1, false},
		{"FC 3 elsewhere", mbap(2, 1, 3, 0, 100, 0, 2), address, 2, false},
		{"FC 3 too many", mbap(2, 1, 3, 0, 10, 0, 11), address, 3, false},
		{"FC 3 by another unit", mbap(2, 2, 3, 0, 10, 0, 1), unit, 1, false},
		{"FC 3 by unit 0, which the device answers", mbap(2, 0, 3, 0, 10, 0, 1), unit, 1, false},
		{"FC 5", mbap(2, 1, 5, 0, 0, 0xff, 0), function, 1, false},
		{"FC 6 elsewhere", mbap(2, 1, 6, 0, 100, 0, 2), address, 2, false},
		{"FC 6 too great", mbap(2, 1, 6, 0, 5, 0x10, 0), value, 3, false},
		{"FC 7", mbap(2, 1, 7), function, 1, true},
		{"FC 8 force listen only", mbap(2, 1, 8, 0, 4, 0, 0), function, 1, false},
		{"FC 8 of two words", mbap(2, 1, 8, 0, 0, 1, 2, 3, 4), function, 1, true},
		{"FC 15", mbap(2, 1, 15, 0, 0, 0, 4, 1, 5), function, 1, true},
		{"FC 16 elsewhere", writeRequest(2), address, 2, true},
		{"FC 16 beyond the end", mbap(2, 1, 16, 0, 9, 0, 2, 4, 0, 1, 0, 1), address, 2, true},
		{"FC 16 too great", mbap(2, 1, 16, 0, 5, 0, 1, 2, 0x10, 0), value, 3, true},
		{"FC 17", mbap(2, 1, 17), function, 1, true},
		{"FC 20", mbap(2, 1, 20, 7, 6, 0, 4, 0, 1, 0, 2), function, 1, true},
		{"FC 22 elsewhere", mbap(2, 1, 22, 0, 100, 0, 0, 0, 1), address, 2, false},
		{"FC 22 with a mask under values", mbap(2, 1, 22, 0, 5, 0, 1, 0, 1), value, 3, false},
		{"FC 23", mbap(2, 1, 23, 0, 1, 0, 2, 0, 9, 0, 1, 2, 0, 42), function, 1, true},
		{"FC 43", mbap(2, 1, 43, 14, 1, 0), function, 1, true},
		{"FC 90", mbap(2, 1, 90, 0, 2), function, 1, true},
		{"FC 90 of four bytes", mbap(2, 1, 90, 0, 2, 0, 0), function, 1, false},
	}
}

func TestExceptionInsteadOfADeniedRequest(t *testing.T) {
	for _, row := range refusalRows() {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, exceptionPlan(t))
			c := &controller{w: w}
			w.client(readRequest(1))
			c.work()
			j := w.client(row.adu)
			w.mustAllow("the segment of the denied request")
			if j.Ended || len(j.Resets) != 0 || len(j.Messages) != 1 || j.Messages[0].Verdict != verdict.Denied(row.reason) {
				t.Fatalf("%+v", j.Messages)
			}
			if got := w.got(stream.FromResponder)[12:]; len(got) != len(row.adu) || !bytes.Equal(got[:7], row.adu[:7]) || (got[7] == 0x70) != row.fence {
				t.Fatalf("the device has % x in place of % x", got, row.adu)
			}
			c.work()
			if m := w.last.Messages; len(m) != 1 || !m[0].Verdict.Allows() || m[0].body.(*modbusMessage).response.Exception != modbus.ExceptionCode(row.code) {
				t.Errorf("the reply was recorded as %+v", m)
			}
			w.client(readRequest(3))
			w.mustAllow("the next request")
			c.work()
			c.mustNotHaveExecuted(row.name)
			w.mustHaveReplies(row.name, readReplyZero(1), exceptionTo(row.adu, row.code), readReplyZero(3))
			counters := w.pipeline.Counters()
			if n := counters.Conduit("test").Denied.Load(); n != 1 || counters.Ended.Load() != 0 {
				t.Errorf("%d denied, %d ended", n, counters.Ended.Load())
			}
		})
	}
}

func readReplyZero(transaction uint16) []byte { return mbap(transaction, 1, 3, 4, 0, 0, 0, 0) }

// Cut anywhere in two places, the device answering after each piece: the client has the exception
// if the denied request came whole, or both ends are reset. Whatever passed is in step.
func TestEverySplitOfADeniedRequestAmongAllowedOnes(t *testing.T) {
	done := map[int]bool{}
	step := 1
	if testing.Short() {
		step = 7
	}
	for _, row := range refusalRows() {
		if done[len(row.adu)] { // cuts do not care what it is, but for its length and its form
			continue
		}
		done[len(row.adu)] = true
		t.Run(row.name, func(t *testing.T) {
			all := join(readRequest(1), row.adu, readRequest(3))
			begin, end := len(readRequest(1)), len(readRequest(1))+len(row.adu)
			for a := 0; a <= len(all); a++ {
				for b := a; b <= len(all); b += step {
					w := connected(t, exceptionPlan(t))
					c := &controller{w: w}
					at := 0
					for _, cut := range []int{a, b, len(all)} {
						if cut > at && !w.ended {
							w.client(all[at:cut])
							c.work()
							at = cut
						}
					}
					what := fmt.Sprintf("%s cut at %d and %d", row.name, a, b)
					c.mustNotHaveExecuted(what)
					whole := !(begin < a && a < end) && !(begin < b && b < end)
					// A fence and a piece of what follows it may not share a segment, which ends
					// at the first cut behind the request.
					next := a
					if a < end {
						next = b
					}
					behind := row.fence && end < next && next < len(all)
					if w.ended == (whole && !behind) {
						t.Fatalf("%s: ended %v", what, w.ended)
					}
					if !w.ended {
						w.mustHaveReplies(what, readReplyZero(1), exceptionTo(row.adu, row.code), readReplyZero(3))
					}
				}
			}
		})
	}
}

// EVASIONS 2: several in one segment, denied and allowed in any mixture, answered in order.
func TestEvasion02_SeveralDeniedInASegmentAreEachRefused(t *testing.T) {
	rows := refusalRows()
	for i := range rows {
		w := connected(t, exceptionPlan(t))
		c := &controller{w: w}
		var sent, want [][]byte
		for k := range 4 {
			row := rows[(i+5*k)%len(rows)]
			adu := bytes.Clone(row.adu)
			binary.BigEndian.PutUint16(adu, uint16(20+k))
			read := readRequest(uint16(10 + k))
			sent = append(sent, read, adu)
			want = append(want, readReplyZero(uint16(10+k)), exceptionTo(adu, row.code))
		}
		j := w.client(join(sent...))
		w.mustAllow("the segment")
		denied := 0
		for _, m := range j.Messages {
			if !m.Verdict.Allows() {
				denied++
			}
		}
		if len(j.Messages) != 8 || denied != 4 {
			t.Fatalf("%d messages, %d denied", len(j.Messages), denied)
		}
		c.work()
		c.mustNotHaveExecuted("mixture")
		w.mustHaveReplies("mixture", want...)
	}
}

// A client that always says the same transaction is answered in order.
func TestExceptionsForOneTransactionAreInOrder(t *testing.T) {
	w := connected(t, exceptionPlan(t))
	c := &controller{w: w}
	denied := mbap(1, 1, 6, 0, 100, 0, 2)
	w.client(readRequest(1), denied, readRequest(1), denied, mbap(1, 1, 6, 0, 5, 0, 2))
	c.work()
	w.mustHaveReplies("same transaction", readReplyZero(1), exceptionTo(denied, 2), readReplyZero(1), exceptionTo(denied, 2), mbap(1, 1, 6, 0, 5, 0, 2))
}

// EVASIONS 41: a retransmission never leaves as it came, whole, cut or together with what follows.
func TestEvasion41_RepetitionsLeaveEdited(t *testing.T) {
	denied := mbap(2, 1, 6, 0, 100, 0, 2)
	neutral := mbap(2, 1, 3, 0xff, 0xff, 0, 2)
	for from := range denied {
		for to := from + 1; to <= len(denied); to++ {
			w := connected(t, exceptionPlan(t))
			first := w.first[stream.FromResponder]
			w.client(denied)
			clear(w.received[stream.FromResponder]) // it was lost behind us
			w.send(stream.FromInitiator, segment{payload: denied[from:to], seqAt: int32(from - len(denied)), keep: true})
			w.mustAllow("the repetition")
			for i := from; i < to; i++ {
				if got := w.received[stream.FromResponder][first+uint32(i)]; got != neutral[i] {
					t.Fatalf("bytes %d to %d again: byte %d is %#x", from, to, i, got)
				}
			}
		}
	}
	t.Run("with a request behind it", func(t *testing.T) {
		w := connected(t, exceptionPlan(t))
		c := &controller{w: w}
		w.client(denied)
		w.send(stream.FromInitiator, segment{payload: join(denied, readRequest(3)), seqAt: -int32(len(denied)), keep: true})
		w.mustAllow("the repetition")
		w.seq[stream.FromInitiator] += 12
		c.work()
		w.mustHaveReplies("both", exceptionTo(denied, 2), readReplyZero(3))
	})
	t.Run("with other bytes", func(t *testing.T) {
		w := connected(t, exceptionPlan(t))
		w.client(denied)
		clear(w.received[stream.FromResponder])
		w.send(stream.FromInitiator, segment{payload: neutral, seqAt: -int32(len(denied)), keep: true})
		w.mustDeny("the neutral form, sent by the client", verdict.ReasonStreamOverlap)
	})
	t.Run("of the reply", func(t *testing.T) {
		w := connected(t, exceptionPlan(t))
		w.client(denied)
		reply := mbap(2, 1, 0x83, 2)
		w.device(reply)
		clear(w.received[stream.FromInitiator])
		for i := range reply {
			w.send(stream.FromResponder, segment{payload: reply[i : i+1], seqAt: int32(i - len(reply)), keep: true})
		}
		w.mustHaveReplies("in bytes", exceptionTo(denied, 2))
	})
	t.Run("after the policy permits it", func(t *testing.T) {
		w := connected(t, exceptionPlan(t))
		w.client(denied)
		clear(w.received[stream.FromResponder])
		flow := w.flows.table[testKey]
		flow.Plan = permitAll(t)
		w.flows.table[testKey] = flow
		w.flows.generation++
		w.send(stream.FromInitiator, segment{payload: denied, seqAt: -int32(len(denied)), keep: true})
		if got := w.got(stream.FromResponder); !bytes.Equal(got, neutral) {
			t.Errorf("the device has % x", got)
		}
		w.device(mbap(2, 1, 0x83, 2))
		w.mustHaveReplies("after the change", exceptionTo(denied, 2))
	})
}

// A reply comes in two pieces, wherever it is cut; or with another one around it.
func TestReplyToARefusedRequestInPieces(t *testing.T) {
	denied := mbap(2, 1, 6, 0, 100, 0, 2)
	replies := join(readReply(1), mbap(2, 1, 0x83, 2), readReply(3))
	for cut := range replies {
		w := connected(t, exceptionPlan(t))
		w.client(readRequest(1), denied, readRequest(3))
		w.sendCut(stream.FromResponder, replies, cut)
		w.mustHaveReplies(fmt.Sprintf("cut at %d", cut), readReply(1), exceptionTo(denied, 2), readReply(3))
	}
	w := connected(t, exceptionPlan(t))
	w.client(readRequest(1), denied, readRequest(3))
	for _, b := range replies {
		w.device([]byte{b})
	}
	w.mustHaveReplies("byte by byte", readReply(1), exceptionTo(denied, 2), readReply(3))
}

// What comes back is no exception to the request that the client made: nothing of it passes but
// the header, and both ends are reset.
func TestReplyThatCannotBecomeAnException(t *testing.T) {
	rows := []struct {
		name  string
		reply []byte
		want  verdict.Reason
	}{
		{"the registers", mbap(2, 1, 3, 4, 0xca, 0xfe, 0xca, 0xfe), verdict.ReasonUnsolicitedReply},
		{"a confirmation of the write", mbap(2, 1, 6, 0, 100, 0, 2), verdict.ReasonMalformed},
		{"transaction 0 and unit 0", mbap(0, 0, 0x83, 1), verdict.ReasonUnsolicitedReply},
		{"another unit", mbap(2, 2, 0x83, 1), verdict.ReasonUnsolicitedReply},
		{"exception code 0", mbap(2, 1, 0x83, 0), verdict.ReasonMalformed},
		{"nothing but a header and a function", mbap(2, 1, 0x83), verdict.ReasonMalformed},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, exceptionPlan(t))
			w.client(mbap(2, 1, 6, 0, 100, 0, 2))
			w.mustAllow("the neutralised request")
			j := w.device(row.reply)
			w.mustDeny(row.name, row.want)
			if !j.Ended {
				t.Fatal("the connection goes on")
			}
			resetsAreValid(t, w, j)
		})
	}
	// On a connection joined in mid-stream replies to requests from before pass, this one not.
	t.Run("of a connection that was joined", func(t *testing.T) {
		w := newWire(t, exceptionPlan(t))
		w.pipeline.AdoptUntil(w.now.Add(time.Minute))
		w.client(mbap(2, 1, 6, 0, 100, 0, 2))
		w.mustAllow("the neutralised request")
		w.device(readReply(1))
		w.mustAllow("a reply to a request from before")
		w.device(rows[0].reply)
		w.mustDeny("the registers", verdict.ReasonUnsolicitedReply)
	})
}

func TestDeviceThatOwesTheRefusal(t *testing.T) {
	w := connected(t, exceptionPlan(t))
	w.client(readRequest(1), mbap(2, 1, 6, 0, 100, 0, 2))
	var told []Ended
	sweep := func(after time.Duration) {
		w.pipeline.Sweep(w.now.Add(after), func(e *Ended) { told = append(told, *e) })
	}
	sweep(5 * time.Second)
	if len(told) != 0 {
		t.Fatal("ended too early")
	}
	sweep(5*time.Second + time.Millisecond)
	if len(told) != 1 || told[0].Reason != verdict.ReasonAddressNotPermitted || told[0].Detail == "" || told[0].Key != testKey {
		t.Fatalf("%+v", told)
	}
	resetsAreValid(t, w, Judgement{Resets: told[0].Resets})
	sweep(6 * time.Second)
	w.device(mbap(2, 1, 0x83, 2))
	w.mustDeny("its reply, too late", verdict.ReasonConnectionEnded)
	if len(told) != 1 {
		t.Error("told twice")
	}
}

func TestRateIsRefusedAndTheConnectionGoesOn(t *testing.T) {
	w := connected(t, rulesPlan(t, policy.DenyException, `{functions: [write_single_register], units: [1], rate: 2/s}`, `{functions: [read]}`))
	c := &controller{w: w}
	write := func(transaction uint16) []byte { return mbap(transaction, 1, 6, 0, 5, 0, 1) }
	j := w.client(join(write(1), write(2), write(3), readRequest(4)))
	if m := j.Messages; len(m) != 4 || m[2].Verdict.Reason != verdict.ReasonRateExceeded {
		t.Fatalf("%+v", m)
	}
	c.work()
	w.now = w.now.Add(time.Second)
	w.client(write(5))
	c.work()
	w.mustHaveReplies("rate", write(1), write(2), exceptionTo(write(3), 6), readReplyZero(4), write(5))
	if len(c.executed) != 4 {
		t.Errorf("the device acted on %d requests", len(c.executed))
	}
}

// What is no lawful request, or not all in hand, is not neutralised.
func TestExceptionConduitResetsWhatItCannotRefuse(t *testing.T) {
	for _, row := range []struct {
		name   string
		pieces [][]byte
		want   verdict.Reason
	}{
		{"protocol identifier", [][]byte{{0, 2, 0, 1, 0, 6, 1, 6, 0, 100, 0, 1}}, verdict.ReasonMalformed},
		{"longer than its function", [][]byte{mbap(2, 1, 6, 0, 100, 0, 1, 0)}, verdict.ReasonMalformed},
		{"function 0", [][]byte{mbap(2, 1, 0, 0, 100, 0, 1)}, verdict.ReasonMalformed},
		{"quantity 0", [][]byte{mbap(2, 1, 3, 0, 100, 0, 0)}, verdict.ReasonMalformed},
		{"coil value", [][]byte{mbap(2, 1, 5, 0, 1, 0, 1)}, verdict.ReasonMalformed},
		{"the unassigned function itself", [][]byte{mbap(2, 1, 0x70, 1, 2)}, verdict.ReasonFunctionNotPermitted},
		{"a head that can only be denied", [][]byte{mbap(2, 2, 6, 0, 100, 0, 1)[:8]}, verdict.ReasonUnitNotPermitted},
		{"the header has left", [][]byte{writeRequest(2)[:7], writeRequest(2)[7:]}, verdict.ReasonAddressNotPermitted},
		{"all but the last byte has left", [][]byte{mbap(2, 1, 6, 0, 5, 3, 0xe8)[:11], {0xe8}}, verdict.ReasonValueNotPermitted},
		{"refused, then malformed", [][]byte{join(mbap(2, 1, 6, 0, 100, 0, 2), make([]byte, 8))}, verdict.ReasonMalformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := connected(t, exceptionPlan(t))
			w.client(readRequest(1))
			before := len(w.got(stream.FromResponder))
			var j Judgement
			for _, b := range row.pieces {
				j = w.client(b)
			}
			w.mustDeny(row.name, row.want)
			if !j.Ended || j.Payload != nil {
				t.Fatal("the connection goes on")
			}
			resetsAreValid(t, w, j)
			left := len(w.got(stream.FromResponder)) - before
			if want := len(join(row.pieces[:len(row.pieces)-1]...)); left != want {
				t.Errorf("%d bytes left, want %d", left, want)
			}
		})
	}
}

// hiding is a permitted write whose values read as a write to register 100, and where that begins.
func hiding(transaction uint16) (b []byte, at int) {
	hidden := mbap(9, 1, 6, 0, 100, 0, 1)
	pdu := append([]byte{16, 0, 0, 0, 6, 12}, hidden...)
	return mbap(transaction, 1, pdu...), 7 + 6
}

// A server that frames by function code (libmodbus) sleeps over a function that it does not know
// and flushes what came meanwhile. What is cut behind such a request is held until it has answered.
func TestNothingFollowsAFenceBeforeItsReply(t *testing.T) {
	plan := exceptionPlan(t)
	hider, _ := hiding(3)
	t.Run("whole", func(t *testing.T) {
		w := connected(t, plan)
		w.client(writeRequest(2))
		for range 3 {
			j := w.send(stream.FromInitiator, segment{payload: readRequest(3), keep: true})
			w.mustDeny("behind the fence", verdict.ReasonTableFull)
			if j.Ended || len(j.Resets) != 0 || j.Detail == "" {
				t.Fatalf("%+v", j)
			}
		}
		w.device(mbap(2, 1, 0xf0, 1))
		w.client(readRequest(3))
		w.mustAllow("behind the fence, once it is down")
		w.device(readReply(3))
		w.mustHaveReplies("all", exceptionTo(writeRequest(2), 2), readReply(3))
	})
	t.Run("in pieces", func(t *testing.T) {
		for cut := 1; cut < len(hider); cut++ {
			w := connected(t, plan)
			w.client(writeRequest(2))
			w.send(stream.FromInitiator, segment{payload: hider[:cut], keep: true})
			w.mustDeny("the first piece", verdict.ReasonTableFull)
		}
	})
	t.Run("in the same segment", func(t *testing.T) {
		for cut := 1; cut < len(hider); cut++ {
			w := connected(t, plan)
			w.client(join(writeRequest(2), hider[:cut]))
			if !w.ended || len(w.got(stream.FromResponder)) != 0 {
				t.Fatalf("%d bytes: ended %v", cut, w.ended)
			}
		}
		w := connected(t, plan)
		w.client(join(writeRequest(2), hider))
		w.mustAllow("the whole")
	})
	t.Run("repeated in pieces", func(t *testing.T) {
		sent := join(readRequest(1), writeRequest(2), hider)
		for cut := 1; cut <= len(sent); cut++ {
			w := connected(t, plan)
			w.client(sent)
			clear(w.received[stream.FromResponder]) // the device would not have it, for some option
			w.send(stream.FromInitiator, segment{payload: sent[:cut], seqAt: -int32(len(sent)), keep: true})
			if w.ended != (cut < len(sent)) {
				t.Fatalf("%d bytes: ended %v", cut, w.ended)
			}
		}
	})
	t.Run("what came before may be repeated", func(t *testing.T) {
		w := connected(t, plan)
		w.client(readRequest(1), writeRequest(2))
		w.send(stream.FromInitiator, segment{payload: readRequest(1), seqAt: -int32(12 + len(writeRequest(2))), keep: true})
		w.mustAllow("the request before")
		w.send(stream.FromInitiator, segment{payload: writeRequest(2), seqAt: -int32(len(writeRequest(2))), keep: true})
		w.mustAllow("the fence")
	})
}

// Requests with their FIN are refused too, and the connection closes as its ends want.
func TestExceptionWithFIN(t *testing.T) {
	w := connected(t, exceptionPlan(t))
	denied := mbap(2, 1, 6, 0, 100, 0, 2)
	w.send(stream.FromInitiator, segment{payload: denied, flags: frame.FlagACK | frame.FlagFIN})
	w.mustAllow("denied, with FIN")
	w.device(mbap(2, 1, 0x83, 2))
	w.mustAllow("its reply")
	w.mustHaveReplies("FIN", exceptionTo(denied, 2))
}

// TestNoDeniedOperationCompletesByException sends random messages in random segments, repeated and
// cut, some lost behind the appliance, with a device that answers at random times. Whether the
// device believes the header or frames by function code, it acts on no denied request, and what
// the client has are whole replies.
func TestNoDeniedOperationCompletesByException(t *testing.T) {
	plan := exceptionPlan(t)
	var pool [][]byte
	for _, row := range refusalRows() {
		pool = append(pool, row.adu)
	}
	hider, _ := hiding(4)
	pool = append(pool, readRequest(1), readRequest(1), readRequest(3), hider, hider, hider, mbap(8, 1, 24, 0, 0), mbap(5, 1, 6, 0, 5, 0, 1), mbap(6, 1, 0x70, 1, 2, 3))
	rapid.Check(t, func(r *rapid.T) {
		w := connected(t, plan)
		c := &controller{w: w, byFunction: rapid.Bool().Draw(r, "by function")}
		messages := rapid.SliceOfN(rapid.SampledFrom(pool), 1, 8).Draw(r, "messages")
		sent := join(messages...)
		var ends []int // of messages, where most segments end
		for i := range messages {
			ends = append(ends, len(join(messages[:i+1]...)))
		}
		base, next, acknowledged := w.seq[0], 0, 0
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			if rapid.IntRange(0, 2).Draw(r, "device") == 0 && !w.ended {
				acknowledged = len(w.got(stream.FromResponder))
				w.seq[0] = base + uint32(acknowledged)
				c.work()
				w.seq[0] = base
			}
			from := min(next, len(sent)-1)
			if rapid.Bool().Draw(r, "again") {
				from = rapid.IntRange(0, from).Draw(r, "from")
			}
			to := rapid.SampledFrom(ends).Draw(r, "end")
			if to <= from || rapid.IntRange(0, 4).Draw(r, "cut") == 0 {
				to = rapid.IntRange(from+1, min(len(sent), from+60)).Draw(r, "to")
			}
			ip := w.packet(stream.FromInitiator, segment{payload: sent[from:to], seqAt: int32(from), keep: true})
			before := maps.Clone(w.received[stream.FromResponder])
			if w.deliver(stream.FromInitiator, ip).Verdict.Allows() {
				next = max(next, to)
			}
			if rapid.IntRange(0, 3).Draw(r, "lost") == 0 {
				w.received[stream.FromResponder] = before
			}
			for i := range uint32(acknowledged) { // no receiver takes these again
				w.received[stream.FromResponder][base+i] = before[base+i]
			}
		}
		c.mustNotHaveExecuted("random")
		for _, reply := range w.replies() {
			var m modbus.Response
			if _, err := modbus.ParseResponse(reply, &m); err != nil {
				r.Fatalf("the client has % x: %v", reply, err)
			}
		}
	})
}
