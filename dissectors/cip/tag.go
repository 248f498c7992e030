package cip

import "strconv"

// symbol appends the text of a symbol segment to the tag, in its one form: names joined by dots, indices
// in brackets without leading zeros, several of them joined by commas. So Line.Speed in one segment is
// the same as Line and Speed in two, and A[3] the same as A with a member segment.
func (p *Path) symbol(s []byte) *MalformedError {
	switch {
	case p.HasAttribute || p.pointCount > 0:
		return errOrder
	case p.HasClass && standsAlone(p.Class) && !p.connection:
		return errNested
	}
	if len(s) == 0 {
		return errSymbol
	}
	for first := true; len(s) > 0; first = false {
		var bad *MalformedError
		switch {
		case s[0] == '[' && !first:
			s, bad = p.brackets(s[1:])
		case first:
			s, bad = p.name(s)
		case s[0] == '.':
			s, bad = p.name(s[1:])
		default:
			return errSymbol
		}
		if bad != nil {
			return bad
		}
	}
	return nil
}

// name appends the name at the front of s, with a dot before it unless it is the first, and returns what
// follows.
func (p *Path) name(s []byte) (rest []byte, bad *MalformedError) {
	n := 0
	for n < len(s) && isNameByte(s[n]) {
		n++
	}
	if n == 0 {
		return nil, errSymbol
	}
	if p.textLength > 0 || p.HasClass {
		if bad := p.appendText("."); bad != nil {
			return nil, bad
		}
	}
	if p.textLength+n > MaxTag {
		return nil, ErrTag
	}
	p.textLength += copy(p.text[p.textLength:], s[:n])
	p.indexed = false
	p.noteTag()
	return s[n:], nil
}

// isNameByte tells what a name is made of: no control characters, spaces and signs with a meaning. What
// is not ASCII passes, for some vendors' tags are UTF-8.
func isNameByte(c byte) bool {
	switch c {
	case '.', '[', ']', ',', '*', '?', '"', '\'', '\\', '/', 0x7f:
		return false
	}
	return c > ' '
}

// brackets appends the indices behind an opening bracket.
func (p *Path) brackets(s []byte) (rest []byte, bad *MalformedError) {
	for {
		var v uint64
		n := 0
		for ; n < len(s) && '0' <= s[n] && s[n] <= '9'; n++ {
			if v = 10*v + uint64(s[n]-'0'); v > 1<<32-1 {
				return nil, errIndex
			}
		}
		if n == 0 || n == len(s) {
			return nil, errIndex
		}
		if bad := p.index(uint32(v)); bad != nil {
			return nil, bad
		}
		switch s[n] {
		case ',':
			s = s[n+1:]
		case ']':
			return s[n+1:], nil
		default:
			return nil, errIndex
		}
	}
}

// index appends an array index: of the tag, or of what an instance names.
func (p *Path) index(v uint32) *MalformedError {
	if p.HasClass && !p.HasInstance || !p.HasClass && p.textLength == 0 {
		return errMember
	}
	before := "["
	if p.indexed {
		p.textLength-- // the closing bracket
		before = ","
	}
	if bad := p.appendText(before); bad != nil {
		return bad
	}
	var digits [10]byte
	number := strconv.AppendUint(digits[:0], uint64(v), 10)
	if p.textLength+len(number)+1 > MaxTag {
		return ErrTag
	}
	p.textLength += copy(p.text[p.textLength:], number)
	p.text[p.textLength] = ']'
	p.textLength++
	p.indexed = true
	p.noteTag()
	return nil
}

func (p *Path) appendText(s string) *MalformedError {
	if p.textLength+len(s) > MaxTag {
		return ErrTag
	}
	p.textLength += copy(p.text[p.textLength:], s)
	return nil
}

// noteTag counts what was appended to the tag, unless an object has begun.
func (p *Path) noteTag() {
	if !p.HasClass {
		p.tagLength = p.textLength
	}
}

// SplitElement returns a tag without the indices at its end, how many these are, and the last of them.
func SplitElement(tag []byte) (base []byte, dimensions int, last uint32) {
	n := len(tag)
	if n == 0 || tag[n-1] != ']' {
		return tag, 0, 0
	}
	open, digits := n-1, uint32(1)
	for open > 0 && tag[open] != '[' {
		open--
	}
	dimensions = 1
	for i := n - 2; i > open; i-- {
		switch {
		case tag[i] == ',':
			dimensions++
		case dimensions == 1:
			last += digits * uint32(tag[i]-'0')
			digits *= 10
		}
	}
	return tag[:open], dimensions, last
}
