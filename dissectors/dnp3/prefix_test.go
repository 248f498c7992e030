package dnp3_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

func malformed(err error) bool {
	var m *dnp3.MalformedError
	return errors.As(err, &m)
}

// checkFrame holds the two halves of "as early as the bytes allow" for all prefixes of b: what is
// malformed stays so whatever follows, and what needs more has a next byte that is not malformed.
func checkFrame(t *testing.T, b []byte) {
	t.Helper()
	refused := false
	for n := 0; n <= len(b); n++ {
		var f dnp3.Frame
		size, err := dnp3.ParseFrame(b[:n], &f)
		_ = f.AppendData(nil)
		switch {
		case refused && !malformed(err):
			t.Fatalf("% x: malformed at %d bytes, then %v", b, n-1, err)
		case err == nil:
			if size < 10 || size > n || !f.Complete() {
				t.Fatalf("% x: size %d of %d bytes", b, size, n)
			}
			return
		case malformed(err):
			refused = true
		case !errors.Is(err, dnp3.ErrNeedMore):
			t.Fatal(err)
		case !someNext(b[:n], func(b []byte) error { _, err := dnp3.ParseFrame(b, &f); return err }):
			t.Fatalf("% x needs more, but every next byte is malformed", b[:n])
		}
		if err != nil && size != 0 {
			t.Fatalf("% x: size %d with %v", b[:n], size, err)
		}
	}
}

// someNext holds that some next byte is not malformed.
func someNext(prefix []byte, parse func([]byte) error) bool {
	longer := append(bytes.Clone(prefix), 0)
	for next := range 256 {
		longer[len(prefix)] = byte(next)
		if !malformed(parse(longer)) {
			return true
		}
	}
	return false
}

// checkMessage holds that what is malformed stays so, for all prefixes of a message, and that nothing in a
// prefix is taken for more than it is. How early each mistake is found is in badMessages.
func checkMessage(t *testing.T, b []byte, response bool) {
	t.Helper()
	refused := false
	for n := 0; n <= len(b); n++ {
		var m dnp3.Message
		err := dnp3.ParseMessage(b[:n], false, response, &m)
		switch {
		case refused && !malformed(err):
			t.Fatalf("% x: malformed at %d bytes, then %v", b, n-1, err)
		case malformed(err):
			refused = true
			continue
		case !errors.Is(err, dnp3.ErrNeedMore):
			t.Fatalf("% x: %v of what is not complete", b[:n], err)
		}
		use(&m)
		whole := dnp3.ParseMessage(b[:n], true, response, &m) == nil
		if whole {
			use(&m)
			_ = m.Inner()
		}
	}
}

// use walks through everything that a message holds.
func use(m *dnp3.Message) (objects int) {
	for headers := m.Headers(); headers.Next(); {
		h := &headers.Header
		for list := h.Objects(); list.Next(); objects++ {
			h.Control(list.Data)
			h.Analog(list.Data)
			h.File(list.Data)
		}
	}
	return objects
}

func TestEveryPrefix(t *testing.T) {
	for _, set := range []struct {
		response bool
		golden   []golden
	}{{false, goldenRequests}, {true, goldenResponses}} {
		for _, g := range set.golden {
			b := message(t, g.wire)
			var m dnp3.Message
			for n := range b {
				if err := dnp3.ParseMessage(b[:n], false, set.response, &m); err != dnp3.ErrNeedMore {
					t.Errorf("%s: first %d bytes: %v", g.name, n, err)
				}
			}
			checkMessage(t, b, set.response)
			f := dnp3.AppendFrame(nil, 0xc4, 10, 1, append([]byte{0xc0}, b...))
			for n := range f {
				var got dnp3.Frame
				if size, err := dnp3.ParseFrame(f[:n], &got); err != dnp3.ErrNeedMore || size != 0 {
					t.Errorf("%s: first %d bytes of its frame: %d, %v", g.name, n, size, err)
				}
			}
			checkFrame(t, f)
		}
	}
	for _, row := range badMessages {
		checkMessage(t, message(t, row.wire), row.response)
	}
}

// TestRefusedAtTheFirstByteThatCan changes one byte of each golden after the other.
func TestRefusedAtTheFirstByteThatCan(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, set := range []struct {
		response bool
		golden   []golden
	}{{false, goldenRequests}, {true, goldenResponses}} {
		for _, g := range set.golden {
			b := message(t, g.wire)
			for i := range min(len(b), 40) {
				for _, v := range []byte{0, 1, b[i] + 1, b[i] - 1, 0xff, byte(random.Uint32())} {
					changed := bytes.Clone(b)
					changed[i] = v
					checkMessage(t, changed, set.response)
				}
			}
			f := dnp3.AppendFrame(nil, 0xc4, 10, 1, append([]byte{0xc0}, b...))
			for i := range f {
				changed := bytes.Clone(f)
				changed[i] ^= 1 << (random.Uint32() % 8)
				checkFrame(t, changed)
			}
		}
	}
}

// TestEverySplit gives two frames in two pieces, split everywhere: the same messages come out.
func TestEverySplit(t *testing.T) {
	for i, g := range goldenRequests {
		first := dnp3.AppendFrame(nil, 0xc4, 10, 1, append([]byte{0xc0}, message(t, g.wire)...))
		second := dnp3.AppendFrame(nil, 0xc4, 10, 1, append([]byte{0xc1}, message(t, goldenRequests[(i+1)%len(goldenRequests)].wire)...))
		all := append(bytes.Clone(first), second...)
		for split := range all {
			if got := sizes(all[:split], all[split:]); len(got) != 2 || got[0] != len(first) || got[1] != len(second) {
				t.Errorf("%s split at %d: sizes %v, want %d and %d", g.name, split, got, len(first), len(second))
			}
		}
	}
}

// sizes parses pieces as a stream and returns the sizes of the frames found.
func sizes(pieces ...[]byte) []int {
	var list []int
	var pending []byte
	for _, piece := range pieces {
		pending = append(pending, piece...)
		for {
			var f dnp3.Frame
			n, err := dnp3.ParseFrame(pending, &f)
			if err != nil {
				break
			}
			list, pending = append(list, n), pending[n:]
		}
	}
	return list
}

// A cut through a block's data shows the bytes before it, and none of a CRC.
func TestDataOfPrefixes(t *testing.T) {
	data := make([]byte, 40)
	for i := range data {
		data[i] = byte(i + 1)
	}
	b := dnp3.AppendFrame(nil, 0xc4, 10, 1, data)
	want := 0
	for n := 10; n <= len(b); n++ {
		var f dnp3.Frame
		_, _ = dnp3.ParseFrame(b[:n], &f)
		if at := (n - 10) % 18; at >= 1 && at <= 16 && n <= 10+36+8 {
			want++
		}
		if got := f.AppendData(nil); !bytes.Equal(got, data[:want]) {
			t.Fatalf("%d bytes: % x, want % x", n, got, data[:want])
		}
	}
}
