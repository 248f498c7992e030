package policy

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// readDocument reads the one YAML document in src. It returns nil after an error and for a file
// that holds nothing.
//
// The library never expands an alias in a tree of nodes, and the decoder refuses each one it
// meets, so a bomb of aliases costs no more than its own text. The library itself bounds nesting.
func readDocument(src []byte, r *report) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(src))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) || err == nil && len(document.Content) == 0 {
		r.errorf(pos{1, 1}, "the file is empty: a policy begins with api_version: %s", apiVersion)
		return nil
	}
	if err == nil {
		err = decoder.Decode(&second)
		if errors.Is(err, io.EOF) {
			return document.Content[0]
		}
	}
	if err == nil {
		r.errorf(position(&second), "a second document begins here: a file holds one policy, remove the %q", "---")
		return nil
	}
	r.syntaxError(src, err)
	return nil
}

// What the library says in cases that can be placed better.
var (
	unknownAlias = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
	unclosed     = regexp.MustCompile(`^yaml: line (\d+): found unexpected end of stream`)
)

func (r *report) syntaxError(src []byte, err error) {
	read := consumed(src)
	if m := unknownAlias.FindStringSubmatch(err.Error()); m != nil {
		if i := bytes.LastIndex(read, []byte("*"+m[1])); i >= 0 {
			r.errorf(placeOf(src, i), "aliases are not used in a policy: write out what *%s stands for", m[1])
			return
		}
	}
	at := lineStart(src, len(read)-1)
	if m := unclosed.FindStringSubmatch(err.Error()); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil { // where the quotation mark opens
			at = lineStart(src, offsetOfLine(src, line))
		}
	}
	r.errorf(at, "not YAML: %s", linePrefix.ReplaceAllString(err.Error(), ""))
}

// linePrefix is what the library puts before a message. Its line is that of the collection in which
// the error lies, which may be the top of the file; see consumed for a better one.
var linePrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

// consumed returns the bytes that the library took before it gave up, which it does not say: it is
// fed byte by byte. It looks at most a few bytes ahead, so the line of the last byte is the one.
func consumed(src []byte) []byte {
	source := &countingReader{src: src}
	decoder := yaml.NewDecoder(source)
	for {
		var n yaml.Node
		if decoder.Decode(&n) != nil {
			return src[:source.next]
		}
	}
}

// lineStart returns the place of the first character of the line that holds the offset.
func lineStart(src []byte, offset int) pos {
	begin := bytes.LastIndexByte(src[:max(0, offset)], '\n') + 1
	indent := len(src[begin:]) - len(bytes.TrimLeft(src[begin:], " "))
	return placeOf(src, begin+indent)
}

// placeOf counts lines and characters up to an offset.
func placeOf(src []byte, offset int) pos {
	begin := bytes.LastIndexByte(src[:offset], '\n') + 1
	return pos{bytes.Count(src[:offset], []byte("\n")) + 1, utf8.RuneCount(src[begin:offset]) + 1}
}

// offsetOfLine returns where a line begins, the first being 1.
func offsetOfLine(src []byte, line int) int {
	offset := 0
	for ; line > 1; line-- {
		next := bytes.IndexByte(src[offset:], '\n')
		if next < 0 {
			break
		}
		offset += next + 1
	}
	return offset
}

// countingReader hands out one byte at a time.
type countingReader struct {
	src  []byte
	next int
}

func (c *countingReader) Read(p []byte) (int, error) {
	if c.next >= len(c.src) {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	p[0] = c.src[c.next]
	c.next++
	return 1, nil
}

func position(n *yaml.Node) pos { return pos{max(n.Line, 1), max(n.Column, 1)} }
