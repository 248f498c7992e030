package policy

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"go.yaml.in/yaml/v3"
)

// ValueSpan is an inclusive range of values that a tag may be given, in whole numbers and as real ones.
type ValueSpan struct {
	Low, High         int64
	LowReal, HighReal float64
}

// contains tells whether a whole number lies in the range.
func (s ValueSpan) contains(v int64) bool { return s.Low <= v && v <= s.High }

// containsReal tells whether a real number does. What is not a number does not.
func (s ValueSpan) containsReal(v float64) bool { return s.LowReal <= v && v <= s.HighReal }

// String writes the range as the policy does.
func (s ValueSpan) String() string {
	if s.LowReal == s.HighReal {
		return strconv.FormatFloat(s.LowReal, 'g', -1, 64)
	}
	return strconv.FormatFloat(s.LowReal, 'g', -1, 64) + "-" + strconv.FormatFloat(s.HighReal, 'g', -1, 64)
}

func (d *decoder) valueSpans(n *yaml.Node) []ValueSpan {
	var out []ValueSpan
	d.list(n, "values", maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of values")
		if !ok {
			return
		}
		span, err := parseValueSpan(text)
		if err != nil {
			d.errorAt(element, "values cannot hold %q: %v", text, err)
			return
		}
		out = append(out, span)
	})
	return out
}

// parseValueSpan reads "5", "0-1500", "-10-10" or "0.5-2.5".
func parseValueSpan(text string) (ValueSpan, error) {
	cut := -1
	for i := 1; i < len(text); i++ { // a sign may come first
		if text[i] == '-' && text[i-1] != 'e' && text[i-1] != 'E' {
			cut = i
			break
		}
	}
	low, high := text, text
	if cut > 0 {
		low, high = text[:cut], text[cut+1:]
	}
	from, err := parseValue(low)
	to, err2 := parseValue(high)
	switch {
	case err != nil || err2 != nil:
		return ValueSpan{}, fmt.Errorf("write a number or a range such as 0-1500, -10-10 or 0.5-2.5")
	case from > to:
		return ValueSpan{}, fmt.Errorf("the range runs backwards: write %s-%s", high, low)
	}
	s := ValueSpan{LowReal: from, HighReal: to, Low: whole(math.Ceil(from)), High: whole(math.Floor(to))}
	// Whole numbers beyond 2^53 are exact as whole numbers only.
	if v, err := strconv.ParseInt(low, 10, 64); err == nil {
		s.Low = v
	}
	if v, err := strconv.ParseInt(high, 10, 64); err == nil {
		s.High = v
	}
	return s, nil
}

func parseValue(text string) (float64, error) {
	if v, err := parseNumber(text); err == nil {
		return float64(v), nil
	}
	for _, c := range []byte(text) { // no Inf, NaN, underscores or hexadecimal fractions
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != 'e' && c != 'E' {
			return 0, errNumber
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, errNumber
	}
	return v, nil
}

// whole returns v, or the nearest that 64 bits hold.
func whole(v float64) int64 {
	switch {
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}

// permitsValues tells whether every element of the bytes lies in one of the ranges. Bytes that are not
// whole elements of a type with numbers do not.
func permitsValues(spans []ValueSpan, t cip.DataType, b []byte) bool {
	size := t.Size()
	if size == 0 || len(b)%size != 0 {
		return false
	}
	for ; len(b) > 0; b = b[size:] {
		if !permitsValue(spans, t, b[:size]) {
			return false
		}
	}
	return true
}

func permitsValue(spans []ValueSpan, t cip.DataType, b []byte) bool {
	var raw [8]byte
	copy(raw[:], b)
	v := binary.LittleEndian.Uint64(raw[:])
	if t == cip.REAL || t == cip.LREAL {
		real := math.Float64frombits(v)
		if t == cip.REAL {
			real = float64(math.Float32frombits(uint32(v)))
		}
		for i := range spans {
			if spans[i].containsReal(real) {
				return true
			}
		}
		return false
	}
	number := int64(v)
	switch t {
	case cip.BOOL:
		if v != 0 {
			number = 1
		}
	case cip.SINT:
		number = int64(int8(v))
	case cip.INT:
		number = int64(int16(v))
	case cip.DINT:
		number = int64(int32(v))
	case cip.ULINT, cip.LWORD:
		if v > math.MaxInt64 {
			return false // beyond what a range can say
		}
	}
	for i := range spans {
		if spans[i].contains(number) {
			return true
		}
	}
	return false
}
