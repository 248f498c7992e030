package inspect

import (
	"testing"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
	"github.com/penstock-ot/penstock/internal/identity"
	"github.com/penstock-ot/penstock/internal/policy"
)

func TestClaimOfAnOutstation(t *testing.T) {
	w := dnp3Wire(t, policy.DenyReset)
	j := w.client(ask(1, dnp3.Read, 0, 254, 0, 0, 0))
	w.mustAllow("a read of all attributes")
	if _, ok := j.Messages[0].Claim(); ok {
		t.Error("a request claims something")
	}
	attribute := func(variation byte, kind byte, value string) []byte {
		return append([]byte{0, variation, 0, 0, 0, kind, byte(len(value))}, value...)
	}
	j = w.device(reply(1, 0, join(attribute(252, 1, "ACME"), attribute(250, 1, "RTU"), attribute(242, 1, "1.2"), attribute(248, 1, "77"),
		attribute(217, 2, "\x07"), []byte{30, 2, 0, 0, 0, 1, 0, 0}, attribute(247, 1, "pump"))...))
	w.mustAllow("its response")
	want := identity.Claim{Protocol: "dnp3", Vendor: "ACME", Product: "RTU", Revision: "1.2", Serial: "77", Name: "pump"}
	if got, ok := j.Messages[0].Claim(); !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	w.client(ask(2, dnp3.Read, 60, 2, 6))
	if _, ok := w.device(reply(2, 0)).Messages[0].Claim(); ok {
		t.Error("a response without attributes claims something")
	}
}
