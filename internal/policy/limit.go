package policy

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// What a limit may say. A burst is the time whose worth may pass at once; the fast path's clock
// moves in ticks of up to 10 ms, so less would refuse lawful traffic.
const (
	maxFrameRate = 100_000_000
	maxByteRate  = 100_000_000_000
	leastBurst   = 20 * time.Millisecond
	mostBurst    = time.Minute
)

// limit reads a rate limit such as {frames: 500/s, bytes: 2M/s, burst: 100ms}. Bytes are those of
// whole Ethernet frames; k, M and G are powers of 1000. The burst is one second unless given.
func (d *decoder) limit(n *yaml.Node, what string) (l Limit) {
	f, ok := d.mapping(n, what, []string{"frames", "bytes", "burst"}, nil)
	if !ok {
		return l
	}
	if !f.has("frames") && !f.has("bytes") {
		d.errorf(position(f.node), "%s limits nothing: give frames, bytes or both, such as {frames: 500/s}", what)
	}
	l.Frames = f.perSecond("frames", maxFrameRate)
	l.Bytes = f.perSecond("bytes", maxByteRate)
	burst := time.Second
	if f.has("burst") {
		if v := f.duration("burst", mostBurst); v >= leastBurst {
			burst = v
		} else if v > 0 {
			d.errorf(f.at("burst"), "burst cannot be below %s: the clock that it is measured by moves in ticks", leastBurst)
		}
	}
	l.FrameBurst = worth(l.Frames, burst)
	l.ByteBurst = worth(l.Bytes, burst)
	return l
}

// worth is what a rate comes to in a time, and at least one where there is a rate.
func worth(perSecond uint64, t time.Duration) uint64 {
	if perSecond == 0 {
		return 0
	}
	return max(perSecond*uint64(t/time.Millisecond)/1000, 1)
}

// perSecond reads a key such as "500/s" or "2M/s".
func (f *fields) perSecond(key string, most uint64) uint64 {
	n := f.get(key)
	text, ok := f.d.text(n, key)
	if !ok {
		return 0
	}
	v, err := parsePerSecond(text, most)
	if err != nil {
		f.d.errorAt(n, "%s cannot be %q: %v", key, text, err)
	}
	return v
}

func parsePerSecond(text string, most uint64) (uint64, error) {
	wrong := fmt.Errorf("write a number for each second, such as 500/s, 20k/s or 2M/s, up to %d/s", most)
	count, isRate := strings.CutSuffix(text, "/s")
	if !isRate || count == "" {
		return 0, wrong
	}
	scale := uint64(1)
	for _, unit := range []word[uint64]{{"k", 1e3}, {"M", 1e6}, {"G", 1e9}} {
		if rest, ok := strings.CutSuffix(count, unit.name); ok {
			count, scale = rest, unit.value
			break
		}
	}
	n, err := parseNumber(count)
	if err != nil || n == 0 || uint64(n) > most/scale {
		return 0, wrong
	}
	return uint64(n) * scale, nil
}

// storm reads the limits for what floods, and for link-local control traffic.
func (d *decoder) storm(n *yaml.Node, out *Defaults) {
	f, ok := d.mapping(n, "storm", []string{"broadcast", "multicast", "link_local"}, nil)
	if !ok {
		return
	}
	out.Broadcast = d.limit(f.get("broadcast"), "broadcast")
	out.Multicast = d.limit(f.get("multicast"), "multicast")
	out.Control = d.limit(f.get("link_local"), "link_local")
}
