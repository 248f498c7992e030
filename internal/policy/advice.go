package policy

import (
	"fmt"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

// Advice returns what is right in the policy and may still not be what its owner wants, a sentence each.
func (p *Policy) Advice() []string {
	var advice []string
	for i := range p.Conduits {
		if c := &p.Conduits[i]; c.Protocol == ProtocolDNP3 {
			advice = append(advice, c.adviceOnDNP3()...)
		}
	}
	return append(advice, p.adviceOnIO()...)
}

// adviceOnDNP3 looks for what stations repeat for ever when it is denied.
func (c *ConduitSpec) adviceOnDNP3() []string {
	var advice []string
	clearRestart := []byte{0xc0, byte(dnp3.Write), dnp3.GroupIndication, 1, 0, 7, 7, 0} // IIN1.7
	confirm := []byte{0xc0, byte(dnp3.Confirm)}
	if !alsoPermits(c.DNP3, dnp3.Read, clearRestart) {
		what := "each time that ends the connection"
		if c.OnDeny == DenyException {
			what = "it gets no answer each time"
		}
		advice = append(advice, fmt.Sprintf("conduit %q lets a master poll and not clear the restart indication: it tries for ever, and %s; "+
			"permit write of g80v1 for the same masters and outstations", c.Name, what))
	}
	if !alsoPermits(c.DNP3, dnp3.Read, confirm) || !alsoPermits(c.DNP3, dnp3.UnsolicitedResponse, confirm) {
		advice = append(advice, fmt.Sprintf("conduit %q lets an outstation report events and its master not confirm them: they are reported for ever; "+
			"permit confirm for the same masters and outstations", c.Name))
	}
	return advice
}

// alsoPermits tells whether whoever may use a function may also send the request.
func alsoPermits(rules []DNP3Rule, function dnp3.FunctionCode, request []byte) bool {
	var m dnp3.Message
	if dnp3.ParseMessage(request, true, false, &m) != nil {
		return true
	}
	for i := range rules {
		if !rules[i].Functions.Has(uint8(function)) {
			continue
		}
		r := DNP3Request{Message: &m}
		if len(rules[i].Masters) > 0 {
			r.Master = uint16(rules[i].Masters[0].Low)
		}
		if len(rules[i].Outstations) > 0 {
			r.Outstation = uint16(rules[i].Outstations[0].Low)
		}
		e := dnp3Evaluation{rules: rules, r: &r}
		if !e.verdict().Allows() {
			return false
		}
	}
	return true
}
