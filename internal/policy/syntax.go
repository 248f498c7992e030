package policy

import (
	"bytes"
	"errors"
	"io"
	"regexp"

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
	r.errorf(syntaxErrorAt(src), "not YAML: %s", syntaxMessage(err))
	return nil
}

// linePrefix is what the library puts before a message. Its line is that of the collection in which
// the error lies, which may be the top of the file, so syntaxErrorAt finds a better one.
var linePrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

func syntaxMessage(err error) string {
	return linePrefix.ReplaceAllString(err.Error(), "")
}

// syntaxErrorAt returns where the library gave up, which it does not say: it is fed byte by byte,
// and the line on which the last byte stood is the one, since the scanner looks at most three
// bytes ahead. The column is that of the line's first character.
func syntaxErrorAt(src []byte) pos {
	source := &countingReader{src: src}
	decoder := yaml.NewDecoder(source)
	for {
		var n yaml.Node
		if decoder.Decode(&n) != nil {
			break
		}
	}
	read := src[:max(0, source.next-1)]
	at := pos{line: bytes.Count(read, []byte("\n")) + 1, column: 1}
	line := src[bytes.LastIndexByte(read, '\n')+1:]
	for at.column <= len(line) && line[at.column-1] == ' ' {
		at.column++
	}
	return at
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
