package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

// FuzzJudgeDNP3 has both ends send arbitrary bytes, in one segment or many, and as datagrams. Whatever they
// are, an outstation that forgives everything acts on no control that the policy does not name, and what it
// was sent is permitted.
func FuzzJudgeDNP3(f *testing.F) {
	poll, control := ask(1, dnp3.Read, 60, 2, 6), ask(2, dnp3.DirectOperate, indexed(12, 1, trip(9))...)
	permitted := ask(3, dnp3.DirectOperate, indexed(12, 1, latch(1))...)
	f.Add(poll, reply(1, 0), uint8(0))
	f.Add(join(poll, control), unasked(1, 2, 1, 0x17, 1, 0, 0x81), uint8(1))
	f.Add(join(permitted, poll), join(reply(3, 0, indexed(12, 1, latch(1))...), reply(1, 0)), uint8(7))
	f.Add(join(segments(5, append([]byte{0xc4, 5}, indexed(12, 1, latch(1), latch(2))...), 6, 9)...), []byte{}, uint8(13))
	plans := []*policy.Plan{dnp3Plan(f, policy.DenyReset, dnp3Rules...), dnp3Plan(f, policy.DenyException, dnp3Rules...)}
	f.Fuzz(func(t *testing.T, client, device []byte, cut uint8) {
		client, device = client[:min(len(client), 600)], device[:min(len(device), 600)]
		for _, plan := range plans {
			w := connected(t, plan)
			for rest := client; len(rest) > 0; {
				n := min(len(rest), max(1, int(cut)))
				w.client(rest[:n])
				rest = rest[n:]
			}
			w.device(device)
			w.mustNotAct("fuzzed")
			checkPermitted(t, w)
		}
		w := newWire(t, plans[0])
		w.datagram(stream.FromInitiator, string(client))
		w.datagram(stream.FromResponder, string(device))
		w.datagram(stream.FromInitiator, string(client))
		w = newWire(t, plans[0])
		w.observed = true
		w.client(client)
		w.device(device)
		w.client(client)
	})
}

// checkPermitted reads what the outstation has strictly: every message in it is one that the policy permits, or
// was made harmless.
func checkPermitted(t *testing.T, w *wire) {
	t.Helper()
	plan := w.flows.table[testKey].Plan
	var parts []byte
	for b := w.got(stream.FromResponder); len(b) > 0; {
		var f dnp3.Frame
		var m dnp3.Message
		n, err := dnp3.ParseFrame(b, &f)
		if err == dnp3.ErrNeedMore {
			return
		}
		if err != nil {
			t.Fatalf("the outstation has % x: %v", b, err)
		}
		b = b[n:]
		if !f.CarriesData() {
			continue
		}
		data := f.AppendData(nil)
		if parts = append(parts, data[1:]...); !dnp3.TransportHeader(data[0]).Final() {
			continue
		}
		if err := dnp3.ParseMessage(parts, true, false, &m); err == nil && m.Function != dnp3.Undefined {
			r := policy.DNP3Request{Master: f.Source, Outstation: f.Destination, Message: &m}
			if v := plan.EvalDNP3(1, &r); !v.Allows() {
				t.Fatalf("the outstation has a denied request: % x (%v)", parts, v.Reason)
			}
		} else if err != nil && (len(parts) < 4 || parts[2] != 0xfd) {
			t.Fatalf("the outstation has % x: %v", parts, err)
		}
		parts = nil
	}
}
