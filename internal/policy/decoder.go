package policy

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxList bounds every list but those of identities, conduits, zones and appliances.
const maxList = 4096

// decoder turns nodes into the model. It never stops at an error: what it cannot read it reports
// and leaves at its zero value, and goes on.
type decoder struct{ report }

func (d *decoder) errorAt(n *yaml.Node, format string, args ...any) {
	d.errorf(position(n), format, args...)
}

// plain refuses what YAML offers beyond plain data: a policy that a person signs should say what
// it says where one reads it.
func (d *decoder) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.errorAt(n, "aliases are not used in a policy: write out what *%s stands for", n.Value)
	case n.Style&yaml.TaggedStyle != 0:
		d.errorAt(n, "tags are not used in a policy: remove %s", n.Tag)
	default:
		return true
	}
	return false
}

// text returns a scalar's text.
func (d *decoder) text(n *yaml.Node, what string) (string, bool) {
	if n == nil || !d.plain(n) {
		return "", false
	}
	if n.Kind != yaml.ScalarNode {
		d.errorAt(n, "%s must be a single value, not a %s", what, kindName(n))
		return "", false
	}
	return n.Value, true
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	return "single value"
}

// list calls each for every element. A list that is there but empty is an error: it would select
// nothing, and leaving the key out says "any".
func (d *decoder) list(n *yaml.Node, what string, most int, each func(*yaml.Node)) {
	if n == nil || !d.plain(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.errorAt(n, "%s must be a list: write [%s]", what, brief(n))
		return
	}
	if len(n.Content) == 0 {
		d.errorAt(n, "%s is empty: list something, or leave the key out", what)
		return
	}
	if len(n.Content) > most {
		d.errorAt(n, "%s has %d elements, and the limit is %d", what, len(n.Content), most)
		return
	}
	for _, element := range n.Content {
		if isNull(element) {
			d.errorAt(element, "an element of %s is empty: remove it, or write its value", what)
			continue
		}
		each(element)
	}
}

func brief(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && len(n.Value) > 0 && len(n.Value) <= 40 {
		return n.Value
	}
	return "…"
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Style&yaml.TaggedStyle == 0
}

// fields is a mapping whose keys have been checked.
type fields struct {
	d      *decoder
	what   string
	node   *yaml.Node
	values []field
}

type field struct {
	key   string
	at    pos // of the key
	value *yaml.Node
}

// mapping checks n's keys against those that exist: unknown and repeated ones and those without a
// value are errors. elsewhere may say more of a key that is unknown here; it may be nil.
func (d *decoder) mapping(n *yaml.Node, what string, keys []string, elsewhere func(key string) string) (*fields, bool) {
	if n == nil || !d.plain(n) {
		return nil, false
	}
	if n.Kind != yaml.MappingNode {
		d.errorAt(n, "%s must be a mapping of keys to values, not a %s", what, kindName(n))
		return nil, false
	}
	f := &fields{d: d, what: what, node: n}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f.add(n.Content[i], n.Content[i+1], keys, elsewhere)
	}
	return f, true
}

func (f *fields) add(key, value *yaml.Node, keys []string, elsewhere func(string) string) {
	name, ok := f.d.text(key, "a key")
	if !ok {
		return
	}
	if !slices.Contains(keys, name) {
		f.d.errorAt(key, "%s has no key %q%s", f.what, name, f.d.unknownKey(name, keys, elsewhere))
		return
	}
	if first := f.find(name); first != nil {
		f.d.errorAt(key, "key %q is given twice, first on line %d: remove one", name, first.at.line)
		return
	}
	if isNull(value) {
		f.d.errorAt(key, "key %q has no value: write one, or remove the key", name)
		value = nil
	}
	f.values = append(f.values, field{name, position(key), value})
}

func (d *decoder) unknownKey(name string, keys []string, elsewhere func(string) string) string {
	if elsewhere != nil {
		if more := elsewhere(name); more != "" {
			return ": " + more
		}
	}
	return d.suggest(name, keys, "its keys are "+strings.Join(keys, ", "))
}

func (f *fields) find(key string) *field {
	for i := range f.values {
		if f.values[i].key == key {
			return &f.values[i]
		}
	}
	return nil
}

// has tells whether the key is there, even without a value.
func (f *fields) has(key string) bool { return f.find(key) != nil }

// get returns the key's value, or nil.
func (f *fields) get(key string) *yaml.Node {
	if found := f.find(key); found != nil {
		return found.value
	}
	return nil
}

// at returns where the key stands, or where the mapping begins.
func (f *fields) at(key string) pos {
	if found := f.find(key); found != nil {
		return found.at
	}
	return position(f.node)
}

// require reports the keys that are missing.
func (f *fields) require(keys ...string) {
	for _, key := range keys {
		if !f.has(key) {
			f.d.errorf(position(f.node), "%s has no %q: add it", f.what, key)
		}
	}
}

// choice returns which of the words the key's value is, or otherwise.
func choice[T any](f *fields, key string, words []word[T], otherwise T) T {
	n := f.get(key)
	text, ok := f.d.text(n, key)
	if !ok {
		return otherwise
	}
	for _, w := range words {
		if w.name == text {
			return w.value
		}
	}
	names := wordNames(words)
	f.d.errorAt(n, "%s cannot be %q%s", key, text, f.d.suggest(text, names, "it is "+orList(names)))
	return otherwise
}

// word is a name and what it means.
type word[T any] struct {
	name  string
	value T
}

func wordNames[T any](words []word[T]) []string {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = w.name
	}
	return names
}

func orList(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// number returns the key's value as a whole number within low..high.
func (f *fields) number(key string, low, high uint32) (uint32, bool) {
	n := f.get(key)
	text, ok := f.d.text(n, key)
	if !ok {
		return 0, false
	}
	v, err := parseNumber(text)
	if err != nil || v < low || v > high {
		f.d.errorAt(n, "%s cannot be %q: write a whole number from %d to %d", key, text, low, high)
		return 0, false
	}
	return v, true
}

func (f *fields) flag(key string) bool {
	return choice(f, key, []word[bool]{{"true", true}, {"false", false}}, false)
}

// name returns the key's value as a name that others may refer to.
func (f *fields) name(key string) string {
	n := f.get(key)
	text, ok := f.d.text(n, key)
	if !ok {
		return ""
	}
	if err := checkName(text); err != nil {
		f.d.errorAt(n, "%s cannot be %q: %v", key, text, err)
	}
	return text // wrong or not: what refers to it need not be reported too
}

// maxName is the longest name in bytes.
const maxName = 64

func checkName(name string) error {
	if len(name) == 0 || len(name) > maxName {
		return fmt.Errorf("a name has 1 to %d characters", maxName)
	}
	for _, c := range []byte(name) {
		if !isNameByte(c) {
			return fmt.Errorf("a name is made of letters, digits, '-', '_' and '.'")
		}
	}
	if name == "broadcast" || name == "unknown" {
		return fmt.Errorf("the word has a meaning of its own, use another name")
	}
	return nil
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.", c) >= 0
}

// reference returns the key's value as the name of something elsewhere in the file.
func (f *fields) reference(key string) Reference {
	n := f.get(key)
	text, ok := f.d.text(n, key)
	if !ok {
		return Reference{}
	}
	return Reference{Name: text, at: position(n)}
}
