package inspect

import (
	"slices"
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/policy"
)

func TestAttributesOfADevice(t *testing.T) {
	w := dnp3Wire(t, policy.DenyReset)
	j := w.client(ask(1, dnp3.Read, 0, 254, 0, 0, 0))
	w.mustAllow("a read of all attributes")
	if got := j.Messages[0].Attributes(); got != nil {
		t.Errorf("a request describes %v", got)
	}
	j = w.device(reply(1, 0, join([]byte{0, 252, 0, 0, 0, 1, 4}, []byte("ACME"), []byte{0, 250, 0, 0, 0, 1, 3}, []byte("RTU"),
		[]byte{0, 217, 0, 0, 0, 2, 1, 7})...))
	w.mustAllow("its response")
	want := []Attribute{{"manufacturer", "ACME"}, {"product_name", "RTU"}}
	if got := j.Messages[0].Attributes(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
