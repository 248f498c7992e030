package datapath

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf/btf"
)

// Maps carry a description of their structures (BTF), by which one build reads what another wrote, an older or a
// newer one: each field by its name, wherever it lies. What has no such field, or one of another size, is
// not read at all.

// field is where a field of a structure lies, in bytes.
type field struct {
	offset, size uint32
	element      uint32 // of an array, else as size
}

// fieldsOf lists the fields of a structure by their names; those of structures within it by the path to
// them, such as halves[1].place.
func fieldsOf(s *btf.Struct) (map[string]field, error) {
	list := map[string]field{}
	if err := listFields(list, s, "", 0); err != nil {
		return nil, fmt.Errorf("struct %s: %w", s.Name, err)
	}
	return list, nil
}

func listFields(list map[string]field, t btf.Type, path string, offset uint32) error {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		for _, m := range t.Members {
			name := strings.TrimPrefix(path+"."+m.Name, ".")
			if m.BitfieldSize != 0 {
				return fmt.Errorf("field %s is of bits", name)
			}
			if err := listFields(list, m.Type, name, offset+m.Offset.Bytes()); err != nil {
				return err
			}
		}
	case *btf.Array:
		element, err := btf.Sizeof(t.Type)
		if err != nil {
			return fmt.Errorf("field %s: %w", path, err)
		}
		if _, plain := btf.UnderlyingType(t.Type).(*btf.Int); plain {
			list[path] = field{offset, uint32(element) * t.Nelems, uint32(element)}
			return nil
		}
		for i := range t.Nelems {
			if err := listFields(list, t.Type, fmt.Sprintf("%s[%d]", path, i), offset+i*uint32(element)); err != nil {
				return err
			}
		}
	case *btf.Int:
		list[path] = field{offset, t.Size, t.Size}
	default:
		return fmt.Errorf("field %s is of a kind that is not read: %v", path, t)
	}
	return nil
}

// translation copies a structure of another build's into ours, field by field.
type translation struct {
	theirs, ours uint32 // sizes
	moves        []move
}

type move struct{ from, to, length uint32 }

// translate finds the fields needed, given by their names or by those of the structures that they are in, in a
// structure of another build's. Reserved ones are needed by nobody.
func translate(theirs, ours *btf.Struct, needed ...string) (translation, error) {
	t := translation{theirs: theirs.Size, ours: ours.Size}
	from, err := fieldsOf(theirs)
	if err != nil {
		return t, err
	}
	to, err := fieldsOf(ours)
	if err != nil {
		return t, err
	}
	for name, at := range to {
		if !isOneOf(name, needed) {
			continue
		}
		was, ok := from[name]
		switch {
		case !ok:
			return t, fmt.Errorf("struct %s has no field %s", theirs.Name, name)
		case was.size != at.size || was.element != at.element:
			return t, fmt.Errorf("struct %s has %d bytes of %d in field %s, and %d of %d are known", theirs.Name, was.size, was.element, name, at.size, at.element)
		case was.offset+was.size > theirs.Size:
			return t, fmt.Errorf("struct %s is shorter than its field %s", theirs.Name, name)
		}
		t.moves = append(t.moves, move{was.offset, at.offset, at.size})
	}
	return t, nil
}

func isOneOf(name string, needed []string) bool {
	if strings.HasSuffix(name, "reserved") {
		return false
	}
	for _, n := range needed {
		if rest, ok := strings.CutPrefix(name, n); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// into writes the fields of theirs to ours, which has to be as long as our structure.
func (t *translation) into(ours, theirs []byte) error {
	if len(theirs) != int(t.theirs) || len(ours) != int(t.ours) {
		return fmt.Errorf("a value has %d bytes and goes into %d, want %d and %d", len(theirs), len(ours), t.theirs, t.ours)
	}
	for _, m := range t.moves {
		copy(ours[m.to:m.to+m.length], theirs[m.from:m.from+m.length])
	}
	return nil
}

// back writes what into has read back to theirs, whose other fields stay as they are.
func (t *translation) back(theirs, ours []byte) error {
	if len(theirs) != int(t.theirs) || len(ours) != int(t.ours) {
		return fmt.Errorf("a value of %d bytes goes back into %d, want %d and %d", len(ours), len(theirs), t.ours, t.theirs)
	}
	for _, m := range t.moves {
		copy(theirs[m.from:m.from+m.length], ours[m.to:m.to+m.length])
	}
	return nil
}

// as is a value of theirs as our structure, in which what was not needed is zero.
func as[T any](t *translation, theirs []byte) (value T, err error) {
	err = t.into(bytesOf(&value), theirs)
	return value, err
}

func bytesOf[T any](value *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(value)), unsafe.Sizeof(*value))
}
