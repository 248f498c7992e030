package policy

import (
	"errors"
	"os"
	"testing"

	"github.com/penstock-ot/penstock/internal/verdict"
)

// FuzzParse holds that no file makes the package panic or hang, that what is refused is refused
// with places in order, and that what is accepted compiles or says why not.
func FuzzParse(f *testing.F) {
	if example, err := os.ReadFile("../../configs/policy.yaml"); err == nil {
		f.Add(example)
	}
	for _, text := range []string{base, decideBase, twoGates, bomb(), "a: [1,\n", "- - -", "\xff\xfe", "? a\n: b\n", "a: &a [*a]\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := Parse("f", src)
		if err == nil {
			compileAll(t, p)
			return
		}
		var list ErrorList
		if !errors.As(err, &list) || len(list) == 0 {
			t.Fatalf("the error is no list: %v", err)
		}
		for i, e := range list {
			if e.Line < 1 || e.Column < 1 || e.Message == "" {
				t.Errorf("error without a place: %v", e)
			}
			if i > 0 && (e.Line < list[i-1].Line || e.Line == list[i-1].Line && e.Column < list[i-1].Column) {
				t.Errorf("errors out of order: %v after %v", e, list[i-1])
			}
		}
	})
}

func compileAll(t *testing.T, p *Policy) {
	for i := range p.Appliances {
		plan, err := p.Compile(p.Appliances[i].Name)
		if err != nil {
			continue
		}
		for id := 1; id < len(plan.Identities); id++ {
			from, to := &plan.Identities[id], &plan.Identities[len(plan.Identities)-id]
			h := &Header{Side: from.Side, Src: from.MAC, Dst: to.MAC, EtherType: 0x8892}
			if d := plan.Decide(h); d.Action == verdict.Undecided {
				t.Errorf("%s to %s is not decided", from.Name, to.Name)
			}
		}
	}
}
