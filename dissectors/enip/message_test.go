package enip_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
	"github.com/penstock-ot/penstock/dissectors/enip"
)

type golden struct {
	name string
	d    enip.Direction
	b    []byte
	want string // command, session, items and payload
}

func goldens() []golden {
	read := ct.ReadTag(ct.Symbol("Speed"), 1)
	return []golden{
		{"register", enip.Request, ct.Register(0), "register_session 0"},
		{"registered", enip.Reply, ct.Register(7), "register_session 7"},
		{"unregister", enip.Request, ct.Encapsulate(0x66, 7, 0, nil), "unregister_session 7"},
		{"nop", enip.Request, ct.Encapsulate(0, 0, 0, []byte("any")), "nop 0"},
		{"list services", enip.Request, ct.Encapsulate(4, 0, 9, nil), "list_services 0"},
		{"services", enip.Reply, ct.Encapsulate(4, 0, 9, ct.Join(ct.U16(1), ct.Item(0x100, make([]byte, 20)))), "list_services 0"},
		{"list identity", enip.Request, ct.Encapsulate(0x63, 0, 9, nil), "list_identity 0"},
		{"identity", enip.Reply, ct.Encapsulate(0x63, 0, 9, ct.Join(ct.U16(1), ct.Item(0xc, make([]byte, 33)))), "list_identity 0"},
		{"no interfaces", enip.Reply, ct.Encapsulate(0x64, 0, 9, ct.U16(0)), "list_interfaces 0"},
		{"legacy", enip.Request, ct.Encapsulate(1, 0, 9, []byte{1, 2}), "legacy_1 0"},
		{"unknown", enip.Request, ct.Encapsulate(0x99, 0, 9, []byte{1}), "unknown(0x0099) 0"},
		{"rr", enip.Request, ct.RR(7, 1, read), "send_rr_data 7 null_address unconnected_data " + hex.EncodeToString(read)},
		{"rr in another order", enip.Request, ct.Encapsulate(0x6f, 7, 1, ct.Items(ct.Item(0xb2, read), ct.Item(0, nil))),
			"send_rr_data 7 unconnected_data null_address out of order " + hex.EncodeToString(read)},
		{"rr with sockets", enip.Request, ct.RR(7, 1, read, ct.Item(0x8001, ct.Socket(2222, 1, 2, 3, 4)), ct.Item(0x8000, ct.Socket(2222, 239, 0, 0, 1))),
			"send_rr_data 7 null_address unconnected_data sockaddr_info_t_o sockaddr_info_o_t " + hex.EncodeToString(read)},
		{"unit", enip.Request, ct.Unit(7, 5, 3, read), "send_unit_data 7 connected_address connected_data on 5 " + hex.EncodeToString(append([]byte{3, 0}, read...))},
		{"error", enip.Reply, changed(ct.Encapsulate(0x6f, 7, 1, nil), 8, 1), "send_rr_data 7"},
	}
}

func describe(m *enip.Message) string {
	parts := []string{m.Command.String(), hexless(m.Session)}
	for _, item := range m.Items[:m.ItemCount] {
		parts = append(parts, item.Type.String())
	}
	if !m.InOrder() {
		parts = append(parts, "out of order")
	}
	if m.Connected {
		parts = append(parts, "on", hexless(m.ConnectionID))
	}
	if m.PayloadKnown {
		parts = append(parts, hex.EncodeToString(m.Payload))
	}
	return strings.Join(parts, " ")
}

func hexless(v uint32) string {
	if v < 10 {
		return string(rune('0' + v))
	}
	return "many"
}

func TestGolden(t *testing.T) {
	for _, g := range goldens() {
		var m enip.Message
		n, err := enip.Parse(append(bytes.Clone(g.b), 0xee), g.d, &m)
		if err != nil || n != len(g.b) || !m.Complete() {
			t.Errorf("%s: %d, %v", g.name, n, err)
			continue
		}
		if got := describe(&m); got != g.want {
			t.Errorf("%s:\n%s, want\n%s", g.name, got, g.want)
		}
		if m.PayloadKnown && !bytes.Equal(g.b[m.PayloadOffset:m.PayloadOffset+m.PayloadLength], m.Payload) {
			t.Errorf("%s: payload is not at %d", g.name, m.PayloadOffset)
		}
	}
}

// changed returns the message with other bytes at a place.
func changed(b []byte, at int, to ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], to)
	return b
}

