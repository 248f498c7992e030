package modbus_test

import (
	"bytes"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

// A fuzz target holds, for any bytes: refusal as early as possible and for good, what is accepted
// is encoded again to the same bytes, and nothing panics on prefixes. The seeds are the goldens
// and testdata/fuzz.

func FuzzParseRequest(f *testing.F) {
	for _, g := range goldenRequests {
		f.Add(message(f, g.wire))
	}
	for _, row := range badRequests {
		f.Add(message(f, row.wire))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkEarliest(t, parseRequest, b[:min(len(b), modbus.MaxMessage)])
		var r modbus.Request
		n, err := modbus.ParseRequest(b, &r)
		if !malformed(err) {
			useRequest(&r)
		}
		if err != nil {
			return
		}
		if got := encodeRequest(&r); !bytes.Equal(got, b[:n]) {
			t.Errorf("encoded %x, want %x", got, b[:n])
		}
		_ = r.Fields()
	})
}

func FuzzParseResponse(f *testing.F) {
	for _, g := range goldenResponses {
		f.Add(message(f, g.wire))
	}
	for _, row := range badResponses {
		f.Add(message(f, row.wire))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkEarliest(t, parseResponse, b[:min(len(b), modbus.MaxMessage)])
		var r modbus.Response
		n, err := modbus.ParseResponse(b, &r)
		if err != nil {
			return
		}
		if got := encodeResponse(&r); !bytes.Equal(got, b[:n]) {
			t.Errorf("encoded %x, want %x", got, b[:n])
		}
		_ = r.Fields()
		var q modbus.Request
		if _, err := modbus.ParseRequest(b, &q); err == nil {
			_ = r.Answers(&q)
		}
	})
}

// useRequest reads everything that a policy may read of a request, or of a prefix.
func useRequest(r *modbus.Request) (sum uint32) {
	read, _ := r.ReadRange()
	write, _ := r.WriteRange()
	sum = uint32(read.Last()) + uint32(write.Last())
	for i := range r.WrittenCount() {
		least, most := r.Written(i)
		sum += uint32(least) + uint32(most)
	}
	for c := r.Records(); c.Next(); {
		sum += uint32(c.File) + uint32(c.Number) + uint32(len(c.Data))
	}
	var buf [modbus.MaxBody]byte
	clone := r.Clone(&buf)
	return sum + uint32(len(clone.Values))
}
