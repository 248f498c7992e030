package frame

import "testing"

func TestSourceRouted(t *testing.T) {
	v4 := func(options ...byte) *Frame {
		return &Frame{IPVersion: 4, IPHeader: append(make([]byte, 20), options...)}
	}
	v6 := func(first byte, chain ...byte) *Frame {
		h := make([]byte, 40, 40+len(chain))
		h[6] = first
		return &Frame{IPVersion: 6, IPHeader: append(h, chain...)}
	}
	for _, r := range []struct {
		name string
		f    *Frame
		want bool
	}{
		{"no options", v4(), false},
		{"router alert", v4(148, 4, 0, 0), false},
		{"loose source route", v4(131, 7, 4, 198, 18, 0, 1, 0), true},
		{"strict source route behind NOPs", v4(1, 1, 137, 7, 4, 198, 18, 0, 1, 0), true},
		{"source route behind the end of options", v4(0, 131, 7, 4, 198, 18, 0, 1), false},
		{"source route behind another option", v4(148, 4, 0, 0, 131, 7, 4, 198, 18, 0, 1, 0), true},
		{"option longer than the header", v4(148, 40, 131, 7), false},
		{"IPv6 without extension headers", v6(6), false},
		{"routing with segments left", v6(43, 6, 0, 0, 1, 0, 0, 0, 0), true},
		{"routing that has arrived", v6(43, 6, 0, 0, 0, 0, 0, 0, 0), false},
		{"routing behind hop-by-hop", v6(0, 43, 0, 0, 0, 0, 0, 0, 0, 6, 0, 2, 1, 0, 0, 0, 0), true},
		{"chain cut short", v6(0, 43, 9, 0, 0, 0, 0, 0, 0), false},
	} {
		if got := r.f.SourceRouted(); got != r.want {
			t.Errorf("%s: %v, want %v", r.name, got, r.want)
		}
	}
}
