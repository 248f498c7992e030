package policy

import (
	"fmt"
	"slices"
	"strings"
)

// maxSuggestions bounds the work that wrong names can cause: each is compared with every name
// that exists, and a file may hold thousands of both.
const maxSuggestions = 100

// suggest returns `: did you mean "x"?` with the nearest of the names, or else the alternative.
func (r *report) suggest(wrong string, names []string, otherwise string) string {
	if near := r.nearest(wrong, names); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	if otherwise == "" {
		return ""
	}
	return "; " + otherwise
}

func (r *report) nearest(wrong string, names []string) string {
	if r.suggestions++; r.suggestions > maxSuggestions || len(wrong) > maxName {
		return ""
	}
	wrong = strings.ToLower(wrong)
	best, at := "", max(1, len(wrong)/3)+1
	for _, name := range names {
		if d := distance(wrong, strings.ToLower(name), at-1); d < at {
			best, at = name, d
		}
	}
	return best
}

// distance returns how many characters have to be inserted, removed or replaced, or two
// neighbours swapped, to turn a into b, or limit+1 where it is more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		if slices.Min(row) > limit {
			return limit + 1
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit+1)
}
