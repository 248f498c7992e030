package policy

import (
	"fmt"

	"github.com/penstock-ot/penstock/dissectors/dnp3"
)

// Advice returns what is right in the policy and may still not be what its owner wants, a sentence each.
func (p *Policy) Advice() []string {
	var advice []string
	for i := range p.Conduits {
		if c := &p.Conduits[i]; c.Protocol == ProtocolDNP3 && !clearsRestart(c.DNP3) {
			what := "each time that ends the connection"
			if c.OnDeny == DenyException {
				what = "it gets no answer each time"
			}
			advice = append(advice, fmt.Sprintf("conduit %q lets a master poll and not clear the restart indication: it tries for ever, and %s; "+
				"permit write of g80v1 for the same masters and outstations", c.Name, what))
		}
	}
	return advice
}

// clearsRestart tells whether whoever may read may also write the internal indication that an outstation
// sets when it has started, IIN1.7.
func clearsRestart(rules []DNP3Rule) bool {
	var m dnp3.Message
	if dnp3.ParseMessage([]byte{0xc0, byte(dnp3.Write), dnp3.GroupIndication, 1, 0, 7, 7, 0}, true, false, &m) != nil {
		return true
	}
	for i := range rules {
		if !rules[i].Functions.Has(uint8(dnp3.Read)) {
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
