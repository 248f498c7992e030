package dnp3

import (
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/frame"
)

// sharedCaptures is where captures of real traffic lie beside a checkout.
const sharedCaptures = "../../../../shared/captures"

// way is one direction of a conversation in a capture.
type way struct{ from, to netip.AddrPort }

// fragmentsOf puts together what the stations of a capture said to each other.
func fragmentsOf(t *testing.T, path string, take func(Fragment)) {
	t.Helper()
	c, err := frame.OpenCapture(path)
	must(t, err)
	defer c.Close()
	scanners, channels := make(map[way]*scanner), make(map[way]*channel)
	next := make(map[way]uint32)
	var d frame.Decoder
	for {
		r, err := c.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		var f frame.Frame
		if d.Record(&r, &f) != nil || f.Fragment {
			continue
		}
		w := way{f.Source(), f.Destination()}
		if w.from.Port() != 20000 && w.to.Port() != 20000 {
			continue
		}
		if f.IsTCP && f.TCP.Flags&frame.FlagSYN != 0 {
			delete(next, w)
		}
		if at, known := next[w]; known && f.IsTCP && f.TCP.Seq != at {
			continue // a retransmission
		}
		next[w] = f.TCP.Seq + f.SegmentLength()
		if scanners[w] == nil {
			scanners[w], channels[w] = &scanner{hunts: true}, newChannel(true, func() {})
		}
		frames, _ := scanners[w].feed(f.Payload)
		for _, l := range frames {
			if whole := channels[w].assemble(l, false); l.userData() && whole != nil {
				if fragment, err := parseFragment(whole); err == nil {
					take(fragment)
				}
			}
		}
	}
}

// TestCapturesOfOtherStationsAreRead holds this package's reading of the standard against what
// third parties' masters and outstations said to each other.
func TestCapturesOfOtherStationsAreRead(t *testing.T) {
	for _, row := range []struct {
		glob  string
		least int // fragments in all of them
	}{
		{"peers/dnp3-*.pcap", 80},
		{"dnp3/*opendnp3*.pcap", 500},
		{"dnp3/*dnp3_file_*.pcap", 20},
	} {
		files, _ := filepath.Glob(filepath.Join(sharedCaptures, row.glob))
		if len(files) == 0 {
			t.Skipf("no captures: %s is absent", sharedCaptures)
		}
		count := 0
		for _, path := range files {
			fragmentsOf(t, path, func(f Fragment) {
				count++
				if strings.HasPrefix(f.Function.String(), "unknown") {
					t.Logf("%s: function %v", filepath.Base(path), f.Function)
					return
				}
				if _, err := ParseHeaders(f.Body, f.Function); err != nil {
					t.Errorf("%s: %v % x: %v", filepath.Base(path), f.Function, f.Body, err)
				}
			})
		}
		if count < row.least {
			t.Errorf("%s: %d fragments, want at least %d", row.glob, count, row.least)
		}
	}
}
