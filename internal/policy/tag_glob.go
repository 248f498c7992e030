package policy

import (
	"fmt"
	"strings"

	"github.com/penstock-ot/penstock/dissectors/cip"
	"go.yaml.in/yaml/v3"
)

// maxTag is the longest glob in bytes.
const maxTag = 256

func (d *decoder) tags(n *yaml.Node, what string) []string {
	var out []string
	d.list(n, what, maxList, func(element *yaml.Node) {
		text, ok := d.text(element, "an element of "+what)
		if !ok {
			return
		}
		if err := checkTag(text); err != nil {
			d.errorAt(element, "%s cannot hold %q: %v", what, text, err)
			return
		}
		out = append(out, text)
	})
	return out
}

// checkTag refuses a glob that no tag can match, and one whose brackets are not a list of element
// numbers: 3, 0-9, ? for a digit, or * for any.
func checkTag(glob string) error {
	if len(glob) == 0 || len(glob) > maxTag {
		return fmt.Errorf("a tag has 1 to %d characters", maxTag)
	}
	for at := 0; at < len(glob); at++ {
		c := glob[at]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
		switch {
		case c == '[':
			end := strings.IndexByte(glob[at:], ']')
			if end < 0 {
				return errBrackets
			}
			for _, part := range strings.Split(glob[at+1:at+end], ",") {
				if !isElement(part) {
					return errBrackets
				}
			}
			at += end
		case !alphanumeric && strings.IndexByte("_.:*?", c) < 0:
			return fmt.Errorf("a tag is made of letters, digits and _.:[], with * and ? for what may vary")
		}
	}
	return nil
}

var errBrackets = fmt.Errorf("in brackets write elements such as [3], [0-9], [1,0-4] or [*]")

// isElement tells whether the text is an element of an array, a range of them, or what may vary.
func isElement(part string) bool {
	if part == "*" || len(part) > 0 && strings.Trim(part, "?") == "" {
		return true
	}
	_, err := parseSpan(part, 0, 1<<32-1)
	return err == nil && !strings.ContainsAny(part, "xX ")
}

// matchTag tells whether a tag in its one form (see cip.Path) matches the glob, without regard to upper and
// lower case. Where nothing goes on, the last star takes one character more; in brackets a star is one
// number, so that no earlier star has to be asked again.
func matchTag(glob string, tag []byte) bool {
	star, mark := -1, 0
	g, t, inside := 0, 0, false // inside brackets of the glob
	for t < len(tag) || g < len(glob) {
		if g < len(glob) && glob[g] == '*' && !inside {
			star, mark = g, t
			g++
			continue
		}
		if gn, tn, ok := matchOne(glob[g:], tag[t:], inside); ok {
			inside = glob[g] == '[' || inside && glob[g] != ']'
			g, t = g+gn, t+tn
			continue
		}
		if star < 0 || mark >= len(tag) {
			return false
		}
		mark++
		g, t, inside = star+1, mark, false
	}
	return true
}

// matchOne matches what is next in the glob: a character, or in brackets a range of numbers.
func matchOne(glob string, tag []byte, inside bool) (g, t int, ok bool) {
	switch {
	case len(glob) == 0 || len(tag) == 0:
		return 0, 0, false
	case inside && glob[0] == '*':
		for t < len(tag) && isOne(tag[t], true) {
			t++
		}
		return 1, t, t > 0
	case inside && isRange(glob):
		return matchRange(glob, tag)
	}
	return 1, 1, glob[0] == '?' && isOne(tag[0], inside) || cip.Lower(glob[0]) == cip.Lower(tag[0])
}

// isOne tells whether a character may stand for a question mark: in brackets, a digit.
func isOne(c byte, inside bool) bool { return !inside || c >= '0' && c <= '9' }

// isRange tells whether a range of numbers is next in the glob.
func isRange(glob string) bool {
	i := 0
	for i < len(glob) && glob[i] >= '0' && glob[i] <= '9' {
		i++
	}
	return i > 0 && i < len(glob) && glob[i] == '-'
}

// matchRange matches the number at the front of the tag with the range at the front of the glob.
func matchRange(glob string, tag []byte) (g, t int, ok bool) {
	number := func(at int, digit func(int) (byte, bool)) (uint64, int) {
		v := uint64(0)
		for {
			c, ok := digit(at)
			if !ok || c < '0' || c > '9' {
				return v, at
			}
			v = 10*v + uint64(c-'0')
			at++
		}
	}
	inGlob := func(i int) (byte, bool) {
		if i < len(glob) {
			return glob[i], true
		}
		return 0, false
	}
	low, at := number(0, inGlob)
	high, end := number(at+1, inGlob)
	v, n := number(0, func(i int) (byte, bool) {
		if i < len(tag) {
			return tag[i], true
		}
		return 0, false
	})
	return end, n, n > 0 && low <= v && v <= high
}

// permitsTag tells whether one of the globs permits count elements of a tag, from the one that it names. A
// tag is permitted with all its elements by a glob without brackets at its end; an element, by a glob with
// a range that it lies in. A tag without an element begins with element 0.
func permitsTag(globs []string, tag []byte, count uint16) bool {
	base, dimensions, first := cip.SplitElement(tag)
	var buffer [2][cip.MaxTag + 16]byte
	var from, to []byte
	last := uint64(first) + uint64(max(count, 1)) - 1
	inside := dimensions <= 1 && last <= 1<<32-1 // beyond it elements have no numbers, or those of others
	if inside {
		from = appendElement(buffer[0][:0], base, first)
		to = appendElement(buffer[1][:0], base, uint32(last))
	}
	for _, glob := range globs {
		switch {
		case matchTag(glob, base):
			return true
		case dimensions > 1 && count <= 1 && matchTag(glob, tag):
			return true
		case count > 1 && strings.IndexByte(glob, '?') >= 0:
			// The elements between the first and the last may not be of as many digits.
		case inside && matchTag(glob, from) && matchTag(glob, to):
			return true
		}
	}
	return false
}

// permitsWhole tells whether one of the globs permits a tag with all its elements.
func permitsWhole(globs []string, tag []byte) bool {
	base, _, _ := cip.SplitElement(tag)
	for _, glob := range globs {
		if matchTag(glob, base) {
			return true
		}
	}
	return false
}

func appendElement(b, base []byte, element uint32) []byte {
	b = append(append(b, base...), '[')
	var digits [10]byte
	at := len(digits)
	for {
		at--
		digits[at] = byte('0' + element%10)
		if element /= 10; element == 0 {
			break
		}
	}
	return append(append(b, digits[at:]...), ']')
}
