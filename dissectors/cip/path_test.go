package cip_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/cip"
	ct "github.com/penstock-ot/penstock/dissectors/cip/ciptest"
)

func TestPathsInOneForm(t *testing.T) {
	for _, row := range []struct {
		want  string
		owner cip.Owner
		paths [][]byte
	}{
		{"class identity instance 1 attribute 7", cip.AnyOwner, [][]byte{
			ct.Join(ct.Class(1), ct.Instance(1), ct.Attribute(7)),
			ct.Join(ct.Logical(0x20, 1, 1), ct.Logical(0x24, 1, 2), ct.Logical(0x30, 7, 1)),
		}},
		{"tag Line3.Speed", cip.Tags, [][]byte{
			ct.Symbol("Line3.Speed"), ct.Join(ct.Symbol("Line3"), ct.Symbol("Speed")),
			ct.Join(ct.ShortSymbol("Line3"), ct.ShortSymbol("Speed")), ct.ShortSymbol("Line3.Speed"),
		}},
		{"tag Program:Main.A[3,4].B", cip.Tags, [][]byte{
			ct.Symbol("Program:Main.A[3,4].B"), ct.Symbol("Program:Main.A[03][4].B"),
			ct.Join(ct.Symbol("Program:Main"), ct.Symbol("A"), ct.Member(3), ct.Member(4), ct.Symbol("B")),
			ct.Join(ct.Symbol("Program:Main"), ct.Symbol("A[3]"), ct.Logical(0x28, 4, 2), ct.Symbol("B")),
		}},
		{"class symbol instance 70000[5].Name", cip.Tags, [][]byte{
			ct.Join(ct.Class(0x6b), ct.Instance(70000), ct.Member(5), ct.Symbol("Name")),
		}},
		{"tag Program:Main class symbol instance 3", cip.Tags, [][]byte{
			ct.Join(ct.Symbol("Program:Main"), ct.Class(0x6b), ct.Instance(3)),
		}},
		{"class 0x68 instance 9248 class 0x6d instance 9", cip.AnyOwner, [][]byte{
			ct.Join(ct.Class(0x68), ct.Instance(0x2420), ct.Class(0x6d), ct.Instance(9)),
		}},
		{"route 1/0,2/198.18.0.9 class template instance 5", cip.Template, [][]byte{
			ct.Join(ct.Port(1, 0), ct.PortText(2, "198.18.0.9"), ct.Class(0x6c), ct.Instance(5)),
			ct.Join([]byte{0x0f, 1, 0, 0}, ct.PortText(2, "198.18.0.9"), ct.Class(0x6c), ct.Instance(5)),
			ct.Join([]byte{0x11, 1, 0, 0}, []byte{0x1f, 10, 2, 0}, []byte("198.18.0.9"), ct.Class(0x6c), ct.Instance(5)),
		}},
		{"class connection_manager instance 1", cip.ConnectionManager, [][]byte{ct.Manager()}},
		{"", cip.AnyOwner, [][]byte{nil}},
	} {
		var first cip.Path
		for i, b := range row.paths {
			var p cip.Path
			if err := p.Parse(b, cip.Padded); err != nil {
				t.Errorf("%s, spelling %d: %v", row.want, i, err)
				continue
			}
			if i == 0 {
				first = p
			}
			if p.String() != row.want || p.Owner() != row.owner || !p.Equal(&first) {
				t.Errorf("spelling %d: %q of %d, want %q of %d", i, p.String(), p.Owner(), row.want, row.owner)
			}
		}
	}
}

// spell writes a path in a way that is drawn.
func spell(r *rand.Rand, packed bool, class, instance, attribute uint32) []byte {
	logical := ct.Logical
	if packed {
		logical = ct.PackedLogical
	}
	least := func() byte { return byte(r.IntN(3)) }
	return ct.Join(logical(0x20, class, least()), logical(0x24, instance, least()), logical(0x30, attribute, least()))
}