func TestMalformed(t *testing.T) {
	read := ct.ReadTag(ct.Symbol("Speed"), 1)
	rr := ct.RR(7, 1, read)
	items := func(items ...[]byte) []byte { return ct.Encapsulate(0x6f, 7, 1, ct.Items(items...)) }
	null, data := ct.Item(0, nil), ct.Item(0xb2, read)
	for _, row := range []struct {
		name string
		b    []byte
		want string
	}{
		{"status", changed(rr, 8, 1), "request with a status that is not 0"},
		{"options", changed(rr, 23, 1), "options are not 0"},
		{"length", changed(rr, 2, 0xff, 0xff), "length is more than 65511"},
		{"length of a discovery", ct.Encapsulate(0x63, 0, 0, []byte{0}), "length is not that of this command"},
		{"length of register", ct.Encapsulate(0x65, 0, 0, []byte{1, 0}), "length is not that of this command"},
		{"version", changed(ct.Register(0), 24, 2), "protocol version is not 1, or session options are not 0"},
		{"session options", changed(ct.Register(0), 26, 1), "protocol version is not 1, or session options are not 0"},
		{"session given", ct.Register(5), "session handle of a request to register is not 0"},
		{"no session", ct.RR(0, 1, read), "session handle is 0"},
		{"interface", changed(rr, 27, 1), "interface handle is not 0"},
		{"one item", items(data), "item count is outside 2..4"},
		{"five items", changed(items(null, data, null, null, null), 30, 5), "item count is outside 2..4"},
		{"count in the high byte", changed(rr, 31, 1), "item count is outside 2..4"},
		{"item twice", items(null, data, ct.Item(0xb2, make([]byte, 40))), "item of a kind comes twice"},
		{"connected item", items(ct.Item(0xa1, ct.U32(1)), data), "item type has no place in this command"},
		{"unknown item", items(null, data, ct.Item(0x55, make([]byte, 16))), "item type has no place in this command"},
		{"address with bytes", items(ct.Item(0, []byte{1}), data), "item has not the length of its type"},
		{"two sockets and no data", items(null, ct.Item(0x8000, ct.Socket(1, 0, 0, 0, 0))), "items are not one address and one data item of the same kind"},
		{"item too long", changed(rr, 38, 0xff), "item does not fit the length of the message"},
		{"item too short", changed(rr, 38, 1), "bytes behind the last item"},
		{"socket family", items(null, data, ct.Item(0x8000, changed(ct.Socket(1, 0, 0, 0, 0), 1, 3))), "socket address is not of family 2 with 8 zero bytes behind it"},
	} {
		var m enip.Message
		n, err := enip.Parse(row.b, enip.Request, &m)
		var bad *enip.MalformedError
		if !errors.As(err, &bad) || bad.Reason != row.want || n != 0 {
			t.Errorf("%s: %d, %v; want %s", row.name, n, err, row.want)
		}
	}
}

// TestListsAreBounded: a discovery reply has not more items than MaxListItems, which is known by its count.
func TestListsAreBounded(t *testing.T) {
	list := func(n int) []byte {
		b := ct.U16(uint16(n))
		for range n {
			b = append(b, ct.Item(0x0c, nil)...)
		}
		return ct.Encapsulate(0x63, 0, 0, b)
	}
	var m enip.Message
	if n, err := enip.Parse(list(enip.MaxListItems), enip.Reply, &m); err != nil || n != 26+4*enip.MaxListItems {
		t.Errorf("the longest list: %d, %v", n, err)
	}
	for _, b := range [][]byte{list(enip.MaxListItems + 1), list(enip.MaxListItems + 1)[:26], list(16000)} {
		if _, err := enip.Parse(b, enip.Reply, &m); !malformed(err) {
			t.Errorf("%d bytes of a longer list: %v", len(b), err)
		}
	}
}

func malformed(err error) bool {
	var bad *enip.MalformedError
	return errors.As(err, &bad)
}

// checkEarliest holds for all prefixes that what is malformed stays so whatever follows.
func checkEarliest(t *testing.T, d enip.Direction, b []byte) {
	t.Helper()
	var m enip.Message
	refused := false
	for n := 0; n <= len(b); n++ {
		size, err := enip.Parse(b[:n], d, &m)
		switch {
		case refused && !malformed(err):
			t.Fatalf("%x: malformed at %d bytes, then %v", b, n-1, err)
		case err == nil:
			if size < 1 || size > n {
				t.Fatalf("%x: size %d of %d bytes", b, size, n)
			}
			return
		case malformed(err):
			refused = true
		case err != enip.ErrNeedMore:
			t.Fatalf("%x: %v", b, err)
		}
		if err != nil && size != 0 {
			t.Fatalf("%x: size %d with error %v", b, size, err)
		}
	}
}

