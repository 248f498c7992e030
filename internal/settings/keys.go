package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place is where a key stands in the file, from 1.
type place struct{ line, column int }

func (p place) String() string { return fmt.Sprintf("%d:%d", p.line, p.column) }

// locate returns where each key stands, and as mistakes, each beginning with its place, the
// keys that do not exist. Viper alone would take them silently, fold their case, and read only
// the first document.
func locate(raw []byte) (map[string]place, []error) {
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, []error{errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "line "))}
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, []error{fmt.Errorf("%d:1: there is more than one document: keep one", max(1, second.Line))}
	}
	k := keys{places: map[string]place{}}
	k.walk("", document.Content[0])
	return k.places, k.mistakes
}

// keys walks a file's mappings.
type keys struct {
	places   map[string]place
	mistakes []error
}

func (k *keys) errorf(n *yaml.Node, format string, args ...any) {
	k.mistakes = append(k.mistakes, fmt.Errorf("%d:%d: %s", n.Line, n.Column, fmt.Sprintf(format, args...)))
}

func (k *keys) walk(prefix string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		if prefix == "" && n.Tag != "!!null" {
			k.errorf(n, "this is no settings file: write key: value, one a line")
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k.entry(prefix, n.Content[i], n.Content[i+1])
	}
}

func (k *keys) entry(prefix string, name, value *yaml.Node) {
	key := prefix + name.Value
	_, twice := k.places[key]
	switch {
	case twice:
		k.errorf(name, "%s: is given twice: keep one", key)
	case isGroup(key):
		if value.Kind != yaml.MappingNode {
			k.errorf(value, "%s: holds further keys: write them below it, indented", key)
			return
		}
		k.places[key] = place{name.Line, name.Column}
		k.walk(key+".", value)
	case !isKey(key):
		k.errorf(name, "%s: there is no such key%s", key, didYouMean(key, keyNames()))
	case value.Kind != yaml.ScalarNode:
		k.errorf(value, "%s: takes one value", key)
	case value.Tag == "!!null":
		k.errorf(name, "%s: has no value: give one, write \"\" for none, or leave the line out", key)
	default:
		k.places[key] = place{value.Line, value.Column}
	}
}

func keyNames() []string {
	var names []string
	for _, o := range options() {
		names = append(names, o.key)
	}
	return names
}

func isKey(key string) bool { return slices.Contains(keyNames(), key) }

func isGroup(key string) bool {
	return slices.ContainsFunc(keyNames(), func(name string) bool { return strings.HasPrefix(name, key+".") })
}

// unknownVariables returns a warning for each PENSTOCK_* variable that is no key. It is not an
// error, because an environment is shared with other programs.
func unknownVariables(environ []string) []string {
	known := []string{EnvPrefix + "REQUIRE_NET"} // read by the tests
	for _, o := range options() {
		known = append(known, o.variable())
	}
	var warnings []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, EnvPrefix) && !slices.Contains(known, name) {
			warnings = append(warnings, fmt.Sprintf("%s is set, but it is no setting%s", name, didYouMean(name, known)))
		}
	}
	return warnings
}

// didYouMean returns `: did you mean "x"?` with the nearest of the names, or nothing where none
// is near. The same key in another group is near, too.
func didYouMean(wrong string, names []string) string {
	const longest = 64 // no key is anywhere near, and the search is quadratic
	if len(wrong) > longest {
		return ""
	}
	best, at := "", max(1, len(wrong)/3)+1
	for _, name := range names {
		d := distance(strings.ToLower(wrong), strings.ToLower(name))
		if strings.HasSuffix(name, "."+wrong) {
			d = 0
		}
		if d < at {
			best, at = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// distance returns how many characters have to be inserted, removed or replaced to turn a
// into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
