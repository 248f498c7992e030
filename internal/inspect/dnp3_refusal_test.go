package inspect

import (
	"bytes"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// lastAt returns what an end received last, a whole frame, read.
func (w *wire) lastAt(end stream.Direction, from int) (dnp3.Frame, dnp3.Message) {
	w.t.Helper()
	var f dnp3.Frame
	var m dnp3.Message
	b := w.got(end)[from:]
	if _, err := dnp3.ParseFrame(b, &f); err != nil {
		w.t.Fatalf("% x: %v", b, err)
	}
	data := f.AppendData(nil)
	if err := dnp3.ParseMessage(data[1:], true, end == stream.FromInitiator, &m); err != nil {
		w.t.Fatalf("% x: %v", data, err)
	}
	return f, m
}

// refusedBy sends a denied request on a conduit with exceptions, and checks what the outstation gets.
func refusedBy(t *testing.T, request []byte, why verdict.Reason) *wire {
	t.Helper()
	w := dnp3Wire(t, policy.DenyException)
	lawful(t, w, 0)
	before := len(w.got(stream.FromResponder))
	j := w.client(request)
	w.mustAllow("a refused request, neutralised")
	if len(j.Messages) != 1 || j.Messages[0].Verdict.Reason != why || j.Messages[0].Verdict.Allows() {
		t.Fatalf("told as %+v, want %v", j.Messages, why)
	}
	if got := w.got(stream.FromResponder)[before:]; len(got) != len(request) || bytes.Equal(got, request) {
		t.Fatalf("the outstation has % x", got)
	}
	w.mustNotAct("a refused request")
	return w
}

func TestRefusedControlIsAnsweredInItsTerms(t *testing.T) {
	for _, row := range []struct {
		name    string
		request []byte
		why     verdict.Reason
	}{
		{"control", ask(5, dnp3.DirectOperate, indexed(12, 1, trip(9))...), verdict.ReasonPointNotPermitted},
		{"select", ask(5, dnp3.Select, indexed(12, 1, at(1, crob(0x41, marker)))...), verdict.ReasonValueNotPermitted},
		{"restart", ask(5, dnp3.ColdRestart), verdict.ReasonFunctionNotPermitted},
		{"freeze", ask(5, dnp3.ImmediateFreeze, 20, 0, 6), verdict.ReasonFunctionNotPermitted},
	} {
		for _, sequence := range []byte{5, 0} { // some answer with the sequence number 0
			w := refusedBy(t, row.request, row.why)
			before := len(w.got(stream.FromResponder)) - len(row.request)
			if _, m := w.lastAt(stream.FromResponder, before); m.Function != dnp3.Undefined || m.Sequence != 5 {
				t.Errorf("%s: the outstation has %v", row.name, m.Function)
			}
			before = len(w.got(stream.FromInitiator))
			w.device(reply(sequence, dnp3.IINDeviceRestart))
			w.mustAllow("its refusal")
			f, m := w.lastAt(stream.FromInitiator, before)
			if m.Sequence != 5 || m.IIN != dnp3.IINDeviceRestart|dnp3.IINNoFunctionCode || len(m.Objects) != 0 || f.Source != outstation {
				t.Errorf("%s: the master has %+v", row.name, m)
			}
			lawful(t, w, 6)
		}
	}
}

func TestRefusalThatCannotBeGivenEndsTheConnection(t *testing.T) {
	control := ask(5, dnp3.DirectOperate, indexed(12, 1, trip(9))...)
	for name, act := range map[string]func(w *wire){
		"objects in the answer": func(w *wire) { w.device(reply(5, 0, indexed(12, 1, trip(9))...)) },
		"another function":      func(w *wire) { w.device(dnp3.AppendFrame(nil, fromOutstation, 1, 10, []byte{0xc0, 0xc5, 131, 0, 0})) },
		"half of it has left": func(w *wire) {
			r := reply(5, 0)
			w.device(r[:15])
			w.device(r[15:])
		},
		"no answer": func(w *wire) {
			w.now = w.now.Add(6 * time.Second)
			w.pipeline.Sweep(w.now, func(e *Ended) { w.ended = w.ended || len(e.Resets) == 2 })
		},
	} {
		w := refusedBy(t, control, verdict.ReasonPointNotPermitted)
		act(w)
		if !w.ended {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	for name, frames := range map[string][][]byte{
		"a request in two segments": segments(0, append([]byte{0xc5, 5}, indexed(12, 1, trip(9))...), 8),
		"a confirmation":            {dnp3.AppendFrame(nil, fromMaster, 10, 1, []byte{0xc0, 0xc5, 8, 20, 0, 6})}, // freeze without reply
		"half of it has left":       {control[:12], control[12:]},
		"no lawful message":         {ask(5, dnp3.DirectOperate, 12, 1, 6)},
	} {
		w := dnp3Wire(t, policy.DenyException)
		for _, f := range frames {
			w.client(f)
		}
		if !w.ended {
			t.Errorf("%s: the connection goes on", name)
		}
		w.mustNotAct(name)
	}
}

// The link header of a refusal may come by itself.
func TestRefusalInPieces(t *testing.T) {
	for cut := 1; cut < 14; cut++ {
		w := refusedBy(t, ask(5, dnp3.ColdRestart), verdict.ReasonFunctionNotPermitted)
		before := len(w.got(stream.FromInitiator))
		r := reply(5, 0)
		w.device(r[:cut])
		w.mustAllow("the beginning of a refusal")
		w.device(r[cut:])
		w.mustAllow("its end")
		if _, m := w.lastAt(stream.FromInitiator, before); m.IIN != dnp3.IINNoFunctionCode {
			t.Errorf("cut at %d: the master has %+v", cut, m)
		}
	}
}

// A control without reply is passed over in silence, and so is the write that masters repeat for ever when
// it is refused.
func TestSilentRefusals(t *testing.T) {
	w := refusedBy(t, ask(5, dnp3.DirectOperateNoReply, indexed(12, 1, trip(9))...), verdict.ReasonPointNotPermitted)
	lawful(t, w, 6)

	w = connected(t, dnp3Plan(t, policy.DenyException, `{functions: [read]}`))
	request := ask(5, dnp3.Write, 80, 1, 0, 7, 7, 0)
	w.client(request)
	w.mustAllow("the write of the restart bit, neutralised")
	if got := w.got(stream.FromResponder)[10:15]; !bytes.Equal(got, []byte{0xc5, 0xc5, byte(dnp3.DirectOperateNoReply), 0xfd, 0xfd}) {
		t.Errorf("the outstation has % x", got)
	}
	w.now = w.now.Add(time.Minute)
	w.pipeline.Sweep(w.now, func(e *Ended) { t.Errorf("ended: %+v", e) })
	lawful(t, w, 6)
}

func TestRefusalsInDatagrams(t *testing.T) {
	w := newWire(t, dnp3Plan(t, policy.DenyException, dnp3Rules...))
	j := w.datagram(stream.FromInitiator, string(join(ask(4, dnp3.Read, 60, 2, 6), ask(5, dnp3.ColdRestart))))
	w.mustAllow("a poll and a refused restart")
	if j.Payload == nil {
		t.Fatal("the restart left as it came")
	}
	j = w.datagram(stream.FromResponder, string(join(reply(4, 0), reply(0, 0))))
	w.mustAllow("both answers")
	if len(j.Messages) != 2 || j.Payload == nil {
		t.Fatalf("%d messages", len(j.Messages))
	}
	w.now = w.now.Add(time.Minute)
	w.pipeline.Sweep(w.now, func(e *Ended) { t.Errorf("datagrams ended: %+v", e) })
}

// A neutralised request that is repeated leaves neutralised again.
func TestRepetitionOfARefusedDNP3Request(t *testing.T) {
	request := ask(5, dnp3.DirectOperate, indexed(12, 1, trip(9))...)
	w := refusedBy(t, request, verdict.ReasonPointNotPermitted)
	j := w.send(stream.FromInitiator, segment{payload: request, seqAt: -int32(len(request)), keep: true})
	w.mustAllow("the repetition")
	if j.Payload == nil {
		t.Error("left as it came")
	}
	w.mustNotAct("a repetition")
}
