package inspect

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/penstock-ot/penstock/dissectors/modbus"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// TestNoDeniedOperationCompletes sends random messages in random segments: cut anywhere, repeated,
// out of order, overlapping with other bytes. Whatever the device makes of overlaps, it never
// has a whole request that the policy denies.
func TestNoDeniedOperationCompletes(t *testing.T) {
	plan := rulesPlan(t, policy.DenyReset,
		`{functions: [read], units: [1]}`, `{functions: [write_multiple_registers], units: [1], addresses: [0-9], values: [0-9]}`)
	dropping := rulesPlan(t, policy.DenyDrop, `{functions: [read], units: [1]}`)
	rapid.Check(t, func(r *rapid.T) {
		plan := rapid.SampledFrom([]*policy.Plan{plan, dropping}).Draw(r, "plan")
		w := connected(t, plan)
		messages := rapid.SliceOfN(rapid.SampledFrom([][]byte{
			readRequest(1), writeRequest(2), mbap(3, 1, 16, 0, 5, 0, 1, 2, 0, 9), mbap(4, 1, 16, 0, 5, 0, 1, 2, 0, 99),
			mbap(5, 1, 7), mbap(6, 2, 3, 0, 0, 0, 1), mbap(7, 1, 90, 1, 2, 3),
		}), 1, 6).Draw(r, "messages")
		sent := join(messages...)
		received := [2]map[uint32]byte{{}, {}} // the first byte at a place wins, or the last
		base := w.seq[0]
		for range rapid.IntRange(1, 40).Draw(r, "segments") {
			from := rapid.IntRange(0, len(sent)-1).Draw(r, "from")
			to := rapid.IntRange(from+1, min(len(sent), from+20)).Draw(r, "to")
			payload := append([]byte{}, sent[from:to]...)
			if rapid.IntRange(0, 9).Draw(r, "tamper") == 0 {
				payload[rapid.IntRange(0, len(payload)-1).Draw(r, "at")] ^= 1 + byte(rapid.IntRange(0, 254).Draw(r, "with"))
			}
			ip := w.packet(stream.FromInitiator, segment{payload: payload, seqAt: int32(from), keep: true})
			j := w.deliver(stream.FromInitiator, ip)
			if !j.Verdict.Allows() {
				continue
			}
			for i, b := range payload {
				at := base + uint32(from+i)
				if _, known := received[0][at]; !known {
					received[0][at] = b
				}
				received[1][at] = b
			}
		}
		for _, bytes := range received {
			checkReceived(r, plan, bytes, base)
		}
	})
}

// checkReceived reads what a device has in order, as a device does.
func checkReceived(r *rapid.T, plan *policy.Plan, received map[uint32]byte, base uint32) {
	var b []byte
	for at := base; ; at++ {
		v, ok := received[at]
		if !ok {
			break
		}
		b = append(b, v)
	}
	for len(b) > 0 {
		var request modbus.Request
		n, err := modbus.ParseRequest(b, &request)
		if errors.Is(err, modbus.ErrNeedMore) {
			return
		}
		if err != nil {
			r.Fatalf("the device has a malformed request: % x", b)
		}
		if v := plan.EvalModbus(1, &request); !v.Allows() {
			r.Fatalf("the device has a denied request: % x (%v)", b[:n], v.Reason)
		}
		b = b[n:]
	}
}

// FuzzJudge feeds arbitrary packets to a live connection and an arbitrary stream behind it.
func FuzzJudge(f *testing.F) {
	f.Add([]byte{}, readRequest(1))
	f.Add([]byte{0x45}, writeRequest(1))
	f.Fuzz(func(t *testing.T, ip, payload []byte) {
		w := connected(t, readPlan(t, policy.DenyReset))
		w.pipeline.Judge(&Packet{Time: w.now, Key: testKey, From: policy.SideA, IP: ip})
		if len(payload) > 1400 {
			payload = payload[:1400]
		}
		for _, b := range payload {
			w.client([]byte{b})
		}
		checkFuzzed(t, w)
		w.device(payload)
	})
}

func checkFuzzed(t *testing.T, w *wire) {
	for b := w.got(stream.FromResponder); len(b) > 0; {
		var request modbus.Request
		n, err := modbus.ParseRequest(b, &request)
		if errors.Is(err, modbus.ErrNeedMore) {
			return
		}
		if err != nil || !w.flows.table[testKey].Plan.EvalModbus(1, &request).Allows() {
			t.Fatalf("the device has % x (%v)", b, err)
		}
		b = b[n:]
	}
}
