package inspect

import (
	"bytes"
	"encoding/binary"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
	"github.com/penstock-ot/penstock/internal/verdict"
)

// hasty is a device that reads as an open adapter stack does on which many products are built: four bytes up to the
// length, of which those that have not come are 0, and then what has come of the rest. It looks at command, session
// handle, options, and the types of two items.
type hasty struct {
	queue    []byte // arrived and not read
	head     []byte // of a message whose rest has not come at all
	drops    bool   // a message whose rest has not come, and goes on with what comes next
	closed   bool
	executed [][]byte
}

// arrive takes what comes with a segment.
func (h *hasty) arrive(b []byte) {
	for h.queue = append(h.queue, b...); len(h.queue) > 0 && !h.closed; {
		if h.head == nil {
			h.head = make([]byte, 4)
			h.queue = h.queue[copy(h.head, h.queue):]
		}
		if len(h.queue) == 0 && !h.drops {
			return // it waits in the middle of the message
		}
		size := 20 + int(binary.LittleEndian.Uint16(h.head[2:]))
		body := h.queue[:min(size, len(h.queue))]
		h.queue = h.queue[len(body):]
		if len(body) < size {
			h.closed = !h.drops
		} else {
			h.execute(append(h.head, body...))
		}
		h.head = nil
	}
}

func (h *hasty) execute(b []byte) {
	if len(b) < 40 || binary.LittleEndian.Uint32(b[4:]) == 0 || binary.LittleEndian.Uint32(b[20:]) != 0 || b[30] < 2 || b[31] != 0 {
		return
	}
	items := b[32:]
	address := binary.LittleEndian.Uint16(items[2:])
	at := 4
	if address >= 4 {
		at += 4
	}
	if address == 8 {
		at += 4
	}
	if len(items) < at+4 {
		return
	}
	length := int(binary.LittleEndian.Uint16(items[at+2:]))
	service := items[at+4 : min(at+4+length, len(items))]
	switch {
	case b[0] == 0x6f && items[0] == 0 && items[at] == 0xb2:
		h.executed = append(h.executed, service)
	case b[0] == 0x70 && items[0] == 0xa1 && items[at] == 0xb1 && len(service) > 2:
		h.executed = append(h.executed, service[2:])
	}
}

// hidden returns messages that are permitted, and have one inside that is not: in what a read carries and nobody looks
// at, in a value, and in more of these than one.
func hidden(denied []byte) map[string][]byte {
	write := ct.Request(0x4d, ct.Symbol("Line3.Note"), ct.U16(0xc2), ct.U16(uint16(len(denied))), denied)
	return map[string][]byte{
		"behind a read":             ct.RR(enipHandle, 7, ct.Join(readIdentity(), denied)),
		"behind a read, farther on": ct.RR(enipHandle, 7, ct.Join(readIdentity(), make([]byte, 300), denied)),
		"in a value":                ct.RR(enipHandle, 7, write),
		"in a packet":               ct.RR(enipHandle, 7, ct.Multiple(readSpeed(), write)),
	}
}

// TestEvasion25_AMessageInsideAMessage: a device that does not wait for all of a message gets out of step with one that
// comes in pieces, and reads another out of the middle of it. Whatever the pieces are, nothing that is denied is
// executed so: neither while the message around it is permitted, nor if it never ends.
func TestEvasion25_AMessageInsideAMessage(t *testing.T) {
	rules := append([]string{`{services: [write_tag], tags: [Line3.Note]}`}, enipRules...)
	plan := enipPlan(t, policy.DenyReset, rules...)
	longer := func(items ...[]byte) []byte { return ct.Encapsulate(0x6f, 1, 7, ct.Items(items...)) }
	reset := resetIdentity()
	status := longer(ct.Item(0, nil), ct.Item(0xb2, reset))
	copy(status[8:], []byte{1, 2, 3, 4})
	copy(status[24:], []byte{5, 6, 7, 8, 9, 10})
	executed, drivenOut := 0, 0
	for inner, denied := range map[string][]byte{
		"a reset":                         ct.RR(enipHandle, 9, reset),
		"a reset of another session":      ct.RR(1, 9, reset),
		"a reset with a longer address":   longer(ct.Item(0, make([]byte, 4)), ct.Item(0xb2, reset)),
		"a reset with the longest":        longer(ct.Item(0, make([]byte, 8)), ct.Item(0xb2, reset)),
		"a reset with a status":           status,
		"a reset with sockets":            longer(ct.Item(0, nil), ct.Item(0xb2, reset), ct.Item(0x8000, ct.Socket(2222, 0, 0, 0, 0))),
		"a reset on a connection":         ct.Unit(enipHandle, 0x70001, 1, reset),
		"a reset, its length's end apart": {},
	} {
		at := 0
		if len(denied) == 0 { // the device takes the byte that has not come for 0
			denied = ct.RR(enipHandle, 9, reset)
			denied = append(denied[:3:3], denied[4:]...)
			at = 3
		}
		for outer, message := range hidden(denied) {
			place := bytes.Index(message, denied)
			for _, drops := range []bool{false, true} {
				for first := 1; first <= place; first++ {
					cuts := []int{0, first, len(message)}
					if at > 0 {
						cuts = []int{0, first, max(first, place+at), len(message)}
					}
					d := newTarget(t, plan)
					device, bare := hasty{drops: drops}, hasty{drops: drops}
					arrived := len(d.got(stream.FromResponder))
					for i, from := range cuts[:len(cuts)-1] {
						bare.arrive(message[from:cuts[i+1]])
						if from == cuts[i+1] || d.ended {
							continue
						}
						d.client(message[from:cuts[i+1]])
						got := d.got(stream.FromResponder)
						device.arrive(got[arrived:])
						arrived = len(got)
					}
					for _, service := range device.executed {
						if bytes.HasPrefix(service, reset) {
							executed++
							t.Errorf("%s %s, in pieces at %v: the device has executed it", inner, outer, cuts)
						}
					}
					for _, service := range bare.executed {
						if bytes.HasPrefix(service, reset) {
							drivenOut++
						}
					}
					if executed > 10 {
						t.Fatal("and more")
					}
				}
			}
		}
	}
	if drivenOut == 0 {
		t.Error("without the appliance nothing was executed either: the test shows nothing")
	}
}

