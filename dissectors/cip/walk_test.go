package cip_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
)

// walk describes the services of a message, or of as much of it as b is.
func walk(b []byte, length int) (list []string, err error) {
	var w cip.Walk
	w.Start(b, length, nil)
	for w.Next() {
		hops, known := w.Route()
		text := strings.Repeat(" ", w.Request.Depth) + w.Request.Operation()
		if w.Request.PathKnown {
			text += " " + w.Request.Path.String()
		}
		if len(hops) > 0 || !known {
			text += fmt.Sprintf(" by %s", cip.AppendRoute(nil, hops))
		}
		list = append(list, text)
	}
	return list, w.Err()
}

func requests() map[string][]byte {
	read := ct.ReadTag(ct.Symbol("Speed"), 1)
	route := ct.Port(1, 0)
	return map[string][]byte{
		"read":     read,
		"write":    ct.WriteDINT(ct.Symbol("Setpoint"), 1, 2),
		"fragment": ct.Request(0x53, ct.Symbol("A"), ct.U16(0xc3), ct.U16(9), ct.U32(4), ct.U16(1)),
		"struct":   ct.Request(0x4d, ct.Symbol("S"), ct.U16(0x2a0), ct.U16(0x1234), ct.U16(1), []byte{1, 2, 3, 4}),
		"masks":    ct.Request(0x4e, ct.Symbol("S"), ct.U16(4), ct.U32(1), ct.U32(0xfffffff0)),
		"packet":   ct.Multiple(read, ct.Multiple(read, read), ct.Request(0x0e, ct.Join(ct.Class(1), ct.Instance(1), ct.Attribute(7)))),
		"send":     ct.Unconnected(ct.Multiple(read, read), route),
		"odd send": ct.Unconnected(ct.Request(0x10, ct.Join(ct.Class(4), ct.Instance(1), ct.Attribute(3)), []byte{1}), route, ct.PortText(2, "198.18.0.9")),
		"open":     ct.Open{Path: ct.Join(route, ct.Router())}.Forward(),
		"large":    ct.Open{Large: true, Class: 1, Path: ct.Join(route, ct.Class(4), ct.Instance(1), ct.Point(2))}.Forward(),
		"close":    ct.Close(1, ct.Join(route, ct.Router())),
		"pccc":     ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 1, 0, 2, 0, 0, 0, 0x0f, 0, 1, 0, 0xa2, 2, 7, 0x89, 3, 0}),
		"bare":     {0x01, 0},
	}
}

func TestWalk(t *testing.T) {
	read := ct.ReadTag(ct.Symbol("Speed"), 1)
	got, err := walk(requests()["packet"], len(requests()["packet"]))
	want := []string{
		"multiple_service_packet class message_router instance 1", " read_tag tag Speed",
		" multiple_service_packet class message_router instance 1", "  read_tag tag Speed", "  read_tag tag Speed",
		" get_attribute_single class identity instance 1 attribute 7",
	}
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%v\n%s", err, strings.Join(got, "\n"))
	}
	b := ct.Unconnected(ct.Unconnected(read, ct.Port(1, 2)), ct.Port(1, 0), ct.PortText(2, "198.18.0.9"))
	got, err = walk(b, len(b))
	want = []string{
		"unconnected_send class connection_manager instance 1",
		" unconnected_send class connection_manager instance 1 by 1/0,2/198.18.0.9",
		"  read_tag tag Speed by 1/0,2/198.18.0.9,1/2",
	}
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%v\n%s", err, strings.Join(got, "\n"))
	}
}

func TestOwnersOfOneCode(t *testing.T) {
	object := func(class uint32) []byte { return ct.Join(ct.Class(class), ct.Instance(1)) }
	for _, row := range []struct {
		code byte
		path []byte
		want string
	}{
		{0x4c, ct.Symbol("A"), "read_tag"}, {0x4c, object(0x6b), "read_tag"}, {0x4c, object(0x6c), "read_template"},
		{0x4c, object(0x37), "initiate_download"}, {0x4c, object(0x72), "unknown(0x4c)"}, {0x4c, nil, "unknown(0x4c)"},
		{0x4e, ct.Symbol("A"), "read_modify_write_tag"}, {0x4e, object(6), "forward_close"},
		{0x52, object(6), "unconnected_send"}, {0x52, ct.Symbol("A"), "read_tag_fragmented"}, {0x4b, object(0x67), "execute_pccc"},
		{0x0e, object(0x67), "get_attribute_single"}, {0x30, object(1), "unknown(0x30)"},
	} {
		var p cip.Path
		if err := p.Parse(row.path, cip.Padded); err != nil {
			t.Fatal(err)
		}
		if got := cip.ServiceName(cip.ServiceCode(row.code), p.Owner()); got != row.want {
			t.Errorf("0x%02x of %s: %s, want %s", row.code, p.String(), got, row.want)
		}
	}
}