func spellTag(r *rand.Rand, names []string, index int) []byte {
	var b []byte
	for i := 0; i < len(names); {
		n := 1 + r.IntN(len(names)-i)
		text := names[i]
		for _, more := range names[i+1 : i+n] {
			text += "." + more
		}
		i += n
		last := i == len(names) && index >= 0
		if last && r.IntN(2) == 0 {
			text += fmt.Sprintf("[%d]", index)
			last = false
		}
		segment := ct.Symbol(text)
		if len(text) < 32 && r.IntN(2) == 0 {
			segment = ct.ShortSymbol(text)
		}
		b = append(b, segment...)
		if last {
			b = append(b, ct.Logical(0x28, uint32(index), byte(r.IntN(3)))...)
		}
	}
	return b
}

func TestGeneratedSpellingsAreEqual(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	number := func() uint32 { return r.Uint32() >> (8 * r.IntN(4)) }
	var paths [2]cip.Path
	for range 20000 {
		class, instance, attribute := 0x100+number()&0x7fff, number(), number()&0xffff
		names := []string{"Program:Main", "Line", "x_1", "Speed"}[r.IntN(3):]
		index := r.IntN(200) - 100
		tag := r.IntN(2) == 0
		for i := range paths {
			packed := r.IntN(2) == 0
			form, b := cip.Padded, spell(r, packed, class, instance, attribute)
			if packed {
				form = cip.Packed
			}
			if tag {
				form, b = cip.Padded, spellTag(r, names, index)
			}
			if err := paths[i].Parse(b, form); err != nil {
				t.Fatalf("%x: %v", b, err)
			}
		}
		if !paths[0].Equal(&paths[1]) || paths[0].String() != paths[1].String() {
			t.Fatalf("%q and %q", paths[0].String(), paths[1].String())
		}
	}
}