// TestEvasion25_AMessageAcrossTwo: the same of a message that begins in the end of one and goes on in another: in a NOP,
// whose data are nobody's, or in a sender's context.
func TestEvasion25_AMessageAcrossTwo(t *testing.T) {
	reset := resetIdentity()
	create := ct.Request(0x08, ct.Class(0x5f))
	data := ct.Join(ct.U32(1), ct.U16(0xb2), ct.U16(uint16(len(reset))), reset)
	head := func(length int) []byte {
		return ct.Join(ct.U16(0x6f), ct.U16(uint16(length)), ct.U32(enipHandle), ct.U32(0))
	}
	plan := enipPlan(t, policy.DenyReset, append([]string{`{commands: [nop]}`}, enipRules...)...)
	for name, r := range map[string]struct{ begin, end, executed []byte }{
		"in a NOP": {ct.Join(head(16+len(data)), ct.U32(0)), ct.Encapsulate(0, 0, 0x0008_0000_0002_0000, data), reset},
		"in a context": {ct.Join(head(20), make([]byte, 12)),
			ct.Encapsulate(0x63, 0x0002_0000, 0x5f20_0108_0004_00b2, nil)[:24], create},
	} {
		outer := ct.RR(enipHandle, 7, ct.Join(readIdentity(), r.begin))
		pieces := [][]byte{outer[:len(outer)-len(r.begin)], ct.Join(r.begin, r.end)}
		bare := hasty{drops: true}
		for _, piece := range pieces {
			bare.arrive(piece)
		}
		if len(bare.executed) != 1 || !bytes.HasPrefix(bare.executed[0], r.executed) {
			t.Fatalf("%s: without the appliance %x were executed: the test shows nothing", name, bare.executed)
		}
		d, device := newTarget(t, plan), hasty{drops: true}
		before := len(d.got(stream.FromResponder))
		for _, piece := range pieces {
			d.client(piece)
		}
		d.mustDeny(name, verdict.ReasonMalformed)
		if device.arrive(d.got(stream.FromResponder)[before:]); len(device.executed) > 0 {
			t.Errorf("%s: %x were executed", name, device.executed)
		}
	}
	for name, lawful := range map[string][]byte{
		"a NOP": ct.Encapsulate(0, 0, 0, nil), "one with data": ct.Encapsulate(0, enipHandle, 7, make([]byte, 90)),
		"one with data of all kinds": ct.Encapsulate(0, 0, 7, bytes.Repeat([]byte{0xb2, 0, 1, 0, 2}, 20)),
		"a context that counts":      ct.Encapsulate(0x63, 0x0002_0000, 0xb2, nil),
		"a context of all kinds":     ct.Encapsulate(0x63, 0x0002_0000, 0x0102_0304_0004_00b2, nil),
	} {
		d := newTarget(t, plan)
		d.client(lawful)
		d.mustAllow(name)
	}
}

// TestWhatOnlyLooksLikeAMessageInside: what a message holds that has parts of another passes, whole and in pieces.
func TestWhatOnlyLooksLikeAMessageInside(t *testing.T) {
	rules := append([]string{`{services: [write_tag], tags: [Line3.Note]}`}, enipRules...)
	plan := enipPlan(t, policy.DenyReset, rules...)
	whole := ct.RR(enipHandle, 9, readSpeed())
	for name, data := range map[string][]byte{
		"the beginning": whole[:36], "the end": whole[2:], "another command": append([]byte{0x65}, whole[1:]...),
		"without a session": ct.RR(0, 9, readSpeed()), "one item": append(append(bytes.Clone(whole[:30]), 1), whole[31:]...),
		"commands alone": bytes.Repeat([]byte{0x6f, 0, 0x70, 0}, 300), "zeros": make([]byte, 1200),
	} {
		message := ct.RR(enipHandle, 7, ct.Request(0x4d, ct.Symbol("Line3.Note"), ct.U16(0xc2), ct.U16(uint16(len(data))), data))
		for _, size := range []int{len(message), 700, 7} {
			d := newTarget(t, plan)
			for from := 0; from < len(message); from += size {
				d.client(message[from:min(from+size, len(message))])
				d.mustAllow(name)
			}
		}
	}
	d := newTarget(t, plan)
	d.client(ct.RR(enipHandle, 7, ct.Join(readIdentity(), whole)))
	d.mustDeny("a message inside a whole one", verdict.ReasonMalformed)

	// Neutralised all of it but a byte would leave.
	d = newTarget(t, enipPlan(t, policy.DenyException, rules...))
	before := len(d.got(stream.FromResponder))
	d.client(ct.RR(enipHandle, 7, ct.Request(0x4d, ct.Symbol("Recipe"), ct.U16(0xc2), ct.U16(uint16(len(whole))), whole)))
	d.mustDeny("a message inside a refused one", verdict.ReasonTagNotPermitted)
	if got := len(d.got(stream.FromResponder)) - before; got != 0 {
		t.Errorf("%d bytes of it have left", got)
	}
}