func TestMalformedServices(t *testing.T) {
	read := ct.ReadTag(ct.Symbol("Speed"), 1)
	path := ct.Symbol("A")
	deep := read
	for range 5 {
		deep = ct.Multiple(deep)
	}
	many := make([][]byte, 255)
	for i := range many {
		many[i] = []byte{1, 0}
	}
	for name, b := range map[string][]byte{
		"empty": {}, "one byte": {1}, "reply bit": {0x81, 0}, "code 0": {0, 0}, "path too long": {1, 9, 0x20, 1},
		"read of 0": ct.ReadTag(path, 0), "read with more": ct.Request(0x4c, path, []byte{1, 0, 0}), "read with less": ct.Request(0x4c, path, []byte{1}),
		"write of 0": ct.Request(0x4d, path, ct.U16(0xc4), ct.U16(0), ct.U32(1)), "write of less": ct.Request(0x4d, path, ct.U16(0xc4), ct.U16(2), ct.U32(1)),
		"write of more":    ct.Request(0x4d, path, ct.U16(0xc4), ct.U16(1), ct.U32(1), ct.U32(1)),
		"fragment of more": ct.Request(0x53, path, ct.U16(0xc4), ct.U16(1), ct.U32(1), ct.U32(1)),
		"masks":            ct.Request(0x4e, path, ct.U16(4), ct.U32(1)),
		"too deep":         deep, "too many": ct.Multiple(many...), "count": ct.Request(0x0a, ct.Router(), ct.U16(0xffff), ct.U16(1)),
		"embedded size": ct.Request(0x52, ct.Manager(), []byte{1, 1, 0xff, 0}, read, []byte{1, 0}, ct.Port(1, 0)),
		"route size":    ct.Request(0x52, ct.Manager(), []byte{1, 1}, ct.U16(uint16(len(read))), read, []byte{9, 0}, ct.Port(1, 0)),
		"open size":     append(ct.Open{}.Forward(), 0), "close size": append(ct.Close(1, ct.Router()), 0),
		"pccc": ct.Request(0x4b, ct.Join(ct.Class(0x67), ct.Instance(1)), []byte{7, 1, 0, 2, 0, 0, 0, 0x0f, 0, 1, 0}),
	} {
		var bad *cip.MalformedError
		if list, err := walk(b, len(b)); !errors.As(err, &bad) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if _, err := walk(deep, len(deep)); err != error(cip.ErrDepth) {
		t.Errorf("too deep: %v", err)
	}
	if _, err := walk(ct.Multiple(many...), len(ct.Multiple(many...))); err != error(cip.ErrServices) {
		t.Errorf("too many: %v", err)
	}
}

// TestAWriteThatRepeatsItself: pycomm3 sends the sequence count and the request once more behind it.
func TestAWriteThatRepeatsItself(t *testing.T) {
	write := ct.WriteDINT(ct.Symbol("testtag1"), 42)
	twice := ct.Join(write, []byte{3, 0}, write)
	if _, err := walk(twice, len(twice)); err != nil {
		t.Error(err)
	}
	other := ct.Join(write, []byte{3, 0}, ct.WriteDINT(ct.Symbol("testtag1"), 43))
	if _, err := walk(other, len(other)); err == nil {
		t.Error("another write behind a write is taken for its repetition")
	}
	var w cip.Walk
	w.Start(twice, len(twice), nil)
	if !w.Next() || len(w.Request.TagAccess().Written) != 4 {
		t.Errorf("%d bytes are written, want 4", len(w.Request.TagAccess().Written))
	}
}

// TestAWriteThatIsFilledUp: libplctag makes the data of its writes an even number of bytes.
func TestAWriteThatIsFilledUp(t *testing.T) {
	path := ct.Symbol("A")
	write := func(count uint16, data ...byte) []byte {
		return ct.Request(0x4d, path, ct.U16(0xc2), ct.U16(count), data)
	}
	fragment := func(count uint16, offset uint32, data ...byte) []byte {
		return ct.Request(0x53, path, ct.U16(0xc2), ct.U16(count), ct.U32(offset), data)
	}
	for name, r := range map[string]struct {
		service []byte
		written int // 0: malformed
	}{
		"one byte":                      {write(1, 5, 0), 1},
		"three bytes":                   {write(3, 5, 6, 7, 0), 3},
		"with another byte":             {write(1, 5, 6), 0},
		"two bytes more":                {write(2, 5, 6, 0, 0), 0},
		"to an odd length":              {write(2, 5, 6, 0), 0},
		"whole numbers of two bytes":    {ct.Request(0x4d, path, ct.U16(0xc3), ct.U16(1), []byte{5, 0, 0}), 0},
		"the last fragment":             {fragment(5, 4, 9, 0), 1},
		"the last, with another byte":   {fragment(5, 4, 9, 9), 0},
		"a fragment that is not":        {fragment(9, 4, 9, 9), 2},
		"a fragment behind the last":    {fragment(5, 5, 0, 0), 0},
		"a fragment that goes round":    {fragment(5, 0xffffffff, 1, 0), 0},
		"filled up and repeated behind": {ct.Join(write(1, 5, 0), ct.U16(3), write(1, 5, 0)), 0},
	} {
		if checkWritten(t, name, r.service, r.written) == nil {
			checkPrefixes(t, r.service)
		}
	}
}

// checkWritten reads a service that writes so many bytes to a tag, or is malformed where that is 0, which it returns.
func checkWritten(t *testing.T, name string, service []byte, written int) error {
	t.Helper()
	var w cip.Walk
	w.Start(service, len(service), nil)
	w.Next()
	got := len(w.Request.TagAccess().Written)
	if bad := w.Err() != nil; bad != (written == 0) || !bad && got != written {
		t.Errorf("%s: %d bytes are written, %v", name, got, w.Err())
	}
	return w.Err()
}

// TestAWriteOfAPart: an Omron controller is told by a data segment behind a tag which bytes of it are meant, and clients
// count one element whatever these are.
func TestAWriteOfAPart(t *testing.T) {
	part := func(offset uint32, size uint16) []byte {
		return ct.Join(ct.Symbol("A"), []byte{0x80, 3}, ct.U32(offset), ct.U16(size))
	}
	write := func(path []byte, kind, count uint16, bytes int) []byte {
		return ct.Request(0x4d, path, ct.U16(kind), ct.U16(count), make([]byte, bytes))
	}
	for name, r := range map[string]struct {
		service []byte
		written int // 0: malformed
	}{
		"one element of many":       {write(part(400, 400), 0xc3, 1, 400), 400},
		"as many as there are":      {write(part(400, 400), 0xc3, 200, 400), 400},
		"more than the part":        {write(part(400, 398), 0xc3, 1, 400), 0},
		"less than the part":        {write(part(400, 402), 0xc3, 1, 400), 0},
		"half an element":           {write(part(400, 401), 0xc3, 1, 401), 0},
		"without a part":            {write(ct.Symbol("A"), 0xc3, 1, 400), 0},
		"a segment of another size": {write(ct.Join(ct.Symbol("A"), []byte{0x80, 2}, ct.U16(0), ct.U16(400)), 0xc3, 1, 400), 0},
		"of a structure":            {ct.Request(0x4d, part(0, 30), ct.U16(0x2a0), ct.U16(0x1234), ct.U16(1), make([]byte, 30)), 30},
	} {
		_ = checkWritten(t, name, r.service, r.written)
		checkPrefixes(t, r.service)
	}
}

// checkPrefixes holds that a prefix of a message finds what the message has, as far as it goes, and that
// what is malformed stays so.
func checkPrefixes(t *testing.T, b []byte) {
	t.Helper()
	whole, wholeErr := walk(b, len(b))
	refused := false
	for n := range len(b) + 1 {
		part, err := walk(b[:n], len(b))
		if refused && err == nil {
			t.Fatalf("%x: malformed with %d bytes of %d, and lawful with one more", b, n-1, len(b))
		}
		if refused = err != nil; refused && wholeErr == nil {
			t.Fatalf("%x: malformed with %d bytes of %d: %v", b, n, len(b), err)
		}
		if wholeErr == nil && len(part) > len(whole) {
			t.Fatalf("%x: %d services in %d bytes, %d in all", b, len(part), n, len(whole))
		}
	}
}

func TestEveryPrefix(t *testing.T) {
	for name, b := range requests() {
		if _, err := walk(b, len(b)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkPrefixes(t, b)
		for i := range b {
			for _, v := range []byte{0, 1, b[i] + 1, b[i] - 1, 0x80, 0xff} {
				c := bytes.Clone(b)
				c[i] = v
				checkPrefixes(t, c)
			}
		}
	}
}

func TestForwardOpen(t *testing.T) {
	for _, large := range []bool{false, true} {
		b := ct.Open{
			Large: large, ToSource: 7, Serial: 3, RPI: 20000, Size: 300, Types: [2]byte{0, 1}, Owner: true, Class: 0x81, Multiplier: 2,
			Path: ct.Join(ct.Port(1, 4), ct.Class(4), ct.Instance(1), ct.Point(2), ct.Point(3), []byte{0x50, 1, 0, 0}),
		}.Forward()
		var w cip.Walk
		w.Start(b, len(b), nil)
		var o cip.Open
		if !w.Next() || !w.Request.ForwardOpen(&o) {
			t.Fatal(w.Err())
		}
		got := fmt.Sprintf("%+v %+v %d %d %d %d %d %v %v %v", o.ToTarget, o.ToOriginator, o.Serial, o.Vendor, o.OriginatorSerial, o.Multiplier, o.Class, o.IO(), o.Path.Safety, o.Path.Points())
		want := "{ID:0 RPI:20ms Type:point_to_point Owner:true Variable:false Priority:0 Size:300} {ID:7 RPI:20ms Type:multicast Owner:false Variable:false Priority:0 Size:300} 3 4919 42 2 1 true true [1 2 3]"
		if got != want {
			t.Errorf("large %v:\n%s, want\n%s", large, got, want)
		}
	}
}

func TestReplies(t *testing.T) {
	reply := func(code, status byte, data ...byte) []byte {
		return append([]byte{code | 0x80, 0, status, 0}, data...)
	}
	packet := append(reply(0x0a, 0x1e), ct.Packet(reply(0x4c, 0, 1, 2), reply(0x4d, 5))...)
	var w cip.ReplyWalk
	var got []string
	w.Start(packet)
	for w.Next() {
		got = append(got, fmt.Sprintf("%d %x %x %x", w.Reply.Depth, uint8(w.Reply.Code), w.Reply.Status, w.Reply.Data))
	}
	want := "0 a 1e 0200060" + "00c00cc0000000102cd000500|1 4c 0 0102|1 4d 5 "
	if w.Err() != nil || strings.Join(got, "|") != want {
		t.Errorf("%v: %s, want %s", w.Err(), strings.Join(got, "|"), want)
	}
	for name, b := range map[string][]byte{
		"request": {1, 0, 0, 0}, "short": {0x81, 0, 0}, "status size": {0x81, 0, 1, 4, 0, 0},
		"packet": append(reply(0x0a, 0), 1, 0, 9, 0),
	} {
		w.Start(b)
		for w.Next() {
		}
		if w.Err() == nil {
			t.Errorf("%s is taken for a reply", name)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	var w cip.Walk
	var r cip.ReplyWalk
	for name, b := range requests() {
		if n := testing.AllocsPerRun(100, func() {
			for size := range len(b) + 1 {
				w.Start(b[:size], len(b), nil)
				for w.Next() {
					w.Request.TagAccess()
					_, _ = w.Request.Command()
				}
			}
			r.Start(b)
			for r.Next() {
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzWalk(f *testing.F) {
	for _, b := range requests() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkPrefixes(t, b[:min(len(b), 200)])
		var w cip.Walk
		w.Start(b, len(b), nil)
		for w.Next() {
			_ = w.Request.Fields()
			if w.Request.Depth > cip.MaxDepth || len(w.Found()) != w.Request.Length {
				t.Errorf("depth %d, %d of %d bytes", w.Request.Depth, len(w.Found()), w.Request.Length)
			}
		}
	})
}

func FuzzPath(f *testing.F) {
	f.Add(ct.Join(ct.Port(1, 0), ct.PortText(2, "1.2.3.4"), ct.Key(), ct.Class(4), ct.Instance(1), ct.Point(2)), true)
	f.Add(ct.Join(ct.Symbol("Program:Main.A[3].B"), ct.Member(4)), false)
	f.Fuzz(func(t *testing.T, b []byte, connection bool) {
		var p, q cip.Path
		for _, form := range []cip.Form{cip.Padded, cip.Packed} {
			err := p.Parse(b, form)
			if connection {
				err = p.ParseConnection(b, form)
			}
			if err != nil {
				continue
			}
			if q = p; !p.Equal(&q) {
				t.Errorf("%x is not equal to itself", b)
			}
			// A tag in its one form is one symbol that means the same.
			if tag := p.Tag(); tag != nil && len(tag) < 255 {
				if err := q.Parse(ct.Symbol(string(tag)), cip.Padded); err != nil || !cip.EqualFold(q.Tag(), tag) {
					t.Errorf("tag %q: %v, %q", tag, err, q.Tag())
				}
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte{0x8a, 0, 0, 0, 1, 0, 4, 0, 0xcc, 0, 0, 0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		var w cip.ReplyWalk
		w.Start(b)
		for w.Next() {
			_ = w.Reply.Fields()
		}
	})
}

func BenchmarkWalk(b *testing.B) {
	for name, message := range requests() {
		b.Run(name, func(b *testing.B) {
			var w cip.Walk
			b.ReportAllocs()
			for b.Loop() {
				w.Start(message, len(message), nil)
				for w.Next() {
				}
				if w.Err() != nil {
					b.Fatal(w.Err())
				}
			}
		})
	}
}
