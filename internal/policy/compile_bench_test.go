package policy

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/policy/policytest"
)

// large is the size that has to compile well under a second.
var large = policytest.Size{Identities: 1000, Conduits: 10000}

func BenchmarkParse(b *testing.B) {
	src := policytest.Policy(large)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("large.yaml", src); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	p := mustParse(b, string(policytest.Policy(large)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Compile(policytest.Appliance); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLargePolicyCompiles(t *testing.T) {
	p := mustParse(t, string(policytest.Policy(large)))
	plan, err := p.Compile(policytest.Appliance)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Conduits) != large.Conduits+1 || len(plan.Identities) != large.Identities+2 {
		t.Errorf("%d conduits, %d identities", len(plan.Conduits), len(plan.Identities))
	}
}
