package dnp3_test

import (
	"bytes"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

// A fuzz target holds, for any bytes: refusal as early as possible and for good, what is accepted is
// encoded again to the same bytes, and nothing panics on prefixes. The seeds are the goldens and
// testdata/fuzz.

func FuzzParseFrame(f *testing.F) {
	for _, g := range goldenRequests {
		f.Add(dnp3.AppendFrame(nil, 0xc4, 10, 1, append([]byte{0xc0}, message(f, g.wire)...)))
	}
	f.Add(dnp3.AppendFrame(nil, 0xc9, 10, 1, nil))
	var editor dnp3.Editor
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), dnp3.MaxFrame)]
		checkFrame(t, b)
		var frame dnp3.Frame
		n, err := dnp3.ParseFrame(b, &frame)
		if err != nil {
			return
		}
		if got := dnp3.AppendFrame(nil, b[3], frame.Destination, frame.Source, frame.AppendData(nil)); !bytes.Equal(got, b[:n]) {
			t.Errorf("encoded % x, want % x", got, b[:n])
		}
		for _, reply := range []bool{false, true} {
			c := bytes.Clone(b[:n])
			if !editor.Neutralise(c, reply) {
				if !bytes.Equal(c, b[:n]) {
					t.Error("not neutralised, and changed")
				}
			} else if m, err := dnp3.ParseFrame(c, &frame); err != nil || m != n {
				t.Errorf("neutralised to % x: %v", c, err)
			}
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	for _, g := range goldenRequests {
		f.Add(message(f, g.wire), false)
	}
	for _, g := range goldenResponses {
		f.Add(message(f, g.wire), true)
	}
	for _, row := range badMessages {
		f.Add(message(f, row.wire), row.response)
	}
	f.Fuzz(func(t *testing.T, b []byte, response bool) {
		if len(b) <= 300 {
			checkMessage(t, b, response)
		}
		var m dnp3.Message
		if dnp3.ParseMessage(b, true, response, &m) != nil {
			return
		}
		if use(&m) > dnp3.MaxMessage*8 {
			t.Error("more objects than bits")
		}
		var frame dnp3.Frame
		_ = frame.Fields(&m)
		size := 0
		for headers := m.Headers(); headers.Next(); {
			if !headers.Whole() {
				t.Fatalf("a header of a lawful message is not whole: %+v", headers.Header)
			}
			size += len(headers.Data)
		}
		if size > len(m.Objects) || len(m.Inner()) > len(m.Objects) {
			t.Errorf("%d bytes of objects in %d", size, len(m.Objects))
		}
	})
}
