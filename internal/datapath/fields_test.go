package datapath

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

var (
	byteType  = &btf.Int{Name: "unsigned char", Size: 1}
	shortType = &btf.Int{Name: "unsigned short", Size: 2}
	wordType  = &btf.Typedef{Name: "__u32", Type: &btf.Int{Name: "unsigned int", Size: 4}}
)

func member(name string, t btf.Type, offset uint32) btf.Member {
	return btf.Member{Name: name, Type: t, Offset: btf.Bits(8 * offset)}
}

func arrayOf(n uint32, t btf.Type) *btf.Array { return &btf.Array{Index: wordType, Type: t, Nelems: n} }

// half is what lies in the structures below, as one build has it.
func half() *btf.Struct {
	return &btf.Struct{Name: "half", Size: 8, Members: []btf.Member{
		member("place", wordType, 0), member("size", shortType, 4), member("reserved", arrayOf(2, byteType), 6),
	}}
}

func whole(inner *btf.Struct) *btf.Struct {
	return &btf.Struct{Name: "whole", Size: 6 + 2 + 2*inner.Size, Members: []btf.Member{
		member("mac", arrayOf(6, byteType), 0), member("halves", arrayOf(2, inner), 8),
	}}
}

// TestTranslateFindsFieldsByName: wherever a field lies, in a structure within one or in an array of them, its
// value comes over, and nothing else does.
func TestTranslateFindsFieldsByName(t *testing.T) {
	moved := &btf.Struct{Name: "half", Size: 12, Members: []btf.Member{
		member("extra", wordType, 0), member("size", shortType, 4), member("place", wordType, 8),
	}}
	theirs := &btf.Struct{Name: "whole", Size: 32, Members: []btf.Member{
		member("halves", arrayOf(2, moved), 0), member("mac", arrayOf(6, byteType), 24),
	}}
	translation, err := translate(theirs, whole(half()), "mac", "halves")
	if err != nil {
		t.Fatal(err)
	}
	from := []byte{
		9, 9, 9, 9, 0x11, 0x12, 9, 9, 0x13, 0x14, 0x15, 0x16,
		9, 9, 9, 9, 0x21, 0x22, 9, 9, 0x23, 0x24, 0x25, 0x26,
		1, 2, 3, 4, 5, 6, 9, 9,
	}
	want := []byte{1, 2, 3, 4, 5, 6, 0, 0, 0x13, 0x14, 0x15, 0x16, 0x11, 0x12, 0, 0, 0x23, 0x24, 0x25, 0x26, 0x21, 0x22, 0, 0}
	got := make([]byte, len(want))
	if err := translation.into(got, from); err != nil || !bytes.Equal(got, want) {
		t.Errorf("% x (%v), want % x", got, err, want)
	}
	got[0], got[8] = 7, 8
	changed := bytes.Clone(from)
	changed[24], changed[8] = 7, 8
	if err := translation.back(from, got); err != nil || !bytes.Equal(from, changed) {
		t.Errorf("back came % x (%v), want % x", from, err, changed)
	}
	if err := translation.back(from[1:], got); err == nil {
		t.Error("a value that is too short was written to")
	}
	if err := translation.into(got, from[1:]); err == nil {
		t.Error("a value that is too short was read")
	}
	if err := translation.into(got[1:], from); err == nil {
		t.Error("a value was written into less room than it needs")
	}
}

// TestTranslateGuessesNothing: a field that is missing, of another size or of another kind is an error that names
// it, unless nobody needs it.
func TestTranslateGuessesNothing(t *testing.T) {
	with := func(members ...btf.Member) *btf.Struct { return &btf.Struct{Name: "half", Size: 8, Members: members} }
	for _, r := range []struct {
		name   string
		theirs *btf.Struct
		needed string
		want   string // of the error
	}{
		{"missing", with(member("size", shortType, 4)), "halves", "no field halves[0].place"},
		{"missing, and not needed", with(member("size", shortType, 4)), "mac", ""},
		{"shorter", with(member("place", shortType, 0), member("size", shortType, 4)), "halves", "has 2 bytes of 2 in field halves[0].place"},
		{"longer", with(member("place", wordType, 0), member("size", wordType, 4)), "halves", "has 4 bytes of 4 in field halves[0].size"},
		{"of other elements", with(member("place", arrayOf(4, byteType), 0), member("size", shortType, 4)), "halves", "has 4 bytes of 1 in field halves[0].place"},
		{"of bits", with(btf.Member{Name: "place", Type: wordType, BitfieldSize: 3}), "halves", "field halves[0].place is of bits"},
		{"a pointer", with(member("place", &btf.Pointer{Target: wordType}, 0)), "halves", "halves[0].place is of a kind"},
		{"beyond the end", with(member("place", wordType, 40), member("size", shortType, 4)), "halves", "shorter than its field"},
		{"only what is reserved", with(member("place", wordType, 0), member("size", shortType, 4)), "halves", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			_, err := translate(whole(r.theirs), whole(half()), r.needed)
			// Fields come in no order, so that the error may be about the second half.
			if said := strings.ReplaceAll(fmt.Sprint(err), "halves[1]", "halves[0]"); (err == nil) != (r.want == "") || !strings.Contains(said, r.want) {
				t.Errorf("%v, want %q", err, r.want)
			}
		})
	}
}