func TestEveryPrefixAndChange(t *testing.T) {
	for _, g := range goldens() {
		for n := range len(g.b) {
			var m enip.Message
			if size, err := enip.Parse(g.b[:n], g.d, &m); err != enip.ErrNeedMore || size != 0 {
				t.Errorf("%s: first %d bytes: %d, %v", g.name, n, size, err)
			}
		}
		checkEarliest(t, g.d, g.b)
		for i := range g.b {
			for _, v := range []byte{0, 1, 2, g.b[i] + 1, g.b[i] - 1, 0x80, 0xb1, 0xff} {
				checkEarliest(t, g.d, changed(g.b, i, v))
			}
		}
	}
}

func TestEverySplit(t *testing.T) {
	for _, g := range goldens() {
		second := ct.RR(7, 2, []byte{1, 0})
		if g.d == enip.Reply {
			second = ct.Register(9)
		}
		all := append(bytes.Clone(g.b), second...)
		for split := range all {
			var sizes []int
			var pending []byte
			for _, piece := range [][]byte{all[:split], all[split:]} {
				pending = append(pending, piece...)
				for {
					var m enip.Message
					n, err := enip.Parse(pending, g.d, &m)
					if err != nil {
						break
					}
					sizes, pending = append(sizes, n), pending[n:]
				}
			}
			if len(sizes) != 2 || sizes[0] != len(g.b) || sizes[1] != len(second) {
				t.Errorf("%s split at %d: %v", g.name, split, sizes)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	for _, g := range goldens() {
		var m enip.Message
		if n := testing.AllocsPerRun(100, func() {
			for size := range len(g.b) + 1 {
				_, _ = enip.Parse(g.b[:size], g.d, &m)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", g.name, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, g := range goldens() {
		f.Add(g.b, g.d == enip.Reply)
	}
	f.Fuzz(func(t *testing.T, b []byte, reply bool) {
		d := enip.Request
		if reply {
			d = enip.Reply
		}
		checkEarliest(t, d, b[:min(len(b), 300)])
		var m enip.Message
		if n, err := enip.Parse(b, d, &m); err == nil {
			if n != enip.HeaderLength+m.Length || m.Seen != n {
				t.Errorf("size %d, length %d, seen %d", n, m.Length, m.Seen)
			}
			if m.Command.CarriesCIP() && m.Length > 0 && !m.PayloadKnown {
				t.Error("items without data")
			}
		}
		_ = m.Fields()
	})
}

func BenchmarkParse(b *testing.B) {
	message := ct.Unit(7, 5, 3, ct.ReadTag(ct.Symbol("Speed"), 1))
	var m enip.Message
	b.ReportAllocs()
	for b.Loop() {
		if _, err := enip.Parse(message, enip.Request, &m); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHoldsAnother: a message inside another is found wherever it begins, once its second item's type has come, and
// whatever has been looked at before.
func TestHoldsAnother(t *testing.T) {
	read := ct.ReadTag(ct.Symbol("Speed"), 1)
	for name, inner := range map[string][]byte{"unconnected": ct.RR(5, 1, read), "connected": ct.Unit(5, 9, 1, read)} {
		told := 38
		if name == "connected" {
			told += 4
		}
		for at := 1; at < 100; at++ {
			b := ct.Join(bytes.Repeat([]byte{0x6f, 0x70}, 50)[:at], inner)
			for n := range len(b) {
				want := n >= at+told
				if got := enip.HoldsAnother(b[:n], 1); got != want {
					t.Fatalf("%s at %d, %d bytes: %v", name, at, n, got)
				}
				// Of the bytes before from enough are looked at again.
				if from := n - 1 - enip.InnerLength; n == at+told && from > 1 && !enip.HoldsAnother(b[:n], from) {
					t.Fatalf("%s at %d is not found from %d on", name, at, from)
				}
			}
			if enip.HoldsAnother(b, at+1) {
				t.Fatalf("%s at %d is found behind its beginning", name, at)
			}
		}
		for at, to := range map[int]byte{1: 1, 20: 1, 23: 1, 30: 1, 31: 1, 32: 5} {
			if enip.HoldsAnother(append([]byte{0}, changed(inner, at, to)...), 1) {
				t.Errorf("%s with %d at %d", name, to, at)
			}
		}
	}
}
