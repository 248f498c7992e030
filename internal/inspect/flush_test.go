package inspect

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// A server that frames by function code (libmodbus) sleeps over a function that it does not know,
// flushes what has come meanwhile, and reads what follows from its first byte. The tests here hold
// that no piece of a message meets that moment: it would be EVASIONS 11 by other means.

// flushPlan permits writes to registers 0-9, and what not every server knows.
func flushPlan(t testing.TB) *policy.Plan {
	t.Helper()
	return rulesPlan(t, policy.DenyReset, `{functions: [read, diagnostics, 90], units: [1]}`,
		`{functions: [write_multiple_registers], units: [1], addresses: [0-9], values: [0-999]}`)
}

func TestEvasion11_NoPieceBehindAFunctionThatADeviceMayNotKnow(t *testing.T) {
	hider, _ := hiding(3)
	for name, flusher := range map[string][]byte{
		"FC 7": mbap(2, 1, 7), "FC 8": mbap(2, 1, 8, 0, 0, 1, 2), "FC 11": mbap(2, 1, 11), "FC 12": mbap(2, 1, 12),
		"FC 20": mbap(2, 1, 20, 7, 6, 0, 4, 0, 1, 0, 2), "FC 24": mbap(2, 1, 24, 0, 0), "FC 43": mbap(2, 1, 43, 14, 1, 0),
		"FC 90": mbap(2, 1, 90, 1, 2, 3),
	} {
		t.Run(name, func(t *testing.T) {
			for cut := 1; cut < len(hider); cut++ {
				for _, together := range []bool{false, true} {
					w := connected(t, flushPlan(t))
					w.client(readRequest(1))
					left := 12
					if together {
						w.client(join(flusher, hider[:cut]))
					} else {
						left += len(flusher)
						w.client(flusher, hider[:cut])
					}
					w.mustDeny(fmt.Sprintf("a piece of %d bytes", cut), verdict.ReasonMalformed)
					if n := len(w.got(stream.FromResponder)); n != left || !w.ended {
						t.Fatalf("%d bytes left, want %d", n, left)
					}
				}
			}
			w := connected(t, flushPlan(t))
			w.client(flusher, hider, readRequest(4))
			w.mustAllow("whole requests behind it")
			w.device(mbap(2, 1, flusher[7]|0x80, 1))
			w.sendCut(stream.FromInitiator, hider, 7, 20)
			w.mustAllow("pieces, once it was answered")
		})
	}
}

func TestEvasion11_NoRepetitionInPiecesBehindAFunctionThatADeviceMayNotKnow(t *testing.T) {
	hider, _ := hiding(3)
	segments := [][]byte{join(readRequest(1), mbap(2, 1, 24, 0, 0)), hider, join(readRequest(4), hider)}
	sent := join(segments...)
	ends := map[int]bool{}
	for i := range segments {
		ends[len(join(segments[:i+1]...))] = true
	}
	repeated := func(t *testing.T, to int, answered bool) *wire {
		w := connected(t, flushPlan(t))
		for _, s := range segments {
			w.client(s)
			w.mustAllow("a segment of whole messages")
		}
		if answered {
			w.send(stream.FromResponder, segment{payload: mbap(2, 1, 0x98, 1), ackAt: -int32(len(sent))})
			w.mustAllow("the reply")
		}
		w.send(stream.FromInitiator, segment{payload: sent[:to], seqAt: -int32(len(sent)), keep: true})
		return w
	}
	for to := 1; to <= len(sent); to++ {
		if w := repeated(t, to, false); w.ended == ends[to] {
			t.Fatalf("%d bytes again: ended %v", to, w.ended)
		}
		if w := repeated(t, to, true); w.ended {
			t.Fatalf("%d bytes again, after the reply: ended", to)
		}
	}
	t.Run("what was acknowledged may be repeated anyhow", func(t *testing.T) {
		w := connected(t, flushPlan(t))
		w.client(segments...)
		w.send(stream.FromResponder, segment{flags: 16})
		w.send(stream.FromInitiator, segment{payload: sent[:20], seqAt: -int32(len(sent)), keep: true})
		w.mustAllow("an old piece")
		if len(w.pipeline.connections[testKey].whole) > 3 {
			t.Error("ends that are acknowledged are kept")
		}
	})
}

// A device that never answers may flush at any time, though nobody waits for its reply any more.
func TestEvasion11_UnansweredFunctionIsNotForgotten(t *testing.T) {
	hider, _ := hiding(3)
	w := connected(t, flushPlan(t))
	w.client(mbap(2, 1, 24, 0, 0))
	w.now = w.now.Add(2 * time.Minute)
	w.pipeline.Sweep(w.now, nil)
	w.client(readRequest(4), hider)
	w.mustAllow("whole requests")
	w.client(hider[:20])
	w.mustDeny("a piece", verdict.ReasonMalformed)
}
