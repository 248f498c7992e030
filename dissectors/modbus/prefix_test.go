package modbus_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/modbus"
)

// parser is ParseRequest or ParseResponse without what it reads.
type parser func(b []byte) (int, error)

func parseRequest(b []byte) (int, error) {
	var r modbus.Request
	return modbus.ParseRequest(b, &r)
}

func parseResponse(b []byte) (int, error) {
	var r modbus.Response
	return modbus.ParseResponse(b, &r)
}

func malformed(err error) bool {
	var m *modbus.MalformedError
	return errors.As(err, &m)
}

// checkEarliest holds the two halves of "as early as the bytes allow" for all prefixes of b: what
// is malformed stays so whatever follows, and what needs more has a next byte that is not
// malformed, so that by induction a lawful message follows.
func checkEarliest(t *testing.T, parse parser, b []byte) {
	t.Helper()
	refused := false
	for n := 0; n <= len(b); n++ {
		size, err := parse(b[:n])
		switch {
		case refused && !malformed(err):
			t.Fatalf("%x: malformed at %d bytes, then %v", b, n-1, err)
		case err == nil:
			if size < 1 || size > n {
				t.Fatalf("%x: size %d of %d bytes", b, size, n)
			}
			if whole, _ := parse(b); whole != size {
				t.Fatalf("%x: size %d, but %d with more bytes", b, size, whole)
			}
			return
		case malformed(err):
			refused = true
		case err == modbus.ErrNeedMore:
			checkLive(t, parse, b[:n])
		default:
			t.Fatalf("%x: %v", b, err)
		}
		if err != nil && size != 0 {
			t.Fatalf("%x: size %d with error %v", b, size, err)
		}
	}
}

// checkLive holds that some next byte is not malformed.
func checkLive(t *testing.T, parse parser, prefix []byte) {
	t.Helper()
	longer := append(bytes.Clone(prefix), 0)
	for next := range 256 {
		longer[len(prefix)] = byte(next)
		if _, err := parse(longer); !malformed(err) {
			return
		}
	}
	t.Fatalf("%x needs more, but every next byte is malformed", prefix)
}

func TestEveryPrefixNeedsMore(t *testing.T) {
	for name, set := range map[string]struct {
		parse  parser
		golden []golden
	}{"requests": {parseRequest, goldenRequests}, "responses": {parseResponse, goldenResponses}} {
		for _, g := range set.golden {
			b := message(t, g.wire)
			for n := range b {
				if size, err := set.parse(b[:n]); err != modbus.ErrNeedMore || size != 0 {
					t.Errorf("%s, %s: first %d bytes: %d, %v; want 0, ErrNeedMore", name, g.name, n, size, err)
				}
			}
			checkEarliest(t, set.parse, b)
		}
	}
}

// TestRefusedAtTheFirstByteThatCan changes one byte of each golden after the other.
func TestRefusedAtTheFirstByteThatCan(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, set := range []struct {
		parse  parser
		golden []golden
	}{{parseRequest, goldenRequests}, {parseResponse, goldenResponses}} {
		for _, g := range set.golden {
			b := message(t, g.wire)
			for i := range min(len(b), 40) {
				for _, v := range []byte{0, 1, b[i] + 1, b[i] - 1, 0xff, byte(random.Uint32())} {
					changed := bytes.Clone(b)
					changed[i] = v
					checkEarliest(t, set.parse, changed)
				}
			}
		}
	}
}

// TestEverySplit gives two messages in two pieces, split everywhere: the same messages come out.
func TestEverySplit(t *testing.T) {
	for _, set := range []struct {
		parse  parser
		golden []golden
	}{{parseRequest, goldenRequests}, {parseResponse, goldenResponses}} {
		for i, g := range set.golden {
			first := message(t, g.wire)
			second := message(t, set.golden[(i+1)%len(set.golden)].wire)
			all := append(bytes.Clone(first), second...)
			for split := range all {
				if got := sizes(set.parse, all[:split], all[split:]); len(got) != 2 || got[0] != len(first) || got[1] != len(second) {
					t.Errorf("%s split at %d: sizes %v, want %d and %d", g.name, split, got, len(first), len(second))
				}
			}
		}
	}
}

// sizes parses pieces as a stream and returns the sizes of the messages found.
func sizes(parse parser, pieces ...[]byte) []int {
	var list []int
	var pending []byte
	for _, piece := range pieces {
		pending = append(pending, piece...)
		for {
			n, err := parse(pending)
			if err != nil {
				break
			}
			list, pending = append(list, n), pending[n:]
		}
	}
	return list
}

// TestPrefixTellsWhatIsKnown holds what a policy may judge before a message is whole.
func TestPrefixTellsWhatIsKnown(t *testing.T) {
	b := message(t, "0010 0000 000b 01 10 0064 0002 04 000a0102")
	for _, row := range []struct {
		name     string
		seen     int
		function modbus.FunctionCode
		known    bool
		want     modbus.Range
		values   int
	}{
		{"header without function", 7, 0, false, modbus.Range{}, 0},
		{"function", 8, modbus.WriteMultipleRegisters, false, modbus.Range{}, 0},
		{"half an address", 9, modbus.WriteMultipleRegisters, false, modbus.Range{}, 0},
		{"address", 10, modbus.WriteMultipleRegisters, true, modbus.Range{Address: 100, Quantity: 1}, 0},
		{"quantity", 12, modbus.WriteMultipleRegisters, true, modbus.Range{Address: 100, Quantity: 2}, 0},
		{"half a value", 14, modbus.WriteMultipleRegisters, true, modbus.Range{Address: 100, Quantity: 2}, 0},
		{"one value", 15, modbus.WriteMultipleRegisters, true, modbus.Range{Address: 100, Quantity: 2}, 1},
		{"one value and a half", 16, modbus.WriteMultipleRegisters, true, modbus.Range{Address: 100, Quantity: 2}, 1},
		{"all", 17, modbus.WriteMultipleRegisters, true, modbus.Range{Address: 100, Quantity: 2}, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			var r modbus.Request
			_, err := modbus.ParseRequest(b[:row.seen], &r)
			if (err == nil) != (row.seen == len(b)) || r.Complete() != (err == nil) {
				t.Fatalf("err = %v, Complete = %v", err, r.Complete())
			}
			if r.Seen != row.seen || r.Function != row.function || r.Unit != 1 {
				t.Errorf("Seen %d, Function %s, Unit %d", r.Seen, r.Function, r.Unit)
			}
			got, known := r.WriteRange()
			if known != row.known || known && got != row.want {
				t.Errorf("WriteRange = %v, %v; want %v, %v", got, known, row.want, row.known)
			}
			if r.WrittenCount() != row.values {
				t.Errorf("WrittenCount = %d, want %d", r.WrittenCount(), row.values)
			}
		})
	}
}
