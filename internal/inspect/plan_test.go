package inspect

import (
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-ot/penstock/internal/policy"
)

const testPolicy = `
api_version: penstock/v1
site: test
mode: enforce
appliances:
  - name: gate
    sides: {a: [cell], b: [plant]}
defaults: {on_outage: closed, on_deny: %s}
zones:
  - {name: cell, sl_target: 1, purdue_level: 1}
  - {name: plant, sl_target: 1, purdue_level: 2}
identities:
  - {name: hmi, zone: plant, role: hmi, mac: "02:00:00:00:00:20", ip: [198.18.0.20]}
  - {name: plc, zone: cell, role: plc, mac: "02:00:00:00:00:10", ip: [198.18.0.10]}
conduits:
  - name: test
    from: [hmi]
    to: [plc]
    protocol: modbus
    rules: [%s]
`

// rulesPlan compiles a policy with one Modbus conduit, the first of the plan, from hmi
// (identity 1) to plc (identity 2).
func rulesPlan(t testing.TB, onDeny policy.OnDeny, rules ...string) *policy.Plan {
	t.Helper()
	text := fmt.Sprintf(testPolicy, onDeny, strings.Join(rules, ", "))
	p, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Compile("gate")
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// readPlan permits reads of unit 1 and nothing else.
func readPlan(t testing.TB, onDeny policy.OnDeny) *policy.Plan {
	t.Helper()
	return rulesPlan(t, onDeny, `{functions: [read], units: [1]}`)
}

// permitAll permits every function code with every selector.
func permitAll(t testing.TB) *policy.Plan {
	t.Helper()
	var functions []string
	for code := 1; code < 128; code++ {
		functions = append(functions, fmt.Sprint(code))
	}
	return rulesPlan(t, policy.DenyReset, fmt.Sprintf(
		"{functions: [%s], sub_functions: [0-65535], mei_types: [%s]}", strings.Join(functions, ", "), numbers(256)))
}

func numbers(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	return strings.Join(list, ", ")
}