func TestMalformedPaths(t *testing.T) {
	long := make([]byte, 255)
	for i := range long {
		long[i] = 'a'
	}
	for name, row := range map[string]struct {
		b    []byte
		want string
	}{
		"class twice":      {ct.Join(ct.Class(4), ct.Class(5)), "path names a class, instance or attribute twice"},
		"instance first":   {ct.Instance(1), "path segments are not in the order of class, instance, attribute"},
		"reserved format":  {[]byte{0x23, 0}, "path has a segment that is reserved or not known"},
		"data type":        {[]byte{0xa2, 0}, "path has a segment that is reserved or not known"},
		"cut":              {[]byte{0x25, 0, 1}, "path ends inside a segment"},
		"pad":              {[]byte{0x21, 9, 1, 0}, "pad byte of a path segment is not 0"},
		"symbol pad":       {[]byte{0x91, 1, 'a', 1}, "pad byte of a path segment is not 0"},
		"empty symbol":     {ct.Symbol(""), "symbol is empty or has characters that no tag has"},
		"dot at the end":   {ct.Symbol("a."), "symbol is empty or has characters that no tag has"},
		"blank":            {ct.Symbol("a b"), "symbol is empty or has characters that no tag has"},
		"star":             {ct.Symbol("a*"), "symbol is empty or has characters that no tag has"},
		"open bracket":     {ct.Symbol("a[1"), "array index of a symbol is not a list of 32-bit numbers"},
		"large index":      {ct.Symbol("a[4294967296]"), "array index of a symbol is not a list of 32-bit numbers"},
		"no name":          {ct.Symbol("[1]"), "symbol is empty or has characters that no tag has"},
		"member first":     {ct.Member(1), "member segment before a tag or object"},
		"point beside":     {ct.Join(ct.Class(4), ct.Instance(1), ct.Point(2)), "path names a class, instance or attribute twice"},
		"instance beside":  {ct.Join(ct.Class(4), ct.Point(2), ct.Instance(1)), "path segments are not in the order of class, instance, attribute"},
		"two points":       {ct.Join(ct.Class(4), ct.Point(1), ct.Point(2)), "path names a class, instance or attribute twice"},
		"point late":       {ct.Join(ct.Class(4), ct.Attribute(1), ct.Point(2)), "path segments are not in the order of class, instance, attribute"},
		"port late":        {ct.Join(ct.Class(1), ct.Port(1, 0)), "port segment behind the object that it leads to"},
		"port 0":           {[]byte{0x00, 0}, "port segment has no port, or no link address"},
		"key late":         {ct.Join(ct.Class(1), ct.Key()), "path segments are not in the order of class, instance, attribute"},
		"key format":       {[]byte{0x34, 5, 0, 0, 0, 0, 0, 0, 0, 0}, "electronic key is not of format 4"},
		"in the router":    {ct.Join(ct.Router(), ct.Class(4), ct.Instance(1)), "path names an object or a tag beside the message router, connection manager, PCCC or a file"},
		"router inside":    {ct.Join(ct.Class(4), ct.Instance(1), ct.Manager()), "path names an object or a tag beside the message router, connection manager, PCCC or a file"},
		"manager of a tag": {ct.Join(ct.Symbol("A"), ct.Manager()), "path names an object or a tag beside the message router, connection manager, PCCC or a file"},
		"tag of a file":    {ct.Join(ct.Class(0x37), ct.Instance(1), ct.Symbol("A")), "path names an object or a tag beside the message router, connection manager, PCCC or a file"},
		"wide class":       {ct.Join(ct.Class(0x10006), ct.Instance(1)), "class or attribute of more than 16 bits"},
		"wide attribute":   {ct.Join(ct.Class(6), ct.Instance(1<<31), ct.Attribute(0x10001)), "class or attribute of more than 16 bits"},
		"five objects":     {ct.Join(ct.Class(8), ct.Instance(1), ct.Class(8), ct.Instance(1), ct.Class(8), ct.Instance(1), ct.Class(8), ct.Instance(1), ct.Class(8)), cip.ErrParents.Reason},
		"long tag":         {ct.Join(ct.Symbol(string(long)), ct.Symbol("a")), cip.ErrTag.Reason},
		"seventeen hops":   {ct.Join(make17()...), cip.ErrHops.Reason},
	} {
		var p cip.Path
		var bad *cip.MalformedError
		if err := p.Parse(row.b, cip.Padded); !errors.As(err, &bad) || bad.Reason != row.want {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
	var p cip.Path
	points := ct.Class(4)
	for i := range uint32(9) {
		points = append(points, ct.Point(i)...)
	}
	if err := p.ParseConnection(points, cip.Padded); err != error(cip.ErrPoints) {
		t.Errorf("nine points: %v", err)
	}
}

func make17() (hops [][]byte) {
	for range 17 {
		hops = append(hops, ct.Port(1, 0))
	}
	return hops
}

func TestConnectionPaths(t *testing.T) {
	for _, row := range []struct {
		b    []byte
		want string
		only bool
	}{
		{ct.Join(ct.Key(), ct.Class(4), ct.Instance(151), ct.Point(150), ct.Point(100)), "[151 150 100]", true},
		{ct.Join(ct.Class(4), ct.Instance(1), ct.Attribute(3), ct.Class(4), ct.Instance(2), ct.Attribute(3)), "[1 2]", true},
		{ct.Join(ct.Class(4), ct.Point(7), []byte{0x80, 1, 9, 9}), "[7]", true},
		{ct.Join(ct.Class(4), ct.Instance(1), ct.Class(0x67), ct.Instance(1)), "[1]", false},
		{ct.Join(ct.Class(0x64), ct.Instance(1), ct.Class(4), ct.Instance(1)), "[]", false},
		{ct.Join(ct.Symbol("Produced")), "[]", false},
	} {
		var p cip.Path
		if err := p.ParseConnection(row.b, cip.Padded); err != nil {
			t.Errorf("%x: %v", row.b, err)
			continue
		}
		if got := fmt.Sprint(p.Points()); got != row.want || p.AssembliesOnly() != row.only {
			t.Errorf("%x: %s, assemblies only %v", row.b, got, p.AssembliesOnly())
		}
	}
}

func TestSplitElement(t *testing.T) {
	for tag, want := range map[string]string{
		"A": "A 0 0", "A[7]": "A 1 7", "A[1,20]": "A 2 20", "A[4294967295]": "A 1 4294967295", "A[1].B": "A[1].B 0 0", "": " 0 0",
	} {
		base, dimensions, last := cip.SplitElement([]byte(tag))
		if got := fmt.Sprintf("%s %d %d", base, dimensions, last); got != want {
			t.Errorf("%s: %s, want %s", tag, got, want)
		}
	}
}
