package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Span is an inclusive range of numbers.
type Span struct{ Low, High uint32 }

// Spans is a set of numbers: sorted, apart from each other. Nil in a selector means any.
type Spans []Span

// Contains tells whether v is in the set.
func (s Spans) Contains(v uint32) bool {
	_, ok := s.end(v)
	return ok
}

// end returns the last number of the span that v lies in.
func (s Spans) end(v uint32) (uint32, bool) {
	for i := range s {
		if v <= s[i].High {
			return s[i].High, v >= s[i].Low
		}
	}
	return 0, false
}

// String writes the set as the policy does: "40-49, 60".
func (s Spans) String() string {
	parts := make([]string, len(s))
	for i, span := range s {
		parts[i] = span.String()
	}
	return strings.Join(parts, ", ")
}

// String writes "40-49", or "60" for a single number.
func (s Span) String() string {
	if s.Low == s.High {
		return strconv.FormatUint(uint64(s.Low), 10)
	}
	return fmt.Sprintf("%d-%d", s.Low, s.High)
}

// newSpans sorts and merges.
func newSpans(spans []Span) Spans {
	slices.SortFunc(spans, func(a, b Span) int { return int(int64(a.Low) - int64(b.Low)) })
	out := spans[:0]
	for _, s := range spans {
		if last := len(out) - 1; last >= 0 && uint64(s.Low) <= uint64(out[last].High)+1 {
			out[last].High = max(out[last].High, s.High)
			continue
		}
		out = append(out, s)
	}
	return Spans(out)
}

// Set256 is a set of numbers from 0 to 255.
type Set256 [4]uint64

// Has tells whether v is in the set.
func (s *Set256) Has(v uint8) bool { return s[v>>6]>>(v&63)&1 != 0 }

// Add puts v into the set.
func (s *Set256) Add(v uint8) { s[v>>6] |= 1 << (v & 63) }

// Remove takes v out of the set.
func (s *Set256) Remove(v uint8) { s[v>>6] &^= 1 << (v & 63) }

// Empty tells whether nothing is in the set.
func (s *Set256) Empty() bool { return *s == Set256{} }

// everything holds 0 to 255.
func everything() Set256 { return Set256{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)} }

var errNumber = errors.New("write a whole number, decimal or 0x and hexadecimal")

// parseNumber reads a decimal or 0x number. A leading zero is refused: YAML and C read it as octal,
// people do not.
func parseNumber(text string) (uint32, error) {
	digits, base := text, 10
	if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		digits, base = hex, 16
	} else if len(text) > 1 && text[0] == '0' {
		return 0, errNumber
	}
	if digits == "" || digits[0] == '+' || digits[0] == '-' {
		return 0, errNumber
	}
	v, err := strconv.ParseUint(digits, base, 32)
	if err != nil {
		return 0, errNumber
	}
	return uint32(v), nil
}

// parseSpan reads "60" or "40-49" within low..high.
func parseSpan(text string, low, high uint32) (Span, error) {
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	first, err := parseNumber(strings.TrimSpace(from))
	last, err2 := parseNumber(strings.TrimSpace(to))
	switch {
	case err != nil || err2 != nil:
		return Span{}, fmt.Errorf("write a number or a range such as %d-%d", low, low+9)
	case first > last:
		return Span{}, fmt.Errorf("the range runs backwards: write %d-%d", last, first)
	case first < low || last > high:
		return Span{}, fmt.Errorf("out of range: from %d to %d", low, high)
	}
	return Span{first, last}, nil
}

// spans reads a list of numbers and ranges. Nil means that the key is absent.
func (d *decoder) spans(n *yaml.Node, what string, low, high uint32) Spans {
	var out []Span
	d.list(n, what, maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of "+what)
		if !ok {
			return
		}
		span, err := parseSpan(text, low, high)
		if err != nil {
			d.errorAt(element, "%s cannot be %q: %v", what, text, err)
			return
		}
		out = append(out, span)
	})
	return newSpans(out)
}

// set256 reads a list of numbers and ranges up to 255.
func (d *decoder) set256(n *yaml.Node, what string) Set256 {
	var set Set256
	for _, span := range d.spans(n, what, 0, 255) {
		for v := span.Low; v <= span.High; v++ {
			set.Add(uint8(v))
		}
	}
	return set
}

// Interval is an inclusive range of measured values.
type Interval struct{ Low, High float64 }

