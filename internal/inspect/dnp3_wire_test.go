package inspect

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/stream"
)

const (
	masterStation, outstation = 1, 10

	fromMaster     = 0xc4 // unconfirmed user data
	fromOutstation = 0x44
)

// dnp3Rules is what the tests permit: polls, clearing the restart bit, and latching the first points.
var dnp3Rules = []string{
	`{functions: [read, confirm, enable_unsolicited, disable_unsolicited, delay_measure], masters: [1], outstations: [10]}`,
	`{functions: [write], masters: [1], outstations: [10], objects: [g50v1, g80v1]}`,
	`{functions: [select, operate, direct_operate, direct_operate_nr], masters: [1], outstations: [10], objects: [g12v1], points: [0-3], control_codes: [latch_on, latch_off]}`,
}

// dnp3Plan compiles a policy with one DNP3 conduit.
func dnp3Plan(t testing.TB, onDeny policy.OnDeny, rules ...string) *policy.Plan {
	t.Helper()
	text := strings.Replace(testPolicy, "protocol: modbus", "protocol: dnp3", 1)
	p, err := policy.Parse("test.yaml", fmt.Appendf(nil, text, onDeny, strings.Join(rules, ", ")))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// dnp3Wire is a connection between a master and an outstation.
func dnp3Wire(t testing.TB, onDeny policy.OnDeny) *wire {
	t.Helper()
	return connected(t, dnp3Plan(t, onDeny, dnp3Rules...))
}

// ask returns a request in one frame: the function, then objects.
func ask(sequence byte, function dnp3.FunctionCode, objects ...byte) []byte {
	data := append([]byte{0xc0 | sequence, 0xc0 | sequence, byte(function)}, objects...)
	return dnp3.AppendFrame(nil, fromMaster, outstation, masterStation, data)
}

// reply returns a response in one frame.
func reply(sequence byte, iin dnp3.IIN, objects ...byte) []byte {
	data := append([]byte{0xc0, 0xc0 | sequence, byte(dnp3.Response), byte(iin >> 8), byte(iin)}, objects...)
	return dnp3.AppendFrame(nil, fromOutstation, masterStation, outstation, data)
}

// unasked returns an unsolicited response.
func unasked(sequence byte, objects ...byte) []byte {
	data := append([]byte{0xc0, 0xf0 | sequence, byte(dnp3.UnsolicitedResponse), 0, 0}, objects...)
	return dnp3.AppendFrame(nil, fromOutstation, masterStation, outstation, data)
}

// segments returns a message in frames, cut at the places given.
func segments(first byte, message []byte, cuts ...int) [][]byte {
	var frames [][]byte
	at := 0
	for i, cut := range append(cuts, len(message)) {
		header := (first + byte(i)) & 0x3f
		if i == 0 {
			header |= 0x40
		}
		if cut == len(message) {
			header |= 0x80
		}
		frames = append(frames, dnp3.AppendFrame(nil, fromMaster, outstation, masterStation, append([]byte{header}, message[at:cut]...)))
		at = cut
	}
	return frames
}

// marker is the time of controls that are not permitted, so that they are found wherever they arrive.
const marker = 0xdeadbeef

// crob returns a control relay output block.
func crob(code byte, onTime uint32) []byte {
	b := []byte{code, 1}
	b = binary.LittleEndian.AppendUint32(b, onTime)
	return append(binary.LittleEndian.AppendUint32(b, 0), 0)
}

// indexed returns an object header with an index of one byte before each object.
func indexed(group, variation byte, objects ...[]byte) []byte {
	b := []byte{group, variation, 0x17, byte(len(objects))}
	for _, o := range objects {
		b = append(b, o...)
	}
	return b
}

// at puts an index of one byte before an object.
func at(index byte, object []byte) []byte { return append([]byte{index}, object...) }

// latch is a permitted control of a point, trip one that is not.
func latch(point byte) []byte { return at(point, crob(3, 100)) }
func trip(point byte) []byte  { return at(point, crob(0x81, marker)) }

// naive is an outstation that forgives whatever can be forgiven: it hunts for frames, leaves out those
// with a wrong CRC, and takes segments as they come.
type naive struct {
	lax     bool // takes segments out of sequence, too
	acted   [][]byte
	message []byte
	next    byte
	begun   bool
}

// take reads what has arrived.
func (n *naive) take(b []byte) {
	for len(b) >= 10 {
		if b[0] != 0x05 || b[1] != 0x64 || !rightCRC(b, 8) || b[2] < 5 {
			b = b[1:]
			continue
		}
		length, size := int(b[2])-5, 10
		var data []byte
		good := true
		for at := 0; at < length && good; at += 16 {
			k := min(16, length-at)
			good = len(b) >= size+k+2 && rightCRC(b[size:], k)
			if good {
				data = append(data, b[size:size+k]...)
			}
			size += k + 2
		}
		if !good {
			b = b[1:]
			continue
		}
		if destination := binary.LittleEndian.Uint16(b[4:]); len(data) > 0 && (destination == outstation || destination >= 0xfff0) {
			n.segment(data)
		}
		b = b[size:]
	}
}

func (n *naive) segment(data []byte) {
	switch h := data[0]; {
	case h&0x40 != 0:
		n.message, n.begun = nil, true
	case !n.lax && (!n.begun || h&0x3f != n.next):
		n.begun = false
		return
	}
	n.next = (data[0] + 1) & 0x3f
	n.message = append(n.message, data[1:]...)
	if data[0]&0x80 != 0 && (n.begun || n.lax) {
		n.acted, n.message, n.begun = append(n.acted, n.message), nil, false
	}
}

// rightCRC compares the CRC behind b[:n].
func rightCRC(b []byte, n int) bool {
	return len(b) >= n+2 && binary.LittleEndian.Uint16(b[n:]) == bitwiseCRC(b[:n])
}

// bitwiseCRC computes the CRC of IEEE 1815 clause 9.2.4.2 as it is written there.
func bitwiseCRC(b []byte) uint16 {
	crc := uint16(0)
	for _, v := range b {
		crc ^= uint16(v)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= 0xa6bc
			}
		}
	}
	return ^crc
}

// mustNotAct fails if the outstation, strict or lax, has a message that controls what is marked.
func (w *wire) mustNotAct(what string) {
	w.t.Helper()
	for _, lax := range []bool{false, true} {
		n := naive{lax: lax}
		n.take(w.got(stream.FromResponder))
		for _, m := range n.acted {
			if len(m) < 3 || m[1] < 2 || m[1] > 6 || m[2] == 0xfd {
				continue
			}
			if strings.Contains(string(m), string(binary.LittleEndian.AppendUint32(nil, marker))) {
				w.t.Fatalf("%s: the outstation acts on % x", what, m)
			}
		}
	}
}