// String writes "0-1500", "-5--1", or "2.5" for a single value.
func (i Interval) String() string {
	low := strconv.FormatFloat(i.Low, 'f', -1, 64)
	if i.Low == i.High {
		return low
	}
	return low + "-" + strconv.FormatFloat(i.High, 'f', -1, 64)
}

// contained tells whether v is in one of the intervals; what is no number is in none.
func contained(intervals []Interval, v float64) bool {
	for _, i := range intervals {
		if i.Low <= v && v <= i.High {
			return true
		}
	}
	return false
}

// parseInterval reads "0-1500", "-10-10", "-2.5--1" or "7".
func parseInterval(text string) (Interval, error) {
	wrong := errors.New("write a number or a range such as 0-1500, -10-10 or 2.5-7.5")
	from, to := text, text
	if i := strings.Index(text[min(1, len(text)):], "-"); i >= 0 { // the first character may be a sign
		from, to = text[:i+1], text[i+2:]
	}
	low, err := parseDecimal(from)
	high, err2 := parseDecimal(to)
	switch {
	case err != nil || err2 != nil:
		return Interval{}, wrong
	case low > high:
		return Interval{}, fmt.Errorf("the range runs backwards: write %s", Interval{high, low})
	}
	return Interval{low, high}, nil
}

// parseDecimal reads a plain decimal number: no exponent, no infinity.
func parseDecimal(text string) (float64, error) {
	text = strings.TrimSpace(text)
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || strings.Trim(digits, "0123456789.") != "" {
		return 0, errNumber
	}
	return strconv.ParseFloat(text, 64)
}

// intervals reads a list of numbers and ranges. Nil means that the key is absent.
func (d *decoder) intervals(n *yaml.Node, what string) []Interval {
	var out []Interval
	d.list(n, what, maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of "+what)
		if !ok {
			return
		}
		i, err := parseInterval(text)
		if err != nil {
			d.errorAt(element, "%s cannot be %q: %v", what, text, err)
			return
		}
		out = append(out, i)
	})
	return out
}

// parseMAC reads six bytes, written with colons or hyphens.
func parseMAC(text string) (mac [6]byte, err error) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '-' })
	if len(parts) != 6 || len(text) != 17 {
		return mac, errMAC
	}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(part) != 2 {
			return mac, errMAC
		}
		mac[i] = byte(v)
	}
	return mac, nil
}

var errMAC = errors.New("write six bytes such as 02:00:00:00:00:20")

func formatMAC(mac [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
}

// parsePrefix reads an address or a network. A network's address has no bits behind its length:
// 198.18.64.1/18 may mean the host or the network, so it means nothing.
func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			return netip.Prefix{}, errAddress
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, errAddress
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("it has bits behind its length: write %s for the network, or %s for the one address",
			prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

var errAddress = errors.New("write an address such as 198.18.0.20 or a network such as 198.18.64.0/18")

// Rate is how often a rule may permit: Count in each Per, in a burst of one second's worth, and at
// least one. The zero Rate is no limit.
type Rate struct {
	Count uint32
	Per   time.Duration
}

// Limited tells whether there is a limit.
func (r Rate) Limited() bool { return r.Count > 0 }

// String writes "10/s".
func (r Rate) String() string {
	for _, unit := range rateUnits {
		if unit.value == r.Per {
			return fmt.Sprintf("%d/%s", r.Count, unit.name)
		}
	}
	return "unlimited"
}

var rateUnits = []word[time.Duration]{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}}

const maxRate = 1000000

func parseRate(text string) (Rate, error) {
	count, unit, _ := strings.Cut(text, "/")
	n, err := parseNumber(count)
	for _, u := range rateUnits {
		if err == nil && n > 0 && n <= maxRate && u.name == unit {
			return Rate{n, u.value}, nil
		}
	}
	return Rate{}, fmt.Errorf("write a number from 1 to %d for each second, minute or hour, such as 10/s, 5/m or 1/h", maxRate)
}

// rate reads the key "rate".
func (f *fields) rate() Rate {
	n := f.get("rate")
	text, ok := f.d.text(n, "rate")
	if !ok {
		return Rate{}
	}
	r, err := parseRate(text)
	if err != nil {
		f.d.errorAt(n, "rate cannot be %q: %v", text, err)
	}
	return r
}

// duration reads a key such as "10ms", within 0 and most.
func (f *fields) duration(key string, most time.Duration) time.Duration {
	n := f.get(key)
	text, ok := f.d.text(n, key)
	if !ok {
		return 0
	}
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 || v > most {
		f.d.errorAt(n, "%s cannot be %q: write a duration such as 10ms, up to %s", key, text, most)
		return 0
	}
	return v
}
